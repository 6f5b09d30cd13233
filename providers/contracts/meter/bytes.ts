/**
 * Reading and writing the primitives of the WebAssembly binary format: bytes, LEB128 numbers, names, ranges. A reader never reads past
 * its range and refuses with the offset in the module; a writer grows as it must.
 *
 * Source: WebAssembly Core Specification 2.0, sections 5.2.1 to 5.2.4.
 */
import { malformed } from './refusals.ts'

/** Keeps a byte order mark: to the engine it is part of the name. */
const UTF8 = new TextDecoder('utf-8', { ignoreBOM: true })

export class ByteReader {
  readonly bytes: Uint8Array
  readonly end: number
  at: number

  constructor(bytes: Uint8Array, at: number, end: number) {
    this.bytes = bytes
    this.at = at
    this.end = end
  }

  get done(): boolean {
    return this.at >= this.end
  }

  byte(): number {
    if (this.at >= this.end) malformed(this.at, 'it ends early')
    return this.bytes[this.at++] ?? 0
  }

  /** At most 5 bytes and 32 bits. */
  u32(): number {
    const first = this.byte()
    if (first < 0x80) return first
    let value = first & 0x7f
    for (let shift = 7; shift < 35; shift += 7) {
      const byte = this.byte()
      value += (byte & 0x7f) * 2 ** shift
      if (byte < 0x80) return value <= 0xffffffff ? value : malformed(this.at, 'a number has more than 32 bits')
    }
    return malformed(this.at, 'a number has more than 32 bits')
  }

  /** A signed number of at most `most` bytes, unread: its value decides nothing. */
  skipNumber(most: number): void {
    const from = this.at
    while (this.byte() >= 0x80) if (this.at - from >= most) malformed(this.at, 'a number is too long')
  }

  skip(length: number): void {
    if (length > this.end - this.at) malformed(this.at, 'it ends early')
    this.at += length
  }

  /** The next `length` bytes as a reader of their own. */
  take(length: number): ByteReader {
    const from = this.at
    this.skip(length)
    return new ByteReader(this.bytes, from, this.at)
  }

  name(): string {
    const length = this.u32()
    const from = this.at
    this.skip(length)
    return UTF8.decode(this.bytes.subarray(from, this.at))
  }
}

export class ByteWriter {
  #bytes: Uint8Array
  #length = 0

  constructor(capacity: number) {
    this.#bytes = new Uint8Array(Math.max(16, capacity))
  }

  get length(): number {
    return this.#length
  }

  /** A view of what was written, good until the next write. */
  get written(): Uint8Array {
    return this.#bytes.subarray(0, this.#length)
  }

  /** Forgets what was written and keeps the room. */
  clear(): void {
    this.#length = 0
  }

  byte(value: number): void {
    if (this.#length === this.#bytes.length) this.#grow(1)
    this.#bytes[this.#length++] = value
  }

  bytes(...values: readonly number[]): void {
    this.list(values)
  }

  list(values: readonly number[]): void {
    if (this.#length + values.length > this.#bytes.length) this.#grow(values.length)
    for (let index = 0; index < values.length; index++) this.#bytes[this.#length++] = values[index] ?? 0
  }

  /** An opcode and the index behind it. */
  op(opcode: number, index: number): void {
    this.byte(opcode)
    this.u32(index)
  }

  range(source: Uint8Array, from: number, to: number): void {
    const length = to - from
    if (length <= 0) return
    if (this.#length + length > this.#bytes.length) this.#grow(length)
    if (length < 24) {
      const bytes = this.#bytes
      let at = this.#length
      for (let index = from; index < to; index++) bytes[at++] = source[index] ?? 0
    } else {
      this.#bytes.set(source.subarray(from, to), this.#length)
    }
    this.#length += length
  }

  u32(value: number): void {
    let left = value
    while (left > 0x7f) {
      this.byte((left % 0x80) | 0x80)
      left = Math.floor(left / 0x80)
    }
    this.byte(left)
  }

  /** A signed number within 2^53. */
  signed(value: number): void {
    let left = value
    for (;;) {
      const low = ((left % 0x80) + 0x80) % 0x80
      left = (left - low) / 0x80
      if ((left === 0 && low < 0x40) || (left === -1 && low >= 0x40)) {
        this.byte(low)
        return
      }
      this.byte(low | 0x80)
    }
  }

  name(text: string): void {
    const encoded = new TextEncoder().encode(text)
    this.u32(encoded.length)
    this.range(encoded, 0, encoded.length)
  }

  /** Another writer's bytes with their length before them. */
  sized(content: ByteWriter): void {
    this.u32(content.length)
    this.range(content.written, 0, content.length)
  }

  #grow(by: number): void {
    const larger = new Uint8Array(Math.max(this.#bytes.length * 2, this.#length + by))
    larger.set(this.#bytes.subarray(0, this.#length))
    this.#bytes = larger
  }
}
