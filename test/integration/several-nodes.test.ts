/**
 * Three nodes of one mesh on one broker with accounts that is nobody's node's: sessions are the mesh's, whichever node answers, and clients know of no
 * nodes. Of each node there is IAM, its listener and its router, on connections as a node opens them.
 */
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import os from 'node:os'
import path from 'node:path'
import { afterAll, afterEach, beforeAll, expect, test } from '@jest/globals'
import { connect, KeyPair, type ConnectOptions, type MeshClient } from '../../client/index.ts'
import { formatCertificate, issueCertificate } from '../../cmtp/identity/certificate.ts'
import { makeAccounts, nodeText, revocationsOf, serverConfig } from '../../cmtp/identity/nats-accounts.ts'
import { decodeNatsJwt } from '../../cmtp/identity/nats-jwt.ts'
import { lookupSubject } from '../../node/broker/accounts.ts'
import { closeBuses, openBuses, type Buses } from '../../node/bus.ts'
import { resolveConfig } from '../../node/config.ts'
import { nodeIdentity } from '../../node/identity.ts'
import { until } from '../client/support/until.ts'
import { ExternalBroker } from '../support/external-broker.ts'
import { failureOf } from '../support/iam.ts'
import { IamMesh, type IamNode } from '../support/iam-nodes.ts'
import { keptLog } from '../support/mesh.ts'
import { NodeRoom } from '../support/node-process.ts'
import { serveIam, type ServedIam } from '../support/served-iam.ts'

interface Served { readonly node: IamNode, readonly buses: Buses, readonly served: ServedIam }

const accounts = makeAccounts(Math.floor(Date.now() / 1_000))
const mesh = new IamMesh({ get ms() { return Date.now() } })
const nodes: Served[] = []
const clients: MeshClient[] = []
let dir: string
let broker: ExternalBroker

beforeAll(async () => {
  dir = await mkdtemp(path.join(os.tmpdir(), 'cmesh-test-nodes-'))
  await writeFile(path.join(dir, 'accounts.json'), nodeText(accounts), { mode: 0o600 })
  broker = await ExternalBroker.start({ jetstream: false, extra: home => serverConfig(accounts, path.join(home, 'jwt')) })
  for (const isFounder of [true, false, false]) nodes.push(await boot(isFounder))
})
afterEach(async () => { await Promise.all(clients.splice(0).map(client => client.close())) })
afterAll(async () => {
  await Promise.all(nodes.map(stop))
  await broker.stop()
  await rm(dir, { recursive: true, force: true })
})

async function boot(isFounder: boolean): Promise<Served> {
  const settings = { 'data.dir': path.join(dir, String(nodes.length)), 'bus.url': broker.url, 'bus.accounts': path.join(dir, 'accounts.json') }
  const buses = await openBuses(resolveConfig({ arguments: settings, env: {} }), keptLog())
  const options = { bus: buses.core, ...(buses.sessions !== undefined && { connections: buses.sessions }) }
  const node = await (isFounder ? mesh.founder(options) : mesh.start(options))
  return { node, buses, served: await serveIam(node, buses) }
}

async function stop({ node, buses, served }: Served): Promise<void> {
  await served.stop()
  await node.stop()
  await closeBuses(buses)
}

async function open(options: ConnectOptions = {}): Promise<MeshClient> {
  const client = await connect({ url: broker.url, mesh: mesh.root.did, identity: KeyPair.generate(), timeoutMs: 20_000, retry: false, ...options })
  clients.push(client)
  return client
}

/** Asks until each of these nodes has answered; every request is answered well. */
async function ask(client: MeshClient, served: readonly Served[] = nodes): Promise<void> {
  const seen = new Set<string>()
  await until('each node has answered', async () => {
    const reply = await client.call('0xI:whoami', { receipt: 'full' })
    for (const { node } of reply.layers()) seen.add(node)
    return served.every(({ node }) => seen.has(node.did))
  })
}

const whoami = (client: MeshClient): Promise<{ readonly sid: string }> => client.call('0xI:whoami').then(reply => reply.json<{ sid: string }>())

test('any of them answers any session, and no request fails: alone, together, in batches, carried', async () => {
  const client = await open()
  await ask(client)
  for (let round = 0; round < 5; round++) {
    const fresh = await open()
    const replies = await Promise.all(Array.from({ length: 40 }, () => fresh.call('0xI:whoami')))
    expect(new Set(replies.map(({ status }) => status))).toEqual(new Set([200]))
    const batches = await Promise.all(Array.from({ length: 10 }, () => fresh.batch([{ fqmn: '0xI:whoami' }, { fqmn: '0xI:session' }])))
    expect(batches.flat().map(({ status }) => status)).toEqual(Array(20).fill(200))
  }
  const carried = await Promise.all([1, 2, 3].map(() => client.as(KeyPair.generate())))
  for (let round = 0; round < 20; round++) {
    const replies = await Promise.all(carried.flatMap(each => [each.call('0xI:whoami'), client.call('0xI:whoami')]))
    expect(replies.every(({ status }) => status === 200)).toBe(true)
  }
})

