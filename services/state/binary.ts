/**
 * The byte forms that blocks and batches are made of. Canonical: each value has exactly one encoding, so whatever the
 * reader accepts, the writer gives back bit for bit, and two members that agree on a value agree on its hash. The reader
 * is total: every malformed byte ends in the error its owner made for it, with the offset; it allocates nothing that
 * the remaining bytes could not hold.
 *
 * Integers are LEB128 (7 bits a byte, low first, no superfluous bytes) up to 2^53 − 1. A string table grows as it is
 * read: a reference equal to the table's size is followed by a new entry, a smaller one names an older entry.
 */
import { isUtf8 } from 'node:buffer'

/** Most bytes one LEB128 integer up to 2^53 − 1 takes. */
const INTEGER_BYTES = 8
const ID_LENGTH = 32
const BEYOND_LATIN1 = /[^\u0000-\u00ff]/
/** Up to here text is written unit by unit: a native call would take longer. */
const SHORT_TEXT = 32
const LONE_SURROGATE = /\p{Surrogate}/u

const NO_DIGIT = 0x10
/** The value of a lower-case hex digit, by its code. */
const DIGITS = Uint8Array.from({ length: 0x80 }, (_, code) => {
  const value = '0123456789abcdef'.indexOf(String.fromCharCode(code))
  return value < 0 ? NO_DIGIT : value
})

/** Throws; called with where and what was expected. */
export type Refuse = (offset: number, expected: string) => never

/** Upper bounds of what a value takes, for sizing a buffer before writing. */
export const BOUND = Object.freeze({
  id: 16,
  integer: INTEGER_BYTES,
  u64: 8,
  bytes: (length: number): number => INTEGER_BYTES + length,
  /** UTF-8 takes at most three bytes a UTF-16 unit. */
  text: (value: string): number => 2 * INTEGER_BYTES + 3 * value.length,
})

/** Writes into a buffer of a size computed by its owner beforehand. `refuse` gets the offset and what was expected. */
export class ByteWriter {
  readonly #bytes: Buffer
  readonly #refuse: Refuse
  readonly #table = new Map<string, number>()
  #at = 0

  constructor(size: number, refuse: Refuse) {
    this.#bytes = Buffer.allocUnsafe(size)
    this.#refuse = refuse
  }

  /** What was written, as a view. */
  written(): Buffer {
    return this.#bytes.subarray(0, this.#at)
  }

  u8(value: number): void {
    this.#bytes[this.#at++] = value
  }

  integer(value: number): void {
    if (value < 0 || !Number.isSafeInteger(value)) this.#refuse(this.#at, 'an integer from 0 to 2^53 - 1')
    let rest = value
    while (rest >= 0x80) {
      this.#bytes[this.#at++] = (rest % 0x80) | 0x80
      rest = rest < 0x8000_0000 ? rest >>> 7 : Math.floor(rest / 0x80)
    }
    this.#bytes[this.#at++] = rest
  }

  u64(value: bigint): void {
    const small = Number(value)
    // A number is written several times as fast, and gas is one nearly always.
    if (small >= 0 && small <= Number.MAX_SAFE_INTEGER) {
      this.#at = this.#bytes.writeUInt32LE(small % 0x1_0000_0000, this.#at)
      this.#at = this.#bytes.writeUInt32LE(Math.floor(small / 0x1_0000_0000), this.#at)
      return
    }
    if (value < 0n || value > 0xffff_ffff_ffff_ffffn) this.#refuse(this.#at, 'an integer from 0 to 2^64 - 1')
    this.#at = this.#bytes.writeBigUInt64LE(value, this.#at)
  }

  /** 32 lower-case hex digits as 16 bytes. */
  id(value: string): void {
    if (value.length !== ID_LENGTH) this.#refuse(this.#at, '32 lower-case hex digits')
    let known = 0
    for (let i = 0; i < ID_LENGTH; i += 2) {
      const high = DIGITS[value.charCodeAt(i)] ?? NO_DIGIT
      const low = DIGITS[value.charCodeAt(i + 1)] ?? NO_DIGIT
      known |= high | low
      this.#bytes[this.#at + (i >> 1)] = (high << 4) | low
    }
    if (known >= NO_DIGIT) this.#refuse(this.#at, '32 lower-case hex digits')
    this.#at += ID_LENGTH / 2
  }

  raw(value: Uint8Array): void {
    this.#bytes.set(value, this.#at)
    this.#at += value.length
  }

  bytes(value: Uint8Array): void {
    this.integer(value.length)
    this.raw(value)
  }

