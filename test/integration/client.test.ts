import { readFile } from 'node:fs/promises'
import path from 'node:path'
import { afterAll, afterEach, beforeAll, describe, expect, test } from '@jest/globals'
import { connect, KeyPair, type ConnectOptions, type MeshClient } from '../../client/index.ts'
import { until } from '../client/support/until.ts'
import { NodeRoom, type TestNode } from '../support/node-process.ts'
import { ROOT } from '../support/sources.ts'

const room = new NodeRoom()
const operator = KeyPair.generate()
const clients: MeshClient[] = []
let node: TestNode

beforeAll(async () => { node = await room.start({ args: ['--operator', operator.did] }) })
afterEach(() => Promise.all(clients.splice(0).map((client) => client.close())))
afterAll(() => room.close())

async function open(options: ConnectOptions = {}, to: TestNode = node): Promise<MeshClient> {
  const client = await connect({ url: to.url, mesh: to.descriptor.did, identity: operator, timeoutMs: 20_000, ...options })
  clients.push(client)
  return client
}

const module = (name: string): Promise<Buffer> => readFile(path.join(ROOT, 'dist', 'contracts', `${name}.wasm`))

describe('a client of a real node', () => {
  test('calls a contract with arguments in the address and in the body', async () => {
    const client = await open()
    expect((await client.call('0xS:0x001:hello_world')).json()).toBe('Hello, world')
    expect((await client.call('0xS:0x001:hello_world:["Dexter"]')).json()).toBe('Hello, Dexter')
    expect((await client.call('0xS:0x001:hello_world', { args: ['Dexter'] })).json()).toBe('Hello, Dexter')
  })

  test('gets a final hash on every reply, the layers when it asks, neither when it asks for none', async () => {
    const client = await open()
    const [hash, full, none] = await Promise.all((['hash', 'full', 'none'] as const).map((receipt) => client.call('0xS:0x001:hello_world', { receipt })))
    expect(hash?.finalHash).toMatch(/^[0-9a-f]{64}$/)
    expect(hash?.layers()).toEqual([])
    expect(full?.layers().map(({ hop, status }) => [hop, status])).toEqual([['state', 200], ['router', 200]])
    expect(none?.finalHash).toBeUndefined()
    const refused = await client.call('0xR:google.com', { throwOnError: false })
    expect([refused.status, refused.finalHash]).toEqual([404, expect.stringMatching(/^[0-9a-f]{64}$/)])
  })

  test('a thousand reads at once are answered each by its own', async () => {
    const client = await open()
    const replies = await Promise.all(Array.from({ length: 1_000 }, (_, i) => client.call(`0xS:0x001:hello_world:["${i}"]`)))
    expect(replies.map((reply) => reply.json())).toEqual(replies.map((_, i) => `Hello, ${i}`))
    expect(new Set(replies.map(({ id }) => id)).size).toBe(1_000)
    expect(new Set(replies.map(({ finalHash }) => finalHash)).size).toBe(1_000)
  })

  test('a batch mixes reads, writes and failures', async () => {
    const client = await open()
    const replies = await client.batch([
      { fqmn: '0xS:0x001:hello_world' }, { fqmn: '0xSW:0x001:say', args: ['batched'] }, { fqmn: '0xS:0xfff' }, { fqmn: 'nonsense' },
    ])
    expect(replies.map(({ status }) => status)).toEqual([200, 200, 404, 400])
    expect(replies[1]?.transaction).toBe(replies[1]?.id)
    expect(replies.every(({ finalHash }) => finalHash?.length === 64)).toBe(true)
  })

  test('takes a name through its whole life', async () => {
    const client = await open()
    const other = await open({ identity: KeyPair.generate() })
    const first = await client.register('lifeOf.mcom', '0xS:0x001')
    expect(first).toMatchObject({ name: 'lifeof.mcom', target: '0xS:0x001', owner: operator.did, sequence: 1 })
    await expect(other.register('lifeOf.mcom', '0xS:0x001')).rejects.toMatchObject({ code: 'CMESH_REGISTRAR_TAKEN' })
    await expect(other.update('lifeOf.mcom', '0xS:0x001')).rejects.toMatchObject({ code: 'CMESH_REGISTRAR_NOT_OWNER' })
    expect(await client.update('lifeOf.mcom', '0xS:0x001:hello_world')).toMatchObject({ target: '0xS:0x001:hello_world', sequence: 2 })
    expect((await client.call('0xR:lifeOf.mcom:["you"]')).json()).toBe('Hello, you')
    expect((await client.renew('lifeOf.mcom')).expiresAtMs).toBeGreaterThanOrEqual(first.expiresAtMs)
    expect(await client.transfer('lifeOf.mcom', other.did)).toMatchObject({ owner: other.did, sequence: 3 })
    await expect(client.release('lifeOf.mcom')).rejects.toMatchObject({ code: 'CMESH_REGISTRAR_NOT_OWNER' })
    await other.release('lifeOf.mcom')
    await expect(client.resolve('lifeOf.mcom')).rejects.toMatchObject({ code: 'CMESH_REGISTRAR_NOT_FOUND' })
  })

  test('follows a channel live, reads its range and counts it', async () => {
    const client = await open()
    const heard: string[] = []
    const subscription = await client.subscribe('client.news', ({ data }) => { heard.push(String(data)) })
    const published = await Promise.all(['a', 'b', 'c'].map((text) => client.publish('client.news', text)))
    await until('three events', () => heard.length === 3)
    expect(new Set(heard)).toEqual(new Set(['a', 'b', 'c']))
    expect((await client.range('client.news')).map(({ seq }) => seq)).toEqual(published.map(({ seq }) => seq).sort((a, b) => a - b))
    expect(await client.count('client.news')).toBe(3)
    await client.publish('client.news', Buffer.from([0xff]))
    expect((await client.latest('client.news')).data).toEqual({ base64: '/w==' })
    await subscription.close()
    await expect(client.latest('client.none')).rejects.toMatchObject({ code: 'CMESH_EVENTS_NO_CHANNEL' })
    await expect(client.publish('events.mine', 'x')).rejects.toMatchObject({ code: 'CMESH_EVENTS_RESERVED' })
  })

  test('deploys a contract and follows its events by its name', async () => {
    const client = await open()
    const { address } = await client.deploy({ wasm: await module('guestbook'), name: 'guestbook', version: '1.0.0' })
    await client.register('book.mcom', `0xS:${address}`)
    const heard: unknown[] = []
    await client.subscribe('0xR:book.mcom:signed', ({ data }) => { heard.push(JSON.parse(String(data))) })
    expect((await client.call('0xRW:book.mcom:sign', { args: ['hello'] })).json()).toBe(1)
    await until('the contract\'s event', () => heard.length === 1)
    expect(heard).toEqual([{ entry: 1, by: operator.did, message: 'hello' }])
    await expect(client.call('0xRW:book.mcom:sign', { args: [''] })).rejects.toMatchObject({
      code: 'CMESH_CONTRACT_REVERT', message: expect.stringContaining('a message has 1 to 280 characters'),
    })
  })

  test('a deployment with the same salt is the same contract, and is refused the second time', async () => {
    const client = await open()
    const deployment = { wasm: await module('counter'), name: 'counter', version: '1.0.0', salt: Buffer.alloc(16, 7) }
    const { address } = await client.deploy(deployment)
    await expect(client.deploy(deployment)).rejects.toMatchObject({ code: 'CMESH_DEPLOY_EXISTS', detail: { contract: address } })
  })

  test('a newcomer may read and claim names, and nothing else', async () => {
    const newcomer = await open({ identity: KeyPair.generate() })
    expect((await newcomer.call('0xS:0x001:hello_world')).status).toBe(200)
    await expect(newcomer.call('0xSW:0x001:say', { args: ['x'] })).rejects.toMatchObject({ status: 403 })
    await expect(newcomer.deploy({ wasm: await module('counter'), name: 'c', version: '1' })).rejects.toMatchObject({ code: 'CMESH_IAM_DENIED' })
  })

  test('knows who it is and how the mesh is', async () => {
    const client = await open()
    expect(await client.whoami()).toMatchObject({ did: operator.did, mesh: client.mesh, aal: 1 })
    expect(await client.status()).toMatchObject({ provider: 'mock' })
  })
})

