import { describe, expect, test } from '@jest/globals'
import fc from 'fast-check'
import { decodeHeaders, encodedNumber, encodeHeaders, headerValue, type HeaderList } from '../../cmtp/headers.ts'
import { LIMITS } from '../../cmtp/limits.ts'
import { damaged, decodeTotally, everyBitFlip, everyTruncation } from '../support/damage.ts'
import { anyHeaders } from '../support/messages.ts'
import { refusal } from '../support/refusal.ts'
import { runs } from '../support/runs.ts'
import { bytesOf, readVectors, type CodecVectors } from '../support/vectors.ts'

const VECTORS = readVectors<CodecVectors<HeaderList>>('cmtp/headers.json')

/** A value, or a coded error; and what is accepted has no second encoding. */
function expectCanonical(bytes: Buffer): void {
  const { value } = decodeTotally(decodeHeaders, bytes)
  if (value !== undefined) expect(encodeHeaders(value)).toEqual(bytes)
}

describe('the header block', () => {
  test.each(VECTORS.accepted)('$name', ({ hex, meaning }) => {
    expect(decodeHeaders(bytesOf(hex))).toEqual(meaning)
    expect(encodeHeaders(meaning).toString('hex')).toBe(hex)
  })

  test.each(VECTORS.refused)('refused: $name', ({ hex, code, detail }) => {
    expect(refusal(() => decodeHeaders(bytesOf(hex)))).toMatchObject({ code, detail })
    expect(refusal(() => decodeHeaders(bytesOf(hex), 100)).detail['offset']).toBe(Number(detail['offset']) + 100)
  })

  test('whatever is encoded decodes to the same, in order', () => {
    fc.assert(fc.property(anyHeaders, headers => {
      expect(decodeHeaders(encodeHeaders(headers))).toEqual(headers)
    }))
  })

  test('any bytes give headers that encode to the same bytes, or a coded error with its offset', () => {
    fc.assert(fc.property(damaged(anyHeaders.map(encodeHeaders)), expectCanonical), { numRuns: runs(3_000) })
    for (const { hex } of VECTORS.accepted) {
      for (const bytes of everyBitFlip(bytesOf(hex))) expectCanonical(bytes)
      for (const bytes of everyTruncation(bytesOf(hex))) expectCanonical(bytes)
    }
  })

  test('the first value of a name is found', () => {
    const headers: HeaderList = [['vary', 'accept'], ['vary', 'host']]
    expect(headerValue(headers, 'vary')).toBe('accept')
    expect(headerValue(headers, 'etag')).toBeUndefined()
  })
})

describe('a number in an encoded header block', () => {
  /** The block lies among digits and what looks like the header. */
  const numberIn = (block: Uint8Array): number => {
    const around = encodeHeaders([['x-cmesh-sequence', '99']])
    return encodedNumber(Buffer.concat([around, block, around]), around.length, around.length + block.length, 'x-cmesh-sequence')
  }

  test('is found as decoding finds it, between any other headers', () => {
    fc.assert(fc.property(anyHeaders, anyHeaders, fc.maxSafeNat(), (before, behind, sequence) => {
      const others = [...before, ...behind].filter(([name]) => name !== 'x-cmesh-sequence').slice(0, 50)
      fc.pre(encodeHeaders(others).length + 32 < LIMITS.headerBytes)
      const headers: HeaderList = [...others.slice(0, before.length), ['x-cmesh-sequence', String(sequence)], ...others.slice(before.length)]
      expect(numberIn(encodeHeaders(headers))).toBe(sequence)
      expect(numberIn(encodeHeaders([...headers, ['x-cmesh-sequence', '7']]))).toBe(sequence)
      expect(numberIn(encodeHeaders(others))).toBe(0)
    }))
  })

  test.each(['', 'x', '1x', '-1', '1.5', ' 1', '1e3', '\u0661'])('is 0 where the value is %j', value => {
    expect(numberIn(encodeHeaders([['x-cmesh-sequence', value]]))).toBe(0)
  })

  test('is 0 in a block that is cut anywhere, and any bytes are looked through', () => {
    const block = encodeHeaders([['x-cmesh-sequence', '12'], ['etag', 'a']])
    for (let end = block.length - encodeHeaders([['etag', 'a']]).length + 1; end < block.length; end++) expect(numberIn(block.subarray(0, end))).toBe(0)
    fc.assert(fc.property(damaged(anyHeaders.map(encodeHeaders)), bytes => { expect(numberIn(bytes)).toBeGreaterThanOrEqual(0) }))
  })
})

describe('the limits of a header block', () => {
  const many = (count: number): HeaderList => Array.from({ length: count }, (_, i): [string, string] => [`x-${i}`, ''])

  test('as many headers as the limit, and no more, on either side', () => {
    expect(decodeHeaders(encodeHeaders(many(LIMITS.headerCount)))).toHaveLength(64)
    const tooMany = { code: 'CMESH_FRAME_TOO_LARGE', message: 'The header count has 65 bytes; at most 64 are allowed.' }
    expect(refusal(() => encodeHeaders(many(65)))).toMatchObject(tooMany)
    expect(refusal(() => decodeHeaders(Buffer.concat([encodeHeaders(many(64)), encodeHeaders([['etag', '']])]))))
      .toMatchObject(tooMany)
  })

  test('as many bytes as the limit, and no more, on either side', () => {
    const longest: HeaderList = [['etag', 'x'.repeat(LIMITS.headerBytes - 3)]]
    expect(decodeHeaders(encodeHeaders(longest))).toEqual(longest)
    const tooLarge = { code: 'CMESH_FRAME_TOO_LARGE', detail: { part: 'header block', bytes: 16_385, limit: 16_384 } }
    expect(refusal(() => encodeHeaders([['etag', 'x'.repeat(LIMITS.headerBytes - 2)]]))).toMatchObject(tooLarge)
    expect(refusal(() => decodeHeaders(Buffer.alloc(LIMITS.headerBytes + 1)))).toMatchObject(tooLarge)
    expect(refusal(() => encodeHeaders([['etag', 'x'.repeat(LIMITS.headerBytes + 1)]])).code).toBe('CMESH_FRAME_TOO_LARGE')
  })

  test.each(['', 'Etag', 'x a', 'x:a', 'x\r\na', 'é', 'x'.repeat(256)])('the name %j is not encoded', name => {
    expect(refusal(() => encodeHeaders([[name, '']]))).toMatchObject({
      code: 'CMESH_FRAME_MALFORMED', detail: { expected: 'lower-case header names of 1 to 255 token characters' },
    })
  })

  test('the longest name comes back', () => {
    const headers: HeaderList = [['x'.repeat(255), 'v']]
    expect(decodeHeaders(encodeHeaders(headers))).toEqual(headers)
  })
})
