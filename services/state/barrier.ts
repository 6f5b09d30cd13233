/**
 * Empty batches in the order, for who has to know that the state here holds all that was acknowledged before: one for all that ask in a tick,
 * and the next for all that come while it is under way, or within `PAUSE_MS` of it. Whoever may only read does not fill the log.
 *
 * Invariant: nobody's deadline is another's. A batch has the time that any batch has; whoever cannot wait so long stops waiting alone, and whoever can
 * wait longer waits for the next. What became of an empty batch is nobody's concern.
 */
import { CMeshError } from '../../cmtp/errors.ts'
import type { Clock } from '../clock.ts'

/** Least time between two empty batches, ms. */
const PAUSE_MS = 10
/** Longest that one is waited for, ms: those that come after it wait for its end. */
const LONGEST_MS = 10_000

export interface BarrierParts {
  /** Orders an empty batch; resolves with its sequence once this node has applied it. */
  readonly order: (deadlineMs: number) => Promise<number>
  readonly clock: Pick<Clock, 'nowMs'>
}

export class Barrier {
  readonly #parts: BarrierParts
  /** Settles when the last one is ordered and a while has gone by. */
  #last: Promise<unknown> = Promise.resolve()
  /** The one that is not on its way yet: whoever asks now shares it. */
  #next: Promise<number> | undefined

  constructor(parts: BarrierParts) {
    this.#parts = parts
  }

  /** Resolves with a sequence behind everything that was acknowledged anywhere before the call. Rejects as consensus does, and with `CMESH_ROUTER_TIMEOUT`. */
  pass(deadlineMs: number): Promise<number> {
    this.#next ??= this.#last.then(() => new Promise<number>((resolve, reject) => {
      setImmediate(() => {
        this.#next = undefined
        const ordered = this.#parts.order(this.#parts.clock.nowMs() + LONGEST_MS)
        const pause = new Promise(done => { setTimeout(done, PAUSE_MS).unref() })
        this.#last = Promise.allSettled([ordered, pause])
        ordered.then(resolve, reject)
      })
    }))
    return this.#until(deadlineMs, this.#next)
  }

  #until(deadlineMs: number, passed: Promise<number>): Promise<number> {
    return new Promise((resolve, reject) => {
      const { clock } = this.#parts
      const late = setTimeout(() => { reject(new CMeshError('CMESH_ROUTER_TIMEOUT')) }, Math.max(0, deadlineMs - clock.nowMs()))
      passed.catch((error: unknown) => {
        if (!isLate(error)) throw error
        if (clock.nowMs() >= deadlineMs) throw new CMeshError('CMESH_ROUTER_TIMEOUT')
        return this.pass(deadlineMs)
      }).then(resolve, reject).finally(() => { clearTimeout(late) })
    })
  }
}

/** The batch's time was over. */
function isLate(error: unknown): boolean {
  return error instanceof CMeshError && (error.code === 'CMESH_ROUTER_UNKNOWN_OUTCOME' || error.code === 'CMESH_ROUTER_DEADLINE')
}
