/**
 * `cmesh up --nodes`, as a user starts it: three brokers and three nodes in processes of their own, which go on when one of them dies, come back,
 * are restarted one at a time while requests go on, are joined by a node that is started elsewhere, and end together.
 */
import { readFileSync } from 'node:fs'
import path from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals'
import { SteadyLoad } from '../../bench/steady-load.ts'
import { connect } from '../../client/connect.ts'
import type { MeshClient } from '../../client/mesh-client.ts'
import { KeyPair } from '../../cmtp/identity/keys.ts'
import { isSigned } from '../../cmtp/receipt/root.ts'
import { verifyReceipt } from '../../cmtp/receipt/verify.ts'
import { CliHome, type CliRun } from '../client/support/cli-process.ts'
import { until } from '../client/support/until.ts'
import { isAlive, NodeRoom } from '../support/node-process.ts'

interface Part {
  readonly name: string
  readonly pid?: number
  readonly http?: string
  readonly did?: string
}

interface Descriptor {
  readonly url: string
  readonly did: string
  readonly pid: number
  readonly parts: readonly Part[]
}

/** TEST_LONG=1 for five. */
const NODES = process.env['TEST_LONG'] === '1' ? 5 : 3
const QUORUM = Math.floor(NODES / 2) + 1
const BROKERS = 3
/** A start with streams waits for elections, and a machine that runs many tests takes its time. */
const START_MS = 110_000
/** Requests a second while parts of it come and go. */
const PER_SECOND = 100
const operator = KeyPair.generate()

let home: CliHome
let up: CliRun
let client: MeshClient
let first: Descriptor

const descriptor = (): Descriptor => JSON.parse(readFileSync(path.join(home.directory, 'mesh', 'mesh.json'), 'utf8')) as Descriptor
const shown = async (): Promise<readonly Part[]> => (await home.json('cluster', 'show') as { parts: readonly Part[] }).parts
const nodesOf = (parts: readonly Part[]): Part[] => parts.filter(({ name }) => name.startsWith('node-'))
const pidsOf = (parts: readonly Part[]): number[] => parts.flatMap(({ pid }) => (pid === undefined ? [] : [pid]))
/** Each boot of a node adds one too, in its self-test. */
const increment = async (): Promise<number> => (await client.call('0xSW:0x002:increment', { timeoutMs: 60_000 })).json<number>()

async function start(by = operator.did, ...settings: readonly string[]): Promise<void> {
  up = home.start(['up', '--nodes', String(NODES), '--operator', by, ...settings.flatMap(each => ['--set', each])])
  await until('the cluster is ready', () => {
    if (up.child.exitCode !== null || up.child.signalCode !== null) throw new Error(`it ended: ${up.stderr}`)
    return up.stdout.includes('Ctrl-C drains')
  }, START_MS)
}

/** Which nodes answer, of many requests; each says so in the layers of its reply. */
async function answering(count: number): Promise<Set<string>> {
  const replies = await Promise.all(Array.from({ length: count }, () => client.call('0xS:0x001:hello_world', { receipt: 'full' })))
  return new Set(replies.flatMap(reply => reply.layers().map(({ node }) => node)))
}

/** Asks all the while, half of it writes, from three connections: not one request fails, and each write is done once. `boots`: nodes that `work` starts. */
async function underLoad(boots: number, work: () => Promise<void>): Promise<void> {
  const options = { url: first.url, mesh: first.did, identity: operator, timeoutMs: 30_000, coalesce: false, onWarning: () => undefined }
  const clients = await Promise.all([1, 2, 3].map(() => connect(options)))
  const load = new SteadyLoad({ clients, perSecond: PER_SECOND })
  try {
    await load.start('all of it')
    await work()
    await load.stop()
    expect([...load.phases[0]?.failures ?? []]).toEqual([])
    const { acknowledged, ...verdict } = await load.verdict(boots)
    expect(verdict).toEqual({ lost: 0, duplicated: 0, events: 0 })
    expect(acknowledged).toBe(load.phases[0]?.writes)
  } finally {
    await load.stop()
    await Promise.all(clients.map(each => each.close()))
  }
}

