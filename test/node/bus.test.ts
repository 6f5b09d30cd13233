/** The node's connections: in four accounts where its broker has them, and what is refused of settings that say so and are wrong. */
import { once } from 'node:events'
import { chmod, mkdtemp, rm, writeFile } from 'node:fs/promises'
import net from 'node:net'
import os from 'node:os'
import path from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals'
import { makeAccounts, nodeText, serverConfig, type BrokerAccounts } from '../../cmtp/identity/nats-accounts.ts'
import { accountJwt, decodeNatsJwt, guestJwt } from '../../cmtp/identity/nats-jwt.ts'
import { Nkey } from '../../cmtp/identity/nats-keys.ts'
import { closeBuses, openBuses, type Buses } from '../../node/bus.ts'
import { resolveConfig } from '../../node/config.ts'
import { connectNats, type NatsBus } from '../../providers/bus/nats.ts'
import type { Bus, BusStatus } from '../../services/bus/provider.ts'
import { SILENT_LOG } from '../../services/log.ts'
import { until } from '../client/support/until.ts'
import { ExternalBroker } from '../support/external-broker.ts'

const accounts = makeAccounts(Math.floor(Date.now() / 1_000))
let dir: string
let file: string
let opened: Buses[]
let brokers: ExternalBroker[]
beforeEach(async () => {
  dir = await mkdtemp(path.join(os.tmpdir(), 'cmesh-bus-'))
  file = path.join(dir, 'node.json')
  await writeFile(file, nodeText(accounts), { mode: 0o600 })
  opened = []
  brokers = []
})
afterEach(async () => {
  await Promise.all(opened.map(closeBuses))
  await Promise.all(brokers.map(broker => broker.stop()))
  await rm(dir, { recursive: true, force: true })
})

async function open(settings: Readonly<Record<string, string>> = {}): Promise<Buses> {
  const buses = await openBuses(resolveConfig({ arguments: { 'data.dir': path.join(dir, 'data'), ...settings }, env: {} }), SILENT_LOG)
  opened.push(buses)
  return buses
}

async function server(withAccounts: boolean, as: BrokerAccounts = accounts): Promise<ExternalBroker> {
  const broker = await ExternalBroker.start(withAccounts ? { extra: home => serverConfig(as, path.join(home, 'jwt')) } : {})
  brokers.push(broker)
  return broker
}

/** Which of them hears what `from` publishes. */
async function hears(from: Bus, { core, mesh, door }: Buses): Promise<readonly string[]> {
  const heard: string[] = []
  const taps = Object.entries({ core, mesh, door }).map(([name, bus]) => bus.subscribe('word', () => { heard.push(name) }))
  const flushed = (): Promise<unknown> => Promise.all([core, mesh, door].map(bus => bus.flush()))
  await flushed()
  from.publish('word', new Uint8Array())
  await flushed()
  await flushed()
  for (const tap of taps) tap.unsubscribe()
  return heard.sort()
}

describe('the connections of a node', () => {
  test.each(['a broker of its own', 'another broker that has its accounts'])('to %s are each in an account', async where => {
    const buses = await open(where.endsWith('own') ? {} : { 'bus.url': (await server(true)).url, 'bus.accounts': file })
    expect(await hears(buses.core, buses)).toEqual(['core'])
    expect(await hears(buses.mesh, buses)).toEqual(['mesh'])
    expect(await hears(buses.door, buses)).toEqual(['door'])
    const nkey = Nkey.generate('user')
    const jwt = buses.sessions?.mint({ nkey: nkey.text, sid: 'session1', expiresMs: Date.now() + 60_000 })
    const session = await connectNats({ servers: buses.url, nkeySeed: nkey.exportSeed(), jwt: jwt as string, inboxPrefix: '_INBOX.session1' })
    await session.flush()
    await buses.sessions?.bar([nkey.text])
    await expect(connectNats({ servers: buses.url, nkeySeed: nkey.exportSeed(), jwt: jwt as string })).rejects.toMatchObject({ code: 'CMESH_BUS_CONNECT' })
    await session.close()
  })

  test('to a broker without accounts are in one, and nobody is kept out', async () => {
    const buses = await open({ 'bus.url': (await server(false)).url })
    expect(buses.door).toBe(buses.mesh)
    expect([buses.sessions, buses.sys]).toEqual([undefined, undefined])
    expect(await hears(buses.core, buses)).toEqual(['core', 'door', 'mesh'])
  })
})

