/**
 * Checks that a text is one JSON array (RFC 8259), in one forward pass, without building a value. `JSON.parse` would do
 * the check but not say where it failed, and would allocate what nobody reads. Total: any text gives a verdict.
 */
import { LIMITS } from './limits.ts'

export interface JsonFault {
  /** Index into the text, in UTF-16 code units. */
  readonly index: number
  readonly expected: string
}

/** The first fault of the JSON array that starts at `start` and must run to the end of `text`; `undefined` when there is none. */
export function findJsonArrayFault(text: string, start: number): JsonFault | undefined {
  if (text.charCodeAt(start) !== OPEN_BRACKET) return { index: start, expected: '"["' }
  const scanner = new Scanner(text, start)
  const fault = scanner.value(0)
  if (fault !== undefined) return fault
  const end = scanner.skipSpace()
  return end === text.length ? undefined : { index: end, expected: 'the end of the address' }
}

const OPEN_BRACKET = 0x5b
const CLOSE_BRACKET = 0x5d
const OPEN_BRACE = 0x7b
const CLOSE_BRACE = 0x7d
const QUOTE = 0x22
const COMMA = 0x2c
const COLON = 0x3a
const BACKSLASH = 0x5c

class Scanner {
  readonly #text: string
  #at: number

  constructor(text: string, start: number) {
    this.#text = text
    this.#at = start
  }

  skipSpace(): number {
    for (;;) {
      const c = this.#text.charCodeAt(this.#at)
      if (c !== 0x20 && c !== 0x09 && c !== 0x0a && c !== 0x0d) return this.#at
      this.#at++
    }
  }

  value(depth: number): JsonFault | undefined {
    this.skipSpace()
    const c = this.#text.charCodeAt(this.#at)
    if (c === OPEN_BRACKET) return this.#sequence(depth, CLOSE_BRACKET)
    if (c === OPEN_BRACE) return this.#sequence(depth, CLOSE_BRACE)
    if (c === QUOTE) return this.#string()
    if (c === 0x2d || isDigit(c)) return this.#number()
    for (const word of ['true', 'false', 'null']) {
      if (this.#text.startsWith(word, this.#at)) {
        this.#at += word.length
        return undefined
      }
    }
    return this.#fault('a JSON value')
  }

  /** An array, or an object when it closes with a brace. */
  #sequence(depth: number, close: number): JsonFault | undefined {
    if (depth >= LIMITS.argumentDepth) return this.#fault(`at most ${LIMITS.argumentDepth} levels of nesting`)
    this.#at++
    this.skipSpace()
    if (this.#text.charCodeAt(this.#at) === close) {
      this.#at++
      return undefined
    }
    for (;;) {
      const fault = (close === CLOSE_BRACE ? this.#key() : undefined) ?? this.value(depth + 1)
      if (fault !== undefined) return fault
      this.skipSpace()
      const c = this.#text.charCodeAt(this.#at)
      if (c !== COMMA && c !== close) return this.#fault(close === CLOSE_BRACE ? '"," or "}"' : '"," or "]"')
      this.#at++
      if (c === close) return undefined
    }
  }

  #key(): JsonFault | undefined {
    this.skipSpace()
    if (this.#text.charCodeAt(this.#at) !== QUOTE) return this.#fault('a string as key')
    const fault = this.#string()
    if (fault !== undefined) return fault
    this.skipSpace()
    if (this.#text.charCodeAt(this.#at) !== COLON) return this.#fault('":"')
    this.#at++
    return undefined
  }

  #string(): JsonFault | undefined {
    const text = this.#text
    this.#at++
    for (;;) {
      const c = text.charCodeAt(this.#at)
      if (c === QUOTE) {
        this.#at++
        return undefined
      }
      // Not (c < 0x20): past the end it is NaN.
      if (!(c >= 0x20)) return this.#fault(this.#at < text.length ? 'control characters to be escaped' : 'a closing quote')
      if (c === BACKSLASH) {
        const length = escapeLength(text, this.#at)
        if (length === 0) return this.#fault('a JSON escape')
        this.#at += length
      } else if (c >= 0xd800 && c <= 0xdfff) {
        const low = text.charCodeAt(this.#at + 1)
        if (c >= 0xdc00 || !(low >= 0xdc00 && low <= 0xdfff)) return this.#fault('well-formed Unicode')
        this.#at += 2
      } else {
        this.#at++
      }
    }
  }

  /** RFC 8259 section 6: no leading zeros, no bare point, no bare exponent. */
  #number(): JsonFault | undefined {
    if (this.#text.charCodeAt(this.#at) === 0x2d) this.#at++
    if (this.#text.charCodeAt(this.#at) === 0x30) this.#at++
    else if (!this.#digits()) return this.#fault('a digit')
    if (this.#text.charCodeAt(this.#at) === 0x2e) {
      this.#at++
      if (!this.#digits()) return this.#fault('a digit')
    }
    if ((this.#text.charCodeAt(this.#at) | 0x20) === 0x65) {
      this.#at++
      const sign = this.#text.charCodeAt(this.#at)
      if (sign === 0x2b || sign === 0x2d) this.#at++
      if (!this.#digits()) return this.#fault('a digit')
    }
    return undefined
  }

  #digits(): boolean {
    const from = this.#at
    while (isDigit(this.#text.charCodeAt(this.#at))) this.#at++
    return this.#at > from
  }

  #fault(expected: string): JsonFault {
    return { index: this.#at, expected }
  }
}

function isDigit(c: number): boolean {
  return c >= 0x30 && c <= 0x39
}

/** Length of the escape at `at` (the backslash), or 0 when it is none. */
function escapeLength(text: string, at: number): number {
  const c = text.charAt(at + 1)
  if (c !== '' && '"\\/bfnrt'.includes(c)) return 2
  return c === 'u' && /^[0-9a-fA-F]{4}$/.test(text.slice(at + 2, at + 6)) ? 6 : 0
}
