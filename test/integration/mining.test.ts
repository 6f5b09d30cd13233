/** The miner inside a node: request events from a stream and lines of a log file go through the same front door as everything else. */
import { createHash } from 'node:crypto'
import { appendFile, readdir, readFile, rename, stat } from 'node:fs/promises'
import path from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals'
import { connect } from '../../client/connect.ts'
import type { MeshClient } from '../../client/mesh-client.ts'
import { encodeRequest, type RequestFields } from '../../cmtp/frame.ts'
import { KeyPair } from '../../cmtp/identity/keys.ts'
import type { Session } from '../../cmtp/identity/login.ts'
import { formatMessageId } from '../../cmtp/message-id.ts'
import { mineSubject } from '../../cmtp/subject.ts'
import type { MinedPair } from '../../services/miner/service.ts'
import { until } from '../client/support/until.ts'
import { ExternalBroker } from '../support/external-broker.ts'
import { NodeRoom, type TestNode } from '../support/node-process.ts'
import { metric } from '../support/prometheus.ts'
import { RawNats } from '../support/raw-nats.ts'

const MINED = 'events.mined'
const HASH = /^[0-9a-f]{64}$/
const operator = KeyPair.generate()

let room: NodeRoom
let node: TestNode
let client: MeshClient
let file: string
let launch: { readonly dir: string, readonly args: readonly string[], readonly set: Readonly<Record<string, string>> }
beforeEach(async () => {
  room = new NodeRoom()
  const dir = await room.dir()
  file = path.join(await room.dir(), 'requests.log')
  launch = { dir, args: ['--operator', operator.did], set: { 'miner.logFile': file } }
  await boot()
})
afterEach(async () => {
  await client.close()
  await room.close()
})

async function boot(): Promise<void> {
  node = await room.start(launch)
  client = await connect({ url: node.url, mesh: node.descriptor.did, identity: operator, timeoutMs: 20_000, drainMs: 0, onWarning: () => undefined })
}

async function stop(): Promise<void> {
  await client.close()
  expect(await node.stop()).toEqual({ code: 0, signal: null })
}

async function mined(): Promise<MinedPair[]> {
  return (await client.range(MINED, { limit: 1_000 })).map(({ data }) => JSON.parse(data as string) as MinedPair)
}

function untilMined(pairs: number): Promise<void> {
  return until(`${pairs} pairs are mined`, async () => await client.count(MINED) >= pairs)
}

async function outcomes(source: string): Promise<Record<string, number>> {
  const metrics = await node.metrics()
  return Object.fromEntries(['done', 'retried', 'abandoned', 'garbage'].map(outcome => [outcome, metric(metrics, 'cmesh_mined_total', { source, outcome })]))
}

function requestOf(raw: RawNats, session: Session | undefined, fields: Partial<RequestFields> = {}): Buffer {
  const token = Buffer.from(session?.token ?? '')
  return encodeRequest({ id: raw.ids.next(), fqmn: '0xS:0x001:blah_blah', token, deadlineMs: Date.now() + 60_000, receipt: 'hash', ...fields })
}

/** Puts an entry on the stream, as a session; resolves when the broker keeps it. */
async function put(raw: RawNats, { sid }: Session, entry: Uint8Array): Promise<void> {
  expect(JSON.parse((await raw.request(mineSubject(sid), entry)).data.toString())).toMatchObject({ stream: 'CMESH_MINE' })
}

const count = async (): Promise<number> => (await client.call('0xS:0x002:get')).json()

describe('request events on the stream', () => {
  let raw: RawNats
  beforeEach(async () => { raw = await RawNats.connect(node.url) })
  afterEach(() => { raw.close() })

  const request = (session: Session | undefined, fields?: Partial<RequestFields>): Buffer => requestOf(raw, session, fields)

  test('are judged by their own token and answered by a pair of request hash and final hash, whatever becomes of them', async () => {
    const before = await count()
    const [own, newcomer] = [await raw.login(operator), await raw.login(KeyPair.generate())]
    const increment = { fqmn: '0xSW:0x002:increment' }
    const write = request(own, increment)
    const entries: [Buffer, number, Session?][] = [
      [request(own), 200], [request(newcomer), 200, newcomer], [write, 200], [request(newcomer, increment), 403, newcomer], [request(undefined), 401],
      [request(own, { fqmn: '0xR:unregistered.mcom' }), 404], [request(own, { fqmn: 'noise' }), 400], [request(own, { ...increment, deadlineMs: 1 }), 408],
      // A token that was left by another session than its own.
      [request(own, increment), 401, newcomer],
    ]
    for (const [frame, , by = own] of entries) await put(raw, by, frame)
    await untilMined(entries.length)
    const pairs = new Map((await mined()).map(pair => [pair.request, pair]))
    for (const [frame, status] of entries) {
      const hash = createHash('sha256').update(frame).digest('hex')
      expect(pairs.get(hash)).toEqual({ request: hash, status, final: expect.stringMatching(HASH) })
    }
    expect(new Set([...pairs.values()].map(pair => pair.final)).size).toBe(entries.length)
    expect(await count()).toBe(before + 1)
    expect(await client.call(`0xC:tx:${formatMessageId(write.subarray(16, 32))}`)).toMatchObject({ status: 200 })
    await until('all are done', async () => (await outcomes('stream'))['done'] === entries.length)
  })

  test('that ask for no final hash get none, that come twice are done once, and noise is counted and passed over', async () => {
    const before = await count()
    const own = await raw.login(operator)
    const silent = request(own, { receipt: 'none' })
    const write = request(own, { fqmn: '0xSW:0x002:increment' })
    for (const entry of [Buffer.from('noise'), silent, Buffer.alloc(0), write, write.subarray(0, 60), write]) await put(raw, own, entry)
    await untilMined(2)
    await until('all are settled', async () => (await outcomes('stream'))['done'] === 3)
    expect(await outcomes('stream')).toEqual({ done: 3, retried: 0, abandoned: 0, garbage: 3 })
    expect((await mined()).map(({ final, status }) => [final === null, status])).toEqual([[true, 200], [false, 200]])
    expect(await count()).toBe(before + 1)
  })
})

