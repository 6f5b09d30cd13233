/** Numbers that look random and follow from a seed alone, the same on every engine (Mulberry32). */
export class Draw {
  #state: number

  constructor(seed: number) {
    this.#state = seed
  }

  /** A whole number from 0 to `limit` − 1; `limit` is at most 2^32. */
  below(limit: number): number {
    this.#state = (this.#state + 0x6d2b_79f5) | 0
    let t = Math.imul(this.#state ^ (this.#state >>> 15), 1 | this.#state)
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t
    return ((t ^ (t >>> 14)) >>> 0) % limit
  }

  of<T>(values: readonly T[]): T {
    return values[this.below(values.length)] as T
  }

  /** Numbers of their own, that follow from these. */
  fork(): Draw {
    return new Draw(this.below(2 ** 32))
  }

  /** In place. */
  shuffle<T>(values: T[]): T[] {
    for (let i = values.length - 1; i > 0; i--) {
      const j = this.below(i + 1)
      const held = values[i] as T
      values[i] = values[j] as T
      values[j] = held
    }
    return values
  }
}
