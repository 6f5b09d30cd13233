/**
 * The main job through the SDK: names, a contract of one's own, its state and its events, over a restart of the node; who may
 * do what; and a final hash on every reply, recomputed here from the words of the specification.
 */
import { readFile } from 'node:fs/promises'
import path from 'node:path'
import { afterAll, afterEach, beforeAll, describe, expect, test } from '@jest/globals'
import { connect, KeyPair, type CallOptions, type ConnectOptions, type MeshClient, type Reply } from '../../client/index.ts'
import { encodeHeaders } from '../../cmtp/headers.ts'
import { signNameRecord } from '../../cmtp/identity/name-record.ts'
import { LIMITS } from '../../cmtp/limits.ts'
import { until } from '../client/support/until.ts'
import { Collector } from '../support/collector.ts'
import { specFinalHash1 } from '../support/final-hash.ts'
import { NodeRoom, type TestNode } from '../support/node-process.ts'
import { metric } from '../support/prometheus.ts'
import { ROOT } from '../support/sources.ts'

const room = new NodeRoom()
const operator = KeyPair.generate()
let collector: Collector
let node: TestNode
let clients: MeshClient[] = []
beforeAll(async () => {
  collector = await Collector.start()
  node = await room.start({ args: ['--operator', operator.did], env: { OTEL_EXPORTER_OTLP_TRACES_ENDPOINT: collector.url } })
})
afterAll(async () => {
  await room.close()
  await collector.stop()
})
afterEach(async () => {
  await Promise.all(clients.map(client => client.close()))
  clients = []
})

async function open(identity = operator, options: ConnectOptions = {}): Promise<MeshClient> {
  const client = await connect({ url: node.url, mesh: node.descriptor.did, identity, timeoutMs: 10_000, ...options })
  clients.push(client)
  return client
}

async function restart(): Promise<void> {
  await Promise.all(clients.map(client => client.close()))
  clients = []
  expect(await node.stop()).toEqual({ code: 0, signal: null })
  node = await room.start({ dir: node.dir })
}

const TRACE = '0af7651916cd43dd8448eb211c80319c'
const PARENT = 'b7ad6b7169203331'

const guestbook = (): Promise<Buffer> => readFile(path.join(ROOT, 'dist', 'contracts', 'guestbook.wasm'))

describe('names, a contract, state and events', () => {
  test('work together, and are all there after the node was stopped and started again', async () => {
    const asker = await open()
    const heard: unknown[] = []
    const { address } = await asker.deploy({ wasm: await guestbook(), name: 'guestbook', version: '1.0.0' })
    const channel = `events.state.contracts.${address}.signed`
    await asker.subscribe(channel, ({ data }) => { heard.push(JSON.parse(data as string)) })
    await asker.register('book.mcom', `0xS:${address}:entry`)
    await asker.register('sign.mcom', `0xSW:${address}:sign`)
    expect((await asker.call(`0xSW:${address}:sign`, { args: ['by address'] })).json()).toBe(1)
    expect((await asker.call('0xRW:sign.mcom', { args: ['by name'] })).json()).toBe(2)
    expect((await asker.call('0xR:book.mcom:[2]')).json()).toBe('by name')
    await asker.publish('mesh.news', 'it works')
    const signed = [{ entry: 1, by: operator.did, message: 'by address' }, { entry: 2, by: operator.did, message: 'by name' }]
    await until('both events are heard', () => heard.length === 2)
    expect(heard).toEqual(signed)
    const { address: seen } = (await asker.call(`0xS:${address}`)).json<{ address: string }>()
    expect(seen).toBe(address)
    const traced = await asker.call('0xR:book.mcom:[1]', { headers: { traceparent: `00-${TRACE}-${PARENT}-01` }, receipt: 'full' })

    // What waits goes out before the node is gone.
    await restart()
    const spans = collector.spans.filter(({ traceId }) => traceId === TRACE)
    const root = spans.at(-1)
    expect(spans.map(({ name, node: by }) => [name, by])).toEqual(traced.layers().map(({ hop, fqmn, node: by }) => [`${hop} ${fqmn}`, by]))
    expect(root).toMatchObject({ parentId: PARENT, attributes: { 'cmesh.message.id': traced.id, 'cmesh.receipt.final': traced.finalHash } })
    expect(traced.header('traceparent')).toBe(`00-${TRACE}-${root?.spanId}-01`)
    // Who sent none has a trace of its own, named by its message.
    expect(collector.spans.some(({ traceId, name, attributes }) => name === 'router 0xRW:sign.mcom' && traceId === attributes['cmesh.message.id'])).toBe(true)
    expect(collector.requests.every(({ body }) => JSON.stringify(body).includes('"service.version"'))).toBe(true)
    const again = await open()
    expect((await again.call('0xR:book.mcom:[1]')).json()).toBe('by address')
    expect((await again.call('0xRW:sign.mcom', { args: ['after the restart'] })).json()).toBe(3)
    expect((await again.range(channel)).map(({ data }) => JSON.parse(data as string) as unknown)).toEqual([...signed, { entry: 3, by: operator.did, message: 'after the restart' }])
    expect((await again.latest('mesh.news')).data).toBe('it works')
    expect(await again.resolve('book.mcom')).toMatchObject({ owner: operator.did, target: `0xS:${address}:entry`, sequence: 1 })
    await expect(again.register('book.mcom', `0xS:${address}:last`)).rejects.toMatchObject({ code: 'CMESH_REGISTRAR_TAKEN', status: 409 })
    await expect(again.call('0xR:never.mcom')).rejects.toMatchObject({ code: 'CMESH_REGISTRAR_NOT_FOUND', status: 404 })
  })

  test('a name is claimed once, however many claim it at once', async () => {
    const askers = await Promise.all(Array.from({ length: 8 }, () => open(KeyPair.generate())))
    const claims = await Promise.allSettled(askers.map(asker => asker.register('raced.mcom', '0xS:0x001:hello_world')))
    const won = claims.filter(claim => claim.status === 'fulfilled')
    expect(won).toHaveLength(1)
    for (const claim of claims) if (claim.status === 'rejected') expect(claim.reason).toMatchObject({ code: 'CMESH_REGISTRAR_TAKEN' })
    expect(await askers[0]?.resolve('raced.mcom')).toEqual(won[0]?.value)
  })
})

