/**
 * Deadlines of requests that wait: one coarse timer for all of them, running only while any waits. A reply that comes
 * after its deadline is dropped; its work goes on and settles by itself.
 */
import type { Clock } from '../clock.ts'

/** How late a deadline may be noticed, in ms. */
const TICK_MS = 20

interface Waiting {
  readonly deadlineMs: number
  readonly late: () => void
  /** Where it stands among those that wait; -1 when it does not any more. */
  place: number
}

export class Deadlines {
  readonly #clock: Clock
  /** In no order, and no set: of one through which many go, V8 keeps those that went (`cmtp/in-flight.ts`). */
  readonly #waiting: Waiting[] = []
  #timer: NodeJS.Timeout | undefined

  constructor(clock: Clock) {
    this.#clock = clock
  }

  /** Requests that wait. */
  get size(): number {
    return this.#waiting.length
  }

  /** Settles as `work` does, or rejects with `late()` once `deadlineMs` (ms since 1970) has passed. */
  race<T>(work: Promise<T>, deadlineMs: number, late: () => Error): Promise<T> {
    return new Promise<T>((resolve, reject) => { this.watch(work, deadlineMs, resolve, reject, () => { reject(late()) }) })
  }

  /** `race` with callbacks, of which exactly one is called, once; none may throw. For paths on which a promise counts. */
  watch<T>(work: Promise<T>, deadlineMs: number, done: (value: T) => void, failed: (error: unknown) => void, late: () => void): void {
    const entry: Waiting = { deadlineMs, late, place: this.#waiting.length }
    this.#waiting.push(entry)
    this.#timer ??= setInterval(() => { this.#tick() }, TICK_MS)
    work.then(
      value => { if (this.#forget(entry)) done(value) },
      (error: unknown) => { if (this.#forget(entry)) failed(error) },
    )
  }

  #tick(): void {
    const now = this.#clock.nowMs()
    for (const entry of this.#waiting.filter(({ deadlineMs }) => deadlineMs <= now)) if (this.#forget(entry)) entry.late()
  }

  /** Whether it still waited. */
  #forget(entry: Waiting): boolean {
    const { place } = entry
    if (place < 0) return false
    entry.place = -1
    // The last one stands where it stood.
    const last = this.#waiting.pop() as Waiting
    if (last !== entry) {
      this.#waiting[place] = last
      last.place = place
    }
    if (this.#waiting.length === 0) {
      clearInterval(this.#timer)
      this.#timer = undefined
    }
    return true
  }
}
