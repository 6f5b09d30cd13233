/** JetStream consensus on a real nats-server that is killed, stopped, filled, emptied and replaced by an older self. */
import { cp, mkdtemp, rm } from 'node:fs/promises'
import os from 'node:os'
import path from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals'
import { jetstreamManager, type JetStreamManager, type StreamInfo } from '@nats-io/jetstream'
import type { Msg, NatsConnection, SubscriptionOptions } from '@nats-io/nats-core'
import type { CMeshError } from '../../cmtp/errors.ts'
import { orderStoredSubject, orderSubject } from '../../cmtp/subject.ts'
import { connectNats, type NatsBus } from '../../providers/bus/nats.ts'
import { JetStreamConsensus, type JetStreamConsensusOptions } from '../../providers/consensus/jetstream.ts'
import { OrderMigration, type MigrationPlan } from '../../providers/consensus/order-migration.ts'
import { orderBehind, orderedStream } from '../../providers/consensus/ordered-stream.ts'
import { MockConsensus } from '../../providers/consensus/mock.ts'
import type { JetStreamBus } from '../../providers/jetstream/calls.ts'
import { ensureStream } from '../../providers/jetstream/stream.ts'
import type { Committed, LogEntry, LogHead, Proposal } from '../../services/consensus/provider.ts'
import { SILENT_LOG } from '../../services/log.ts'
import { until } from '../client/support/until.ts'
import { ExternalBroker } from '../support/external-broker.ts'

const STREAM = 'CMESH_ORDER'
const START: LogHead = { epoch: 0, seq: 0 }
let ids = 0
const newId = (): string => (++ids).toString(16).padStart(32, '0')
const proposal = (part: Partial<Proposal> = {}): Proposal => ({ id: newId(), data: Buffer.from(`data ${ids}`), deadlineMs: Date.now() + 30_000, ...part })

let broker: ExternalBroker
let bus: NatsBus
let manager: JetStreamManager
let started: JetStreamConsensus[]
beforeEach(async () => {
  broker = await ExternalBroker.start()
  bus = await connectNats({ servers: broker.url, onError: () => undefined })
  manager = await jetstreamManager(bus.connection)
  started = []
})
afterEach(async () => {
  for (const each of started) await each.stop()
  await bus.close()
  await broker.stop()
})

interface Node {
  readonly provider: JetStreamConsensus
  readonly entries: LogEntry[]
  readonly failures: CMeshError[]
  /** Settles with the start. */
  readonly ready: Promise<void>
}

function node(from: LogHead = START, options: JetStreamConsensusOptions = {}, on: JetStreamBus = bus, nodeId = 'node-1'): Node {
  const failures: CMeshError[] = []
  const entries: LogEntry[] = []
  const provider = new JetStreamConsensus({ bus: on, nodeId, log: SILENT_LOG, onFailed: error => { failures.push(error) } }, {
    maxBytes: 64 * 1024 * 1024, checkMs: 50, ...options,
  })
  started.push(provider)
  return { provider, entries, failures, ready: provider.start(from, entry => { entries.push(entry) }) }
}

async function begun(from?: LogHead, options?: JetStreamConsensusOptions, on?: JetStreamBus, nodeId?: string): Promise<Node> {
  const made = node(from, options, on, nodeId)
  await made.ready
  return made
}

const many = ({ provider }: Node, count: number): Promise<Committed[]> => Promise.all(Array.from({ length: count }, () => provider.propose(proposal())))
const info = (): Promise<StreamInfo> => manager.streams.info(STREAM)

/** A node's head as its state would tell it. */
function headOf({ entries }: Node): LogHead {
  const { epoch, seq, data } = entries.at(-1)
  return { epoch, seq, data }
}

/** Every entry from `base` on, without a hole, each id once. */
function expectDense(entries: readonly LogEntry[], base = 0): void {
  expect(entries.map(entry => entry.seq)).toEqual(entries.map((_, i) => base + 1 + i))
  expect(new Set(entries.map(entry => entry.id)).size).toBe(entries.length)
}

