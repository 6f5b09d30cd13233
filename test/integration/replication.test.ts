/** Three members of one mesh: State of each on its own Hypercore, one stream of one real broker between them. */
import { mkdtemp, readdir, rm } from 'node:fs/promises'
import os from 'node:os'
import path from 'node:path'
import { afterAll, afterEach, beforeAll, describe, expect, test } from '@jest/globals'
import { jetstreamManager } from '@nats-io/jetstream'
import type { CMeshError } from '../../cmtp/errors.ts'
import { issueCertificate } from '../../cmtp/identity/certificate.ts'
import { KeyPair } from '../../cmtp/identity/keys.ts'
import { decodeHeaders, encodeHeaders, headerValue, type HeaderList } from '../../cmtp/headers.ts'
import { genesisOf } from '../../node/genesis.ts'
import type { Call, Reply } from '../../services/call.ts'
import { connectNats, type NatsBus } from '../../providers/bus/nats.ts'
import { OrderMigration } from '../../providers/consensus/order-migration.ts'
import { JetStreamConsensus } from '../../providers/consensus/jetstream.ts'
import { WasmEngine } from '../../providers/contracts/wasm.ts'
import { MockEvents } from '../../providers/events/mock.ts'
import { HypercoreStateStore } from '../../providers/state/hypercore.ts'
import { readMembers } from '../../services/contracts/members.ts'
import { SILENT_LOG } from '../../services/log.ts'
import { IdentityTransactions } from '../../services/iam/transactions.ts'
import { NameTransactions } from '../../services/registrar/transactions.ts'
import { decodeBlock } from '../../services/state/block.ts'
import { OwnLog } from '../../services/state/catch-up/own-log.ts'
import { BlockServer } from '../../services/state/catch-up/server.ts'
import type { AuthContext } from '../../services/iam/guard.ts'
import { AUDIT_CHANNEL } from '../../services/events/channel.ts'
import type { ReadCheckMode } from '../../services/state/checks/read-checks.ts'
import { Outbox } from '../../services/state/outbox.ts'
import { StateService } from '../../services/state/service.ts'
import { turnClock } from '../../services/clock.ts'
import { until } from '../client/support/until.ts'
import { ExternalBroker } from '../support/external-broker.ts'
import { testCall } from '../support/calls.ts'
import { startIam, type IamFixture } from '../support/iam.ts'
import { memberOf, memoryWatermark } from '../support/mesh.ts'
import { METER, OPERATOR } from '../support/replica.ts'

const WAIT_MS = 30_000
const MESH = KeyPair.generate()
const ISSUED_MS = Date.now()

let broker: ExternalBroker
let root: string
/** Who asks; every member knows its session. */
let iam: IamFixture
let auth: AuthContext
beforeAll(async () => {
  [broker, root, iam] = await Promise.all([ExternalBroker.start(), mkdtemp(path.join(os.tmpdir(), 'cmesh-members-')), startIam()])
  auth = await iam.enter(await iam.open())
})
afterAll(async () => {
  await broker.stop()
  await rm(root, { recursive: true, force: true })
})

interface Member {
  readonly key: KeyPair
  readonly state: StateService
  readonly bus: NatsBus
  readonly halts: CMeshError[]
  readonly store: HypercoreStateStore
  readonly dir: string
  readonly events: MockEvents
  stop(): Promise<void>
}

const running = new Set<Member>()
afterEach(async () => { await Promise.all([...running].map(member => member.stop())) })
let streams = 0

interface MemberOptions {
  readonly stream: string
  readonly certificate?: boolean
  /** Of the mesh, where this member begins it. */
  readonly operator?: string
  readonly reads?: ReadCheckMode
  /** How long it waits for a quorum to say how the log goes on, ms. */
  readonly quorumMs?: number
  /** By how much its clock is wrong, ms. */
  readonly aheadMs?: number
}

