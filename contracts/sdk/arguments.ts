/**
 * A cursor over the input of a call, a JSON array as UTF-8 text, for the generated wrappers: `begin`, one reader per
 * parameter in order, `end`. Each value is checked wholly; whatever does not fit reverts with the number and the name of the
 * argument and what was expected. The host has made sure that the input is UTF-8.
 */
import { revert } from './errors'
import { input, take } from './host'
import { number } from './json'

let cursor: usize = 0
let limit: usize = 0
/** Arguments read so far. */
let count: u32 = 0

export function begin(): void {
  const length = input()
  if (!length) return
  cursor = changetype<usize>(take(length))
  limit = cursor + <usize>length
  skipSpace()
  if (peek() != 0x5b) revert('the arguments are not a JSON array')
  cursor++
}

/** Whether another argument follows: those with defaults ask before they read. */
export function more(): bool {
  skipSpace()
  return cursor < limit && peek() != 0x5d
}

/** `most`: how many parameters there are. */
export function end(most: u32): void {
  if (!limit) return
  skipSpace()
  if (peek() == 0x2c || (!most && more())) {
    revert(most ? 'expected at most ' + number(most) + (most == 1 ? ' argument' : ' arguments') : 'expected no arguments')
  }
  if (peek() != 0x5d) revert('the arguments are not a JSON array')
  cursor++
  skipSpace()
  if (cursor < limit) revert('something follows the arguments')
}

export function argumentBool(name: string): bool {
  next(name)
  let value = false
  if (literal(0x65757274, 4)) value = true // "true"
  else if (!literal(0x736c6166, 4) || cursor >= limit || load<u8>(cursor++) != 0x65) refuse(name, 'true or false')
  delimited(name, 'true or false')
  return value
}

export function argumentU32(name: string): u32 {
  return <u32>unsigned(name, 0xffffffff, 'a whole number from 0 to 4294967295')
}

export function argumentU64(name: string): u64 {
  return unsigned(name, 0xffffffffffffffff, 'a whole number from 0 to 18446744073709551615')
}

export function argumentI32(name: string): i32 {
  return <i32>signed(name, 0x7fffffff, 'a whole number from -2147483648 to 2147483647')
}

export function argumentI64(name: string): i64 {
  return signed(name, 0x7fffffffffffffff, 'a whole number from -9223372036854775808 to 9223372036854775807')
}

export function argumentString(name: string): string {
  next(name)
  if (peek() != 0x22) refuse(name, 'a string')
  const start = ++cursor
  let escapes = false
  while (cursor < limit) {
    const byte = load<u8>(cursor)
    if (byte == 0x22) break
    if (byte < 0x20) refuse(name, 'a string without raw control characters')
    if (byte == 0x5c) {
      escapes = true
      cursor++
    }
    cursor++
  }
  if (cursor >= limit) refuse(name, 'a closing quote')
  const stop = cursor++
  delimited(name, 'a string')
  return escapes ? unescaped(name, start, stop) : String.UTF8.decodeUnsafe(start, stop - start)
}

function refuse(name: string, expected: string): void {
  revert('argument ' + number(count) + ' (' + name + '): expected ' + expected)
}

/** The byte at the cursor, 0 at the end: no JSON token starts with it. */
function peek(): u32 {
  return cursor < limit ? load<u8>(cursor) : 0
}

function skipSpace(): void {
  while (cursor < limit) {
    const byte = load<u8>(cursor)
    if (byte != 0x20 && byte != 0x0a && byte != 0x0d && byte != 0x09) break
    cursor++
  }
}

/** Moves to the first byte of the next argument. */
function next(name: string): void {
  skipSpace()
  if (!peek() || peek() == 0x5d) revert('argument ' + number(count + 1) + ' (' + name + ') is missing')
  if (count++) {
    if (peek() != 0x2c) refuse(name, 'a comma before it')
    cursor++
    skipSpace()
  }
}

/** A value ends where a comma, a bracket or space begins; an input that ends there is refused by whoever reads on. */
function delimited(name: string, expected: string): void {
  const byte = peek()
  if (byte && byte != 0x2c && byte != 0x5d && byte != 0x20 && byte != 0x0a && byte != 0x0d && byte != 0x09) refuse(name, expected)
}

/** Steps over four bytes if they stand here. */
function literal(bytes: u32, length: usize): bool {
  if (limit - cursor < length || load<u32>(cursor) != bytes) return false
  cursor += length
  return true
}

function unsigned(name: string, most: u64, expected: string): u64 {
  next(name)
  const quoted = quote()
  return magnitude(name, most, quoted, expected)
}

function signed(name: string, most: u64, expected: string): i64 {
  next(name)
  const quoted = quote()
  const negative = peek() == 0x2d
  if (negative) cursor++
  const value = magnitude(name, negative ? most + 1 : most, quoted, expected)
  return negative ? -(<i64>value) : <i64>value
}

/** A number may stand in quotes, for callers whose own numbers end at 2^53. */
function quote(): bool {
  if (peek() != 0x22) return false
  cursor++
  return true
}

function magnitude(name: string, most: u64, quoted: bool, expected: string): u64 {
  const start = cursor
  let value: u64 = 0
  while (cursor < limit) {
    const digit = <u64>load<u8>(cursor) - 0x30
    if (digit > 9) break
    if (value > most / 10 || (value == most / 10 && digit > most % 10)) refuse(name, expected)
    value = value * 10 + digit
    cursor++
  }
  if (cursor == start || (cursor - start > 1 && load<u8>(start) == 0x30)) refuse(name, expected)
  if (quoted) {
    if (peek() != 0x22) refuse(name, expected)
    cursor++
  }
  delimited(name, expected)
  return value
}

/** Escapes only ever shrink, so that as many bytes as came in are enough. */
function unescaped(name: string, start: usize, stop: usize): string {
  const bytes = changetype<usize>(new ArrayBuffer(<i32>(stop - start)))
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
      store<u8>(to++, shortEscape(name, kind))
      continue
    }
    let code = hex4(name, from, stop)
    from += 4
    if ((code & 0xfc00) == 0xd800) {
      if (stop - from < 6 || load<u16>(from) != 0x755c) refuse(name, 'whole surrogate pairs')
      const trail = hex4(name, from + 2, stop)
      if ((trail & 0xfc00) != 0xdc00) refuse(name, 'whole surrogate pairs')
      code = 0x10000 + ((code & 0x3ff) << 10) + (trail & 0x3ff)
      from += 6
    } else if ((code & 0xfc00) == 0xdc00) {
      refuse(name, 'whole surrogate pairs')
    }
    to = utf8(to, code)
  }
  return String.UTF8.decodeUnsafe(bytes, to - bytes)
}

function shortEscape(name: string, kind: u8): u8 {
  switch (kind) {
    case 0x22: case 0x2f: case 0x5c: return kind
    case 0x62: return 0x08
    case 0x66: return 0x0c
    case 0x6e: return 0x0a
    case 0x72: return 0x0d
    case 0x74: return 0x09
    default: refuse(name, 'a known escape after \\')
  }
  return 0
}

function hex4(name: string, at: usize, stop: usize): u32 {
  if (stop - at < 4) refuse(name, 'four hex digits after \\u')
  let value: u32 = 0
  for (let i: usize = 0; i < 4; i++) {
    const byte = <u32>load<u8>(at + i)
    let digit = byte - 0x30
    if (digit > 9) {
      digit = (byte | 0x20) - 0x61
      if (digit > 5) refuse(name, 'four hex digits after \\u')
      digit += 10
    }
    value = (value << 4) | digit
  }
  return value
}

function utf8(to: usize, code: u32): usize {
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
