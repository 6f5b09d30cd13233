/** A broker that is killed in the midst of the work and comes back: what was acknowledged stays, what is published is so once. */
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals'
import { connect, type ConnectOptions } from '../../client/connect.ts'
import type { MeshClient } from '../../client/mesh-client.ts'
import type { ChannelEvent } from '../../client/subscription.ts'
import { CMeshError } from '../../cmtp/errors.ts'
import { KeyPair } from '../../cmtp/identity/keys.ts'
import { until } from '../client/support/until.ts'
import { ExternalBroker } from '../support/external-broker.ts'
import { isAlive, NodeRoom, type TestNode } from '../support/node-process.ts'

const INCREMENTED = 'events.state.contracts.0x002.incremented'
const operator = KeyPair.generate()

let room: NodeRoom
let clients: MeshClient[]
beforeEach(() => {
  room = new NodeRoom()
  clients = []
})
afterEach(async () => {
  await Promise.all(clients.map(client => client.close()))
  await room.close()
})

async function client(node: TestNode, options: ConnectOptions = {}): Promise<MeshClient> {
  const opened = await connect({
    url: node.url, mesh: node.descriptor.did, identity: operator, timeoutMs: 30_000, drainMs: 0, onWarning: () => undefined, ...options,
  })
  clients.push(opened)
  return opened
}

/** Every event of a channel, in order. */
async function all(asker: MeshClient, channel: string): Promise<ChannelEvent[]> {
  const events: ChannelEvent[] = []
  for (;;) {
    const some = await asker.range(channel, { from: (events.at(-1)?.seq ?? 0) + 1, limit: 1_000 })
    if (some.length === 0) return events
    events.push(...some)
  }
}

describe('the node\'s own broker, killed under load', () => {
  test('comes back on its port; no acknowledged write is lost, none done twice, every event is published once', async () => {
    const node = await room.start({ args: ['--operator', operator.did] })
    const { url } = node.descriptor
    // One asks again what the broker swallowed, under the same id; one hears of everything that goes wrong.
    const [patient, blunt] = [await client(node), await client(node, { retry: false })]
    const before = (await patient.call('0xS:0x002:get')).json<number>()
    const heard: number[] = []
    await patient.subscribe(INCREMENTED, ({ data }) => { heard.push(Number(data)) })

    const acknowledged = new Set<string>()
    const codes = new Set<string>()
    const unknown: string[] = []
    let answered = 0
    let running = true
    const load = async (asker: MeshClient): Promise<void> => {
      while (running) {
        try {
          const reply = await asker.call('0xSW:0x002:increment')
          expect(acknowledged.has(reply.transaction as string)).toBe(false)
          acknowledged.add(reply.transaction as string)
          answered++
        } catch (thrown) {
          const error = CMeshError.from(thrown, 'the test')
          codes.add(error.code)
          const { tx } = error.detail
          if (typeof tx === 'string') unknown.push(tx)
          // Nothing goes out while there is no broker; asking on at full speed would only heat the room.
          await until('the broker is back', () => asker.connection === 'connected')
        }
      }
    }
    const workers = [...Array.from({ length: 24 }, () => load(patient)), ...Array.from({ length: 8 }, () => load(blunt))]
    for (let kills = 0; kills < 2; kills++) {
      const target = answered + 300
      await until('the load runs', () => answered > target)
      const broker = node.brokerPid as number
      process.kill(broker, 'SIGKILL')
      await until('the node misses its broker', async () => (await node.health()).body['bus'] === 'disconnected' || node.brokerPid !== broker)
      await until('another broker runs', () => node.brokerPid !== broker && isAlive(node.brokerPid as number))
      await until('the node is well again', async () => (await node.health()).code === 200)
    }
    const target = answered + 300
    await until('the load goes on', () => answered > target)
    running = false
    await Promise.all(workers)

    expect(node.running).toBe(true)
    expect(patient.url).toBe(url)
    expect([...codes].filter(code => !['CMESH_BUS_DISCONNECTED', 'CMESH_BUS_NO_RESPONDERS'].includes(code))).toEqual([])
    expect(codes).toContain('CMESH_BUS_DISCONNECTED')
    expect(unknown).toEqual([])
    const counted = (await patient.call('0xS:0x002:get')).json<number>()
    // The blunt one was told "disconnected" of writes that may have been done: at most those that were in flight at a kill.
    expect(counted).toBeGreaterThanOrEqual(before + acknowledged.size)
    expect(counted).toBeLessThanOrEqual(before + acknowledged.size + 2 * 8)
    // A node knows at least the newest 65,536 transactions; a fast one may have done more.
    const ids = [...acknowledged].slice(-60_000)
    for (let at = 0; at < ids.length; at += 1_000) {
      const looks = await patient.batch(ids.slice(at, at + 1_000).map(id => ({ fqmn: `0xC:tx:${id}` })))
      expect(looks.filter(reply => !reply.ok || reply.json<{ status: number }>().status !== 200)).toEqual([])
    }
    await until('every event is out', async () => await patient.count(INCREMENTED) >= counted)
    const published = (await all(patient, INCREMENTED)).map(({ data }) => Number(data))
    // Each once; those of one block that were on their way when the broker died may have changed places.
    expect(published.toSorted((a, b) => a - b)).toEqual(Array.from({ length: counted }, (_, i) => i + 1))
    await until('the subscription has caught up', () => heard.length >= counted - before)
    expect(heard).toEqual(published.slice(before))
  })
})