/** Starts the member of that key on its own directory. */
async function member(key: KeyPair, { stream, certificate = true, operator = OPERATOR.did, reads = 'none', quorumMs, aheadMs = 0 }: MemberOptions): Promise<Member> {
  const bus = await connectNats({ servers: broker.url, onError: () => undefined })
  const halts: CMeshError[] = []
  const clock = turnClock()
  const dir = path.join(root, stream, key.did.slice(-12))
  const store = new HypercoreStateStore({ dir })
  const blocks = new BlockServer({ bus, did: key.did, replica: store.replica, head: () => store.head, log: SILENT_LOG })
  const events = new MockEvents({})
  // Of one time: who was made to leave since does not come back by it.
  const shown = certificate ? issueCertificate(key.did, MESH, ISSUED_MS) : undefined
  const ownLog = new OwnLog({
    bus, did: key.did, store, log: SILENT_LOG, members: () => readMembers(state.system), present: () => [], verify: memberOf(key).verify,
    ...(quorumMs !== undefined && { quorumMs }),
  })
  const state: StateService = new StateService({
    store,
    catchUp: (upTo, onBlock, begun) => ownLog.catchUp(upTo, onBlock, begun),
    diverged: place => ownLog.diverged(place),
    onCaughtUp: () => { blocks.start() },
    consensus: new JetStreamConsensus(
      { bus, nodeId: key.did, log: SILENT_LOG, onFailed: error => { halts.push(error) } }, { stream, maxBytes: 64 * 1024 * 1024, checkMs: 50 },
    ),
    engine: new WasmEngine(),
    guard: { confirm: () => undefined, authorise: () => { throw new Error('nobody asks') }, tokenOf: () => new Uint8Array() },
    outbox: new Outbox({
      events, watermark: memoryWatermark(), log: SILENT_LOG, duty: () => state.duty,
    }),
    names: new NameTransactions(), identities: new IdentityTransactions(), member: memberOf(key),
    ...(shown !== undefined && { certificate: shown }),
    replication: { bus, quorum: true, version: '1', out: () => 0 },
    readChecks: { mode: reads, oneIn: 1, bus, guard: iam.guard, audit: (data, id) => events.publish(AUDIT_CHANNEL, data, { id }) },
    clock: { ...clock, nowMs: () => clock.nowMs() + aheadMs }, log: SILENT_LOG, drainMs: 200, onHalt: error => { halts.push(error) },
  })
  const made: Member = {
    key, state, bus, halts, store, dir, events,
    stop: async () => {
      running.delete(made)
      await blocks.stop()
      await state.stop()
      await bus.close()
    },
  }
  running.add(made)
  try {
    await state.start(() => ({
      ...genesisOf({ operator, node: key.did, meter: METER }), ...(shown !== undefined && { mesh: MESH.did, certificate: shown }),
    }))
  } catch (error) {
    await made.stop()
    throw error
  }
  return made
}

/** Something that any member may order and that changes state. */
const write = ({ state }: Member, did: string): Promise<void> => state.orderOwn('0xIW:grant', { did, permission: 'read 0xS:0x001:>' })
const heads = (members: readonly Member[]): string[] => members.map(({ state: { head } }) => `${head.seq} ${Buffer.from(head.chain).toString('hex')}`)
const alike = (members: readonly Member[]): boolean => new Set(heads(members)).size === 1
const granted = ({ state }: Member, did: string): boolean => state.system.get(`grants/${did}`) !== undefined

/** The sequence of the block that granted it. */
function wrongAt({ state }: Member, did: string): number {
  return (JSON.parse(Buffer.from(state.system.get(`grants/${did}`) ?? '').toString('utf8')) as { readonly seq: number }).seq
}

const COUNT = '0xS:0x002:get'
/** It says at which sequence it was read, so that it is another at each. */
const RECORD = `0xS:0x000:get:["0x000","${Buffer.from('genesis').toString('hex')}"]`
const increment = ({ state }: Member): Promise<void> => state.orderOwn('0xSW:0x002:increment', [1])

