/**
 * kill −9 of a node in the midst of its work, again and again, with a ledger kept outside: what was acknowledged is there, with
 * its transaction and its receipt, and nothing is done twice. TEST_LONG=1 for many rounds.
 */
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals'
import { connect } from '../../client/connect.ts'
import type { MeshClient } from '../../client/mesh-client.ts'
import { CMeshError } from '../../cmtp/errors.ts'
import { encodeRequest } from '../../cmtp/frame.ts'
import { KeyPair } from '../../cmtp/identity/keys.ts'
import { verifyReceipt } from '../../cmtp/receipt/verify.ts'
import { requestSubject } from '../../cmtp/subject.ts'
import { until } from '../client/support/until.ts'
import { isAlive, NodeRoom, type TestNode } from '../support/node-process.ts'
import { RawNats } from '../support/raw-nats.ts'

const ROUNDS = process.env['TEST_LONG'] === '1' ? 40 : 4
const CLIENTS = 32
/** Receipts that are looked for after each kill. */
const RECEIPTS = 64
const INCREMENT = '0xSW:0x002:increment'
const INCREMENTED = 'events.state.contracts.0x002.incremented'

const room = new NodeRoom()
const operator = KeyPair.generate()
const opened: { close(): unknown }[] = []
let dir: string
beforeAll(async () => { dir = await room.dir() })
afterAll(async () => {
  for (const each of opened) await each.close()
  await room.close()
})

/** A client that asks each request once and hides nothing. */
async function open(node: TestNode): Promise<MeshClient> {
  const options = { timeoutMs: 20_000, retry: false, drainMs: 0, onWarning: () => undefined }
  const client = await connect({ url: node.url, mesh: node.descriptor.did, identity: operator, ...options })
  opened.push(client)
  return client
}

async function openRaw(node: TestNode): Promise<RawNats> {
  const raw = await RawNats.connect(node.url)
  opened.push(raw)
  return raw
}

/** Writes without a pause until the node is gone; gives the transactions that were acknowledged, the receipts that came along, and how many were not. */
async function write(client: MeshClient, acknowledged: Map<string, number>, receipts: Map<string, Uint8Array>): Promise<number> {
  for (;;) {
    try {
      const reply = await client.call(INCREMENT, { receipt: 'full' })
      acknowledged.set(reply.transaction as string, reply.json())
      receipts.set(reply.id, reply.receiptBytes() as Uint8Array)
    } catch (thrown) {
      const { code } = CMeshError.from(thrown, 'the test')
      if (code !== 'CMESH_BUS_DISCONNECTED' && code !== 'CMESH_BUS_NO_RESPONDERS') throw thrown
      return 1
    }
  }
}

describe('kill −9 of a node under load', () => {
  test(`${ROUNDS} times over loses no acknowledged write and does none twice`, async () => {
    const ledger = new Map<string, number>()
    let node = await room.start({ dir, args: ['--operator', operator.did] })
    let client = await open(node)
    let counted = (await client.call('0xS:0x002:get')).json<number>()
    for (let round = 1; round <= ROUNDS; round++) {
      const acknowledged = new Map<string, number>()
      const receipts = new Map<string, Uint8Array>()
      const enough = 1 + Math.floor(Math.random() * 600)
      const raw = await openRaw(node)
      const session = await raw.login(operator)
      const { sid, token } = session
      const frame = encodeRequest({ id: raw.ids.next(), fqmn: INCREMENT, token: Buffer.from(token), deadlineMs: Date.now() + 60_000, receipt: 'hash' })
      const first = await raw.ask(requestSubject(sid), frame)
      expect(first.status).toBe(200)
      raw.close()

      const broker = node.brokerPid as number
      const writers = Promise.all(Array.from({ length: CLIENTS }, () => write(client, acknowledged, receipts)))
      await until(`${enough} writes are acknowledged`, () => acknowledged.size >= enough)
      await node.kill()
      const inFlight = (await writers).reduce((sum, lost) => sum + lost, 0)
      await client.close()
      await until('the broker went with its node', () => !isAlive(broker))

      node = await room.start({ dir })
      client = await open(node)
      const now = (await client.call('0xS:0x002:get')).json<number>()
      // One by the script on the bare socket, one by the self-test of this boot; those in flight may be done or not.
      const least = counted + 1 + acknowledged.size + 1
      expect({ round, now, atLeast: now >= least, atMost: now <= least + inFlight }).toEqual({ round, now, atLeast: true, atMost: true })
      // Every acknowledged value was given out once.
      expect(new Set([...acknowledged.values(), first.json as number]).size).toBe(acknowledged.size + 1)
      for (const [id, value] of acknowledged) ledger.set(id, value)
      counted = now

      // The last receipts that were handed out stand on the log where they say.
      for (const [id, bytes] of [...receipts].slice(-RECEIPTS)) {
        const given = verifyReceipt(bytes, node.descriptor.did, { claims: 1 })
        const found = verifyReceipt((await client.call(`0xC:receipt:${id}`)).body, node.descriptor.did, { claims: 1 })
        if (!given.valid || !found.valid) throw given.valid ? (found as { error: Error }).error : given.error
        expect(found.receipt.root).toEqual(given.receipt.root)
        expect([found.receipt.index, found.receipt.final]).toEqual([given.receipt.index, given.receipt.final])
      }

      // The same message again, to the new process: it gives the first outcome and does nothing.
      const again = await openRaw(node)
      await again.enter(session)
      expect(await again.ask(requestSubject(sid), frame)).toMatchObject({ status: 200, json: first.json })
      again.close()
      expect((await client.call('0xS:0x002:get')).json()).toBe(counted)
    }

    const ids = [...ledger.keys()]
    for (let at = 0; at < ids.length; at += 1_000) {
      const looks = await client.batch(ids.slice(at, at + 1_000).map(id => ({ fqmn: `0xC:tx:${id}` })))
      expect(looks.map(reply => reply.status)).toEqual(looks.map(() => 200))
      expect(looks.map(reply => reply.json<{ status: number }>().status)).toEqual(looks.map(() => 200))
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
  }, 60_000 + ROUNDS * 30_000)
})
