import { describe, expect, test } from '@jest/globals'
import fc from 'fast-check'
import { formatFqmn, isContractAddress, isSegment, parseFqmn, RouteCache, type Route } from '../../cmtp/fqmn.ts'
import { LIMITS } from '../../cmtp/limits.ts'
import { anyAddress, anyContract, anySegment, type Parts } from '../support/addresses.ts'
import { attempt, refusal, type Refusal } from '../support/refusal.ts'
import { runs } from '../support/runs.ts'
import { readVectors } from '../support/vectors.ts'

interface Meaning extends Parts {
  readonly fqmn: string
  readonly bare: string
  readonly inner: Meaning | undefined
}
const ACCEPTED = readVectors<Meaning[]>('fqmn/accepted.json')
interface RefusedAddress extends Omit<Refusal, 'message'> {
  readonly fqmn?: string
  /** Hex, for bytes that are no text. */
  readonly utf8?: string
}
const REFUSED = readVectors<RefusedAddress[]>('fqmn/refused.json')
const titled = REFUSED.map(vector => [JSON.stringify(vector.fqmn ?? vector.utf8), vector] as const)

const partsOf = ({ service, write, segments, args, inner }: Parts): Parts =>
  ({ service, write, segments, args, inner: inner === undefined ? undefined : partsOf(inner) })

function expectMeaning(route: Route, meaning: Meaning): void {
  expect(partsOf(route)).toEqual(partsOf(meaning))
  expect([route.text, route.bare]).toEqual([meaning.fqmn, meaning.bare])
  if (meaning.inner !== undefined) expectMeaning(route.inner as Route, meaning.inner)
}

/** A refusal's offset lies within the input, and its message has no blank left. */
function expectWithin(refused: Refusal, bytes: number): void {
  expect(refused.code).toMatch(/^CMESH_FQMN_/)
  expect(refused.message).not.toMatch(/\{\w+\}|undefined|NaN/)
  if (refused.code === 'CMESH_FQMN_TOO_LONG') return
  expect(refused.detail['offset']).toBeGreaterThanOrEqual(0)
  expect(refused.detail['offset']).toBeLessThanOrEqual(bytes)
}

/** Text near the grammar: its own characters, and now and then anything else. */
const nearAddress = fc.array(fc.oneof(
  { weight: 8, arbitrary: fc.constantFrom(...'SREPW::[]{",1éa', '0x', '0x001', '0xE:', '0xR:a.mcom', '["a"]') },
  { weight: 1, arbitrary: fc.string({ unit: 'binary', maxLength: 3 }) },
), { maxLength: 14 }).map(parts => parts.join(''))
const anyText = fc.oneof(nearAddress, nearAddress.map(tail => `0xS:0x001:f:${tail}`), fc.string({ unit: 'binary' }),
  fc.string({ unit: 'grapheme' }))

describe('golden vectors', () => {
  test.each(ACCEPTED.map(meaning => [meaning.fqmn, meaning] as const))('%s parses', (fqmn, meaning) => {
    const route = parseFqmn(fqmn)
    expectMeaning(route, meaning)
    expect(formatFqmn(route)).toBe(fqmn)
  })

  test.each(titled)('%s is refused where it fails', (_title, vector) => {
    const bytes = vector.fqmn === undefined ? Buffer.from(vector.utf8 ?? '', 'hex') : Buffer.from(vector.fqmn)
    const refused = refusal(() => new RouteCache().fromBytes(bytes, 0, bytes.length))
    expect({ code: refused.code, detail: refused.detail }).toEqual({ code: vector.code, detail: vector.detail })
    if (vector.fqmn !== undefined) expect(refusal(() => parseFqmn(vector.fqmn ?? ''))).toEqual(refused)
    expectWithin(refused, bytes.length)
  })

  test('the message says where and what was expected', () => {
    expect(refusal(() => parseFqmn('0xE:ch at')).message)
      .toBe('The FQMN is malformed at byte 6: expected a letter, a digit, one of . _ - ~ ^, or ":".')
    expect(refusal(() => parseFqmn('0xZ:a')).message)
      .toBe('The FQMN has an unknown opcode at byte 2: expected 0x followed by one of I, R, S, E, A, C, P, and W for a write.')
    expect(refusal(() => parseFqmn('0xS:0x001:f:[1,]')).message)
      .toBe('The arguments at byte 15 are not a JSON array: expected a JSON value.')
    expect(refusal(() => parseFqmn('0xE:0xE:0xE:0xE:a')).message).toBe('The FQMN nests more than 3 opcodes (byte 12).')
  })
})