describe('the connection among newcomers', () => {
  const nowS = Math.floor(Date.now() / 1_000)
  const guest = (url: string): Promise<NatsBus> => {
    const nkey = Nkey.generate('user')
    return connectNats({ servers: url, name: 'guest', nkeySeed: nkey.exportSeed(), jwt: guestJwt(nkey, nowS), connectTimeoutMs: 1_000 })
  }

  test('is not waited for where newcomers hold every place, and comes in with its subscriptions when one is free', async () => {
    const { url } = await server(true, narrow())
    const idle = await guest(url)
    const buses = await open({ 'bus.url': url, 'bus.accounts': file })
    const { door } = buses
    const statuses: BusStatus[] = []
    door.onStatus(status => { statuses.push(status) })
    expect([buses.core.status, buses.mesh.status, buses.sys?.status, door.status]).toEqual(['connected', 'connected', 'connected', 'disconnected'])
    const heard: string[] = []
    const dropped = door.subscribe('word', () => { heard.push('dropped') })
    door.subscribe('word', () => { heard.push('kept') })
    dropped.unsubscribe()
    await door.flush()
    door.publish('word', new Uint8Array())
    await expect(door.request('word', new Uint8Array())).rejects.toMatchObject({ code: 'CMESH_BUS_DISCONNECTED' })
    await idle.close()
    await until('the door is open', () => door.status === 'connected')
    door.publish('word', new Uint8Array())
    await door.flush()
    await until('what was subscribed is heard', () => heard.length > 0)
    expect([heard, statuses]).toEqual([['kept'], ['connected']])
    await expect(guest(url)).rejects.toMatchObject({ code: 'CMESH_BUS_CONNECT' })
  })

  test('that never came in closes like any other', async () => {
    const { url } = await server(true, narrow())
    const idle = await guest(url)
    const buses = await open({ 'bus.url': url, 'bus.accounts': file })
    await closeBuses(buses)
    expect(buses.door.status).toBe('closed')
    expect(() => buses.door.subscribe('word', () => undefined)).toThrow(expect.objectContaining({ code: 'CMESH_BUS_CLOSED' }))
    await idle.close()
  })

  /** The same accounts with room for one in that of newcomers. */
  function narrow(): BrokerAccounts {
    const { GUEST } = accounts.accounts
    const { nats: { limits, ...more } } = decodeNatsJwt(GUEST.jwt)
    const [, scope] = more['signing_keys'] as [string, { key: string, role: string, template: { pub: { allow: string[] }, sub: { allow: string[] } } }]
    const { key, role, template: { pub, sub } } = scope
    const jwt = accountJwt(accounts.signing, {
      name: 'GUEST', id: GUEST.id, keys: [GUEST.signing.text], connections: 1, scopes: [{ key, role, publish: pub.allow, subscribe: sub.allow }],
    }, nowS)
    expect(limits).toMatchObject({ conn: 1_024 })
    return { ...accounts, accounts: { ...accounts.accounts, GUEST: { ...GUEST, jwt } } }
  }
})

describe('bus.accounts', () => {
  test.each<[string, Readonly<Record<string, string>>, string]>([
    ['without bus.url', {}, 'a broker of the node\'s own has its own accounts; it goes with bus.url'],
    ['with another login', { 'bus.url': 'nats://127.0.0.1:1', 'bus.nkeySeed': 'SU' }, 'bus.nkeySeed is given too; one login is needed'],
  ])('is refused %s', async (_, settings, reason) => {
    await expect(open({ 'bus.accounts': file, ...settings })).rejects.toMatchObject({
      code: 'CMESH_CONFIG_INVALID', message: `The setting bus.accounts is not valid: ${reason}.`,
    })
  })

  test('is refused where the server has no accounts, for nothing would be enforced', async () => {
    const { url } = await server(false)
    await expect(open({ 'bus.url': url, 'bus.accounts': file })).rejects.toMatchObject({
      code: 'CMESH_BROKER_ACCOUNTS',
      message: 'The broker\'s accounts cannot be used: the server at bus.url was not configured with them; include what `cmesh operator export` wrote.',
    })
  })

  test('is refused where the server has those of another operator', async () => {
    const { url } = await server(true)
    await writeFile(file, nodeText(makeAccounts(Math.floor(Date.now() / 1_000))))
    await expect(open({ 'bus.url': url, 'bus.accounts': file })).rejects.toMatchObject({ code: 'CMESH_BUS_CONNECT' })
  })

  test('is refused when it names no file, or one that others can read', async () => {
    const url = 'nats://127.0.0.1:1'
    const missing = path.join(dir, 'missing.json')
    await expect(open({ 'bus.url': url, 'bus.accounts': missing })).rejects.toMatchObject({
      code: 'CMESH_BROKER_ACCOUNTS', message: `The broker's accounts cannot be used: there is no file ${missing}.`,
    })
    await chmod(file, 0o644)
    await expect(open({ 'bus.url': url, 'bus.accounts': file })).rejects.toMatchObject({
      code: 'CMESH_BROKER_ACCOUNTS', message: `The broker's accounts cannot be used: ${file} can be read by others; run chmod 600 on it.`,
    })
  })
})

describe('a broker older than 2.9', () => {
  /** A server that says what it is, and answers as far as a client needs to believe that it is connected. */
  async function saying(version: string): Promise<string> {
    const old = net.createServer(socket => {
      socket.write(`INFO ${JSON.stringify({ server_id: 'old', server_name: 'old-one', version, proto: 1, headers: true, max_payload: 2_097_152 })}\r\n`)
      socket.on('error', () => undefined).on('data', data => { if (data.includes('PING')) socket.write('PONG\r\n') })
    })
    old.listen(0, '127.0.0.1')
    await once(old, 'listening')
    olds.push(old)
    return `nats://127.0.0.1:${(old.address() as net.AddressInfo).port}`
  }
  const olds: net.Server[] = []
  afterEach(() => { for (const old of olds.splice(0)) old.close() })

  test.each(['2.8.4', '1.4.1', '2.8.4-beta.3'])('is refused, with its version (%s) and what to do', async version => {
    await expect(open({ 'bus.url': await saying(version) })).rejects.toMatchObject({
      code: 'CMESH_BUS_VERSION',
      message: `The broker at old-one is nats-server ${version}; at least 2.9.0 is needed. Update it, or name another one by bus.url.`,
    })
  })

  test.each(['2.9.0', '2.14.0-dev', '3.0.0'])('is told from one that is not (%s)', async version => {
    expect((await open({ 'bus.url': await saying(version) })).core.connection.info?.version).toBe(version)
  })
})
