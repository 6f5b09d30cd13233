import { afterAll, beforeAll, describe, expect, test } from '@jest/globals'
import { createServer, connect, type AddressInfo, type Socket } from 'node:net'
import { jetstreamManager } from '@nats-io/jetstream'
import type { SubscriptionOptions } from '@nats-io/nats-core'
import type { CMeshError } from '../../cmtp/errors.ts'
import { connectNats, type NatsBus } from '../../providers/bus/nats.ts'
import { JetStreamEvents, type JetStreamEventsOptions } from '../../providers/events/jetstream.ts'
import { MockEvents } from '../../providers/events/mock.ts'
import { collector } from '../conformance/events.ts'
import { startBroker, type TestBroker } from '../support/broker.ts'
import { statusOf } from '../support/bus-status.ts'

const bytes = (text: string): Uint8Array => new TextEncoder().encode(text)
const text = (data: Uint8Array | undefined): string | undefined => data && Buffer.from(data).toString()

let broker: TestBroker
beforeAll(async () => { broker = await startBroker() })
afterAll(() => broker.stop())

function eventsOn(bus: NatsBus, options: JetStreamEventsOptions = {}): JetStreamEvents & { failures: CMeshError[] } {
  const failures: CMeshError[] = []
  return Object.assign(new JetStreamEvents({ bus, onFailure: failure => failures.push(failure) }, options), { failures })
}

describe('the mock provider', () => {
  test('keeps the newest events within its count, over all channels', async () => {
    const events = new MockEvents({ maxEvents: 3 })
    for (const at of ['a1', 'b2', 'a3', 'a4']) await events.publish(at.charAt(0), bytes(at.charAt(1)))
    expect((await events.range('a', {})).map(event => text(event.data))).toEqual(['3', '4'])
    expect(await events.count('b')).toBe(1)
  })

  test('keeps the newest events within its bytes, and always the last one', async () => {
    const events = new MockEvents({ maxBytes: 10 })
    await events.publish('a', new Uint8Array(6))
    await events.publish('b', new Uint8Array(6))
    expect([await events.count('a'), await events.count('b')]).toEqual([0, 1])
    await events.publish('a', new Uint8Array(11))
    expect([await events.count('a'), await events.count('b')]).toEqual([1, 0])
  })

  test('keeps its bounds over many events', async () => {
    const events = new MockEvents({ maxEvents: 10, maxIds: 10 })
    for (let i = 0; i < 5_000; i++) await events.publish(`c${i % 3}`, bytes(`${i}`), { id: `${i}` })
    const all = (await Promise.all([0, 1, 2].map(i => events.range(`c${i}`, {})))).flat().map(event => Number(text(event.data)))
    expect(all.sort((a, b) => a - b)).toEqual([4990, 4991, 4992, 4993, 4994, 4995, 4996, 4997, 4998, 4999])
    // The eleventh id from the end is forgotten, the tenth is not.
    expect((await events.publish(`c${4989 % 3}`, bytes('x'), { id: '4989' })).duplicate).toBe(false)
    expect((await events.publish(`c${4991 % 3}`, bytes('x'), { id: '4991' })).duplicate).toBe(true)
  })

  test('forgets an id when its window is over, not before', async () => {
    let now = 1_000
    const events = new MockEvents({ duplicateWindowMs: 500, now: () => now })
    await events.publish('a', bytes('x'), { id: 'i' })
    now = 1_499
    expect((await events.publish('a', bytes('x'), { id: 'i' })).duplicate).toBe(true)
    now = 1_500
    expect((await events.publish('a', bytes('x'), { id: 'i' })).duplicate).toBe(false)
    expect(events.latest('a')?.timeMs).toBe(1_500)
  })
})