describe('who may do what', () => {
  test('whom nobody granted it may not deploy, and is told which permission is missing', async () => {
    const newcomer = await open(KeyPair.generate())
    const wasm = await guestbook()
    const before = metric(await node.metrics(), 'cmesh_log_sequence')
    await expect(newcomer.deploy({ wasm, name: 'mine', version: '1.0.0' })).rejects.toMatchObject({
      code: 'CMESH_IAM_DENIED', status: 403, message: 'Permission deploy on 0xSW:0x000:deploy is missing.',
    })
    // It was refused before it cost a place in the log.
    expect(metric(await node.metrics(), 'cmesh_log_sequence')).toBe(before)
  })

  test.each([
    ['0xSW:0x002:increment', 'CMESH_IAM_DENIED'], ['0xSW:0x001:say:["x"]', 'CMESH_IAM_DENIED'], ['0xEW:mesh.spam:x', 'CMESH_IAM_DENIED'],
    ['0xE:audit:read', 'CMESH_IAM_DENIED'], ['0xSW:0x000:replace', 'CMESH_IAM_DENIED'], ['0xSW:0x000:proxy', 'CMESH_IAM_DENIED'],
    ['0xA:1:0x001:hello_world', 'CMESH_ROUTER_INTERNAL_ONLY'], ['0xP:peer:0xS:0x001:hello_world', 'CMESH_ROUTER_PEER'],
  ])('a newcomer may not %s', async (fqmn, code) => {
    const newcomer = await open(KeyPair.generate())
    const reply = await newcomer.call(fqmn, { throwOnError: false })
    expect(reply.error()?.code).toBe(code)
    expect(reply.finalHash).toMatch(/^[0-9a-f]{64}$/)
  })

  test('what a newcomer may is what its grants say, and not more than its session asked for', async () => {
    const newcomer = await open(KeyPair.generate())
    const { perms } = (await newcomer.call('0xI:grants')).json<{ perms: string[] }>()
    expect(perms).toContain('read 0xS:>')
    // Of events nothing but what became of its own: who may see a dead letter is asked behind that.
    expect(perms.join()).not.toMatch(/write 0xS|write 0xE(?!W:events\.dead:\*:(?:drop|replay))|deploy/)
    expect((await newcomer.call('0xI:session')).json<{ perms: string[] }>().perms).toEqual(perms)
    await newcomer.register(`own-${Date.now()}.mcom`, '0xS:0x001:hello_world')
  })

  test('nobody takes over, moves or gives up a name that is somebody else\'s', async () => {
    const [owner, thief] = [await open(), await open(KeyPair.generate())]
    await owner.register('owned.mcom', '0xS:0x001:hello_world')
    const attempts = [
      thief.update('owned.mcom', '0xS:0x001:blah_blah'), thief.transfer('owned.mcom', thief.did), thief.renew('owned.mcom'), thief.release('owned.mcom'),
    ]
    for (const attempt of await Promise.allSettled(attempts)) {
      expect(attempt).toMatchObject({ status: 'rejected', reason: { code: 'CMESH_REGISTRAR_NOT_OWNER', status: 403 } })
    }
    expect(await owner.resolve('owned.mcom')).toMatchObject({ owner: operator.did, target: '0xS:0x001:hello_world', sequence: 1 })
  })

  test('one identity owns so many names and no more, until it gives one up', async () => {
    const hoarder = KeyPair.generate()
    const asker = await open(hoarder)
    const target = '0xS:0x001:hello_world'
    const entries = Array.from({ length: LIMITS.namesPerOwner + 5 }, (_, i) => {
      const name = `hoard-${i}.mcom`
      const signature = signNameRecord({ name, target, owner: hoarder.did, sequence: 1 }, hoarder)
      return { fqmn: `0xRW:register:${name}:${target}`, body: JSON.stringify({ signature, sequence: 1 }) }
    })
    const replies = await asker.batch(entries)
    expect(replies.map(reply => reply.status)).toEqual(entries.map((_, i) => (i < LIMITS.namesPerOwner ? 200 : 403)))
    expect(replies.at(-1)?.error()).toMatchObject({ code: 'CMESH_REGISTRAR_QUOTA', detail: { limit: LIMITS.namesPerOwner } })
    await asker.release('hoard-0.mcom')
    await asker.register('hoard-last.mcom', target)
    await expect(asker.register('hoard-more.mcom', target)).rejects.toMatchObject({ code: 'CMESH_REGISTRAR_QUOTA' })
    // Somebody else's quota is its own.
    await (await open(KeyPair.generate())).register('hoard-0.mcom', target)
  })

  test('a session that was ended is none: the next request makes another', async () => {
    const asker = await open(KeyPair.generate())
    const { sid } = await asker.whoami() as { sid: string }
    await asker.call('0xIW:hangup')
    expect((await asker.call('0xS:0x001:hello_world')).json()).toBe('Hello, world')
    expect((await asker.whoami())['sid']).not.toBe(sid)
  })
})

