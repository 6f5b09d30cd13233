/** Who a broker with accounts lets in, what ends a login, and what outlives a restart: on a real nats-server. */
import { chmod, mkdir, mkdtemp, readFile, readdir, rm, stat, writeFile } from 'node:fs/promises'
import os from 'node:os'
import path from 'node:path'
import { AckPolicy, jetstream, jetstreamManager } from '@nats-io/jetstream'
import { connect, type NatsConnection } from '@nats-io/transport-node'
import { afterAll, afterEach, beforeAll, describe, expect, test } from '@jest/globals'
import { accountsText, nodeText, readAccounts, revocationsOf, SESSION_LIMITS, type BrokerAccounts } from '../../cmtp/identity/nats-accounts.ts'
import {
  accountJwt, decodeNatsJwt, GUEST_ACCOUNT, GUEST_KEY_SEED, guestJwt, natsAuthenticator, scopedUserJwt, userJwt,
} from '../../cmtp/identity/nats-jwt.ts'
import { Nkey } from '../../cmtp/identity/nats-keys.ts'
import { keptAccounts, lookupSubject, UPDATE_SUBJECT } from '../../node/broker/accounts.ts'
import { locateNatsServer } from '../../node/broker/locate.ts'
import { ServerProcess } from '../../node/broker/server-process.ts'
import { BrokerAccountSessions } from '../../node/broker/sessions.ts'
import { connectNats } from '../../providers/bus/nats.ts'
import type { Bus } from '../../services/bus/provider.ts'
import { SILENT_LOG, type Log } from '../../services/log.ts'
import { until } from '../client/support/until.ts'
import { startBroker, type TestBroker } from '../support/broker.ts'

const TTL_MS = 3_600_000
const nowS = (): number => Math.floor(Date.now() / 1_000)
const undo: (() => unknown)[] = []
afterEach(async () => { for (const step of undo.splice(0).reverse()) await step() })

async function tempDir(): Promise<string> {
  const dir = await mkdtemp(path.join(os.tmpdir(), 'cmesh-accounts-'))
  undo.push(() => rm(dir, { recursive: true, force: true }))
  return dir
}

async function brokerIn(dir?: string): Promise<TestBroker> {
  const broker = await startBroker(dir === undefined ? {} : { dir })
  undo.push(() => broker.stop())
  return broker
}

/** One attempt; it does not come back by itself. */
async function login(url: string, nkey: Nkey, jwt: string): Promise<NatsConnection> {
  const connection = await connect({ servers: url, authenticator: natsAuthenticator(nkey, () => jwt), reconnect: false, inboxPrefix: '_INBOX.test' })
  undo.push(() => connection.close())
  return connection
}

interface SessionUser { readonly nkey: Nkey, readonly jwt: string }

function sessionOf({ sessions }: Pick<TestBroker, 'sessions'>, sid: string, lifeMs = TTL_MS): SessionUser {
  const nkey = Nkey.generate('user')
  return { nkey, jwt: sessions.mint({ nkey: nkey.text, sid, expiresMs: Date.now() + lifeMs }) }
}

async function revocations(broker: TestBroker): Promise<Readonly<Record<string, number>>> {
  const answer = await broker.sys.request(lookupSubject(broker.broker.accounts.accounts.MESH.id), new Uint8Array())
  return revocationsOf(decodeNatsJwt(Buffer.from(answer).toString('utf8')))
}

async function revoked(broker: TestBroker): Promise<readonly string[]> {
  return Object.keys(await revocations(broker)).sort()
}

/** What the broker answers to a login that it does not take. */
const REFUSED = expect.objectContaining({ message: expect.stringMatching(/authorization violation|revoked|expired/i) })

