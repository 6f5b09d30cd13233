import { type ChildProcess, spawn } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { chmod, mkdtemp, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises'
import { createServer } from 'node:net'
import os from 'node:os'
import path from 'node:path'
import { fileURLToPath } from 'node:url'
import { jetstreamManager } from '@nats-io/jetstream'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from '@jest/globals'
import type { CMeshError } from '../../cmtp/errors.ts'
import { GUEST_LIMITS, makeAccounts, SESSION_LIMITS } from '../../cmtp/identity/nats-accounts.ts'
import { userJwt } from '../../cmtp/identity/nats-jwt.ts'
import { Nkey } from '../../cmtp/identity/nats-keys.ts'
import { LIMITS } from '../../cmtp/limits.ts'
import { BROKER_LIMITS, brokerConfig } from '../../node/broker/config.ts'
import { awaitPrevious } from '../../node/broker/previous.ts'
import { type BrokerExit, ManagedBroker, type ManagedBrokerOptions } from '../../node/broker/managed.ts'
import { connectNats, type NatsBus } from '../../providers/bus/nats.ts'
import { until } from '../client/support/until.ts'
import { startBroker, type TestBroker } from '../support/broker.ts'
import { standStill } from '../support/stand-still.ts'

let dir: string
let brokers: ManagedBroker[] = []
beforeEach(async () => { dir = await mkdtemp(path.join(os.tmpdir(), 'cmesh-broker-test-')) })
afterEach(async () => {
  await Promise.all(brokers.map((broker) => broker.stop()))
  brokers = []
  await rm(dir, { recursive: true, force: true })
})

function make(options: Partial<ManagedBrokerOptions> = {}): ManagedBroker {
  const broker = new ManagedBroker({ dir: path.join(dir, 'broker'), ...options })
  brokers.push(broker)
  return broker
}

/** A process that ended and that nobody waited for yet is not alive, though a signal still finds it. */
function alive(pid: number): boolean {
  try {
    process.kill(pid, 0)
    return process.platform !== 'linux' || !/\) Z /.test(readFileSync(`/proc/${pid}/stat`, 'utf8'))
  } catch {
    return false
  }
}

