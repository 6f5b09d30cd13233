/**
 * What every events provider promises, as tests. `registry.test.ts` calls this with a way to make one; each test
 * uses channels of its own, so that one provider serves them all.
 */
import { randomBytes } from 'node:crypto'
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals'
import { LIMITS } from '../../cmtp/limits.ts'
import type { EventsProvider, MeshEvent, Taken } from '../../services/events/provider.ts'
import { gather } from '../support/gather.ts'

export interface EventsUnderTest {
  /** Not started yet. */
  readonly provider: EventsProvider
  /** Lets go of what the provider stands on. Called after `provider.stop`. */
  dispose(): Promise<void>
}

const bytes = (text: string): Uint8Array => new TextEncoder().encode(text)
const text = (event: MeshEvent | undefined): string | undefined => event && Buffer.from(event.data).toString()
const freshChannel = (): string => `test.${randomBytes(8).toString('hex')}`

/** Collects events and resolves `reached` once so many are there. */
export function collector(count: number): { events: MeshEvent[], handler: (event: MeshEvent) => void, reached: Promise<void> } {
  const events: MeshEvent[] = []
  let done: () => void = () => undefined
  const reached = new Promise<void>(resolve => { done = resolve })
  return {
    events,
    reached,
    handler: event => {
      events.push(event)
      if (events.length === count) done()
    },
  }
}