describe('a broker with accounts', () => {
  let broker: TestBroker
  let accounts: BrokerAccounts
  beforeAll(async () => {
    broker = await startBroker()
    accounts = broker.broker.accounts
  })
  afterAll(() => broker.stop())

  test('lets a newcomer in by a login of its own making, to shake hands and no more', async () => {
    const nkey = Nkey.generate('user')
    const denied: string[] = []
    const guest = await connectNats({
      servers: broker.url, nkeySeed: nkey.exportSeed(), jwt: guestJwt(nkey, nowS()), inboxPrefix: `_INBOX.${nkey.text}`, onError: error => denied.push(error.message),
    })
    undo.push(() => guest.close())
    const iam = broker.door.subscribe('cmesh.v1.hello.>', ({ data, reply }) => { broker.door.publish(reply, data) })
    await broker.door.flush()
    for (const subject of [`cmesh.v1.hello.${nkey.text}`, `cmesh.v1.hello.${nkey.text}.n1`]) expect(await guest.request(subject, Uint8Array.of(7))).toEqual(Uint8Array.of(7))
    iam.unsubscribe()
    const other = Nkey.generate('user').text
    for (const subject of [`cmesh.v1.hello.${other}`, 'cmesh.v1.hello', 'cmesh.v1.req.x', 'cmesh.v1.mine.x', '$JS.API.INFO', '$SYS.REQ.CLAIMS.UPDATE', `_INBOX.${other}.1`]) {
      await expect(guest.request(subject, new Uint8Array())).rejects.toMatchObject({ code: 'CMESH_BUS_DENIED' })
    }
    denied.length = 0
    for (const subject of ['>', 'cmesh.v1.hello.*', '_INBOX.>', `_INBOX.${other}.>`]) guest.subscribe(subject, () => undefined)
    await guest.flush()
    expect(denied).toHaveLength(4)
  })

  test('bounds what one newcomer may hold', async () => {
    const nkey = Nkey.generate('user')
    const guest = await login(broker.url, nkey, guestJwt(nkey, nowS()))
    expect(guest.info?.max_payload).toBe(65_536)
    const said: string[] = []
    void (async () => { for await (const { type, ...status } of guest.status()) if (type === 'error') said.push(String((status as { error?: Error }).error?.message)) })()
    for (let i = 0; i < 8; i++) guest.subscribe(`_INBOX.${nkey.text}.${i}`, { callback: () => undefined })
    await guest.flush()
    expect(said).toEqual([])
    guest.subscribe(`_INBOX.${nkey.text}.8`, { callback: () => undefined })
    await until('the ninth is refused', () => said.length > 0)
    expect(said).toEqual([expect.stringMatching(/maximum subscriptions exceeded/i)])
  })

  test('bounds what one session may hold, and all of them', async () => {
    const { nkey, jwt } = sessionOf(broker, 'holding1')
    const connection = await login(broker.url, nkey, jwt)
    const said: string[] = []
    void (async () => {
      for await (const status of connection.status()) if (status.type === 'error') said.push(status.error.message)
    })()
    for (let i = 0; i < SESSION_LIMITS.subscriptions; i++) connection.subscribe(`_INBOX.holding1.${i}`, { callback: () => undefined })
    await connection.flush()
    expect(said).toEqual([])
    connection.subscribe('_INBOX.holding1.more', { callback: () => undefined })
    await until('one more is refused', () => said.length > 0)
    expect(said).toEqual([expect.stringMatching(/maximum subscriptions exceeded/i)])
    expect(decodeNatsJwt(accounts.accounts.MESH.jwt).nats['limits']).toMatchObject({ conn: SESSION_LIMITS.connections })
  })

  const user = Nkey.generate('user')
  const guestKey = Nkey.fromSeed(GUEST_KEY_SEED)
  const session = (more: object = {}) => ({ nkey: user.text, name: 'session1', account: accounts.accounts.MESH.id, nowS: nowS(), ...more })
  test.each<[string, () => string]>([
    ['a session signed by a key of nobody', () => scopedUserJwt(Nkey.generate('account'), session())],
    ['a session signed by the guests\' key', () => scopedUserJwt(guestKey, session())],
    ['a session signed by the key of another account', () => scopedUserJwt(accounts.accounts.CORE.signing, session())],
    ['a session with rights of its own', () => userJwt(accounts.session, { ...session(), publish: ['>'], subscribe: ['>'] })],
    ['a session for another nkey', () => scopedUserJwt(accounts.session, session({ nkey: Nkey.generate('user').text }))],
    ['a session that has expired', () => scopedUserJwt(accounts.session, session({ expiresS: nowS() - 1 }))],
    ['a guest with rights of its own', () => userJwt(guestKey, { ...session({ account: GUEST_ACCOUNT }), publish: ['>'] })],
    ['a guest in another account', () => scopedUserJwt(guestKey, session({ account: accounts.accounts.SYS.id }))],
    ['a guest signed by its own key', () => scopedUserJwt(Nkey.generate('account'), session({ account: GUEST_ACCOUNT }))],
    ['no JWT', () => ''],
  ])('refuses %s', async (_, jwt) => {
    await expect(login(broker.url, user, jwt())).rejects.toEqual(REFUSED)
  })

  test('refuses whoever has no login, or the one of the version before accounts', async () => {
    await expect(connect({ servers: broker.url, reconnect: false })).rejects.toEqual(REFUSED)
    await expect(connect({ servers: broker.url, user: 'client', pass: 'client', reconnect: false })).rejects.toEqual(REFUSED)
  })

  test('ends a session\'s connection when its login expires, and not before', async () => {
    const { nkey, jwt } = sessionOf(broker, 'expiring1', 2_000)
    const connection = await login(broker.url, nkey, jwt)
    await connection.flush()
    expect(await connection.closed()).toMatchObject({ message: expect.stringMatching(/expired/i) })
    expect(Date.now() / 1_000).toBeGreaterThanOrEqual(decodeNatsJwt(jwt).exp as number)
  })

  test.each(['>', '*', 'a.b', '', 'short', 'with blank', 'x'.repeat(65), '{{name()}}'])('makes no login for a session named %j', sid => {
    expect(() => sessionOf(broker, sid)).toThrow(expect.objectContaining({ code: 'CMESH_IAM_KEY' }))
  })

  test('makes no login for a key that is no user\'s', () => {
    for (const nkey of ['', 'U', accounts.accounts.MESH.id, `${user.text}A`]) {
      expect(() => broker.sessions.mint({ nkey, sid: 'session1', expiresMs: Date.now() })).toThrow(expect.objectContaining({ code: 'CMESH_IAM_KEY' }))
    }
  })
})