describe('a managed broker', () => {
  test('is ready when start resolves, and gone when stop does; both are memoised', async () => {
    const broker = make()
    expect(() => broker.url).toThrow(expect.objectContaining({ code: 'CMESH_BROKER_FAILED' }))
    expect(await broker.healthy()).toBe(false)
    expect(broker.start()).toBe(broker.start())
    await broker.start()
    expect(await broker.healthy()).toBe(true)
    expect(broker.url).toMatch(/^nats:\/\/127\.0\.0\.1:\d+$/)
    const pid = broker.pid as number
    expect(alive(pid)).toBe(true)
    expect(broker.stop()).toBe(broker.stop())
    await broker.stop()
    expect(alive(pid)).toBe(false)
    expect(broker.pid).toBeUndefined()
  })

  test('that was stopped before it started has nothing to stop and does not start', async () => {
    const broker = make()
    await broker.stop()
    await expect(broker.start()).rejects.toMatchObject({
      code: 'CMESH_BROKER_FAILED', message: 'The nats-server did not start: it was stopped',
    })
  })

  test('keeps its directory to its user, its logins to its memory, and what signs them to one file', async () => {
    const broker = make()
    await broker.start()
    const home = path.join(dir, 'broker')
    expect((await stat(home)).mode & 0o777).toBe(0o700)
    expect((await stat(path.join(home, 'nats.conf'))).mode & 0o777).toBe(0o600)
    const secrets = [broker.core, broker.mesh, broker.door, broker.sys].map(({ nkeySeed }) => nkeySeed)
    expect(secrets).toEqual(secrets.map(() => expect.stringMatching(/^SU/)))
    expect(new Set(secrets).size).toBe(4)
    expect((await stat(path.join(home, 'operator'))).mode & 0o777).toBe(0o700)
    expect((await stat(path.join(home, 'operator', 'accounts.json'))).mode & 0o777).toBe(0o600)
    // What it writes stays as it is while it is looked at.
    const pid = broker.pid as number
    try {
      await standStill(pid)
      for (const name of await readdir(home, { recursive: true })) {
        const found = path.join(home, name)
        const text = (await stat(found)).isFile() ? await readFile(found, 'utf8') : ''
        expect({ name, logins: text.match(/SU[A-Z2-7]{56}/g) }).toEqual({ name, logins: null })
        // What signs logins and accounts is in the one file that is for it.
        if (name !== 'operator/accounts.json') expect({ name, keys: text.match(/S[OA][A-Z2-7]{56}/g) }).toEqual({ name, keys: null })
      }
    } finally {
      process.kill(pid, 'SIGCONT')
    }
  })

  test('shows nobody who is connected: it has no port without a login', async () => {
    const broker = make()
    await broker.start()
    const [name = ''] = (await readdir(path.join(dir, 'broker'))).filter((entry) => entry.endsWith('.ports'))
    const ports = JSON.parse(await readFile(path.join(dir, 'broker', name), 'utf8')) as object
    expect(ports).toEqual({ nats: [broker.url] })
  })

  test('tells the system account what such a port would say', async () => {
    const broker = make()
    await broker.start()
    const { SYS } = broker.accounts.accounts
    const nkey = Nkey.generate('user')
    const jwt = userJwt(SYS.signing, { nkey: nkey.text, name: 'monitor', account: SYS.id, nowS: Math.floor(Date.now() / 1_000) })
    const monitor = await connectNats({ servers: broker.url, nkeySeed: nkey.exportSeed(), jwt })
    const told = async (what: string): Promise<unknown> => {
      return JSON.parse(Buffer.from(await monitor.request(`$SYS.REQ.SERVER.PING.${what}`, new Uint8Array())).toString('utf8'))
    }
    try {
      expect(await told('HEALTHZ')).toMatchObject({ data: { status: 'ok' } })
      expect(await told('VARZ')).toMatchObject({ data: { connections: 1, max_connections: BROKER_LIMITS.connections } })
      // A node whose machine is gone is handed no request for longer than these come to.
      expect(await told('VARZ')).toMatchObject({ data: { ping_interval: BROKER_LIMITS.pingS * 1e9, ping_max: BROKER_LIMITS.pings } })
      expect(await told('JSZ')).toMatchObject({ data: { config: expect.anything() } })
      expect(await told('CONNZ')).toMatchObject({ data: { num_connections: 1 } })
    } finally {
      await monitor.close()
    }
  })

  test('comes back on its last port in the same directory, with its streams', async () => {
    const first = await startBroker({ dir: path.join(dir, 'kept') })
    const { url } = first
    const manager = await jetstreamManager(first.core.connection)
    await manager.streams.add({ name: 'KEPT', subjects: ['kept'] })
    await first.leave()
    await first.broker.stop()
    const second = await startBroker({ dir: path.join(dir, 'kept') })
    expect(second.url).toBe(url)
    const kept = await (await jetstreamManager(second.core.connection)).streams.info('KEPT')
    expect(kept.config.subjects).toEqual(['kept'])
    await second.stop()
  })

  test('takes another port when its last one is taken', async () => {
    const { port, close } = await occupy()
    const broker = make()
    await broker.start()
    await broker.stop()
    await writeFile(path.join(dir, 'broker', 'port'), `${port}\n`)
    const next = make()
    await next.start()
    expect(next.url).not.toBe(`nats://127.0.0.1:${port}`)
    expect(await readFile(path.join(dir, 'broker', 'port'), 'utf8')).toBe(`${new URL(next.url).port}\n`)
    await close()
  })

  test('on a port that was asked for and is taken says so', async () => {
    const { port, close } = await occupy()
    await expect(make({ port }).start()).rejects.toMatchObject({
      code: 'CMESH_BROKER_FAILED',
      message: expect.stringMatching(/^The nats-server did not start: it exited: .*address already in use/),
    })
    await close()
  })

  test('that is no nats-server fails with what it said and leaves no process', async () => {
    const binary = path.join(dir, 'liar')
    await writeFile(binary, '#!/bin/sh\necho "nats-server: no such luck" >&2; exit 3\n')
    await chmod(binary, 0o755)
    const broker = make({ locate: async () => ({ path: binary, version: [2, 9, 0], source: 'PATH' }) })
    await expect(broker.start()).rejects.toMatchObject({
      code: 'CMESH_BROKER_FAILED', message: 'The nats-server did not start: it exited: nats-server: no such luck',
    })
    expect(broker.pid).toBeUndefined()
  })

  test('that never becomes ready is killed', async () => {
    const binary = path.join(dir, 'sleeper')
    await writeFile(binary, `#!/bin/sh\necho $$ > ${dir}/sleeper.pid; exec sleep 600\n`)
    await chmod(binary, 0o755)
    // A slow machine may take longer than the first wait only to start it.
    let pid = 0
    for (let readyMs = 200; pid === 0; readyMs *= 2) {
      const broker = make({ readyMs, locate: async () => ({ path: binary, version: [2, 9, 0], source: 'PATH' }) })
      await expect(broker.start()).rejects.toMatchObject({
        code: 'CMESH_BROKER_FAILED', message: expect.stringContaining(`it was not ready after ${readyMs} ms`),
      })
      pid = Number(await readFile(path.join(dir, 'sleeper.pid'), 'utf8').catch(() => ''))
    }
    expect(alive(pid)).toBe(false)
  })

  test('is out of reach of a Ctrl-C in the terminal, for the node drains first', async () => {
    const broker = make()
    await broker.start()
    expect(await groupOf(broker.pid as number)).not.toBe(await groupOf(process.pid))
  })

  test('removes all but its newest logs', async () => {
    const broker = make()
    await broker.start()
    await broker.stop()
    const aside = ['2024.01', '2024.02', '2025.01', '2025.02', '2026.01'].map((date) => `nats.log.${date}`)
    await Promise.all(aside.map((name) => writeFile(path.join(dir, 'broker', name), '')))
    await make().start()
    expect((await readdir(path.join(dir, 'broker'))).filter((name) => name.startsWith('nats.log.'))).toEqual(aside.slice(2))
  })
})