/** The bus, which swallows what `drops` says of what comes in on a subscription. */
function dropping(drops: (subject: string, message: Msg) => boolean): JetStreamBus {
  const connection = new Proxy(bus.connection, {
    get: (target, key) => {
      const value: unknown = Reflect.get(target, key, target)
      if (key !== 'subscribe') return typeof value === 'function' ? value.bind(target) as unknown : value
      return (subject: string, options: SubscriptionOptions) => target.subscribe(subject, {
        ...options,
        callback: (error: Error | null, message: Msg) => {
          if (error !== null || !drops(subject, message)) void options.callback?.(error, message)
        },
      })
    },
  })
  return new Proxy(bus, {
    get: (target, key) => {
      const value: unknown = key === 'connection' ? connection satisfies NatsConnection : Reflect.get(target, key, target)
      return typeof value === 'function' ? value.bind(target) as unknown : value
    },
  })
}

describe('the order of a stream', () => {
  test('stands in the stream: a node that starts from nothing is handed all of it before its start resolves', async () => {
    const one = await begun()
    await many(one, 300)
    await one.provider.stop()
    const two = await begun()
    expect(two.entries).toEqual(one.entries)
    await expect(two.provider.propose(proposal())).resolves.toEqual({ epoch: 0, seq: 301, duplicate: false })
  })

  test('begins behind the log of the node that makes it, and says so for good', async () => {
    const one = await begun({ epoch: 3, seq: 1_000 })
    expect((await many(one, 2)).map(({ epoch, seq }) => [epoch, seq])).toEqual([[3, 1_001], [3, 1_002]])
    expect((await info()).config).toMatchObject({
      description: '{"base":1000,"epoch":3,"order":1}', deny_delete: true, allow_direct: true, storage: 'file', discard: 'new',
      duplicate_window: 120_000_000_000, subjects: [orderSubject(STREAM)], num_replicas: 1,
    })
    await one.provider.stop()
    const two = await begun({ epoch: 3, seq: 1_001 }, { maxBytes: 32 * 1024 * 1024 })
    expect(two.entries).toEqual([one.entries[1]])
    // What may be set anew is, the rest stays.
    expect((await info()).config).toMatchObject({ description: '{"base":1000,"epoch":3,"order":1}', max_bytes: 32 * 1024 * 1024 })
  })

  test('a proposal of an earlier process is known by its id, and not delivered again', async () => {
    const one = await begun()
    const once = proposal()
    await one.provider.propose(once)
    await many(one, 3)
    await one.provider.stop()
    const two = await begun(headOf(one))
    await expect(two.provider.propose({ ...once })).resolves.toEqual({ epoch: 0, seq: 1, duplicate: true })
    await expect(two.provider.propose(proposal())).resolves.toEqual({ epoch: 0, seq: 5, duplicate: false })
    expect(two.entries.map(entry => entry.seq)).toEqual([5])
  })

  test.each([
    ['none comes by itself', () => true],
    ['every third is lost', ({ headers }: Msg) => Number(headers?.get('Nats-Sequence')) % 3 === 0],
    ['only the first comes', ({ headers }: Msg) => Number(headers?.get('Nats-Sequence')) > 1],
  ])('has no hole where the feed has: %s', async (_, lost) => {
    const one = await begun(START, {}, dropping((subject, message) => subject === orderStoredSubject(STREAM) && lost(message)))
    const committed = await many(one, 500)
    expect(committed.map(({ seq }) => seq).sort((a, b) => a - b)).toEqual(Array.from({ length: 500 }, (_each, i) => i + 1))
    expectDense(one.entries)
    expect(one.entries).toHaveLength(500)
    expect(one.failures).toEqual([])
  })

  test('a lost newest message is found by looking at the stream, without any other that follows', async () => {
    // Neither the message nor its ack gets here: only the stream's end tells.
    const one = await begun(START, {}, dropping((subject, message) => subject === orderStoredSubject(STREAM) || message.string().includes('"seq":1')))
    await expect(one.provider.propose(proposal())).resolves.toEqual({ epoch: 0, seq: 1, duplicate: false })
  })

  test('a message without a proposal\'s id takes its place in the order as any other', async () => {
    const one = await begun()
    bus.connection.publish(orderSubject(STREAM), 'from nowhere')
    await expect(one.provider.propose(proposal())).resolves.toMatchObject({ seq: 2 })
    expect(one.entries.map(({ id, data }) => [id, Buffer.from(data).toString()])[0]).toEqual(['', 'from nowhere'])
  })

  test('a `deliver` that throws ends the order and the node', async () => {
    const failures: CMeshError[] = []
    const provider = new JetStreamConsensus({ bus, nodeId: 'n', log: SILENT_LOG, onFailed: error => { failures.push(error) } })
    started.push(provider)
    const seen: number[] = []
    await provider.start(START, ({ seq }) => {
      seen.push(seq)
      if (seq === 2) throw new Error('broken')
    })
    await provider.propose(proposal())
    await expect(provider.propose(proposal())).rejects.toMatchObject({ code: 'CMESH_ROUTER_UNKNOWN_OUTCOME' })
    const message = 'The state service has halted: entry 2 could not be taken in.'
    expect(failures).toMatchObject([{ code: 'CMESH_STATE_HALTED', message }])
    await expect(provider.propose(proposal())).rejects.toMatchObject({ message })
    expect(seen).toEqual([1, 2])
  })
})

