/**
 * Deadlines of requests that wait: one coarse timer for all of them, running only while any waits. A reply that comes
 * after its deadline is dropped; its work goes on and settles by itself.
 */
import type { Clock } from '../clock.ts'

/** How late a deadline may be noticed, in ms. */
const TICK_MS = 20

interface Waiting {
  readonly deadlineMs: number
  readonly expire: () => void
}

export class Deadlines {
  readonly #clock: Clock
  readonly #waiting = new Set<Waiting>()
  #timer: NodeJS.Timeout | undefined

  constructor(clock: Clock) {
    this.#clock = clock
  }

  /** Requests that wait. */
  get size(): number {
    return this.#waiting.size
  }

  /** Settles as `work` does, or rejects with `late()` once `deadlineMs` (ms since 1970) has passed. */
  race<T>(work: Promise<T>, deadlineMs: number, late: () => Error): Promise<T> {
    return new Promise<T>((resolve, reject) => {
      const entry: Waiting = { deadlineMs, expire: () => { reject(late()) } }
      this.#waiting.add(entry)
      this.#timer ??= setInterval(() => { this.#tick() }, TICK_MS)
      work.then(resolve, reject).finally(() => { this.#forget(entry) })
    })
  }

  #tick(): void {
    const now = this.#clock.nowMs()
    for (const entry of this.#waiting) {
      if (entry.deadlineMs > now) continue
      this.#forget(entry)
      entry.expire()
    }
  }

  #forget(entry: Waiting): void {
    this.#waiting.delete(entry)
    if (this.#waiting.size > 0) return
    clearInterval(this.#timer)
    this.#timer = undefined
  }
}