describe('a session that is barred', () => {
  test('is cut off and kept out, and nobody else notices', async () => {
    const broker = await brokerIn()
    const [out, stays] = [sessionOf(broker, 'barred01'), sessionOf(broker, 'bystander')]
    const [connection, bystander] = [await login(broker.url, out.nkey, out.jwt), await login(broker.url, stays.nkey, stays.jwt)]
    await broker.sessions.bar([out.nkey.text])
    expect(await connection.closed()).toMatchObject({ message: expect.stringMatching(/revoked/i) })
    await expect(login(broker.url, out.nkey, out.jwt)).rejects.toEqual(REFUSED)
    // A login made afterwards for the same key is worth no more, though another node's clock be ahead.
    const { session, accounts: { MESH } } = broker.broker.accounts
    const late = scopedUserJwt(session, { nkey: out.nkey.text, name: 'barred01', account: MESH.id, nowS: nowS() + 60 })
    await expect(login(broker.url, out.nkey, late)).rejects.toEqual(REFUSED)
    await bystander.flush()
    expect(bystander.isClosed()).toBe(false)
  })

  test('goes with others in one change of the account', async () => {
    const broker = await brokerIn()
    const { sys, updates } = counting(broker.sys)
    const nowMs = Date.now()
    const sessions = make(broker, sys, SILENT_LOG, () => nowMs)
    const users = Array.from({ length: 200 }, () => Nkey.generate('user').text)
    await Promise.all(users.map(nkey => sessions.bar([nkey])))
    expect(updates()).toBe(1)
    expect(await revoked(broker)).toEqual([...users].sort())
    await sessions.bar([users[0] as string])
    expect(updates()).toBe(1)
  })

  test('once more is kept out from then on: a login made in between is worth nothing', async () => {
    const broker = await brokerIn()
    let nowMs = Date.now()
    const sessions = make(broker, broker.sys, SILENT_LOG, () => nowMs)
    const [nkey, other] = [Nkey.generate('user').text, Nkey.generate('user').text]
    await sessions.bar([nkey, other])
    const first = await revocations(broker)
    nowMs += 400_000
    await sessions.bar([nkey])
    expect(await revocations(broker)).toEqual({ ...first, [nkey]: first[nkey] as number + 400 })
  })

  test('goes without a change where the broker is full of those of another node that came later', async () => {
    const broker = await brokerIn()
    const nowMs = Date.now()
    const [later, sooner] = [counting(broker.sys), counting(broker.sys)]
    const users = Array.from({ length: 5_000 }, () => Nkey.generate('user').text)
    const [one, other] = [make(broker, later.sys, SILENT_LOG, () => nowMs + 5_000), make(broker, sooner.sys, SILENT_LOG, () => nowMs)]
    await one.bar(users)
    await other.bar([Nkey.generate('user').text])
    expect([later.updates(), sooner.updates()]).toEqual([1, 0])
    // Of the same second neither: what is there stays.
    await make(broker, sooner.sys, SILENT_LOG, () => nowMs + 5_000).bar([Nkey.generate('user').text])
    expect(sooner.updates()).toBe(0)
    expect(await revoked(broker)).toEqual([...users].sort())
  })

  test('is tried again until the broker takes it, and said so', async () => {
    const broker = await brokerIn()
    const said: string[] = []
    let failures = 2
    const sys: Pick<Bus, 'request'> = {
      request: (subject, data, options) => broker.sys.request(subject, subject === UPDATE_SUBJECT && failures-- > 0 ? Buffer.from('no JWT') : data, options),
    }
    const sessions = make(broker, sys, { ...SILENT_LOG, warn: (_: object, message: string) => { said.push(message) } })
    const nkey = Nkey.generate('user').text
    await sessions.bar([nkey])
    expect(said).toEqual(Array.from({ length: 2 }, () => 'sessions that ended could not be kept out at the broker; it is tried again'))
    expect(await revoked(broker)).toEqual([nkey])
  })

  test('that is no nkey is left out, and the others are barred', async () => {
    const broker = await brokerIn()
    const nkey = Nkey.generate('user').text
    await broker.sessions.bar(['*', 'U', nkey])
    expect(await revoked(broker)).toEqual([nkey])
  })

  test('by two nodes at the same moment is barred by both', async () => {
    const broker = await brokerIn()
    // Both look before either writes, so that the later one overwrites the first.
    const looked = meeting(2)
    const sys: Pick<Bus, 'request'> = {
      request: async (subject, data, options) => {
        if (subject === UPDATE_SUBJECT) await looked()
        return broker.sys.request(subject, data, options)
      },
    }
    const [one, other] = [make(broker, sys), make(broker, sys)]
    const users = [Nkey.generate('user').text, Nkey.generate('user').text] as const
    await Promise.all([one.bar([users[0]]), other.bar([users[1]])])
    await until('both are barred', async () => (await revoked(broker)).length === 2)
    expect(await revoked(broker)).toEqual([...users].sort())
  })

  test('is forgotten when every login it had has expired', async () => {
    const broker = await brokerIn()
    let nowMs = Date.now()
    const sessions = make(broker, broker.sys, SILENT_LOG, () => nowMs)
    const [first, second] = [Nkey.generate('user').text, Nkey.generate('user').text]
    await sessions.bar([first])
    nowMs += TTL_MS
    await sessions.bar([second])
    expect(await revoked(broker)).toEqual([first, second].sort())
    nowMs += TTL_MS
    const third = Nkey.generate('user').text
    await sessions.bar([third])
    expect(await revoked(broker)).toEqual([second, third].sort())
  })
})

