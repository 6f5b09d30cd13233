/**
 * A queue that many share without one keeping the others waiting: first in, first out for each of them, and each of them in turn.
 * Adding and taking cost the same however many wait; putting back costs what waits of those it is of.
 */

/** What waits of one of them: taken from the front by counting, since an array moves all the others up for it. */
interface Line<T> {
  items: (T | undefined)[]
  /** Items in front that were taken. */
  taken: number
}

/** So many taken items stay in front before the others are moved up. */
const SPARE = 1_024

export class FairQueue<T> {
  /** By who they are of; whose turn it is stands first. */
  readonly #lines = new Map<string, Line<T>>()
  #size = 0

  /** Everything that waits. */
  get size(): number {
    return this.#size
  }

  /** What waits of one of them. */
  sizeOf(key: string): number {
    const line = this.#lines.get(key)
    return line === undefined ? 0 : line.items.length - line.taken
  }

  push(key: string, item: T): void {
    const line = this.#lines.get(key)
    if (line === undefined) this.#lines.set(key, { items: [item], taken: 0 })
    else line.items.push(item)
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
    for (const key of keys) {
      const line = this.#lines.get(key) as Line<T>
      line.items = (line.items.slice(line.taken) as T[]).sort((one, other) => orderOf(one) - orderOf(other))
      line.taken = 0
    }
  }

  /** The next one, which stays. */
  peek(): T | undefined {
    for (const { items, taken } of this.#lines.values()) return items[taken]
    return undefined
  }

  /** Takes the next one: of whoever's turn it is, the one that waits longest. */
  shift(): T | undefined {
    for (const [key, line] of this.#lines) {
      const item = line.items[line.taken] as T
      // Whoever took it may be done with it long before the others are moved up.
      line.items[line.taken++] = undefined
      const isEmpty = line.taken === line.items.length
      // Whoever waits alone has its turn again.
      if (isEmpty || this.#lines.size > 1) this.#lines.delete(key)
      // Behind all others.
      if (!isEmpty) this.#lines.set(key, trimmed(line))
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

/** Lets go of what was taken, once that is at least half: then each item is moved once on average. */
function trimmed<T>(line: Line<T>): Line<T> {
  if (line.taken >= SPARE && line.taken * 2 >= line.items.length) {
    line.items = line.items.slice(line.taken)
    line.taken = 0
  }
  return line
}
