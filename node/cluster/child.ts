/**
 * One node of the cluster as a process of its own: started, watched, started again when it died, ended with the cluster. It owns the process
 * and its log file, to which the node writes by itself.
 *
 *   idle → starting → running ⇄ starting again, after a pause that doubles → stopped
 *             └─ a first start that fails rejects; a later one is noted and tried again
 *
 * The node hears over its channel when this process is gone, however it ended, and stops by itself then.
 */
import { fork, type ChildProcess } from 'node:child_process'
import { open, readFile, rename, stat } from 'node:fs/promises'
import { setTimeout as delay } from 'node:timers/promises'
import { extname } from 'node:path'
import { fileURLToPath } from 'node:url'
import { CATALOGUE, CMeshError } from '../../cmtp/errors.ts'
import type { MeshDescriptor } from '../descriptor.ts'

export interface NodeChildParts {
  readonly name: string
  /** Arguments of `node/main`. */
  readonly args: readonly string[]
  readonly env: NodeJS.ProcessEnv
  readonly logFile: string
  /** Told what happened that nobody asked for. */
  readonly onNote: (line: string) => void
  /** Told each time that it is ready, in a process of another number than before. */
  readonly onReady?: () => void
}

interface NodeMessage {
  readonly type?: unknown
  readonly descriptor?: MeshDescriptor
  readonly code?: unknown
  readonly message?: unknown
  readonly detail?: unknown
}

interface Life {
  readonly child: ChildProcess
  /** Resolves with how it ended. */
  readonly gone: Promise<string>
}

/** The pause before a restart doubles from the first to the second, in ms; a node that stayed up this long starts afresh. */
const BACKOFF = Object.freeze({ firstMs: 100, mostMs: 10_000, settledMs: 30_000 })
/** How long an earlier process may take to leave the data directory, in ms: it drains. */
const LEAVING_MS = 30_000
const LEAVING_POLL_MS = 250
/** Size at which a log is put aside at the next start, in bytes. */
const LOG_BYTES = 16 * 1_024 * 1_024
/** Last part of the log that is shown of a start that failed without a word, in lines. */
const LOG_LINES = 10

export class NodeChild {
  readonly #parts: NodeChildParts
  readonly #stopping = new AbortController()
  #life: Life | undefined
  #descriptor: MeshDescriptor | undefined
  #watching: Promise<void> | undefined
  #failures = 0
  /** Its end is asked for, and who asked starts it again. */
  #planned = false

  constructor(parts: NodeChildParts) {
    this.#parts = parts
  }

  get name(): string {
    return this.#parts.name
  }

  /** Process id; `undefined` while none runs. */
  get pid(): number | undefined {
    return this.#life?.child.pid
  }

  /** What it said when it was ready; `undefined` while it is not. */
  get descriptor(): MeshDescriptor | undefined {
    return this.#descriptor
  }

  /** Resolves when it is ready for the first time. Rejects with what it failed with; it is not tried again then. */
  async start(): Promise<MeshDescriptor> {
    const descriptor = await this.#launch()
    this.#watch()
    return descriptor
  }

  /** Drains it, starts it again and resolves when it is ready. Rejects with what it failed with, and goes on trying then. */
  async restart(): Promise<void> {
    this.#planned = true
    try {
      this.#life?.child.kill('SIGTERM')
      await this.#life?.gone
      await this.#watching
      await this.#launch()
    } finally {
      this.#planned = false
      this.#watch()
    }
  }

  /** Asks it to drain; resolves when it is gone. It is not started again. */
  async stop(): Promise<void> {
    this.#stopping.abort()
    this.#life?.child.kill('SIGTERM')
    await this.#life?.gone
    await this.#watching
  }

  /** Ends it without a drain. */
  kill(): void {
    this.#stopping.abort()
    this.#life?.child.kill('SIGKILL')
  }

  #watch(): void {
    if (!this.#stopping.signal.aborted) this.#watching = this.#keepUp()
  }

