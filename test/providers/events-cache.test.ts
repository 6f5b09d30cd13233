import { describe, expect, test } from '@jest/globals'
import fc from 'fast-check'
import { LatestCache, type ReadTicket } from '../../providers/events/latest-cache.ts'
import type { MeshEvent } from '../../services/events/provider.ts'

const AMPLE = { entries: 100, bytes: 1_000_000 }
const event = (channel: string, seq: number, bytes = 1): MeshEvent => ({ channel, seq, timeMs: seq, data: new Uint8Array(bytes) })

describe('the cache of newest events', () => {
  test('knows nothing of a channel nobody asked about', () => {
    const cache = new LatestCache(AMPLE)
    cache.stored('a', 1, event('a', 1))
    expect(cache.get('a')).toBeUndefined()
  })

  test('answers with what a read found, also when that is nothing', () => {
    const cache = new LatestCache(AMPLE)
    expect(cache.end(cache.begin('a'), event('a', 3))).toBe(true)
    expect(cache.end(cache.begin('b'), undefined)).toBe(true)
    expect(cache.get('a')?.event?.seq).toBe(3)
    expect(cache.get('b')).toMatchObject({ event: undefined })
  })

  test('takes a newer event over at once, and ignores an older one', () => {
    const cache = new LatestCache(AMPLE)
    cache.end(cache.begin('a'), event('a', 3))
    cache.stored('a', 5, event('a', 5))
    cache.stored('a', 4, event('a', 4))
    expect(cache.get('a')?.event?.seq).toBe(5)
  })

  test('does not answer while it knows only that something newer is stored', () => {
    const cache = new LatestCache(AMPLE)
    cache.end(cache.begin('a'), event('a', 3))
    cache.stored('a', 5)
    expect(cache.get('a')).toBeUndefined()
    cache.stored('a', 5, event('a', 5))
    expect(cache.get('a')?.event?.seq).toBe(5)
  })

  test('a read that arrives behind a newer event is stale, and changes nothing', () => {
    const cache = new LatestCache(AMPLE)
    const ticket = cache.begin('a')
    cache.stored('a', 2, event('a', 2))
    expect(cache.end(ticket, event('a', 1))).toBe(false)
    expect(cache.end(ticket, undefined)).toBe(false)
    expect(cache.get('a')).toBeUndefined()
    expect(cache.end(ticket, event('a', 2))).toBe(true)
    expect(cache.get('a')?.event?.seq).toBe(2)
  })

  test('an old event that the feed brings late is not taken for the newest before a read ended', () => {
    const cache = new LatestCache(AMPLE)
    const ticket = cache.begin('a')
    cache.stored('a', 1, event('a', 1))
    expect(cache.get('a')).toBeUndefined()
    cache.end(ticket, event('a', 2))
    expect(cache.get('a')?.event?.seq).toBe(2)
  })

  test('a read begun before a clear is true for its caller but not kept', () => {
    const cache = new LatestCache(AMPLE)
    const ticket = cache.begin('a')
    cache.clear()
    expect(cache.end(ticket, event('a', 1))).toBe(true)
    expect(cache.get('a')).toBeUndefined()
  })

  test('a read begun before a clear is not kept either when another one has begun since', () => {
    const cache = new LatestCache(AMPLE)
    const before = cache.begin('a')
    cache.clear()
    cache.stored('a', 2, event('a', 2))
    const after = cache.begin('a')
    cache.end(before, event('a', 1))
    expect(cache.get('a')).toBeUndefined()
    cache.end(after, event('a', 2))
    expect(cache.get('a')?.event?.seq).toBe(2)
  })

  test('forgets the channels that were not asked about lately', () => {
    const cache = new LatestCache({ entries: 2, bytes: 1_000_000 })
    for (const channel of ['a', 'b', 'c', 'a', 'd', 'e', 'a', 'f', 'g']) {
      if (cache.get(channel) === undefined) cache.end(cache.begin(channel), event(channel, 1))
    }
    expect(cache.get('a')).toBeDefined()
    expect(cache.get('b')).toBeUndefined()
  })

  test('holds no more bytes than its generations may', () => {
    const cache = new LatestCache({ entries: 1_000, bytes: 10_000 })
    for (let i = 0; i < 100; i++) cache.end(cache.begin(`c${i}`), event(`c${i}`, 1, 1_000))
    const held = Array.from({ length: 100 }, (_, i) => cache.get(`c${i}`)).filter(entry => entry !== undefined).length
    expect(held).toBeGreaterThan(0)
    expect(held).toBeLessThanOrEqual(20)
  })

  test('never answers with less than it was told of, and with the truth when all was told, in any interleaving', () => {
    const channels = ['a', 'b', 'c', 'd', 'e']
    const channel = fc.constantFrom(...channels)
    const step = fc.oneof(
      fc.record({ do: fc.constant('store' as const), channel, ack: fc.boolean() }),
      fc.record({ do: fc.constant('feed' as const), channel, whole: fc.boolean() }),
      fc.record({ do: fc.constant('begin' as const), channel }),
      fc.record({ do: fc.constant('serve' as const), channel }),
      fc.record({ do: fc.constant('end' as const), channel }),
      fc.record({ do: fc.constant('clear' as const), channel }),
    )
    const entries = fc.integer({ min: 1, max: 4 })
    fc.assert(fc.property(fc.array(step, { maxLength: 120 }), entries, (steps, perGeneration) => {
      const cache = new LatestCache({ entries: perGeneration, bytes: 1_000_000 })
      const truth = new Map<string, number>()
      const told = new Map<string, number>()
      const unfed: { channel: string, seq: number }[] = []
      const reads: { ticket: ReadTicket, served: number | undefined, channel: string }[] = []
      let seq = 0
      const feed = (whole: boolean): void => {
        const next = unfed.shift()
        if (next === undefined) return
        told.set(next.channel, Math.max(told.get(next.channel) ?? 0, next.seq))
        cache.stored(next.channel, next.seq, whole ? event(next.channel, next.seq) : undefined)
      }
      const end = (of: string): void => {
        const at = reads.findIndex(read => read.channel === of && read.served !== undefined)
        const [read] = at === -1 ? [] : reads.splice(at, 1)
        if (read?.served !== undefined) cache.end(read.ticket, read.served === 0 ? undefined : event(of, read.served))
      }
      for (const { do: act, channel: of, ...rest } of steps) {
        if (act === 'store') {
          truth.set(of, ++seq)
          unfed.push({ channel: of, seq })
          if ('ack' in rest && rest.ack) {
            told.set(of, seq)
            cache.stored(of, seq)
          }
        } else if (act === 'feed') feed('whole' in rest && rest.whole)
        else if (act === 'begin') reads.push({ ticket: cache.begin(of), served: undefined, channel: of })
        else if (act === 'serve') {
          const read = reads.find(one => one.channel === of && one.served === undefined)
          if (read !== undefined) read.served = truth.get(of) ?? 0
        } else if (act === 'end') end(of)
        else cache.clear()
        for (const name of channels) {
          const known = cache.get(name)
          if (known !== undefined) expect(known.event?.seq ?? 0).toBeGreaterThanOrEqual(told.get(name) ?? 0)
        }
      }
      while (unfed.length > 0) feed(true)
      for (const name of channels) {
        const known = cache.get(name)
        if (known !== undefined) expect(known.event?.seq ?? 0).toBe(truth.get(name) ?? 0)
      }
    }), { numRuns: 2_000 })
  })
})
