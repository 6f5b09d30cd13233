/**
 * JSON text in UTF-8, written straight into memory: results, events and the arguments of nested calls. Canonical: no space,
 * fields in the order of their declaration, numbers beyond ±(2^53 − 1) in quotes, bytes as lower-case hex, and of the ways to
 * escape a character the shortest.
 */
import { numberEnd, shortEscape, writeNumber } from './json'
import { narrowed, plainWritten } from './text'

const HEX = '0123456789abcdef'

export class JsonWriter {
  /** Where the text begins; it moves when the text grows. */
  start: usize
  private at: usize
  private end: usize

  constructor(capacity: usize = 120) {
    const start = heap.alloc(capacity)
    this.start = start
    this.at = start
    this.end = start + capacity
  }

  get length(): i32 {
    return <i32>(this.at - this.start)
  }

  /** Text that is JSON already, of ASCII alone. */
  raw(text: string): void {
    const units = text.length
    this.room(units)
    narrowed(changetype<usize>(text), units, this.at)
    this.at += units
  }

  byte(code: u8): void {
    this.room(1)
    store<u8>(this.at++, code)
  }

  /** A value of any type that crosses to a caller. */
  value<T>(value: T): void {
    if (isString<T>()) {
      this.text(changetype<string>(value))
    } else if (isBoolean<T>()) {
      this.raw(value ? 'true' : 'false')
    } else if (isInteger<T>()) {
      // The lowest number negates to itself, which is its magnitude as u64.
      if (isSigned<T>()) this.number(<u64>(<i64>value < 0 ? -(<i64>value) : <i64>value), <i64>value < 0)
      else this.number(<u64>value, false)
    } else if (isFloat<T>()) {
      ERROR('A number with a fraction does not cross between contracts and callers')
    } else if (isArray<T>()) {
      this.byte(0x5b)
      for (let i = 0; i < value.length; i++) {
        if (i) this.byte(0x2c)
        this.value<valueof<T>>(value[i])
      }
      this.byte(0x5d)
    } else if (idof<T>() == idof<Uint8Array>()) {
      const view = changetype<Uint8Array>(value)
      this.hex(view.dataStart, view.byteLength)
    } else if (idof<T>() == idof<ArrayBuffer>()) {
      this.hex(changetype<usize>(value), changetype<ArrayBuffer>(value).byteLength)
    } else {
      value.__json<JsonWriter>(this)
    }
  }

  number(magnitude: u64, negative: bool): void {
    const from = writeNumber(magnitude, negative)
    const length = numberEnd() - from
    this.room(<i32>length)
    memory.copy(this.at, from, length)
    this.at += length
  }

  /** A JSON string of the text. */
  text(text: string): void {
    const units = text.length
    this.room(units + 2)
    store<u8>(this.at++, 0x22)
    this.characters(text, units)
    store<u8>(this.at++, 0x22)
  }

  private characters(text: string, units: i32): void {
    const from = changetype<usize>(text)
    for (let i = 0; i < units;) {
      const plain = plainWritten(from + (<usize>i << 1), units - i, this.at)
      this.at += plain
      i += <i32>plain
      for (const stop = min(i + 8, units); i < stop; i++) {
        const code = <u32>load<u16>(from + (<usize>i << 1))
        // What is left needs a byte each at least, and the quote; a character takes at most six.
        if (this.end - this.at < 8 + <usize>(units - i)) this.room(8 + 2 * (units - i))
        if (code >= 0x20 && code < 0x80 && code != 0x22 && code != 0x5c) store<u8>(this.at++, <u8>code)
        else if (this.character(code, i + 1 < units ? <u32>load<u16>(from + (<usize>i << 1), 2) : 0)) i++
      }
    }
  }

  /** What is not one byte as it stands; gives whether it took the next unit too. There is room. */
  private character(code: u32, next: u32): bool {
    let at = this.at
    let pair = false
    if (code < 0x20 || code == 0x22 || code == 0x5c) {
      const short = shortEscape(code)
      if (short) {
        store<u16>(at, <u16>(0x5c | (short << 8)))
        this.at = at + 2
      } else {
        this.escape(code)
      }
      return false
    }
    if ((code & 0xf800) == 0xd800) {
      if (code >= 0xdc00 || (next & 0xfc00) != 0xdc00) {
        // Half a pair has no place in UTF-8.
        this.escape(code)
        return false
      }
      code = 0x10000 + ((code & 0x3ff) << 10) + (next & 0x3ff)
      pair = true
    }
    this.at = utf8(at, code)
    return pair
  }

  private escape(code: u32): void {
    const at = this.at
    store<u16>(at, 0x755c)
    for (let i: u32 = 0; i < 4; i++) store<u8>(at + 2 + i, <u8>HEX.charCodeAt((code >> (12 - 4 * i)) & 15))
    this.at = at + 6
  }

  private hex(from: usize, length: i32): void {
    this.room(2 * length + 2)
    let at = this.at
    store<u8>(at++, 0x22)
    for (let i = 0; i < length; i++) {
      const byte = load<u8>(from + i)
      store<u8>(at++, <u8>HEX.charCodeAt(byte >> 4))
      store<u8>(at++, <u8>HEX.charCodeAt(byte & 15))
    }
    store<u8>(at++, 0x22)
    this.at = at
  }

  /** Makes room for more. The newest block of memory grows where it stands. */
  private room(bytes: i32): void {
    const need = this.at + <usize>bytes
    if (need <= this.end) return
    const length = this.at - this.start
    const capacity = (length + <usize>bytes) * 2
    this.start = heap.realloc(this.start, capacity)
    this.at = this.start + length
    this.end = this.start + capacity
  }
}

/** Writes a character, and gives where it ends. */
export function utf8(to: usize, code: u32): usize {
  if (code < 0x80) {
    store<u8>(to, <u8>code)
    return to + 1
  }
  if (code < 0x800) {
    store<u8>(to, <u8>(0xc0 | (code >> 6)))
    store<u8>(to, <u8>(0x80 | (code & 0x3f)), 1)
    return to + 2
  }
  if (code < 0x10000) {
    store<u8>(to, <u8>(0xe0 | (code >> 12)))
    store<u8>(to, <u8>(0x80 | ((code >> 6) & 0x3f)), 1)
    store<u8>(to, <u8>(0x80 | (code & 0x3f)), 2)
    return to + 3
  }
  store<u8>(to, <u8>(0xf0 | (code >> 18)))
  store<u8>(to, <u8>(0x80 | ((code >> 12) & 0x3f)), 1)
  store<u8>(to, <u8>(0x80 | ((code >> 6) & 0x3f)), 2)
  store<u8>(to, <u8>(0x80 | (code & 0x3f)), 3)
  return to + 4
}
