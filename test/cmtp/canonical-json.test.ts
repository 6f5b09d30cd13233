import { describe, expect, test } from '@jest/globals'
import fc from 'fast-check'
import type { CMeshError } from '../../cmtp/errors.ts'
import { canonicalBytes, canonicalJson, parseCanonicalJson } from '../../cmtp/identity/canonical-json.ts'
import { readVectors } from '../support/vectors.ts'

interface Vectors {
  readonly documents: readonly { name: string, input: string, canonical: string }[]
  readonly numbers: readonly [string, string][]
  readonly refusedNumbers: readonly string[]
}
const rfc8785 = readVectors<Vectors>('identity/rfc8785.json')

const double = (bits: string): number => Buffer.from(bits, 'hex').readDoubleBE()

/** JSON values without the lone surrogates that have no UTF-8 form; −0 is written 0 (RFC 8785, 3.2.2.3). */
const { value: json } = fc.letrec<{ value: unknown }>(tie => ({
  value: fc.oneof(
    { maxDepth: 5, withCrossShrink: true },
    fc.constantFrom(null, true, false), fc.integer(),
    fc.double({ noNaN: true, noDefaultInfinity: true }).map(n => n + 0 || 0), fc.string({ unit: 'binary' }),
    fc.array(tie('value'), { maxLength: 5 }),
    fc.dictionary(fc.string({ unit: 'binary', maxLength: 6 }), tie('value'), { maxKeys: 5, noNullPrototype: true }),
  ),
}))

function shuffled(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(shuffled)
  if (typeof value !== 'object' || value === null) return value
  return Object.fromEntries(Object.entries(value).reverse().map(([key, inner]) => [key, shuffled(inner)]))
}

function refusal(work: () => unknown): CMeshError {
  try {
    work()
  } catch (error) {
    return error as CMeshError
  }
  throw new Error('nothing was refused')
}

describe('canonical JSON', () => {
  test.each(rfc8785.documents)('writes the document of RFC 8785, $name', ({ input, canonical }) => {
    expect(canonicalJson(JSON.parse(input))).toBe(canonical)
  })

  test.each(rfc8785.numbers)('writes the number %s of RFC 8785 as %s', (bits, text) => {
    expect(canonicalJson(double(bits))).toBe(text)
  })

  test.each(rfc8785.refusedNumbers)('refuses the number %s, as RFC 8785 does', bits => {
    expect(refusal(() => canonicalJson({ a: [double(bits)] })))
      .toMatchObject({ code: 'CMESH_FRAME_JSON', detail: { path: '$.a[0]' } })
  })

  test('parses back to the value it was written from', () => {
    fc.assert(fc.property(json, value => {
      expect(JSON.parse(canonicalJson(value))).toEqual(value)
      expect(parseCanonicalJson(canonicalBytes(value))).toEqual(value)
    }))
  })

  test('does not depend on the order in which keys were put in', () => {
    fc.assert(fc.property(json, value => { expect(canonicalJson(shuffled(value))).toBe(canonicalJson(value)) }))
  })

  test('is a fixed point: writing what was parsed gives the same bytes', () => {
    fc.assert(fc.property(json, value => {
      const bytes = canonicalBytes(value)
      expect(canonicalBytes(parseCanonicalJson(bytes)).equals(bytes)).toBe(true)
    }))
  })

  test('keeps a key named __proto__ a key', () => {
    const text = '{"__proto__":{"admin":true},"a":1}'
    const value = parseCanonicalJson(Buffer.from(text)) as object
    expect(canonicalJson(value)).toBe(text)
    expect('admin' in value).toBe(false)
  })

  test.each<[string, unknown, string, string]>([
    ['undefined', undefined, '$', 'a value of type undefined has no JSON form'],
    ['an undefined member', { a: undefined }, '$.a', 'a value of type undefined has no JSON form'],
    // eslint-disable-next-line no-sparse-arrays
    ['a hole in an array', [1, , 2], '$[1]', 'a value of type undefined has no JSON form'],
    ['NaN', { a: { b: Number.NaN } }, '$.a.b', 'NaN has no JSON form'],
    ['an infinity', [-Infinity], '$[0]', '-Infinity has no JSON form'],
    ['a bigint', 1n, '$', 'a value of type bigint has no JSON form'],
    ['a function', () => 1, '$', 'a value of type function has no JSON form'],
    ['a symbol', Symbol('s'), '$', 'a value of type symbol has no JSON form'],
    ['a lone surrogate', { a: '\ud800' }, '$.a', 'a lone surrogate has no UTF-8 form'],
    ['a lone surrogate in a key', { '\udfff': 1 }, '$.\udfff', 'a lone surrogate has no UTF-8 form'],
    ['a date', { at: new Date(0) }, '$.at', 'only plain objects have a JSON form'],
    ['bytes', new Uint8Array(2), '$', 'only plain objects have a JSON form'],
    ['a map', new Map(), '$', 'only plain objects have a JSON form'],
  ])('refuses %s', (_, value, path, reason) => {
    expect(refusal(() => canonicalJson(value)))
      .toMatchObject({ code: 'CMESH_FRAME_JSON', status: 400, message: `The JSON at ${path} is refused: ${reason}.` })
  })

  test('refuses a cycle and more than 32 levels, in both directions', () => {
    const cycle: unknown[] = []
    cycle.push(cycle)
    expect(refusal(() => canonicalJson(cycle)).detail['reason']).toBe('it nests more than 32 levels deep')
    expect(canonicalJson(JSON.parse('['.repeat(32) + ']'.repeat(32)))).toBe('['.repeat(32) + ']'.repeat(32))
    expect(refusal(() => parseCanonicalJson(Buffer.from('['.repeat(33) + ']'.repeat(33)))).detail['reason'])
      .toBe('it nests more than 32 levels deep')
  })

  test.each([
    ['a space', '{ "a":1}'], ['keys out of order', '{"b":1,"a":2}'], ['a repeated key', '{"a":1,"a":2}'],
    ['a long number', '1.0'],
    ['an exponent', '1e2'], ['an escaped letter', '"\\u0061"'], ['a minus zero', '-0'], ['a byte order mark', '\ufeff{}'],
  ])('reads no other spelling: %s', (_, text) => {
    expect(refusal(() => parseCanonicalJson(Buffer.from(text))).code).toBe('CMESH_FRAME_JSON')
  })

  test('answers any bytes with a value or a coded error', () => {
    fc.assert(fc.property(fc.oneof(fc.uint8Array(), fc.string().map(text => Buffer.from(text))), bytes => {
      let value: unknown
      try {
        value = parseCanonicalJson(bytes)
      } catch (error) {
        expect((error as CMeshError).code).toBe('CMESH_FRAME_JSON')
        return
      }
      expect(canonicalBytes(value).equals(bytes)).toBe(true)
    }))
  })
})
