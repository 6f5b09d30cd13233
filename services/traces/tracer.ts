/**
 * Traces: decides which requests are traced, and hands their layers as spans to an exporter, behind the requests' backs. It owns what waits.
 *
 * Invariants: (1) a request costs a push onto a bounded list, and none waits for or fails by its trace; (2) past the bound, and where the
 * exporter does not take them, spans are dropped: counted, and said in the log once until some are taken again; (3) one export is under way
 * at a time; (4) `stop` takes at most `stopMs`.
 */
import { hash } from 'node:crypto'
import type { Layer } from '../../cmtp/layer.ts'
import { formatMessageId } from '../../cmtp/message-id.ts'
import { SAMPLED } from '../../cmtp/trace-context.ts'
import type { Log } from '../log.ts'
import { within } from '../within.ts'
import type { TraceExporter } from './provider.ts'
import { spansOf, type TracedRequest } from './spans.ts'
import { callersTrace, Trace } from './trace.ts'

export interface TracerParts {
  readonly exporter: TraceExporter
  readonly log: Log
  /** One request in so many is traced where its caller does not say; 0 for none of them. */
  readonly oneIn: number
  /** How long the first of those that are exported together waits for company, in ms. Default 1,000. */
  readonly delayMs?: number
  /** How long a stop waits for what is to be exported, in ms. Default 3,000. */
  readonly stopMs?: number
}

export interface TracerStats {
  /** Requests whose spans were taken. */
  exported: number
  /** Requests whose spans were dropped: too many waited; the exporter did not get rid of them. */
  overflowed: number
  failed: number
}

/** Requests that may wait. */
const MOST_WAITING = 8_192
/** Requests of one export. */
const TOGETHER = 128

const NO_ID = '0'.repeat(32)

export class Tracer {
  readonly stats: TracerStats = { exported: 0, overflowed: 0, failed: 0 }
  readonly #parts: TracerParts
  #waiting: TracedRequest[] = []
  #timer: NodeJS.Timeout | undefined
  #exporting: Promise<void> | undefined
  #silent = false
  #stopped: Promise<void> | undefined

  constructor(parts: TracerParts) {
    this.#parts = parts
  }

  /** Requests whose spans wait. */
  get pending(): number {
    return this.#waiting.length
  }

  start(): Promise<void> {
    return this.#parts.exporter.open()
  }

  /** The trace of a request: its caller's, or one of its own where it is one of those that are traced. */
  begin(id: Uint8Array, headers: Uint8Array, startUs: number): Trace | undefined {
    const callers = callersTrace(id, headers, startUs, true)
    if (callers !== undefined || !isTraced(id, this.#parts.oneIn)) return callers
    const traceId = formatMessageId(id)
    // The recommendation knows no such trace.
    if (traceId === NO_ID) return undefined
    return new Trace(id, startUs, { traceId, parentId: undefined, flags: SAMPLED, state: undefined })
  }

  /** Takes a request that is closed, with its final hash as 32 latin1 characters. `id` and `layers` may change after the call. */
  add(id: Uint8Array, final: string, layers: readonly Layer[], trace: Trace): void {
    if (!trace.sampled) return
    if (this.#waiting.length >= MOST_WAITING || this.#stopped !== undefined) {
      this.#drop('overflowed', 1, `${this.#waiting.length} requests wait already`)
      return
    }
    const { traceId, parentId, flags, state } = trace
    // Copied: a hop that the deadline overtook adds its layer when it is done.
    this.#waiting.push({ id: formatMessageId(id), final, layers: [...layers], traceId, parentId, flags, state })
    if (this.#exporting !== undefined) return
    if (this.#waiting.length >= TOGETHER) this.#exportAll()
    else this.#timer ??= setTimeout(this.#exportAll, this.#parts.delayMs ?? 1_000).unref()
  }

  /** Resolves once what waits was taken, or dropped. */
  async flush(): Promise<void> {
    while (this.#waiting.length > 0 || this.#exporting !== undefined) {
      this.#exportAll()
      await this.#exporting
    }
  }

  /** Takes no more, exports what waits as far as the time goes, and lets the exporter go. Memoised. */
  stop(): Promise<void> {
    this.#stopped ??= this.#stop()
    return this.#stopped
  }

  async #stop(): Promise<void> {
    await within(this.flush(), this.#parts.stopMs ?? 3_000)
    clearTimeout(this.#timer)
    this.#drop('failed', this.#waiting.splice(0).length, 'the node stops')
    await this.#parts.exporter.close()
  }

  readonly #exportAll = (): void => {
    clearTimeout(this.#timer)
    this.#timer = undefined
    if (this.#exporting !== undefined) return
    this.#exporting = this.#run().finally(() => {
      this.#exporting = undefined
      if (this.#waiting.length > 0) this.#timer ??= setTimeout(this.#exportAll, this.#parts.delayMs ?? 1_000).unref()
    })
  }

  /** Never rejects. */
  async #run(): Promise<void> {
    do {
      const requests = this.#waiting.splice(0, TOGETHER)
      if (requests.length === 0) return
      const failure = await this.#parts.exporter.export(requests.flatMap(spansOf))
      if (failure === undefined) {
        this.stats.exported += requests.length
        this.#silent = false
      } else {
        this.#drop('failed', requests.length, failure)
      }
    } while (this.#waiting.length >= TOGETHER)
  }

  #drop(how: 'overflowed' | 'failed', count: number, reason: string): void {
    if (count === 0) return
    this.stats[how] += count
    if (this.#silent) return
    this.#silent = true
    this.#parts.log.warn({ dropped: count, reason }, 'spans were dropped; this is said once until some are taken again')
  }
}

/** Whether a trace that begins with this message is one of those that are kept: the same answer for the same id, wherever it is asked. */
function isTraced(id: Uint8Array, oneIn: number): boolean {
  if (oneIn <= 1) return oneIn === 1
  return hash('sha256', id, 'buffer').readUInt32BE(0) % oneIn === 0
}
