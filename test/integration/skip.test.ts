/** An entry that halts every member of a mesh, and the operator's word that lets them pass it: State on real logs, a stream of a real broker. */
import { existsSync } from 'node:fs'
import { mkdtemp, rm } from 'node:fs/promises'
import os from 'node:os'
import path from 'node:path'
import { afterAll, afterEach, beforeAll, expect, test } from '@jest/globals'
import { giveSkip, readHalt } from '../../client/skip-file.ts'
import type { CMeshError } from '../../cmtp/errors.ts'
import { issueCertificate } from '../../cmtp/identity/certificate.ts'
import { KeyPair } from '../../cmtp/identity/keys.ts'
import { HALT_FILE, signSkip } from '../../cmtp/skip.ts'
import { FileSkips } from '../../node/skips.ts'
import { connectNats, type NatsBus } from '../../providers/bus/nats.ts'
import { JetStreamConsensus } from '../../providers/consensus/jetstream.ts'
import { WasmEngine } from '../../providers/contracts/wasm.ts'
import { MockEvents } from '../../providers/events/mock.ts'
import { HypercoreStateStore } from '../../providers/state/hypercore.ts'
import { readMembers } from '../../services/contracts/members.ts'
import { turnClock } from '../../services/clock.ts'
import { IdentityTransactions } from '../../services/iam/transactions.ts'
import { Outbox } from '../../services/state/outbox.ts'
import { StateService } from '../../services/state/service.ts'
import { DONE, type TransactionHandler } from '../../services/state/transaction.ts'
import { until } from '../client/support/until.ts'
import { ExternalBroker } from '../support/external-broker.ts'
import { failureOf } from '../support/iam.ts'
import { keptLog, memberOf, memoryWatermark, type KeptLog } from '../support/mesh.ts'
import { METER, OPERATOR } from '../support/replica.ts'

const WAIT_MS = 30_000
const MESH = KeyPair.generate()
const KEYS = [KeyPair.generate(), KeyPair.generate(), KeyPair.generate()] as const
const ISSUED_MS = Date.now()
const POISON = '0xRW:poison:register'

/** A host with a bug: there is a name that it cannot take. */
const BROKEN: TransactionHandler = {
  execute: ({ fqmn }) => {
    if (fqmn === POISON) throw new TypeError('a bug of the host')
    return { ...DONE, status: 200, output: new Uint8Array(0) }
  },
}

let broker: ExternalBroker
let root: string
beforeAll(async () => {
  [broker, root] = await Promise.all([ExternalBroker.start(), mkdtemp(path.join(os.tmpdir(), 'cmesh-skip-'))])
})
afterAll(async () => {
  await broker.stop()
  await rm(root, { recursive: true, force: true })
})

interface Member {
  readonly state: StateService
  readonly halts: CMeshError[]
  readonly log: KeptLog
  readonly dir: string
  stop(): Promise<void>
}

const running = new Set<Member>()
afterEach(async () => { await Promise.all([...running].map(each => each.stop())) })

async function member(key: KeyPair): Promise<Member> {
  const bus: NatsBus = await connectNats({ servers: broker.url, onError: () => undefined })
  const halts: CMeshError[] = []
  const log = keptLog()
  const dir = path.join(root, key.did.slice(-12))
  const certificate = issueCertificate(key.did, MESH, ISSUED_MS)
  const onHalt = (error: CMeshError): void => { halts.push(error) }
  const state: StateService = new StateService({
    store: new HypercoreStateStore({ dir: path.join(dir, 'state') }), skips: new FileSkips(dir, log),
    consensus: new JetStreamConsensus({ bus, nodeId: key.did, log, onFailed: onHalt }, { maxBytes: 64 * 1024 * 1024, checkMs: 50 }),
    engine: new WasmEngine(),
    guard: { confirm: () => undefined, authorise: () => { throw new Error('nobody asks') }, tokenOf: () => new Uint8Array() },
    outbox: new Outbox({ events: new MockEvents({}), watermark: memoryWatermark(), log }),
    names: BROKEN, identities: new IdentityTransactions(), member: memberOf(key), certificate,
    replication: { bus, quorum: true, version: '1', out: () => 0 }, clock: turnClock(), log, onHalt,
  })
  const made: Member = {
    state, halts, log, dir,
    stop: async () => {
      running.delete(made)
      await state.stop()
      await bus.close()
    },
  }
  running.add(made)
  try {
    await state.start(() => ({ operator: OPERATOR.did, members: [key.did], mesh: MESH.did, certificate, contracts: [], meter: METER }))
  } catch (error) {
    await made.stop()
    throw error
  }
  return made
}