describe('the accounts of a data directory', () => {
  test('are made once, for their owner alone, and are the same after a restart', async () => {
    const dir = path.join(await tempDir(), 'broker')
    const first = await brokerIn(dir)
    const kept = accountsText(first.broker.accounts)
    const stays = sessionOf(first, 'bystander')
    await first.leave()
    await first.broker.stop()
    const second = await brokerIn(dir)
    expect(accountsText(second.broker.accounts)).toBe(kept)
    expect(second.broker.core).not.toEqual(first.broker.core)
    await login(second.url, stays.nkey, stays.jwt)
    const file = path.join(dir, 'operator', 'accounts.json')
    expect([(await stat(file)).mode & 0o777, (await stat(path.dirname(file))).mode & 0o777, (await stat(path.join(dir, 'jwt'))).mode & 0o777]).toEqual([0o600, 0o700, 0o700])
    expect(await readdir(path.dirname(file))).toEqual(['accounts.json'])
  })

  test.each(['a restart of the broker\'s process', 'a restart of the node'])('keep out who was barred over %s', async what => {
    const dir = path.join(await tempDir(), 'broker')
    const first = await brokerIn(dir)
    const [out, stays] = [sessionOf(first, 'barred01'), sessionOf(first, 'bystander')]
    await first.sessions.bar([out.nkey.text])
    let broker = first
    if (what.endsWith('process')) {
      const { pid } = first.broker
      process.kill(pid as number, 'SIGKILL')
      await until('another server runs', async () => first.broker.pid !== undefined && first.broker.pid !== pid && await first.broker.healthy())
    } else {
      await first.leave()
      await first.broker.stop()
      broker = await brokerIn(dir)
    }
    await expect(login(broker.url, out.nkey, out.jwt)).rejects.toEqual(REFUSED)
    await login(broker.url, stays.nkey, stays.jwt)
  })

  test('of a version that wanted other rights become those of this one, and keep out who was barred', async () => {
    const dir = path.join(await tempDir(), 'broker')
    const first = await brokerIn(dir)
    const out = sessionOf(first, 'barred01')
    await first.sessions.bar([out.nkey.text])
    await first.leave()
    await first.broker.stop()
    const file = path.join(dir, 'operator', 'accounts.json')
    const { accounts, ...rest } = readAccounts(await readFile(file, 'utf8'))
    const { MESH } = accounts
    const before = accountJwt(rest.signing, {
      name: 'MESH', id: MESH.id, keys: [MESH.signing.text], scopes: [{ key: rest.session.text, role: 'session', publish: ['cmesh.v1.>'], subscribe: ['_INBOX.>'] }],
    }, nowS() - 1_000)
    await writeFile(file, accountsText({ ...rest, accounts: { ...accounts, MESH: { ...MESH, jwt: before } } }))
    const second = await brokerIn(dir)
    expect(second.broker.accounts.accounts.MESH.jwt).not.toBe(before)
    expect(decodeNatsJwt(second.broker.accounts.accounts.MESH.jwt).nats['signing_keys']).toEqual(decodeNatsJwt(MESH.jwt).nats['signing_keys'])
    await expect(login(second.url, out.nkey, out.jwt)).rejects.toEqual(REFUSED)
    expect(await revoked(second)).toEqual([out.nkey.text])
  })

  test('that were lost are made anew, and nothing that another operator signed stands in their way', async () => {
    const dir = path.join(await tempDir(), 'broker')
    const first = await brokerIn(dir)
    await first.leave()
    await first.broker.stop()
    await rm(path.join(dir, 'operator'), { recursive: true })
    const stored = path.join(dir, 'jwt', `${GUEST_ACCOUNT}.jwt`)
    const { GUEST } = first.broker.accounts.accounts
    await writeFile(stored, accountJwt(first.broker.accounts.signing, { name: 'GUEST', id: GUEST_ACCOUNT, keys: [GUEST.signing.text] }, nowS() + 3_600))
    const second = await brokerIn(dir)
    expect(await readFile(stored, 'utf8')).toBe(second.broker.accounts.accounts.GUEST.jwt)
  })

  test.each<[string, (file: string) => Promise<void>, string]>([
    ['others can read', file => chmod(file, 0o640), 'can be read by others; run chmod 600 on it'],
    ['is no JSON', file => writeFile(file, '{'), 'they are not JSON'],
    ['is cut short', file => writeFile(file, '{"version":1}'), 'a part of them is missing'],
    ['is of another version', file => writeFile(file, '{"version":2}'), 'they are of another version'],
    ['has another\'s JWT', async file => {
      const value = JSON.parse(await readFile(file, 'utf8')) as { accounts: Record<string, { jwt: string }> }
      const { MESH, CORE } = value.accounts as { MESH: { jwt: string }, CORE: { jwt: string } }
      MESH.jwt = CORE.jwt
      await writeFile(file, JSON.stringify(value))
    }, 'the JWT of MESH is another account\'s or another operator\'s'],
    ['has a seed of another role', async file => {
      const value = JSON.parse(await readFile(file, 'utf8')) as { signing: string }
      value.signing = Nkey.generate('user').exportSeed()
      await writeFile(file, JSON.stringify(value))
    }, 'a key in them is not of an operator'],
  ])('whose file %s are not used', async (_, spoil, reason) => {
    const dir = await tempDir()
    await keptAccounts(dir, path.join(dir, 'jwt'), nowS())
    const file = path.join(dir, 'accounts.json')
    const seeds = (await readFile(file, 'utf8')).match(/S[OA][A-Z2-7]{56}/g) ?? []
    expect(seeds).toHaveLength(7)
    await spoil(file)
    const failure = await keptAccounts(dir, path.join(dir, 'jwt'), nowS()).then(() => undefined, (error: unknown) => error)
    expect(failure).toMatchObject({ code: 'CMESH_BROKER_ACCOUNTS', message: expect.stringContaining(`The broker's accounts cannot be used: ${reason.startsWith('can be') ? file : ''}`) })
    expect((failure as Error).message).toContain(reason)
    expect(seeds.filter(seed => `${String(failure)} ${String((failure as Error).cause)}`.includes(seed))).toEqual([])
  })

  test('go to a node at another broker without the operator\'s own key', async () => {
    const dir = await tempDir()
    const accounts = await keptAccounts(dir, path.join(dir, 'jwt'), nowS())
    const given = readAccounts(nodeText(accounts))
    expect(given.operator).toBeUndefined()
    expect(nodeText(accounts)).not.toContain(accounts.operator?.exportSeed())
    expect(nodeText(given)).toBe(nodeText(accounts))
  })
})