export function eventsConformance(name: string, create: () => Promise<EventsUnderTest>): void {
  describe(`events provider ${name}`, () => {
    let made: EventsUnderTest
    let events: EventsProvider

    beforeAll(async () => {
      made = await create()
      events = made.provider
      await events.start()
    })

    afterAll(async () => {
      await events.stop()
      await made.dispose()
    })

    test('start is memoised', async () => {
      await Promise.all([events.start(), events.start()])
    })

    describe('publish', () => {
      test('gives rising sequences, whatever other channels do meanwhile', async () => {
        const [channel, other] = [freshChannel(), freshChannel()]
        const seqs: number[] = []
        for (let i = 0; i < 20; i++) {
          const result = await events.publish(channel, bytes(`${i}`))
          expect(result.duplicate).toBe(false)
          seqs.push(result.seq)
          await events.publish(other, bytes('x'))
        }
        expect(seqs[0]).toBeGreaterThanOrEqual(1)
        expect(seqs).toEqual([...new Set(seqs)].sort((a, b) => a - b))
      })

      test('many at once each get a sequence of their own, and none is lost', async () => {
        const channel = freshChannel()
        const results = await Promise.all(Array.from({ length: 500 }, (_, i) => events.publish(channel, bytes(`${i}`))))
        const stored = await events.range(channel, { limit: 1_000 })
        expect(stored.map(event => event.seq)).toEqual(results.map(result => result.seq).sort((a, b) => a - b))
        const wanted = new Map(results.map((result, i) => [result.seq, `${i}`]))
        expect(new Map(stored.map(event => [event.seq, text(event)]))).toEqual(wanted)
      })

      test('with an id seen before stores nothing and gives the first sequence', async () => {
        const channel = freshChannel()
        const first = await events.publish(channel, bytes('one'), { id: 'same' })
        const second = await events.publish(channel, bytes('two'), { id: 'same' })
        expect(first.duplicate).toBe(false)
        expect(second).toMatchObject({ seq: first.seq, duplicate: true })
        expect((await events.range(channel, {})).map(text)).toEqual(['one'])
      })

      test('with one id many times at once stores one event', async () => {
        const channel = freshChannel()
        const results = await Promise.all(Array.from({ length: 50 }, () => events.publish(channel, bytes('x'), { id: 'same' })))
        expect(new Set(results.map(result => result.seq)).size).toBe(1)
        expect(results.filter(result => !result.duplicate)).toHaveLength(1)
        expect(await events.count(channel)).toBe(1)
      })

      test('takes an id as belonging to its channel', async () => {
        const [channel, other] = [freshChannel(), freshChannel()]
        const first = await events.publish(channel, bytes('x'), { id: 'same' })
        const second = await events.publish(other, bytes('y'), { id: 'same' })
        expect(second.duplicate).toBe(false)
        expect(second.seq).not.toBe(first.seq)
        expect(text(await events.latest(other))).toBe('y')
      })

      test.each(['with space', 'line\r\nbreak', 'ünïcode', 'x'.repeat(1_000), ''])('takes any text for an id: %j', async id => {
        const channel = freshChannel()
        const first = await events.publish(channel, bytes('x'), { id })
        expect(await events.publish(channel, bytes('x'), { id })).toMatchObject({ seq: first.seq, duplicate: true })
      })

      test('without an id stores equal events twice', async () => {
        const channel = freshChannel()
        await events.publish(channel, bytes('x'))
        expect((await events.publish(channel, bytes('x'))).duplicate).toBe(false)
        expect(await events.count(channel)).toBe(2)
      })

      test('stores the bytes as they were, even if the caller uses its buffer again', async () => {
        const channel = freshChannel()
        const data = Uint8Array.from([0, 1, 2, 254, 255])
        await events.publish(channel, data)
        data.fill(7)
        expect([...(await events.latest(channel))?.data ?? []]).toEqual([0, 1, 2, 254, 255])
      })

      test('takes an event of no bytes, and one of the largest size', async () => {
        const channel = freshChannel()
        await events.publish(channel, new Uint8Array(0))
        expect((await events.latest(channel))?.data).toHaveLength(0)
        await events.publish(channel, new Uint8Array(LIMITS.eventBytes), { id: 'x'.repeat(100) })
        expect((await events.latest(channel))?.data).toHaveLength(LIMITS.eventBytes)
        expect(await events.count(channel)).toBe(2)
      })

      /** What a tail, a range and a group give of the first three events of a channel; and as the group has them in hand. */
      async function readEverywhere(channel: string, publish: () => Promise<void>): Promise<{ reads: readonly MeshEvent[][], taken: readonly Taken[] }> {
        const { events: heard, handler, reached } = collector(3)
        const subscription = events.subscribe(channel, handler)
        await events.groups.open(channel, 'readers', { from: 'first', ackWaitMs: 60_000, attempts: 5, backoffMs: 10 })
        await publish()
        await reached
        subscription.close()
        const taken = await gather(3, () => events.groups.take(channel, 'readers', { max: 3, waitMs: 10_000 }))
        return { reads: [heard, [...await events.range(channel, {})], taken.map(({ event }) => event)], taken }
      }

      test('keeps the trace that an event belongs to, wherever it is read, and none for one without', async () => {
        const channel = freshChannel()
        const traceparent = '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01'
        const { reads } = await readEverywhere(channel, async () => {
          await events.publish(channel, bytes('plain'), { id: 'plain' })
          await events.publish(channel, bytes('alone'), { traceparent })
          expect((await events.latest(channel))?.traceparent).toBe(traceparent)
          await events.publish(channel, bytes('with an id'), { id: 'traced', traceparent })
        })
        for (const read of reads) {
          expect(read.map(event => event.traceparent)).toEqual([undefined, traceparent, traceparent])
          expect('traceparent' in (read[0] ?? {})).toBe(false)
        }
      })

      test('keeps what an event came from, wherever it is read and however often it is handed out, and nothing for one of the mesh itself', async () => {
        const channel = freshChannel()
        const request = '00112233445566778899aabbccddeeff'
        const origins = [undefined, { request }, { request, block: Number.MAX_SAFE_INTEGER, index: 0 }]
        const { reads, taken } = await readEverywhere(channel, async () => {
          for (const [i, origin] of origins.entries()) {
            await events.publish(channel, bytes('x'), { id: `${i}`, ...(origin !== undefined && { origin }), traceparent: 'beside it' })
            expect((await events.latest(channel))?.origin).toEqual(origin)
          }
        })
        for (const read of reads) {
          expect(read.map(event => event.origin)).toEqual(origins)
          expect(read.map(event => event.traceparent)).toEqual(['beside it', 'beside it', 'beside it'])
          expect('origin' in (read[0] ?? {})).toBe(false)
        }
        for (const [i, { event, token }] of taken.entries()) {
          await events.groups.done(channel, 'readers', token)
          await events.groups.putBack('readers', event, `letter ${i}`)
        }
        const again = await gather(taken.length, () => events.groups.take(channel, 'readers', { max: 3, waitMs: 10_000 }))
        expect(again.map(({ event }) => event.origin)).toEqual(origins)
      })

      test('refuses an event one byte too large', async () => {
        const channel = freshChannel()
        await expect(events.publish(channel, new Uint8Array(LIMITS.eventBytes + 1))).rejects.toMatchObject({
          code: 'CMESH_EVENTS_PAYLOAD', message: 'The event has 65537 bytes; at most 65536 are allowed.',
        })
        expect(await events.count(channel)).toBe(0)
      })

      test.each(['events.state.contracts.0x001.blah_blah', 'a', 'A-b_c~d^e.f', '..', 'x'.repeat(255), '.'.repeat(255)])(
        'the channel %s is a channel of its own', async name => {
          // Its own even where the provider keeps events of an earlier run: counted from here on.
          const before = await events.count(name)
          const { seq } = await events.publish(name, bytes('mine'))
          expect(await events.count(name)).toBe(before + 1)
          expect(await events.latest(name)).toMatchObject({ channel: name, seq })
          expect((await events.range(name, { from: seq })).map(event => [event.channel, text(event)])).toEqual([[name, 'mine']])
        })

      test.each([['', 'it is empty'], ['x'.repeat(256), 'it is longer than 255 bytes'], ['é'.repeat(128), 'it is longer than 255 bytes']])(
        'refuses the channel %j', async (channel, reason) => {
          await expect(events.publish(channel, bytes('x'))).rejects.toMatchObject({
            code: 'CMESH_EVENTS_CHANNEL', message: `The channel ${channel.slice(0, 64)} is not valid: ${reason}.`,
          })
        })
    })

    describe('latest', () => {
      test('is undefined for a channel without events, also when asked again', async () => {
        const channel = freshChannel()
        expect(await events.latest(channel)).toBeUndefined()
        expect(await events.latest(channel)).toBeUndefined()
      })

      test('sees the first event of a channel that was asked about before', async () => {
        const channel = freshChannel()
        await events.latest(channel)
        const { seq } = await events.publish(channel, bytes('first'))
        expect(await events.latest(channel)).toMatchObject({ seq, data: expect.anything() })
      })

      test('sees an event as soon as its publish resolved, time after time', async () => {
        const channel = freshChannel()
        for (let i = 0; i < 100; i++) {
          const { seq } = await events.publish(channel, bytes(`${i}`))
          const seen = await events.latest(channel)
          expect([seen?.seq, text(seen)]).toEqual([seq, `${i}`])
        }
      })

      test('never goes back while others publish and read', async () => {
        const channel = freshChannel()
        let published = 0
        const publishing = (async () => {
          for (let i = 0; i < 300; i++) published = (await events.publish(channel, bytes(`${i}`))).seq
        })()
        let settled = false
        void publishing.finally(() => { settled = true })
        let highest = 0
        while (!settled) {
          const before = published
          const seen = (await events.latest(channel))?.seq ?? 0
          expect(seen).toBeGreaterThanOrEqual(Math.max(highest, before))
          highest = seen
          // An answer from memory takes no turn of the event loop; the publishes need one.
          await new Promise(resolve => { setImmediate(resolve) })
        }
        await publishing
        expect((await events.latest(channel))?.seq).toBe(published)
      })

      test('answers without a promise for a channel just read', async () => {
        const channel = freshChannel()
        const { seq } = await events.publish(channel, bytes('x'))
        // The first answers tell the provider that somebody cares; from some point on none of them needs waiting for.
        let answer = events.latest(channel)
        while (answer instanceof Promise) {
          await answer
          answer = events.latest(channel)
        }
        expect(answer).toMatchObject({ seq })
      })
    })

    describe('range', () => {
      let channel: string
      let seqs: number[]

      beforeAll(async () => {
        channel = freshChannel()
        seqs = []
        for (let i = 0; i < 10; i++) {
          seqs.push((await events.publish(channel, bytes(`${i}`))).seq)
          await events.publish(freshChannel(), bytes('between'))
        }
      })

      const at = (index: number): number => seqs[index] as number
      const read = async (range: Parameters<EventsProvider['range']>[1]): Promise<string[]> =>
        (await events.range(channel, range)).map(event => text(event) ?? '')

      test('gives a channel from its beginning, in order', async () => {
        const found = await events.range(channel, {})
        expect(found.map(text)).toEqual(['0', '1', '2', '3', '4', '5', '6', '7', '8', '9'])
        expect(found.map(event => event.seq)).toEqual(seqs)
        expect(new Set(found.map(event => event.channel))).toEqual(new Set([channel]))
      })

      test('includes both its ends', async () => {
        expect(await read({ from: at(3), to: at(5) })).toEqual(['3', '4', '5'])
        expect(await read({ from: at(4), to: at(4) })).toEqual(['4'])
      })

      test('takes ends that lie between events', async () => {
        expect(await read({ from: at(3) + 1, to: at(5) + 1 })).toEqual(['4', '5'])
        expect(await read({ from: at(3) + 1, to: at(4) - 1 })).toEqual([])
      })

      test('stops at its limit, and goes on from behind it', async () => {
        expect(await read({ limit: 4 })).toEqual(['0', '1', '2', '3'])
        expect(await read({ from: at(3) + 1, limit: 4 })).toEqual(['4', '5', '6', '7'])
        expect(await read({ from: at(7) + 1, limit: 4 })).toEqual(['8', '9'])
      })

      test('gives 100 events when no limit is said', async () => {
        const long = freshChannel()
        await Promise.all(Array.from({ length: 101 }, () => events.publish(long, bytes('x'))))
        expect(await events.range(long, {})).toHaveLength(100)
      })

      test('is empty behind the newest event, and for a channel without events', async () => {
        expect(await read({ from: at(9) + 1 })).toEqual([])
        expect(await events.range(freshChannel(), {})).toEqual([])
      })

      test('dates an event as latest does, and never backwards', async () => {
        const found = await events.range(channel, {})
        const times = found.map(event => event.timeMs)
        expect(times).toEqual([...times].sort((a, b) => a - b))
        expect(await events.latest(channel)).toEqual({ ...found.at(-1), data: expect.anything() })
      })

      test.each([
        [{ from: 0 }, 'from is 0, not a whole number from 1'],
        [{ from: 1.5 }, 'from is 1.5, not a whole number from 1'],
        [{ from: Number.NaN }, 'from is NaN, not a whole number from 1'],
        [{ to: -1 }, 'to is -1, not a whole number from 1'],
        [{ from: 3, to: 2 }, 'from (3) lies behind to (2)'],
        [{ limit: 0 }, 'limit is 0, not a whole number from 1 to 1000'],
        [{ limit: 1_001 }, 'limit is 1001, not a whole number from 1 to 1000'],
      ])('refuses %j', async (range, reason) => {
        await expect(events.range(channel, range)).rejects.toMatchObject({
          code: 'CMESH_EVENTS_RANGE', message: `The range is not valid: ${reason}.`,
        })
      })
    })

    test('count is the number of events of that channel alone', async () => {
      const [channel, other] = [freshChannel(), freshChannel()]
      expect(await events.count(channel)).toBe(0)
      await events.publish(channel, bytes('1'))
      await events.publish(other, bytes('x'))
      await events.publish(channel, bytes('2'))
      expect(await events.count(channel)).toBe(2)
    })

    describe('subscribe', () => {
      test('hands over what is stored from then on, each once, in order', async () => {
        const channel = freshChannel()
        await events.publish(channel, bytes('before'))
        const { events: seen, handler, reached } = collector(50)
        const subscription = events.subscribe(channel, handler)
        const results = await Promise.all(Array.from({ length: 50 }, (_, i) => events.publish(channel, bytes(`${i}`))))
        await reached
        subscription.close()
        expect(seen.map(event => event.seq)).toEqual(results.map(result => result.seq).sort((a, b) => a - b))
        expect(seen.map(event => event.channel)).toEqual(Array.from({ length: 50 }, () => channel))
        const stored = await events.range(channel, { from: results[0]?.seq ?? 1 })
        expect(seen.map(event => [event.timeMs, text(event)])).toEqual(stored.map(event => [event.timeMs, text(event)]))
      })

      test('hands over nothing for a publish that was a duplicate', async () => {
        const channel = freshChannel()
        const { events: seen, handler, reached } = collector(2)
        const subscription = events.subscribe(channel, handler)
        await events.publish(channel, bytes('one'), { id: 'a' })
        await events.publish(channel, bytes('again'), { id: 'a' })
        await events.publish(channel, bytes('two'), { id: 'b' })
        await reached
        subscription.close()
        expect(seen.map(text)).toEqual(['one', 'two'])
      })

      test('hears its own channel only', async () => {
        const [channel, other] = [freshChannel(), freshChannel()]
        const { events: seen, handler, reached } = collector(1)
        const subscription = events.subscribe(channel, handler)
        await events.publish(other, bytes('other'))
        await events.publish(channel, bytes('own'))
        await reached
        subscription.close()
        expect(seen.map(text)).toEqual(['own'])
      })

      test('stops at once when closed, the others going on', async () => {
        const channel = freshChannel()
        const [closing, staying] = [collector(1), collector(2)]
        const first = events.subscribe(channel, event => {
          closing.handler(event)
          first.close()
        })
        const second = events.subscribe(channel, staying.handler)
        await events.publish(channel, bytes('1'))
        await events.publish(channel, bytes('2'))
        await Promise.all([closing.reached, staying.reached])
        first.close()
        second.close()
        expect(closing.events.map(text)).toEqual(['1'])
        expect(staying.events.map(text)).toEqual(['1', '2'])
      })
    })

    test('stop settles what is under way, is idempotent, and refuses what comes after', async () => {
      const stopping = await create()
      const { provider } = stopping
      await provider.start()
      const channel = freshChannel()
      const underWay = Array.from({ length: 20 }, (_, i) => provider.publish(channel, bytes(`${i}`)))
      await Promise.all([provider.stop(), provider.stop()])
      const results = await Promise.all(underWay)
      expect(new Set(results.map(result => result.seq)).size).toBe(20)
      const closed = { code: 'CMESH_BUS_CLOSED', message: 'The connection to the broker is closed.' }
      await expect(provider.publish(channel, bytes('late'))).rejects.toMatchObject(closed)
      await expect((async () => provider.latest(channel))()).rejects.toMatchObject(closed)
      await expect(provider.range(channel, {})).rejects.toMatchObject(closed)
      await expect(provider.count(channel)).rejects.toMatchObject(closed)
      expect(() => provider.subscribe(channel, () => undefined)).toThrow(closed.message)
      await stopping.dispose()
    })
  })
}