const write = ({ state }: Member, did: string): Promise<void> => state.orderOwn('0xIW:grant', { did, permission: 'read 0xS:0x001:>' })
const heads = (members: readonly Member[]): string[] => members.map(({ state: { head } }) => `${head.epoch} ${head.seq} ${Buffer.from(head.chain).toString('hex')}`)
/** Before that they order nothing: any of their clocks might be wrong. */
const haveHeard = (members: readonly Member[], others: number): Promise<void> => until('each has heard the others', () => (
  members.every(({ state }) => (state.replicas?.members.filter(({ self, heardMs }) => !self && heardMs >= 0).length ?? 0) >= others)
), WAIT_MS)
const alike = (members: readonly Member[]): boolean => new Set(heads(members)).size === 1

test('what halts every member is passed by those who have the operator\'s skip; a quorum of them goes on, and a restart gives the same chain', async () => {
  const members = await Promise.all(KEYS.map(member))
  const [one] = members as [Member]
  await until('all are members everywhere', () => members.every(({ state }) => readMembers(state.system).length === 3), WAIT_MS)
  const before = KeyPair.generate().did
  await write(one, before)
  expect(await failureOf(() => one.state.orderOwn(POISON, {}))).toMatchObject({ code: 'CMESH_ROUTER_UNKNOWN_OUTCOME', cause: { code: 'CMESH_STATE_STUCK' } })
  await until('all have halted', () => members.every(({ halts }) => halts.length > 0), WAIT_MS)
  const halt = await readHalt(one.dir)
  for (const { halts } of members) {
    expect(halts[0]).toMatchObject({ code: 'CMESH_STATE_STUCK', message: expect.stringContaining(`The entry ${halt.seq} of epoch 0 (SHA-256 ${halt.hash}) cannot be applied`) })
    expect(halts[0]?.message).toContain('cmesh consensus skip --data DIR')
  }
  expect(halt).toMatchObject({ mesh: MESH.did, operator: OPERATOR.did, code: 'CMESH_INTERNAL' })
  await Promise.all(members.map(each => each.stop()))
  expect((await failureOf(() => member(KEYS[0]))).code).toBe('CMESH_STATE_STUCK')

  // By somebody else, of another place, of other bytes, changed: none of them is given to a node.
  const give = (skip: object): Promise<CMeshError> => failureOf(() => giveSkip(one.dir, skip as ReturnType<typeof signSkip>))
  const stranger = KeyPair.generate()
  expect((await failureOf(() => signSkip(halt, 'no operator', stranger))).message).toBe(`The skip is refused: ${OPERATOR.did} operates the mesh, and ${stranger.did} was to sign.`)
  expect(await give(signSkip({ ...halt, operator: stranger.did }, 'by another', stranger))).toMatchObject({ code: 'CMESH_STATE_SKIP', message: expect.stringMatching(/^The skip is refused: it is for operator /) })
  expect((await give(signSkip({ ...halt, seq: halt.seq - 1 }, 'another place', OPERATOR))).message).toContain(`it is for seq ${halt.seq - 1}, and the node in ${one.dir} halted at seq ${halt.seq}`)
  expect((await give(signSkip({ ...halt, hash: '0'.repeat(64) }, 'other bytes', OPERATOR))).message).toContain('it is for hash 0000')

  const skip = signSkip(halt, 'a name that no version takes', OPERATOR)
  for (const each of members.slice(0, 2)) await giveSkip(each.dir, skip)
  const starting = member(KEYS[0])
  // Neither comes up alone: two are a quorum, and what is written behind the place is acknowledged by it.
  const second = member(KEYS[1])
  const back = await Promise.all([starting, second])
  const after = KeyPair.generate().did
  await haveHeard(back, 1)
  await write(back[0], after)
  await until('both are at one head, with the skip on record', () => alike(back) && back[0].state.system.get(`skip/${halt.seq}`) !== undefined, WAIT_MS)
  expect(JSON.parse(Buffer.from(back[1].state.system.get(`skip/${halt.seq}`) ?? '').toString())).toEqual(skip)
  for (const { state } of back) for (const did of [before, after]) expect(state.system.get(`grants/${did}`)).toBeDefined()
  expect((await failureOf(() => member(KEYS[2]))).code).toBe('CMESH_STATE_STUCK')
  // Who is past the place has nothing left to sign for there; who is not still has.
  await until('the others are past it', () => members.slice(0, 2).every(({ dir }) => !existsSync(path.join(dir, HALT_FILE))), WAIT_MS)
  expect(await readHalt((members[2] as Member).dir)).toEqual(halt)

  const chain = heads(back)
  await Promise.all(back.map(each => each.stop()))
  await giveSkip((members[2] as Member).dir, skip)
  const all = await Promise.all(KEYS.map(member))
  await until('all are at one head', () => alike(all), WAIT_MS)
  expect(Number(heads(all)[0]?.split(' ')[1])).toBeGreaterThanOrEqual(Number(chain[0]?.split(' ')[1]))
  await haveHeard(all, 1)
  await write(all[2] as Member, KeyPair.generate().did)
  expect(all.flatMap(({ halts }) => halts)).toEqual([])
}, 120_000)
