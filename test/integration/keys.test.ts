/** The keys of a real node, changed while clients of it work; and what was revoked, across a restart. */
import { readFile, stat } from 'node:fs/promises'
import path from 'node:path'
import { afterAll, afterEach, beforeAll, describe, expect, test } from '@jest/globals'
import { connect, KeyPair, type ConnectOptions, type MeshClient } from '../../client/index.ts'
import { canonicalBytes } from '../../cmtp/identity/canonical-json.ts'
import { makeRenewal } from '../../cmtp/identity/handshake.ts'
import type { KeySet } from '../../cmtp/identity/key-set.ts'
import { requestSubject } from '../../cmtp/subject.ts'
import { encodeRequest } from '../../cmtp/frame.ts'
import { MessageIds } from '../../cmtp/message-id.ts'
import { until } from '../client/support/until.ts'
import { failureOf } from '../support/iam.ts'
import { NodeRoom, type TestNode } from '../support/node-process.ts'
import { RawNats, readRaw, type RawReply } from '../support/raw-nats.ts'
import type { Session } from '../../cmtp/identity/login.ts'

const CLIENTS = 8
const room = new NodeRoom()
const operator = KeyPair.generate()
const clients: MeshClient[] = []
const raws: RawNats[] = []
const ids = new MessageIds()
let node: TestNode

beforeAll(async () => { node = await room.start({ args: ['--operator', operator.did] }) })
afterEach(async () => {
  for (const raw of raws.splice(0)) raw.close()
  await Promise.all(clients.splice(0).map(client => client.close()))
})
afterAll(() => room.close())

async function open(options: ConnectOptions = {}, to: TestNode = node): Promise<MeshClient> {
  const client = await connect({ url: to.url, mesh: to.descriptor.did, identity: KeyPair.generate(), timeoutMs: 20_000, ...options })
  clients.push(client)
  return client
}

async function rawTo({ url }: TestNode): Promise<RawNats> {
  const raw = await RawNats.connect(url)
  raws.push(raw)
  return raw
}

const keysOf = async (client: MeshClient, args?: readonly string[]): Promise<KeySet> =>
  (await client.call(args === undefined ? '0xI:keys' : '0xIW:keys', args === undefined ? {} : { args })).json<KeySet>()

/** What clients did while the keys changed. */
interface Load {
  /** Runs while every client has a request on its way, and resolves when each has been answered a read and a write begun after it. */
  during(change: () => Promise<unknown>): Promise<void>
}

/**
 * Clients that read and write, one request after another, until `work` is done. Rejects with the first failure, and unless each write
 * counted once.
 */
async function underLoad(work: (load: Load) => Promise<unknown>): Promise<void> {
  const root = await open({ identity: operator })
  const asking = await Promise.all(Array.from({ length: CLIENTS }, () => open({ identity: operator })))
  const counter = async (): Promise<number> => (await root.call('0xS:0x002:get')).json<number>()
  const before = await counter()
  const rounds = asking.map(() => 0)
  const onTheirWay = new Set<number>()
  const written: number[] = []
  let done = false
  const loops = asking.map(async (client, i) => {
    while (!done) {
      onTheirWay.add(i)
      const read = (await client.call(`0xS:0x001:hello_world:["${i}"]`)).json()
      if (read !== `Hello, ${i}`) throw new Error('the answer is somebody else\'s')
      written.push((await client.call('0xSW:0x002:increment')).json<number>())
      onTheirWay.delete(i)
      rounds[i] = (rounds[i] ?? 0) + 1
    }
  })
  const during: Load['during'] = async change => {
    await until('each is at work', () => onTheirWay.size === CLIENTS)
    await change()
    // The round under way may have begun before it.
    const since = [...rounds]
    await until('each was answered after it', () => rounds.every((round, i) => round >= (since[i] ?? 0) + 2))
  }
  const failed = Promise.all(loops)
  const working = Promise.race([work({ during }), failed.then(() => undefined)]).finally(() => { done = true })
  await Promise.all([failed, working])
  // What was answered and what stands in the mesh are the same writes, each once.
  expect([...written].sort((a, b) => a - b)).toEqual(written.map((_, i) => before + 1 + i))
  expect(await counter()).toBe(before + written.length)
}