describe('a broker that goes away', () => {
  test('before a start is waited for, and so is one that gives no answer', async () => {
    let swallowed = 0
    const deaf = dropping(subject => subject.startsWith('_INBOX.') && ++swallowed <= 2)
    await broker.kill()
    await until('the loss is seen', () => bus.status === 'disconnected')
    const one = node(START, { readTimeoutMs: 100 }, deaf)
    await broker.restart()
    await one.ready
    expect(swallowed).toBeGreaterThan(2)
    await expect(one.provider.propose(proposal())).resolves.toMatchObject({ seq: 1 })
  })

  test('by SIGKILL in the midst of proposals, and comes back: every one is ordered once, where it was said', async () => {
    const one = await begun()
    const committed = new Map<string, Committed>()
    let running = true
    const writers = Array.from({ length: 16 }, async () => {
      while (running) {
        const each = proposal()
        committed.set(each.id, await one.provider.propose(each))
      }
    })
    for (let kills = 0; kills < 3; kills++) {
      const enough = committed.size + 200
      await until('proposals are ordered', () => committed.size >= enough)
      await broker.kill()
      await until('the connection is down', () => bus.status === 'disconnected')
      await broker.restart()
    }
    const enough = committed.size + 200
    await until('proposals are ordered again', () => committed.size >= enough)
    running = false
    await Promise.all(writers)
    expect(one.failures).toEqual([])
    expectDense(one.entries)
    expect(one.entries).toHaveLength(committed.size)
    for (const { id, seq } of one.entries) expect(committed.get(id)?.seq).toBe(seq)
    await one.provider.stop()
    expect((await begun()).entries).toEqual(one.entries)
  })

  test('with a proposal on its way leaves its outcome unknown at the deadline, and resolvable by its id', async () => {
    const one = await begun()
    await one.provider.propose(proposal())
    await broker.standStill()
    const sent = proposal({ deadlineMs: Date.now() + 1_000 })
    await expect(one.provider.propose(sent)).rejects.toMatchObject({ code: 'CMESH_ROUTER_UNKNOWN_OUTCOME', detail: { tx: sent.id } })
    broker.signal('SIGCONT')
    await until('it is delivered after all', () => one.entries.length === 2)
    await expect(one.provider.propose(sent)).resolves.toEqual({ epoch: 0, seq: 2, duplicate: true })
    expectDense(one.entries)
  })

  test('before a proposal leaves it unordered for sure at its deadline', async () => {
    const one = await begun()
    await broker.kill()
    await until('the connection is down', () => bus.status === 'disconnected')
    await expect(one.provider.propose(proposal({ deadlineMs: Date.now() + 300 }))).rejects.toMatchObject({ code: 'CMESH_ROUTER_DEADLINE' })
    const held = one.provider.propose(proposal())
    await broker.restart()
    await expect(held).resolves.toEqual({ epoch: 0, seq: 1, duplicate: false })
  })

  test('does not hold up a stop: what is under way has an unknown outcome', async () => {
    const one = await begun(START, { drainMs: 100 })
    await broker.standStill()
    const sent = expect(one.provider.propose(proposal({ deadlineMs: Date.now() + 300_000 }))).rejects.toMatchObject({ code: 'CMESH_ROUTER_UNKNOWN_OUTCOME' })
    await one.provider.stop()
    await sent
    broker.signal('SIGCONT')
  })

  test('during a start does not hold up the stop of it', async () => {
    const one = await begun()
    await many(one, 1)
    await one.provider.stop()
    let asked = 0
    const starting = node(START, {}, dropping((_, { headers }) => headers?.get('Nats-Sequence') === '1' && ++asked > 0))
    await until('the start reads the stream', () => asked > 0)
    const stopped = starting.provider.stop()
    await expect(starting.ready).rejects.toMatchObject({ code: 'CMESH_ROUTER_DRAINING' })
    await stopped
    await begun()
  })
})