describe('a session', () => {
  test('that lives six seconds is renewed under load, and no request notices', async () => {
    // A fifth of its life is left when it is renewed: a machine may stand still for a second.
    const short = await room.start({ args: ['--operator', operator.did], set: { 'iam.sessionTtlMs': 6_000 } })
    const client = await open({}, short)
    const { sid } = await client.whoami()
    const tokens = new Set<unknown>()
    await until('it was renewed twice', async () => {
      const session = (await client.call('0xI:session')).json<{ jti: string, sid: string }>()
      expect(session.sid).toBe(sid)
      tokens.add(session.jti)
      return tokens.size > 2
    }, 40_000)
  })
})

describe('a node that goes and comes back', () => {
  const bump = (client: MeshClient, address: string): Promise<unknown> => client.call(`0xSW:${address}:increment`).then((reply) => reply.json())

  async function withCounter(): Promise<{ dir: string, first: TestNode, client: MeshClient, address: string }> {
    const dir = await room.dir()
    const first = await room.start({ dir, args: ['--operator', operator.did] })
    const client = await open({}, first)
    const { address } = await client.deploy({ wasm: await module('counter'), name: 'counter', version: '1.0.0' })
    return { dir, first, client, address }
  }

  test.each(['SIGTERM', 'SIGKILL'] as const)('by %s: every write is executed exactly once, every subscription goes on', async (signal) => {
    const { dir, first, client, address } = await withCounter()
    const heard: string[] = []
    await client.subscribe('restart.news', ({ data }) => { heard.push(String(data)) })
    const results: unknown[] = []
    const failures: unknown[] = []
    let going = true
    const workers = Array.from({ length: 8 }, async () => {
      while (going) await bump(client, address).then((value) => results.push(value), (error: unknown) => failures.push(error))
    })
    await until('writes are under way', () => results.length > 100)
    first.signal(signal)
    await first.exited
    const before = results.length
    await room.start({ dir, args: ['--operator', operator.did, '--port', new URL(first.url).port] })
    await until('writes go on', () => results.length > before + 100)
    going = false
    await Promise.all(workers)
    expect(failures).toEqual([])
    // Each increment gives the count it made: as many different ones as there were calls means none was lost and none ran twice.
    expect(new Set(results).size).toBe(results.length)
    expect(Math.max(...results.map(Number))).toBe(results.length)
    await client.publish('restart.news', 'after')
    await until('the event arrives', () => heard.includes('after'))
  })
})
