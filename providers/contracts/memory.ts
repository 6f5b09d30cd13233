/**
 * A contract's memory as bytes and as short texts. It lives as long as the instance, since making it costs as much as using it, and
 * follows the memory when that grows.
 *
 * A call that does what the one before did has its keys and topics in the same places: a text is kept by its place, and compared instead
 * of made. It is the same string then, so that whoever looks it up need not hash it again.
 */

const EMPTY = new Uint8Array(0)
const NO_WORDS = new Int32Array(0)
/** Longest text that is kept: comparing a longer one would take longer than making it. */
const KEPT_LENGTH = 31
/** Most texts kept of one instance. */
const KEPT_TEXTS = 64

export class MemoryView {
  readonly #memory: WebAssembly.Memory | undefined
  readonly #texts = new Map<number, string>()
  #bytes: Uint8Array = EMPTY
  #words = new Int32Array(EMPTY.buffer)
  #text = Buffer.from(EMPTY.buffer)

  constructor(memory: WebAssembly.Memory | undefined) {
    this.#memory = memory
  }

  /** Growing a memory detaches its old buffer, which leaves a view of length 0. */
  get bytes(): Uint8Array {
    if (this.#bytes.length === 0 && this.#memory !== undefined) {
      this.#bytes = new Uint8Array(this.#memory.buffer)
      this.#words = new Int32Array(this.#memory.buffer)
      this.#text = Buffer.from(this.#memory.buffer)
    }
    return this.#bytes
  }

  /** The same four bytes at a time, the lowest first or last as the machine has it. */
  get words(): Int32Array {
    return this.bytes.length === 0 ? NO_WORDS : this.#words
  }

  /** A range that lies within `bytes`, byte by byte. */
  latin1(at: number, length: number): string {
    if (length > KEPT_LENGTH) return this.#text.toString('latin1', at, at + length)
    const place = at * (KEPT_LENGTH + 1) + length
    const known = this.#texts.get(place)
    if (known !== undefined && this.#holds(known, at)) return known
    const text = this.#text.toString('latin1', at, at + length)
    if (this.#texts.size >= KEPT_TEXTS) this.#texts.clear()
    this.#texts.set(place, text)
    return text
  }

  #holds(text: string, at: number): boolean {
    const bytes = this.#bytes
    for (let i = 0; i < text.length; i++) if (bytes[at + i] !== text.charCodeAt(i)) return false
    return true
  }
}