describe('a stream that is not the one of the log', () => {
  const refused = async (from: LogHead, code: string, message: string | RegExp): Promise<void> => {
    await expect(node(from).ready).rejects.toMatchObject({ code, message: expect.stringMatching(message) })
  }

  test('that is gone with what this node has claimed is not made anew behind a shorter log; where nothing is missing it is', async () => {
    await refused({ epoch: 0, seq: 5, claimed: 8 }, 'CMESH_STATE_BEHIND', /^The log of this node ends at 5, and this node has acknowledged up to 8: .* cmesh consensus accept-loss /)
    await expect(info()).rejects.toThrow(/stream not found/)
    await begun({ epoch: 0, seq: 8, claimed: 8 })
    expect((await info()).state.last_seq).toBe(0)
  })

  test('that has what the log lacks of the claim gives it', async () => {
    const one = await begun()
    await many(one, 5)
    await one.provider.stop()
    expect((await begun({ epoch: 0, seq: 2, claimed: 5 })).entries.map(({ seq }) => seq)).toEqual([3, 4, 5])
  })

  test('too short for it, of another epoch, or begun behind it, is refused and left as it is', async () => {
    const one = await begun({ epoch: 1, seq: 10 })
    await many(one, 5)
    await one.provider.stop()
    const before = await info()
    await refused({ epoch: 1, seq: 16 }, 'CMESH_CONSENSUS_STREAM_SHORT', /^The stream CMESH_ORDER ends at 15 and the log of this node at 16: .* delete the stream/)
    await refused({ epoch: 2, seq: 12 }, 'CMESH_CONSENSUS_STREAM_OTHER', /: it is of epoch 1, the log of epoch 2\. /)
    await refused({ epoch: 1, seq: 9 }, 'CMESH_CONSENSUS_STREAM_AHEAD', /^The stream CMESH_ORDER begins at 11 and the log of this node ends at 9: /)
    await refused({ epoch: 1, seq: 15, data: Buffer.from('other') }, 'CMESH_CONSENSUS_STREAM_OTHER', /: its message 5 is not the newest entry of the log\. /)
    expect(await info()).toMatchObject({ config: before.config, state: before.state, created: before.created })
    await begun({ ...headOf(one) })
  })

  test('without the note of where it begins it is somebody else\'s', async () => {
    await manager.streams.add({ name: STREAM, subjects: ['others'], description: '{"base":-1,"epoch":0,"order":1}' })
    await refused(START, 'CMESH_CONSENSUS_STREAM_OTHER', /: its description does not say where its order begins\. /)
    expect((await info()).config.subjects).toEqual(['others'])
  })

  test('deleted under a running node ends it: nothing is numbered anew', async () => {
    const one = await begun()
    await many(one, 5)
    await manager.streams.delete(STREAM)
    await until('the node has failed', () => one.failures.length > 0)
    expect(one.failures).toMatchObject([{
      code: 'CMESH_CONSENSUS_STREAM_LOST', message: expect.stringMatching(/^The stream CMESH_ORDER was changed by somebody else: it is gone\. /),
    }])
    await expect(one.provider.propose(proposal())).rejects.toMatchObject({ code: 'CMESH_CONSENSUS_STREAM_LOST' })
    await expect(info()).rejects.toThrow('stream not found')
  })

  test('deleted with a proposal on its way never says of it that it failed', async () => {
    const one = await begun()
    await many(one, 1)
    await manager.streams.delete(STREAM)
    await expect(one.provider.propose(proposal())).rejects.toMatchObject({ code: 'CMESH_ROUTER_UNKNOWN_OUTCOME' })
  })

  test('deleted with a proposal stored, and not read yet, leaves its outcome unknown without waiting for its deadline', async () => {
    const one = await begun(START, {}, dropping((_, { headers }) => headers?.has('Nats-Sequence') === true))
    const stored = one.provider.propose(proposal({ deadlineMs: Date.now() + 300_000 }))
    const told = expect(stored).rejects.toMatchObject({ code: 'CMESH_ROUTER_UNKNOWN_OUTCOME' })
    await until('it is stored', () => one.provider.status().lastIndex === 1)
    await manager.streams.delete(STREAM)
    await told
  })

  test('made anew under a running node ends it', async () => {
    const one = await begun()
    await many(one, 5)
    const { config } = await info()
    await manager.streams.delete(STREAM)
    await manager.streams.add(config)
    await until('the node has failed', () => one.failures.length > 0)
    expect(one.failures).toMatchObject([{ code: 'CMESH_CONSENSUS_STREAM_LOST', message: expect.stringMatching(/: it was made anew at /) }])
  })

  test.each([['looks', 50], ['proposals alone', 300_000]])('set back to an older copy under a running node ends it, found by %s', async (how, checkMs) => {
    const copy = await mkdtemp(path.join(os.tmpdir(), 'cmesh-test-copy-'))
    try {
      const one = await begun(START, { checkMs })
      await many(one, 10)
      await broker.kill()
      await cp(broker.storeDir, copy, { recursive: true })
      await broker.restart()
      await many(one, 5)
      await broker.kill()
      await rm(broker.storeDir, { recursive: true })
      await cp(copy, broker.storeDir, { recursive: true })
      await broker.restart()
      const late = how === 'looks' ? undefined : expect(one.provider.propose(proposal())).rejects.toMatchObject({ code: 'CMESH_ROUTER_UNKNOWN_OUTCOME' })
      await until('the node has failed', () => one.failures.length > 0)
      const reason = how === 'looks' ? /: it ends at message 10, and 15 were read\. / : /: its message 11 was given out twice\. /
      expect(one.failures).toMatchObject([{ code: 'CMESH_CONSENSUS_STREAM_LOST', message: expect.stringMatching(reason) }])
      await late
      expectDense(one.entries)
      expect(one.entries).toHaveLength(15)
    } finally {
      await rm(copy, { recursive: true, force: true })
    }
  })
})

