/** What members claim of writes for their receipts: three of them over one real log on disk, on a bus in memory. */
import { mkdtemp, rm } from 'node:fs/promises'
import os from 'node:os'
import path from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals'
import fc from 'fast-check'
import { CMeshError } from '../../../cmtp/errors.ts'
import { issueCertificate } from '../../../cmtp/identity/certificate.ts'
import { KeyPair } from '../../../cmtp/identity/keys.ts'
import { EMPTY_HASH, layerSite, type Layer } from '../../../cmtp/layer.ts'
import { rootFromPath } from '../../../cmtp/receipt/merkle.ts'
import { MOST_OUTCOMES, verifyOutcomes } from '../../../cmtp/receipt/outcome.ts'
import { verifyByKey } from '../../../cmtp/receipt/root.ts'
import { LayerSealer } from '../../../cmtp/sealer.ts'
import { genesisOf } from '../../../node/genesis.ts'
import { HypercoreStateStore } from '../../../providers/state/hypercore.ts'
import { OutcomesAnswerer, outcomesSubject, type AnswererParts } from '../../../services/audit/claims/answerer.ts'
import { OutcomesAsker, type Gathered, type OwnOutcome } from '../../../services/audit/claims/asker.ts'
import { leafOf } from '../../../services/audit/claims/leaf.ts'
import { decodeAnswer, decodeQuestion, encodeAnswer, encodeQuestion } from '../../../services/audit/claims/wire.ts'
import { EvidenceMaker } from '../../../services/audit/evidence.ts'
import type { Bus, BusMessage } from '../../../services/bus/provider.ts'
import { encodeGenesis } from '../../../services/contracts/genesis.ts'
import { LoggedOutcomes, type LoggedOutcome } from '../../../services/state/logged-outcomes.ts'
import { damaged, decodeTotally } from '../../support/damage.ts'
import { keptLog, memberOf, testClock } from '../../support/mesh.ts'
import { batchOf, genesisTransaction, MEMBER, METER, OPERATOR, replica, START_MS, transactionOf, type Replica } from '../../support/replica.ts'

const MESH = KeyPair.fromSeed(Buffer.alloc(32, 0x61))
const [ONE, TWO] = [0x62, 0x63].map(seed => KeyPair.fromSeed(Buffer.alloc(32, seed))) as [KeyPair, KeyPair]
const MEMBERS = [MESH, ONE, TWO]
const DIDS = MEMBERS.map(({ did }) => did)
const SALT = Buffer.alloc(16, 7)

let dir: string
let store: HypercoreStateStore
let one: Replica
/** Transactions by the sequence of their block. */
const written: { readonly id: string, readonly seq: number }[] = []
beforeAll(async () => {
  dir = await mkdtemp(path.join(os.tmpdir(), 'cmesh-claims-'))
  store = new HypercoreStateStore({ dir })
  one = await replica({ store })
  one.next(batchOf([{ ...genesisTransaction(), body: encodeGenesis(genesisOf({ operator: OPERATOR.did, node: MEMBER.did, meter: METER })) }]))
  for (let seq = 2; seq < 5; seq++) {
    const transactions = [`[${seq}]`, '["x"]'].map(args => transactionOf(`0xSW:0x002:increment:${args}`))
    one.next(batchOf(transactions))
    written.push(...transactions.map(({ id }) => ({ id, seq })))
  }
  await store.flush()
})
afterAll(async () => {
  await store.close()
  await rm(dir, { recursive: true, force: true })
})

const remembering = (): LoggedOutcomes => new LoggedOutcomes({ store, outcome: id => one.index.get(id), applied: () => undefined })
/** Of a node that was started again: nothing but its log knows. */
const forgetful = (): LoggedOutcomes => new LoggedOutcomes({ store, outcome: () => undefined, applied: () => undefined })

describe('an outcome in the log', () => {
  test('is the same whether it is remembered or read back', async () => {
    for (const { id, seq } of written) {
      const known = remembering().remembered(id, seq)
      if (known === undefined) throw new Error('nothing is remembered')
      const { status, gas, output, digest, after } = known
      const read = await forgetful().find(id, seq)
      expect({ ...read, output: Buffer.from(read?.output ?? []) }).toEqual({ status, gas, output: Buffer.from(output), digest, after })
    }
    expect(written.map(({ id, seq }) => remembering().remembered(id, seq)?.status)).toEqual([200, 422, 200, 422, 200, 422])
  })

  test('is not in another block, nor behind the head, nor where no blocks are kept', async () => {
    const { id, seq } = written[0] as (typeof written)[number]
    for (const elsewhere of [0, seq + 1, 99]) for (const node of [remembering(), forgetful()]) expect(await node.find(id, elsewhere)).toBeUndefined()
    expect(await forgetful().find('f'.repeat(32), seq)).toBeUndefined()
    const { store: mock } = await replica()
    expect(await new LoggedOutcomes({ store: mock, outcome: () => undefined, applied: () => undefined }).find(id, 1)).toBeUndefined()
  })
})

