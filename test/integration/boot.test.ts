/** How a node comes up and goes away, as a process: in order, twice on the same data, undone when it fails, killed. */
import { existsSync } from 'node:fs'
import { chmod, open, readdir, readFile, stat } from 'node:fs/promises'
import { createServer, type AddressInfo, type Server } from 'node:net'
import path from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals'
import { connect, type ConnectOptions } from '../../client/connect.ts'
import type { MeshClient } from '../../client/mesh-client.ts'
import { KeyPair } from '../../cmtp/identity/keys.ts'
import { until } from '../client/support/until.ts'
import { ExternalBroker } from '../support/external-broker.ts'
import { isAlive, NodeRoom, type NodeLaunch, type TestNode } from '../support/node-process.ts'
import { metric } from '../support/prometheus.ts'

const STEPS = ['data', 'bus', 'iam', 'audit', 'state', 'services', 'router', 'self-test', 'miner', 'http', 'door']

let room: NodeRoom
let clients: MeshClient[]
let servers: Server[]
let brokers: ExternalBroker[]
beforeEach(() => {
  room = new NodeRoom()
  clients = []
  servers = []
  brokers = []
})
afterEach(async () => {
  await Promise.all(clients.map(client => client.close()))
  await room.close()
  for (const server of servers) server.close()
  await Promise.all(brokers.map(broker => broker.stop()))
})

async function client(node: TestNode, options: ConnectOptions = {}): Promise<MeshClient> {
  const opened = await connect({ url: node.url, mesh: node.descriptor.did, identity: KeyPair.generate(), timeoutMs: 10_000, ...options })
  clients.push(opened)
  return opened
}

async function external(): Promise<ExternalBroker> {
  const broker = await ExternalBroker.start()
  brokers.push(broker)
  return broker
}

/** What a node that is gone must have left: its own files, and neither lock, descriptor nor process. */
async function expectGone(node: TestNode): Promise<void> {
  const left = await readdir(node.dir)
  expect(left.filter(name => name === 'node.lock' || name.startsWith('mesh.json'))).toEqual([])
  expect({ broker: node.brokerPid !== undefined && isAlive(node.brokerPid) }).toEqual({ broker: false })
}

describe('a node that boots', () => {
  test('goes through its steps in order, says so in one line, answers on loopback, and is gone after SIGTERM', async () => {
    const node = await room.start()
    expect(node.steps).toEqual(STEPS)
    const { did, url, http, pid } = node.descriptor
    // It comes by another channel than the word that the node is ready.
    await until('the line was read', () => node.stdout.includes('\n'))
    expect(node.stdout).toBe(`cmesh: ready as ${did}, clients at ${url}, health at ${http}/healthz\n`)
    expect(pid).toBe(node.pid)
    expect([url, http].map(each => new URL(each).hostname)).toEqual(['127.0.0.1', '127.0.0.1'])
    expect(JSON.parse(await readFile(path.join(node.dir, 'mesh.json'), 'utf8'))).toEqual(node.descriptor)

    const health = await node.health()
    expect(health).toMatchObject({ code: 200, body: { status: 'ok', node: did, bus: 'connected', durability: 'os', inFlight: 0, writesPending: 0 } })
    const metrics = await node.metrics()
    expect(metric(metrics, 'cmesh_log_sequence')).toBe(health.body['sequence'])
    // The self-test went through the front door, refusals included.
    expect(metric(metrics, 'cmesh_replies_total', { status: '200' })).toBeGreaterThan(5)
    for (const status of ['400', '401', '403', '404', '405', '409']) expect(metric(metrics, 'cmesh_replies_total', { status })).toBeGreaterThan(0)
    for (const [name, { type, help }] of metrics) {
      expect({ name, help }).not.toEqual({ name, help: '' })
      expect({ name, counter: name.endsWith('_total') }).toEqual({ name, counter: type === 'counter' })
    }
    const mode = async (name: string): Promise<string> => ((await stat(path.join(node.dir, name))).mode & 0o777).toString(8)
    expect(await Promise.all(['node.key', 'node.lock', 'broker', 'mesh.json'].map(mode))).toEqual(['600', '600', '700', '644'])
    process.stdout.write(`idle RSS of the node: ${Math.round(node.rss / 1_048_576)} MiB\n`)

    const broker = node.brokerPid as number
    expect(isAlive(broker)).toBe(true)
    expect(await node.stop()).toEqual({ code: 0, signal: null })
    await expectGone(node)
    expect(node.failure).toBeUndefined()
    expect(node.stderr).not.toMatch(/"level":(40|50|60)/)
  })

  test('boots again on its data with everything acknowledged, after SIGTERM and after SIGKILL, and leaves no orphan', async () => {
    const operator = KeyPair.generate()
    const first = await room.start({ args: ['--operator', operator.did] })
    const { did, url } = first.descriptor
    const one = await client(first, { identity: operator })
    await one.call('0xSW:0x002:increment', { args: [40] })
    await one.register('kept.mcom', '0xS:0x001:hello_world')
    await one.publish('kept', 'once')
    const counted = (await one.call('0xS:0x002:get')).json<number>()
    await one.close()
    expect(await first.stop()).toEqual({ code: 0, signal: null })

    const second = await room.start({ dir: first.dir })
    expect(second.descriptor).toMatchObject({ did, url })
    const two = await client(second, { identity: operator })
    // The self-test counts one at each boot.
    expect((await two.call('0xS:0x002:get')).json()).toBe(counted + 1)
    const lost = two.call('0xSW:0x002:increment', { args: [2] }).then(async () => {
      const broker = second.brokerPid as number
      expect(await second.kill()).toEqual({ code: null, signal: 'SIGKILL' })
      await until('the broker went with its node', () => !isAlive(broker))
    })
    await lost
    expect(existsSync(path.join(second.dir, 'node.lock'))).toBe(true)
    await two.close()

    const third = await room.start({ dir: first.dir })
    expect(third.steps).toEqual(STEPS)
    expect(third.descriptor).toMatchObject({ did, url })
    const three = await client(third, { identity: operator })
    expect((await three.call('0xS:0x002:get')).json()).toBe(counted + 1 + 2 + 1)
    expect((await three.call('0xR:kept.mcom:["again"]')).json()).toBe('Hello, again')
    expect(await three.latest('kept')).toMatchObject({ data: 'once' })
    expect(await three.count('kept')).toBe(1)
  })

  test('that is told to stop while it boots stops, and leaves nothing', async () => {
    const node = await room.launch()
    await until('its broker runs', () => node.steps.includes('iam'))
    expect(await node.stop()).toEqual({ code: 0, signal: null })
    await expectGone(node)
  })
})