  latin1(value: string): void {
    this.integer(value.length)
    if (value.length > SHORT_TEXT) {
      if (BEYOND_LATIN1.test(value)) this.#refuse(this.#at, 'a byte string in latin1')
      this.#at += this.#bytes.write(value, this.#at, 'latin1')
      return
    }
    let units = 0
    for (let i = 0; i < value.length; i++) {
      const unit = value.charCodeAt(i)
      units |= unit
      this.#bytes[this.#at + i] = unit
    }
    if (units > 0xff) this.#refuse(this.#at, 'a byte string in latin1')
    this.#at += value.length
  }

  utf8(value: string): void {
    const length = Buffer.byteLength(value)
    if (length !== value.length && LONE_SURROGATE.test(value)) this.#refuse(this.#at, 'text without lone surrogates')
    this.integer(length)
    this.#at += this.#bytes.write(value, this.#at)
  }

  /** Text that tends to repeat: a reference into the table, with the text itself the first time. */
  reference(value: string): void {
    const known = this.#table.get(value)
    if (known !== undefined) return this.integer(known)
    this.integer(this.#table.size)
    this.#table.set(value, this.#table.size)
    this.utf8(value)
  }
}

/** Reads what `ByteWriter` wrote. Byte strings are views into the input, which must not change while they are in use. */
export class ByteReader {
  readonly #bytes: Buffer
  readonly #refuse: Refuse
  readonly #table: string[] = []
  readonly #tabled = new Set<string>()
  readonly #end: number
  #at = 0

  /** Reads `bytes` up to `end`, by default all of them. */
  constructor(bytes: Uint8Array, refuse: Refuse, end: number = bytes.length) {
    this.#bytes = Buffer.isBuffer(bytes) ? bytes : Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length)
    this.#refuse = refuse
    this.#end = end
  }

  get offset(): number {
    return this.#at
  }

  /** Refuses, by default at the present offset. */
  fail(expected: string, at = this.#at): never {
    return this.#refuse(at, expected)
  }

  /** Refuses unless every byte was read. */
  done(): void {
    if (this.#at !== this.#end) this.fail('the end')
  }

  u8(expected: string): number {
    if (this.#at >= this.#end) this.fail(expected)
    return this.#bytes[this.#at++] as number
  }

  integer(expected: string): number {
    const start = this.#at
    let value = 0
    let scale = 1
    for (;;) {
      const byte = this.u8(expected)
      value += (byte & 0x7f) * scale
      if (byte < 0x80) {
        if ((byte === 0 && scale > 1) || !Number.isSafeInteger(value)) this.#refuse(start, `${expected} in its shortest form`)
        return value
      }
      scale *= 0x80
      if (this.#at - start === INTEGER_BYTES) this.#refuse(start, `${expected} below 2^53`)
    }
  }

  /** A count of things that take at least `each` bytes: refused when the remaining bytes cannot hold them. */
  count(each: number, expected: string): number {
    const start = this.#at
    const value = this.integer(expected)
    if (value > (this.#end - this.#at) / each) this.#refuse(start, `${expected} that fits the bytes`)
    return value
  }

  u64(expected: string): bigint {
    return this.#bytes.readBigUInt64LE(this.#take(8, expected))
  }

  id(expected: string): string {
    const start = this.#take(16, expected)
    return this.#bytes.toString('hex', start, start + 16)
  }

  raw(length: number, expected: string): Uint8Array {
    const start = this.#take(length, expected)
    return this.#bytes.subarray(start, start + length)
  }

  bytes(expected: string): Uint8Array {
    return this.raw(this.integer(expected), expected)
  }

  /** Passes bytes and gives where they start. */
  pass(length: number, expected: string): number {
    return this.#take(length, expected)
  }

  latin1(expected: string): string {
    const length = this.integer(expected)
    const start = this.#take(length, expected)
    return this.#bytes.toString('latin1', start, start + length)
  }

  utf8(expected: string): string {
    const length = this.integer(expected)
    const start = this.#take(length, expected)
    const end = start + length
    for (let at = start; at < end; at++) {
      if ((this.#bytes[at] as number) < 0x80) continue
      if (!isUtf8(this.#bytes.subarray(start, end))) this.#refuse(start, `${expected} in UTF-8`)
      return this.#bytes.toString('utf8', start, end)
    }
    return this.#bytes.toString('latin1', start, end)
  }

  reference(expected: string): string {
    const start = this.#at
    const index = this.integer(expected)
    const known = this.#table[index]
    if (known !== undefined) return known
    if (index !== this.#table.length) this.#refuse(start, `${expected} that the table holds or that comes next`)
    const value = this.utf8(expected)
    if (this.#tabled.has(value)) this.#refuse(start, `${expected} by its place in the table`)
    this.#tabled.add(value)
    this.#table.push(value)
    return value
  }

  /** Passes `length` bytes and gives where they start. */
  #take(length: number, expected: string): number {
    const start = this.#at
    if (length > this.#end - start) this.fail(`${expected} of ${length} bytes`)
    this.#at = start + length
    return start
  }
}
