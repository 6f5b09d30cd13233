/**
 * Groups over a broker that lost their positions: killed with -9, and with the files of its consumers' states as an older nats-server leaves them when it is
 * killed between emptying and filling one.
 */
import { readdir, readFile, stat, truncate } from 'node:fs/promises'
import path from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals'
import { jetstreamManager, type ConsumerConfig, type JetStreamManager } from '@nats-io/jetstream'
import { floorSubject } from '../../cmtp/subject.ts'
import { connectNats, type NatsBus } from '../../providers/bus/nats.ts'
import { GroupFloors } from '../../providers/events/group-floors.ts'
import { JetStreamEvents } from '../../providers/events/jetstream.ts'
import { JetStreamCalls } from '../../providers/jetstream/calls.ts'
import { ConsumerApi } from '../../providers/jetstream/consumer-api.ts'
import { StreamApi } from '../../providers/jetstream/stream-api.ts'
import type { GroupSettings, Taken } from '../../services/events/provider.ts'
import { until } from '../client/support/until.ts'
import { BrokerCluster } from '../support/broker-cluster.ts'
import { statusOf } from '../support/bus-status.ts'
import { ExternalBroker } from '../support/external-broker.ts'
import { gather } from '../support/gather.ts'

const SETTINGS: GroupSettings = { from: 'first', ackWaitMs: 60_000, attempts: 5, backoffMs: 10 }
const SURE = { max: 64, waitMs: 10_000 }
const texts = (taken: readonly Taken[]): string[] => taken.map(({ event }) => Buffer.from(event.data).toString())
const text = (from: number, to: number): string[] => Array.from({ length: to - from + 1 }, (_, i) => `${from + i}`)

let broker: ExternalBroker
let manager: JetStreamManager
/** Two nodes, each with a connection of its own. */
let buses: [NatsBus, NatsBus]
let one: JetStreamEvents
let two: JetStreamEvents
let channels = 0

beforeAll(async () => {
  broker = await ExternalBroker.start()
  buses = [await connectNats({ servers: broker.url }), await connectNats({ servers: broker.url })]
  const [first, second] = buses.map(bus => new JetStreamEvents({ bus, onFailure: () => undefined }))
  one = first as JetStreamEvents
  two = second as JetStreamEvents
  await one.start()
  await two.start()
  manager = await jetstreamManager(buses[0].connection)
})

afterAll(async () => {
  await Promise.all([one.stop(), two.stop()])
  await Promise.all(buses.map(bus => bus.close()))
  await broker.stop()
})

/** A channel with so many events, and a group of it. */
async function filled(count: number, settings: Partial<GroupSettings> = {}): Promise<string> {
  const channel = `floors.${++channels}`
  await publish(channel, 1, count)
  await one.groups.open(channel, 'g', { ...SETTINGS, ...settings })
  return channel
}

async function publish(channel: string, from: number, to: number): Promise<void> {
  for (const each of text(from, to)) await one.publish(channel, Buffer.from(each))
}

/** So many events of the group, or more where there are more. */
function take(channel: string, count: number, events = one, group = 'g'): Promise<Taken[]> {
  return gather(count, () => events.groups.take(channel, group, SURE))
}

/** So many, and no more. */
function takeOnly(channel: string, count: number, events = one): Promise<Taken[]> {
  return gather(count, max => events.groups.take(channel, 'g', { ...SURE, max }))
}

/** Takes so many and is done with them; resolves once that is noted. */
async function settle(channel: string, count: number, events = one): Promise<void> {
  const taken = await takeOnly(channel, count, events)
  for (const { token } of taken) await events.groups.done(channel, 'g', token)
  await noted(channel, taken.at(-1)?.event.seq ?? 0)
}

async function consumerOf(channel: string, group = 'g'): Promise<string> {
  for await (const { name, config } of manager.consumers.list('CMESH_EVENTS')) {
    if (config.description?.startsWith(JSON.stringify({ channel, group }).slice(0, -1)) === true) return name
  }
  throw new Error(`the broker has no consumer of ${channel}`)
}

async function noteOf(consumer: string): Promise<{ born: string, floor: number } | undefined> {
  const message = await manager.streams.getMessage('CMESH_EVENTS_FLOORS', { last_by_subj: floorSubject(consumer) })
  return message?.json()
}

async function noted(channel: string, floor: number): Promise<void> {
  const consumer = await consumerOf(channel)
  await until('it is noted', async () => (await noteOf(consumer))?.floor === floor)
}