describe('a server that dies though nobody stopped it', () => {
  test('comes back on the same port, and its owner is told', async () => {
    const exits: BrokerExit[] = []
    const restarts: (CMeshError | undefined)[] = []
    const broker = make({ onExit: (exit) => exits.push(exit), onRestart: (failure) => restarts.push(failure) })
    await broker.start()
    const { url, pid } = broker
    process.kill(pid as number, 'SIGKILL')
    await until('the owner is told of the restart', () => restarts.length === 1)
    expect(restarts).toEqual([undefined])
    expect(exits).toEqual([{ code: 128 + 9, signal: null, restartInMs: 50 }])
    expect(broker.url).toBe(url)
    expect(broker.pid).not.toBe(pid)
    expect(await broker.healthy()).toBe(true)
  })

  test('again and again is restarted after ever longer pauses', async () => {
    const pauses: number[] = []
    let restarts = 0
    const broker = make({ onExit: ({ restartInMs }) => pauses.push(restartInMs), onRestart: () => { restarts++ } })
    await broker.start()
    for (let n = 1; n <= 3; n++) {
      process.kill(broker.pid as number, 'SIGKILL')
      await until(`the server is restarted ${n} times`, () => restarts === n)
    }
    expect(pauses).toEqual([50, 100, 200])
  })

  test('whose port was taken meanwhile is tried until the port is free', async () => {
    const failures: (string | undefined)[] = []
    let occupied: Promise<{ close: () => Promise<void> }> | undefined
    const broker = make({
      onExit: () => { occupied ??= occupy(Number(new URL(broker.url).port)) },
      onRestart: (failure) => failures.push(failure?.code),
    })
    await broker.start()
    const { url } = broker
    process.kill(broker.pid as number, 'SIGKILL')
    await until('a restart was tried', () => failures.length > 0)
    expect(failures[0]).toBe('CMESH_BROKER_FAILED')
    await (await occupied)?.close()
    await until('a restart succeeds', () => failures.includes(undefined))
    expect(broker.url).toBe(url)
  })

  test('stays away once the broker is stopped', async () => {
    let exits = 0
    const restarted: unknown[] = []
    const broker = make({ onExit: () => { exits++ }, onRestart: (failure) => restarted.push(failure) })
    await broker.start()
    process.kill(broker.pid as number, 'SIGKILL')
    await until('the death of the server is noticed', () => exits === 1)
    await broker.stop()
    expect(restarted).toEqual([])
    expect(await broker.healthy()).toBe(false)
  })

  test('with its guard is restarted too', async () => {
    let restarts = 0
    const broker = make({ onRestart: () => { restarts++ } })
    await broker.start()
    const { pid, url } = broker
    process.kill(await parentOf(pid as number), 'SIGKILL')
    await until('the server is restarted with its guard', () => restarts === 1)
    expect(alive(pid as number)).toBe(false)
    expect(broker.url).toBe(url)
  })
})