describe('size', () => {
  test('the longest address is accepted, one byte more is refused', () => {
    const longest = `0xE:${'c'.repeat(LIMITS.fqmnBytes - 4)}`
    expect(parseFqmn(longest).text).toBe(longest)
    expect(refusal(() => parseFqmn(`${longest}c`))).toEqual({
      code: 'CMESH_FQMN_TOO_LONG',
      detail: { bytes: 4_097, limit: 4_096 },
      message: 'The FQMN is 4097 bytes long; at most 4096 are allowed. Put large arguments in the body.',
    })
  })

  test.each([['é', 2], ['日', 3], ['😀', 4]])('bytes of UTF-8 count, not characters: %s', (character, width) => {
    const room = LIMITS.fqmnBytes - '0xS:0x001:f:[""]'.length
    const filled = `${'x'.repeat(room % width)}${character.repeat(Math.floor(room / width))}`
    const fits = `0xS:0x001:f:["${filled}"]`
    expect(parseFqmn(fits).text).toBe(fits)
    expect(refusal(() => parseFqmn(`0xS:0x001:f:["${filled}x"]`)).detail).toEqual({ bytes: 4_097, limit: 4_096 })
    const bytes = Buffer.from(`0xS:0x001:f:["${filled}x"]`)
    expect(refusal(() => new RouteCache().fromBytes(bytes, 0, bytes.length)).code).toBe('CMESH_FQMN_TOO_LONG')
  })

  test('arguments nest 64 deep and no deeper', () => {
    const deep = (levels: number): string => `0xS:0x001:f:${'['.repeat(levels)}${']'.repeat(levels)}`
    expect(parseFqmn(deep(LIMITS.argumentDepth)).args).toHaveLength(2 * LIMITS.argumentDepth)
    expect(refusal(() => parseFqmn(deep(LIMITS.argumentDepth + 1)))).toMatchObject({
      code: 'CMESH_FQMN_ARGUMENTS',
      detail: { offset: 12 + LIMITS.argumentDepth, expected: 'at most 64 levels of nesting' },
    })
  })
})

describe('any input', () => {
  test('an address built from the grammar parses to its parts and formats to its text', () => {
    fc.assert(fc.property(anyAddress, parts => {
      const text = formatFqmn(parts as Route)
      fc.pre(Buffer.byteLength(text) <= LIMITS.fqmnBytes)
      const route = parseFqmn(text)
      expect(partsOf(route)).toEqual(partsOf(parts))
      expect(formatFqmn(route)).toBe(text)
      expect(route.text).toBe(text)
    }), { numRuns: runs(2_000) })
  })

  test('an address without its arguments is its bare form', () => {
    const strip = (parts: Parts): Parts => ({ ...parts, args: undefined, inner: parts.inner && strip(parts.inner) })
    fc.assert(fc.property(anyAddress, parts => {
      const text = formatFqmn(parts as Route)
      fc.pre(Buffer.byteLength(text) <= LIMITS.fqmnBytes)
      expect(parseFqmn(text).bare).toBe(formatFqmn(strip(parts) as Route))
    }), { numRuns: 1_000 })
  })

  test('any text is an address that formats to itself, or is refused with an offset within it', () => {
    fc.assert(fc.property(anyText, text => {
      const { value, refusal: refused } = attempt(() => parseFqmn(text))
      if (value === undefined) expectWithin(refused, Buffer.byteLength(text))
      else expect(formatFqmn(value)).toBe(text)
    }), { numRuns: runs(5_000) })
  })

  test('any bytes are an address, or are refused with an offset within them', () => {
    const anyBytes = fc.oneof(fc.uint8Array({ maxLength: 64 }), anyText.map(text => Buffer.from(text)))
    const frame = fc.tuple(anyBytes, fc.uint8Array({ maxLength: 4 }), fc.uint8Array({ maxLength: 4 }), fc.option(fc.nat(63)))
    fc.assert(fc.property(frame, ([bytes, before, after, stray]) => {
      const address = Buffer.from(bytes)
      if (stray !== null && stray < address.length) address[stray] = 0xff
      const { value, refusal: refused } = attempt(() => new RouteCache()
        .fromBytes(Buffer.concat([before, address, after]), before.length, before.length + address.length))
      if (value === undefined) expectWithin(refused, address.length)
      else expect(Buffer.from(formatFqmn(value))).toEqual(address)
    }), { numRuns: runs(5_000) })
  })
})

