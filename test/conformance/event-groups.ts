/**
 * What every events provider promises of groups and of dead letters, as tests. Each test uses channels of its own, so that one provider
 * serves them all; waits are for what is promised to come, and short.
 */
import { randomBytes } from 'node:crypto'
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals'
import fc from 'fast-check'
import { LIMITS } from '../../cmtp/limits.ts'
import type { EventsProvider, GroupSettings, Taken } from '../../services/events/provider.ts'
import { gather } from '../support/gather.ts'
import type { EventsUnderTest } from './events.ts'

const bytes = (text: string): Uint8Array => new TextEncoder().encode(text)
const texts = (taken: readonly Taken[]): string[] => taken.map(({ event }) => Buffer.from(event.data).toString())
const fresh = (): string => `group.${randomBytes(8).toString('hex')}`
const OWNER = 'somebody'

const letterId = (): string => randomBytes(16).toString('hex')

/** Long enough for any test, so that nothing comes again by itself unless a test says so. */
const SETTINGS: GroupSettings = { from: 'first', ackWaitMs: 60_000, attempts: 5, backoffMs: 10 }
/** How long to wait for what is sure to come. */
const SURE = { waitMs: 10_000 }

export function eventGroupsConformance(name: string, create: () => Promise<EventsUnderTest>): void {
  describe(`groups of events provider ${name}`, () => {
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

    async function filled(count: number, settings: Partial<GroupSettings> = {}): Promise<string> {
      const channel = fresh()
      for (let i = 1; i <= count; i++) await events.publish(channel, bytes(`${i}`))
      await events.groups.open(channel, 'g', { ...SETTINGS, ...settings })
      return channel
    }

    /** So many events of a group, or more where there are more. */
    function taken(channel: string, group: string, count: number): Promise<Taken[]> {
      return gather(count, () => events.groups.take(channel, group, { max: 10, ...SURE }))
    }

    test('a group begins at the first event, at a sequence, or at what is still to come', async () => {
      const channel = await filled(2)
      const { seq } = await events.publish(channel, bytes('3'))
      await events.groups.open(channel, 'from', { ...SETTINGS, from: seq })
      await events.groups.open(channel, 'new', { ...SETTINGS, from: 'new' })
      await events.publish(channel, bytes('4'))
      expect(texts(await taken(channel, 'g', 4))).toEqual(['1', '2', '3', '4'])
      expect(texts(await taken(channel, 'from', 2))).toEqual(['3', '4'])
      expect(texts(await taken(channel, 'new', 1))).toEqual(['4'])
    })

    test('what is taken says which event it is, and that it is the first attempt', async () => {
      const channel = await filled(1)
      const [taken] = await events.groups.take(channel, 'g', { max: 1, ...SURE })
      expect(taken?.event).toEqual({ ...(await events.latest(channel)), data: expect.anything() })
      expect(taken?.attempt).toBe(1)
      expect(taken?.token).toMatch(/^[0-9.]+$/)
    })

    test('each event is in one hand, however many take at once', async () => {
      const channel = await filled(30)
      const takers = Array.from({ length: 6 }, async () => {
        const own: string[] = []
        for (;;) {
          const taken = await events.groups.take(channel, 'g', { max: 3, waitMs: 100 })
          if (taken.length === 0) return own
          own.push(...texts(taken))
        }
      })
      const all = (await Promise.all(takers)).flat()
      expect(all.map(Number).sort((a, b) => a - b)).toEqual(Array.from({ length: 30 }, (_, i) => i + 1))
    })

    test('several are taken at once, no more than asked for, and two groups share nothing', async () => {
      const channel = await filled(20)
      await events.groups.open(channel, 'other', SETTINGS)
      const sizes: number[] = []
      const all = await gather(20, async () => {
        const some = await events.groups.take(channel, 'g', { max: 3, ...SURE })
        sizes.push(some.length)
        return some
      })
      expect(texts(all)).toEqual(Array.from({ length: 20 }, (_, i) => `${i + 1}`))
      expect(Math.max(...sizes)).toBe(3)
      expect(texts(await taken(channel, 'other', 20))).toEqual(texts(all))
    })

    test('who waits gets what is published meanwhile', async () => {
      const channel = await filled(0)
      const waiting = events.groups.take(channel, 'g', { max: 5, ...SURE })
      await events.publish(channel, bytes('late'))
      expect(texts(await waiting)).toEqual(['late'])
    })

    test('an event that is done with never comes again, and a second time is none', async () => {
      const channel = await filled(2, { ackWaitMs: 200 })
      const [first, second] = await taken(channel, 'g', 2)
      await events.groups.done(channel, 'g', first?.token ?? '')
      await events.groups.done(channel, 'g', first?.token ?? '')
      // The other comes again when its time is over: then the first would have, too.
      const again = await events.groups.take(channel, 'g', { max: 2, ...SURE })
      expect(again).toMatchObject([{ attempt: 2, event: { seq: second?.event.seq } }])
      await events.groups.done(channel, 'g', again[0]?.token ?? '')
      expect(await events.groups.state(channel, 'g')).toMatchObject({ waiting: 0, inHand: 0 })
    })

    test('an event that is let go comes again after its pause, and its attempts are counted', async () => {
      const channel = await filled(1)
      for (let attempt = 1; attempt <= 4; attempt++) {
        const [taken] = await events.groups.take(channel, 'g', { max: 1, ...SURE })
        expect(taken).toMatchObject({ attempt })
        await events.groups.again(channel, 'g', taken?.token ?? '', 5)
      }
      const [last] = await events.groups.take(channel, 'g', { max: 1, ...SURE })
      await events.groups.again(channel, 'g', last?.token ?? '', 60_000)
      expect(await events.groups.take(channel, 'g', { max: 1, waitMs: 50 })).toEqual([])
      expect(await events.groups.state(channel, 'g')).toMatchObject({ waiting: 0, inHand: 1 })
    })

    test('a token tells its event and attempt, to whoever looks', async () => {
      const channel = await filled(1)
      const [taken] = await events.groups.take(channel, 'g', { max: 1, ...SURE })
      const look = await events.groups.look(channel, 'g', taken?.token ?? '')
      expect(look.attempt).toBe(1)
      expect(Buffer.from(look.event?.data ?? []).toString()).toBe('1')
    })

    test('an event that is put back comes to its group alone, with its attempts counted anew, and goes when it is done', async () => {
      const channel = await filled(1)
      await events.groups.open(channel, 'other', { ...SETTINGS, from: 'new' })
      const [taken] = await events.groups.take(channel, 'g', { max: 1, ...SURE })
      await events.groups.done(channel, 'g', taken?.token ?? '')
      if (taken === undefined) throw new Error('nothing was taken')
      await events.groups.putBack('g', taken.event, 'a letter')
      expect(await events.groups.take(channel, 'other', { max: 1, waitMs: 0 })).toEqual([])
      const [again] = await events.groups.take(channel, 'g', { max: 1, ...SURE })
      expect(again).toMatchObject({ attempt: 1, event: { channel, seq: taken.event.seq, timeMs: taken.event.timeMs } })
      expect(Buffer.from((await events.groups.look(channel, 'g', again?.token ?? '')).event?.data ?? []).toString()).toBe('1')
      await events.groups.again(channel, 'g', again?.token ?? '', 5)
      const [second] = await events.groups.take(channel, 'g', { max: 1, ...SURE })
      expect(second).toMatchObject({ attempt: 2, event: { seq: taken.event.seq } })
      await events.groups.done(channel, 'g', second?.token ?? '')
      expect((await events.groups.look(channel, 'g', second?.token ?? '')).event).toBeUndefined()
      // Who was not told that it was put back says so again; another letter of it is another matter.
      await events.groups.putBack('g', taken.event, 'a letter')
      expect(await events.groups.take(channel, 'g', { max: 1, waitMs: 0 })).toEqual([])
      await events.groups.putBack('g', taken.event, 'another letter')
      expect(await events.groups.take(channel, 'g', { max: 1, ...SURE })).toMatchObject([{ attempt: 1, event: { seq: taken.event.seq } }])
      expect(await events.count(channel)).toBe(1)
    })

    test('a group that is there stays as it is when it is opened once more', async () => {
      const channel = await filled(1, { ackWaitMs: 12_000, attempts: 3 })
      const state = await events.groups.open(channel, 'g', { ...SETTINGS, from: 'new', attempts: 9 })
      expect(state).toEqual({ channel, group: 'g', settings: { from: 'first', ackWaitMs: 12_000, attempts: 3, backoffMs: 10 }, waiting: 1, inHand: 0 })
      expect(await events.groups.state(channel, 'g')).toEqual(state)
    })

    test('the groups of a channel are listed by name, and a removed one is forgotten with its position', async () => {
      const channel = await filled(1)
      await events.groups.open(channel, 'a', SETTINGS)
      expect((await events.groups.list(channel)).map(({ group }) => group)).toEqual(['a', 'g'])
      await events.groups.take(channel, 'g', { max: 1, ...SURE })
      expect([await events.groups.remove(channel, 'g'), await events.groups.remove(channel, 'g')]).toEqual([true, false])
      expect((await events.groups.list(channel)).map(({ group }) => group)).toEqual(['a'])
      await events.groups.open(channel, 'g', SETTINGS)
      expect(texts(await events.groups.take(channel, 'g', { max: 1, ...SURE }))).toEqual(['1'])
    })

    test('a group that is not there is refused by name', async () => {
      const channel = fresh()
      const missing = { code: 'CMESH_EVENTS_NO_GROUP', message: `The channel ${channel} has no group g; who opens it makes one.` }
      await expect(events.groups.take(channel, 'g', { max: 1, waitMs: 0 })).rejects.toMatchObject(missing)
      await expect(events.groups.state(channel, 'g')).rejects.toMatchObject(missing)
      await expect(events.groups.done(channel, 'g', '0.1.1.1.1')).rejects.toMatchObject(missing)
      await expect(events.groups.again(channel, 'g', '0.1.1.1.1', 0)).rejects.toMatchObject(missing)
    })

    test('who waits hears that its group was removed', async () => {
      const channel = await filled(0)
      const waiting = events.groups.take(channel, 'g', { max: 1, waitMs: 500 })
      waiting.catch(() => undefined)
      await events.groups.remove(channel, 'g')
      await expect(waiting).rejects.toMatchObject({ code: 'CMESH_EVENTS_NO_GROUP' })
    })

    test('no text that is no token does anything', async () => {
      const channel = await filled(1)
      await fc.assert(fc.asyncProperty(fc.string({ unit: fc.constantFrom(...'019.*> -a') }), async token => {
        fc.pre(!/^[01](?:\.(?:0|[1-9]\d{0,15})){3}\.\d{1,19}$/.test(token))
        await expect(events.groups.done(channel, 'g', token)).rejects.toMatchObject({ code: 'CMESH_EVENTS_GROUP' })
      }), { numRuns: 200 })
      expect(texts(await events.groups.take(channel, 'g', { max: 1, ...SURE }))).toEqual(['1'])
    })

    describe('dead letters', () => {
      test('a letter is kept under its id, once, and listed in order until it is removed', async () => {
        const [one, two] = [letterId(), letterId()]
        await events.letters.put(one, bytes('one'), OWNER)
        await events.letters.put(one, bytes('again'), OWNER)
        await events.letters.put(two, bytes('two'), OWNER)
        const first = await events.letters.get(one)
        expect(first).toMatchObject({ id: one })
        expect(Buffer.from(first?.data ?? []).toString()).toBe('one')
        const listed = await events.letters.list(first?.place ?? 0, 10)
        expect(listed.map(({ id }) => id)).toEqual([one, two])
        expect(listed.map(({ data }) => Buffer.from(data).toString())).toEqual(['one', 'two'])
        expect((await events.letters.list(first?.place ?? 0, 1)).map(({ id }) => id)).toEqual([one])
        expect([await events.letters.remove(one), await events.letters.remove(one)]).toEqual([true, false])
        expect(await events.letters.get(one)).toBeUndefined()
        expect((await events.letters.list(first?.place ?? 0, 10)).map(({ id }) => id)).toEqual([two])
      })

      test('one that was removed may come again', async () => {
        const id = letterId()
        await events.letters.put(id, bytes('one'), OWNER)
        await events.letters.remove(id)
        await events.letters.put(id, bytes('two'), OWNER)
        expect(Buffer.from((await events.letters.get(id))?.data ?? []).toString()).toBe('two')
      })

      test('those of one owner have a part of the room: its oldest go, and nobody else\'s', async () => {
        const [others, ...own] = Array.from({ length: 34 }, letterId) as [string, ...string[]]
        await events.letters.put(others, bytes('of another'), `${OWNER} too`)
        for (const id of own) await events.letters.put(id, new Uint8Array(LIMITS.letterBytes), `${OWNER} else`)
        const gone = await Promise.all([others, ...own].map(async id => await events.letters.get(id) === undefined))
        expect(gone).toEqual([false, true, true, ...Array<boolean>(31).fill(false)])
        await Promise.all(own.map(id => events.letters.remove(id)))
      })

      test('one that is too large is refused', async () => {
        await events.letters.put(letterId(), new Uint8Array(LIMITS.letterBytes), OWNER)
        await expect(events.letters.put(letterId(), new Uint8Array(LIMITS.letterBytes + 1), OWNER)).rejects.toMatchObject({
          code: 'CMESH_FRAME_TOO_LARGE', message: 'The dead letter has 262145 bytes; at most 262144 are allowed.',
        })
      })
    })
  })
}
