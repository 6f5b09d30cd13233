/** Time as services see it, injected so that tests can hold it. */
export interface Clock {
  /** ms since 1970. */
  nowMs(): number
  /** µs since 1970, rising; for stamps in layers. */
  nowUs(): number
}

const ORIGIN_US = performance.timeOrigin * 1000

export const SYSTEM_CLOCK: Clock = {
  nowMs: () => Date.now(),
  nowUs: () => Math.floor(ORIGIN_US + performance.now() * 1000),
}
