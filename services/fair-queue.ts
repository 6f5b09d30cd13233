/**
 * A queue that many share without one keeping the others waiting: first in, first out for each of them, and each of them in turn.
 * Adding and taking cost the same however many wait.
 */

export class FairQueue<T> {
  /** By who they are of; whose turn it is stands first. */
  readonly #waiting = new Map<string, T[]>()
  /** Put back: before all others. */
  readonly #first: T[] = []
  #size = 0

  /** Everything that waits. */
  get size(): number {
    return this.#size
  }

  /** What waits of one of them, but for what was put back. */
  sizeOf(key: string): number {
    return this.#waiting.get(key)?.length ?? 0
  }

  push(key: string, item: T): void {
    const items = this.#waiting.get(key)
    if (items === undefined) this.#waiting.set(key, [item])
    else items.push(item)
    this.#size++
  }

  /** Puts back what was taken: these are the next ones, in this order. */
  putBack(items: readonly T[]): void {
    this.#first.unshift(...items)
    this.#size += items.length
  }

  /** The next one, which stays. */
  peek(): T | undefined {
    if (this.#first.length > 0) return this.#first[0]
    for (const items of this.#waiting.values()) return items[0]
    return undefined
  }

  /** Takes the next one: of whoever's turn it is, the one that waits longest. */
  shift(): T | undefined {
    if (this.#first.length > 0) {
      this.#size--
      return this.#first.shift()
    }
    for (const [key, items] of this.#waiting) {
      const item = items.shift()
      this.#waiting.delete(key)
      // Behind all others.
      if (items.length > 0) this.#waiting.set(key, items)
      this.#size--
      return item
    }
    return undefined
  }

  /** Takes everything, in the order in which `shift` would. */
  drain(): T[] {
    const all: T[] = []
    for (let item = this.shift(); item !== undefined; item = this.shift()) all.push(item)
    return all
  }
}
