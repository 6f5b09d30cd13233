/**
 * Text as JSON. Escapes what RFC 8259 section 7 demands, and half surrogate pairs, so that the outcome is always valid UTF-8.
 */

const MAX_SAFE: u64 = 9007199254740991
/** A sign, 20 digits and two quotes, written from the back. */
const digits = memory.data(24)

const HEX = '0123456789abcdef'

/**
 * The number as JSON text. Beyond 2^53 − 1 it stands in quotes, since most readers of JSON would round it; `BigInt(value)`
 * reads both forms.
 */
export function number(value: u64): string {
  const at = writeNumber(value, false)
  return String.UTF8.decodeUnsafe(at, numberEnd() - at)
}

/** Writes a number as JSON text that ends at `numberEnd()`, and gives where it begins. For the SDK itself. */
export function writeNumber(magnitude: u64, negative: bool): usize {
  const quoted = magnitude > MAX_SAFE
  let at = numberEnd()
  if (quoted) store<u8>(--at, 0x22)
  do {
    store<u8>(--at, <u8>(0x30 + magnitude % 10))
    magnitude /= 10
  } while (magnitude)
  if (negative) store<u8>(--at, 0x2d)
  if (quoted) store<u8>(--at, 0x22)
  return at
}

export function numberEnd(): usize {
  return digits + 24
}

/** The text as a JSON string, quotes included. */
export function quote(text: string): string {
  const length = text.length
  let clean = true
  for (let i = 0; i < length; i++) {
    if (needsEscape(text, i)) {
      clean = false
      break
    }
  }
  return clean ? '"' + text + '"' : escaped(text)
}

/** Measures first, so that the result is allocated once. */
function escaped(text: string): string {
  const length = text.length
  let units = 2
  for (let i = 0; i < length; i++) units += needsEscape(text, i) ? (shortEscape(text.charCodeAt(i)) ? 2 : 6) : 1
  const result = changetype<string>(__new(<usize>units << 1, idof<string>()))
  let at = put(changetype<usize>(result), 0x22)
  for (let i = 0; i < length; i++) {
    const code = text.charCodeAt(i)
    if (!needsEscape(text, i)) {
      at = put(at, code)
      continue
    }
    at = put(at, 0x5c)
    const short = shortEscape(code)
    if (short) {
      at = put(at, short)
      continue
    }
    at = put(at, 0x75)
    for (let shift = 12; shift >= 0; shift -= 4) at = put(at, HEX.charCodeAt((code >> shift) & 15))
  }
  put(at, 0x22)
  return result
}

function put(at: usize, code: i32): usize {
  store<u16>(at, <u16>code)
  return at + 2
}

function needsEscape(text: string, i: i32): bool {
  const code = text.charCodeAt(i)
  if (code < 0x20 || code == 0x22 || code == 0x5c) return true
  if ((code & 0xf800) != 0xd800) return false
  // A lead needs a trail after it, a trail a lead before it.
  if (code < 0xdc00) return i + 1 >= text.length || (text.charCodeAt(i + 1) & 0xfc00) != 0xdc00
  return i == 0 || (text.charCodeAt(i - 1) & 0xfc00) != 0xd800
}

/** The letter of a two-character escape, 0 when there is none. */
export function shortEscape(code: i32): i32 {
  switch (code) {
    case 0x08: return 0x62
    case 0x09: return 0x74
    case 0x0a: return 0x6e
    case 0x0c: return 0x66
    case 0x0d: return 0x72
    case 0x22: return 0x22
    case 0x5c: return 0x5c
    default: return 0
  }
}
