/**
 * A contract's memory as bytes. It lives as long as the instance, since making it costs as much as using it, and follows the
 * memory when that grows.
 */

const EMPTY = new Uint8Array(0)

export class MemoryView {
  readonly #memory: WebAssembly.Memory | undefined
  #bytes: Uint8Array = EMPTY
  #text = Buffer.from(EMPTY.buffer)

  constructor(memory: WebAssembly.Memory | undefined) {
    this.#memory = memory
  }

  /** Growing a memory detaches its old buffer, which leaves a view of length 0. */
  get bytes(): Uint8Array {
    if (this.#bytes.length === 0 && this.#memory !== undefined) {
      this.#bytes = new Uint8Array(this.#memory.buffer)
      this.#text = Buffer.from(this.#memory.buffer)
    }
    return this.#bytes
  }

  /** A range that lies within `bytes`, byte by byte up to where one native call is cheaper. */
  latin1(at: number, length: number): string {
    if (length > 8) return this.#text.toString('latin1', at, at + length)
    let text = ''
    for (let i = at; i < at + length; i++) text += String.fromCharCode(this.#bytes[i] ?? 0)
    return text
  }
}
