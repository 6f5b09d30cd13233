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
import { Places } from './places.ts'

const READ_HEADER = 'x-cmesh-read'
const AFTER_HEADER = 'x-cmesh-after'

export interface ReadLevelsParts {
  /** The sequence of the last applied block. */
  readonly applied: () => number
  /** Orders an empty batch; resolves with its sequence once it is applied. */
  readonly barrier: (deadlineMs: number) => Promise<number>
  readonly clock: Pick<Clock, 'nowMs'>
}

/** Most views that wait, and of them those of one caller: twice what a batch holds. */
const MOST = 65_536
const MOST_OF_ONE = 2_048
const RETRY_AFTER_MS = 50

interface Waiting {
  /** None where the node itself waits. */
  readonly caller: string | undefined
  /** The block that it waits for; infinite as long as that is not known. */
  seq: number
  readonly resolve: () => void
  readonly reject: (error: CMeshError) => void
}

export class ReadLevels {
  readonly #parts: ReadLevelsParts
  readonly #waiting = new Set<Waiting>()
  readonly #places = new Places({ what: 'views that wait for a block', most: MOST, mostOfOne: MOST_OF_ONE, retryAfterMs: RETRY_AFTER_MS })
  #closed: CMeshError | undefined

  constructor(parts: ReadLevelsParts) {
    this.#parts = parts
  }

  /**
   * Resolves when state is fresh enough for the call; `undefined` when it is already. Rejects with `CMESH_ROUTER_TIMEOUT` when it does not
   * get there in time, `CMESH_ROUTER_BUSY` when too many wait, or as a proposal does. Throws `CMESH_STATE_READ_LEVEL` for headers that say nothing.
   */
  wait({ headers: encoded, deadlineMs }: Pick<Call, 'headers' | 'deadlineMs'>, caller: string): Promise<void> | undefined {
    if (encoded.length === 0) return undefined
    const headers = decodeHeaders(encoded)
    const level = headerValue(headers, READ_HEADER)
    switch (level) {
      case undefined:
      case 'local':
        return undefined
      case 'session': {
        const seq = afterOf(headerValue(headers, AFTER_HEADER))
        return this.#parts.applied() >= seq ? undefined : this.#enter(deadlineMs, caller, waiting => { waiting.seq = seq })
      }
      case 'linear':
        return this.#enter(deadlineMs, caller, waiting => {
          this.#parts.barrier(deadlineMs).then(seq => {
            if (this.#parts.applied() >= seq) waiting.resolve()
            else waiting.seq = seq
          }, (error: unknown) => { waiting.reject(CMeshError.from(error, 'consensus')) })
        })
      default:
        throw unknown(`${READ_HEADER} is local, session or linear`)
    }
  }

  /** A block is applied. */
  applied(seq: number): void {
    for (const waiting of this.#waiting) if (waiting.seq <= seq) waiting.resolve()
  }

  /** Each view that waits hears of it, and each that would have to wait later. */
  close(error: CMeshError): void {
    this.#closed ??= error
    for (const { caller, reject } of this.#waiting) if (caller !== undefined) reject(error)
  }

  /** No block comes any more: whatever waits hears of it. */
  fail(error: CMeshError): void {
    this.#closed = error
    for (const { reject } of this.#waiting) reject(error)
  }

  /** Resolves when the block is applied; `undefined` when it is. For the node itself: not counted, and not closed. Rejects with `CMESH_ROUTER_TIMEOUT`. */
  reached(seq: number, deadlineMs: number): Promise<void> | undefined {
    return this.#parts.applied() >= seq ? undefined : this.#enter(deadlineMs, undefined, waiting => { waiting.seq = seq })
  }

  /** Waits, and is told by `begin` for what. */
  #enter(deadlineMs: number, caller: string | undefined, begin: (waiting: Waiting) => void): Promise<void> {
    if (caller !== undefined) {
      if (this.#closed !== undefined) throw this.#closed
      this.#places.take(caller)
    }
    return new Promise((resolve, reject) => {
      const left = (): boolean => {
        if (!this.#waiting.delete(waiting)) return false
        clearTimeout(late)
        if (caller !== undefined) this.#places.leave(caller)
        return true
      }
      const waiting: Waiting = {
        caller, seq: Infinity,
        resolve: () => { if (left()) resolve() },
        reject: error => { if (left()) reject(error) },
      }
      const late = setTimeout(() => { waiting.reject(new CMeshError('CMESH_ROUTER_TIMEOUT')) }, Math.max(0, deadlineMs - this.#parts.clock.nowMs()))
      this.#waiting.add(waiting)
      begin(waiting)
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