describe('on the wire', () => {
  const item = fc.record({ seq: fc.maxSafeNat(), id: fc.uint8Array({ minLength: 16, maxLength: 16 }), salt: fc.uint8Array({ minLength: 16, maxLength: 16 }) })
  const answer = fc.record({
    level: fc.constantFrom('memory', 'os', 'disk'), members: fc.nat(0xffff), timeMs: fc.maxSafeNat(), signature: fc.uint8Array({ minLength: 64, maxLength: 64 }),
    certificate: fc.option(fc.record({ issued: fc.maxSafeNat(), signature: fc.uint8Array({ minLength: 64, maxLength: 64 }) }), { nil: undefined }),
  })
  const bytes = (value: Uint8Array): Buffer => Buffer.from(value)

  test('questions and answers say what they were made of', () => {
    fc.assert(fc.property(fc.array(item, { minLength: 1, maxLength: 5 }), asked => {
      expect(decodeQuestion(encodeQuestion(asked))).toEqual(asked.map(({ seq, id, salt }) => ({ seq, id: bytes(id), salt: bytes(salt) })))
    }))
    fc.assert(fc.property(answer, told => {
      const { certificate, signature, ...rest } = told
      expect(decodeAnswer(encodeAnswer(told))).toEqual({
        ...rest, signature: bytes(signature), certificate: certificate && { ...certificate, signature: bytes(certificate.signature) },
      })
    }))
    expect(decodeAnswer(encodeAnswer(undefined))).toBeUndefined()
  })

  test('any bytes are a question, an answer, or refused', () => {
    fc.assert(fc.property(damaged(fc.array(item, { minLength: 1, maxLength: 3 }).map(encodeQuestion)), data => { decodeTotally(decodeQuestion, data, /^CMESH_FRAME_MALFORMED$/) }))
    fc.assert(fc.property(damaged(answer.map(encodeAnswer)), data => { decodeTotally(decodeAnswer, data, /^CMESH_FRAME_MALFORMED$/) }))
  })
})

interface Room {
  readonly bus: Pick<Bus, 'request' | 'publish' | 'subscribe' | 'status'>
  /** How often each member was asked. */
  readonly asked: Map<string, number>
  /** Resolves once somebody did not answer in time. */
  readonly silence: Promise<void>
}

function room(): Room {
  const handlers = new Map<string, (message: BusMessage) => void>()
  const inboxes = new Map<string, (data: Uint8Array) => void>()
  const asked = new Map<string, number>()
  let silent = (): void => undefined
  return {
    asked,
    silence: new Promise(resolve => { silent = resolve }),
    bus: {
      status: 'connected',
      publish: (subject, data) => { inboxes.get(subject)?.(data) },
      subscribe: (subject, handler) => {
        handlers.set(subject, handler)
        return { unsubscribe: () => { handlers.delete(subject) }, drain: () => Promise.resolve() }
      },
      request: (subject, data, { timeoutMs = 0, signal } = {}) => new Promise((resolve, reject) => {
        asked.set(subject, (asked.get(subject) ?? 0) + 1)
        const reply = `_INBOX.x.${inboxes.size}`
        const late = setTimeout(() => {
          reject(new CMeshError('CMESH_BUS_TIMEOUT', { subject, timeoutMs }))
          silent()
        }, timeoutMs)
        signal?.addEventListener('abort', () => { clearTimeout(late) })
        inboxes.set(reply, answer => {
          clearTimeout(late)
          resolve(answer)
        })
        handlers.get(subject)?.({ subject, data, reply })
      }),
    },
  }
}

const certificateOf = (key: KeyPair): ReturnType<typeof issueCertificate> | undefined => key === MESH ? undefined : issueCertificate(key.did, MESH, START_MS)

function answerer({ bus }: Room, key: KeyPair, parts: Partial<AnswererParts> = {}): OutcomesAnswerer {
  const made = new OutcomesAnswerer({
    bus, member: memberOf(key), certificate: certificateOf(key), members: () => DIDS, outcomes: forgetful(), refusal: () => undefined, level: 'disk', clock: testClock(), log: keptLog(),
    ...parts,
  })
  made.start()
  return made
}

/** Waits for everybody, unless told otherwise. */
const WAITS = { patienceMs: 60_000, graceMs: 60_000 }

function askerOf({ bus }: Room, time = testClock(), key = MESH, members: readonly string[] = DIDS, waits = WAITS): OutcomesAsker {
  return new OutcomesAsker({ bus, mesh: MESH.did, member: memberOf(key), certificate: certificateOf(key), members: () => members, level: 'disk', ...waits, clock: time, log: keptLog() })
}

