/**
 * Memory for values that are read back in their thousands: many small ones share one allocation, which takes half the memory and a
 * third of the time of one each. What shares a slab keeps all of it, so slabs are small, and for values that are likely to stay.
 */
const SLAB_BYTES = 8 * 1024
/** Longer ones have an allocation of their own. */
const SMALL_BYTES = 512

export class Slabs {
  #slab = new Uint8Array(0)
  #at = 0

  /** A copy of `bytes` that is never written again. */
  copy(bytes: Uint8Array): Uint8Array {
    const { length } = bytes
    if (length > SMALL_BYTES) return new Uint8Array(bytes)
    if (this.#at + length > this.#slab.length) {
      this.#slab = new Uint8Array(SLAB_BYTES)
      this.#at = 0
    }
    const start = this.#at
    this.#at = start + length
    this.#slab.set(bytes, start)
    return new Uint8Array(this.#slab.buffer, start, length)
  }
}
