/**
 * Latencies in bounded memory: a histogram whose buckets are one 32nd of their value wide, from 1 µs to over an hour. A
 * percentile is the upper end of its bucket, so it is off by at most 3 % and never too small.
 */

/** Linear steps within each power of two. */
const STEPS = 32
const STEP_BITS = 5
const POWERS = 32
const BUCKETS = (POWERS - STEP_BITS + 1) * STEPS

export class Histogram {
  readonly #counts = new Uint32Array(BUCKETS)
  #total = 0
  #maxUs = 0

  get total(): number {
    return this.#total
  }

  get maxUs(): number {
    return this.#maxUs
  }

  /** Adds a latency of whole µs, below 2^32. */
  add(us: number): void {
    const value = us >>> 0
    const bucket = bucketOf(value)
    this.#counts[bucket] = (this.#counts[bucket] ?? 0) + 1
    this.#total++
    if (value > this.#maxUs) this.#maxUs = value
  }

  /** The latency in µs that `share` (0 to 1) of all do not exceed; 0 when there are none. */
  percentileUs(share: number): number {
    const wanted = Math.max(1, Math.ceil(this.#total * share))
    let seen = 0
    for (let i = 0; i < BUCKETS; i++) {
      seen += this.#counts[i] ?? 0
      if (seen >= wanted) return Math.min(upperEnd(i), this.#maxUs)
    }
    return this.#maxUs
  }
}

function bucketOf(us: number): number {
  if (us < STEPS) return us
  // The highest bits after the first one choose the step.
  const power = 31 - Math.clz32(us)
  return (power - STEP_BITS + 1) * STEPS + ((us >>> (power - STEP_BITS)) & (STEPS - 1))
}

function upperEnd(bucket: number): number {
  if (bucket < STEPS) return bucket
  const power = Math.floor(bucket / STEPS) + STEP_BITS - 1
  const width = 2 ** (power - STEP_BITS)
  return (STEPS + (bucket % STEPS)) * width + width - 1
}