describe('the death of the owner by kill -9', () => {
  test('takes the server along, and the next owner gets the directory and the port', async () => {
    const home = path.join(dir, 'owned')
    const owner = await spawnOwner(home)
    owner.child.kill('SIGKILL')
    // The next owner starts while the old server may still be going down: it waits for it.
    const next = make({ dir: home })
    await next.start()
    expect(alive(owner.pid)).toBe(false)
    expect(next.url).toBe(owner.url)
  })

  test('leaves no nats-server', async () => {
    const owner = await spawnOwner(path.join(dir, 'owned'))
    expect(alive(owner.pid)).toBe(true)
    owner.child.kill('SIGKILL')
    await until('the server of the dead owner is gone', () => !alive(owner.pid))
  })
})

describe('a server left by an earlier owner', () => {
  /** A process that stays, with a command line like that of a nats-server on the configuration in `dir`. */
  async function previous(config: string, does = 'read line'): Promise<ChildProcess> {
    const child = spawn('/bin/sh', ['-c', does, 'nats-server', '-c', config], { stdio: ['pipe', 'ignore', 'inherit'] })
    await writeFile(path.join(dir, 'nats.pid'), String(child.pid))
    return child
  }

  test('that stays belongs to a node that lives', async () => {
    const child = await previous(path.join(dir, 'nats.conf'))
    await expect(awaitPrevious(dir, 0)).rejects.toMatchObject({
      code: 'CMESH_BROKER_FAILED',
      message: `The nats-server did not start: ${dir} is in use by the nats-server with process id ${child.pid}`,
    })
    child.kill('SIGKILL')
  })

  test('whose process id is another program\'s now is not waited for', async () => {
    const child = await previous('/somewhere/else/nats.conf')
    await awaitPrevious(dir, 0)
    await writeFile(path.join(dir, 'nats.pid'), 'no number')
    await awaitPrevious(dir, 0)
    child.kill('SIGKILL')
  })

  test('keeps the next from starting', async () => {
    // It takes a second to go down; a server that did not wait would be up long before.
    const child = await previous(path.join(dir, 'nats.conf'), 'sleep 1; exit')
    await make({ dir }).start()
    expect(alive(child.pid as number)).toBe(false)
  })
})

