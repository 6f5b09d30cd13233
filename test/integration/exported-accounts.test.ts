/** A nats-server that is nobody's node's, with what `cmesh operator export` wrote: a mesh and its clients work on it, and nobody else does. */
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import os from 'node:os'
import path from 'node:path'
import { afterAll, afterEach, beforeAll, expect, test } from '@jest/globals'
import { connect as natsConnect, type ConnectionOptions, type NatsConnection } from '@nats-io/transport-node'
import { run } from '../../client/cli/program.ts'
import { connect, KeyPair, type MeshClient } from '../../client/index.ts'
import { canonicalBytes } from '../../cmtp/identity/canonical-json.ts'
import { makeRenewal } from '../../cmtp/identity/handshake.ts'
import type { Session } from '../../cmtp/identity/login.ts'
import { readAccounts, type BrokerAccounts } from '../../cmtp/identity/nats-accounts.ts'
import { GUEST_ACCOUNT, GUEST_KEY_SEED, guestJwt, natsAuthenticator, scopedUserJwt } from '../../cmtp/identity/nats-jwt.ts'
import { Nkey } from '../../cmtp/identity/nats-keys.ts'
import { helloSubject, inboxPrefix, requestSubject } from '../../cmtp/subject.ts'
import { locateNatsServer } from '../../node/broker/locate.ts'
import { ServerProcess } from '../../node/broker/server-process.ts'
import { capture } from '../client/support/capture.ts'
import { until } from '../client/support/until.ts'
import { NodeRoom, type TestNode } from '../support/node-process.ts'
import { RawNats } from '../support/raw-nats.ts'
import { secretsIn } from '../support/secrets.ts'

const room = new NodeRoom()
const operator = KeyPair.generate()
const raws: NatsConnection[] = []
let dir: string
let server: ServerProcess
let node: TestNode
let accounts: BrokerAccounts
let bystander: MeshClient

beforeAll(async () => {
  dir = await mkdtemp(path.join(os.tmpdir(), 'cmesh-test-operator-'))
  await cmesh('init', '--out', path.join(dir, 'op'))
  await cmesh('export', '--from', path.join(dir, 'op'), '--out', path.join(dir, 'nats'))
  const configuration = await readFile(path.join(dir, 'nats', 'nats.conf'), 'utf8')
  expect(configuration).toMatch(/^listen: "127\.0\.0\.1:4222"$/m)
  // Whoever reaches that port sees who is connected, with their logins.
  expect(configuration).not.toMatch(/^\s*(http|https|http_port|https_port|monitor_port)\b/m)
  accounts = readAccounts(await readFile(path.join(dir, 'nats', 'node.json'), 'utf8'))
  server = await serve(-1)
  node = await boot()
  bystander = await connect({ url: url(), mesh: node.descriptor.did, identity: operator, timeoutMs: 20_000 })
})
afterEach(async () => { await Promise.all(raws.splice(0).map(raw => raw.close())) })
afterAll(async () => {
  await bystander?.close()
  await room.close()
  await server?.stop()
  const leaks = secretsIn(await readFile(path.join(dir, 'nats', 'nats.log'), 'utf8'))
  await rm(dir, { recursive: true, force: true })
  expect(leaks).toEqual([])
})

const nowS = (): number => Math.floor(Date.now() / 1_000)
const url = (): string => `nats://127.0.0.1:${server.port}`
const hello = async (): Promise<unknown> => (await bystander.call('0xS:0x001:hello_world')).json()

async function cmesh(...args: readonly string[]): Promise<void> {
  const { terminal, err } = capture()
  if (await run(['operator', ...args], terminal) !== 0) throw new Error(err())
}

/** The exported configuration as it is, but for ports that tests share a machine with. */
async function serve(port: number): Promise<ServerProcess> {
  const own = path.join(dir, 'nats')
  const file = path.join(own, 'nats.conf')
  const [exported = ''] = (await readFile(file, 'utf8')).split('ports_file_dir')
  const text = exported.replace(/^listen: .*$/m, `listen: "127.0.0.1:${port}"`)
  await writeFile(file, `${text}ports_file_dir: ${JSON.stringify(own)}\nlog_file: ${JSON.stringify(path.join(own, 'nats.log'))}\n`)
  const { path: binary } = await locateNatsServer({ obtain: false })
  return await ServerProcess.launch({ binary, dir: own, readyMs: 15_000 })
}

function boot(data?: string): Promise<TestNode> {
  return room.start({
    ...(data !== undefined && { dir: data }), args: ['--operator', operator.did],
    set: { 'bus.url': url(), 'bus.accounts': path.join(dir, 'nats', 'node.json') },
  })
}

async function raw(options: ConnectionOptions): Promise<NatsConnection> {
  const connection = await natsConnect({ servers: url(), reconnect: false, noAsyncTraces: true, ...options })
  raws.push(connection)
  return connection
}

/** A newcomer that minted its own login. */
async function newcomer(): Promise<{ connection: NatsConnection, cid: string }> {
  const nkey = Nkey.generate('user')
  const connection = await raw({ authenticator: natsAuthenticator(nkey, () => guestJwt(nkey, nowS())), inboxPrefix: inboxPrefix(nkey.text).slice(0, -1) })
  return { connection, cid: nkey.text }
}

test('takes a mesh, whose clients call, write and read', async () => {
  expect(node.steps.at(-1)).toBe('door')
  expect(await hello()).toBe('Hello, world')
  await bystander.call('0xSW:0x001:say', { body: '["it works"]' })
  expect((await node.health()).code).toBe(200)
  expect(node.brokerPid).toBeUndefined()
})

