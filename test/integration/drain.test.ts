/** A node that is asked to stop in the midst of its work: what it took it answers, and what it acknowledged is there afterwards. */
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals'
import { connect } from '../../client/connect.ts'
import type { MeshClient } from '../../client/mesh-client.ts'
import { CMeshError } from '../../cmtp/errors.ts'
import { KeyPair } from '../../cmtp/identity/keys.ts'
import { until } from '../client/support/until.ts'
import { ExternalBroker } from '../support/external-broker.ts'
import { NodeRoom, type NodeLaunch, type TestNode } from '../support/node-process.ts'
import { metric } from '../support/prometheus.ts'

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

const operator = KeyPair.generate()
const INCREMENTED = 'events.state.contracts.0x002.incremented'

/** A client that asks each request once and hides nothing. */
async function client(node: TestNode): Promise<MeshClient> {
  const options = { timeoutMs: 10_000, retry: false, drainMs: 0, onWarning: () => undefined }
  const opened = await connect({ url: node.url, mesh: node.descriptor.did, identity: operator, ...options })
  clients.push(opened)
  return opened
}

/** Codes that say: this was not taken. Any other would be a loss, since the broker stays. */
const NOT_TAKEN = new Set(['CMESH_BUS_NO_RESPONDERS', 'CMESH_ROUTER_DRAINING'])

describe('SIGTERM under load', () => {
  let broker: ExternalBroker
  let launch: NodeLaunch
  beforeEach(async () => {
    broker = await ExternalBroker.start()
    launch = { args: ['--operator', operator.did, '--nats-url', broker.url] }
  })
  afterEach(() => broker.stop())

  test('loses no accepted request and no acknowledged write, and nothing is done twice', async () => {
    const node = await room.start(launch)
    const [one, two] = [await client(node), await client(node)]
    const before = (await one.call('0xS:0x002:get')).json<number>()
    const acknowledged: string[] = []
    const codes = new Map<string, number>()
    let sent = 0
    let answered = 0
    /** Sends without a pause until the node takes no more. */
    const load = async (ask: () => Promise<void>): Promise<void> => {
      for (let refused = false; !refused;) {
        sent++
        try {
          await ask()
          answered++
        } catch (error) {
          const { code } = CMeshError.from(error, 'the test')
          codes.set(code, (codes.get(code) ?? 0) + 1)
          refused = true
        }
      }
    }
    const workers = Array.from({ length: 64 }, (_, i) => load(async () => {
      if (i % 4 === 0) {
        expect((await (i % 8 === 0 ? one : two).call('0xS:0x001:hello_world')).json()).toBe('Hello, world')
      } else if (i % 4 === 1) {
        const replies = await one.batch([{ fqmn: '0xSW:0x002:increment' }, { fqmn: '0xS:0x001:hello_world' }, { fqmn: '0xSW:0x002:increment' }])
        for (const reply of replies) if (reply.transaction !== undefined && reply.ok) acknowledged.push(reply.transaction)
        const failed = replies.find(reply => !reply.ok)?.error()
        if (failed !== undefined) throw failed
      } else {
        acknowledged.push((await two.call('0xSW:0x002:increment')).transaction as string)
      }
    }))
    await until('the load runs', () => answered > 500)
    expect(await node.stop()).toEqual({ code: 0, signal: null })
    await Promise.all(workers)
    // Every one of them came back: with its reply, or with an error that says it was not taken.
    expect(answered + [...codes.values()].reduce((sum, count) => sum + count, 0)).toBe(sent)
    expect([...codes.keys()].filter(code => !NOT_TAKEN.has(code))).toEqual([])
    expect(new Set(acknowledged).size).toBe(acknowledged.length)
    expect(node.stderr).not.toMatch(/"level":(50|60)/)

    const again = await room.start({ ...launch, dir: node.dir })
    const three = await client(again)
    // One more by the self-test of the second boot. None was refused after it was done: the load had ended in errors of intake.
    expect((await three.call('0xS:0x002:get')).json()).toBe(before + acknowledged.length + 1)
    const looks = await three.batch(acknowledged.slice(-1_024).map(id => ({ fqmn: `0xC:tx:${id}` })))
    expect(looks.map(reply => reply.json<{ status: number }>().status)).toEqual(looks.map(() => 200))
    const written = before + acknowledged.length + 1
    await until('all events are out', async () => await three.count(INCREMENTED) >= written)
    expect(await three.count(INCREMENTED)).toBe(written)
  })

  test('hands back views that wait for what may not come: their callers need not wait as long as a drain may take', async () => {
    const node = await room.start({ args: [...launch.args ?? [], '--set', 'router.drainMs=300000'] })
    const one = await client(node)
    const views = ['1', '2'].map(each => one.call('0xS:0x002:get', {
      timeoutMs: 60_000, headers: { 'x-cmesh-read': 'session', 'x-cmesh-after': `100000000${each}` },
    }).catch((error: unknown) => CMeshError.from(error, 'the test').code))
    // Behind them, so they are taken.
    await one.call('0xS:0x002:get')
    expect(await node.stop()).toEqual({ code: 0, signal: null })
    expect(await Promise.all(views)).toEqual(['CMESH_ROUTER_DRAINING', 'CMESH_ROUTER_DRAINING'])
  })

  test('a second signal ends it at once', async () => {
    const node = await room.start(launch)
    // Nothing gets out any more, so the drain has to wait.
    await broker.standStill()
    node.signal('SIGTERM')
    await until('it drains', () => node.stderr.includes('"draining"'))
    expect(await node.stop()).toEqual({ code: 1, signal: null })
  })

  test('while the broker is gone does not wait for it: events that could not leave are published after the next start, each once', async () => {
    const node = await room.start(launch)
    const one = await client(node)
    const writes = Array.from({ length: 200 }, () => one.call('0xSW:0x002:increment').catch((error: unknown) => CMeshError.from(error, 'the test').code))
    await until('the node is at it', async () => metric(await node.metrics(), 'cmesh_transactions_total') > 1)
    await broker.kill()
    expect(await node.stop()).toEqual({ code: 0, signal: null })
    await Promise.all(writes)
    await broker.restart()
    const two = await client(await room.start({ ...launch, dir: node.dir }))
    const counted = (await two.call('0xS:0x002:get')).json<number>()
    await until('all events are out', async () => await two.count(INCREMENTED) >= counted)
    const events = (await two.range(INCREMENTED, { limit: 1_000 })).map(({ data }) => Number(data))
    expect(events.toSorted((a, b) => a - b)).toEqual(Array.from({ length: counted }, (_, i) => i + 1))
  })
})
