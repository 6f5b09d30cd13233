/**
 * A mesh of one node, its log written by CMesh 0.1.0 under mock consensus, goes over to a stream of a broker that is nobody's node's, with all
 * its data, and grows: whole nodes on real logs. Whatever interrupts it leaves the log with its stream, or without.
 */
import { fork } from 'node:child_process'
import { existsSync } from 'node:fs'
import { mkdtemp, rename, rm, writeFile } from 'node:fs/promises'
import os from 'node:os'
import path from 'node:path'
import { afterAll, afterEach, beforeAll, expect, test } from '@jest/globals'
import { jetstreamManager, type JetStreamManager } from '@nats-io/jetstream'
import { connect, KeyPair, type MeshClient } from '../../client/index.ts'
import { formatCertificate, issueCertificate } from '../../cmtp/identity/certificate.ts'
import { acceptLoss } from '../../node/archive/accept-loss.ts'
import { migrate, type Migrated } from '../../node/archive/migrate.ts'
import { verifyLog } from '../../node/archive/verify.ts'
import { resolveConfig } from '../../node/config.ts'
import { DataLock } from '../../node/data-lock.ts'
import { nodeIdentity } from '../../node/identity.ts'
import { CLAIM_FILE, readClaim, writeClaim } from '../../node/last-claim.ts'
import { MeshNode } from '../../node/node.ts'
import { connectNats, type NatsBus } from '../../providers/bus/nats.ts'
import { SILENT_LOG } from '../../services/log.ts'
import type { ClaimedPosition } from '../../services/state/last-claim.ts'
import { until } from '../client/support/until.ts'
import { ExternalBroker } from '../support/external-broker.ts'
import { OLD_DATA, unpackOldData } from '../support/old-data.ts'
import { failureOf } from '../support/iam.ts'
import { ROOT } from '../support/sources.ts'

const STREAM = 'CMESH_ORDER'
let broker: ExternalBroker
let bus: NatsBus
let manager: JetStreamManager
let root: string
let first: string
const nodes: MeshNode[] = []
const clients: MeshClient[] = []

beforeAll(async () => {
  [broker, root] = await Promise.all([ExternalBroker.start(), mkdtemp(path.join(os.tmpdir(), 'cmesh-test-migration-'))])
  bus = await connectNats({ servers: broker.url, onError: () => undefined })
  manager = await jetstreamManager(bus.connection)
  first = path.join(root, 'first')
  await unpackOldData(first)
})
afterEach(async () => {
  await Promise.all(clients.splice(0).map(client => client.close()))
  await Promise.all(nodes.splice(0).map(node => node.stop()))
})
afterAll(async () => {
  await bus.close()
  await broker.stop()
  await rm(root, { recursive: true, force: true })
})

const move = (settings: Readonly<Record<string, string>> = {}, dryRun = false): Promise<Migrated> => migrate(
  { dir: first, settings: { 'bus.url': broker.url, ...settings }, dryRun }, {}, () => {},
)

async function start(dir: string, settings: Readonly<Record<string, string>> = {}): Promise<MeshNode> {
  const node = new MeshNode({
    config: resolveConfig({ arguments: { 'data.dir': dir, 'bus.url': broker.url, 'consensus.provider': 'jetstream', ...settings }, env: {} }),
    log: SILENT_LOG, onHalt: error => { throw error },
  })
  await node.start()
  nodes.push(node)
  return node
}

const streams = async (): Promise<readonly string[]> => (await manager.streams.list().next()).map(({ config }) => config.name)
const described = async (): Promise<unknown> => JSON.parse((await manager.streams.info(STREAM)).config.description ?? '')

test('a log that no stream ordered does not go on under jetstream by itself: the error names the command', async () => {
  const refused = await start(first).catch((error: unknown) => error)
  expect(refused).toMatchObject({
    code: 'CMESH_CONSENSUS_NOT_MIGRATED', detail: { stream: STREAM, head: OLD_DATA.blocks, epoch: 0 },
    message: expect.stringMatching(/ `cmesh consensus migrate --data DIR` makes a stream that goes on behind the log in a new epoch, with all data\. /),
  })
  expect(await streams()).not.toContain(STREAM)
})