function writeNote(consumer: string, note: object): Promise<unknown> {
  return buses[0].connection.request(floorSubject(consumer), JSON.stringify(note))
}

/** What the first node asks the broker of a group from now on, by subject. */
function listen(consumer: string): { readonly asked: readonly string[], end(): void } {
  const { connection } = buses[0]
  const asked: string[] = []
  const send = connection.publish.bind(connection)
  connection.publish = (subject, ...rest) => {
    if (subject.includes(consumer)) asked.push(subject)
    send(subject, ...rest)
  }
  return { asked, end: () => { connection.publish = send } }
}

/** Whether the broker writes the state of a consumer over what was there, as those of 2.9 and 2.10 do. */
function writesInPlace(): boolean {
  const [major = 0, minor = 0] = (buses[0].connection.info?.version ?? '').split('.').map(Number)
  return major === 2 && minor < 11
}

/** Kills the broker and brings it back, with that part of each consumer's state left that is said. */
async function loseStates(part = 0): Promise<void> {
  const gone = Promise.all(buses.map(bus => statusOf(bus, 'disconnected')))
  await broker.kill()
  await gone
  const states = (await readdir(broker.storeDir, { recursive: true })).filter(file => /\/obs\/[^/]+\/o\.dat$/.test(file))
  expect(states.length).toBeGreaterThan(0)
  for (const state of states) {
    const file = path.join(broker.storeDir, state)
    await truncate(file, Math.floor((await stat(file)).size * part))
  }
  await broker.restart()
  await Promise.all(buses.map(bus => statusOf(bus, 'connected')))
}

describe('a group whose position the broker lost', () => {
  test('goes on behind what was settled', async () => {
    const channel = await filled(5)
    // By several nodes in turn: what the last one was done with is noted, too.
    for (const node of [one, two, one]) await settle(channel, 1, node)
    await loseStates()
    const taken = await take(channel, 2)
    expect(taken.map(({ event, attempt }) => `${Buffer.from(event.data).toString()} ${attempt}`)).toEqual(['4 1', '5 1'])
    expect(await one.groups.state(channel, 'g')).toEqual({ channel, group: 'g', settings: SETTINGS, waiting: 0, inHand: 2 })
  })

  test('is one that goes back to the first event there is, where nothing was noted', async () => {
    const channel = await filled(5)
    await settle(channel, 3)
    await manager.streams.purge('CMESH_EVENTS_FLOORS')
    await loseStates()
    expect(texts(await take(channel, 5))).toEqual(text(1, 5))
  })

  test('goes on so each time, and whichever node is asked', async () => {
    const channel = await filled(3)
    for (const [node, next] of [[one, 4], [two, 5], [one, 6]] as const) {
      await settle(channel, 1, node)
      await loseStates()
      await publish(channel, next, next)
    }
    expect(texts(await take(channel, 3, two))).toEqual(text(4, 6))
  })

  test('gets again what was in hand or settled behind that, and nothing is skipped', async () => {
    const channel = await filled(4)
    const [first, held, third] = await takeOnly(channel, 3)
    for (const taken of [first, third]) await one.groups.done(channel, 'g', taken?.token ?? '')
    await noted(channel, first?.event.seq ?? 0)
    await loseStates()
    expect(texts(await take(channel, 3))).toEqual(text(2, 4))
    // A token of before is good for its event, in whoever's hand it is.
    await two.groups.done(channel, 'g', held?.token ?? '')
    expect(await one.groups.state(channel, 'g')).toMatchObject({ inHand: 2 })
  })

  test.each([['new', 4], [2, 2]] as const)('begins where it was to begin, at %s, where nothing was settled', async (from, first) => {
    const channel = await filled(3)
    const events = await one.range(channel, {})
    await one.groups.open(channel, 'other', { ...SETTINGS, from: from === 'new' ? from : events[from - 1]?.seq ?? 0 })
    await loseStates()
    await publish(channel, 4, 4)
    expect(texts(await take(channel, 5 - first, two, 'other'))).toEqual(text(first, 4))
    expect(texts(await take(channel, 4, two))).toEqual(text(1, 4))
  })

  test('gives each event to one member, however many nodes find out at once', async () => {
    const channel = await filled(40)
    await settle(channel, 10)
    await loseStates()
    const taken = await Promise.all([one, two, one, two].map(async node => {
      const own: string[] = []
      for (;;) {
        const more = await node.groups.take(channel, 'g', { max: 3, waitMs: 100 })
        if (more.length === 0) return own
        own.push(...texts(more))
      }
    }))
    expect(taken.flat().map(Number).sort((a, b) => a - b)).toEqual(text(11, 40).map(Number))
  })

  test('begins with what its channel still has, where that was trimmed meanwhile', async () => {
    const channel = await filled(6)
    await settle(channel, 2)
    const { seq = 0 } = (await one.range(channel, {}))[4] ?? {}
    await manager.streams.purge('CMESH_EVENTS', { seq })
    await loseStates()
    expect(texts(await take(channel, 2))).toEqual(text(5, 6))
    await manager.streams.purge('CMESH_EVENTS')
    await loseStates()
    await publish(channel, 7, 7)
    expect(texts(await take(channel, 1))).toEqual(['7'])
  })

  test('gets what was put back for it and not done, and no more', async () => {
    const channel = await filled(2)
    const taken = await takeOnly(channel, 2)
    for (const { token, event } of taken) {
      await one.groups.done(channel, 'g', token)
      await one.groups.putBack('g', event, `letter of ${event.seq}`)
    }
    await noted(channel, taken[1]?.event.seq ?? 0)
    const [done] = await one.groups.take(channel, 'g', { max: 2, waitMs: 10_000 })
    await one.groups.done(channel, 'g', done?.token ?? '')
    await loseStates()
    const [left, ...more] = await two.groups.take(channel, 'g', SURE)
    expect(left).toMatchObject({ attempt: 1, event: { seq: taken[1]?.event.seq } })
    await two.groups.done(channel, 'g', left?.token ?? '')
    expect([...more, ...await two.groups.take(channel, 'g', { max: 5, waitMs: 0 })]).toEqual([])
  })

  test('is not lost by half a state either', async () => {
    const channel = await filled(30)
    await settle(channel, 5)
    await takeOnly(channel, 20)
    await loseStates(0.5)
    const taken = await take(channel, 25).then(texts, (error: unknown) => (error as { code: string }).code)
    // One that writes the file in one go never leaves half of it, and may know nothing of a group where it finds that.
    expect(writesInPlace() ? [text(6, 30)] : [text(6, 30), 'CMESH_EVENTS_NO_GROUP']).toContainEqual(taken)
  })
})

