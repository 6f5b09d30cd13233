/**
 * A node whose writes are ordered by a JetStream stream, and what kill −9 of it and of its broker leaves, with a ledger kept
 * outside: what was acknowledged is there once. TEST_LONG=1 for many rounds.
 */
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals'
import { jetstreamManager } from '@nats-io/jetstream'
import { connect } from '../../client/connect.ts'
import type { MeshClient } from '../../client/mesh-client.ts'
import { CMeshError } from '../../cmtp/errors.ts'
import { KeyPair } from '../../cmtp/identity/keys.ts'
import { migrate, type Migrated } from '../../node/archive/migrate.ts'
import { connectNats } from '../../providers/bus/nats.ts'
import { until } from '../client/support/until.ts'
import { ExternalBroker } from '../support/external-broker.ts'
import { NodeRoom, type NodeLaunch, type TestNode } from '../support/node-process.ts'

const ROUNDS = process.env['TEST_LONG'] === '1' ? 20 : 3
const CLIENTS = 24
const INCREMENT = '0xSW:0x002:increment'
const GET = '0xS:0x002:get'
const INCREMENTED = 'events.state.contracts.0x002.incremented'
const operator = KeyPair.generate()

let room: NodeRoom
let broker: ExternalBroker
let clients: MeshClient[]
let dir: string
beforeEach(async () => {
  room = new NodeRoom()
  clients = []
  broker = await ExternalBroker.start()
  dir = await room.dir()
})
afterEach(async () => {
  await Promise.all(clients.map(client => client.close()))
  await room.close()
  await broker.stop()
})

const migrated = (): Promise<Migrated> => migrate({ dir, settings: { 'bus.url': broker.url }, dryRun: false }, {}, () => {})

const launch = (provider = 'jetstream'): NodeLaunch => {
  return { dir, args: ['--operator', operator.did, '--nats-url', broker.url], set: { 'consensus.provider': provider } }
}

async function open(node: TestNode): Promise<MeshClient> {
  const client = await connect({ url: node.url, mesh: node.descriptor.did, identity: operator, timeoutMs: 30_000, drainMs: 0, onWarning: () => undefined })
  clients.push(client)
  return client
}

/** Writes until it is told to end, or the client is closed; adds what was acknowledged. */
async function write(client: MeshClient, acknowledged: Map<string, number>, running: () => boolean): Promise<void> {
  while (running()) {
    try {
      const reply = await client.call(INCREMENT, { timeoutMs: 10_000 })
      acknowledged.set(reply.transaction as string, reply.json())
    } catch (thrown) {
      const { code } = CMeshError.from(thrown, 'the test')
      if (code === 'CMESH_CLIENT_CLOSED' || code === 'CMESH_BUS_CLOSED') return
      expect(['CMESH_BUS_DISCONNECTED', 'CMESH_BUS_NO_RESPONDERS', 'CMESH_ROUTER_UNKNOWN_OUTCOME', 'CMESH_BUS_TIMEOUT']).toContain(code)
    }
  }
}

