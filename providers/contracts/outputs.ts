/**
 * Room for the outputs of views, one behind the other in stretches of memory: most are handed on and forgotten, and memory of its own for each
 * takes longer to come by, and to give back, than all the rest that is done with it.
 *
 * Invariant: bytes are written once. An output stays what it was, and keeps its whole stretch; whoever keeps outputs for long copies them.
 */
import type { MemoryView } from './memory.ts'

const STRETCH_BYTES = 8_192
/** Larger ones have memory of their own. */
const SHARED_BYTES = 512
/** Up to here bytes are copied one by one where they do not begin at a word: a native call would take longer. */
const SHORT = 32
/** In four bytes each bit that ASCII has not. */
const NO_ASCII = 0x80808080 | 0

export class Outputs {
  #stretch = new ArrayBuffer(0)
  #words = new Int32Array(this.#stretch)
  /** More than a stretch has: the first output takes one, an empty one too. */
  #used = STRETCH_BYTES + 1
  /** Whether the last copy is known to be ASCII, which was looked at on the way. */
  ascii = false

  /** A copy of a range that lies within the memory. */
  copy(memory: MemoryView, at: number, length: number): Uint8Array {
    this.ascii = false
    if (length > SHARED_BYTES) return memory.bytes.slice(at, at + length)
    // Whole words, so that each begins at one.
    const room = length + 3 & ~3
    if (this.#used + room > STRETCH_BYTES) {
      this.#stretch = new ArrayBuffer(STRETCH_BYTES)
      this.#words = new Int32Array(this.#stretch)
      this.#used = 0
    }
    const output = new Uint8Array(this.#stretch, this.#used, length)
    if ((at & 3) === 0) this.#copyWords(memory, at, output)
    else if (length > SHORT) output.set(memory.bytes.subarray(at, at + length))
    else for (let i = 0; i < length; i++) output[i] = memory.bytes[at + i] as number
    this.#used += room
    return output
  }

  /** Short ones are copied faster than a native call is made, which takes one more to look at them. */
  #copyWords({ bytes, words }: MemoryView, at: number, output: Uint8Array): void {
    const own = this.#words
    const { length } = output
    const from = at >>> 2
    const to = this.#used >>> 2
    const whole = length >>> 2
    let seen = 0
    for (let i = 0; i < whole; i++) seen |= own[to + i] = words[from + i] as number
    for (let i = 4 * whole; i < length; i++) seen |= output[i] = bytes[at + i] as number
    this.ascii = (seen & NO_ASCII) === 0
  }
}
