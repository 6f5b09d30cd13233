import { describe, expect, test } from '@jest/globals'
import fc from 'fast-check'
import { entryId, formatMessageId, MESSAGE_ID_BYTES, MessageIds } from '../../cmtp/message-id.ts'

/** The ids of a run of batches, as their entries bear them. */
function idsOf(generator: MessageIds, batches: readonly number[]): string[] {
  return batches.flatMap(count => {
    const id = Buffer.alloc(MESSAGE_ID_BYTES)
    generator.write(id, 0, count)
    return Array.from({ length: count }, (_, index) => formatMessageId(entryId(id, index)))
  })
}

function expectRising(ids: readonly string[]): void {
  for (let i = 1; i < ids.length; i++) expect((ids[i] ?? '') > (ids[i - 1] ?? '')).toBe(true)
}

describe('message ids', () => {
  test('rise and never repeat, across batches and whatever the clock does', () => {
    const steps = fc.array(fc.record({ count: fc.integer({ min: 1, max: 200 }), clock: fc.integer({ min: -50, max: 50 }) }),
      { maxLength: 20 })
    fc.assert(fc.property(fc.integer({ min: 1_000, max: 2 ** 47 }), steps, (start, batches) => {
      let now = start
      const generator = new MessageIds(() => now)
      const ids = batches.flatMap(({ count, clock }) => {
        now += clock
        return idsOf(generator, [count])
      })
      expectRising(ids)
    }))
  })

  test('rise over the end of the counter within one millisecond', () => {
    for (let round = 0; round < 40; round++) {
      const generator = new MessageIds(() => 1_730_000_000_000)
      const skipped = Buffer.alloc(MESSAGE_ID_BYTES)
      generator.write(skipped, 0, 0xffff_fff0)
      expectRising([formatMessageId(skipped), ...idsOf(generator, [8, 8, 8, 8])])
    }
  })

  test('begin with the time, so that they sort by it', () => {
    const id = new MessageIds(() => 0x0190_f3a1_b2c3).next()
    expect(id).toHaveLength(MESSAGE_ID_BYTES)
    expect(formatMessageId(id)).toMatch(/^0190f3a1b2c3[0-9a-f]{12}00000000$/)
  })

  test('of two generators differ', () => {
    const ids = Array.from({ length: 100 }, () => formatMessageId(new MessageIds(() => 1).next()))
    expect(new Set(ids).size).toBe(100)
  })

  test('are written where they are asked for, and nowhere else', () => {
    const target = Buffer.alloc(20, 0xaa)
    new MessageIds().write(target, 2)
    expect([target.subarray(0, 2).toString('hex'), target.subarray(18).toString('hex')]).toEqual(['aaaa', 'aaaa'])
  })

  test('of the entries of a batch count up in the last 32 bits and leave the batch alone', () => {
    const batch = Buffer.from('0190f3a1b2c300112233445500000007', 'hex')
    expect([0, 1, 1_023].map(index => formatMessageId(entryId(batch, index)))).toEqual([
      '0190f3a1b2c300112233445500000007', '0190f3a1b2c300112233445500000008', '0190f3a1b2c300112233445500000406',
    ])
    expect(formatMessageId(batch)).toBe('0190f3a1b2c300112233445500000007')
    expect(formatMessageId(entryId(Buffer.from(`${'00'.repeat(12)}ffffffff`, 'hex'), 2))).toBe(`${'00'.repeat(12)}00000001`)
  })
})
