import { describe, expect, test } from '@jest/globals'
import fc from 'fast-check'
import { formatMessageId, MessageIds } from '../../../cmtp/message-id.ts'
import { IdFilter } from '../../../services/state/id-filter.ts'

describe('a filter of ids', () => {
  test('never says of one that was added that it was not, until the generation after its own is over, whatever text it is', () => {
    fc.assert(fc.property(fc.array(fc.oneof(fc.string(), fc.uuid(), fc.constant('turn')), { maxLength: 60 }), fc.integer({ min: 1, max: 100 }), (steps, entries) => {
      const filter = new IdFilter(entries)
      let [young, old]: [string[], string[]] = [[], []]
      for (const step of steps) {
        if (step === 'turn') {
          filter.turn()
          old = young
          young = []
        } else {
          filter.add(step)
          young.push(step)
        }
        for (const id of [...old, ...young]) expect(filter.mayHold(id)).toBe(true)
      }
    }))
  })

  test('knows nearly every id for new that is, of those of one client and of many, and of what it has forgotten', () => {
    const many = (count: number): string[] => Array.from({ length: count }, (_, i) => formatMessageId(new MessageIds(() => 1_700_000_000_000 + i).next()))
    // Of one ms: they differ in what is counted.
    const ids = new MessageIds(() => 1_700_000_000_000)
    const ofOne = (count: number): string[] => Array.from({ length: count }, () => formatMessageId(ids.next()))
    const filter = new IdFilter(8_192)
    const taken = (ids: readonly string[]): number => ids.filter(id => filter.mayHold(id)).length / ids.length
    const first = [...ofOne(4_096), ...many(4_096)]
    for (const id of first) filter.add(id)
    expect(taken(first)).toBe(1)
    for (const fresh of [ofOne(8_192), many(8_192)]) expect(taken(fresh)).toBeLessThan(0.1)
    filter.turn()
    expect(taken(first)).toBe(1)
    filter.turn()
    expect(taken(first)).toBe(0)
  })
})
