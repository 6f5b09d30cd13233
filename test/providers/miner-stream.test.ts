import { randomBytes } from 'node:crypto'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from '@jest/globals'
import { jetstream, jetstreamManager, type JetStreamManager } from '@nats-io/jetstream'
import fc from 'fast-check'
import type { CMeshError } from '../../cmtp/errors.ts'
import { MINE_WILDCARD, mineSubject } from '../../cmtp/subject.ts'
import { deliveryOf } from '../../providers/miner/delivery.ts'
import { StreamSource, type StreamSourceOptions } from '../../providers/miner/stream.ts'
import type { MinerEntry, MinerHandler, MinerOutcome } from '../../services/miner/provider.ts'
import { startBroker, type TestBroker } from '../support/broker.ts'

let broker: TestBroker
let manager: JetStreamManager
let sources: StreamSource[]

beforeAll(async () => {
  broker = await startBroker()
  manager = await jetstreamManager(broker.core.connection)
})
afterAll(() => broker.stop())
beforeEach(() => { sources = [] })
afterEach(async () => {
  await Promise.all(sources.map(source => source.stop()))
  await manager.streams.delete('CMESH_MINE').catch(() => undefined)
})

function sourceWith(options: StreamSourceOptions = {}): StreamSource & { failures: CMeshError[] } {
  const failures: CMeshError[] = []
  const onFailure = (failure: CMeshError): void => { failures.push(failure) }
  const source = new StreamSource({ bus: broker.core, onFailure }, { retryDelayMs: 1, ...options })
  sources.push(source)
  return Object.assign(source, { failures })
}

const publish = async (...texts: string[]): Promise<void> => {
  const js = jetstream(broker.core.connection)
  for (const text of texts) await js.publish(mineSubject('session-1'), text)
}

/** What a handler was given, in order; `until(n)` resolves when it was called n times. */
function recorder(answer: (text: string, call: number) => MinerOutcome | Promise<MinerOutcome>): {
  handler: MinerHandler, calls: string[], until(count: number): Promise<void>
} {
  const calls: string[] = []
  const waiting: { count: number, resolve: () => void }[] = []
  return {
    calls,
    until: count => new Promise(resolve => {
      if (calls.length >= count) resolve()
      else waiting.push({ count, resolve })
    }),
    handler: async (entry: MinerEntry) => {
      const text = 'frame' in entry ? Buffer.from(entry.frame).toString() : entry.fqmn
      calls.push(text)
      const outcome = answer(text, calls.filter(call => call === text).length)
      for (const { count, resolve } of waiting) if (calls.length >= count) resolve()
      return outcome
    },
  }
}

/** How many messages the stream holds once it was asked. */
const left = async (): Promise<number> => (await manager.streams.info('CMESH_MINE')).state.messages
/** Asks the broker until the stream holds so many. */
const untilLeft = async (count: number): Promise<void> => { while (await left() !== count); }