describe('a note', () => {
  test('does not count for a group that was made anew, not where it is older than the note either', async () => {
    const channel = await filled(3)
    await settle(channel, 3)
    const consumer = await consumerOf(channel)
    await two.groups.remove(channel, 'g')
    expect(await noteOf(consumer)).toBeUndefined()
    await two.groups.open(channel, 'g', SETTINGS)
    // This node knows the group of before.
    const [first] = await one.groups.take(channel, 'g', { max: 1, waitMs: 10_000 })
    expect(first).toMatchObject({ attempt: 1 })
    expect(texts(await two.groups.take(channel, 'g', { max: 1, waitMs: 10_000 }))).toEqual(['2'])
    await loseStates()
    expect(texts(await take(channel, 3))).toEqual(text(1, 3))
  })

  test('does not count for one that was removed by who knows nothing of notes', async () => {
    const channel = await filled(3)
    await settle(channel, 3)
    const consumer = await consumerOf(channel)
    await manager.consumers.delete('CMESH_EVENTS', consumer)
    await manager.consumers.delete('CMESH_EVENTS_DEAD', consumer)
    await expect(two.groups.take(channel, 'g', SURE)).rejects.toMatchObject({ code: 'CMESH_EVENTS_NO_GROUP' })
    await two.groups.open(channel, 'g', SETTINGS)
    await loseStates()
    expect(texts(await take(channel, 3))).toEqual(text(1, 3))
  })

  test('does not count where the stream ends before it, or has other events there', async () => {
    const channel = await filled(2)
    const consumer = await consumerOf(channel)
    const { born = '' } = await noteOf(consumer) ?? {}
    const { seq = 0 } = (await one.range(channel, {}))[0] ?? {}
    await writeNote(consumer, { born, floor: seq + 1_000 })
    await loseStates()
    expect(texts(await take(channel, 2))).toEqual(text(1, 2))
    await writeNote(consumer, { born, floor: seq + 3 })
    await publish(channel, 3, 5)
    await loseStates()
    expect(texts(await take(channel, 5))).toEqual(text(1, 5))
  })

  test.each(['', 'null', '{"floor":2}', '{"born":1,"floor":2}', '{"born":"$","floor":"2"}', '{"born":"$","floor":2.5}', '{'])('that nobody wrote is of no group: %s', async note => {
    const channel = await filled(2)
    const consumer = await consumerOf(channel)
    await buses[0].connection.request(floorSubject(consumer), note.replace('$', (await noteOf(consumer))?.born ?? ''))
    await loseStates()
    expect(texts(await take(channel, 2))).toEqual(text(1, 2))
    expect(await noteOf(consumer)).toEqual({ born: expect.any(String), floor: 0 })
  })

  test('says nothing of what a token claims', async () => {
    const channel = await filled(4)
    const [first, second, third] = await takeOnly(channel, 3)
    // Servers since 2.10 say nothing to it.
    await one.groups.done(channel, 'g', `0.1.${(third?.event.seq ?? 0) + 1}.1.1`)
      .catch((error: unknown) => { expect(error).toMatchObject({ code: 'CMESH_BUS_TIMEOUT' }) })
    await one.groups.done(channel, 'g', first?.token ?? '')
    await noted(channel, first?.event.seq ?? 0)
    await one.groups.done(channel, 'g', third?.token ?? '')
    await loseStates()
    expect(texts(await one.groups.take(channel, 'g', { max: 1, waitMs: 10_000 }))).toEqual([Buffer.from(second?.event.data ?? []).toString()])
  })

  test('is written once a second by who settles, and no event costs a call for it', async () => {
    const channel = await filled(100)
    const consumer = await consumerOf(channel)
    await one.groups.take(channel, 'g', { max: 1, waitMs: 10_000 })
    const { asked, end } = listen(consumer)
    const beganMs = performance.now()
    for (let i = 0; i < 50; i++) {
      const [taken] = await one.groups.take(channel, 'g', { max: 1, waitMs: 10_000 })
      await one.groups.done(channel, 'g', taken?.token ?? '')
    }
    const seconds = (performance.now() - beganMs) / 1_000
    end()
    const notes = asked.filter(subject => subject === floorSubject(consumer) || subject === `$JS.API.CONSUMER.INFO.CMESH_EVENTS.${consumer}`)
    expect(asked.length - notes.length).toBe(3 * 50)
    expect(notes.length).toBeLessThanOrEqual(2 * seconds)
  })
})