describe('the jetstream provider', () => {
  test('makes its stream as documented', async () => {
    const events = eventsOn(broker.core)
    await events.start()
    await events.stop()
    const { config } = await (await jetstreamManager(broker.core.connection)).streams.info('CMESH_EVENTS')
    expect(config).toMatchObject({
      subjects: ['cmesh.v1.evt.*'], storage: 'file', num_replicas: 1, allow_direct: true, discard: 'old',
      duplicate_window: 120e9, max_bytes: 512 * 1024 * 1024, max_age: 0,
      republish: { src: 'cmesh.v1.evt.*', dest: 'cmesh.v1.evt.{{wildcard(1)}}.stored' },
    })
  })

  test('brings a stream with older limits up to date', async () => {
    const events = eventsOn(broker.core, { maxBytes: 600 * 1024 * 1024 })
    await events.start()
    await events.stop()
    const { config } = await (await jetstreamManager(broker.core.connection)).streams.info('CMESH_EVENTS')
    expect(config.max_bytes).toBe(600 * 1024 * 1024)
  })

  test('refuses to start where another stream has its subjects, and stays shut', async () => {
    const events = eventsOn(broker.core, { stream: 'OTHER' })
    await expect(events.start()).rejects.toMatchObject({
      code: 'CMESH_BUS_STREAM', message: expect.stringContaining('The JetStream stream OTHER cannot be used: subjects overlap'),
    })
    await expect(events.publish('a', bytes('x'))).rejects.toMatchObject({ code: 'CMESH_BUS_CLOSED' })
    await events.stop()
  })

  test('stop before start is quiet, and a start behind it fails', async () => {
    const events = eventsOn(broker.core)
    await events.stop()
    await expect(events.start()).rejects.toMatchObject({ code: 'CMESH_BUS_CLOSED' })
  })

  test('an event of another node is in latest as soon as the feed brought it', async () => {
    const other = await connectNats({ servers: broker.url, ...broker.broker.core })
    const [mine, theirs] = [eventsOn(broker.core), eventsOn(other)]
    await Promise.all([mine.start(), theirs.start()])
    const channel = 'between.nodes'
    for (let i = 0; i < 20; i++) {
      const before = await mine.latest(channel)
      const { handler, reached, events } = collector(1)
      const subscription = mine.subscribe(channel, handler)
      const { seq } = await theirs.publish(channel, bytes(`${i}`))
      await reached
      subscription.close()
      expect(events[0]?.seq).toBe(seq)
      expect(before?.seq ?? 0).toBeLessThan(seq)
      expect(await mine.latest(channel)).toMatchObject({ seq })
    }
    await Promise.all([mine.stop(), theirs.stop()])
    await other.close()
  })
})

describe('when the feed lags behind the acks', () => {
  /** The bus, with what the stream republishes held back until `release`. */
  function lagging(bus: NatsBus): { bus: NatsBus, release(): void } {
    const held: (() => void)[] = []
    let holding = true
    const connection = new Proxy(bus.connection, {
      get: (target, property) => {
        const value: unknown = Reflect.get(target, property)
        if (property !== 'subscribe') return typeof value === 'function' ? value.bind(target) as unknown : value
        return (subject: string, options: SubscriptionOptions) => target.subscribe(subject, {
          ...options,
          callback: (failure, message) => {
            const deliver = (): void => { void options.callback?.(failure, message) }
            if (holding && subject.endsWith('.stored')) held.push(deliver)
            else deliver()
          },
        })
      },
    })
    const shown = new Proxy(bus, {
      get: (target, property) => {
        if (property === 'connection') return connection
        const value: unknown = Reflect.get(target, property)
        return typeof value === 'function' ? value.bind(target) as unknown : value
      },
    })
    return {
      bus: shown,
      release: () => {
        holding = false
        for (const deliver of held.splice(0)) deliver()
      },
    }
  }

  test('latest sees what publish stored, and a subscription begins behind it', async () => {
    const { bus, release } = lagging(broker.core)
    const events = eventsOn(bus)
    await events.start()
    const channel = 'lagging.feed'
    expect(await events.latest(channel)).toBeUndefined()
    for (const name of ['one', 'two']) {
      const { seq } = await events.publish(channel, bytes(name))
      expect(await events.latest(channel)).toMatchObject({ seq })
      expect(text((await events.latest(channel))?.data)).toBe(name)
    }
    const { events: seen, handler, reached } = collector(1)
    events.subscribe(channel, handler)
    await events.publish(channel, bytes('three'))
    release()
    await reached
    expect(seen.map(event => text(event.data))).toEqual(['three'])
    expect(text((await events.latest(channel))?.data)).toBe('three')
    await events.stop()
  })
})

