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

/** Clients that ask one request after another until `work` is done, and a few more after that; resolves with how often, and rejects with the first failure. */
async function underLoad(work: () => Promise<unknown>): Promise<number> {
  const asking = await Promise.all(Array.from({ length: CLIENTS }, () => open()))
  let asked = 0
  let done = false
  const loops = asking.map(async (client, i) => {
    for (let after = 0; after < 20; after += done ? 1 : 0) {
      const reply = await client.call(`0xS:0x001:hello_world:["${i}"]`)
      if (reply.json() !== `Hello, ${i}`) throw new Error('the answer is somebody else\'s')
      asked++
    }
  })
  const working = work().finally(() => { done = true })
  await Promise.all([...loops, working])
  return asked
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

  test('are rotated under load, and no request fails', async () => {
    const root = await open({ identity: operator })
    const before = await keysOf(root)
    const asked = await underLoad(async () => {
      for (let i = 0; i < 3; i++) await keysOf(root, ['rotate'])
    })
    expect(asked).toBeGreaterThanOrEqual(CLIENTS * 20)
    const after = await keysOf(root)
    expect([after.epoch, after.keys.length]).toEqual([before.epoch, before.keys.length + 3])
  })

  test('are dropped under load, the one in use first, and no request fails', async () => {
    const root = await open({ identity: operator })
    const before = await keysOf(root)
    const asked = await underLoad(async () => {
      for (const { kid } of before.keys) await keysOf(root, ['drop', kid])
    })
    expect(asked).toBeGreaterThanOrEqual(CLIENTS * 20)
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