describe('making a consumer anew', () => {
  /** A third node, which does something before it makes a consumer. */
  async function making<T>(before: () => Promise<void>, work: (floors: GroupFloors) => Promise<T>): Promise<T> {
    const bus = buses[0]
    const calls = new JetStreamCalls(bus)
    const events = new ConsumerApi(bus, calls, 'CMESH_EVENTS', 5_000)
    const floors = new GroupFloors({
      bus, eventsStream: new StreamApi(calls, 'CMESH_EVENTS', 5_000), notes: new StreamApi(calls, 'CMESH_EVENTS_FLOORS', 5_000),
      stopping: new AbortController().signal,
      events: {
        report: name => events.report(name),
        remove: name => events.remove(name),
        create: async (name, config) => {
          await before()
          return events.create(name, config)
        },
      },
    })
    try {
      return await work(floors)
    } finally {
      floors.close()
      calls.close()
    }
  }

  test('is ended by another node where it was cut off, and nobody is told that the group is not there', async () => {
    const channel = await filled(3, { attempts: 7 })
    await settle(channel, 1)
    const consumer = await consumerOf(channel)
    const before = await noteOf(consumer)
    await loseStates()
    await expect(making(() => Promise.reject(new Error('killed')), floors => floors.place(consumer))).rejects.toThrow('killed')
    expect(await noteOf(consumer)).toMatchObject({ ...before, config: { opt_start_seq: (before?.floor ?? 0) + 1 } })
    await expect(consumerOf(channel)).rejects.toThrow('the broker has no consumer')
    // A member that hears of no group opens it, and would begin with what is still to come.
    const [opened, taken] = await Promise.all([two.groups.open(channel, 'g', { ...SETTINGS, from: 'new' }), take(channel, 2)])
    expect(opened).toMatchObject({ settings: { from: 'first', attempts: 7 } })
    expect(texts(taken)).toEqual(['2', '3'])
    expect(await noteOf(consumer)).toEqual(before)
  })

  test('leaves no group behind that is removed meanwhile', async () => {
    const channel = await filled(3)
    await settle(channel, 1)
    const consumer = await consumerOf(channel)
    await loseStates()
    expect(await making(async () => { await two.groups.remove(channel, 'g') }, floors => floors.place(consumer))).toBeUndefined()
    expect(await one.groups.list(channel)).toEqual([])
    expect(await noteOf(consumer)).toBeUndefined()
  })

  /** The configuration of a consumer that begins elsewhere, as a node writes it. */
  async function begunAt(consumer: string, made: number, start: object): Promise<ConsumerConfig> {
    const { config } = await manager.consumers.info('CMESH_EVENTS', consumer)
    const { born } = await noteOf(consumer) as { born: string }
    return { ...config, ...start, description: JSON.stringify({ ...JSON.parse(config.description ?? '') as object, born, made }) }
  }

  test('is done by a node that was not cut off from its broker, too, as in a cluster of them', async () => {
    const channel = await filled(4)
    await settle(channel, 2)
    const consumer = await consumerOf(channel)
    // What the broker comes back with that keeps the group.
    const config = await begunAt(consumer, 0, { deliver_policy: 'all' })
    await manager.consumers.delete('CMESH_EVENTS', consumer)
    await manager.consumers.add('CMESH_EVENTS', config)
    expect(texts(await one.groups.take(channel, 'g', { max: 1, waitMs: 10_000 }))).toEqual(['3'])
    expect(texts(await take(channel, 1, two))).toEqual(['4'])
  })

  test('is waited for by who waits for events, and by who settles one', async () => {
    const channel = await filled(2)
    await settle(channel, 1)
    const [held] = await one.groups.take(channel, 'g', { max: 1, waitMs: 10_000 })
    const waiting = two.groups.take(channel, 'g', SURE)
    const consumer = await consumerOf(channel)
    await until('somebody waits', async () => (await manager.consumers.info('CMESH_EVENTS', consumer)).num_waiting === 1)
    const note = await noteOf(consumer)
    const config = await begunAt(consumer, 1, { deliver_policy: 'by_start_sequence', opt_start_seq: (note?.floor ?? 0) + 1 })
    await writeNote(consumer, { ...note, config })
    await manager.consumers.delete('CMESH_EVENTS', consumer)
    const { asked, end } = listen(consumer)
    const settling = one.groups.done(channel, 'g', held?.token ?? '')
    await Promise.race([settling, until('it found no consumer and looks again', () => asked.some(subject => subject.includes('.INFO.')))])
    end()
    await manager.consumers.add('CMESH_EVENTS', config)
    await writeNote(consumer, note as object)
    await settling
    expect(texts(await waiting)).toEqual(['2'])
  })
})