test('what is not to be moved stays as it is, and the error says why', async () => {
  const lock = new DataLock(first)
  await lock.acquire()
  expect(await failureOf(move)).toMatchObject({ code: 'CMESH_BOOT_DATA_IN_USE', detail: { pid: process.pid } })
  await lock.release()
  expect(await failureOf(() => migrate({ dir: path.join(root, 'nowhere'), settings: {}, dryRun: false }, {}, () => {}))).toMatchObject({ code: 'CMESH_STATE_NO_LOG' })

  const { did } = await nodeIdentity(first)
  const other = KeyPair.generate()
  const certificate = path.join(root, 'other.certificate')
  await writeFile(certificate, formatCertificate(issueCertificate(did, other, Date.now())))
  expect(await failureOf(() => move({ 'mesh.certificate': certificate }))).toMatchObject({
    code: 'CMESH_STATE_OTHER_MESH', message: `The log is that of the mesh ${OLD_DATA.mesh}, and this node was started for ${other.did}.`,
  })

  const chain = '0'.repeat(64)
  const subjects = ['cmesh.v1.order.CMESH_ORDER']
  await manager.streams.add({ name: STREAM, subjects, description: `{"base":${OLD_DATA.blocks},"chain":"${chain}","epoch":1,"order":1}` })
  expect(await failureOf(move)).toMatchObject({
    code: 'CMESH_CONSENSUS_STREAM_OTHER', message: expect.stringContaining(`it begins behind another log of ${OLD_DATA.blocks} entries. `),
  })
  await manager.streams.update(STREAM, { subjects, description: '{"base":0,"epoch":0,"order":1}' })
  expect(await failureOf(move)).toMatchObject({ code: 'CMESH_CONSENSUS_STREAM_SHORT', detail: { end: 0, head: OLD_DATA.blocks } })
  await manager.streams.delete(STREAM)

  const file = path.join(first, 'claim.json')
  await writeClaim(file, { epoch: 0, seq: OLD_DATA.blocks + 1, chain, timeMs: 0 })
  expect(await failureOf(move)).toMatchObject({ code: 'CMESH_STATE_BEHIND', detail: { head: OLD_DATA.blocks, claimed: OLD_DATA.blocks + 1 } })
  await rm(file)
  expect(await move({}, true)).toMatchObject({ what: 'make', newEpoch: 1, base: OLD_DATA.blocks, mesh: OLD_DATA.mesh, chain: OLD_DATA.chain })
  expect(await streams()).not.toContain(STREAM)
})

test('killed by SIGKILL before or behind its one step, it is done again from the beginning', async () => {
  const killed = async (when: () => boolean | Promise<boolean>): Promise<void> => {
    const ask = JSON.stringify({ dir: first, settings: { 'bus.url': broker.url }, dryRun: false })
    const child = fork(path.join(ROOT, 'dist', 'node', 'archive', 'main.js'), ['migrate', ask], { execArgv: [], stdio: 'ignore' })
    const gone = new Promise(resolve => { child.once('exit', resolve) })
    await until('it is so far', when, 30_000)
    child.kill('SIGKILL')
    await gone
  }
  await killed(() => existsSync(path.join(first, 'checkpoint')))
  if ((await streams()).includes(STREAM)) await manager.streams.delete(STREAM)
  await killed(async () => (await streams()).includes(STREAM))
  expect(await move()).toMatchObject({ what: 'there', newEpoch: 1, base: OLD_DATA.blocks })
  expect(await verifyLog(first, () => {})).toMatchObject({ epoch: 0, blocks: OLD_DATA.blocks, chain: OLD_DATA.chain })

  // A log that went on by itself has another end: the stream that nobody used is made anew behind it.
  const node = await start(first, { 'consensus.provider': 'mock' })
  await node.stop()
  const { seq, chain } = await verifyLog(first, () => {})
  expect(seq).toBeGreaterThan(OLD_DATA.blocks)
  expect(await failureOf(() => start(first))).toMatchObject({ cause: { code: 'CMESH_CONSENSUS_STREAM_OTHER' } })
  expect(await move()).toMatchObject({ what: 'replace', newEpoch: 2, base: seq })
  expect(await described()).toEqual({ base: seq, chain, epoch: 2, order: 1 })
})

