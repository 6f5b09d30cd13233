/**
 * How fresh a view has to be: at once on what this node has applied (`local`), behind what the caller has seen (`session`), or behind
 * everything that was acknowledged to anybody before it was asked (`linear`). A request says so by headers; what waits for the state to
 * get there waits here.
 *
 *     x-cmesh-read    local (default) | session | linear
 *     x-cmesh-after   with `session`: the highest sequence that the caller has seen
 *
 * A linear view orders an empty batch and runs once that is applied: whatever was acknowledged before stands before it in the order, at any
 * level of durability. Views asked at once share one.
 */
import { CMeshError } from '../../cmtp/errors.ts'
import { decodeHeaders, headerValue } from '../../cmtp/headers.ts'
import type { Call } from '../call.ts'
import type { Clock } from '../clock.ts'

const READ_HEADER = 'x-cmesh-read'
const AFTER_HEADER = 'x-cmesh-after'

export interface ReadLevelsParts {
  /** The sequence of the last applied block. */
  readonly applied: () => number
  /** Orders an empty batch; resolves with its sequence once it is applied. */
  readonly barrier: (deadlineMs: number) => Promise<number>
  readonly clock: Pick<Clock, 'nowMs'>
}

/** Most views that wait for a block of their own. */
const MOST = 65_536
const RETRY_AFTER_MS = 50

interface Waiting {
  readonly seq: number
  readonly resolve: () => void
  readonly reject: (error: CMeshError) => void
}

export class ReadLevels {
  readonly #parts: ReadLevelsParts
  readonly #waiting = new Set<Waiting>()

  constructor(parts: ReadLevelsParts) {
    this.#parts = parts
  }

  /**
   * Resolves when state is fresh enough for the call; `undefined` when it is already. Rejects with `CMESH_ROUTER_DEADLINE` when it does not
   * get there in time, `CMESH_ROUTER_BUSY` when too many wait, or as a proposal does. Throws `CMESH_STATE_READ_LEVEL` for headers that say nothing.
   */
  wait(call: Pick<Call, 'headers' | 'deadlineMs'>): Promise<void> | undefined {
    if (call.headers.length === 0) return undefined
    const headers = decodeHeaders(call.headers)
    const level = headerValue(headers, READ_HEADER)
    switch (level) {
      case undefined:
      case 'local':
        return undefined
      case 'session':
        return this.reached(afterOf(headerValue(headers, AFTER_HEADER)), call.deadlineMs)
      case 'linear':
        return this.#parts.barrier(call.deadlineMs).then(seq => this.reached(seq, call.deadlineMs))
      default:
        throw unknown(`${READ_HEADER} is local, session or linear`)
    }
  }

  /** A block is applied. */
  applied(seq: number): void {
    for (const waiting of this.#waiting) {
      if (waiting.seq > seq) continue
      this.#waiting.delete(waiting)
      waiting.resolve()
    }
  }

  /** Whoever waits hears of it; whoever comes later does not wait here. */
  fail(error: CMeshError): void {
    for (const { reject } of this.#waiting) reject(error)
    this.#waiting.clear()
  }

  /** Resolves when the block is applied; `undefined` when it is. Rejects with `CMESH_ROUTER_DEADLINE`. */
  reached(seq: number, deadlineMs: number): Promise<void> | undefined {
    const { applied, clock } = this.#parts
    if (applied() >= seq) return undefined
    if (this.#waiting.size >= MOST) throw new CMeshError('CMESH_ROUTER_BUSY', { what: 'views that wait for a block', limit: MOST, retryAfterMs: RETRY_AFTER_MS })
    return new Promise((resolve, reject) => {
      const late = setTimeout(() => {
        this.#waiting.delete(waiting)
        reject(new CMeshError('CMESH_ROUTER_DEADLINE'))
      }, Math.max(0, deadlineMs - clock.nowMs()))
      const done = <A extends unknown[]>(settle: (...args: A) => void) => (...args: A): void => {
        clearTimeout(late)
        settle(...args)
      }
      const waiting: Waiting = { seq, resolve: done(resolve), reject: done(reject) }
      this.#waiting.add(waiting)
    })
  }
}

function afterOf(text: string | undefined): number {
  const seq = text !== undefined && /^\d{1,16}$/.test(text) ? Number(text) : NaN
  if (!Number.isSafeInteger(seq)) throw unknown(`${AFTER_HEADER} says which sequence the caller has seen, a whole number`)
  return seq
}

function unknown(reason: string): CMeshError {
  return new CMeshError('CMESH_STATE_READ_LEVEL', { reason })
}
