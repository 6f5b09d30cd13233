/**
 * The waiting of a start for its broker: a step that failed for a reason that passes is done again, until the time for it is over; any other
 * failure is its caller's at once. What is waited for stands in the log, once, however often it is tried.
 */
import { setTimeout as delay } from 'node:timers/promises'
import { CMeshError, type ErrorCode } from '../../cmtp/errors.ts'
import type { Log } from '../../services/log.ts'

export interface PatienceOptions {
  /** How long a step that fails is done again, from its first failure on, in ms. Default 60,000. */
  readonly readyMs?: number | undefined
  /** Whether such a failure passes. Default: `brokerAway`. */
  readonly passes?: (failure: unknown) => boolean
  readonly log?: Pick<Log, 'info' | 'warn'>
  /** Ends the waiting: the failure at hand is the step's. */
  readonly signal?: AbortSignal
}

export const READY_MS = 60_000
const AGAIN_FIRST_MS = 50
const AGAIN_LAST_MS = 1_000

/** A connection that is down, or a broker that does not answer. */
const AWAY: ReadonlySet<ErrorCode> = new Set(['CMESH_BUS_DISCONNECTED', 'CMESH_BUS_NO_RESPONDERS', 'CMESH_BUS_TIMEOUT', 'CMESH_BUS_BUSY'])

export function brokerAway(failure: unknown): boolean {
  return failure instanceof CMeshError && AWAY.has(failure.code)
}

export class Patience {
  readonly #options: PatienceOptions

  constructor(options: PatienceOptions = {}) {
    this.#options = options
  }

  /** Resolves or rejects as `step` does, the last time it was done. `what` is waited for, in words. */
  async with<T>(what: string, step: () => Promise<T>): Promise<T> {
    const { readyMs = READY_MS, passes = brokerAway, log, signal } = this.#options
    let endMs: number | undefined
    for (let tries = 0; ; tries++) {
      try {
        const result = await step()
        if (endMs !== undefined) log?.info({ what }, 'the broker is ready')
        return result
      } catch (failure) {
        const first = endMs === undefined
        endMs ??= performance.now() + readyMs
        const pauseMs = Math.min(AGAIN_LAST_MS, AGAIN_FIRST_MS * 2 ** Math.min(tries, 8)) * (0.5 + Math.random())
        if (!passes(failure) || signal?.aborted === true || performance.now() + pauseMs > endMs) throw failure
        if (first) log?.warn({ what, reason: messageOf(failure), forMs: readyMs }, `waiting for ${what}`)
        // Rejects only by the signal, which ends the wait.
        await delay(pauseMs, undefined, { signal }).catch(() => undefined)
      }
    }
  }
}

function messageOf(failure: unknown): string {
  return failure instanceof Error ? failure.message : String(failure)
}
