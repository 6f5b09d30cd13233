/**
 * What one call wants to change in its contract's space. Nothing reaches the space before `commit`, so that a call that fails
 * leaves it as it was, down to the order of its keys, and a replica that applies the recorded writes without running the
 * code ends with the same space as one that ran it. Reads see the call's own writes.
 *
 * Invariant: `writes` holds each touched key once, in the order of first touch, with its final value.
 */
import type { Space, Write } from '../../services/state/provider.ts'

export class Journal {
  readonly #space: Space
  readonly #pending = new Map<string, Uint8Array | undefined>()

  constructor(space: Space) {
    this.#space = space
  }

  /** How many keys were touched. */
  get size(): number {
    return this.#pending.size
  }

  get(key: string): Uint8Array | undefined {
    return this.#pending.size > 0 && this.#pending.has(key) ? this.#pending.get(key) : this.#space.get(key)
  }

  /** Takes over `value`. */
  set(key: string, value: Uint8Array): void {
    this.#pending.set(key, value)
  }

  /** Gives whether there was something to delete. */
  delete(key: string): boolean {
    if (this.get(key) === undefined) return false
    this.#pending.set(key, undefined)
    return true
  }

  /** Puts everything into the space and gives it as writes. When the space fails, puts back what it had taken and throws. */
  commit(name: string): Write[] {
    const writes: Write[] = []
    const before: (readonly [string, Uint8Array | undefined])[] = []
    try {
      for (const [key, value] of this.#pending) {
        before.push([key, this.#space.get(key)])
        apply(this.#space, key, value)
        writes.push({ space: name, key, value })
      }
    } catch (thrown) {
      for (const [key, value] of before.reverse()) apply(this.#space, key, value)
      throw thrown
    }
    return writes
  }
}

function apply(space: Space, key: string, value: Uint8Array | undefined): void {
  if (value === undefined) space.delete(key)
  else space.set(key, value)
}