describe('a session\'s own connection', () => {
  const SID = 'AbC_-12345678'
  let server: TestBroker
  let client: NatsBus
  const denied: string[] = []
  beforeAll(async () => {
    server = await startBroker()
    const login = { ...server.broker.sessionLogin(SID), inboxPrefix: `_INBOX.${SID}` }
    client = await connectNats({ servers: server.url, name: 'session', ...login, onError: (error) => denied.push(error.message) })
  })
  afterEach(() => { denied.length = 0 })
  afterAll(async () => {
    await client.close()
    await server.stop()
  })
  const empty = new Uint8Array(0)

  test('sends requests of its own and reads the answers', async () => {
    const router = server.mesh.subscribe('cmesh.v1.>', ({ data, reply }) => server.mesh.publish(reply, data), { queue: 'router' })
    await server.mesh.flush()
    for (const subject of [`cmesh.v1.req.${SID}`, `cmesh.v1.req.${SID}.other`, `cmesh.v1.hello.${SID}`, `cmesh.v1.hello.${SID}.n1`]) {
      expect(await client.request(subject, new Uint8Array([1, 2]))).toEqual(new Uint8Array([1, 2]))
    }
    await router.drain()
  })

  test.each([
    'cmesh.v1.req.another1', `cmesh.v1.req.another1.${SID}`, `cmesh.v1.req.${SID}.a.b`, 'cmesh.v1.req', 'cmesh.v1.hello.another1', 'cmesh.v1.hello',
    'cmesh.v1.mine', 'cmesh.v1.mine.another1', 'cmesh.v1.svc.state.read', 'cmesh.v1.ctl.revoked', 'cmesh.v1.evt.x', '$JS.API.INFO', 'cmesh.v1.order.CMESH_ORDER', 'cmesh.v1.order.CMESH_ORDER.stored',
    '$JS.API.STREAM.CREATE.X', '$JS.ACK.x', '$SYS.REQ.SERVER.PING', '$SYS.REQ.CLAIMS.UPDATE', '_INBOX.another1.1', `_INBOX.${SID}.1`, 'anything',
  ])('does not publish on %s', async (subject) => {
    await expect(client.request(subject, empty, { timeoutMs: 60_000 })).rejects.toMatchObject({
      code: 'CMESH_BUS_DENIED', message: `The broker does not allow to publish on ${subject} on this connection.`,
    })
  })

  test.each([
    'cmesh.v1.>', 'cmesh.v1.req.*', `cmesh.v1.req.${SID}`, 'cmesh.v1.svc.state.read', 'cmesh.v1.order.CMESH_ORDER.stored', '>', '*', '$JS.API.>', '$SYS.>', '_INBOX', '_INBOX.>', '_INBOX.*.>',
    '_INBOX.another1.>', '_R_.>',
  ])('does not subscribe to %s', async (subject) => {
    client.subscribe(subject, () => undefined)
    await client.flush()
    expect(denied).toEqual([`The broker does not allow to subscribe to ${subject} on this connection.`])
  })

  test('keeps its requests out of CORE, and the services\' subjects stay out of MESH', async () => {
    const leaks: string[] = []
    const taps = [
      server.core.subscribe('cmesh.>', ({ subject }) => { leaks.push(`core: ${subject}`) }),
      server.door.subscribe('cmesh.>', ({ subject }) => { leaks.push(`door: ${subject}`) }),
      server.mesh.subscribe('cmesh.>', ({ subject }) => { leaks.push(`mesh: ${subject}`) }),
    ]
    const flushed = (): Promise<unknown> => Promise.all([server.core, server.mesh, server.door, client].map((bus) => bus.flush()))
    await flushed()
    client.publish(`cmesh.v1.req.${SID}`, empty)
    server.core.publish('cmesh.v1.svc.state.read', empty)
    await flushed()
    await flushed()
    expect(leaks.sort()).toEqual(['core: cmesh.v1.svc.state.read', `mesh: cmesh.v1.req.${SID}`])
    taps.forEach((tap) => tap.unsubscribe())
  })

  test('gives to the miner what the node takes up, and no stream does by itself', async () => {
    const manager = await jetstreamManager(server.core.connection)
    await manager.streams.add({ name: 'MINE', subjects: ['cmesh.v1.mine.*'] })
    await expect(client.request(`cmesh.v1.mine.${SID}`, empty)).rejects.toMatchObject({ code: 'CMESH_BUS_NO_RESPONDERS' })
    const node = server.mesh.subscribe('cmesh.v1.mine.*', ({ data, reply }) => server.mesh.publish(reply, data))
    await server.mesh.flush()
    expect(await client.request(`cmesh.v1.mine.${SID}`, new Uint8Array([1, 2]))).toEqual(new Uint8Array([1, 2]))
    expect((await manager.streams.info('MINE')).state.messages).toBe(0)
    await node.drain()
  })

  test.each(['mesh', 'door'] as const)('has no JetStream, and neither has the node\'s connection %s', async (name) => {
    const answer = JSON.parse(new TextDecoder().decode(await server[name].request('$JS.API.INFO', empty))) as unknown
    expect(answer).toMatchObject({ error: { err_code: 10039 } })
  })

  test('carries the largest frame', async () => {
    const router = server.mesh.subscribe(`cmesh.v1.req.${SID}`, ({ data, reply }) => server.mesh.publish(reply, data))
    await server.mesh.flush()
    expect(await client.request(`cmesh.v1.req.${SID}`, new Uint8Array(LIMITS.frameBytes))).toHaveLength(LIMITS.frameBytes)
    expect(BROKER_LIMITS.payloadBytes).toBeGreaterThan(LIMITS.frameBytes)
    await router.drain()
  })
})