function own({ id, seq }: { readonly id: string, readonly seq: number }): OwnOutcome {
  const bytes = Buffer.from(id, 'hex')
  return { id: bytes, seq, salt: SALT, leaf: leafOf(bytes, SALT, remembering().remembered(id, seq) as LoggedOutcome) }
}

/** DIDs of those whose claims hold. */
function claimants(gathered: Gathered | undefined, { leaf }: OwnOutcome): string[] {
  if (gathered === undefined) return []
  const { index, count, path: steps, members, claims } = gathered
  const root = rootFromPath(leaf, index, count, steps)
  if (root === undefined) throw new Error('its path leads nowhere')
  const holding = MEMBERS.filter(key => claims.some(({ member, level, timeMs, signature }) => Buffer.from(member).equals(Buffer.from(key.publicKey.toBytes()))
    && verifyOutcomes({ did: key.did, root, count, members, level, timeMs }, signature, verifyByKey))).map(({ did }) => did)
  // None that does not hold is among them.
  expect(claims).toHaveLength(holding.length)
  return holding
}

const first = (): OwnOutcome => own(written[0] as (typeof written)[number])

describe('the claims of a write', () => {
  test('are those of all members, one signature each for what is asked together', async () => {
    const mesh = room()
    answerer(mesh, ONE)
    answerer(mesh, TWO)
    const asker = askerOf(mesh)
    const all = written.map(own)
    const gathered = await Promise.all(all.map(each => asker.gather(each)))
    gathered.forEach((each, i) => { expect(claimants(each, all[i] as OwnOutcome)).toEqual(DIDS) })
    expect(gathered.map(each => each?.index)).toEqual(all.map((_, i) => i))
    expect(gathered[0]).toMatchObject({ members: 3, count: 6 })
    expect([...mesh.asked.values()]).toEqual([1, 1])
  })

  test(`of more than ${MOST_OUTCOMES} writes are asked for in several questions`, async () => {
    const mesh = room()
    answerer(mesh, ONE, { outcomes: remembering(), members: () => [MESH.did, ONE.did] })
    const asker = askerOf(mesh, undefined, MESH, [MESH.did, ONE.did])
    const many = Array.from({ length: MOST_OUTCOMES + 1 }, first)
    const gathered = await Promise.all(many.map(each => asker.gather(each)))
    expect(gathered.map(each => claimants(each, many[0] as OwnOutcome).length)).toEqual(many.map(() => 2))
    expect([gathered[0]?.count, gathered.at(-1)?.count, mesh.asked.get(outcomesSubject(ONE.did))]).toEqual([MOST_OUTCOMES, 1, 2])
  })

  const lying = (change: Partial<LoggedOutcome>): LoggedOutcomes => {
    const honest = forgetful()
    return Object.assign(Object.create(honest) as LoggedOutcomes, {
      durable: () => Promise.resolve(),
      find: async (id: string, seq: number) => ({ ...await honest.find(id, seq) as LoggedOutcome, ...change }),
    })
  }

  test.each<[string, () => Partial<AnswererParts>]>([
    ['has another outcome', () => ({ outcomes: lying({ status: 201 }) })],
    ['used other gas', () => ({ outcomes: lying({ gas: 1n }) })],
    ['was asked something else', () => ({ outcomes: lying({ digest: Buffer.alloc(32).toString('base64url') }) })],
    ['had another result', () => ({ outcomes: lying({ output: Buffer.from('x') }) })],
    ['has it in another block', () => ({ outcomes: lying({ after: { epoch: 0, seq: 2, chain: Buffer.alloc(32) } }) })],
    ['does not have it', () => ({ outcomes: lying({}), refusal: () => new CMeshError('CMESH_STATE_HALTED', { reason: 'x' }) })],
    ['is not listed where it is', () => ({ members: () => [MESH.did, TWO.did, OPERATOR.did] })],
    ['counts other members', () => ({ members: () => [...DIDS, OPERATOR.did] })],
    ['has no certificate', () => ({ certificate: undefined })],
    ['has another\'s certificate', () => ({ certificate: certificateOf(TWO) })],
    ['signs with another key', () => ({ member: { did: ONE.did, sign: (data: Uint8Array) => TWO.sign(data) } })],
    ['does not get there in time', () => ({ outcomes: new LoggedOutcomes({ store, outcome: () => undefined, applied: () => Promise.reject(new CMeshError('CMESH_ROUTER_DEADLINE')) }) })],
  ])('leave out a member that %s', async (_, parts) => {
    const mesh = room()
    answerer(mesh, ONE, parts())
    answerer(mesh, TWO)
    expect(claimants(await askerOf(mesh).gather(first()), first())).toEqual([MESH.did, TWO.did])
  })

  test('do not wait for a member that is silent once there is a quorum, and it is not asked again for a while', async () => {
    const mesh = room()
    answerer(mesh, TWO)
    const time = testClock()
    const asker = askerOf(mesh, time, MESH, DIDS, { patienceMs: 100, graceMs: 1 })
    expect(claimants(await asker.gather(first()), first())).toEqual([MESH.did, TWO.did])
    // It is given up when its time is over, behind the receipt.
    await mesh.silence
    expect(claimants(await asker.gather(first()), first())).toEqual([MESH.did, TWO.did])
    expect([ONE, TWO].map(({ did }) => mesh.asked.get(outcomesSubject(did)))).toEqual([1, 2])
    time.ms += 2_001
    await asker.gather(first())
    expect(mesh.asked.get(outcomesSubject(ONE.did))).toBe(2)
    asker.stop()
  })

  test('are a node\'s own where it is alone, and nobody\'s where it is no member', async () => {
    const alone = askerOf(room(), undefined, MESH, [])
    expect(await alone.gather(first())).toMatchObject({ members: 1, index: 0, count: 1, path: [], claims: [{ level: 'disk', certificate: undefined }] })
    expect(await askerOf(room(), undefined, ONE, []).gather(first())).toMatchObject({ claims: [{ certificate: { issued: START_MS } }] })
    const mesh = room()
    const asker = askerOf(mesh, undefined, TWO, [MESH.did])
    answerer(mesh, MESH, { members: () => [MESH.did] })
    expect(claimants(await asker.gather(first()), first())).toEqual([MESH.did])
    asker.stop()
  })

  test('are not given to who asks for nothing that can be read, or wants no answer', async () => {
    const mesh = room()
    const answering = answerer(mesh, ONE)
    const subject = outcomesSubject(ONE.did)
    expect(decodeAnswer(await mesh.bus.request(subject, Buffer.from('noise'), { timeoutMs: 1_000 }))).toBeUndefined()
    expect(decodeAnswer(await mesh.bus.request(subject, encodeQuestion([{ ...first(), id: Buffer.alloc(16) }]), { timeoutMs: 1_000 }))).toBeUndefined()
    await answering.stop()
  })
})

