/** The links of a client: a newcomer's for the handshake, the session's, and how one takes the place of another. */
import { mkdtemp, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises'
import { createServer, type Server, type Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from '@jest/globals'
import { connect, type ConnectOptions } from '../../client/connect.ts'
import { Connection } from '../../client/connection.ts'
import type { MeshClient } from '../../client/mesh-client.ts'
import { CMeshError } from '../../cmtp/errors.ts'
import { KeyPair } from '../../cmtp/identity/keys.ts'
import { Nkey } from '../../cmtp/identity/nats-keys.ts'
import { requestSubject } from '../../cmtp/subject.ts'
import { ExternalBroker } from '../support/external-broker.ts'
import { answer, ok, refuse, StandInMesh, type StandInRequest } from './support/stand-in-mesh.ts'
import { until } from './support/until.ts'

let mesh: StandInMesh
let warnings: CMeshError[]
const clients: MeshClient[] = []

beforeAll(async () => { mesh = await StandInMesh.start() })
afterAll(() => mesh.stop())
beforeEach(() => {
  mesh.behaviour = ok
  mesh.sessionTtlMs = 300_000
  mesh.connectionTtlMs = 3_600_000
  mesh.refuseHandshakes = undefined
  mesh.refused.clear()
  mesh.tokens.clear()
  mesh.requests.length = mesh.steps.length = mesh.arrivals.length = 0
  warnings = []
})
afterEach(() => Promise.all(clients.splice(0).map((client) => client.close())))

async function open(options: ConnectOptions = {}): Promise<MeshClient> {
  const onWarning = (warning: CMeshError): void => { warnings.push(warning) }
  const client = await connect({ url: mesh.url, identity: KeyPair.generate(), onWarning, timeoutMs: 20_000, coalesce: false, ...options })
  clients.push(client)
  return client
}

const VIEW = '0xS:0x001:a'
const sids = (): string[] => [...new Set([...mesh.tokens.values()].map(({ sid }) => sid))]
/** The link that a request came over. */
const inboxOf = ({ replySubject }: StandInRequest): string => replySubject.slice(0, replySubject.lastIndexOf('.'))
const newest = (): StandInRequest => mesh.requests.at(-1)

/** Ids that the broker knows connections of this name by: `sub` or `unsub` of their inboxes. */
async function linksOf(name: string): Promise<string[]> {
  const connections = await mesh.broker.connections()
  return connections.filter((one) => one.name === name).flatMap((one) => one.subscriptions_list ?? []).map((subject) => subject.split('.')[1] as string)
}

describe('a newcomer', () => {
  test('shakes hands over a link of its own, which is gone afterwards; requests go over the session\'s', async () => {
    await open({ name: 'one-client' })
    expect(mesh.arrivals.map(({ action }) => action)).toEqual(['call', 'confirm', 'consent'])
    const cids = new Set(mesh.arrivals.map(({ cid }) => cid))
    expect([...cids]).toEqual([expect.stringMatching(/^U[A-Z2-7]{55}$/)])
    await until('the session\'s link is the only one', async () => JSON.stringify(await linksOf('one-client')) === JSON.stringify(sids()))
    expect(mesh.tokens.size).toBe(1)
    expect([...mesh.tokens.values()][0]?.cnf.nkey).toMatch(/^U/)
    // The login of the handshake is not the one of the session.
    expect(cids.has([...mesh.tokens.values()][0]?.cnf.nkey as string)).toBe(false)
  })

  test('that is refused by the mesh leaves no link behind', async () => {
    mesh.refuseHandshakes = new CMeshError('CMESH_IAM_DENIED', { permission: 'read', fqmn: VIEW })
    await expect(open({ name: 'refused-client' })).rejects.toMatchObject({ code: 'CMESH_IAM_DENIED' })
    await until('no link is left', async () => (await linksOf('refused-client')).length === 0)
  })
})

describe('a link whose login ends soon', () => {
  test('is replaced before that, and the answers that were under way on it arrive', async () => {
    mesh.sessionTtlMs = 1_000
    mesh.connectionTtlMs = 1_500
    const held: StandInRequest[] = []
    mesh.behaviour = (request) => held.push(request)
    const client = await open({ retry: false, name: 'renewed-client' })
    const asked = client.call(VIEW)
    await until('it arrived', () => held.length === 1)
    mesh.behaviour = ok
    mesh.connectionTtlMs = 3_600_000
    await until('requests go over another link', async () => {
      await client.call(VIEW)
      return inboxOf(newest()) !== inboxOf(held[0] as StandInRequest)
    })
    expect(client.connection).toBe('connected')
    expect(client.pending).toBe(1)
    ok(held[0] as StandInRequest)
    expect((await asked).status).toBe(200)
    expect(sids()).toHaveLength(1)
    expect(mesh.arrivals.filter(({ action }) => action === 'refresh').every(({ cid }) => cid === sids()[0])).toBe(true)
    await until('the one before is closed', async () => (await linksOf('renewed-client')).length === 1)
    expect(warnings).toEqual([])
  })

  test('loses no event of a subscription', async () => {
    const tails = new Map<string, string>()
    const stored: object[] = []
    mesh.behaviour = (request) => {
      const { frame, send } = request
      const body = frame.body.length === 0 ? {} : JSON.parse(frame.body.toString('utf8')) as { inbox: string, tail?: string, close?: boolean } & number[]
      if (frame.fqmn.endsWith(':read')) refuse(request, new CMeshError('CMESH_EVENTS_NO_CHANNEL', { channel: 'news' }))
      else if (frame.fqmn.endsWith(':range')) send(answer(frame, 200, stored.slice((body as number[])[0] as number - 1)))
      else if (!frame.fqmn.endsWith(':tail')) ok(request)
      else {
        const { inbox, tail = `tail-${mesh.requests.length}`, close } = body as { inbox: string, tail?: string, close?: boolean }
        if (tails.has(tail) && tails.get(tail) !== inbox) return refuse(request, new CMeshError('CMESH_EVENTS_TAIL', { reason: 'another inbox' }))
        if (close === true) tails.delete(tail)
        else tails.set(tail, inbox)
        send(answer(frame, 200, { tail, leaseMs: 30_000 }))
      }
    }
    mesh.sessionTtlMs = 1_000
    mesh.connectionTtlMs = 1_500
    const client = await open()
    const seen: number[] = []
    await client.subscribe('news', ({ seq }) => { seen.push(seq) })
    const [before] = [...tails.values()]
    stored.push({ channel: 'news', seq: 1, timeMs: 1, data: 'published, and told to nobody' })
    mesh.connectionTtlMs = 3_600_000
    await until('the tail is on another inbox, and the old one ended', () => tails.size === 1 && ![...tails.values()].includes(before as string))
    await until('it was read', () => seen.length === 1)
    expect(seen).toEqual([1])
    expect(warnings).toEqual([])
  })

  test('comes back with the newest login when the server ended it', async () => {
    const nkey = Nkey.generate('user')
    const login = (forMs: number): { jwt: string, expires: number } => {
      const expires = Date.now() + forMs
      return { jwt: mesh.broker.sessions.mint({ nkey: nkey.text, sid: 'a-session', expiresMs: expires }), expires }
    }
    const connection = new Connection({ url: mesh.url, name: 'expiring', connectTimeoutMs: 5_000, maxInFlight: 10, onWarning: (warning) => warnings.push(warning) })
    const seen: string[] = []
    try {
      connection.onStatus((status) => seen.push(status))
      connection.use(await connection.dial({ sid: 'a-session', nkey, connection: login(2_000) }))
      const { inbox } = connection.tail(() => undefined)
      connection.renewed({ sid: 'a-session', connection: login(60_000) })
      await until('it came back', () => seen.length === 3)
      expect(seen).toEqual(['connected', 'disconnected', 'connected'])
      expect(connection.tail(() => undefined).inbox.split('.').slice(0, 3)).toEqual(inbox.split('.').slice(0, 3))
      mesh.behaviour = ({ send }) => send(Buffer.from('answered'))
      expect(Buffer.from(await connection.request(requestSubject('a-session'), Buffer.from('x'), { timeoutMs: 20_000 })).toString()).toBe('answered')
    } finally {
      await connection.close()
    }
  })
})

describe('a session that is kept out', () => {
  test('by mesh and broker is followed by another by itself, and requests wait for that', async () => {
    const client = await open({ name: 'kicked-client' })
    await client.call(VIEW)
    const [first] = sids()
    await mesh.kick(first as string)
    await until('it has another session', () => sids().length === 2)
    const replies = await Promise.all(Array.from({ length: 20 }, () => client.call(VIEW)))
    expect(replies.map(({ status }) => status)).toEqual(Array.from({ length: 20 }, () => 200))
    expect(newest().sid).toBe(sids()[1])
    // It asked for a new token first, as a newcomer: the broker may have refused for no reason of the mesh's.
    expect(mesh.arrivals.map(({ action }) => action)).toEqual(['call', 'confirm', 'consent', 'refresh', 'call', 'confirm', 'consent'])
    expect(mesh.arrivals.every(({ cid }) => cid.startsWith('U'))).toBe(true)
    await until('no other link is left', async () => JSON.stringify(await linksOf('kicked-client')) === JSON.stringify([sids()[1]]))
  })

  test('by the broker alone gets another as well', async () => {
    const client = await open()
    const [first] = sids()
    await mesh.cutOff(first as string)
    await until('it has another session', () => sids().length === 2)
    expect((await client.call(VIEW)).status).toBe(200)
    expect(newest().sid).not.toBe(first)
  })

  test('and whose identity the mesh refuses says so at the next request, and asks again then and not before', async () => {
    mesh.sessionTtlMs = 1_000
    const client = await open()
    mesh.refuseHandshakes = new CMeshError('CMESH_IAM_DENIED', { permission: 'read', fqmn: VIEW })
    await mesh.kick(sids()[0] as string)
    await until('it gave up', () => warnings.length > 0)
    expect(warnings).toMatchObject([{ code: 'CMESH_IAM_DENIED' }])
    expect([client.connection, client.mesh]).toEqual(['disconnected', mesh.mesh.did])
    // One with a session of the same life says when there would have been renewals.
    const { length } = mesh.arrivals
    const clock = await StandInMesh.start()
    try {
      clock.sessionTtlMs = 1_000
      await open({ url: clock.url })
      await until('time has passed', () => clock.steps.filter((step) => step === 'refresh').length === 2)
      expect(mesh.arrivals).toHaveLength(length)
    } finally {
      await Promise.all(clients.splice(1).map((other) => other.close()))
      await clock.stop()
    }
    await expect(client.call(VIEW)).rejects.toMatchObject({ code: 'CMESH_IAM_DENIED' })
    expect(mesh.arrivals).toHaveLength(length + 1)
    mesh.refuseHandshakes = undefined
    expect((await client.call(VIEW)).status).toBe(200)
    expect(client.connection).toBe('connected')
  })

  test('takes those it carries along', async () => {
    const gateway = await open()
    const ann = await gateway.as(KeyPair.generate())
    await ann.call(VIEW)
    expect([newest().via, newest().sid]).toEqual(sids())
    expect(mesh.arrivals.slice(3).map(({ cid }) => cid)).toEqual([sids()[0], sids()[0], sids()[0]])
    expect([...mesh.tokens.values()].map(({ cnf }) => cnf.nkey === undefined)).toEqual([false, true])
    await mesh.kick(sids()[0] as string)
    expect((await ann.call(VIEW)).status).toBe(200)
    expect(sids()).toHaveLength(4)
    expect([newest().via, newest().sid]).toEqual(sids().slice(2))
  })
})

describe('a session that was kept', () => {
  let directory: string
  beforeEach(async () => { directory = await mkdtemp(join(tmpdir(), 'cmesh-links-')) })
  afterEach(() => rm(directory, { recursive: true, force: true }))
  const again = (): Promise<MeshClient> => open({ identity: 'default', configDir: directory })

  test('is entered without a newcomer\'s link, with the login that was kept in a file of its owner\'s alone', async () => {
    await (await again()).close()
    const [file] = await readdir(join(directory, 'sessions'))
    const path = join(directory, 'sessions', file as string)
    expect((await stat(path)).mode & 0o777).toBe(0o600)
    const saved = JSON.parse(await readFile(path, 'utf8')) as { nkey: string, connection: { jwt: string, expires: number } }
    expect(Object.keys(saved).sort()).toEqual(['connection', 'expires', 'issued', 'key', 'mesh', 'nkey', 'node', 'perms', 'sid', 'sub', 'token', 'url', 'version'])
    expect(Nkey.fromSeed(saved.nkey).text).toBe([...mesh.tokens.values()][0]?.cnf.nkey)
    mesh.arrivals.length = 0
    const client = await again()
    expect((await client.call(VIEW)).status).toBe(200)
    expect(newest().sid).toBe(sids()[0])
    expect(mesh.arrivals).toEqual([])
  })

  test('and whose login has ended is renewed as a newcomer', async () => {
    await (await again()).close()
    const [file] = await readdir(join(directory, 'sessions'))
    const path = join(directory, 'sessions', file as string)
    const saved = JSON.parse(await readFile(path, 'utf8')) as { sid: string, nkey: string }
    const expires = Date.now() - 60_000
    const jwt = mesh.broker.sessions.mint({ nkey: Nkey.fromSeed(saved.nkey).text, sid: saved.sid, expiresMs: expires })
    await writeFile(path, JSON.stringify({ ...saved, connection: { jwt, expires } }))
    mesh.arrivals.length = 0
    const client = await again()
    expect((await client.call(VIEW)).status).toBe(200)
    expect(mesh.arrivals[0]).toMatchObject({ action: 'refresh', cid: expect.stringMatching(/^U/) })
    expect(mesh.arrivals).toHaveLength(1)
  })

  test('and is kept out since is followed by another', async () => {
    await (await again()).close()
    await mesh.kick(sids()[0] as string)
    const client = await again()
    expect((await client.call(VIEW)).status).toBe(200)
    expect(sids()).toHaveLength(2)
    expect(newest().sid).toBe(sids()[1])
  })
})

test('closing closes every link, those that were replaced too', async () => {
  mesh.sessionTtlMs = 1_000
  mesh.connectionTtlMs = 1_500
  const held: StandInRequest[] = []
  mesh.behaviour = (request) => held.push(request)
  const client = await open({ name: 'closing-client', drainMs: 20 })
  const lost = expect(client.call(VIEW)).rejects.toMatchObject({ code: 'CMESH_CLIENT_CLOSED' })
  await until('there are two links', async () => (await linksOf('closing-client')).length === 2)
  await client.close()
  await lost
  await until('there is none', async () => (await linksOf('closing-client')).length === 0)
})

test('what the broker forbids is said to be that; what was made for another session is worth another try', async () => {
  const connection = new Connection({ url: mesh.url, name: 'denied', connectTimeoutMs: 5_000, maxInFlight: 10, onWarning: (warning) => warnings.push(warning) })
  try {
    connection.use(await connection.dial(mesh.passOf('a-session')))
    const ask = (subject: string): Promise<Uint8Array> => connection.request(subject, Buffer.from('x'), { timeoutMs: 20_000 })
    await expect(ask('cmesh.v1.svc.a-session')).rejects.toMatchObject({
      code: 'CMESH_BUS_DENIED', message: 'The broker does not allow to publish on cmesh.v1.svc.a-session on this connection.',
    })
    expect(warnings).toMatchObject([{ code: 'CMESH_BUS_DENIED' }])
    await expect(ask(requestSubject('the-session-before'))).rejects.toMatchObject({ code: 'CMESH_BUS_DISCONNECTED', retry: 'retry' })
    expect(warnings).toHaveLength(1)
  } finally {
    await connection.close()
  }
})

describe('hanging up', () => {
  test('ends the session at the mesh, closes, and forgets what was kept', async () => {
    const directory = await mkdtemp(join(tmpdir(), 'cmesh-links-'))
    try {
      const client = await open({ identity: 'default', configDir: directory, name: 'hanging-up' })
      const hangup = client.hangup()
      expect(client.close()).toBe(hangup)
      await hangup
      expect(mesh.steps).toEqual(['call', 'confirm', 'consent', 'hangup'])
      expect([...mesh.refused]).toEqual(sids())
      expect(client.connection).toBe('closed')
      expect(await readdir(join(directory, 'sessions'))).toEqual([])
      await until('no link is left', async () => (await linksOf('hanging-up')).length === 0)
    } finally {
      await rm(directory, { recursive: true, force: true })
    }
  })

  test('ends the session of one that is carried, and nobody else\'s', async () => {
    const gateway = await open()
    const ann = await gateway.as(KeyPair.generate())
    await ann.hangup()
    expect([...mesh.refused]).toEqual([sids()[1]])
    await expect(ann.call(VIEW)).rejects.toMatchObject({ code: 'CMESH_CLIENT_CLOSED' })
    expect((await gateway.call(VIEW)).status).toBe(200)
  })

  test('is done where the mesh knows no such session, and closes where it cannot be asked', async () => {
    const client = await open()
    mesh.refused.add(sids()[0] as string)
    await client.hangup()
    expect(client.connection).toBe('closed')
    const other = await open()
    mesh.refuseHandshakes = new CMeshError('CMESH_IAM_BUSY', { retryAfterMs: 5 })
    const hangup = other.hangup()
    await expect(hangup).rejects.toMatchObject({ code: 'CMESH_IAM_BUSY' })
    expect(other.connection).toBe('closed')
    // A second time is the same failure, also for whoever closes at the end.
    await expect(other.close()).rejects.toMatchObject({ code: 'CMESH_IAM_BUSY' })
    clients.length = 0
  })
})

describe('a broker', () => {
  test('without accounts is used the same way', async () => {
    const broker = await ExternalBroker.start({ jetstream: false })
    try {
      const connection = new Connection({ url: broker.url, name: 'plain', connectTimeoutMs: 5_000, maxInFlight: 10, onWarning: (warning) => warnings.push(warning) })
      const guest = await connection.knock()
      expect(guest.cid).toMatch(/^U[A-Z2-7]{55}$/)
      await expect(guest.request('cmesh.v1.hello.x', Buffer.from('x'), { timeoutMs: 20_000 })).rejects.toMatchObject({ code: 'CMESH_BUS_NO_RESPONDERS' })
      connection.use(await connection.dial({ sid: 'a-session', nkey: Nkey.generate('user') }))
      await expect(connection.request('cmesh.v1.req.a-session', Buffer.from('x'), { timeoutMs: 20_000 })).rejects.toMatchObject({ code: 'CMESH_BUS_NO_RESPONDERS' })
      await connection.close()
      expect(guest.status).toBe('closed')
    } finally {
      await broker.stop()
    }
  })

  test('with accounts of somebody else is said to refuse, and why', async () => {
    const broker = await ExternalBroker.start({ jetstream: false, extra: () => 'authorization { user: somebody, password: else }' })
    try {
      await expect(connect({ url: broker.url, identity: KeyPair.generate() })).rejects.toMatchObject({
        code: 'CMESH_CLIENT_NO_MESH',
        message: `No mesh answers at ${broker.url}: its broker refuses newcomers (authorization violation): it has other accounts than a mesh's, `
          + 'or its clock and this machine\'s are minutes apart. Start one with `cmesh up`, or say where it is by --data, --url or CMESH_URL.',
      })
    } finally {
      await broker.stop()
    }
  })

  const hangsUp = (said: string) => (socket: Socket): void => { socket.once('data', () => { socket.end(`-ERR '${said}'\r\n`) }) }
  test.each<[string, number, (socket: Socket) => void]>([
    // Where a server says something nothing waits for a time-out, which is longer than a test may take.
    ...['maximum connections exceeded', 'Server Shutdown', 'Connection throttling is active', 'Authorization Violation', 'Authentication Timeout']
      .map((said): [string, number, (socket: Socket) => void] => [`says ${said}`, 600_000, hangsUp(said)]),
    ['hangs up', 600_000, socket => { socket.once('data', () => { socket.destroy() }) }],
    ['says nothing more', 1_000, socket => { socket.resume() }],
  ])('that %s leaves the others to be tried', async (_, connectTimeoutMs, behave) => {
    const sockets: Socket[] = []
    const server: Server = createServer((socket) => {
      sockets.push(socket)
      const { port } = server.address() as { port: number }
      socket.write(`INFO ${JSON.stringify({ server_id: 'x', version: '2.9.10', headers: true, max_payload: 1_048_576, nonce: 'abc', port })}\r\n`)
      behave(socket)
      socket.on('error', () => undefined)
    })
    await new Promise<void>((resolve) => { server.listen(0, '127.0.0.1', resolve) })
    const { port } = server.address() as { port: number }
    const urls = [`nats://127.0.0.1:${port}`, mesh.url]
    try {
      // Which is tried first is drawn anew each time.
      for (let i = 0; sockets.length === 0 && i < 64; i++) {
        const connection = new Connection({ url: urls.join(','), name: 'full', connectTimeoutMs, maxInFlight: 10, onWarning: () => undefined })
        const link = await connection.dial(mesh.passOf('a-session'))
        await link.close()
        const guest = await connection.knock()
        await guest.close()
      }
      expect(sockets.length).toBeGreaterThan(0)
    } finally {
      for (const socket of sockets) socket.destroy()
      server.close()
    }
  })

  test.each([
    ['refuses a login', 'Authorization Violation'], ['ends a login while a link is made with it', 'User Authentication Revoked'],
  ])('that %s and names another server each time is given up', async (_, said) => {
    const sockets = new Set<Socket>()
    const server: Server = createServer((socket) => {
      sockets.add(socket)
      socket.on('error', () => undefined)
      const { port } = server.address() as { port: number }
      // Each time under another name, as a cluster that forgets nobody does.
      const info = { server_id: 'x', version: '2.9.10', headers: true, max_payload: 1_048_576, nonce: 'abc', connect_urls: [`127.0.0.${sockets.size + 1}:${port}`, `127.0.0.1:${port}`] }
      socket.write(`INFO ${JSON.stringify(info)}\r\n`)
      socket.once('data', () => { socket.end(`-ERR '${said}'\r\n`) })
    })
    await new Promise<void>((resolve) => { server.listen(0, '0.0.0.0', resolve) })
    const { port } = server.address() as { port: number }
    const connection = new Connection({ url: `nats://127.0.0.1:${port}`, name: 'refused', connectTimeoutMs: 5_000, maxInFlight: 10, onWarning: () => undefined })
    try {
      for (const link of [() => connection.dial(mesh.passOf('a-session')), () => connection.knock()]) {
        await expect(link()).rejects.toMatchObject({ code: 'CMESH_CLIENT_NO_MESH', message: expect.stringContaining(`(${said.toLowerCase()})`) })
      }
      expect(sockets.size).toBeLessThan(10)
    } finally {
      await connection.close()
      for (const socket of sockets) socket.destroy()
      await new Promise((resolve) => { server.close(resolve) })
    }
  })
})
