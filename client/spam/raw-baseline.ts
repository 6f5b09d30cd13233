/**
 * What the same machine does on bare NATS: the same number of requests in flight between two processes, 200 bytes each way,
 * by one wildcard inbox and a map from number to waiter. No session, no deadline, no receipt: whatever a mesh does is on top.
 * It owns its echo process, that one's server, and its own connection.
 */
import { execFile, spawn, type ChildProcess } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { extname } from 'node:path'
import { performance } from 'node:perf_hooks'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { connect, type NatsConnection } from '@nats-io/transport-node'
import { CMeshError } from '../../cmtp/errors.ts'

export const RAW_PAYLOAD_BYTES = 200

interface EchoMessage {
  readonly url?: string
  readonly subject?: string
  readonly error?: string
}

export class RawBaseline {
  readonly #child: ChildProcess
  readonly #nats: NatsConnection
  readonly #subject: string
  readonly #inbox = `_INBOX.${randomBytes(8).toString('hex')}.`
  readonly #waiting = new Map<string, () => void>()
  #sequence = 0

  /** Rejects with `CMESH_BROKER_FAILED` when there is no server to run or it does not start. */
  static async start(env: NodeJS.ProcessEnv = process.env): Promise<RawBaseline> {
    const binary = await locateServer(env)
    const own = fileURLToPath(import.meta.url)
    const entry = fileURLToPath(new URL(`./echo${extname(own)}`, import.meta.url))
    const child = spawn(process.execPath, [...process.execArgv, entry, binary], { env, stdio: ['ignore', 'ignore', 'inherit', 'ipc'] })
    const first = await Promise.race([
      once(child, 'message').then(([message]) => message as EchoMessage),
      once(child, 'exit').then(([code]): EchoMessage => ({ error: `the echo process ended with code ${String(code)}` })),
    ])
    const { url, subject, error } = first
    if (url === undefined || subject === undefined) throw new CMeshError('CMESH_BROKER_FAILED', { reason: `for the raw baseline: ${error ?? 'it said nothing'}` })
    return new RawBaseline(child, await connect({ servers: url, noAsyncTraces: true }), subject)
  }

  private constructor(child: ChildProcess, nats: NatsConnection, subject: string) {
    this.#child = child
    this.#nats = nats
    this.#subject = subject
    nats.subscribe(`${this.#inbox}*`, {
      callback: (_, message) => {
        const resolve = this.#waiting.get(message.subject)
        this.#waiting.delete(message.subject)
        resolve?.()
      },
    })
  }

  /** Requests per second of one round. Ends early when the signal fires. */
  async round(count: number, concurrency: number, signal: AbortSignal): Promise<number> {
    const payload = new Uint8Array(RAW_PAYLOAD_BYTES)
    let next = 0
    const worker = async (): Promise<void> => {
      while (next < count && !signal.aborted) {
        next++
        await this.#request(payload)
      }
    }
    const beganMs = performance.now()
    await Promise.all(Array.from({ length: concurrency }, worker))
    return next / ((performance.now() - beganMs) / 1_000)
  }

  async stop(): Promise<void> {
    await this.#nats.close()
    const gone = once(this.#child, 'exit')
    if (this.#child.connected) this.#child.disconnect()
    if (this.#child.exitCode === null) await gone
  }

  #request(payload: Uint8Array): Promise<void> {
    return new Promise((resolve) => {
      const reply = `${this.#inbox}${++this.#sequence}`
      this.#waiting.set(reply, resolve)
      this.#nats.publish(this.#subject, payload, { reply })
    })
  }
}

/** Asks the node's own code which server it would run, in a process: a client does not load node code. */
async function locateServer(env: NodeJS.ProcessEnv): Promise<string> {
  const module = new URL('../../node/setup/nats-locate.mjs', import.meta.url).href
  const script = 'const { locate } = await import(process.argv[1]); const { found, tried } = await locate(); console.log(JSON.stringify({ path: found?.path, tried }))'
  const { stdout } = await promisify(execFile)(process.execPath, ['--input-type=module', '-e', script, module], { env })
  const { path, tried } = JSON.parse(stdout) as { readonly path?: string, readonly tried: readonly string[] }
  if (path === undefined) throw new CMeshError('CMESH_BROKER_NOT_FOUND', { tried: tried.join('; ') })
  return path
}