describe('a second node', () => {
  test('on the same data directory is refused, and the first goes on', async () => {
    const first = await room.start()
    const broker = first.brokerPid
    const second = await room.launch({ dir: first.dir })
    expect(await second.exited).toEqual({ code: 1, signal: null })
    expect(second.steps).toEqual(['data'])
    expect(second.failure).toEqual({
      code: 'CMESH_BOOT_DATA_IN_USE',
      message: `Boot stopped at step data: The data directory ${first.dir} is in use by process ${first.pid}. Stop that process first, or take another directory (--data, data.dir).`,
    })
    expect(first.brokerPid).toBe(broker)
    expect(JSON.parse(await readFile(path.join(first.dir, 'mesh.json'), 'utf8'))).toEqual(first.descriptor)
    expect((await (await client(first)).call('0xS:0x001:hello_world')).json()).toBe('Hello, world')
  })

  test('with mock consensus on the same broker is refused, and the first goes on', async () => {
    const broker = await external()
    const first = await room.start({ args: ['--nats-url', broker.url] })
    const second = await room.launch({ args: ['--nats-url', broker.url] })
    expect(await second.exited).toEqual({ code: 1, signal: null })
    expect(second.steps.at(-1)).toBe('state')
    expect(second.failure?.code).toBe('CMESH_CONSENSUS_SECOND_NODE')
    expect(second.failure?.message).toBe(`Boot stopped at step state: Another node (${first.descriptor.did}) orders the writes at this broker, `
      + 'and the mock provider of consensus serves one node alone. Stop one of the two, give this one a broker of its own, or let a stream order for both '
      + '(consensus.provider jetstream).')
    await expectGone(second)
    const asked = await client(first)
    expect((await asked.call('0xS:0x001:hello_world')).json()).toBe('Hello, world')
    expect((await asked.whoami())['mesh']).toBe(first.descriptor.did)
    expect(await first.stop()).toEqual({ code: 0, signal: null })
  })
})