beforeAll(async () => {
  home = await CliHome.make()
  await start()
  first = descriptor()
  client = await connect({ url: first.url, mesh: first.did, identity: operator, timeoutMs: 30_000, coalesce: false, onWarning: () => undefined })
}, START_MS + 10_000)

afterAll(async () => {
  await client?.close()
  up?.child.kill('SIGTERM')
  await up?.result
  const left = pidsOf(first?.parts ?? []).filter(isAlive)
  for (const pid of left) process.kill(pid, 'SIGKILL')
  await home.close()
  expect(left).toEqual([])
}, START_MS)

describe('a cluster', () => {
  test('says where it is, and which process is which', async () => {
    expect(first.url.split(',')).toHaveLength(BROKERS)
    expect(first.parts.map(({ name }) => name)).toEqual(['broker-1', 'broker-2', 'broker-3', ...Array.from({ length: NODES }, (_, i) => `node-${i + 1}`)])
    expect(pidsOf(first.parts).filter(isAlive)).toHaveLength(BROKERS + NODES)
    expect(await shown()).toEqual(first.parts)
    const { mesh, nodes } = await home.json('mesh', 'did') as { mesh: string, nodes: { did: string }[] }
    expect([mesh, nodes.map(({ did }) => did)]).toEqual([first.did, nodesOf(first.parts).map(({ did }) => did)])
    expect(up.stdout).toContain(`mesh      ${first.did}`)
  })

  test('reads and writes, and its requests spread over its nodes', async () => {
    const before = await increment()
    expect(await increment()).toBe(before + 1)
    // Whichever node answers shows a client its own writes, and everybody's, where it is asked to.
    for (let i = 2; i < 12; i++) {
      expect(await increment()).toBe(before + i)
      for (const read of ['session', 'linear'] as const) expect((await client.call('0xS:0x002:get', { timeoutMs: 30_000, read })).json()).toBe(before + i)
    }
    const dids = nodesOf(first.parts).map(({ did }) => did)
    const answered = await answering(60)
    expect([...answered].filter(did => !dids.includes(did))).toEqual([])
    expect(answered.size).toBeGreaterThan(1)
  })

  test('gives a receipt with a write that each of its members claims', async () => {
    const held = async (): Promise<Extract<ReturnType<typeof verifyReceipt>, { valid: true }>> => {
      const reply = await client.call('0xSW:0x002:increment', { receipt: 'full', timeoutMs: 60_000 })
      const verdict = verifyReceipt(reply.receiptBytes() ?? Buffer.alloc(0), first.did)
      if (!verdict.valid) throw verdict.error
      return verdict
    }
    // One that is late is left out.
    let verdict = await held()
    await until('all have claimed one', async () => verdict.claims.length === NODES || (verdict = await held()).claims.length === NODES)
    const { claims, receipt, layers } = verdict
    expect(claims.map(({ member }) => member).sort()).toEqual(nodesOf(first.parts).map(({ did }) => did).sort())
    expect(receipt.evidence).toMatchObject({ version: 2, members: NODES })
    expect(claims.map(({ seq }) => seq)).toEqual(claims.map(() => layers[0]?.after?.seq))
  })

  test('streams the roots of each node to who may read them, and to nobody else', async () => {
    const guest = await connect({ url: first.url, mesh: first.did, identity: KeyPair.generate(), timeoutMs: 30_000, onWarning: () => undefined })
    const streams = new Set<string>()
    const roots = await client.subscribe('audit', ({ data }) => {
      const { node, log, roots: records } = JSON.parse(String(data)) as { node: string, log: string, roots: { record: string }[] }
      for (const { record } of records) expect(isSigned(Buffer.from(record, 'base64url'))).toBe(true)
      streams.add(`${node} ${log}`)
    })
    try {
      await expect(guest.subscribe('audit', () => undefined)).rejects.toMatchObject({ code: 'CMESH_IAM_DENIED' })
      await until('each node was heard', async () => (await answering(20), streams.size === NODES))
    } finally {
      await Promise.all([roots.close(), guest.close()])
    }
  })

  test('gives a receipt whichever of its nodes answered, to who asked then and to the operator, by any node', async () => {
    const guest = await connect({ url: first.url, mesh: first.did, identity: KeyPair.generate(), timeoutMs: 30_000, onWarning: () => undefined })
    try {
      const made = await Promise.all(Array.from({ length: 12 }, () => client.call('0xS:0x001:hello_world', { receipt: 'full' })))
      const owners = new Set<string>()
      for (const { id } of made) {
        for (let asked = 0; asked < 3; asked++) {
          const { body } = await client.call(`0xC:receipt:${id}`)
          const verdict = verifyReceipt(body, first.did)
          expect(verdict).toMatchObject({ valid: true, receipt: { status: 200 } })
          if (verdict.valid) owners.add(verdict.root.node)
        }
        expect((await guest.call(`0xC:receipt:${id}`, { throwOnError: false })).error()?.code).toBe('CMESH_AUDIT_NO_RECEIPT')
      }
      expect(owners.size).toBeGreaterThan(1)
      const { id } = await guest.call('0xS:0x001:hello_world', { receipt: 'full' })
      for (let asked = 0; asked < 6; asked++) expect([(await client.call(`0xC:receipt:${id}`)).status, (await guest.call(`0xC:receipt:${id}`)).status]).toEqual([200, 200])
    } finally {
      await guest.close()
    }
  })

  test('shows each member in its status', async () => {
    const { consensus } = await home.json('status') as { consensus: { mesh: { members: { did: string }[], quorum: number } } }
    expect(consensus.mesh.members.map(({ did }) => did).sort()).toEqual(nodesOf(first.parts).map(({ did }) => did).sort())
    expect(consensus.mesh.quorum).toBe(QUORUM)
  })

  test.each([
    ['a second supervisor', ['up', '--nodes', String(NODES)], 'CMESH_BOOT_DATA_IN_USE', 'is in use by process'],
    ['a mesh of one node', ['up'], 'CMESH_CLUSTER_DATA', 'it holds a mesh of several nodes: start it with --nodes, as it was made.'],
    ['fewer nodes', ['up', '--nodes', '2'], 'CMESH_CONFIG_INVALID', 'it is 1, 3 or 5, not 2'],
  ])('lets %s not start in its directory', async (_, args, code, says) => {
    const { code: exit, stderr } = await home.run(args)
    expect(exit).toBeGreaterThan(0)
    expect(stderr).toContain(`error ${code}: `)
    expect(stderr).toContain(says)
  })

  test('goes on when as many nodes are killed as may be, which come back and catch up: what they had taken others answer, and no request fails', async () => {
    const victims = nodesOf(first.parts).slice(QUORUM)
    const pids = pidsOf(victims)
    // Never of 0, which is every process of this test's own group.
    if (pids.length !== NODES - QUORUM) throw new Error('there are no such nodes')
    await underLoad(victims.length, async () => {
      for (const pid of pids) process.kill(pid, 'SIGKILL')
      for (const { name, did = '' } of victims) {
        await until(`${name} is back`, async () => (await shown()).some(part => part.name === name && part.http !== undefined && !pids.includes(part.pid ?? 0)), START_MS)
        await until('it answers again', async () => (await answering(20)).has(did), START_MS)
      }
    })
    // What others read says who runs now, too.
    await until('the descriptor names them', async () => JSON.stringify(descriptor().parts) === JSON.stringify(await shown()), START_MS)
    for (const { name } of victims) expect(up.stderr).toContain(`${name} ended with SIGKILL; it is started again in 100 ms`)
  }, 2 * START_MS)

  test('restarts each node and each broker in turn, while requests go on: none fails, none is lost, none is done twice', async () => {
    const before = await shown()
    await underLoad(NODES, async () => { expect(await home.run(['cluster', 'restart', '--json'])).toMatchObject({ code: 0 }) })
    const after = await shown()
    await until('the descriptor says who runs now', () => JSON.stringify(descriptor().parts) === JSON.stringify(after), START_MS)
    expect(after.map(({ name, did }) => [name, did])).toEqual(before.map(({ name, did }) => [name, did]))
    expect(pidsOf(after).filter(pid => pidsOf(before).includes(pid))).toEqual([])
  }, 4 * START_MS)

  test('takes in a node that the mesh\'s key certified and nobody here supervises, which no client is told, and lets it go', async () => {
    const files = path.join(home.directory, 'mesh', 'cluster')
    const members = async (): Promise<readonly string[]> =>
      (await client.status() as { mesh: { members: { did: string }[] } }).mesh.members.map(({ did }) => did)
    const room = new NodeRoom()
    try {
      const dir = await room.dir()
      const { node: did } = await home.json('mesh', 'init', '--data', dir) as { node: string }
      const certificate = path.join(dir, 'certificate')
      expect(await home.run(['mesh', 'certify', did, '--key', path.join(files, 'mesh', 'mesh.key'), '--out', certificate])).toMatchObject({ code: 0 })
      const node = await room.start({ dir, set: {
        'bus.url': first.url, 'bus.accounts': path.join(files, 'operator', 'node.json'), 'mesh.certificate': certificate,
        'consensus.provider': 'jetstream', 'consensus.replicas': 3, 'events.replicas': 3,
      } })
      expect(await members()).toEqual(expect.arrayContaining([...nodesOf(first.parts).map(part => part.did), did]))
      await until('it answers its share', async () => (await answering(20)).has(did), START_MS)
      expect(await node.health()).toMatchObject({ code: 200, body: { status: 'ok' } })
      await client.call(`0xSW:0x000:leave:["${did}"]`)
      await until('it is no member', async () => !(await members()).includes(did))
      await until('it says so', async () => (await node.health()).body['status'] === 'degraded')
      expect(await node.health()).toMatchObject({ code: 200, body: { reason: 'This node is no member of the mesh, so that nothing it proposes counts: the log does not list it.' } })
      expect((await node.stop()).code).toBe(0)
    } finally {
      await room.close()
    }
  }, START_MS)

  test('ends with its supervisor when that is killed, and the next start is the same mesh with its data, and with what is granted anew', async () => {
    const written = await increment()
    const pids = pidsOf(await shown())
    process.kill(descriptor().pid, 'SIGKILL')
    expect((await up.result).code).not.toBe(0)
    await until('all of it is gone', () => !pids.some(isAlive), START_MS)
    const stranger = KeyPair.generate().did
    // Each node orders the grant before it serves anybody, and nothing before it has heard the others.
    await start(stranger, `iam.grants=${stranger}=write 0xSW:0x002:>`)
    const granted = await client.call(`0xI:grants:["${stranger}"]`, { timeoutMs: 60_000 })
    expect(granted.json()).toMatchObject({ grants: [{ perm: 'write 0xSW:0x002:>' }] })
    expect(descriptor()).toMatchObject({ did: first.did, url: first.url })
    // Who operates it is in its log, whoever starts it.
    expect(up.stdout).toContain(`operator  ${operator.did}\n`)
    expect(up.stderr).toContain(`warning CMESH_BOOT_OPERATOR: The operator of this mesh is ${operator.did}, as its log has it, and not ${stranger}.`)
    expect(await increment()).toBe(written + NODES + 1)
  }, 2 * START_MS)

  test('drains and ends on Ctrl-C, all of it', async () => {
    const pids = pidsOf(await shown())
    up.child.kill('SIGINT')
    expect((await up.result).code).toBe(0)
    expect(pids.filter(isAlive)).toEqual([])
  }, START_MS)
})
