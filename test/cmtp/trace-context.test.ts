import { createHash } from 'node:crypto'
import { describe, expect, test } from '@jest/globals'
import fc from 'fast-check'
import { encodedValues, encodeHeaders, headerValue, type HeaderList } from '../../cmtp/headers.ts'
import { formatTraceparent, layerSpanId, parseTraceparent, traceOfHeaders } from '../../cmtp/trace-context.ts'
import { damaged } from '../support/damage.ts'
import { anyHeaders } from '../support/messages.ts'

const TRACE = '0af7651916cd43dd8448eb211c80319c'
const PARENT = 'b7ad6b7169203331'
const said = (traceId: string, parentId: string, flags: number): object => ({ traceId, parentId, flags })

describe('traceparent', () => {
  test.each<[what: string, text: string, meaning: object | undefined]>([
    ['sampled', `00-${TRACE}-${PARENT}-01`, said(TRACE, PARENT, 1)],
    ['not sampled', `00-${TRACE}-${PARENT}-00`, said(TRACE, PARENT, 0)],
    ['with random bits in the trace id, by level 2', `00-${TRACE}-${PARENT}-03`, said(TRACE, PARENT, 3)],
    ['with flags that nobody knows, which are cleared', `00-${TRACE}-${PARENT}-fd`, said(TRACE, PARENT, 1)],
    ['of a later version, whose other flags may mean anything', `01-${TRACE}-${PARENT}-03`, said(TRACE, PARENT, 1)],
    ['of a later version, which says more', `cc-${TRACE}-${PARENT}-01-what-ever`, said(TRACE, PARENT, 1)],
    ['of a later version, which runs on', `cc-${TRACE}-${PARENT}-01.what`, undefined],
    ['that says more than its version knows', `00-${TRACE}-${PARENT}-01-what`, undefined],
    ['of the version that is none', `ff-${TRACE}-${PARENT}-01`, undefined],
    ['of a trace of zeros', `00-${'0'.repeat(32)}-${PARENT}-01`, undefined],
    ['of a parent of zeros', `00-${TRACE}-${'0'.repeat(16)}-01`, undefined],
    ['in upper case', `00-${TRACE.toUpperCase()}-${PARENT}-01`, undefined],
    ['too short', `00-${TRACE.slice(1)}-${PARENT}-01`, undefined],
    ['too long', `00-${TRACE}0-${PARENT}-01`, undefined],
    ['with a space behind', `00-${TRACE}-${PARENT}-01 `, undefined],
    ['with a line break behind', `00-${TRACE}-${PARENT}-01\n`, undefined],
    ['of nothing', '', undefined],
  ])('%s', (_, text, meaning) => {
    expect(parseTraceparent(text)).toEqual(meaning)
  })

  test('what is formatted is read back', () => {
    const hex = (length: number): fc.Arbitrary<string> =>
      fc.uint8Array({ minLength: length, maxLength: length }).filter(bytes => bytes.some(byte => byte !== 0)).map(bytes => Buffer.from(bytes).toString('hex'))
    fc.assert(fc.property(hex(16), hex(8), fc.integer({ min: 0, max: 3 }), (traceId, parentId, flags) => {
      const text = formatTraceparent({ traceId, parentId, flags })
      expect(text).toHaveLength(55)
      expect(parseTraceparent(text)).toEqual({ traceId, parentId, flags })
    }))
  })

  test('any other text is none, or means what it says in the canonical form', () => {
    const near = fc.tuple(fc.nat(60), fc.string({ maxLength: 2 }), fc.nat(3)).map(([at, put, cut]) => {
      const text = `00-${TRACE}-${PARENT}-01`
      return text.slice(0, at) + put + text.slice(at + cut)
    })
    fc.assert(fc.property(near, text => {
      const read = parseTraceparent(text)
      if (read === undefined || !text.startsWith('00')) return
      expect(formatTraceparent(read).slice(0, 53)).toBe(text.slice(0, 53))
      expect(text).toHaveLength(55)
    }), { numRuns: 1_000 })
  })
})

describe('the trace that headers name', () => {
  const parent = ['traceparent', `00-${TRACE}-${PARENT}-01`] as const
  const trace = (...headers: HeaderList): ReturnType<typeof traceOfHeaders> => traceOfHeaders(encodeHeaders(headers))

  test.each<[what: string, headers: HeaderList, state: string | undefined]>([
    ['without a state', [['accept', '*/*'], parent], undefined],
    ['with a state', [parent, ['tracestate', 'rojo=00f067aa0ba902b7,congo=t61rcWkgMzE']], 'rojo=00f067aa0ba902b7,congo=t61rcWkgMzE'],
    ['with a state in several headers', [parent, ['tracestate', 'a=1'], ['tracestate', 'b=2']], 'a=1,b=2'],
    ['with a state of 512 characters', [parent, ['tracestate', `a=${'x'.repeat(510)}`]], `a=${'x'.repeat(510)}`],
    ['with a longer state, which is left out', [parent, ['tracestate', `a=${'x'.repeat(511)}`]], undefined],
    ['with more than 32 members of a state', [parent, ['tracestate', Array.from({ length: 33 }, (_, i) => `k${i}=1`).join()]], undefined],
    ['with a state that is no text', [parent, ['tracestate', 'a=\u0001']], undefined],
  ])('%s', (_, headers, state) => {
    expect(trace(...headers)).toEqual({ traceId: TRACE, parentId: PARENT, flags: 1, state })
  })

  test('is none where there is no parent, two of them, or one that is malformed', () => {
    expect(trace(['tracestate', 'a=1'])).toBeUndefined()
    expect(trace(parent, parent)).toBeUndefined()
    expect(trace(['traceparent', 'nonsense'], ['tracestate', 'a=1'])).toBeUndefined()
  })

  test('is found in an encoded block as decoding it finds it, and any bytes are looked through', () => {
    fc.assert(fc.property(anyHeaders, headers => {
      const found = encodedValues(encodeHeaders(headers), 'vary')
      expect(found).toHaveLength(headers.filter(([name]) => name === 'vary').length)
      expect(found[0]).toBe(bytes(headerValue(headers, 'vary')))
    }))
    fc.assert(fc.property(damaged(anyHeaders.map(encodeHeaders)), block => {
      expect(encodedValues(block, 'vary').every(value => typeof value === 'string')).toBe(true)
    }))
    expect(encodedValues(encodeHeaders([['x-own', 'v'], ['traceparent', 'a'], ['x-other', ''], ['traceparent', 'b']]), 'traceparent')).toEqual(['a', 'b'])
    expect(encodedValues(Buffer.of(9, 0, 5, 0x61), 'traceparent')).toEqual([])
  })
})

test('the spans of a receipt are named by its id, the start of its last layer and their place', () => {
  const id = Buffer.from('019aa2c4000102030405060700000001', 'hex')
  const start = Buffer.alloc(8)
  start.writeBigUInt64BE(1_800_000_000_123_456n)
  for (const place of [0, 1, 31]) {
    const digest = createHash('sha256').update('CMesh/1 span\n').update(id).update(start).update(Buffer.of(place)).digest('hex')
    expect(layerSpanId(id, 1_800_000_000_123_456, place)).toBe(digest.slice(0, 16))
  }
})

/** UTF-8 with a character a byte. */
function bytes(text: string | undefined): string | undefined {
  return text === undefined ? undefined : Buffer.from(text, 'utf8').toString('latin1')
}