describe('the configuration', () => {
  const base = { serverName: 'n', port: -1, dir: '/d', accounts: makeAccounts(1_795_000_000) }

  test('bounds the number of logs where the server can', () => {
    expect(brokerConfig({ ...base, version: [2, 9, 25] })).not.toContain('logfile_max_num')
    expect(brokerConfig({ ...base, version: [2, 10, 0] })).toContain('logfile_max_num: 3\n')
    expect(brokerConfig({ ...base, version: [3, 0, 0] })).toContain('logfile_max_num: 3\n')
  })

  test('quotes paths with blanks and quotation marks', () => {
    expect(brokerConfig({ ...base, dir: '/a b/"c"', version: [2, 9, 10] })).toContain('store_dir: "/a b/\\"c\\""\n')
  })

  test('takes more connections than sessions and newcomers may have together, so that nodes find room', () => {
    expect(brokerConfig({ ...base, version: [2, 9, 10] })).toContain(`max_connections: ${BROKER_LIMITS.connections}\n`)
    expect(BROKER_LIMITS.connections - SESSION_LIMITS.connections - GUEST_LIMITS.connections).toBeGreaterThanOrEqual(256)
  })

  test('bounds what streams keep by what it is told, never by what is free when it starts', () => {
    expect(brokerConfig({ ...base, version: [2, 9, 10] })).toContain(`  max_file_store: ${BROKER_LIMITS.fileStoreBytes}\n`)
    expect(brokerConfig({ ...base, version: [2, 9, 10], maxFileStoreBytes: 5 })).toContain('  max_file_store: 5\n')
  })

  test('with blanks in its path is understood by the server', async () => {
    const broker = make({ dir: path.join(dir, 'a b "c"') })
    await broker.start()
    expect(await broker.healthy()).toBe(true)
  })
})

async function occupy(port = 0): Promise<{ port: number; close: () => Promise<void> }> {
  const server = createServer()
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject)
    server.listen(port, '127.0.0.1', resolve)
  })
  return {
    port: (server.address() as { port: number }).port,
    close: () => new Promise((resolve) => server.close(() => resolve())),
  }
}

async function parentOf(pid: number): Promise<number> {
  return Number((await statOf(pid))[1])
}

async function groupOf(pid: number): Promise<number> {
  return Number((await statOf(pid))[2])
}

/** Fields of /proc/<pid>/stat after the name: state, parent, process group. */
async function statOf(pid: number): Promise<string[]> {
  return (await readFile(`/proc/${pid}/stat`, 'utf8')).split(') ')[1]?.split(' ') ?? []
}

async function spawnOwner(home: string): Promise<{ child: ChildProcess; pid: number; url: string }> {
  const hooks = new URL('../typescript-hooks.mjs', import.meta.url).href
  const script = fileURLToPath(new URL('../support/broker-owner.ts', import.meta.url))
  const child = spawn(process.execPath, ['--import', hooks, script, home], { stdio: ['ignore', 'pipe', 'inherit'] })
  const line = await new Promise<string>((resolve, reject) => {
    child.stdout.once('data', (chunk: Buffer) => resolve(chunk.toString()))
    child.once('exit', (code) => reject(new Error(`the owner exited with ${code}`)))
  })
  return { child, ...JSON.parse(line) as { pid: number; url: string } }
}