describe('the room of a stream', () => {
  test('a full one refuses with what to do, and takes more when the log holds what is in it', async () => {
    const one = await begun(START, { maxBytes: 1024 * 1024, checkMs: 20 })
    const data = Buffer.alloc(100_000)
    let taken = 0
    const fill = async (): Promise<void> => {
      for (;; taken++) await one.provider.propose(proposal({ data }))
    }
    await expect(fill()).rejects.toMatchObject({
      code: 'CMESH_CONSENSUS_FULL', status: 507, retry: 'retry',
      message: expect.stringMatching(/^The stream CMESH_ORDER takes no more: maximum bytes exceeded\. The write was not ordered\. /),
    })
    expect(taken).toBeGreaterThan(5)
    expect(one.entries).toHaveLength(taken)
    one.provider.trim(taken)
    await until('the stream is trimmed', async () => (await info()).state.bytes <= 256 * 1024)
    await expect(one.provider.propose(proposal({ data }))).resolves.toMatchObject({ seq: taken + 1 })
    expect(one.failures).toEqual([])
  })

  test('what the log holds is purged but for the newest, and a log that ends before them is refused', async () => {
    const one = await begun({ epoch: 0, seq: 1_000 }, { keep: 10 })
    await many(one, 100)
    one.provider.trim(1_090)
    await until('the stream is trimmed', async () => (await info()).state.first_seq === 81)
    await one.provider.propose(proposal())
    expect(one.failures).toEqual([])
    await one.provider.stop()
    await expect(node({ epoch: 0, seq: 1_079 }).ready).rejects.toMatchObject({
      code: 'CMESH_CONSENSUS_STREAM_AHEAD', message: expect.stringMatching(/^The stream CMESH_ORDER begins at 1081 and the log of this node ends at 1079: /),
    })
    const two = await begun({ epoch: 0, seq: 1_080 })
    expect(two.entries).toEqual(one.entries.slice(80))
  })

  test('nothing is purged that the log did not say it holds', async () => {
    const one = await begun(START, { keep: 1, checkMs: 10 })
    await many(one, 100)
    one.provider.trim(3)
    await until('the stream is trimmed', async () => (await info()).state.first_seq > 1)
    await many(one, 100)
    expect((await info()).state).toMatchObject({ first_seq: 3, last_seq: 200 })
  })

  test('a stream emptied by somebody else goes on where it was', async () => {
    const one = await begun()
    await many(one, 5)
    await manager.streams.purge(STREAM)
    await expect(one.provider.propose(proposal())).resolves.toMatchObject({ seq: 6 })
    await manager.streams.purge(STREAM)
    await one.provider.stop()
    const two = await begun({ epoch: 0, seq: 6 })
    await expect(two.provider.propose(proposal())).resolves.toMatchObject({ seq: 7 })
  })
})

