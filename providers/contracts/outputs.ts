/**
 * Room for the outputs of views, one behind the other in stretches of memory: most are handed on and forgotten, and memory of its own for each
 * takes longer to come by, and to give back, than all the rest that is done with it.
 *
 * Invariant: bytes are written once. An output stays what it was, and keeps its whole stretch; whoever keeps outputs for long copies them.
 */

const STRETCH_BYTES = 8_192
/** Larger ones have memory of their own. */
const SHARED_BYTES = 512

export class Outputs {
  #stretch = new ArrayBuffer(0)
  #used = 0

  /** A copy of a range that lies within `bytes`. */
  copy(bytes: Uint8Array, at: number, length: number): Uint8Array {
    if (length > SHARED_BYTES) return bytes.slice(at, at + length)
    if (this.#used + length > this.#stretch.byteLength) {
      this.#stretch = new ArrayBuffer(STRETCH_BYTES)
      this.#used = 0
    }
    const output = new Uint8Array(this.#stretch, this.#used, length)
    output.set(bytes.subarray(at, at + length))
    this.#used += length
    return output
  }
}