  /** Until it is stopped, or ended on purpose. Never rejects. */
  async #keepUp(): Promise<void> {
    let sinceMs = performance.now()
    for (;;) {
      const how = await this.#life?.gone ?? 'a failed start'
      if (this.#stopping.signal.aborted || this.#planned) return
      if (performance.now() - sinceMs > BACKOFF.settledMs) this.#failures = 0
      const pauseMs = Math.min(BACKOFF.mostMs, BACKOFF.firstMs * 2 ** this.#failures++)
      this.#parts.onNote(`${this.name} ended with ${how}; it is started again in ${pauseMs} ms`)
      await delay(pauseMs, undefined, { signal: this.#stopping.signal }).catch(() => undefined)
      if (this.#stopping.signal.aborted || this.#planned) return
      sinceMs = performance.now()
      await this.#launch().then(() => { this.#parts.onNote(`${this.name} is back`) }, (error: unknown) => {
        const { code, message } = CMeshError.from(error, this.name)
        if (!this.#stopping.signal.aborted) this.#parts.onNote(`${this.name} did not start: ${code}: ${message}`)
      })
    }
  }

  /** What an earlier supervisor left may still drain; the node's directory is its own until then. */
  async #launch(): Promise<MeshDescriptor> {
    const end = performance.now() + LEAVING_MS
    for (;;) {
      try {
        return await this.#spawn()
      } catch (error) {
        if (!(error instanceof CMeshError) || error.code !== 'CMESH_BOOT_DATA_IN_USE' || performance.now() > end || this.#stopping.signal.aborted) throw error
        await delay(LEAVING_POLL_MS)
      }
    }
  }

  async #spawn(): Promise<MeshDescriptor> {
    if (this.#stopping.signal.aborted) throw new CMeshError('CMESH_BOOT_FAILED', { step: this.name, reason: 'it was stopped' })
    const { args, env, logFile } = this.#parts
    // The node beside this folder: dist/node/main.js when built, node/main.ts when the sources are run.
    const entry = fileURLToPath(new URL(`../main${extname(fileURLToPath(import.meta.url))}`, import.meta.url))
    if (await stat(logFile).then(({ size }) => size > LOG_BYTES, () => false)) await rename(logFile, `${logFile}.1`)
    const log = await open(logFile, 'a', 0o600)
    const begin = (await log.stat()).size
    // A session of its own: Ctrl-C in a terminal reaches the supervisor alone, which drains the nodes before their brokers stop.
    const child = fork(entry, args, { env, detached: true, stdio: ['ignore', 'ignore', log.fd, 'ipc'] })
    const gone = new Promise<string>(resolve => {
      child.once('error', error => { resolve(error.message) })
      child.once('exit', (code, signal) => { resolve(signal ?? `code ${String(code)}`) })
    })
    this.#life = { child, gone }
    void gone.then(() => {
      if (this.#life?.child === child) this.#life = this.#descriptor = undefined
    })
    await log.close()
    let failure: CMeshError | undefined
    const ready = new Promise<MeshDescriptor>(resolve => {
      child.on('message', (said: NodeMessage) => {
        const { type, descriptor } = said
        if (type === 'failed') failure = failureOf(this.name, said)
        if (type === 'ready' && descriptor !== undefined) resolve(descriptor)
      })
    })
    const first = await Promise.race([ready, gone])
    if (typeof first !== 'string') {
      this.#descriptor = first
      this.#parts.onReady?.()
      return first
    }
    throw failure ?? new CMeshError('CMESH_BOOT_FAILED', { step: this.name, reason: `it ended with ${first}. ${await endOf(logFile, begin)}`.trim() })
  }
}

/** The node's own error, with its own text. */
function failureOf(name: string, { code, message, detail }: NodeMessage): CMeshError {
  if (typeof code !== 'string' || !Object.hasOwn(CATALOGUE, code)) return new CMeshError('CMESH_BOOT_FAILED', { step: name, reason: String(message) })
  const error = CMeshError.fromWire({ code, detail })
  error.message = `${name}: ${String(message)}`
  return error
}

async function endOf(file: string, begin: number): Promise<string> {
  const text = (await readFile(file).catch(() => Buffer.alloc(0))).subarray(begin).toString('utf8')
  return text.trimEnd().split('\n').slice(-LOG_LINES).join('\n')
}
