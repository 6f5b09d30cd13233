/**
 * Moves log time on where nobody writes: what expires, and what is due, goes by the log's time, which only blocks move. An empty batch is
 * ordered when the last block is older than `tickMs`; the members on duty first, the others when none of those did. Where the log is further
 * behind than one batch may move it (`log-time.ts`), one follows the other until it is there.
 */
import type { Clock } from '../clock.ts'
import type { Log } from '../log.ts'
import { STEP_MS } from './log-time.ts'
import type { StateHead } from './provider.ts'

/** How old the newest block grows before it is followed by an empty one, ms. */
export const TICK_MS = 10_000
/** Steps of one minute and twice as much each time lead further than clocks go. */
const MOST_STEPS = 64

export interface TicksParts {
  readonly head: () => StateHead
  readonly onDuty: () => boolean
  /** Orders an empty batch. */
  readonly order: (deadlineMs: number) => Promise<unknown>
  readonly clock: Pick<Clock, 'nowMs'>
  readonly log: Log
  /** Default `TICK_MS`. */
  readonly tickMs?: number | undefined
}

export class Ticks {
  readonly #parts: TicksParts
  readonly #tickMs: number
  #timer: NodeJS.Timeout | undefined
  #ordering = false

  constructor(parts: TicksParts) {
    this.#parts = parts
    this.#tickMs = parts.tickMs ?? TICK_MS
  }

  start(): void {
    const { head, clock } = this.#parts
    this.#timer ??= setInterval(() => { void this.#look() }, this.#tickMs / 2).unref()
    // The log of a mesh that stood still is back in its time before anybody waits for what is due.
    if (head().seq > 0 && clock.nowMs() - head().timeMs > STEP_MS) void this.#look()
  }

  /** Idempotent. */
  stop(): void {
    clearInterval(this.#timer)
  }

  async #look(): Promise<void> {
    const { head, onDuty, order, clock, log } = this.#parts
    const ageMs = clock.nowMs() - head().timeMs
    if (this.#ordering || ageMs < (onDuty() ? this.#tickMs : 2 * this.#tickMs)) return
    this.#ordering = true
    try {
      for (let steps = 0; steps < MOST_STEPS; steps++) {
        const { timeMs } = head()
        await order(clock.nowMs() + this.#tickMs)
        if (clock.nowMs() - head().timeMs <= STEP_MS || head().timeMs === timeMs) break
      }
    } catch (error) {
      // Writes fail for the same reason and say so; the next look tries again.
      log.debug({ err: error }, 'log time could not be moved on')
    } finally {
      this.#ordering = false
    }
  }
}
