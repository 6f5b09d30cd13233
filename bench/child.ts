/**
 * A process that a benchmark starts and talks to over a channel: it says `ready` once, then answers one question at a time. It
 * is ended with the scope that it was started in, and with this process at the latest.
 */
import { fork, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import type { Scope } from './harness.ts'

export interface ChildStart {
  readonly entry: URL
  readonly args?: readonly string[]
  /** Options of Node.js, before those that this process has. */
  readonly flags?: readonly string[]
  /** Sent as the first message, where secrets may stand; nothing is sent without it. */
  readonly open?: object
  /** What a message must hold to be the one that says ready. */
  readonly isReady: (message: object) => boolean
}

/** How long a process may take to end when asked to, in ms. */
const STOP_MS = 15_000

export class Child<R extends object> {
  readonly ready: R
  readonly #process: ChildProcess

  private constructor(process: ChildProcess, ready: R) {
    this.#process = process
    this.ready = ready
  }

  /** Resolves when it is ready; rejects when it ends before. */
  static async start<R extends object>(scope: Scope, { entry, args = [], flags = [], open, isReady }: ChildStart): Promise<Child<R>> {
    const execArgv = [...flags, ...process.execArgv]
    const child = fork(entry, args, { execArgv, stdio: ['ignore', 'ignore', 'inherit', 'ipc'], serialization: 'advanced' })
    const kill = (): void => { child.kill('SIGKILL') }
    process.once('exit', kill)
    child.once('exit', () => { process.off('exit', kill) })
    scope.defer(() => end(child))
    if (open !== undefined) child.send(open)
    return new Child<R>(child, await nextMessage(child, isReady) as R)
  }

  get pid(): number {
    return this.#process.pid ?? 0
  }

  /** Sends a question and resolves with the answer; rejects with the failure that stands in it, or when the process ends. */
  async ask<A extends object>(question: object): Promise<A> {
    const answer = nextMessage(this.#process, () => true)
    this.#process.send(question)
    return await answer as A
  }

  /** Asks it to end by SIGTERM, and kills it when it does not. */
  stop(): Promise<void> {
    return end(this.#process)
  }
}

function nextMessage(child: ChildProcess, wanted: (message: object) => boolean): Promise<object> {
  return new Promise((resolve, reject) => {
    const settle = (): void => {
      child.off('message', onMessage)
      child.off('exit', onExit)
    }
    const onMessage = (message: object): void => {
      if ('failed' in message) {
        settle()
        reject(new Error(`${nameOf(child)}: ${String(message.failed)}`))
      } else if (wanted(message)) {
        settle()
        resolve(message)
      }
    }
    const onExit = (code: number | null, signal: string | null): void => {
      settle()
      reject(new Error(`${nameOf(child)} ended with ${code ?? signal ?? 'nothing'}`))
    }
    child.on('message', onMessage)
    child.on('exit', onExit)
  })
}

function nameOf(child: ChildProcess): string {
  return `the process ${child.spawnargs.slice(1).join(' ')}`
}

async function end(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return
  const gone = once(child, 'exit')
  child.kill('SIGTERM')
  const kill = setTimeout(() => { child.kill('SIGKILL') }, STOP_MS)
  await gone
  clearTimeout(kill)
}
