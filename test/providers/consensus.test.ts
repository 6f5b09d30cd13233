import { createHash } from 'node:crypto'
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals'
import { CMeshError } from '../../cmtp/errors.ts'
import { MockConsensus } from '../../providers/consensus/mock.ts'
import type { LogEntry, Proposal } from '../../services/consensus/provider.ts'
import { startBroker, type TestBroker } from '../support/broker.ts'
import { LoneBus } from '../support/lone-bus.ts'
import { refusal } from '../support/refusal.ts'

const START = { epoch: 0, seq: 0 }
const SECOND = 'CMESH_CONSENSUS_SECOND_NODE'
const SUBJECT = 'cmesh.v1.ctl.consensus.mock'
const DATA = new Uint8Array(1)
const idOf = (n: number): string => n.toString(16).padStart(32, '0')
const proposalOf = (n: number): Proposal => ({ id: idOf(n), data: DATA, deadlineMs: 1_000 })
const clock = (nowMs: number): (() => number) => () => nowMs

describe('mock Raft', () => {
  test.each([1, 2, 3, 4, 5, 9])('of %i members: the leader is the hash of the proposal id modulo the members', async members => {
    const provider = new MockConsensus({ members, now: clock(0) })
    await provider.start(START, () => {})
    for (let n = 0; n < 30; n++) {
      await provider.propose(proposalOf(n))
      const leader = createHash('sha256').update(idOf(n)).digest().readUInt32BE(0) % members
      expect(provider.status().leader).toBe(`mock/${leader}`)
      expect(provider.status().members.map(member => member.matchIndex)).toEqual(Array.from({ length: members }, () => n + 1))
    }
  })

  test('a change of leader is a new term, and a leader that stays keeps its term', async () => {
    const provider = new MockConsensus({ now: clock(0) })
    await provider.start(START, () => {})
    let before = provider.status()
    let changes = 0
    for (let n = 0; n < 50; n++) {
      await provider.propose(proposalOf(n))
      const after = provider.status()
      if (after.leader !== before.leader) changes++
      expect(after.term - before.term).toBe(after.leader === before.leader ? 0 : 1)
      before = after
    }
    expect(changes).toBeGreaterThan(0)
    expect(changes).toBeLessThan(50)
  })

  test('started again behind a longer log it has a term above every term before', async () => {
    let last = 0
    let seq = 0
    for (let run = 0; run < 20; run++) {
      const provider = new MockConsensus({ now: clock(0) })
      await provider.start({ epoch: 0, seq }, () => {})
      expect(provider.status().term).toBeGreaterThan(last)
      for (let n = 0; n <= run % 3; n++) seq = (await provider.propose(proposalOf(1_000 * run + n))).seq
      last = provider.status().term
    }
  })

  test.each([0, 10, 1.5, Number.NaN])('%p members are refused', members => {
    expect(refusal(() => new MockConsensus({ members }))).toMatchObject({
      code: 'CMESH_CONFIG_INVALID',
      message: 'The setting consensus.members is not valid: it is an integer from 1 to 9.',
    })
  })

  test('orders before the event loop turns: a write waits for no timer', async () => {
    const provider = new MockConsensus({ now: clock(0) })
    await provider.start(START, () => {})
    const order: string[] = []
    const turned = new Promise<void>(resolve => setImmediate(() => { order.push('turn'); resolve() }))
    await provider.propose(proposalOf(1)).then(() => order.push('committed'))
    await turned
    expect(order).toEqual(['committed', 'turn'])
  })

  test('lets the event loop turn between entries that take long, and loses none of them', async () => {
    const provider = new MockConsensus({ now: clock(0) })
    const order: (number | 'turn')[] = []
    await provider.start(START, ({ seq }) => {
      order.push(seq)
      setImmediate(() => { order.push('turn') })
      for (const endMs = performance.now() + 11; performance.now() < endMs;);
    })
    await Promise.all([1, 2, 3].map(n => provider.propose(proposalOf(n))))
    await provider.drain()
    expect(order).toEqual([1, 'turn', 2, 'turn', 3])
  })

  test('a deadline counts when the proposal is ordered, to the millisecond', async () => {
    const provider = new MockConsensus({ now: clock(1_000) })
    await provider.start(START, () => {})
    await expect(provider.propose({ ...proposalOf(1), deadlineMs: 999 })).rejects.toMatchObject({
      code: 'CMESH_ROUTER_DEADLINE',
      message: 'The deadline had passed when the request arrived.',
    })
    await expect(provider.propose({ ...proposalOf(2), deadlineMs: 1_000 })).resolves.toMatchObject({ seq: 1 })
  })

  test('a known id is answered with its position though the deadline of the repeat has passed', async () => {
    let nowMs = 0
    const provider = new MockConsensus({ now: () => nowMs })
    await provider.start(START, () => {})
    await provider.propose(proposalOf(1))
    nowMs = 5_000
    await expect(provider.propose(proposalOf(1))).resolves.toEqual({ epoch: 0, seq: 1, duplicate: true })
  })

  test('remembers as many ids as its window says, and forgets within twice that', async () => {
    const provider = new MockConsensus({ window: 10, now: clock(0) })
    await provider.start(START, () => {})
    for (let n = 0; n < 21; n++) await provider.propose(proposalOf(n))
    for (let n = 11; n < 21; n++) {
      await expect(provider.propose(proposalOf(n))).resolves.toMatchObject({ duplicate: true, seq: n + 1 })
    }
    await expect(provider.propose(proposalOf(0))).resolves.toMatchObject({ duplicate: false, seq: 22 })
  })

  test('a `deliver` that throws ends the order: nothing is delivered after it and every proposal hears why', async () => {
    const provider = new MockConsensus({ now: clock(0) })
    const seen: number[] = []
    const broken = new Error('broken')
    await provider.start(START, (entry: LogEntry) => {
      seen.push(entry.seq)
      if (entry.seq === 2) throw broken
    })
    const settled = await Promise.allSettled([1, 2, 3].map(n => provider.propose(proposalOf(n))))
    const message = 'The state service has halted: entry 2 could not be taken in.'
    const halted = { code: 'CMESH_STATE_HALTED', message, cause: broken }
    expect(settled).toMatchObject([{ value: { seq: 1 } }, { reason: halted }, { reason: halted }])
    await expect(provider.propose(proposalOf(4))).rejects.toMatchObject(halted)
    expect(seen).toEqual([1, 2])
    await provider.stop()
  })
})