async function ask(raw: RawNats, session: Session, fqmn: string): Promise<RawReply> {
  const frame = encodeRequest({ id: ids.next(), fqmn, token: Buffer.from(session.token), deadlineMs: Date.now() + 5_000, receipt: 'none' })
  return readRaw(await raw.request(requestSubject(session.sid), frame))
}

describe('the keys of a mesh', () => {
  test('are changed by its operator and by nobody else', async () => {
    const [newcomer, root] = [await open(), await open({ identity: operator })]
    await expect(keysOf(newcomer, ['rotate'])).rejects.toMatchObject({ code: 'CMESH_IAM_DENIED', message: 'Permission write on 0xIW:keys is missing.' })
    expect((await keysOf(newcomer)).keys).toHaveLength(1)
    await expect(keysOf(root, ['drop', 'x'])).rejects.toMatchObject({ code: 'CMESH_IAM_KEY' })
    for (const args of [[], ['turn'], ['drop'], ['rotate', 'x']]) await expect(keysOf(root, args)).rejects.toMatchObject({ status: 400 })
  })

  test('are rotated under load, and no read fails and each write counts once', async () => {
    const root = await open({ identity: operator })
    const before = await keysOf(root)
    await underLoad(async ({ during }) => {
      for (let i = 0; i < 3; i++) await during(() => keysOf(root, ['rotate']))
    })
    const after = await keysOf(root)
    expect([after.epoch, after.keys.length]).toEqual([before.epoch, before.keys.length + 3])
  })

  test('are dropped under load, the one in use first, and no read fails and each write counts once', async () => {
    const root = await open({ identity: operator })
    const before = await keysOf(root)
    await underLoad(async ({ during }) => {
      for (const { kid } of before.keys) await during(() => keysOf(root, ['drop', kid]))
    })
    const after = await keysOf(root)
    expect(after.epoch).toBe(before.epoch + before.keys.length)
    expect(after.keys.filter(({ kid }) => before.keys.some(old => old.kid === kid))).toEqual([])
  })
})

describe('a restart', () => {
  test('takes back neither a hangup nor a drop, and keeps who is still good', async () => {
    const dir = await room.dir()
    const first = await room.start({ dir, args: ['--operator', operator.did], set: { 'log.level': 'debug' } })
    const raw = await rawTo(first)
    const [gone, kept] = [await raw.login(KeyPair.generate()), await raw.login(KeyPair.generate())]
    expect((await ask(raw, gone, '0xIW:hangup')).status).toBe(200)
    const keys = await keysOf(await open({ identity: operator }, first))
    await Promise.all(clients.splice(0).map(client => client.close()))
    await first.kill()

    const second = await room.start({ dir, args: ['--operator', operator.did], set: { 'log.level': 'debug' } })
    const again = await rawTo(second)
    // At the broker, and behind it.
    await expect(again.enter(gone)).rejects.toThrow(/authorization violation/i)
    const renewal = makeRenewal('refresh', gone.token, gone.key, Date.now())
    expect(await failureOf(() => again.step('refresh', canonicalBytes(renewal), undefined))).toMatchObject({ status: 401, detail: { reason: 'the session was revoked' } })
    await again.enter(kept)
    expect(await ask(again, kept, '0xI:whoami')).toMatchObject({ status: 200, json: { sid: kept.sid } })
    const root = await open({ identity: operator }, second)
    expect((await keysOf(root)).keys).toEqual(keys.keys)

    for (const file of ['keys.json', 'revoked.jsonl']) expect((await stat(path.join(dir, 'iam', file))).mode & 0o077).toBe(0)
    const { keys: seeds } = JSON.parse(await readFile(path.join(dir, 'iam', 'keys.json'), 'utf8')) as { keys: { seed: string }[] }
    const secrets = [...seeds.map(({ seed }) => seed), gone.token, kept.token, (await readFile(path.join(dir, 'node.key'), 'utf8')).trim()]
    expect(second.stderr).not.toBe('')
    for (const { stderr, stdout } of [first, second, node]) {
      for (const secret of secrets) expect(stderr + stdout).not.toContain(secret)
    }
  })
})