describe('a second node', () => {
  test('shares the order: each delivers what either proposes, at the same places, and settles its own', async () => {
    const [one, two] = [await begun(), await begun(START, {}, bus, 'node-2')]
    const ids = Array.from({ length: 40 }, () => proposal())
    const places = await Promise.all(ids.map((each, i) => (i % 2 === 0 ? one : two).provider.propose(each)))
    expect(new Set(places.map(({ seq }) => seq)).size).toBe(40)
    await until('both have delivered all', () => one.entries.length === 40 && two.entries.length === 40, 10_000)
    expect(two.entries).toEqual(one.entries)
    expect(await two.provider.propose(ids[0] as Proposal)).toEqual({ ...places[0], duplicate: true })
  })

  test('under the same key is refused', async () => {
    await begun()
    await expect(node().ready).rejects.toMatchObject({
      code: 'CMESH_CONSENSUS_SAME_KEY', message: 'Another process runs as the node node-1. Stop one of the two; each node has a data directory and a key of its own.',
    })
  })

  test('with the mock provider is refused, whichever of the two was first', async () => {
    const second = { code: 'CMESH_CONSENSUS_SECOND_NODE', detail: { node: 'node-1' } }
    const one = await begun()
    await expect(new MockConsensus({ bus, nodeId: 'node-2' }).start(START, () => undefined)).rejects.toMatchObject(second)
    await one.provider.stop()
    const other = new MockConsensus({ bus, nodeId: 'node-1' })
    await other.start(START, () => undefined)
    await expect(node(START, {}, bus, 'node-2').ready).rejects.toMatchObject(second)
    await other.stop()
    await begun()
  })
})

describe('a stream that a migration is to replace', () => {
  test('is left alone where it was used, or is another one, since it was looked at', async () => {
    const options = { stream: STREAM, replicas: 1, maxBytes: 1_048_576 }
    const chain = Buffer.alloc(32, 1)
    const planned = async (): Promise<{ readonly migration: OrderMigration, readonly plan: MigrationPlan }> => {
      await ensureStream(manager, orderedStream(options, orderBehind({ epoch: 3, seq: 10, chain })))
      const migration = await OrderMigration.begin(bus, options)
      const plan = migration.plan({ epoch: 2, seq: 20, chain: Buffer.alloc(32, 2), chainAtBase: chain.toString('hex') })
      expect(plan).toMatchObject({ what: 'replace', order: { epoch: 4, base: 20 } })
      return { migration, plan }
    }
    const refused = {
      code: 'CMESH_CONSENSUS_STREAM_OTHER', detail: { reason: 'it was used or made anew while the log was read; look again' },
    }
    const used = await planned()
    await manager.jetstream().publish(orderSubject(STREAM), 'an entry')
    await expect(used.migration.run(used.plan)).rejects.toMatchObject(refused)
    expect((await manager.streams.info(STREAM)).state.last_seq).toBe(1)

    await manager.streams.delete(STREAM)
    const replaced = await planned()
    await manager.streams.delete(STREAM)
    const { created } = await manager.streams.add(orderedStream(options, orderBehind({ epoch: 3, seq: 10, chain })))
    await expect(replaced.migration.run(replaced.plan)).rejects.toMatchObject(refused)
    expect((await manager.streams.info(STREAM)).created).toBe(created)
  })
})