test.each<readonly [who: string, options: () => ConnectionOptions]>([
  ['without a login', () => ({})],
  ['with a password', () => ({ user: 'client', pass: 'client' })],
  ['a guest with rights of its own', () => {
    const nkey = Nkey.generate('user')
    return { authenticator: natsAuthenticator(nkey, () => userOfKey(nkey, GUEST_ACCOUNT, { pub: { allow: ['>'] }, sub: { allow: ['>'] } })) }
  }],
  ['a guest in the account of the services', () => asAccount(accounts.accounts.CORE.id)],
  ['a guest in the account of sessions', () => asAccount(accounts.accounts.MESH.id)],
  ['a guest in the account of the servers', () => asAccount(accounts.accounts.SYS.id)],
  ['a guest in an account that there is not', () => asAccount(Nkey.generate('account').text)],
])('lets nobody in %s', async (_, options) => {
  await expect(raw(options())).rejects.toThrow('Authorization Violation')
  expect(await hello()).toBe('Hello, world')
})

function asAccount(account: string): ConnectionOptions {
  const nkey = Nkey.generate('user')
  const user = { nkey: nkey.text, name: 'guest', account, nowS: nowS() }
  return { authenticator: natsAuthenticator(nkey, () => scopedUserJwt(Nkey.fromSeed(GUEST_KEY_SEED), user)) }
}

/** What `scopedUserJwt` does not make: a user of a scoped key with permissions of its own. */
function userOfKey(nkey: Nkey, account: string, permissions: object): string {
  const [header = '', claims = ''] = scopedUserJwt(Nkey.fromSeed(GUEST_KEY_SEED), { nkey: nkey.text, name: 'guest', account, nowS: nowS() }).split('.')
  const value = JSON.parse(Buffer.from(claims, 'base64url').toString()) as { nats: object }
  const text = `${header}.${Buffer.from(JSON.stringify({ ...value, nats: { ...value.nats, ...permissions } })).toString('base64url')}`
  return `${text}.${Nkey.fromSeed(GUEST_KEY_SEED).sign(Buffer.from(text)).toString('base64url')}`
}

test('lets a newcomer shake hands, and nothing else', async () => {
  const { connection, cid } = await newcomer()
  const violations: string[] = []
  const following = (async () => {
    for await (const { type, ...rest } of connection.status()) if (type === 'error') violations.push((rest as { error: Error }).error.message)
  })()
  const subjects = [
    '$JS.API.INFO', '$SYS.REQ.CLAIMS.UPDATE', 'cmesh.v1.ctl.revoked', 'cmesh.v1.svc.state.read', requestSubject(cid),
    helloSubject(Nkey.generate('user').text), `${inboxPrefix(cid)}x`,
  ]
  for (const subject of subjects) connection.publish(subject, '{}')
  const refused: string[] = []
  const others = ['>', '_INBOX.>', `${inboxPrefix(Nkey.generate('user').text)}>`, 'cmesh.v1.req.*', 'cmesh.v1.hello.*', '$SYS.>']
  for (const subject of others) connection.subscribe(subject, { callback: error => { if (error !== null) refused.push(subject) } })
  connection.subscribe(`${inboxPrefix(cid)}>`)
  await connection.flush()
  await until('each was refused', () => violations.filter(each => /publish/i.test(each)).length === subjects.length && refused.length === others.length)
  expect(refused).toEqual(others)
  for (const subject of subjects) expect(violations.some(each => each.toLowerCase().includes(`publish to "${subject.toLowerCase()}"`))).toBe(true)
  expect(connection.isClosed()).toBe(false)
  await connection.close()
  await following
  expect(await hello()).toBe('Hello, world')
})

test.each<readonly [what: string, end: (session: Session, raw: RawNats) => Promise<unknown>]>([
  ['a hangup', (session, each) => each.step('hangup', canonicalBytes(makeRenewal('hangup', session.token, session.key, Date.now())), undefined)],
  ['a ban', session => bystander.call('0xIW:ban', { body: JSON.stringify({ did: session.sub }) })],
])('cuts off the connection of a session at %s, and lets it in no more', async (_, end) => {
  const own = await RawNats.connect(url())
  const other = await RawNats.connect(url())
  try {
    const session = await own.login(KeyPair.generate())
    const kept = await other.login(KeyPair.generate())
    const socket = own.socket(session.sid)
    await socket.flush()
    await end(session, own)
    await until('the server hung up', () => !socket.open)
    expect(socket.errors.join()).toMatch(/Authentication Revoked/i)
    await expect(own.enter(session)).rejects.toThrow(/Authorization Violation/i)
    await other.socket(kept.sid).flush()
    expect(await hello()).toBe('Hello, world')
  } finally {
    for (const each of [own, other]) each.close()
  }
})

test('with all its keys made anew takes no old login, and its mesh, its streams and its clients go on', async () => {
  const user = Nkey.generate('user')
  const login = scopedUserJwt(accounts.session, { nkey: user.text, name: 'session-of-old-keys', account: accounts.accounts.MESH.id, nowS: nowS() })
  await (await raw({ authenticator: natsAuthenticator(user, () => login) })).close()
  await bystander.publish('news', 'before')
  await node.stop()
  const { port } = server
  await server.stop()
  await cmesh('init', '--out', path.join(dir, 'op'), '--force')
  await cmesh('export', '--from', path.join(dir, 'op'), '--out', path.join(dir, 'nats'), '--force')
  server = await serve(port)

  await expect(raw({ authenticator: natsAuthenticator(user, () => login) })).rejects.toThrow('Authorization Violation')

  node = await boot(node.dir)
  expect(await hello()).toBe('Hello, world')
  expect((await bystander.latest('news')).data).toBe('before')
})