describe('the cache of routes', () => {
  const cached = (cache: RouteCache, text: string): Route => {
    const bytes = Buffer.from(text)
    return cache.fromBytes(bytes, 0, bytes.length)
  }

  test('equal addresses give the same object, whether they came as bytes or as text', () => {
    for (const text of ['0xS:0x001:hello_world', '0xS:0x001:f:["日本"]']) {
      const cache = new RouteCache()
      const route = cached(cache, text)
      expect(cached(cache, text)).toBe(route)
      expect(cache.fromText(text)).toBe(route)
      expect(cached(new RouteCache(), text)).not.toBe(route)
      expect(cached(new RouteCache(), text)).toEqual(route)
    }
  })

  test('gives what the parser gives, whatever was asked before', () => {
    const cache = new RouteCache(4)
    fc.assert(fc.property(anyText, text => {
      expect(attempt(() => cache.fromText(text))).toEqual(attempt(() => parseFqmn(text)))
    }), { numRuns: runs(2_000) })
  })

  test('a lone surrogate is refused even after the address with U+FFFD in its place', () => {
    const cache = new RouteCache()
    expect(cache.fromText('0xS:0x001:f:["\ufffd"]').args).toBe('["\ufffd"]')
    expect(refusal(() => cache.fromText('0xS:0x001:f:["\ud800"]'))).toMatchObject({
      code: 'CMESH_FQMN_ARGUMENTS', detail: { offset: 14, expected: 'well-formed Unicode' },
    })
  })

  test('keeps the most recent, forgets the oldest', () => {
    const cache = new RouteCache(8)
    const first = cached(cache, '0xE:first')
    for (let i = 0; i < 7; i++) cached(cache, `0xE:c${i}`)
    expect(cached(cache, '0xE:first')).toBe(first)
    for (let i = 0; i < 16; i++) cached(cache, `0xE:d${i}`)
    expect(cached(cache, '0xE:first')).not.toBe(first)
  })

  test('is bounded by bytes too, so that long arguments do not fill the memory', () => {
    const cache = new RouteCache()
    const first = cached(cache, '0xE:first')
    for (let i = 0; i < 2_200; i++) cached(cache, `0xS:0x001:f:["${String(i).padStart(4_000, '0')}"]`)
    expect(cached(cache, '0xE:first')).not.toBe(first)
  })
})

describe('parts of an address', () => {
  test.each(['0x000', '0x001', '0xfff', `0x${'0a'.repeat(32)}`])('%s is the address of a contract', text => {
    expect(isContractAddress(text)).toBe(true)
  })

  const noAddresses = ['', '0x', '0x00', '0x0001', '0x00g', '0x00A', '1x001', '0X001', `0x${'0a'.repeat(31)}0`,
    `0x${'0a'.repeat(32)}0`]
  test.each(noAddresses)('%s is not', text => {
    expect(isContractAddress(text)).toBe(false)
  })

  test('a segment is made of letters, digits and . _ - ~ ^ alone', () => {
    for (let code = 0; code < 0x250; code++) {
      const character = String.fromCharCode(code)
      expect([character, isSegment(character)]).toEqual([character, /^[A-Za-z0-9._~^-]$/.test(character)])
    }
    expect(isSegment('')).toBe(false)
    fc.assert(fc.property(fc.oneof(anySegment, anyContract), segment => {
      expect([isSegment(segment), isSegment(`${segment}:`), isSegment(` ${segment}`)]).toEqual([true, false, false])
    }))
  })
})