describe('the final hash', () => {
  test.each<[string, CallOptions]>([
    ['0xS:0x001:hello_world', {}],
    ['0xS:0x001:hello_world:["Dexter"]', {}],
    ['0xS:0x001:hello_world', { body: '["in the body"]' }],
    ['0xSW:0x002:increment', { body: '[3]' }],
    ['0xR:hashed.mcom:["by name"]', {}],
    ['0xEW:mesh.hashed', { body: 'event' }],
    ['0xE:mesh.hashed:range', {}],
    ['0xC:status', {}],
    ['0xI:whoami', {}],
    ['0xR:unregistered.mcom', {}],
    ['0xS:0xfff:nothing', {}],
    ['0xSW:0x002:increment', { body: '["not a number"]' }],
    ['noise', {}],
  ])('of %s %j is what the specification says of its layers, request and reply', async (fqmn, options) => {
    const asker = await open()
    await asker.register('hashed.mcom', '0xS:0x001:hello_world').catch(() => undefined)
    const { sid } = await asker.whoami() as { sid: string }
    const reply = await asker.call(fqmn, { ...options, receipt: 'full', throwOnError: false })
    const layers = reply.layers().map(layer => ({
      ...layer, salt: layer.bytes.subarray(58, 74), argumentsHash: layer.argumentsHash === undefined ? undefined : Buffer.from(layer.argumentsHash, 'latin1'),
    }))
    expect(layers.at(-1)).toMatchObject({ hop: 'router', status: reply.status })
    const unread = fqmn === 'noise'
    const hash = specFinalHash1(layers, {
      salt: reply.salt() ?? new Uint8Array(0), id: Buffer.from(reply.id, 'hex'), status: reply.status, sid: unread ? '' : sid, sub: unread ? '' : operator.did,
      requestBody: Buffer.from(options.body as string | undefined ?? ''), replyBody: reply.body, replyHeaders: encodeHeaders(reply.headers),
    })
    expect(reply.finalHash).toBe(hash.toString('hex'))
  })

  test('stands on every reply, batches and refusals included, unless none was asked for', async () => {
    const asker = await open()
    const addresses = ['0xS:0x001:blah_blah', '0xSW:0x002:increment', '0xR:unregistered.mcom', '0xE:nobody:read', 'noise', '0xA:1:0x001:a']
    const hashes: (string | undefined)[] = []
    for (const receipt of ['hash', 'full'] as const) {
      const single = await Promise.all(addresses.map(fqmn => asker.call(fqmn, { receipt, throwOnError: false })))
      const batched = await asker.batch(addresses.map(fqmn => ({ fqmn })), { receipt })
      hashes.push(...[...single, ...batched].map((reply: Reply) => reply.finalHash))
    }
    for (const hash of hashes) expect(hash).toMatch(/^[0-9a-f]{64}$/)
    expect(new Set(hashes).size).toBe(hashes.length)
    const none = [...await asker.batch(addresses.map(fqmn => ({ fqmn })), { receipt: 'none' }), await asker.call('0xC:leader', { receipt: 'none' })]
    expect(none.map(reply => reply.finalHash)).toEqual(none.map(() => undefined))
  })
})