describe('evidence', () => {
  const recordOf = ({ id, seq }: { readonly id: string, readonly seq: number }, change: Partial<Layer> = {}): Buffer => {
    const { status, gas, after } = remembering().remembered(id, seq) as LoggedOutcome
    const sealer = new LayerSealer()
    const fields = { decision: 'allowed' as const, grant: '', status: 200, startUs: 1, durationUs: 1, gas: 0n, before: undefined, after: undefined, argumentsHash: undefined }
    const state = { ...fields, site: layerSite('state', MESH.did, '0xSW:0x002:increment'), status, gas, before: after, after, ...change }
    sealer.seal([state, { ...fields, site: layerSite('router', MESH.did, '0xSW:0x002:increment') }], {
      id: Buffer.from(id, 'hex'), status, sid: '', sub: OPERATOR.did, requestBodyHash: EMPTY_HASH, replyBodyHash: EMPTY_HASH, replyHeaders: Buffer.alloc(0), salt: SALT,
    })
    return sealer.record()
  }
  const maker = (outcomes: LoggedOutcomes): EvidenceMaker => new EvidenceMaker({ outcomes, asker: askerOf(room(), undefined, MESH, []) })

  test('is made of what a layer says and this node\'s own log as well, remembered or not', async () => {
    for (const each of written) {
      const record = recordOf(each)
      const [one, other] = [await maker(remembering()).of(record), await maker(forgetful()).of(record)]
      expect(one).toMatchObject({ version: 2, members: 1, index: 0, count: 1 })
      expect({ ...other, claims: [] }).toEqual({ ...one, claims: [] })
    }
  })

  test.each<[string, Partial<Layer>]>([
    ['another status', { status: 201 }], ['other gas', { gas: 1n }], ['another epoch', { after: { epoch: 1, seq: 2, chain: Buffer.alloc(32) } }],
    ['another chain', { after: { epoch: 0, seq: 2, chain: Buffer.alloc(32) } }], ['another block', { after: { epoch: 0, seq: 4, chain: Buffer.alloc(32) } }],
    ['a block that there is none of', { after: { epoch: 0, seq: 99, chain: Buffer.alloc(32) } }],
  ])('is not made for a layer that says %s', async (_, change) => {
    expect(await maker(forgetful()).of(recordOf(written[0] as (typeof written)[number], change))).toBeUndefined()
  })

  test('is not asked for where nothing was written', () => {
    expect(maker(forgetful()).of(recordOf(written[0] as (typeof written)[number], { after: undefined }))).toBeUndefined()
  })
})
