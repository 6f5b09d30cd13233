/** Messages that are told again: their final hashes are those that each would have by itself. */
import { createHash } from 'node:crypto'
import { describe, expect, test } from '@jest/globals'
import fc from 'fast-check'
import { hashCounted } from '../../cmtp/receipt/sha256-lanes.ts'
import { entryId } from '../../cmtp/message-id.ts'
import { Repeated } from '../../cmtp/repeated.ts'
import { LIMITS } from '../../cmtp/limits.ts'

const sha256 = (bytes: Uint8Array): string => createHash('sha256').update(bytes).digest('hex')
const bytes = (length: fc.Arbitrary<number>): fc.Arbitrary<Buffer> =>
  fc.tuple(length, fc.nat({ max: 255 })).map(([count, seed]) => Buffer.from(Array.from({ length: count }, (_, i) => (i * 31 + seed * 7 + (i >> 8)) & 255)))

describe('a message with a counter', () => {
  test('is hashed for each of them as by itself, wherever its last block ends', () => {
    const lengths = fc.oneof(fc.integer({ min: 18, max: 400 }), fc.constantFrom(18, 54, 55, 56, 63, 64, 65, 119, 120, 127, 128, 17_000))
    fc.assert(fc.property(bytes(lengths), fc.uint32Array({ minLength: 1, maxLength: 9 }), (message, counters) => {
      const hashes = Buffer.alloc(counters.length * 32)
      hashCounted(message, counters, hashes)
      counters.forEach((counter, i) => {
        const each = Buffer.from(message)
        each.writeUInt32BE(counter, 14)
        expect(hashes.toString('hex', i * 32, i * 32 + 32)).toBe(sha256(each))
      })
    }), { numRuns: 300 })
  })

  test('is hashed for thousands of them', () => {
    const message = Buffer.alloc(230, 3)
    const counters = Uint32Array.from({ length: 2_501 }, (_, i) => 0xffff_fc00 + i)
    const hashes = Buffer.alloc(counters.length * 32)
    hashCounted(message, counters, hashes)
    for (const i of [0, 1_023, 1_024, 2_047, 2_500]) {
      message.writeUInt32BE(counters[i] as number, 14)
      expect(hashes.toString('hex', i * 32, i * 32 + 32)).toBe(sha256(message))
    }
  })

  test('has room for the counter, and no more bytes than there is memory for', () => {
    for (const length of [17, 200_000]) expect(() => { hashCounted(Buffer.alloc(length), Uint32Array.of(1), Buffer.alloc(32)) }).toThrow(RangeError)
  })
})

describe('entries that repeat some of others', () => {
  const anyMade = bytes(fc.integer({ min: 60, max: 300 }))

  test('have the final hashes of the messages they repeat under their own ids, in their order', () => {
    const repeated = new Repeated()
    fc.assert(fc.property(
      fc.uint8Array({ minLength: 16, maxLength: 16 }), fc.nat({ max: 1_000 }), fc.array(anyMade, { minLength: 1, maxLength: 4 }),
      fc.array(fc.nat(), { minLength: 1, maxLength: 24 }),
      (batch, first, kinds, picks) => {
        const made = picks.map(pick => kinds[pick % kinds.length] as Buffer)
        const expected = made.map((final, i) => {
          const own = Buffer.from(final)
          own.set(entryId(batch, first + i), 2)
          return sha256(own)
        })
        const finals = repeated.seal(batch, first, made)
        expect(expected.map((_, i) => finals.toString('hex', i * 32, i * 32 + 32))).toEqual(expected)
      },
    ))
  })

  test('may be as many as a batch has', () => {
    const made = Buffer.alloc(200, 5)
    const batch = Buffer.from('0102030405060708090a0b0cfffffffe', 'hex')
    const finals = new Repeated().seal(batch, 0, Array.from({ length: LIMITS.batchEntries }, () => made))
    const last = Buffer.from(made)
    last.set(entryId(batch, LIMITS.batchEntries - 1), 2)
    expect(finals.toString('hex', (LIMITS.batchEntries - 1) * 32)).toBe(sha256(last))
  })
})