describe('when the connection is lost', () => {
  /** A way to the broker that can be cut and mended. */
  async function cuttable(): Promise<{ url: string, cut(): void, mend(): void, close(): Promise<void> }> {
    const sockets = new Set<Socket>()
    const target = new URL(broker.url)
    let open = true
    const server = createServer(near => {
      if (!open) return void near.destroy()
      const far = connect(Number(target.port), target.hostname)
      for (const [socket, other] of [[near, far], [far, near]] as const) {
        sockets.add(socket)
        socket.pipe(other)
        socket.on('error', () => undefined)
        socket.on('close', () => {
          sockets.delete(socket)
          other.destroy()
        })
      }
    })
    await new Promise<void>(resolve => { server.listen(0, '127.0.0.1', resolve) })
    const cut = (): void => {
      open = false
      for (const socket of sockets) socket.destroy()
    }
    return {
      url: `nats://127.0.0.1:${(server.address() as AddressInfo).port}`,
      cut,
      mend: () => { open = true },
      close: () => new Promise(resolve => {
        cut()
        server.close(() => { resolve() })
      }),
    }
  }

  test('a subscription hands over what was stored meanwhile, in order and once, and latest is never the old event', async () => {
    const way = await cuttable()
    const bus = await connectNats({ servers: way.url, ...broker.broker.core })
    const [events, others] = [eventsOn(bus), eventsOn(broker.core)]
    await Promise.all([events.start(), others.start()])
    const channel = 'cut.off'
    const [meanwhile, all] = [collector(11), collector(12)]
    events.subscribe(channel, meanwhile.handler)
    events.subscribe(channel, all.handler)
    const published: number[] = []
    const publish = async (): Promise<void> => {
      published.push((await others.publish(channel, bytes(`${published.length}`))).seq)
    }

    await publish()
    await events.latest(channel)
    way.cut()
    await statusOf(bus, 'disconnected')
    for (let i = 0; i < 10; i++) await publish()
    await expect((async () => events.latest(channel))()).rejects.toMatchObject({
      code: 'CMESH_BUS_DISCONNECTED', message: 'The connection to the broker is down.',
    })
    way.mend()
    await statusOf(bus, 'connected')
    expect((await events.latest(channel))?.seq).toBe(published.at(-1))
    await meanwhile.reached
    expect(meanwhile.events.map(event => event.seq)).toEqual(published)
    await publish()
    await all.reached
    expect(all.events.map(event => event.seq)).toEqual(published)
    expect((await events.latest(channel))?.seq).toBe(published.at(-1))
    await Promise.all([events.stop(), others.stop()])
    await bus.close()
    await way.close()
  })

  test('a publish made meanwhile is stored once the connection is back; one past its deadline is refused', async () => {
    const way = await cuttable()
    const bus = await connectNats({ servers: way.url, ...broker.broker.core })
    const events = eventsOn(bus)
    await events.start()
    way.cut()
    await statusOf(bus, 'disconnected')
    const within = (ms: number): Promise<unknown> => events.publish('late', bytes('x'), { deadlineMs: Date.now() + ms })
    await expect(within(-1)).rejects.toMatchObject({
      code: 'CMESH_BUS_TIMEOUT', message: 'No answer on cmesh.v1.evt.late within 0 ms.',
    })
    await expect(within(500)).rejects.toMatchObject({
      code: 'CMESH_BUS_DISCONNECTED', message: 'The connection to the broker is down.',
    })
    const waiting = events.publish('late', bytes('kept'), { deadlineMs: Date.now() + 60_000 })
    way.mend()
    const { seq } = await waiting
    expect((await events.range('late', {})).map(event => [event.seq, text(event.data)])).toEqual([[seq, 'kept']])
    await events.stop()
    await bus.close()
    await way.close()
  })

  test('a broker killed with -9 in the midst of publishes loses no acknowledged event and stores none twice', async () => {
    const events = eventsOn(broker.core)
    await events.start()
    const channel = 'killed.broker'
    const { events: seen, handler, reached } = collector(400)
    events.subscribe(channel, handler)
    const acknowledged = new Map<string, number>()
    const publish = async (name: string): Promise<void> => {
      const { seq } = await events.publish(channel, bytes(name), { id: name, deadlineMs: Date.now() + 60_000 })
      acknowledged.set(name, seq)
    }
    const firstHalf = Array.from({ length: 200 }, (_, i) => publish(`${i}`))
    await Promise.race(firstHalf)
    const disconnected = statusOf(broker.core, 'disconnected')
    process.kill(broker.broker.pid ?? 0, 'SIGKILL')
    await disconnected
    await Promise.all([...firstHalf, ...Array.from({ length: 200 }, (_, i) => publish(`${200 + i}`))])
    await reached
    const stored = await events.range(channel, { limit: 1_000 })
    expect(stored).toHaveLength(400)
    expect(new Map(stored.map(event => [text(event.data), event.seq]))).toEqual(acknowledged)
    expect(seen.map(event => event.seq)).toEqual(stored.map(event => event.seq))
    expect((await events.latest(channel))?.seq).toBe(stored.at(-1)?.seq)
    await events.stop()
  })

  test('a stream that is gone is made again, and goes on from its new beginning', async () => {
    const way = await cuttable()
    const bus = await connectNats({ servers: way.url, ...broker.broker.core })
    const events = eventsOn(bus)
    await events.start()
    await events.publish('reset', bytes('old'))
    const { events: seen, handler, reached } = collector(1)
    events.subscribe('reset', handler)
    way.cut()
    await statusOf(bus, 'disconnected')
    await (await jetstreamManager(broker.core.connection)).streams.delete('CMESH_EVENTS')
    way.mend()
    const { seq } = await events.publish('reset', bytes('new'), { deadlineMs: Date.now() + 60_000 })
    await reached
    expect(seq).toBe(1)
    expect(seen.map(event => [event.seq, text(event.data)])).toEqual([[1, 'new']])
    expect(await events.latest('reset')).toMatchObject({ seq: 1 })
    expect(events.failures.map(failure => failure.message)).toContainEqual(expect.stringMatching(
      /^The JetStream stream CMESH_EVENTS cannot be used: it ends at 0 where \d+ was seen, so it was made anew\.$/))
    await events.stop()
    await bus.close()
    await way.close()
  })

  test.each(['CMESH_EVENTS', 'CMESH_EVENTS_DEAD', 'CMESH_EVENTS_FLOORS'])('%s deleted by somebody is made again without a restart, and groups with it', async gone => {
    const bus = await connectNats({ servers: broker.broker.url, ...broker.broker.core })
    const events = eventsOn(bus, { checkMs: 20 })
    await events.start()
    const channel = `gone-${gone.toLowerCase().replaceAll('_', '-')}`
    const { events: seen, handler, reached } = collector(2)
    events.subscribe(channel, handler)
    await events.publish(channel, bytes('old'))
    const streams = (await jetstreamManager(broker.core.connection)).streams
    await streams.delete(gone)
    // Seen, and made anew.
    while ((await streams.names().next()).every(name => name !== gone)) await new Promise(resolve => { setImmediate(resolve) })
    await events.publish(channel, bytes('new'), { deadlineMs: Date.now() + 60_000 })
    await reached
    expect(seen.map(event => text(event.data))).toEqual(['old', 'new'])
    expect(text((await events.latest(channel))?.data ?? bytes(''))).toBe('new')
    await events.groups.open(channel, 'workers', { from: 'first', ackWaitMs: 30_000, attempts: 3, backoffMs: 0 })
    const taken = await events.groups.take(channel, 'workers', { max: 10, waitMs: 5_000 })
    expect(taken.at(-1)?.event).toMatchObject({ channel, data: bytes('new') })
    await events.letters.put('ab', bytes('letter'), 'owner')
    expect((await events.letters.get('ab'))?.data).toEqual(Buffer.from('letter'))
    expect(events.failures.map(failure => failure.message)).toContain(
      `The JetStream stream ${gone} cannot be used: somebody deleted it, with all that was in it; it is made anew.`)
    await events.stop()
    await bus.close()
  })
})