test('reads that share a frame are answered whichever node takes it, which may know the gateway and not those it carries', async () => {
  const client = await open()
  const carried = await Promise.all([1, 2, 3].map(() => client.as(KeyPair.generate())))
  // There is no such service here: what counts is that each was let in.
  const read = async (each: MeshClient): Promise<string> => (await failureOf(() => each.call('0xC:status'))).code
  for (let round = 0; round < 20; round++) {
    expect(new Set(await Promise.all([client, ...carried].flatMap(each => [read(each), read(each)])))).toEqual(new Set(['CMESH_ROUTER_NO_SERVICE']))
  }
})

test('a handshake ends at the node that began it, and the session is the mesh\'s', async () => {
  const issued = new Set<string>()
  for (const { node } of nodes) {
    const { handle } = node.iam
    node.iam.handle = async (action, body, auth) => {
      if (action === 'consent') issued.add(node.did)
      return await handle.call(node.iam, action, body, auth)
    }
  }
  for (let i = 0; i < 12; i++) expect((await open()).mesh).toBe(mesh.root.did)
  expect(issued.size).toBeGreaterThan(1)
})

test('a hangup at any of them ends the connection, whichever made its login, and every node keeps the session out', async () => {
  const HANGUPS = 6
  const taken: string[] = []
  for (const { node } of nodes) node.guard.watch(() => undefined, ({ sid }) => { if (sid !== undefined) taken.push(`${sid} ${node.did}`) })
  const clients = await Promise.all(Array.from({ length: HANGUPS }, () => open({ timeoutMs: 30_000, retry: true })))
  await Promise.all(clients.map(async client => {
    const { sid } = await whoami(client)
    expect((await client.call('0xIW:hangup')).json()).toEqual({ step: 'bye', sid })
    await until('every node has heard', () => nodes.every(({ node }) => taken.includes(`${sid} ${node.did}`)))
    // The broker has cut the connection, and the client has come back with another session.
    expect((await whoami(client)).sid).not.toBe(sid)
  }))
  // Each node changes the account at the broker; whoever was last, nobody was let in again.
  const [{ buses }] = nodes as [Served]
  const held = async (): Promise<number> => {
    const jwt = await (buses.sys as NonNullable<Buses['sys']>).request(lookupSubject(accounts.accounts.MESH.id), new Uint8Array())
    return Object.keys(revocationsOf(decodeNatsJwt(Buffer.from(jwt).toString()))).length
  }
  await until('all of them are kept out', async () => await held() === HANGUPS)
})

test('a node that stops takes no session with it, and one that comes knows them all', async () => {
  const clients = await Promise.all(Array.from({ length: 6 }, () => open({ retry: true })))
  const before = await Promise.all(clients.map(whoami))
  await stop(nodes.pop() as Served)
  nodes.push(await boot(false))
  for (const client of clients) await ask(client)
  expect(await Promise.all(clients.map(whoami))).toEqual(before)
})

test('a key that is dropped by one is dropped by the node that has it, and no client fails', async () => {
  const clients = await Promise.all(Array.from({ length: 4 }, () => open()))
  await Promise.all(clients.map(client => ask(client)))
  const [{ node: one }, { node: other }] = nodes as [Served, Served]
  const kid = other.ring.current.publicKey.thumbprint
  await one.iam.changeKeys({ drop: kid })
  await until('it is dropped there', () => !other.ring.has(kid))
  await Promise.all(clients.map(client => ask(client)))
  expect(nodes.map(({ node }) => node.keys.verifierOf(kid))).toEqual([undefined, undefined, undefined])
})

test('a whole node that the mesh certified opens its door in the mesh\'s name', async () => {
  const room = new NodeRoom()
  try {
    const home = await room.dir()
    const { did } = await nodeIdentity(home)
    const certificate = path.join(home, 'certificate')
    await writeFile(certificate, formatCertificate(issueCertificate(did, mesh.root, Date.now())))
    const { descriptor } = await room.start({ dir: home, set: { 'mesh.certificate': certificate } })
    expect([descriptor.did, descriptor.node]).toEqual([mesh.root.did, did])
    await using client = await connect({ url: descriptor.url, mesh: mesh.root.did, identity: KeyPair.generate() })
    expect(await client.whoami()).toMatchObject({ did: client.did, mesh: mesh.root.did })
    expect((await client.call('0xI:keys')).json()).toMatchObject({ mesh: mesh.root.did, certificate: { node: did } })
  } finally {
    await room.close()
  }
})
