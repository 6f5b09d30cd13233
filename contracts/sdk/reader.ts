/**
 * A cursor over JSON text in UTF-8, for arguments, results of nested calls and whatever else a contract reads. Each value is
 * checked wholly; the first that does not fit leaves what was expected in `problem()` and stops the cursor. There is one cursor:
 * whoever opens it reads to the end before anybody else reads.
 */
import { hexDigit, unescaped } from './escapes'
import { decoded, plainEnd } from './text'

let cursor: usize = 0
let limit: usize = 0
let expected: string = ''

export function open(start: usize, length: i32): void {
  cursor = start
  limit = start + <usize>length
  expected = ''
}

/** What was expected where the text has something else; empty while all is well. */
export function problem(): string {
  return expected
}

export function wrong(what: string): void {
  if (!expected.length) expected = what
  cursor = limit
}

/** The byte at the cursor, 0 at the end: no JSON token starts with it. */
export function peek(): u32 {
  return cursor < limit ? load<u8>(cursor) : 0
}

/** The same where speed counts: written out at every place. */
// @ts-ignore: a decorator of the compiler's.
@inline
export function ahead(): u32 {
  return cursor < limit ? load<u8>(cursor) : 0
}

/** The byte at the cursor, or behind the space there. */
export function next(): u32 {
  if (ahead() <= 0x20) skipSpace()
  return ahead()
}

/** Whether a closing bracket is all that is left. */
// @ts-ignore: a decorator of the compiler's.
@inline
export function closes(): bool {
  return limit - cursor == 1 && load<u8>(cursor) == 0x5d
}

export function step(): void {
  cursor++
}

export function skipSpace(): void {
  while (cursor < limit) {
    const byte = load<u8>(cursor)
    if (byte != 0x20 && byte != 0x0a && byte != 0x0d && byte != 0x09) break
    cursor++
  }
}

export function finished(): bool {
  return cursor >= limit
}

/** One value of the type. The cursor stands on its first byte. */
export function read<T>(): T {
  if (isString<T>()) return changetype<T>(readString())
  if (isBoolean<T>()) return <T>readBool()
  if (isInteger<T>()) {
    if (isSigned<T>()) {
      if (sizeof<T>() == 4) return <T>signed(0x7fffffff, 'a whole number from -2147483648 to 2147483647')
      return <T>signed(0x7fffffffffffffff, 'a whole number from -9223372036854775808 to 9223372036854775807')
    }
    if (sizeof<T>() == 4) return <T>unsigned(0xffffffff, 'a whole number from 0 to 4294967295')
    return <T>unsigned(0xffffffffffffffff, 'a whole number from 0 to 18446744073709551615')
  }
  if (isFloat<T>()) ERROR('A number with a fraction does not cross between contracts and callers')
  if (isArray<T>()) return readArray<T>()
  if (idof<T>() == idof<Uint8Array>()) return changetype<T>(readBytes())
  if (idof<T>() == idof<Nothing>()) return changetype<T>(readNull())
  ERROR('Only bool, i32, u32, i64, u64, string, Uint8Array and arrays of these are read')
}

/** Steps over a value of any type, looking only at what nests. */
export function skipValue(): void {
  let depth = 0
  do {
    skipSpace()
    const byte = peek()
    if (byte == 0x22) {
      readString()
    } else if (byte == 0x5b || byte == 0x7b) {
      depth++
      cursor++
    } else if (byte == 0x5d || byte == 0x7d) {
      depth--
      cursor++
    } else if (byte == 0x2c || byte == 0x3a) {
      cursor++
    } else {
      const start = cursor
      while (cursor < limit && !ends(load<u8>(cursor))) cursor++
      if (cursor == start) wrong('a value')
    }
    if (expected.length) return
  } while (depth > 0)
}

/** What a function of type void gives: `call<Nothing>(…)`. */
export class Nothing {}

function readNull(): Nothing {
  if (!literal(0x6c6c756e, 4)) wrong('null') // "null"
  delimited('null')
  return new Nothing()
}

