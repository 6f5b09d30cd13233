/**
 * A queue that many share without one keeping the others waiting: first in, first out for each of them, and each of them in turn.
 * Adding and taking cost the same however many wait.
 */

export class FairQueue<T> {
  /** By who they are of; whose turn it is stands first. */
  readonly #waiting = new Map<string, T[]>()
  #size = 0

  /** Everything that waits. */
  get size(): number {
    return this.#size
  }

  /** What waits of one of them. */
  sizeOf(key: string): number {
    return this.#waiting.get(key)?.length ?? 0
  }

  push(key: string, item: T): void {
    const items = this.#waiting.get(key)
    if (items === undefined) this.#waiting.set(key, [item])
    else items.push(item)
    this.#size++
  }

  /**
   * Puts back what was taken: among the others of the same one it stands where it stood, by `orderOf`, and those it is of have their turn
   * behind all who wait already.
   */
  putBack(items: readonly T[], keyOf: (item: T) => string, orderOf: (item: T) => number): void {
    const keys = new Set<string>()
    for (const item of items) {
      const key = keyOf(item)
      keys.add(key)
      this.push(key, item)
    }
    for (const key of keys) this.#waiting.get(key)?.sort((one, other) => orderOf(one) - orderOf(other))
  }

  /** The next one, which stays. */
  peek(): T | undefined {
    for (const items of this.#waiting.values()) return items[0]
    return undefined
  }

  /** Takes the next one: of whoever's turn it is, the one that waits longest. */
  shift(): T | undefined {
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
