/**
 * Work on the state behind one block, and no other: it runs in the turn in which that block is applied, before the next one can be. Whoever
 * asks for a block that may be long in coming says how long to wait for it, and from which one on another will do.
 */
import { CMeshError } from '../../../cmtp/errors.ts'
import type { Clock } from '../../clock.ts'

export interface When {
  /** No block before this one will do. */
  readonly at: number
  /** This one is waited for, at most so long. */
  readonly wish: number
  readonly patienceMs: number
  readonly deadlineMs: number
}

export interface AtSequenceParts {
  /** The sequence of the last applied block. */
  readonly applied: () => number
  readonly clock: Pick<Clock, 'nowMs'>
}

interface Waiting {
  seq: number
  readonly run: () => void
  readonly fail: (error: CMeshError) => void
}

export class AtSequence {
  readonly #parts: AtSequenceParts
  readonly #waiting = new Set<Waiting>()

  constructor(parts: AtSequenceParts) {
    this.#parts = parts
  }

  /** Resolves as the work does. Rejects with `CMESH_ROUTER_TIMEOUT` where block `at` does not come in time. */
  run<T>(when: When, work: () => Promise<T>): Promise<T> {
    if (this.#parts.applied() >= when.wish) return work()
    return new Promise((resolve, reject) => {
      let timer: NodeJS.Timeout | undefined
      const over = (): void => {
        clearTimeout(timer)
        this.#waiting.delete(waiting)
      }
      const run = (): void => {
        over()
        // Its first part runs here and now.
        work().then(resolve, reject)
      }
      const fail = (error: CMeshError): void => {
        over()
        reject(error)
      }
      const waiting: Waiting = { seq: when.wish, run, fail }
      this.#waiting.add(waiting)
      const leftMs = Math.max(0, when.deadlineMs - this.#parts.clock.nowMs())
      const patienceMs = Math.min(when.patienceMs, leftMs)
      timer = setTimeout(() => {
        if (this.#parts.applied() >= when.at) return run()
        waiting.seq = when.at
        timer = setTimeout(() => { fail(new CMeshError('CMESH_ROUTER_TIMEOUT')) }, leftMs - patienceMs)
      }, patienceMs)
    })
  }

  /** A block is applied. */
  applied(seq: number): void {
    if (this.#waiting.size === 0) return
    for (const waiting of [...this.#waiting]) if (waiting.seq <= seq) waiting.run()
  }

  /** Whoever waits hears of it. */
  fail(error: CMeshError): void {
    for (const { fail } of [...this.#waiting]) fail(error)
  }
}