describe('a step that fails names itself, undoes what was started and ends the process', () => {
  async function fail(launch: NodeLaunch, step: string, code: string, reason: RegExp): Promise<TestNode> {
    const node = await room.launch(launch)
    expect(await node.exited).toEqual({ code: 1, signal: null })
    expect(node.failure?.code).toBe(code)
    expect(node.failure?.message).toMatch(reason)
    expect(node.failure?.message.startsWith(`Boot stopped at step ${step}: `)).toBe(true)
    expect(node.stderr).toContain(`error ${code}: ${node.failure?.message ?? ''}\n`)
    expect(node.steps).toEqual(STEPS.slice(0, STEPS.indexOf(step) + 1))
    expect(node.stdout).toBe('')
    await expectGone(node)
    return node
  }

  test('a port for health that is taken; the same data boots once it is free', async () => {
    const server = createServer().listen(0, '127.0.0.1')
    servers.push(server)
    await until('the port is taken', () => server.listening)
    const { port } = server.address() as AddressInfo
    const { dir } = await fail({ args: ['--http-port', String(port)] }, 'http', 'CMESH_CONFIG_INVALID', /http\.port is not valid: listen EADDRINUSE/)
    server.close()
    await until('the port is free', () => !server.listening)
    const node = await room.start({ dir, args: ['--http-port', String(port)] })
    expect(node.descriptor.http).toBe(`http://127.0.0.1:${port}`)
  })

  test('a port for the broker that is taken', async () => {
    const server = createServer().listen(0, '127.0.0.1')
    servers.push(server)
    await until('the port is taken', () => server.listening)
    await fail({ args: ['--port', String((server.address() as AddressInfo).port)] }, 'bus', 'CMESH_BROKER_FAILED', /address already in use/)
  })

  test('a state log that is damaged', async () => {
    const dir = await room.dir()
    await (await room.start({ dir })).stop()
    const current = await open(path.join(dir, 'state', 'log', 'db', 'CURRENT'), 'r+')
    await current.write(Buffer.alloc(8), 0, 8, 0)
    await current.close()
    await fail({ dir }, 'state', 'CMESH_STATE_CORRUPT', /The state log in .* is damaged at block /)
  })

  test('a node key that others can read', async () => {
    const dir = await room.dir()
    await (await room.start({ dir })).stop()
    await chmod(path.join(dir, 'node.key'), 0o644)
    await fail({ dir }, 'data', 'CMESH_IAM_KEY', /node\.key can be read by others; run chmod 600 on it\.$/)
  })

  test.each([
    ['a provider that nobody knows', { set: { 'state.provider': 'nothing' } }, 'iam', 'CMESH_CONFIG_PROVIDER',
      /There is no state provider nothing\. Known: hypercore, mock\.$/],
    ['an identity provider that proves nothing and was not enabled', { set: { 'iam.provider': 'mock' } }, 'iam', 'CMESH_IAM_PROVIDER', /mock/],
    ['a broker binary that is missing', { env: { NATS_SERVER_BIN: '/nowhere/nats-server' } }, 'bus', 'CMESH_CONFIG_INVALID', /NATS_SERVER_BIN is not valid: /],
    ['a cluster that is not there', { args: ['--nats-url', 'nats://127.0.0.1:1'] }, 'bus', 'CMESH_BUS_CONNECT', /No broker can be used at /],
  ])('%s', async (_, launch, step, code, reason) => {
    await fail(launch, step, code, reason)
  })
})

describe('a setting that is wrong', () => {
  test('ends the process with code 2 before anything is touched', async () => {
    const wrong: [NodeLaunch, RegExp][] = [
      [{ set: { 'http.prot': 1 } }, /^error CMESH_CONFIG_UNKNOWN: The setting http\.prot is not known\. Known here: .*http\.port/],
      [{ env: { CMESH_HTTP_PROT: '1' } }, /^error CMESH_CONFIG_UNKNOWN: The setting CMESH_HTTP_PROT is not known\. Known here: .*CMESH_HTTP_PORT/],
      [{ args: ['--prot', '1'] }, /^error CMESH_CONFIG_INVALID: The setting the command line is not valid: .*--prot/],
      [{ args: ['--set', 'http.port'] }, /^error CMESH_CONFIG_INVALID: .*http\.port is not KEY=VALUE/],
    ]
    for (const [launch, stderr] of wrong) {
      const dir = path.join(await room.dir(), 'not made')
      const node = await room.launch({ dir, ...launch })
      expect(await node.exited).toEqual({ code: 2, signal: null })
      expect(node.stderr).toMatch(stderr)
      expect(node.steps).toEqual([])
      expect(existsSync(dir)).toBe(false)
    }
  })
})
