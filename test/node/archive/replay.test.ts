/** Receipts of what the real front door answered, replayed on the log that the real store wrote: across a restart, a snapshot and other code. */
import { cp, mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import os from 'node:os'
import path from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals'
import { keepReceipt, WITNESS } from '../../../client/cli/receipt-files.ts'
import { readReply, type Reply } from '../../../client/reply.ts'
import { redactReceipt } from '../../../cmtp/receipt/receipt.ts'
import { verifyReceipt } from '../../../cmtp/receipt/verify.ts'
import { decodeWitness } from '../../../cmtp/receipt/witness.ts'
import { KeyPair } from '../../../cmtp/identity/keys.ts'
import type { Session } from '../../../cmtp/identity/login.ts'
import { encodePackage, packageManifest } from '../../../cmtp/package.ts'
import { replayReceipts, type ReplayAnswer, type ReplayAsk, type ReplayedReceipt } from '../../../node/archive/replay.ts'
import { withLog } from '../../../node/archive/source.ts'
import { loneEngine } from '../../../node/lone-engine.ts'
import { MockAuditLog } from '../../../providers/audit/mock.ts'
import { HypercoreStateStore } from '../../../providers/state/hypercore.ts'
import { LogCheck } from '../../../providers/state/log-check.ts'
import { Past, type RunAgain } from '../../../services/replay/past.ts'
import { decodeBlock } from '../../../services/state/block.ts'
import { until } from '../../client/support/until.ts'
import { contractModule } from '../../support/contract-module.ts'
import { startMesh, type AskFields, type TestMesh } from '../../support/mesh.ts'
import { unpackOldData } from '../../support/old-data.ts'
import { deploymentOf } from '../../support/replica.ts'

const MESH = KeyPair.fromSeed(Buffer.alloc(32, 0x61))

const TALLY_ABI = JSON.stringify({ abi: 1, sdk: 'none', events: [], functions: [{ name: 'f', mode: 'write', params: [], returns: 'void' }] })

let dir: string
let data: string
let mesh: TestMesh
let session: Session
beforeAll(async () => {
  dir = await mkdtemp(path.join(os.tmpdir(), 'cmesh-replay-'))
  data = path.join(dir, 'mesh')
  await mkdir(file('spam'))
  await start()
})
afterAll(async () => {
  await mesh.stop()
  await rm(dir, { recursive: true, force: true })
})

function file(name: string): string {
  return path.join(dir, name)
}

async function start(): Promise<void> {
  mesh = await startMesh({
    key: MESH, auditLog: new MockAuditLog({ maxBytes: 1024 ** 3, maxAgeMs: 1e9 }),
    state: { store: new HypercoreStateStore({ dir: path.join(data, 'state'), snapshotWrites: 40 }) },
  })
  session = await mesh.open()
}

async function ask(who: Session | undefined, fqmn: string, fields: AskFields = {}): Promise<Reply> {
  const asked = mesh.frame(who, fqmn, { ...fields, receipt: 'full' })
  const origin = { sid: who?.sid ?? 'nobody', via: undefined, replySubject: '' }
  return readReply(await new Promise<Buffer>(resolve => { mesh.frontDoor.handle(asked, origin, resolve) }), asked, 'full')
}

/** Asks, and keeps receipt and witness under a name. */
async function kept(name: string, who: Session | undefined, fqmn: string, fields?: AskFields): Promise<string> {
  const at = file(`${name}.receipt`)
  expect(await keepReceipt(await ask(who, fqmn, fields), { file: at, witness: at + WITNESS })).toBe(true)
  return at
}

const replayed = (files: readonly string[], more: Partial<ReplayAsk> = {}): Promise<ReplayAnswer> =>
  replayReceipts({ dir: data, files, ...more }, () => undefined)
const verdictOf = async (at: string, more?: Partial<ReplayAsk>): Promise<ReplayedReceipt> => (await replayed([at], more)).receipts[0] as ReplayedReceipt
const tally = ({ receipts }: ReplayAnswer): Record<string, number> => {
  const counts: Record<string, number> = {}
  for (const { verdict } of receipts) counts[verdict] = (counts[verdict] ?? 0) + 1
  return counts
}

const CHANNEL = 'events.state.contracts.0x002.incremented'
const INCREMENTED = `0xE:${CHANNEL}:read`
/** Reads and writes of contracts, of their events and of the mesh's own records, by address and by name, that succeed and that fail. */
const MIX: readonly string[] = [
  '0xSW:0x002:increment:["3"]', '0xS:0x002:get', '0xSW:0x002:increment', '0xR:hello.mcom:["you"]', '0xRW:counter.mcom:increment:["2"]',
  '0xS:0x002', '0xSW:0x002:increment:["none"]', '0xS:0x000:get:["0x002","76616c7565"]', INCREMENTED, '0xS:0x000:versions:["0x002"]',
]

/** What anybody may ask. */
const OPEN: ReadonlySet<string> = new Set(MIX.filter(fqmn => !/^0x[SR]W|:get:/.test(fqmn)))

/** Writes once, and waits for the event of it. */
async function incremented(): Promise<Reply> {
  const written = await ask(mesh.root, '0xSW:0x002:increment:["1"]')
  await mesh.outbox.flush()
  return written
}

async function spam(count: number, round: string): Promise<void> {
  await incremented()
  const asked = Array.from({ length: count }, async (_, i) => {
    const fqmn = MIX[i % MIX.length] as string
    const at = file(`spam/${round}-${String(i).padStart(4, '0')}.receipt`)
    await keepReceipt(await ask(i % 2 === 1 && OPEN.has(fqmn) ? session : mesh.root, fqmn), { file: at, witness: at + WITNESS })
  })
  await Promise.all(asked)
}

describe('1,000 receipts of reads and writes', () => {
  test('replay to what was recorded, across a restart and a snapshot, in one pass', async () => {
    await mesh.register(mesh.root, mesh.operator, 'hello.mcom', '0xS:0x001:hello_world')
    await mesh.register(mesh.root, mesh.operator, 'counter.mcom', '0xS:0x002')
    for (let round = 0; round < 8; round++) await spam(100, `a${round}`)
    await until('there is a snapshot', async () => (await readdir(path.join(data, 'state', 'snapshots'))).some(name => name.endsWith('.snapshot')))
    await mesh.stop()
    await start()
    await spam(200, 'b')
    // While it runs.
    const running = await replayed([file('spam')])
    expect(running.receipts.filter(({ verdict }) => verdict !== 'identical')).toEqual([])
    expect(tally(running)).toEqual({ identical: 1_000 })
    expect(running.blocks).toBeLessThanOrEqual(mesh.state.head.seq)
    // And what is in them is not all one.
    const layers = running.receipts.flatMap(receipt => receipt.verdict === 'none' ? [] : receipt.layers.map(({ hop, outcome }) => `${hop} ${outcome}`))
    expect([...new Set(layers)].sort()).toEqual(['events same', 'registrar same', 'router verified', 'state same'])
  })

  test('of a contract that was changed differ in its layer, and no other does', async () => {
    const module = contractModule('(func (export "call_increment")) (func (export "call_get"))', {
      abi: JSON.stringify({ abi: 1, sdk: 'none', events: [], functions: [
        { name: 'increment', mode: 'write', params: [], returns: 'void' }, { name: 'get', mode: 'view', params: [], returns: 'void' },
      ] }),
    })
    const code = file('counter.cmpk')
    await writeFile(code, encodePackage({
      salt: Buffer.alloc(16), strategy: 'replaceable', manifest: packageManifest({ name: 'counter', version: '9.9.9' }), init: Buffer.alloc(0), module,
    }))
    const { receipts } = await replayed([file('spam')], { code: { file: code } })
    const differ = receipts.flatMap(receipt => receipt.verdict === 'differs' ? [receipt] : [])
    expect(tally({ receipts, blocks: 0 })).toEqual({ identical: 300, differs: 700 })
    for (const { layers, layer = -1, address } of differ) expect(layers[layer]).toMatchObject({ hop: address === INCREMENTED ? 'events' : 'state', outcome: 'differs' })
    // What stood before it, the Registrar's, is as it was; what comes behind it was not looked at.
    expect(differ.find(({ address, layer }) => address === '0xSW:0x002:increment' && layer === 1)?.layers.map(({ outcome }) => outcome)).toEqual(['same', 'differs', 'unseen'])
    const read = differ.find(({ address }) => address === '0xS:0x002:get')
    expect(read?.differences).toEqual([
      { part: 'gas', recorded: expect.stringMatching(/^\d+$/), replayed: expect.stringMatching(/^\d+$/) },
      { part: 'result', recorded: expect.stringMatching(/^\d+$/), replayed: '' },
    ])
    // By its address, or a name that it has.
    const few = [0, 1, 2, 3].map(i => file(`spam/a0-000${i}.receipt`))
    for (const contract of ['0x002', 'counter.mcom']) expect(tally(await replayed(few, { code: { file: code, contract } }))).toEqual({ differs: 3, identical: 1 })
    expect((await replayed(few, { code: { file: code, contract: `0x${'ab'.repeat(32)}` } })).receipts[0]).toMatchObject({ error: { code: 'CMESH_STATE_NO_CONTRACT' } })
  })
})

describe('a receipt', () => {
  test('of a write replays without its witness, of a read does not', async () => {
    const write = await kept('write', mesh.root, '0xSW:0x002:increment:["4"]')
    const read = await kept('read', session, '0xS:0x002:get')
    await Promise.all([rm(write + WITNESS), rm(read + WITNESS)])
    expect(await verdictOf(write)).toMatchObject({ verdict: 'identical', witnessed: false, address: '0xSW:0x002:increment' })
    expect(await verdictOf(read)).toMatchObject({
      verdict: 'none', error: { code: 'CMESH_RECEIPT_NOT_REPLAYABLE', message: expect.stringContaining('keep FILE.witness beside the receipt, or name it by --witness') },
    })
  })

  test('of a deployment replays, and so does what the new contract is asked, after it was replaced too', async () => {
    const version = (adds: number): Uint8Array => contractModule(`
      (data (i32.const 0) "n")
      (func (export "call_f") (i32.store8 (i32.const 64) (i32.add (i32.load8_u (i32.const 64)) (i32.const ${adds})))
        (call $set (i32.const 0) (i32.const 1) (i32.const 64) (i32.const 1)))`, { abi: TALLY_ABI })
    const deployed = await kept('deploy', mesh.root, '0xSW:0x000:deploy', { body: deploymentOf(version(1), { strategy: 'replaceable' }, mesh.operator) })
    const { address } = JSON.parse(await readFile(deployed + WITNESS, 'latin1').then(text => /\{"address".*\}/.exec(text)?.[0] ?? '')) as { address: string }
    const first = await kept('first', mesh.root, `0xSW:${address}:f`)
    const second = await kept('second', mesh.root, `0xSW:${address}:f`)
    expect(tally(await replayed([second, deployed, first]))).toEqual({ identical: 3 })
  })

  test.each<[string, () => Promise<string>, string]>([
    ['a denial', () => kept('denied', undefined, '0xS:0x002:get'), 'it was denied, and a denial is verified, not run again'],
    ['a key that is not the caller\'s to read', () => kept('key', session, '0xS:0x000:get:["0x002","76616c7565"]'), 'it was denied'],
    ['an event of a request', async () => {
      const { id } = await ask(mesh.root, '0xEW:orders:ten')
      const told = await kept('event', mesh.root, '0xE:orders:read')
      expect(await readFile(told + WITNESS, 'latin1')).toContain(`"origin":{"request":"${id}"}`)
      return told
    }, 'whose receipt says by whom: cmesh receipt find '],
    ['what published an event', () => kept('published', mesh.root, '0xEW:orders:eleven'), 'the events answered it, whose answer is not made of the state of the log'],
    ['an event of the mesh itself', async () => {
      await mesh.events.publish('audit', Buffer.from('{}'))
      return kept('root', mesh.root, '0xE:audit:read')
    }, 'the event does not say which request it came from'],
    ['a range of events', () => kept('range', session, `0xE:${CHANNEL}:range`), 'only an event that was read by itself is traced to the transaction that emitted it, and this is range'],
    ['an event without its witness', async () => {
      const read = await kept('unwitnessed', session, INCREMENTED)
      await rm(read + WITNESS)
      return read
    }, 'keep FILE.witness beside the receipt'],
    ['who somebody is', () => kept('whoami', session, '0xI:whoami'), 'the iam answered it'],
    ['a write that nobody could order', () => kept('refused', mesh.root, '0xSW:0x002:nosuch'), 'it was refused before it came to state'],
    ['the log itself', () => kept('log', session, '0xS:0x000:at:["0x000","6d65746572",1]'), 'tells of more than the state of that moment'],
  ])('of %s leaves nothing to run', async (_, make, says) => {
    expect(await verdictOf(await make())).toMatchObject({ verdict: 'none', error: { code: 'CMESH_RECEIPT_NOT_REPLAYABLE', message: expect.stringContaining(says) } })
  })

  test('of an event of a contract runs the transaction that emitted it, and shows an event that it does not emit', async () => {
    const written = await incremented()
    const [tx, block] = [written.id, Number(written.header('x-cmesh-sequence'))]
    expect(await verdictOf(await kept('emitted', session, INCREMENTED))).toMatchObject({
      verdict: 'identical', seq: block, layers: [{ hop: 'events', outcome: 'same' }, { hop: 'router', outcome: 'verified' }],
    })
    // By a name that was free when the transaction ran.
    await mesh.register(mesh.root, mesh.operator, 'later.mcom', '0xS:0x002')
    expect(await verdictOf(await kept('by-name', session, '0xE:0xR:later.mcom:incremented:read'))).toMatchObject({
      verdict: 'identical', layers: [{ hop: 'registrar', outcome: 'verified' }, { hop: 'events', outcome: 'same' }, { hop: 'router', outcome: 'verified' }],
    })
    // What a node makes up, by an origin that is true, by those of another event, block and transaction, and by one that is not there yet.
    const made = async (name: string, origin: object): Promise<ReplayedReceipt> => {
      await mesh.events.publish(CHANNEL, Buffer.from('made up'), { origin: { request: tx, block, index: 0, ...origin } })
      return verdictOf(await kept(name, session, INCREMENTED))
    }
    const emitted = { channel: CHANNEL, data: expect.stringMatching(/^\d+$/) }
    const differs = (replayed: unknown): object => ({ verdict: 'differs', layer: 0, differences: [{ part: 'events', recorded: [{ channel: CHANNEL, data: 'made up' }], replayed }] })
    expect(await made('true-origin', {})).toMatchObject(differs([emitted]))
    expect(await made('other-index', { index: 1 })).toMatchObject(differs([]))
    expect(await made('other-block', { block: block - 1 })).toMatchObject(differs([]))
    expect(await made('other-tx', { request: 'ab'.repeat(16) })).toMatchObject(differs([]))
    expect(await made('no-block', { block: block + 100_000 })).toMatchObject({ verdict: 'none', error: { code: 'CMESH_RECEIPT_OTHER_LOG' } })
  })

  test('whose layers are kept back, or that does not hold, is told so', async () => {
    const whole = await kept('whole', session, '0xS:0x002:get')
    const bytes = await readFile(whole)
    await writeFile(file('redacted.receipt'), redactReceipt(bytes, i => i === 0))
    await cp(whole + WITNESS, file('redacted.receipt') + WITNESS)
    expect(await verdictOf(file('redacted.receipt'))).toMatchObject({ error: { code: 'CMESH_RECEIPT_NOT_REPLAYABLE', message: expect.stringContaining('one of those kept back') } })
    await writeFile(file('bent.receipt'), bytes.map((byte, i) => i === 40 ? byte ^ 1 : byte))
    expect(await verdictOf(file('bent.receipt'))).toMatchObject({ error: { code: 'CMESH_RECEIPT_INVALID' } })
    await writeFile(file('none.receipt'), 'none')
    expect(await verdictOf(file('none.receipt'))).toMatchObject({ error: { code: 'CMESH_RECEIPT_FORMAT' } })
    await expect(replayed([file('absent.receipt')])).rejects.toMatchObject({ code: 'CMESH_CLIENT_USAGE', message: expect.stringContaining('absent.receipt cannot be read') })
    await expect(replayed([whole], { dir: file('nowhere') })).rejects.toMatchObject({ code: 'CMESH_STATE_NO_LOG' })
  })

  test('a directory is replayed but for what in it cannot be read, which is told so in its place', async () => {
    const mixed = file('mixed')
    const whole = await kept('in-a-directory', session, '0xS:0x002:get')
    await mkdir(path.join(mixed, 'a.receipt'), { recursive: true })
    for (const name of ['b.receipt', 'c.receipt']) await cp(whole, path.join(mixed, name))
    await mkdir(path.join(mixed, `b.receipt${WITNESS}`))
    await cp(whole + WITNESS, path.join(mixed, `c.receipt${WITNESS}`))
    const unreadable = (name: string): object => ({ verdict: 'none', error: { code: 'CMESH_CLIENT_USAGE', message: expect.stringMatching(new RegExp(`${name} cannot be read: .*EISDIR`)) } })
    expect((await replayed([mixed])).receipts).toMatchObject([unreadable('a.receipt'), unreadable('b.receipt.witness'), { file: path.join(mixed, 'c.receipt'), verdict: 'identical' }])
    await expect(replayReceipts({ dir: data, files: [mixed], witness: whole + WITNESS }, () => undefined)).rejects.toMatchObject({ code: 'CMESH_CLIENT_USAGE', message: expect.stringContaining('A witness is that of one receipt') })
    await expect(replayed([path.join(mixed, 'b.receipt')])).rejects.toMatchObject({ code: 'CMESH_CLIENT_USAGE', message: expect.stringContaining('b.receipt.witness cannot be read') })
  })

  test('of another log, or of a later place than the log has, is told so', async () => {
    const early = file('spam/a0-0000.receipt')
    const otherLog = (says: RegExp): object => ({ verdict: 'none', error: { code: 'CMESH_RECEIPT_OTHER_LOG', message: expect.stringMatching(says) } })
    await unpackOldData(file('of-another-mesh'))
    expect(await verdictOf(early, { dir: file('of-another-mesh') })).toMatchObject(otherLog(/: it is the log of the mesh did:key:z6MktULud\w+, and the receipt of did:key:/))
    // Of the same mesh's key, and yet another log.
    const other = await startMesh({ key: MESH, state: { store: new HypercoreStateStore({ dir: file('other/state') }) } })
    for (let i = 0; i < 12; i++) await other.ask(other.root, '0xSW:0x002:increment')
    await other.stop()
    for (const at of [early, file('spam/a0-0001.receipt')]) {
      expect(await verdictOf(at, { dir: file('other') })).toMatchObject(otherLog(/: there it has the chain value [0-9a-f]{16} in epoch 0, and the receipt the chain value [0-9a-f]{16} in epoch 0\./))
    }
    const older = file('older')
    await cp(path.join(data, 'state'), path.join(older, 'state'), { recursive: true, filter: from => !from.includes('snapshots') })
    const later = await kept('later', mesh.root, '0xSW:0x002:increment')
    expect(await verdictOf(later)).toMatchObject({ verdict: 'identical' })
    expect(await verdictOf(later, { dir: older })).toMatchObject(otherLog(/at block \d+: it ends at block \d+\. Replay it on the data directory of a node of that mesh/))
  })
})

test('the witness that the client keeps is the one of the receipt', async () => {
  const reply = await ask(session, '0xS:0x001:hello_world:["Dexter"]')
  const [receipt, witness] = [reply.receiptBytes() ?? Buffer.alloc(0), reply.witnessBytes() ?? Buffer.alloc(0)]
  expect(verifyReceipt(receipt, MESH.did, { witness })).toMatchObject({ valid: true })
  expect(decodeWitness(witness)).toMatchObject({ fqmn: '0xS:0x001:hello_world:["Dexter"]', deadlineMs: mesh.time.ms + 5_000, replyBody: Buffer.from('"Hello, Dexter"') })
})

test('a log of an older version comes to what it recorded', async () => {
  await unpackOldData(file('old'))
  const engine = loneEngine()
  const runs: RunAgain[] = []
  await withLog(file('old'), async log => {
    const state = new LogCheck(log.path)
    const past = new Past(engine, state)
    await log.read(bytes => {
      past.block(decodeBlock(bytes), () => true, run => { runs.push(run) })
      past.took(state.take(bytes))
    })
  })
  engine.close()
  expect(runs).toHaveLength(31)
  for (const { recorded, replayed: again } of runs) expect(again).toEqual(recorded)
})