describe('a broker that is not the node\'s', () => {
  let broker: ExternalBroker
  beforeEach(async () => { broker = await ExternalBroker.start({ payloadBytes: 256 * 1_024 }) })
  afterEach(() => broker.stop())

  test('may be away for as long as it likes: the node says so, answers nobody, and goes on when it is back', async () => {
    const node = await room.start({ args: ['--operator', operator.did, '--nats-url', broker.url] })
    const [patient, blunt] = [await client(node), await client(node, { retry: false })]
    await patient.call('0xSW:0x002:increment', { args: [10] })
    await broker.kill()
    await until('the node says so', async () => (await node.health()).code === 503)
    expect((await node.health()).body).toMatchObject({ status: 'failing', bus: 'disconnected' })
    await until('the client knows', () => blunt.connection === 'disconnected')
    await expect(blunt.call('0xS:0x002:get')).rejects.toMatchObject({ code: 'CMESH_BUS_DISCONNECTED' })
    const held = Array.from({ length: 50 }, () => patient.call('0xSW:0x002:increment'))
    await broker.restart()
    expect((await Promise.all(held)).map(reply => reply.status)).toEqual(held.map(() => 200))
    await until('the node is well again', async () => (await node.health()).code === 200)
    // The self-test counted one.
    expect((await patient.call('0xS:0x002:get')).json()).toBe(1 + 10 + 50)
    await until('every event is out', async () => await patient.count(INCREMENTED) === 52)
    const published = (await all(patient, INCREMENTED)).map(({ data }) => Number(data))
    expect(published.toSorted((a, b) => a - b)).toEqual([1, ...Array.from({ length: 51 }, (_, i) => 11 + i)])
  })

  test('may take less than a whole frame: a reply that does not fit is refused, and the node goes on', async () => {
    const node = await room.start({ args: ['--operator', operator.did, '--nats-url', broker.url] })
    const asker = await client(node)
    for (let i = 0; i < 6; i++) await asker.publish('large', Buffer.alloc(60_000, 'x'))
    await expect(asker.range('large', { limit: 6 })).rejects.toMatchObject({
      code: 'CMESH_FRAME_TOO_LARGE', detail: { part: 'message', limit: 256 * 1_024 },
    })
    expect(await asker.range('large', { limit: 3 })).toHaveLength(3)
    expect(await node.health()).toMatchObject({ code: 200 })
  })
})
