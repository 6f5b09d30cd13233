/**
 * Escapes of JSON strings (RFC 8259, 7) as the bytes they stand for, and hex digits as their values. For `reader.ts`, which owns the
 * cursor.
 */
import { wrong } from './reader'
import { decoded } from './text'
import { utf8 } from './writer'

/** Escapes only ever shrink, so that as many bytes as came in are enough. */
export function unescaped(start: usize, stop: usize): string {
  const bytes = heap.alloc(stop - start)
  let to = bytes
  let from = start
  while (from < stop) {
    const byte = load<u8>(from++)
    if (byte != 0x5c) {
      store<u8>(to++, byte)
      continue
    }
    const kind = load<u8>(from++)
    if (kind != 0x75) {
      const escaped = shortEscape(kind)
      if (!escaped) return refuse('a known escape after \\')
      store<u8>(to++, escaped)
      continue
    }
    let code = hex4(from, stop)
    if (code > 0xffff) return refuse('four hex digits after \\u')
    from += 4
    if ((code & 0xfc00) == 0xd800) {
      if (stop - from < 6 || load<u16>(from) != 0x755c) return refuse('whole surrogate pairs')
      const trail = hex4(from + 2, stop)
      if ((trail & 0xfc00) != 0xdc00) return refuse('whole surrogate pairs')
      code = 0x10000 + ((code & 0x3ff) << 10) + (trail & 0x3ff)
      from += 6
    } else if ((code & 0xfc00) == 0xdc00) {
      return refuse('whole surrogate pairs')
    }
    to = utf8(to, code)
  }
  return decoded(bytes, to - bytes)
}

function refuse(what: string): string {
  wrong(what)
  return ''
}

/** The byte that a letter after a backslash stands for, 0 when there is none. */
function shortEscape(kind: u8): u8 {
  switch (kind) {
    case 0x22: case 0x2f: case 0x5c: return kind
    case 0x62: return 0x08
    case 0x66: return 0x0c
    case 0x6e: return 0x0a
    case 0x72: return 0x0d
    case 0x74: return 0x09
    default: return 0
  }
}

/** More than 0xffff when four hex digits do not stand there. */
function hex4(at: usize, stop: usize): u32 {
  if (stop - at < 4) return 0x10000
  let value: u32 = 0
  for (let i: usize = 0; i < 4; i++) {
    const digit = hexDigit(load<u8>(at + i))
    if (digit > 15) return 0x10000
    value = (value << 4) | digit
  }
  return value
}

/** More than 15 for what is none. */
export function hexDigit(byte: u32): u32 {
  let digit = byte - 0x30
  if (digit > 9) {
    digit = (byte | 0x20) - 0x61
    if (digit > 5) return 16
    digit += 10
  }
  return digit
}