/** What a member answers to a read, and how many it says have the same result. */
async function ask(
  { state }: Member, headers: HeaderList = [], fqmn = COUNT,
): Promise<{ readonly reply: Reply, readonly value: unknown, readonly checked: string | undefined }> {
  const call = testCall(fqmn, { headers: encodeHeaders(headers), deadlineMs: Date.now() + WAIT_MS })
  const reply = await state.read(call, auth, { gas: 0n, before: undefined, after: undefined })
  return { reply, value: JSON.parse(Buffer.from(reply.body).toString('utf8')), checked: headerValue(decodeHeaders(reply.headers), 'x-cmesh-checked') }
}

/** A call of what anybody may read, behind everything that was acknowledged before it. */
function linear(): Call {
  return testCall('0xS:0x000', { headers: encodeHeaders([['x-cmesh-read', 'linear']]), deadlineMs: Date.now() + WAIT_MS })
}

describe('three members', () => {
  const keys = [KeyPair.generate(), KeyPair.generate(), KeyPair.generate()] as const

  test('join with their certificates, whoever begins the mesh; each orders, and all hold the same log', async () => {
    const stream = `THREE${++streams}`
    const members = await Promise.all(keys.map(key => member(key, { stream })))
    const [one, two, three] = members as [Member, Member, Member]
    await until('all are members everywhere', () => members.every(({ state }) => readMembers(state.system).length === 3), WAIT_MS)
    expect(one.state.genesis).toEqual(two.state.genesis)
    expect(one.state.genesis.mesh).toBe(MESH.did)
    const dids = Array.from({ length: 30 }, () => KeyPair.generate().did)
    await Promise.all(dids.map((did, i) => write(members[i % 3] as Member, did)))
    await until('all are at one head', () => alike(members), WAIT_MS)
    for (const each of members) expect(dids.filter(did => !granted(each, did))).toEqual([])
    expect(one.state.durability).toBe('quorum-os')
    const { head } = three.state
    await until('each sees the others there', () => members.every(({ state }) => state.replicas?.members.every(({ seq }) => seq >= head.seq) === true), WAIT_MS)
    expect(two.state.replicas).toMatchObject({ quorum: 2, confirmed: two.state.head.seq })
    // Whoever asks for it sees at any member what was acknowledged at another.
    for (let i = 0; i < 20; i++) {
      const did = KeyPair.generate().did
      await write(one, did)
      expect((await two.state.read(linear(), auth, { gas: 0n, before: undefined, after: undefined })).status).toBe(200)
      expect(granted(two, did)).toBe(true)
    }
    expect(members.map(({ state }) => state.duty?.onDuty()).filter(Boolean)).toHaveLength(1)
    expect(members.flatMap(({ halts }) => halts)).toEqual([])
  })

  test('of which one is away: a linear view shows what was acknowledged at another, a view of a session what its caller has seen', async () => {
    const stream = `LEVELS${++streams}`
    const members = await Promise.all(keys.map(key => member(key, { stream })))
    const [one, two, three] = members as [Member, Member, Member]
    await until('all are members everywhere', () => members.every(({ state }) => readMembers(state.system).length === 3), WAIT_MS)
    await three.stop()
    for (let i = 1; i <= 10; i++) {
      await increment(one)
      const seen = one.state.head.seq
      const level: HeaderList = i % 2 === 0 ? [['x-cmesh-read', 'linear']] : [['x-cmesh-after', String(seen)], ['x-cmesh-read', 'session']]
      expect((await ask(two, level)).value).toBe(i)
    }
    const call = testCall(COUNT, { headers: encodeHeaders([['x-cmesh-after', '1000000'], ['x-cmesh-read', 'session']]), deadlineMs: Date.now() + 50 })
    await expect(two.state.read(call, auth, { gas: 0n, before: undefined, after: undefined })).rejects.toMatchObject({ code: 'CMESH_ROUTER_TIMEOUT' })
  })

  test('check each other\'s reads: while they write, when one is wrong, and when too few are there', async () => {
    const stream = `CHECKS${++streams}`
    const members = await Promise.all(keys.map(key => member(key, { stream, reads: 'all' })))
    const [one, two, three] = members as [Member, Member, Member]
    await until('all are members everywhere', () => members.every(({ state }) => readMembers(state.system).length === 3), WAIT_MS)
    // Each write is a block of its own that changes what the view gives; who is asked is behind, ahead or there.
    const writing = Array.from({ length: 20 }, (_, i) => i).reduce(async (before, i) => {
      await before
      await increment(members[i % 3] as Member)
    }, Promise.resolve())
    let reads = 0
    let written = false
    void writing.then(() => { written = true })
    while (!written) {
      const answers = await Promise.all(members.flatMap(each => [ask(each), ask(each, [], RECORD)]))
      for (const { reply, checked } of answers) expect([reply.status, checked]).toEqual([200, expect.stringMatching(/^[23]\/3 @\d+$/)])
      reads += answers.length
    }
    await writing
    expect(reads).toBeGreaterThan(3)
    await until('all are at one head', () => alike(members), WAIT_MS)
    expect(await ask(one, [['x-cmesh-read', 'linear']])).toMatchObject({ value: 20, checked: `2/3 @${one.state.head.seq}` })
    expect((await ask(two, [], '0xS:0x002')).checked).toMatch(/^2\/3 @/)
    expect(members.map(({ state }) => state.readChecks?.stats.mismatches)).toEqual([0, 0, 0])

    // As a bit that flipped in memory would.
    await increment(one)
    await until('all are at one head', () => alike(members), WAIT_MS)
    const memory = two.store.space('0x002')
    for (const key of [...memory.keys()]) memory.set(key, Buffer.from(memory.get(key) as Uint8Array).fill(7))
    const refused = { code: 'CMESH_CONSENSUS_OUTVOTED', detail: { fqmn: COUNT, count: 2, members: 3, seq: one.state.head.seq } }
    await expect(ask(two)).rejects.toMatchObject(refused)
    for (const { value, checked } of [await ask(one), await ask(one)]) expect([value, checked]).toEqual([21, expect.stringMatching(/^2\/3 @/)])
    for (const [{ events }, verdict] of [[one, 'agreed'], [two, 'outvoted']] as const) {
      const told = events.latest(AUDIT_CHANNEL)
      const event = JSON.parse(Buffer.from(told?.data ?? '').toString('utf8')) as { readonly results: readonly { readonly member: string, readonly hash: string }[] }
      expect(event).toMatchObject({ kind: 'consensus.reads', fqmn: COUNT, verdict, members: 3, quorum: 2 })
      const hashes = new Map(event.results.map(({ member: did, hash }) => [did, hash]))
      expect(hashes.get(one.key.did)).toBe(hashes.get(three.key.did))
      expect(hashes.get(two.key.did)).not.toBe(hashes.get(one.key.did))
    }

    await two.stop()
    expect(await ask(one)).toMatchObject({ value: 21, checked: expect.stringMatching(/^2\/3 @/) })
    await three.stop()
    await expect(ask(one)).rejects.toMatchObject({ code: 'CMESH_CONSENSUS_UNCHECKED', detail: { fqmn: COUNT, count: 1, quorum: 2, members: 3 } })
  })

  test('acknowledge while two are there; one alone acknowledges nothing, and what it ordered is acknowledged when another is back', async () => {
    const stream = `TWO${++streams}`
    const members = await Promise.all(keys.map(key => member(key, { stream })))
    const [one, two, three] = members as [Member, Member, Member]
    await until('all are members everywhere', () => members.every(({ state }) => readMembers(state.system).length === 3), WAIT_MS)
    await three.stop()
    await write(one, KeyPair.generate().did)
    await two.stop()
    const did = KeyPair.generate().did
    let acknowledged = false
    const waiting = write(one, did).then(() => { acknowledged = true })
    const claimed = (): number | undefined => one.state.replicas?.members.find(({ self }) => self)?.seq
    await until('the write is applied where it was asked, and claimed by that one', () => granted(one, did) && claimed() === one.state.head.seq, WAIT_MS)
    expect(acknowledged).toBe(false)
    const back = await member(keys[2], { stream })
    await waiting
    expect(granted(back, did)).toBe(true)
    expect(alike([one, back])).toBe(true)
  })

  test('go on in a new order behind the log of one, where the others stopped before it did and no quorum has that log', async () => {
    const stream = `MOVED${++streams}`
    // Who is on duty goes last: the others leave their events to it, and it waits for nobody's.
    const inOrder = [...keys].sort((a, b) => (a.did < b.did ? -1 : 1))
    const members = await Promise.all(inOrder.map(key => member(key, { stream })))
    const [one, two, three] = members as [Member, Member, Member]
    await until('all are members everywhere', () => members.every(({ state }) => readMembers(state.system).length === 3), WAIT_MS)
    await three.stop()
    await increment(one)
    await two.stop()
    const did = KeyPair.generate().did
    void write(one, did).catch(() => undefined)
    void increment(one).catch(() => undefined)
    await until('the last one has what nobody else has', () => granted(one, did) && one.state.pendingWrites === 2, WAIT_MS)
    await one.stop()
    const { head } = one.state
    expect(new Set(members.map(({ state }) => state.head.seq)).size).toBe(3)

    const bus = await connectNats({ servers: broker.url, onError: () => undefined })
    await (await jetstreamManager(bus.connection)).streams.delete(stream)
    const migration = await OrderMigration.begin(bus, { stream, replicas: 1, maxBytes: 64 * 1024 * 1024 })
    await migration.run(migration.plan({ ...head, chainAtBase: undefined }))
    await bus.close()

    const back = await Promise.all(inOrder.map(key => member(key, { stream, quorumMs: 300 }))) as [Member, Member, Member]
    // Before that nothing is ordered: any of their clocks might be wrong.
    await until('each has heard the others', () => back.every(({ state }) => state.replicas?.members.every(({ heardMs }) => heardMs >= 0) === true), WAIT_MS)
    await write(back[2], KeyPair.generate().did)
    await until('all are at one head', () => alike(back), WAIT_MS)
    expect(back[0].state.head).toMatchObject({ epoch: 1 })
    // Nobody could have said yet that the clock of who began the epoch was wrong: its first entry moved the log's time no further.
    const [first] = (await back[0].store.replica.read(head.seq + 1, head.seq + 1, 1)).map(bytes => decodeBlock(bytes))
    expect(first).toMatchObject({ epoch: 1, seq: head.seq + 1, timeMs: head.timeMs })
    for (const each of back) {
      expect(granted(each, did)).toBe(true)
      expect(await each.store.replica.chainAt(head.seq)).toEqual(head.chain)
      expect((await ask(each)).value).toBe(2)
    }
    expect(back.flatMap(({ halts }) => halts)).toEqual([])
  })

  test('of which one starts with a clock that is an hour ahead go on: it orders nothing, and moves the time of nobody', async () => {
    const stream = `AHEAD${++streams}`
    const members = await Promise.all(keys.map(key => member(key, { stream })))
    const [one, , three] = members as [Member, Member, Member]
    await until('all are members everywhere', () => members.every(({ state }) => readMembers(state.system).length === 3), WAIT_MS)
    await three.stop()
    const wrong = await member(three.key, { stream, aheadMs: 3_600_000 })
    await expect(write(wrong, KeyPair.generate().did)).rejects.toMatchObject({ code: 'CMESH_STATE_CLOCK' })
    expect(wrong.state.unableToOrder).toMatchObject({ code: 'CMESH_STATE_CLOCK' })
    for (let i = 0; i < 5; i++) await write(one, KeyPair.generate().did)
    expect(one.state.head.timeMs).toBeLessThan(Date.now() + 5_000)
    await expect(write(wrong, KeyPair.generate().did)).rejects.toMatchObject({ code: 'CMESH_STATE_CLOCK' })
    await until('it has what the others have', () => alike([one, wrong]), WAIT_MS)
    expect([one.state.clockApart(), wrong.state.clockApart()?.detail]).toEqual([undefined, { reason: expect.stringMatching(/^it is 3[56]\d\d s ahead of the other members$/) }])
  })

  test('one that came to another result is named by the sequence and stops; its next start puts its log aside and has the others\'', async () => {
    const stream = `WRONG${++streams}`
    const members = await Promise.all(keys.map(key => member(key, { stream })))
    const [one, two, three] = members as [Member, Member, Member]
    await until('all are members everywhere', () => members.every(({ state }) => readMembers(state.system).length === 3), WAIT_MS)
    const did = KeyPair.generate().did
    for (let i = 0; i < 5; i++) await write(one, KeyPair.generate().did)
    await until('all are at one head', () => alike(members), WAIT_MS)
    // As a bit that flipped in memory would: nobody sees it before somebody writes there again.
    const wrong = { seq: 1, grants: [{ id: 'wrong', perm: 'read 0xS:0x002:>', by: OPERATOR.did, seq: 1, timeMs: 1 }] }
    two.store.space('0x000').set(`grants/${did}`, Buffer.from(JSON.stringify(wrong)))
    await write(one, did)
    const { seq } = one.state.head
    await until('it has stopped', () => two.halts.length > 0, WAIT_MS)
    expect(two.halts.map(({ code, detail }) => [code, detail['seq']])).toEqual([['CMESH_STATE_DIVERGED', wrongAt(one, did)]])
    await expect(write(two, KeyPair.generate().did)).rejects.toMatchObject({ code: 'CMESH_STATE_DIVERGED' })
    await write(three, KeyPair.generate().did)
    await two.stop()
    const healed = await member(keys[1], { stream })
    await until('it has what the others have', () => alike([one, three, healed]), WAIT_MS)
    expect(healed.state.head.seq).toBeGreaterThan(seq)
    expect((await readdir(two.dir)).filter(name => name.startsWith('log.diverged-'))).toEqual([`log.diverged-${wrongAt(one, did)}`])
    // It is a member like any other again: with it alone there is a quorum.
    await three.stop()
    await write(one, KeyPair.generate().did)
    expect(one.halts).toEqual([])
  })

  test('one that the operator takes out is refused what it orders, also after a restart', async () => {
    const stream = `LEFT${++streams}`
    const one = await member(keys[0], { stream, operator: keys[0].did })
    const two = await member(keys[1], { stream })
    expect(readMembers(one.state.system)).toEqual([keys[0].did, keys[1].did].sort())
    await one.state.orderOwn(`0xSW:0x000:leave:["${keys[1].did}"]`, {})
    const refused = { code: 'CMESH_STATE_NOT_MEMBER', message: 'This node is no member of the mesh, so that nothing it proposes counts: the log does not list it.' }
    await expect(write(two, KeyPair.generate().did)).rejects.toMatchObject(refused)
    // Who looks at it sees that, and of the one that stays nothing.
    expect([one.state.unableToOrder, two.state.unableToOrder]).toEqual([undefined, expect.objectContaining(refused)])
    await two.stop()
    await expect(member(keys[1], { stream })).rejects.toMatchObject({ code: 'CMESH_IAM_CERTIFICATE', detail: { reason: 'the node left the mesh after it was issued' } })
    await write(one, KeyPair.generate().did)
  })

  test('a node without a certificate is refused', async () => {
    const stream = `NONE${++streams}`
    await member(keys[0], { stream })
    await expect(member(KeyPair.generate(), { stream, certificate: false })).rejects.toMatchObject({
      code: 'CMESH_STATE_NOT_MEMBER', detail: { reason: 'the log does not list it, and it has no certificate' },
    })
  })
})

test('a certificate of another mesh is refused before anything is ordered', async () => {
  const stream = `OTHER${++streams}`
  const first = KeyPair.generate()
  const one = await member(first, { stream, certificate: false })
  const { seq } = one.state.head
  await expect(member(KeyPair.generate(), { stream })).rejects.toMatchObject({ code: 'CMESH_STATE_OTHER_MESH', detail: { found: first.did, wanted: MESH.did } })
  expect(one.state.head.seq).toBe(seq)
})
