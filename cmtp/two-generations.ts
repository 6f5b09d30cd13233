/**
 * A bounded map in two generations: when the young one is full it becomes the old one, and what was in the old one and not
 * asked for since is gone. Keeps at least what a list of the last `entries` keys used would keep, at most twice as many, at the cost of one look-up;
 * deleting the oldest key of a `Map` one by one is quadratic in V8. What is kept follows from the calls alone, so replicas
 * that make the same calls keep the same.
 */
export interface GenerationLimits {
  /** Most entries in one generation, 1 and up. */
  readonly entries: number
  /** Most weight in one generation, in whatever unit `set` is given. Default: unbounded. */
  readonly weight?: number
}

export class TwoGenerations<K, V> {
  readonly #limits: Required<GenerationLimits>
  #young = new Map<K, V>()
  #old = new Map<K, V>()
  #weight = 0
  #turns = 0

  constructor(limits: GenerationLimits) {
    this.#limits = { weight: Infinity, ...limits }
  }

  /** Looks without keeping the entry any longer. */
  peek(key: K): V | undefined {
    return this.#young.get(key) ?? this.#old.get(key)
  }

  /** Looks, and moves an entry of the old generation to the young one, where it weighs what `set` was told: a number, or made of it. */
  get(key: K, weight: number | ((value: V) => number) = 0): V | undefined {
    const young = this.#young.get(key)
    if (young !== undefined) return young
    const old = this.#old.get(key)
    if (old !== undefined) this.set(key, old, typeof weight === 'number' ? weight : weight(old))
    return old
  }

  set(key: K, value: V, weight = 0): void {
    if (this.#young.size >= this.#limits.entries || this.#weight + weight > this.#limits.weight) {
      this.#old = this.#young
      this.#young = new Map()
      this.#weight = 0
      this.#turns++
    }
    this.#young.set(key, value)
    this.#weight += weight
  }

  /** How often the young generation became the old one. */
  get turns(): number {
    return this.#turns
  }

  delete(key: K): void {
    this.#young.delete(key)
    this.#old.delete(key)
  }

  clear(): void {
    this.#young.clear()
    this.#old.clear()
    this.#weight = 0
  }

  /** Entries held, counting one that stands in both generations twice. */
  get size(): number {
    return this.#young.size + this.#old.size
  }
}