describe('a node under jetstream consensus', () => {
  test(`${ROUNDS} times over kill −9 of the broker and of the node in turn: every acknowledged write is there once`, async () => {
    const acknowledged = new Map<string, number>()
    let node = await room.start(launch())
    for (let round = 0; round < ROUNDS; round++) {
      const client = await open(node)
      let running = true
      const writers = Promise.all(Array.from({ length: CLIENTS }, () => write(client, acknowledged, () => running)))
      const more = async (): Promise<void> => {
        const enough = acknowledged.size + 200
        await until('writes are acknowledged', () => acknowledged.size >= enough)
      }
      await more()
      await broker.kill()
      await until('the node misses its broker', async () => (await node.health()).code === 503)
      await broker.restart()
      await more()
      await node.kill()
      running = false
      await client.close()
      await writers
      node = await room.start(launch())
    }
    const client = await open(node)
    const counted = (await client.call(GET)).json<number>()
    // Every value was given out to one write.
    expect(new Set(acknowledged.values()).size).toBe(acknowledged.size)
    expect(counted).toBeGreaterThanOrEqual(acknowledged.size)
    const ids = [...acknowledged.keys()].slice(-60_000)
    for (let at = 0; at < ids.length; at += 1_000) {
      const looks = await client.batch(ids.slice(at, at + 1_000).map(id => ({ fqmn: `0xC:tx:${id}` })))
      expect(looks.filter(reply => !reply.ok || reply.json<{ status: number }>().status !== 200)).toEqual([])
    }
    await until('every event is out', async () => await client.count(INCREMENTED) >= counted)
    const values: number[] = []
    for (let from = 1; ;) {
      const events = await client.range(INCREMENTED, { from, limit: 1_000 })
      if (events.length === 0) break
      values.push(...events.map(({ data }) => Number(data)))
      from = (events.at(-1)?.seq ?? 0) + 1
    }
    expect(values.toSorted((a, b) => a - b)).toEqual(Array.from({ length: counted }, (_, i) => i + 1))
    const status = (await client.call('0xC:status')).json<{ lastIndex: number, head: { seq: number } }>()
    expect(status).toMatchObject({ provider: 'jetstream', epoch: 0, quorum: 1, members: [{ id: 'external', role: 'leader' }], leader: 'external' })
    expect(status.head.seq).toBe(status.lastIndex)
    expect((await client.call('0xC:leader')).json()).toMatchObject({ leader: 'external' })
  }, 60_000 + ROUNDS * 60_000)

  test('with a broker of its own is killed with it, and goes on where both were', async () => {
    const set = { 'consensus.provider': 'jetstream' }
    const first = await room.start({ dir, args: ['--operator', operator.did], set })
    const before = await open(first)
    const acknowledged = await Promise.all(Array.from({ length: 100 }, async () => (await before.call(INCREMENT)).transaction as string))
    const counted = (await before.call(GET)).json<number>()
    await first.kill()
    await before.close()
    const after = await open(await room.start({ dir, set }))
    // The self-test of the boot counts one.
    expect((await after.call(GET)).json()).toBe(counted + 1)
    const looks = await after.batch(acknowledged.map(id => ({ fqmn: `0xC:tx:${id}` })))
    expect(looks.map(reply => reply.status)).toEqual(acknowledged.map(() => 200))
  })

  test('goes on with what was begun on mock once it is migrated, and not on a stream that mock has gone past', async () => {
    const begun = await room.start(launch('mock'))
    const one = await open(begun)
    await Promise.all(Array.from({ length: 20 }, () => one.call(INCREMENT)))
    const counted = (await one.call(GET)).json<number>()
    const { head } = (await one.call('0xC:status')).json<{ head: { seq: number } }>()
    expect(await begun.stop()).toEqual({ code: 0, signal: null })

    expect(await migrated()).toMatchObject({ what: 'make', newEpoch: 1 })
    const moved = await room.start(launch())
    const two = await open(moved)
    expect((await two.call(GET)).json()).toBe(counted + 1)
    const reply = await two.call(INCREMENT)
    expect(reply.json()).toBe(counted + 2)
    const status = (await two.call('0xC:status')).json<{ provider: string, head: { seq: number }, lastIndex: number }>()
    expect(status.provider).toBe('jetstream')
    expect(status.head.seq).toBeGreaterThan(head.seq)
    expect(status.lastIndex).toBe(status.head.seq)
    expect(await moved.stop()).toEqual({ code: 0, signal: null })

    const back = await room.start(launch('mock'))
    await (await open(back)).call(INCREMENT)
    await back.stop()
    const refused = await room.launch(launch())
    expect(await refused.exited).toEqual({ code: 1, signal: null })
    expect(refused.failure).toMatchObject({
      code: 'CMESH_CONSENSUS_STREAM_SHORT',
      message: expect.stringMatching(/^Boot stopped at step state: The stream CMESH_ORDER ends at \d+ and the log of this node at \d+: /),
    })
  })

  test('whose stream is deleted stops with what to do, and what it acknowledged is there when it starts again', async () => {
    const node = await room.start(launch())
    const one = await open(node)
    const counted = (await one.call(INCREMENT)).json<number>()
    const bus = await connectNats({ servers: broker.url })
    try {
      await (await jetstreamManager(bus.connection)).streams.delete('CMESH_ORDER')
      expect(await node.exited).toEqual({ code: 1, signal: null })
      expect(node.failure).toMatchObject({ code: 'CMESH_CONSENSUS_STREAM_LOST', message: expect.stringMatching(/: it is gone\. /) })
      const refused = await room.launch(launch())
      expect(await refused.exited).toEqual({ code: 1, signal: null })
      expect(refused.failure).toMatchObject({
        code: 'CMESH_CONSENSUS_NOT_MIGRATED', message: expect.stringContaining(' `cmesh consensus migrate --data DIR` makes a stream '),
      })
      expect(await migrated()).toMatchObject({ newEpoch: 1 })
      const two = await open(await room.start(launch()))
      expect((await two.call(GET)).json()).toBe(counted + 1)
    } finally {
      await bus.close()
    }
  })
})