describe('the stream source', () => {
  test('hands over what was published before it and after it, and leaves nothing in the stream', async () => {
    const setUp = sourceWith()
    await setUp.start(async () => 'retry')
    await setUp.stop()
    await publish('one', 'two')
    const { handler, calls, until } = recorder(() => 'done')
    const source = sourceWith()
    await source.start(handler)
    await publish('three')
    await until(3)
    await untilLeft(0)
    expect(calls).toEqual(['one', 'two', 'three'])
    expect(source.stats()).toMatchObject({
      done: 3, retried: 0, abandoned: 0, garbage: 0, inFlight: 0, lag: 0, lagUnit: 'entries', reports: [],
    })
  })

  test('makes a work queue that refuses new entries when it is full', async () => {
    const source = sourceWith({ maxBytes: 1_000 })
    await source.start(async () => 'retry')
    await source.stop()
    const { config } = await manager.streams.info('CMESH_MINE')
    expect(config).toMatchObject({ retention: 'workqueue', discard: 'new', subjects: ['cmesh.v1.mine.*'], storage: 'file' })
    await publish('x'.repeat(700))
    await expect(publish('y'.repeat(700))).rejects.toThrow('maximum bytes exceeded')
    expect(await left()).toBe(1)
  })

  test('brings an entry again after retry, and forgets it after done', async () => {
    const { handler, calls, until } = recorder((_text, call) => (call < 3 ? 'retry' : 'done'))
    const source = sourceWith()
    await source.start(handler)
    await publish('again')
    await until(3)
    await untilLeft(0)
    expect(calls).toEqual(['again', 'again', 'again'])
    expect(source.stats()).toMatchObject({ done: 1, retried: 2, abandoned: 0 })
  })

  test('gives an entry up after its last try, reports it, and goes on with the others', async () => {
    const { handler, calls, until } = recorder(text => (text === 'bad' ? 'retry' : 'done'))
    const source = sourceWith({ maxDeliver: 3 })
    await source.start(handler)
    await publish('bad', 'good')
    await until(4)
    await untilLeft(0)
    expect(calls.filter(text => text === 'bad')).toHaveLength(3)
    expect(source.stats()).toMatchObject({
      done: 1, retried: 3, abandoned: 1, garbage: 0,
      reports: [{ place: 'message 1 of CMESH_MINE', reason: 'given up after 3 tries' }],
    })
    expect(source.failures.map(failure => failure.message)).toEqual([
      'The entry message 1 of CMESH_MINE of the stream is not valid: given up after 3 tries.',
    ])
  })

  test('counts, reports and removes what its handler calls garbage', async () => {
    const { handler, until } = recorder(text => (text === 'noise' ? { garbage: 'no frame' } : 'done'))
    const source = sourceWith()
    await source.start(handler)
    await publish('noise', 'good', 'noise')
    await until(3)
    await untilLeft(0)
    expect(source.stats()).toMatchObject({
      done: 1, garbage: 2, retried: 0,
      reports: [{ place: 'message 1 of CMESH_MINE', reason: 'no frame' }, { place: 'message 3 of CMESH_MINE', reason: 'no frame' }],
    })
    // Told of once in a while only.
    expect(source.failures).toHaveLength(1)
  })

  test('a handler that rejects against its promise costs a try and nothing else', async () => {
    const { handler, until } = recorder((_text, call) => (call === 1 ? Promise.reject(new Error('broken')) : 'done'))
    const source = sourceWith()
    await source.start(handler)
    await publish('x')
    await until(2)
    await untilLeft(0)
    expect(source.stats()).toMatchObject({ done: 1, retried: 1 })
    expect(source.failures.map(failure => failure.code)).toEqual(['CMESH_INTERNAL'])
  })

  test('has never more under way than its limit, and takes up the rest as there is room', async () => {
    let underWay = 0
    let most = 0
    const gate: (() => void)[] = []
    const { handler, calls, until } = recorder(async (): Promise<MinerOutcome> => {
      most = Math.max(most, ++underWay)
      await new Promise<void>(resolve => { gate.push(resolve) })
      underWay--
      return 'done'
    })
    const source = sourceWith({ maxInFlight: 3 })
    await source.start(handler)
    await publish(...Array.from({ length: 20 }, (_, i) => `${i}`))
    await until(3)
    expect(source.stats().inFlight).toBe(3)
    for (let n = 1; n <= 20; n++) {
      await until(Math.min(20, n + 2))
      gate.shift()?.()
    }
    await untilLeft(0)
    expect(most).toBe(3)
    expect(new Set(calls).size).toBe(20)
    expect(source.stats()).toMatchObject({ done: 20, inFlight: 0 })
  })

  test('an entry that takes longer than the broker waits is not handed over a second time', async () => {
    let finish: () => void = () => undefined
    const held = new Promise<MinerOutcome>(resolve => { finish = () => { resolve('done') } })
    const { handler, calls, until } = recorder(() => held)
    const source = sourceWith({ ackWaitMs: 1_000 })
    await source.start(handler)
    await publish('slow')
    await until(1)
    // One word of progress in a third of the broker's wait: nine of them are three waits.
    const words = broker.core.connection.subscribe('$JS.ACK.CMESH_MINE.miner.>')
    let progress = 0
    for await (const word of words) if (word.string() === '+WPI' && ++progress === 9) break
    expect((await manager.consumers.info('CMESH_MINE', 'miner')).num_redelivered).toBe(0)
    finish()
    await untilLeft(0)
    expect(calls).toEqual(['slow'])
  })

  test('stop waits for what is under way, and hands back at once what is to be tried again', async () => {
    let finish: () => void = () => undefined
    const { handler, until } = recorder(text => new Promise(resolve => {
      const before = finish
      finish = () => {
        before()
        resolve(text === 'done' ? 'done' : 'retry')
      }
    }))
    const first = sourceWith({ retryDelayMs: 60_000 })
    await first.start(handler)
    await publish('done', 'retry')
    await until(2)
    const stopping = first.stop()
    let stopped = false
    void stopping.then(() => { stopped = true })
    await broker.core.flush()
    expect(stopped).toBe(false)
    finish()
    await stopping
    expect(first.stats()).toMatchObject({ done: 1, retried: 1, inFlight: 0 })
    const second = recorder(() => 'done')
    await sourceWith().start(second.handler)
    await second.until(1)
    await untilLeft(0)
    expect(second.calls).toEqual(['retry'])
  })

  test('two sources share the entries out', async () => {
    const [one, two] = [recorder(() => 'done'), recorder(() => 'done')]
    await Promise.all([sourceWith({ maxInFlight: 4 }).start(one.handler), sourceWith({ maxInFlight: 4 }).start(two.handler)])
    const texts = Array.from({ length: 200 }, (_, i) => `${i}`)
    await publish(...texts)
    await untilLeft(0)
    expect([...one.calls, ...two.calls].sort()).toEqual(texts.sort())
    expect(one.calls.length).toBeGreaterThan(0)
    expect(two.calls.length).toBeGreaterThan(0)
  })

  test('goes on after the broker was killed with -9 and came back, and loses no entry', async () => {
    const { handler, calls, until } = recorder(() => 'done')
    const source = sourceWith({ ackWaitMs: 1_000 })
    await source.start(handler)
    const before = Array.from({ length: 50 }, (_, i) => `before ${i}`)
    await publish(...before)
    await until(1)
    const changes: string[] = []
    const back = new Promise<void>(resolve => {
      broker.core.onStatus(status => {
        changes.push(status)
        if (status === 'connected') resolve()
      })
    })
    process.kill(broker.broker.pid ?? 0, 'SIGKILL')
    await back
    // JetStream may take a moment longer than the server: what is not acknowledged is published again.
    for (const text of ['after 1', 'after 2']) while (await publish(text).then(() => false, () => true));
    await untilLeft(0)
    expect(new Set(calls)).toEqual(new Set([...before, 'after 1', 'after 2']))
    expect(changes).toEqual(['disconnected', 'connected'])
  })

  test('an entry that was done while there was no connection is not done again', async () => {
    let finish: () => void = () => undefined
    const held = new Promise<MinerOutcome>(resolve => { finish = () => { resolve('done') } })
    const { handler, calls, until } = recorder(() => held)
    const source = sourceWith()
    await source.start(handler)
    await publish('x')
    await until(1)
    const status = (wanted: string): Promise<void> => new Promise(resolve => {
      const stop = broker.core.onStatus(now => {
        if (now !== wanted) return
        stop()
        resolve()
      })
    })
    const [gone, back] = [status('disconnected'), status('connected')]
    // By SIGTERM it writes down first what it handed out; killed it may not know of it, and hand it out anew.
    process.kill(broker.broker.pid ?? 0, 'SIGTERM')
    await gone
    finish()
    await back
    await untilLeft(0).catch(() => untilLeft(0))
    expect(calls).toEqual(['x'])
  })

  test('an entry comes with the session that left it there', async () => {
    const entries: MinerEntry[] = []
    const { handler, until } = recorder(() => 'done')
    const source = sourceWith()
    await source.start(entry => { entries.push(entry); return handler(entry) })
    const js = jetstream(broker.core.connection)
    await js.publish(mineSubject('session-1'), 'x')
    await js.publish(mineSubject('session-2'), 'x')
    await until(2)
    expect(entries.map(entry => ('sid' in entry ? entry.sid : ''))).toEqual(['session-1', 'session-2'])
    await untilLeft(0)
  })

  test('a stream and a consumer of an earlier version are brought up to date; what waits there without a session is reported', async () => {
    const subject = 'cmesh.v1.mine'
    await manager.streams.add({ name: 'CMESH_MINE', subjects: [subject], retention: 'workqueue', discard: 'new', storage: 'file' })
    await manager.consumers.add('CMESH_MINE', { durable_name: 'miner', ack_policy: 'explicit', filter_subject: subject })
    await jetstream(broker.core.connection).publish(subject, 'old')
    const { handler, calls, until } = recorder(() => 'done')
    const source = sourceWith()
    await source.start(handler)
    await publish('new')
    await until(1)
    await untilLeft(0)
    expect(calls).toEqual(['new'])
    expect(source.stats().reports).toEqual([{ place: 'message 1 of CMESH_MINE', reason: 'it was left on cmesh.v1.mine, which names no session' }])
    expect((await manager.streams.info('CMESH_MINE')).config.subjects).toEqual(['cmesh.v1.mine.*'])
  })

  test('a source that cannot have its stream says so and which', async () => {
    await manager.streams.add({ name: `X${randomBytes(4).toString('hex')}`, subjects: [MINE_WILDCARD] })
    const source = sourceWith()
    await expect(source.start(async () => 'done')).rejects.toMatchObject({
      code: 'CMESH_BUS_STREAM', message: expect.stringContaining('The JetStream stream CMESH_MINE cannot be used: subjects overlap'),
    })
    for await (const { config } of manager.streams.list()) if (config.name.startsWith('X')) await manager.streams.delete(config.name)
  })
})

describe('what the broker says of a delivery', () => {
  test('is read in its short and its long form', () => {
    expect(deliveryOf('$JS.ACK.S.miner.2.17.40.1700000000000000000.9')).toEqual({ count: 2, seq: 17, pending: 9 })
    expect(deliveryOf('$JS.ACK._.hash.S.miner.2.17.40.1700000000000000000.9.x')).toEqual({ count: 2, seq: 17, pending: 9 })
  })

  test('is nothing for any other subject', () => {
    expect(deliveryOf(undefined)).toBeUndefined()
    expect(deliveryOf('')).toBeUndefined()
    expect(deliveryOf('$JS.ACK.S.miner.x.17.40.1.9')).toBeUndefined()
    fc.assert(fc.property(fc.array(fc.stringMatching(/^[$A-Za-z0-9_-]{0,6}$/), { maxLength: 14 }), tokens => {
      const delivery = deliveryOf(tokens.join('.'))
      if (delivery !== undefined) expect(tokens.slice(0, 2)).toEqual(['$JS', 'ACK'])
    }))
  })
})
