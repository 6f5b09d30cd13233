/**
 * Moves log time on where nobody writes: what expires, and what is due, goes by the log's time, which only blocks move. An empty batch is
 * ordered when the last block is older than `tickMs`; the members on duty first, the others when none of those did.
 */
import type { Clock } from '../clock.ts'
import type { Log } from '../log.ts'
import type { StateHead } from './provider.ts'

/** How old the newest block grows before it is followed by an empty one, ms. */
export const TICK_MS = 10_000

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
    this.#timer ??= setInterval(() => { void this.#look() }, this.#tickMs / 2).unref()
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
      await order(clock.nowMs() + this.#tickMs)
    } catch (error) {
      // Writes fail for the same reason and say so; the next look tries again.
      log.debug({ err: error }, 'log time could not be moved on')
    } finally {
      this.#ordering = false
    }
  }
}
