/**
 * Text between UTF-8 and what the language keeps it as, UTF-16: eight characters at a time while they are ASCII, which most are. What is
 * not ASCII goes the library's way, one character after the other.
 */
import { OBJECT_OVERHEAD } from 'rt/common'

/** The bit of each byte that ASCII has not. */
const HIGH: u64 = 0x8080808080808080
/** The bits of each of four units that ASCII has not. */
const WIDE: u64 = 0xff80ff80ff80ff80

/** The text that UTF-8 stands for. */
export function decoded(from: usize, length: usize): string {
  const text = __new(length << 1, idof<string>())
  if (widened(from, length, text)) return changetype<string>(text)
  heap.free(text - OBJECT_OVERHEAD)
  return String.UTF8.decodeUnsafe(from, length)
}

/** The text as UTF-8. Half a surrogate pair reverts. */
export function encoded(text: string): ArrayBuffer {
  const bytes = __new(text.length, idof<ArrayBuffer>())
  if (narrowed(changetype<usize>(text), text.length, bytes)) return changetype<ArrayBuffer>(bytes)
  heap.free(bytes - OBJECT_OVERHEAD)
  return String.UTF8.encode(text, false, String.UTF8.ErrorMode.ERROR)
}

/** Writes ASCII as units; false when there is a byte that is none. */
function widened(from: usize, length: usize, to: usize): bool {
  if (length < 8) {
    for (let i: usize = 0; i < length; i++) {
      const byte = load<u8>(from + i)
      if (byte & 0x80) return false
      store<u16>(to + (i << 1), byte)
    }
    return true
  }
  // The last eight may be among those before: they are written again then.
  const last = length - 8
  let i: usize = 0
  while (true) {
    const bytes = load<u64>(from + i)
    if (bytes & HIGH) return false
    const at = to + (i << 1)
    store<u64>(at, spread(bytes & 0xffffffff))
    store<u64>(at, spread(bytes >> 32), 8)
    if (i == last) return true
    i = min(i + 8, last)
  }
}

/** Writes units as ASCII, as many bytes as there are units; false when there is one that is none, after some may have been written. */
export function narrowed(from: usize, units: usize, to: usize): bool {
  if (units < 8) {
    for (let i: usize = 0; i < units; i++) {
      const unit = load<u16>(from + (i << 1))
      if (unit > 0x7f) return false
      store<u8>(to + i, <u8>unit)
    }
    return true
  }
  const last = units - 8
  let i: usize = 0
  while (true) {
    const at = from + (i << 1)
    const first = load<u64>(at)
    const second = load<u64>(at, 8)
    if ((first | second) & WIDE) return false
    store<u64>(to + i, packed(first) | (packed(second) << 32))
    if (i == last) return true
    i = min(i + 8, last)
  }
}

/**
 * Writes units as bytes of a JSON string, to the end or as far as none among the next eight is one that cannot stand there as one byte, and gives
 * how many.
 */
export function plainWritten(from: usize, units: usize, to: usize): usize {
  if (units < 8) {
    for (let i: usize = 0; i < units; i++) {
      const unit = <u32>load<u16>(from + (i << 1))
      if (unit - 0x20 > 0x5f || unit == 0x22 || unit == 0x5c) return i
      store<u8>(to + i, <u8>unit)
    }
    return units
  }
  const last = units - 8
  let i: usize = 0
  while (true) {
    const at = from + (i << 1)
    const first = load<u64>(at)
    const second = load<u64>(at, 8)
    if ((first | second) & WIDE) return i
    const bytes = packed(first) | (packed(second) << 32)
    if (special(bytes)) return i
    store<u64>(to + i, bytes)
    if (i == last) return units
    i = min(i + 8, last)
  }
}

/** The first byte that cannot stand in a JSON string as it is, or is not ASCII, or with which fewer than eight are left. */
export function plainEnd(from: usize, end: usize): usize {
  let at = from
  while (end - at >= 8) {
    const bytes = load<u64>(at)
    if (bytes & HIGH) break
    const found = special(bytes)
    if (found) return at + <usize>(ctz(found) >> 3)
    at += 8
  }
  return at
}

/** The high bit of each of eight characters of ASCII that is a control character, a quote or a backslash. */
// @ts-ignore: a decorator of the compiler's.
@inline
function special(bytes: u64): u64 {
  // Of characters below 80 no sum here reaches into the next byte.
  const printing = bytes + 0x6060606060606060
  const unquoted = (bytes ^ 0x2222222222222222) + 0x7f7f7f7f7f7f7f7f
  const straight = (bytes ^ 0x5c5c5c5c5c5c5c5c) + 0x7f7f7f7f7f7f7f7f
  return ~(printing & unquoted & straight) & HIGH
}

/** Four bytes as units. */
// @ts-ignore: a decorator of the compiler's.
@inline
function spread(bytes: u64): u64 {
  const pairs = (bytes | (bytes << 16)) & 0x0000ffff0000ffff
  return (pairs | (pairs << 8)) & 0x00ff00ff00ff00ff
}

/** Four units of ASCII as bytes. */
// @ts-ignore: a decorator of the compiler's.
@inline
function packed(units: u64): u64 {
  const pairs = (units | (units >> 8)) & 0x0000ffff0000ffff
  return (pairs | (pairs >> 16)) & 0xffffffff
}
