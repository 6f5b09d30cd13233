/**
 * A node, or the supervisor of several, in a process of its own, as `up` and `demo` start it. It owns the child from start to exit. The child is no member of
 * the terminal's process group: Ctrl-C reaches it once, through `stop`, and it drains.
 */
import { spawn, type ChildProcess } from 'node:child_process'
import { extname } from 'node:path'
import { fileURLToPath } from 'node:url'
import { CATALOGUE, CMeshError } from '../../cmtp/errors.ts'
import type { MeshDescriptor } from '../descriptor.ts'

export interface NodeProcessOptions {
  /** Which entry point. Default `node/main`. */
  readonly entry?: 'node/main' | 'node/cluster/main'
  /** Its arguments. */
  readonly args: readonly string[]
  readonly env: NodeJS.ProcessEnv
  /** Told the name of each step of the boot. */
  readonly onStep?: (step: string) => void
  /** Told each line the node logs. Default: they go to stderr as they are. */
  readonly onLog?: (line: string) => void
  /** Stops a node that is still booting; one that is ready is its owner's to stop. */
  readonly interrupted?: AbortSignal
}

export interface NodeExit {
  readonly code: number | null
  readonly signal: NodeJS.Signals | null
}

interface NodeMessage {
  readonly type?: unknown
  readonly step?: unknown
  readonly descriptor?: MeshDescriptor
  readonly code?: unknown
  readonly message?: unknown
  readonly detail?: unknown
}

/**
 * Options of Node.js for a node. With room for 32 MB of what was just made, in place of 16, a request is over before the collector sees it: it
 * copies less, for up to 48 MB more of memory under load. Of `process.execArgv`, which comes behind, each counts instead.
 */
export const NODE_FLAGS: readonly string[] = ['--max-semi-space-size=32']

/** Last lines of the log that a failed boot shows. */
const LOG_LINES = 20

export class NodeProcess {
  /** Resolves when the process is gone, whatever ended it. */
  readonly exited: Promise<NodeExit>
  readonly #child: ChildProcess
  readonly #log: string[] = []
  #failure: CMeshError | undefined
  #gone = false
  #asked = false

  /** Resolves with the node when it is ready. Rejects with the error it stopped with. */
  static async start(options: NodeProcessOptions): Promise<{ readonly node: NodeProcess, readonly descriptor: MeshDescriptor }> {
    const node = new NodeProcess(options)
    const { interrupted, onStep } = options
    const stop = (): void => void node.stop()
    interrupted?.addEventListener('abort', stop, { once: true })
    try {
      const descriptor = await node.#ready(onStep)
      if (interrupted?.aborted !== true) return { node, descriptor }
      await node.exited
      throw new CMeshError('CMESH_CLIENT_ABORTED')
    } catch (error) {
      throw interrupted?.aborted === true ? new CMeshError('CMESH_CLIENT_ABORTED', {}, { cause: error }) : error
    } finally {
      interrupted?.removeEventListener('abort', stop)
    }
  }

  private constructor({ entry: name = 'node/main', args, env, onLog }: NodeProcessOptions) {
    // The node beside this file: dist/node/main.js when built, node/main.ts when a test runs the sources.
    const entry = fileURLToPath(new URL(`../../${name}${extname(fileURLToPath(import.meta.url))}`, import.meta.url))
    this.#child = spawn(process.execPath, [...NODE_FLAGS, ...process.execArgv, entry, ...args], {
      env, detached: true, stdio: ['ignore', 'ignore', 'pipe', 'ipc'],
    })
    // Whoever ends this process without waiting, as by a second Ctrl-C, ends the node as well, at whatever it is.
    const end = (): void => this.kill()
    process.once('exit', end)
    this.exited = new Promise((resolve) => {
      this.#child.once('exit', (code, signal) => {
        this.#gone = true
        process.removeListener('exit', end)
        resolve({ code, signal })
      })
    })
    this.#readLog(onLog ?? ((line) => process.stderr.write(`${line}\n`)))
  }

  get pid(): number {
    return this.#child.pid as number
  }

  /** What the node said it stopped with, when it said so. */
  get failure(): CMeshError | undefined {
    return this.#failure
  }

  /** Asks the node to drain; resolves when it is gone. */
  stop(): Promise<NodeExit> {
    // A second signal would cut the drain short.
    if (!this.#gone && !this.#asked) this.#child.kill('SIGTERM')
    this.#asked = true
    return this.exited
  }

  /** Ends the node without a drain. */
  kill(): void {
    if (!this.#gone) this.#child.kill('SIGKILL')
  }

  #ready(onStep: ((step: string) => void) | undefined): Promise<MeshDescriptor> {
    return new Promise((resolve, reject) => {
      this.#child.once('error', (cause) => {
        this.#gone = true
        reject(new CMeshError('CMESH_BOOT_FAILED', { step: 'start', reason: cause.message }, { cause }))
      })
      this.#child.on('message', (message: NodeMessage) => {
        if (message.type === 'step') onStep?.(String(message.step))
        if (message.type === 'failed') this.#failure = failureOf(message)
        if (message.type === 'ready' && message.descriptor !== undefined) resolve(message.descriptor)
      })
      void this.exited.then(({ code, signal }) => {
        const reason = `the node ended with ${signal ?? `code ${String(code)}`}. ${this.#log.join('\n')}`.trim()
        reject(this.#failure ?? new CMeshError('CMESH_BOOT_FAILED', { step: 'start', reason }))
      })
    })
  }

  #readLog(onLog: (line: string) => void): void {
    let rest = ''
    this.#child.stderr?.setEncoding('utf8').on('data', (text: string) => {
      const lines = (rest + text).split('\n')
      rest = lines.pop() ?? ''
      for (const line of lines) {
        this.#log.push(line)
        if (this.#log.length > LOG_LINES) this.#log.shift()
        // The same failure comes as a message, and is shown once.
        if (!line.startsWith('error CMESH_')) onLog(line)
      }
    })
  }
}

/** The node's error with its own text, which says more than its code does: at which step of the boot it was. */
function failureOf({ code, message, detail }: NodeMessage): CMeshError {
  if (typeof code !== 'string' || !Object.hasOwn(CATALOGUE, code)) return new CMeshError('CMESH_BOOT_FAILED', { step: 'start', reason: String(message) })
  const error = CMeshError.fromWire({ code, detail })
  error.message = String(message)
  return error
}