describe('request events put while no node is there', () => {
  let broker: ExternalBroker
  let raw: RawNats
  beforeEach(async () => {
    broker = await ExternalBroker.start()
    raw = await RawNats.connect(broker.url)
  })
  afterEach(async () => {
    raw.close()
    await broker.stop()
  })

  test('are taken up by the next one, each once', async () => {
    await stop()
    launch = { ...launch, dir: await room.dir(), args: ['--operator', operator.did, '--nats-url', broker.url] }
    await boot()
    const own = await raw.login(operator)
    const before = await count()
    await stop()
    const frames = Array.from({ length: 20 }, () => requestOf(raw, own, { fqmn: '0xSW:0x002:increment' }))
    await Promise.all(frames.map(frame => put(raw, own, frame)))
    await boot()
    await untilMined(20)
    const pairs = await mined()
    expect(new Set(pairs.map(pair => pair.request))).toEqual(new Set(frames.map(frame => createHash('sha256').update(frame).digest('hex'))))
    expect(pairs.map(pair => pair.status)).toEqual(pairs.map(() => 200))
    expect(await count()).toBe(before + 20 + 1)
  })
})

describe('lines of a log file', () => {
  test('are asked under a session that may only read: a write is refused and mined all the same; garbage is counted', async () => {
    const before = await count()
    await client.register('mined.mcom', '0xS:0x001:hello_world')
    await appendFile(file, [
      '1;0xS:0x001:hello_world', '2;0xSW:0x002:increment', 'noise', '3;0xR:mined.mcom:["log"]', '4;0xRW:release:mined.mcom', '5;', ';0xS:0x001:blah_blah',
      // The name of the self-test belongs to the node, whose session these lines are asked under.
      '11;0xRW:renew:self-test.mcom', '6;0xZ:nothing', '7;0xE:events.state.contracts.0x001.blah_blah:read', '8;0xSW:0x000:deploy', '9;0xEW:mined.channel:x', '10;0xR:unregistered.mcom',
    ].map(line => `${line}\n`).join(''))
    await untilMined(9)
    await until('every line is settled', async () => {
      const { done = 0, garbage = 0 } = await outcomes('logfile')
      return done + garbage === 13
    })
    expect(await outcomes('logfile')).toEqual({ done: 9, retried: 0, abandoned: 0, garbage: 4 })
    const pairs = await mined()
    expect(pairs.map(pair => pair.status).sort()).toEqual([200, 200, 200, 403, 403, 403, 403, 403, 404])
    for (const { request, final } of pairs) expect([request, final]).toEqual([expect.stringMatching(HASH), expect.stringMatching(HASH)])
    expect(await count()).toBe(before)
    expect(await client.resolve('mined.mcom')).toMatchObject({ owner: operator.did })
  })

  test('go on where they stopped: over a rotation, an unfinished line and a restart none is lost and none mined twice', async () => {
    const lines = (from: number, to: number): string => Array.from({ length: to - from }, (_, i) => `${from + i};0xS:0x001:hello_world\n`).join('')
    await appendFile(file, `${lines(0, 30)}30;0xS:0x001:`)
    await untilMined(30)
    await stop()
    await appendFile(file, `hello_world\n${lines(31, 40)}`)
    await rename(file, `${file}.1`)
    await appendFile(file, lines(40, 60))
    await boot()
    await untilMined(60)
    // What would be mined twice would be in front of what is mined last.
    await appendFile(file, '60;0xR:unregistered.mcom\n')
    await until('the last line is mined', async () => (await mined()).some(pair => pair.status === 404))
    expect(await client.count(MINED)).toBe(61)
    expect(await outcomes('logfile')).toEqual({ done: 31, retried: 0, abandoned: 0, garbage: 0 })
  })

  test('after a kill: none is lost, and none again that was written down as done', async () => {
    await appendFile(file, Array.from({ length: 40 }, (_, i) => `${i};0xS:0x001:hello_world\n`).join(''))
    await untilMined(40)
    const kept = path.join(launch.dir, 'miner', 'miner')
    const { size } = await stat(file)
    await until('the position is written down', async () => {
      const name = (await readdir(kept).catch(() => [])).find(each => each.endsWith('.json'))
      return name !== undefined && (JSON.parse(await readFile(path.join(kept, name), 'utf8')) as { offset: number }).offset === size
    })
    await client.close()
    await node.kill()
    await appendFile(file, '40;0xS:0x001:hello_world\n')
    await boot()
    await untilMined(41)
    await appendFile(file, '41;0xR:unregistered.mcom\n')
    await until('the last line is mined', async () => (await mined()).some(pair => pair.status === 404))
    expect(await client.count(MINED)).toBe(42)
  })
})