test('an older broker writes the state of a consumer into the file that it empties', async () => {
  // What the tests above do to it is what is left of it then: should a broker keep its state elsewhere, they say nothing.
  const channel = await filled(2)
  await settle(channel, 1)
  const file = path.join(broker.storeDir, 'jetstream', '$G', 'streams', 'CMESH_EVENTS', 'obs', await consumerOf(channel), 'o.dat')
  await until('it is written', async () => (await readFile(file)).length > 0)
})

test('where several brokers keep the groups nothing is noted, and all is as with one', async () => {
  const cluster = await BrokerCluster.start()
  const bus = await connectNats({ servers: cluster.urls })
  const events = new JetStreamEvents({ bus, onFailure: () => undefined }, { replicas: 3 })
  try {
    await events.start()
    for (const each of text(1, 3)) await events.publish('three', Buffer.from(each))
    await events.groups.open('three', 'g', SETTINGS)
    const [first, ...more] = await take('three', 3, events)
    expect(texts(more)).toEqual(['2', '3'])
    await events.groups.done('three', 'g', first?.token ?? '')
    expect(await events.groups.state('three', 'g')).toMatchObject({ waiting: 0, inHand: 2 })
    await events.groups.remove('three', 'g')
    const missing = { code: 'CMESH_EVENTS_NO_GROUP' }
    await expect(events.groups.take('three', 'g', SURE)).rejects.toMatchObject(missing)
    await expect(events.groups.done('three', 'g', first?.token ?? '')).rejects.toMatchObject(missing)
    const streams = (await (await jetstreamManager(bus.connection)).streams.list().next()).map(({ config }) => config.name)
    expect(streams.sort()).toEqual(['CMESH_EVENTS', 'CMESH_EVENTS_DEAD'])
  } finally {
    await events.stop()
    await bus.close()
    await cluster.stop()
  }
})
