/**
 * What is under way, by key, where many come and go: a map of places, and the values in an array. A `Map` of the values themselves makes itself a new
 * table every so many entries, and V8 hangs the new table onto the old one, with all that was in either. Once one of them has come among what is old, every
 * entry that came later lives on until all of the heap is gone over, though it was taken out long ago: most of what the collector copied was that.
 *
 * Invariant: a value that was taken out is held by nothing here.
 */
export class InFlight<K, V> {
  readonly #places = new Map<K, number>()
  readonly #values: (V | undefined)[] = []
  /** Places that are free. */
  readonly #free: number[] = []

  get size(): number {
    return this.#places.size
  }

  get(key: K): V | undefined {
    const place = this.#places.get(key)
    return place === undefined ? undefined : this.#values[place]
  }

  /** Takes one in whose key is not there. */
  add(key: K, value: V): void {
    const place = this.#free.pop() ?? this.#values.length
    this.#values[place] = value
    this.#places.set(key, place)
  }

  /** Takes one out, and gives whether it was there. */
  delete(key: K): boolean {
    const place = this.#places.get(key)
    if (place === undefined) return false
    this.#leave(key, place)
    return true
  }

  /** The same, and gives its value. */
  take(key: K): V | undefined {
    const place = this.#places.get(key)
    if (place === undefined) return undefined
    const value = this.#values[place]
    this.#leave(key, place)
    return value
  }

  #leave(key: K, place: number): void {
    this.#places.delete(key)
    this.#values[place] = undefined
    this.#free.push(place)
  }

  /** A copy: in the order in which their keys came. */
  values(): V[] {
    return Array.from(this.#places.values(), place => this.#values[place] as V)
  }
}