test('it goes on in the new epoch; a second and a third node join by certificate, and each has all the data', async () => {
  const base = (await verifyLog(first, () => {})).seq
  const { did: mesh } = await nodeIdentity(first)
  const key = await nodeIdentity(first)
  await start(first)
  const dirs = [first]
  for (const name of ['second', 'third']) {
    const dir = path.join(root, name)
    const certificate = path.join(root, `${name}.certificate`)
    await writeFile(certificate, formatCertificate(issueCertificate((await nodeIdentity(dir)).did, key, Date.now())))
    await start(dir, { 'mesh.certificate': certificate })
    dirs.push(dir)
  }
  expect(await failureOf(move)).toMatchObject({ code: 'CMESH_BOOT_DATA_IN_USE' })
  const client = await connect({ url: broker.url, mesh, identity: KeyPair.generate(), timeoutMs: 30_000 })
  clients.push(client)
  // The self-test of each start counts on.
  expect((await client.call('0xS:0x002:get')).json()).toBeGreaterThanOrEqual(OLD_DATA.count)
  expect((await client.call('0xR:hello.mcom')).status).toBe(200)
  expect((await client.call(`0xS:${OLD_DATA.guestbook}:last`)).text()).toContain('line 6')
  const status = await client.status() as unknown as { readonly head: { readonly epoch: number }, readonly mesh: { readonly members: readonly unknown[] } }
  expect(status).toMatchObject({ head: { epoch: 2 }, durability: 'quorum-os', mesh: { quorum: 2 } })
  expect(status.mesh.members).toHaveLength(3)

  await Promise.all(nodes.splice(0).map(node => node.stop()))
  const logs = await Promise.all(dirs.map(dir => verifyLog(dir, () => {})))
  expect(logs.map(({ blocks, epoch }) => ({ more: blocks > base, epoch }))).toEqual(Array(3).fill({ more: true, epoch: 2 }))
  // Where one stopped before the others it holds the beginning of what they hold.
  const shortest = logs.reduce((one, log) => (log.seq < one.seq ? log : one))
  expect(logs.filter(log => log.seq === shortest.seq).every(log => log.chain === shortest.chain)).toBe(true)
  expect(dirs.map(dir => readClaim(dir)?.epoch)).toEqual([2, 2, 2])
  expect(await failureOf(move)).toMatchObject({
    code: 'CMESH_CONSENSUS_MIGRATED', message: `There is nothing to migrate: the stream ${STREAM} orders it in epoch 2, from sequence ${base + 1} on. Nothing was changed. Start the node with consensus.provider jetstream.`,
  })
}, 120_000)

test('a member of several whose log is not what it claimed says how it is rebuilt from the others, and that works', async () => {
  const [second, third] = ['second', 'third'].map(name => path.join(root, name)) as [string, string]
  const certified = (dir: string): Promise<MeshNode> => start(dir, { 'mesh.certificate': `${dir}.certificate` })
  const claim = readClaim(third) as ClaimedPosition
  await writeClaim(path.join(third, CLAIM_FILE), { ...claim, chain: '0'.repeat(64) })
  const others = Promise.all([start(first), certified(second)])
  expect(await failureOf(() => certified(third))).toMatchObject({
    cause: { code: 'CMESH_STATE_FORKED', message: expect.stringContaining(' Among other members, rebuild it from them: move state/ and claim.json in DIR aside and start it. ') },
  })
  expect(await failureOf(() => acceptLoss({ dir: third, alone: false }, 0, () => {}))).toMatchObject({ code: 'CMESH_CONSENSUS_NOT_ALONE' })
  for (const name of ['state', CLAIM_FILE]) await rename(path.join(third, name), path.join(third, `${name}.aside`))
  await others
  await certified(third)
  await Promise.all(nodes.splice(0).map(node => node.stop()))
  const [old, mended] = await Promise.all([verifyLog(second, () => {}), verifyLog(third, () => {})])
  expect(mended).toMatchObject({ mesh: old.mesh, members: 3, epoch: 2 })
  expect(mended.seq).toBeGreaterThanOrEqual(claim.seq)
  expect(mended.logKey).not.toBe(old.logKey)
  expect(readClaim(third)).toMatchObject({ seq: mended.seq, chain: mended.chain })
}, 120_000)

test('a member of several does not go on alone under mock, unless the others are given up', async () => {
  const before = await verifyLog(first, () => {})
  const alone = (): Promise<MeshNode> => start(first, { 'consensus.provider': 'mock' })
  const refused = {
    code: 'CMESH_CONSENSUS_ALONE', detail: { count: 2 }, message: expect.stringContaining(' `cmesh consensus accept-loss --data DIR --alone`, and then start it.'),
  }
  expect(await failureOf(alone)).toMatchObject({ cause: refused })
  // It said nothing, and changed nothing: the next start says the same.
  expect(await failureOf(alone)).toMatchObject({ cause: refused })
  expect(await verifyLog(first, () => {})).toMatchObject({ seq: before.seq, chain: before.chain })

  // Of several members one alone is no way on, but where that is meant.
  const file = readClaim(first)
  await expect(acceptLoss({ dir: first, alone: false }, 0, () => {})).rejects.toMatchObject({ code: 'CMESH_CONSENSUS_NOT_ALONE', detail: { path: first, count: 2 } })
  expect(readClaim(first)).toEqual(file)
  expect(await acceptLoss({ dir: first, alone: true }, 0, () => {})).toMatchObject({ seq: before.seq, newEpoch: 3 })
  const node = await alone()
  await node.stop()
  const after = await verifyLog(first, () => {})
  expect(after).toMatchObject({ epoch: 3 })
  expect(after.seq).toBeGreaterThan(before.seq)
  // From now on the order is its own.
  await alone()
}, 120_000)
