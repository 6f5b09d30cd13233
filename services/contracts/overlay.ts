/** A space over another: reads see both, writes stay in it. What lies below is never changed and may change by itself. */
import type { Space, Write } from '../state/provider.ts'

export class Overlay extends Map<string, Uint8Array> {
  readonly #below: Space
  readonly #deleted = new Set<string>()

  constructor(below: Space) {
    super()
    this.#below = below
  }

  /** Takes up what a dry run of `space` would have written. */
  apply(space: string, writes: readonly Write[]): void {
    for (const write of writes) {
      if (write.space !== space) continue
      if (write.value === undefined) this.delete(write.key)
      else this.set(write.key, write.value)
    }
  }

  /** Takes everything back; gives the keys that this touched. */
  reset(): string[] {
    const touched = [...super.keys(), ...this.#deleted]
    super.clear()
    this.#deleted.clear()
    return touched
  }

  override get(key: string): Uint8Array | undefined {
    return super.get(key) ?? (this.#deleted.has(key) ? undefined : this.#below.get(key))
  }

  override has(key: string): boolean {
    return this.get(key) !== undefined
  }

  override set(key: string, value: Uint8Array): this {
    this.#deleted.delete(key)
    return super.set(key, value)
  }

  override delete(key: string): boolean {
    const had = this.has(key)
    super.delete(key)
    this.#deleted.add(key)
    return had
  }

  override get size(): number {
    return [...this.keys()].length
  }

  override *entries(): MapIterator<[string, Uint8Array]> {
    for (const [key, value] of this.#below) if (!this.#deleted.has(key) && !super.has(key)) yield [key, value]
    yield* super.entries()
  }

  override *keys(): MapIterator<string> {
    for (const [key] of this.entries()) yield key
  }

  override *values(): MapIterator<Uint8Array> {
    for (const [, value] of this.entries()) yield value
  }

  override [Symbol.iterator](): MapIterator<[string, Uint8Array]> {
    return this.entries()
  }

  override forEach(visit: (value: Uint8Array, key: string, map: Map<string, Uint8Array>) => void): void {
    for (const [key, value] of this.entries()) visit(value, key, this)
  }
}
