/** Newcomers who hold every place while a node starts again: it comes up, serves the sessions there are, says so, and lets newcomers in later. */
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import os from 'node:os'
import path from 'node:path'
import { afterAll, beforeAll, expect, test } from '@jest/globals'
import { connect, KeyPair, type MeshClient } from '../../client/index.ts'
import { makeAccounts, nodeText, serverConfig, type BrokerAccounts } from '../../cmtp/identity/nats-accounts.ts'
import { accountJwt, decodeNatsJwt } from '../../cmtp/identity/nats-jwt.ts'
import { Nkey } from '../../cmtp/identity/nats-keys.ts'
import { until } from '../client/support/until.ts'
import { ExternalBroker } from '../support/external-broker.ts'
import { NodeRoom, type TestNode } from '../support/node-process.ts'
import { guestSocket } from '../support/raw-nats.ts'

/** Newcomers at once, the node's own connection among them. */
const PLACES = 2
const room = new NodeRoom()
const clients: MeshClient[] = []
const idle: { close(): void }[] = []
let dir: string
let broker: ExternalBroker
beforeAll(async () => {
  dir = await mkdtemp(path.join(os.tmpdir(), 'cmesh-door-'))
  const accounts = narrow(makeAccounts(Math.floor(Date.now() / 1_000)))
  await writeFile(path.join(dir, 'node.json'), nodeText(accounts), { mode: 0o600 })
  broker = await ExternalBroker.start({ extra: home => serverConfig(accounts, path.join(home, 'jwt')) })
})
afterAll(async () => {
  for (const socket of idle) socket.close()
  await Promise.all(clients.map(client => client.close()))
  await room.close()
  await broker?.stop()
  await rm(dir, { recursive: true, force: true })
})

/** The same accounts with less room for newcomers. */
function narrow(accounts: BrokerAccounts): BrokerAccounts {
  const { GUEST } = accounts.accounts
  interface Scope { key: string, role: string, template: Record<'pub' | 'sub', { allow: string[] }> }
  const [, scope] = decodeNatsJwt(GUEST.jwt).nats['signing_keys'] as [string, Scope]
  const { key, role, template: { pub, sub } } = scope
  const scopes = [{ key, role, publish: pub.allow, subscribe: sub.allow }]
  const narrower = { name: 'GUEST', id: GUEST.id, keys: [GUEST.signing.text], connections: PLACES, scopes }
  const jwt = accountJwt(accounts.signing, narrower, Math.floor(Date.now() / 1_000))
  return { ...accounts, accounts: { ...accounts.accounts, GUEST: { ...GUEST, jwt } } }
}

async function client(node: TestNode, timeoutMs = 30_000): Promise<MeshClient> {
  const opened = await connect({ url: node.url, mesh: node.descriptor.did, identity: KeyPair.generate(), timeoutMs, onWarning: () => undefined })
  clients.push(opened)
  return opened
}

test('a node starts among newcomers who hold every place, and serves the sessions there are', async () => {
  const set = { 'bus.url': broker.url, 'bus.accounts': path.join(dir, 'node.json') }
  const first = await room.start({ set })
  expect(await first.health()).toMatchObject({ code: 200, body: { status: 'ok' } })
  const session = await client(first)
  await first.stop()
  const url = broker.url
  await until('newcomers hold every place', async () => {
    await guestSocket(url, Nkey.generate('user')).then(socket => idle.push(socket), () => undefined)
    return idle.length === PLACES
  })

  const node = await room.start({ dir: first.dir, set })
  const reason = 'newcomers cannot come in: the node has no connection among them'
  expect(await node.health()).toMatchObject({ code: 200, body: { status: 'degraded', reason, bus: 'connected' } })
  expect((await session.call('0xS:0x001:hello_world')).json()).toBe('Hello, world')
  await until('it is said', () => node.stderr.includes('newcomers cannot come in'))

  for (const socket of idle.splice(0)) socket.close()
  await until('newcomers can come in', async () => (await node.health()).body['status'] === 'ok')
  expect((await (await client(node)).call('0xS:0x001:hello_world')).json()).toBe('Hello, world')
})
