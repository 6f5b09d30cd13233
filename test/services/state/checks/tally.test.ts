/** What members' words amount to, held against counting by hand at every sequence. */
import { expect, test } from '@jest/globals'
import fc from 'fast-check'
import { differing, tally, type Word } from '../../../../services/state/checks/tally.ts'

const words = fc.record({ from: fc.nat(12), more: fc.nat(8), hash: fc.constantFrom('a', 'b') })
  .map(({ from, more, hash }) => ({ did: '', from, to: from + more, hash }))

/** How many have that result at one sequence of this node's own, where they are the most. */
function most(own: Word, others: readonly Word[], hash: string, least: number): number {
  const counts = Array.from({ length: 30 }, (_, seq) => seq).filter(seq => seq >= least && own.from <= seq && seq <= own.to)
    .map(seq => others.filter(word => word.hash === hash && word.from <= seq && seq <= word.to).length)
  return Math.max(0, ...counts)
}

test('a quorum agrees exactly where so many have one result at one sequence, none before the least', () => {
  fc.assert(fc.property(words, fc.array(words, { maxLength: 6 }), fc.nat(8), fc.integer({ min: 1, max: 4 }), (own, others, back, quorum) => {
    const least = Math.max(0, own.to - back)
    const { kind, count, seq } = tally(own, others, quorum, least)
    const [agree, against] = [most(own, others, own.hash, least) + 1, most(own, others, own.hash === 'a' ? 'b' : 'a', least)]
    expect(kind).toBe(agree >= quorum ? 'agreed' : against >= quorum ? 'outvoted' : 'open')
    expect(count).toBe(kind === 'outvoted' ? against : agree)
    expect(seq).toBeGreaterThanOrEqual(least)
    if (kind === 'open') return
    const there = others.filter(word => (word.hash === own.hash) === (kind === 'agreed') && word.from <= seq && seq <= word.to)
    expect(there.length).toBeGreaterThanOrEqual(kind === 'agreed' ? quorum - 1 : quorum)
  }), { numRuns: 500 })
})

test('whose result is another at no sequence that both speak of does not differ', () => {
  const own = { did: 'me', from: 5, to: 9, hash: 'a' }
  const others = [
    { did: 'one', from: 1, to: 4, hash: 'b' }, { did: 'two', from: 1, to: 5, hash: 'b' }, { did: 'three', from: 9, to: 9, hash: 'b' }, { did: 'four', from: 10, to: 20, hash: 'b' },
    { did: 'five', from: 5, to: 9, hash: 'a' },
  ]
  expect(differing(own, others).map(({ did }) => did)).toEqual(['two', 'three'])
})