describe('a data directory of the version before accounts had keys', () => {
  test('comes up with its streams and with what its consumers had read', async () => {
    const dir = path.join(await tempDir(), 'broker')
    await mkdir(dir)
    await writeFile(path.join(dir, 'nats.conf'), `host: "127.0.0.1"\nport: -1\nhttp: "127.0.0.1:-1"\nports_file_dir: ${JSON.stringify(dir)}
jetstream { store_dir: ${JSON.stringify(dir)} }\naccounts { CORE { jetstream: enabled, users: [ { user: core, password: core } ] } }\n`)
    const { path: binary } = await locateNatsServer({ obtain: false })
    const server = await ServerProcess.launch({ binary, dir, readyMs: 15_000 })
    const old = await connect({ servers: `127.0.0.1:${server.port}`, user: 'core', pass: 'core' })
    const before = await jetstreamManager(old)
    await before.streams.add({ name: 'CMESH_MINE', subjects: ['mine'] })
    await before.consumers.add('CMESH_MINE', { durable_name: 'miner', ack_policy: AckPolicy.Explicit })
    for (const word of ['one', 'two']) await jetstream(old).publish('mine', word)
    const read = await (await jetstream(old).consumers.get('CMESH_MINE', 'miner')).next()
    await read?.ackAck()
    await old.close()
    await server.stop()
    expect(await readdir(path.join(dir, 'jetstream'))).toEqual(['CORE'])

    const broker = await brokerIn(dir)
    expect(await readdir(path.join(dir, 'jetstream'))).toEqual([broker.broker.accounts.accounts.CORE.id])
    const js = jetstream(broker.core.connection)
    expect((await (await js.consumers.get('CMESH_MINE', 'miner')).next())?.string()).toBe('two')
    await js.publish('mine', 'three')
    expect((await (await jetstreamManager(broker.core.connection)).streams.info('CMESH_MINE')).state).toMatchObject({ messages: 3, last_seq: 3 })
  })

  test('is left alone where there are streams of this version already', async () => {
    const dir = path.join(await tempDir(), 'broker')
    const first = await brokerIn(dir)
    await (await jetstreamManager(first.core.connection)).streams.add({ name: 'KEPT', subjects: ['kept'] })
    await first.leave()
    await first.broker.stop()
    await mkdir(path.join(dir, 'jetstream', 'CORE', 'streams'), { recursive: true })
    const second = await brokerIn(dir)
    expect((await (await jetstreamManager(second.core.connection)).streams.info('KEPT')).config.subjects).toEqual(['kept'])
  })
})

function make(broker: TestBroker, sys: Pick<Bus, 'request'>, log: Log = SILENT_LOG, now = Date.now): BrokerAccountSessions {
  const sessions = new BrokerAccountSessions({ accounts: broker.broker.accounts, sys, connectionTtlMs: TTL_MS, log, now })
  undo.push(() => { sessions.close() })
  return sessions
}

function counting(bus: Bus): { sys: Pick<Bus, 'request'>, updates: () => number } {
  let updates = 0
  const request: Bus['request'] = (subject, data, options) => {
    if (subject === UPDATE_SUBJECT) updates++
    return bus.request(subject, data, options)
  }
  return { sys: { request }, updates: () => updates }
}

/** Each call waits until as many have been made; from then on none does. */
function meeting(size: number): () => Promise<void> {
  let come = 0
  let open: () => void
  const all = new Promise<void>(resolve => { open = resolve })
  return () => {
    if (++come === size) open()
    return all
  }
}
