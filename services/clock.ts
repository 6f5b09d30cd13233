/** Time as services see it, injected so that tests can hold it. */
export interface Clock {
  /** ms since 1970. */
  readonly nowMs: () => number
  /** µs since 1970, rising; for stamps in layers. */
  readonly nowUs: () => number
  /** ms since some moment, which no setting of a clock changes; and the same with the time that the machine slept, which costs more to ask. */
  readonly steadyMs?: () => number
  readonly awakeMs?: () => number
}

const ORIGIN_US = performance.timeOrigin * 1000

export const SYSTEM_CLOCK: Clock = {
  nowMs: () => Date.now(),
  nowUs: () => Math.floor(ORIGIN_US + performance.now() * 1000),
  steadyMs: () => performance.now(),
}

/**
 * The system's clock for a busy thread: ms are read once a turn of the event loop, since hundreds of requests share a turn
 * and each asks several times (expiry, deadline, revocation). A turn is late by no more than it lasts. µs are always read.
 */
export function turnClock(awakeMs?: () => number): Clock {
  let nowMs = 0
  const forget = (): void => { nowMs = 0 }
  return {
    nowMs: () => {
      if (nowMs === 0) {
        nowMs = Date.now()
        setImmediate(forget)
      }
      return nowMs
    },
    nowUs: SYSTEM_CLOCK.nowUs,
    steadyMs: () => performance.now(),
    ...(awakeMs !== undefined && { awakeMs }),
  }
}