describe('mock consensus on a bus', () => {
  const node = (bus: LoneBus, nodeId: string): MockConsensus => new MockConsensus({ bus, nodeId, readyMs: 0 })

  test('refuses to start beside a second node, names it and leaves it alone', async () => {
    const bus = new LoneBus()
    const [one, two] = [node(bus, 'node-1'), node(bus, 'node-2')]
    await one.start(START, () => {})
    await expect(two.start(START, () => {})).rejects.toMatchObject({
      code: 'CMESH_CONSENSUS_SECOND_NODE',
      message: expect.stringMatching(/^Another node \(node-1\) orders the writes at this broker, .* let a stream order for both \(consensus\.provider jetstream\)\.$/),
    })
    expect(bus.subscribers(SUBJECT)).toBe(1)
    await one.stop()
  })

  test('starts where the node before has stopped', async () => {
    const bus = new LoneBus()
    const one = node(bus, 'node-1')
    await one.start(START, () => {})
    await one.stop()
    expect(bus.subscribers(SUBJECT)).toBe(0)
    const two = node(bus, 'node-2')
    await two.start(START, () => {})
    await two.stop()
  })

  test('refuses beside somebody who is there and does not answer', async () => {
    const bus = new LoneBus()
    bus.subscribe(SUBJECT, () => {})
    await expect(node(bus, 'node-2').start(START, () => {})).rejects.toMatchObject({
      code: 'CMESH_CONSENSUS_SECOND_NODE',
      detail: { node: 'one that does not answer' },
    })
    expect(bus.subscribers(SUBJECT)).toBe(1)
  })

  test('of two nodes that start at the same time never both run', async () => {
    const bus = new LoneBus()
    const nodes = [node(bus, 'node-1'), node(bus, 'node-2')]
    const settled = await Promise.allSettled(nodes.map(each => each.start(START, () => {})))
    const started = settled.filter(({ status }) => status === 'fulfilled').length
    expect(started).toBeLessThan(2)
    expect(settled).toContainEqual({ status: 'rejected', reason: expect.objectContaining({ code: SECOND }) })
    expect(bus.subscribers(SUBJECT)).toBe(started)
    for (const each of nodes) await each.stop()
  })

  test('finds itself there when an earlier node of the same id still runs', async () => {
    const bus = new LoneBus()
    const one = node(bus, 'same')
    await one.start(START, () => {})
    await expect(node(bus, 'same').start(START, () => {})).rejects.toMatchObject({ code: SECOND, detail: { node: 'same' } })
    await one.stop()
  })

  test('an answer of strange bytes is shown as text', async () => {
    const bus = new LoneBus()
    const strange = Buffer.concat([Buffer.from([0x41, 0x0a, 0x1b, 0xff]), Buffer.alloc(500, 'B')])
    bus.subscribe(SUBJECT, message => bus.publish(message.reply, strange))
    await expect(node(bus, 'node-2').start(START, () => {})).rejects.toMatchObject({ detail: { node: `A???${'B'.repeat(124)}` } })
  })

  test('a bus that fails fails the start, which leaves nothing behind', async () => {
    const bus = new LoneBus()
    let asked = 0
    bus.onRequest = () => {
      if (++asked === 2) throw new CMeshError('CMESH_BUS_DISCONNECTED')
    }
    await expect(node(bus, 'node-1').start(START, () => {})).rejects.toMatchObject({ code: 'CMESH_BUS_DISCONNECTED' })
    expect(bus.subscribers(SUBJECT)).toBe(0)
  })

  test('a stop during the start ends it, and the subject is free again', async () => {
    const bus = new LoneBus()
    const one = node(bus, 'node-1')
    const starting = one.start(START, () => {})
    const stopped = one.stop()
    await expect(starting).rejects.toMatchObject({ code: 'CMESH_ROUTER_DRAINING' })
    await stopped
    expect(bus.subscribers(SUBJECT)).toBe(0)
  })
})

describe('mock consensus on a real broker', () => {
  let broker: TestBroker

  beforeAll(async () => { broker = await startBroker() })
  afterAll(async () => { await broker.stop() })

  test('one node runs, a second is refused, and runs once the first has stopped', async () => {
    const one = new MockConsensus({ bus: broker.core, nodeId: 'node-1' })
    await one.start(START, () => {})
    const refused = new MockConsensus({ bus: broker.core, nodeId: 'node-2' })
    await expect(refused.start(START, () => {})).rejects.toMatchObject({ code: SECOND, detail: { node: 'node-1' } })
    await one.stop()
    await broker.core.flush()
    const two = new MockConsensus({ bus: broker.core, nodeId: 'node-2' })
    await two.start(START, () => {})
    await two.stop()
  })

  test('of two nodes that start at the same time never both run', async () => {
    const nodes = ['node-1', 'node-2'].map(nodeId => new MockConsensus({ bus: broker.core, nodeId }))
    const settled = await Promise.allSettled(nodes.map(each => each.start(START, () => {})))
    expect(settled.filter(({ status }) => status === 'fulfilled').length).toBeLessThan(2)
    for (const each of nodes) await each.stop()
  })
})