function readBool(): bool {
  let value = false
  if (literal(0x65757274, 4)) value = true // "true"
  else if (!literal(0x736c6166, 4) || peek() != 0x65) wrong('true or false')
  else cursor++
  delimited('true or false')
  return value
}

function readString(): string {
  if (ahead() != 0x22) {
    wrong('a string')
    return ''
  }
  const start = cursor + 1
  let escapes = false
  cursor = plainEnd(start, limit)
  while (cursor < limit) {
    const byte = load<u8>(cursor)
    if (byte == 0x22) break
    if (byte < 0x20) {
      wrong('a string without raw control characters')
      return ''
    }
    if (byte == 0x5c) {
      escapes = true
      cursor++
    }
    cursor++
  }
  if (cursor >= limit) {
    wrong('a closing quote')
    return ''
  }
  const stop = cursor++
  const byte = ahead()
  if (byte != 0x2c && byte != 0x5d) delimited('a string')
  return escapes ? unescaped(start, stop) : decoded(start, stop - start)
}

function readBytes(): Uint8Array {
  const what = 'bytes as an even number of hex digits in quotes'
  const none = changetype<Uint8Array>(0)
  if (peek() != 0x22) {
    wrong(what)
    return none
  }
  const start = ++cursor
  while (cursor < limit && hexDigit(load<u8>(cursor)) < 16) cursor++
  const digits = cursor - start
  if (peek() != 0x22 || (digits & 1)) {
    wrong(what)
    return none
  }
  cursor++
  delimited(what)
  const bytes = new Uint8Array(<i32>(digits >> 1))
  const to = bytes.dataStart
  for (let i: usize = 0; i < digits; i += 2) {
    store<u8>(to + (i >> 1), <u8>((hexDigit(load<u8>(start + i)) << 4) | hexDigit(load<u8>(start + i + 1))))
  }
  return bytes
}

function readArray<T>(): T {
  const values = instantiate<T>()
  if (peek() != 0x5b) {
    wrong('an array')
    return values
  }
  cursor++
  skipSpace()
  if (peek() != 0x5d) {
    while (true) {
      values.push(read<valueof<T>>())
      if (expected.length) return values
      skipSpace()
      if (peek() != 0x2c) break
      cursor++
      skipSpace()
    }
  }
  if (peek() != 0x5d) {
    wrong('an array')
    return values
  }
  cursor++
  delimited('an array')
  return values
}

/** A value ends where a comma, a bracket or space begins; a text that ends there is refused by whoever reads on. */
function delimited(what: string): void {
  const byte = peek()
  if (byte && !ends(byte)) wrong(what)
}

/** Comma, colon, closing bracket, space. */
function ends(byte: u32): bool {
  return byte == 0x2c || byte == 0x3a || byte == 0x5d || byte == 0x7d || byte == 0x20 || byte == 0x0a || byte == 0x0d || byte == 0x09
}

/** Steps over four bytes if they stand here. */
function literal(bytes: u32, length: usize): bool {
  if (limit - cursor < length || load<u32>(cursor) != bytes) return false
  cursor += length
  return true
}

function unsigned(most: u64, what: string): u64 {
  return magnitude(most, quote(), what)
}

function signed(most: u64, what: string): i64 {
  const quoted = quote()
  const negative = peek() == 0x2d
  if (negative) cursor++
  const value = magnitude(negative ? most + 1 : most, quoted, what)
  return negative ? -(<i64>value) : <i64>value
}

/** A number may stand in quotes, for those whose own numbers end at 2^53. */
function quote(): bool {
  if (peek() != 0x22) return false
  cursor++
  return true
}

function magnitude(most: u64, quoted: bool, what: string): u64 {
  const start = cursor
  let value: u64 = 0
  while (cursor < limit) {
    const digit = <u64>load<u8>(cursor) - 0x30
    if (digit > 9) break
    if (value > most / 10 || (value == most / 10 && digit > most % 10)) {
      wrong(what)
      return 0
    }
    value = value * 10 + digit
    cursor++
  }
  if (cursor == start || (cursor - start > 1 && load<u8>(start) == 0x30)) wrong(what)
  if (quoted) {
    if (peek() != 0x22) wrong(what)
    cursor++
  }
  delimited(what)
  return value
}
