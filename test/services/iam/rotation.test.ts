import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals'
import fc from 'fast-check'
import { makeLink } from '../../../cmtp/identity/capability.ts'
import { KeyPair } from '../../../cmtp/identity/keys.ts'
import { makeRequestProof, readRequestProof } from '../../../cmtp/identity/request-proof.ts'
import { commitmentTo, isCommitment } from '../../../cmtp/identity/rotation.ts'
import { NEWCOMER_READ_SET, OPERATOR_SET, parsePermissions } from '../../../cmtp/permission.ts'
import { parseFqmn } from '../../../cmtp/fqmn.ts'
import { HypercoreStateStore } from '../../../providers/state/hypercore.ts'
import { explain } from '../../../services/iam/explain.ts'
import { GrantBook } from '../../../services/iam/grant-book.ts'
import { capabilitiesKey, grantsKey, readRecord } from '../../../services/iam/records.ts'
import { Rights } from '../../../services/iam/rights.ts'
import { heirOf, isRotated, lineOf, MAX_ROTATIONS, predecessorsOf, rotatedKey, rotationStatus } from '../../../services/iam/rotations.ts'
import { TERM_MS } from '../../../services/registrar/records.ts'
import type { Transaction } from '../../../services/state/batch.ts'
import { OrderedAuthority } from '../../../services/state/authority.ts'
import type { TransactionRecord } from '../../../services/state/provider.ts'
import { SYSTEM_SPACE } from '../../../services/state/transaction.ts'
import { versionedContract } from '../../support/versioned-contracts.ts'
import { nameBody } from '../../support/mesh.ts'
import { batchOf, deploymentOf, genesisTransaction, MEMBER, METER, moveTo, OPERATOR, outputOf, replacementOf, replica, type Replica, START_MS, transactionOf } from '../../support/replica.ts'

const [ANN, ANN2, ANN3, BEN, CAT] = [1, 2, 3, 4, 5].map(() => KeyPair.generate()) as [KeyPair, KeyPair, KeyPair, KeyPair, KeyPair]
const INCREMENT = 'write 0xSW:0x002:increment'
const TOKEN = Buffer.from('header.payload.signature')

let made: Replica
let book: GrantBook
beforeEach(async () => {
  made = await replica()
  made.next(batchOf([genesisTransaction()]))
  book = bookOf(made)
})
const bookOf = (of: Replica): GrantBook => (
  new GrantBook({ records: () => of.store.space(SYSTEM_SPACE), node: MEMBER.did, operator: OPERATOR.did, now: () => START_MS })
)
const records = (): GrantBook['records'] => book.records

/** A transaction on an address, signed for as the addresses that need it are. `proof`: instead of that signature. */
function signed(by: KeyPair, fqmn: string, body: Uint8Array | string, fields: Partial<Transaction> = {}): Transaction {
  const plain = transactionOf(fqmn, { sub: by.did, body: Buffer.from(body), ...fields })
  return { ...plain, proof: fields.proof ?? readRequestProof(makeRequestProof({ ...plain, token: TOKEN }, by), fqmn) }
}
const orderOf = (by: KeyPair, action: string, body: object, fields: Partial<Transaction> = {}): Transaction => signed(by, `0xIW:${action}`, JSON.stringify(body), fields)
const prepareOf = (by: KeyPair, next: KeyPair, more: object = {}, fields: Partial<Transaction> = {}): Transaction => (
  orderOf(by, 'prepare', { mesh: MEMBER.did, next: commitmentTo(next.did), ...more }, fields)
)
/** `after`: what the new one commits to. */
const rotateOf = (old: KeyPair, by: KeyPair, after: KeyPair = KeyPair.generate(), more: object = {}, fields: Partial<Transaction> = {}): Transaction => (
  orderOf(by, 'rotate', { mesh: MEMBER.did, old: old.did, next: commitmentTo(after.did), ...more }, fields)
)
interface Told { readonly status: number, readonly value: unknown, readonly code?: unknown, readonly message?: unknown }
const told = (record: TransactionRecord | undefined): Told => {
  const value = outputOf(record)
  const { code, message } = (value ?? {}) as Record<string, unknown>
  return { status: record?.status ?? 0, value, code, message }
}
const ordered = (transaction: Transaction, of = made): Told => told(of.next(batchOf([transaction]))[0])
const grant = (to: KeyPair, permission: string, by = OPERATOR): Told => ordered(orderOf(by, 'grant', { did: to.did, permission }))
const OWN_LIFE = 'the new DID has committed to another itself, as an identity of its own, and takes no place any more: have what the old one may do granted to it anew'
const refused = (reason: string): object => ({ status: 409, code: 'CMESH_IAM_ROTATION', message: `The rotation is refused: ${reason}.` })

describe('a commitment', () => {
  test('is the SHA-256 of a DID, in one spelling', () => {
    expect(commitmentTo('did:key:z6MkiTBz1ymuepAQ4HEHYSF1H8quG5GLVVQR3djdX3mDooWp')).toBe('rZDsGP1eBzWx5e6rVx6Nyfcz3NZSdjh4RMgjb--4eXc')
    expect(isCommitment(commitmentTo(ANN.did))).toBe(true)
    const text = commitmentTo(ANN.did)
    for (const other of [text.slice(1), `${text}A`, `${text.slice(0, -1)}${text.endsWith('B') ? 'C' : 'B'}`, text.replace(/^./, '+'), '', 1, null]) expect([other, isCommitment(other)]).toEqual([other, false])
  })

  test('is made by the DID itself, and the same one again changes nothing', () => {
    expect(ordered(prepareOf(ANN, ANN2))).toMatchObject({ status: 200, value: { did: ANN.did, next: commitmentTo(ANN2.did) } })
    expect(ordered(prepareOf(ANN, ANN2)).status).toBe(200)
    expect(rotationStatus(records(), ANN.did)).toEqual({ did: ANN.did, next: commitmentTo(ANN2.did), rotatedTo: null, rotatedFrom: [] })
    expect(book.seq).toBe(0)
  })

  test('is never replaced: whoever stole the key would replace it first', () => {
    ordered(prepareOf(ANN, ANN2))
    expect(ordered(prepareOf(ANN, BEN))).toMatchObject(refused('it has committed to another DID, and keeps to it until it is rotated'))
    expect(rotationStatus(records(), ANN.did).next).toBe(commitmentTo(ANN2.did))
  })

  test.each<[string, () => Transaction, object]>([
    ['without a signature of its own', () => prepareOf(ANN, ANN2, {}, { proof: Buffer.alloc(0) }), { status: 403, code: 'CMESH_IAM_PROOF', message: '0xIW:prepare needs a signature of its own: it carries none.' }],
    ['signed by another key', () => ({ ...prepareOf(ANN, ANN2), proof: prepareOf(BEN, ANN2).proof }), { status: 403, code: 'CMESH_IAM_PROOF' }],
    ['for another mesh', () => prepareOf(ANN, ANN2, { mesh: BEN.did }), refused('it is meant for another mesh')],
    ['to itself', () => prepareOf(ANN, ANN), refused('a DID cannot take its own place')],
    ['of a node', () => prepareOf(MEMBER, ANN2), refused('the DID of a node signs the log itself and cannot be rotated')],
    ['to no digest', () => prepareOf(ANN, ANN2, { next: ANN2.did }), { status: 400, code: 'CMESH_FRAME_MALFORMED' }],
    ['with a member more', () => prepareOf(ANN, ANN2, { old: ANN.did }), { status: 400, code: 'CMESH_FRAME_MALFORMED' }],
  ])('%s is refused', (_, make, expected) => {
    expect(ordered(make())).toMatchObject(expected)
    expect(rotationStatus(records(), ANN.did).next).toBeNull()
  })
})

describe('a rotation', () => {
  test('moves grants and leaves the old DID nothing, not even a newcomer\'s rights', () => {
    grant(ANN, INCREMENT)
    ordered(prepareOf(ANN, ANN2))
    const { status, value } = ordered(rotateOf(ANN, ANN2, ANN3))
    const seq = made.store.head.seq
    expect(status).toBe(200)
    expect(value).toEqual({ old: ANN.did, did: ANN2.did, next: commitmentTo(ANN3.did), seq, moved: { grants: 1, capabilities: 0, names: 0 } })
    expect(book.grants(ANN2.did)).toMatchObject([{ perm: INCREMENT, by: OPERATOR.did }])
    expect(book.grantsOf(ANN2.did)).not.toBe(NEWCOMER_READ_SET)
    expect([book.grantsOf(ANN.did), book.seq]).toEqual([[], seq])
    expect(explain(book, ANN.did, parseFqmn('0xSW:0x002:increment'), START_MS)).toMatchObject({ allowed: false, by: [], banned: false, rotatedTo: ANN2.did })
    expect(explain(book, ANN2.did, parseFqmn('0xSW:0x002:increment'), START_MS)).toMatchObject({ allowed: true })
    expect(rotationStatus(records(), ANN2.did)).toEqual({ did: ANN2.did, next: commitmentTo(ANN3.did), rotatedTo: null, rotatedFrom: [ANN.did] })
    expect(ordered(orderOf(ANN, 'capability', { links: [] }))).toMatchObject({ code: 'CMESH_IAM_DENIED' })
  })

  test('is told as an end of the old DID\'s sessions', () => {
    ordered(prepareOf(ANN, ANN2))
    ordered(rotateOf(ANN, ANN2))
    expect(made.applied.slice(-1).map(block => GrantBook.changeOf(block))).toEqual([{ banned: [ANN.did], sessions: false }])
  })

  test('asked for again by the same DID answers the same and changes nothing', () => {
    ordered(prepareOf(ANN, ANN2))
    const first = ordered(rotateOf(ANN, ANN2, ANN3))
    expect(ordered(rotateOf(ANN, ANN2, BEN)).value).toEqual(first.value)
    expect(made.applied.at(-1)?.transactions[0]?.writes).toEqual([])
  })

  test('needs no signature of the old key, and one of the new key for this request', () => {
    ordered(prepareOf(ANN, ANN2))
    const other = rotateOf(ANN, ANN2)
    for (const proof of [Buffer.alloc(0), rotateOf(ANN, BEN).proof, other.proof]) {
      expect(ordered(rotateOf(ANN, ANN2, ANN3, {}, { proof }))).toMatchObject({ status: 403, code: 'CMESH_IAM_PROOF' })
    }
    expect(isRotated(records(), ANN.did)).toBe(false)
    expect(ordered(other).status).toBe(200)
  })

  test.each<[string, () => void, () => Transaction, object]>([
    ['of a DID that has committed to none', () => undefined, () => rotateOf(ANN, ANN2), refused('the old DID has committed to no other')],
    ['by a key that it has not committed to', () => ordered(prepareOf(ANN, ANN2)), () => rotateOf(ANN, BEN), refused('the old DID has committed to another one')],
    ['by the old key itself', () => ordered(prepareOf(ANN, ANN2)), () => rotateOf(ANN, ANN), refused('the old DID has committed to another one')],
    ['of a banned DID', () => { ordered(prepareOf(ANN, ANN2)); ordered(orderOf(OPERATOR, 'ban', { did: ANN.did })) }, () => rotateOf(ANN, ANN2), refused('the old DID is banned')],
    ['by a banned DID', () => { ordered(prepareOf(ANN, ANN2)); ordered(orderOf(OPERATOR, 'ban', { did: ANN2.did })) }, () => rotateOf(ANN, ANN2), { status: 403, code: 'CMESH_IAM_DENIED' }],
    ['for another mesh', () => ordered(prepareOf(ANN, ANN2)), () => rotateOf(ANN, ANN2, ANN3, { mesh: BEN.did }), refused('it is meant for another mesh')],
    ['of a node', () => undefined, () => rotateOf(MEMBER, ANN2), refused('the DID of a node signs the log itself and cannot be rotated')],
    ['to a node', () => ordered(prepareOf(ANN, MEMBER)), () => rotateOf(ANN, MEMBER), refused('the DID of a node signs the log itself and cannot be rotated')],
    ['of a DID whose place another took', () => { ordered(prepareOf(ANN, ANN2)); ordered(rotateOf(ANN, ANN2)) }, () => rotateOf(ANN, BEN), refused('another DID took the place of the old one already')],
    ['that commits to itself', () => ordered(prepareOf(ANN, ANN2)), () => rotateOf(ANN, ANN2, ANN2), refused('a DID cannot take its own place')],
    ['by one that committed to something else itself', () => { ordered(prepareOf(ANN, ANN2)); ordered(prepareOf(ANN2, BEN)) }, () => rotateOf(ANN, ANN2, ANN3), refused(OWN_LIFE)],
    ['by one that took the place of another', () => {
      for (const old of [ANN, BEN]) ordered(prepareOf(old, ANN2))
      ordered(rotateOf(BEN, ANN2, ANN3))
    }, () => rotateOf(ANN, ANN2, ANN3), refused('the new DID took the place of another already')],
  ])('%s is refused, and changes nothing', (_, before, make, expected) => {
    before()
    const heir = heirOf(records(), ANN.did)
    expect(ordered(make())).toMatchObject(expected)
    expect([heirOf(records(), ANN.did), made.applied.at(-1)?.transactions[0]?.writes]).toEqual([heir, []])
  })

  test('never closes a ring: a DID whose place was taken may ask for nothing', () => {
    ordered(prepareOf(ANN, ANN2))
    ordered(rotateOf(ANN, ANN2, ANN))
    expect(ordered(rotateOf(ANN2, ANN))).toMatchObject({ status: 403, code: 'CMESH_IAM_DENIED' })
    expect([heirOf(records(), ANN.did), heirOf(records(), ANN2.did)]).toEqual([ANN2.did, ANN2.did])
  })

  test('the message of which is proposed again is done once', () => {
    ordered(prepareOf(ANN, ANN2))
    const one = rotateOf(ANN, ANN2, ANN3)
    const statuses = [made.next(batchOf([one])), made.next(batchOf([one]))].map(([record]) => record?.status)
    expect(statuses[0]).toBe(200)
    expect(predecessorsOf(records(), ANN2.did)).toEqual([ANN.did])
    expect(made.halts).toEqual([])
  })

  test(`is possible ${MAX_ROTATIONS} times in a line, through all of which the heir is found`, () => {
    const line = [ANN, ...Array.from({ length: MAX_ROTATIONS + 1 }, () => KeyPair.generate())]
    grant(ANN, INCREMENT)
    ordered(prepareOf(ANN, line[1] as KeyPair))
    for (let i = 1; i <= MAX_ROTATIONS; i++) expect([i, ordered(rotateOf(line[i - 1] as KeyPair, line[i] as KeyPair, line[i + 1])).status]).toEqual([i, 200])
    expect(ordered(rotateOf(line[MAX_ROTATIONS] as KeyPair, line[MAX_ROTATIONS + 1] as KeyPair))).toMatchObject(refused('an identity is rotated 16 times at most'))
    expect(heirOf(records(), ANN.did)).toBe(line[MAX_ROTATIONS]?.did)
    expect(predecessorsOf(records(), heirOf(records(), ANN.did))).toEqual(line.slice(0, MAX_ROTATIONS).map(({ did }) => did))
    expect(book.grants((line[MAX_ROTATIONS] as KeyPair).did)).toMatchObject([{ perm: INCREMENT }])
  })

  test('joins no line onto an identity that has committed: neither the bound of that line nor a ban of it becomes its own', () => {
    const thief = Array.from({ length: MAX_ROTATIONS }, () => KeyPair.generate())
    ordered(prepareOf(ANN, ANN2))
    ordered(prepareOf(thief[0] as KeyPair, thief[1] as KeyPair))
    for (let i = 1; i < thief.length; i++) expect(ordered(rotateOf(thief[i - 1] as KeyPair, thief[i] as KeyPair, thief[i + 1] ?? ANN)).status).toBe(200)
    // Whoever has the victim's key of today signs as it, and names the commitment that everybody can read.
    expect(ordered(rotateOf(thief.at(-1), ANN, ANN2))).toMatchObject(refused(OWN_LIFE))
    expect(ordered(orderOf(OPERATOR, 'ban', { did: thief[0]?.did as string })).value).toMatchObject({ did: thief.at(-1)?.did })
    expect([predecessorsOf(records(), ANN.did), book.isBanned(ANN.did)]).toEqual([[], false])
    expect(ordered(rotateOf(ANN, ANN2)).status).toBe(200)
  })

  test('puts the grants of both together, up to what a DID may have', () => {
    const many = (to: KeyPair, count: number, from: string): void => {
      made.next(batchOf(Array.from({ length: count }, (_, i) => orderOf(OPERATOR, 'grant', { did: to.did, permission: `write 0xSW:0x002:${from}${i}` }))))
    }
    many(ANN, 200, 'a')
    many(ANN2, 56, 'b')
    many(BEN, 200, 'c')
    many(CAT, 57, 'd')
    ordered(prepareOf(ANN, ANN2))
    ordered(prepareOf(BEN, CAT))
    expect(ordered(rotateOf(ANN, ANN2)).status).toBe(200)
    expect([book.grants(ANN2.did).length, records().get(grantsKey(ANN.did))]).toEqual([256, undefined])
    expect(ordered(rotateOf(BEN, CAT))).toMatchObject(refused('the two have more than 256 grants together'))
    expect([book.grants(BEN.did).length, book.grants(CAT.did).length]).toEqual([200, 57])
  })

  test.each([['a member more', { to: BEN.did }], ['no old DID', { old: 'ann' }], ['no digest', { next: 'x' }]])('with %s is malformed', (_, more) => {
    expect(ordered(rotateOf(ANN, ANN2, ANN3, more))).toMatchObject({ status: 400, code: 'CMESH_FRAME_MALFORMED' })
  })
})

describe('after a rotation', () => {
  const rotated = (old: KeyPair, to: KeyPair, after?: KeyPair): void => {
    if (rotationStatus(records(), old.did).next === null) ordered(prepareOf(old, to))
    expect(ordered(rotateOf(old, to, after))).toMatchObject({ status: 200 })
  }

  test('the operator is whoever took the operator\'s place', async () => {
    rotated(OPERATOR, ANN)
    expect([book.operator, book.grantsOf(ANN.did), book.grantsOf(OPERATOR.did)]).toEqual([ANN.did, OPERATOR_SET, []])
    expect(grant(BEN, INCREMENT)).toMatchObject({ code: 'CMESH_IAM_DENIED' })
    expect(grant(BEN, INCREMENT, ANN).status).toBe(200)
    expect(ordered(orderOf(ANN, 'ban', { did: ANN.did }))).toMatchObject({ code: 'CMESH_IAM_GRANT', message: 'The change of grants is refused: the operator and the members of the mesh cannot be banned.' })
    expect(ordered(orderOf(ANN, 'ban', { did: OPERATOR.did }))).toMatchObject({ code: 'CMESH_IAM_GRANT' })
    expect(ordered(signed(OPERATOR, `0xSW:0x000:meter:[1,1,${METER.transactionGas}]`, ''))).toMatchObject({ code: 'CMESH_IAM_DENIED' })
    expect(ordered(signed(ANN, `0xSW:0x000:meter:[${METER.meter},${METER.schedule},${METER.transactionGas}]`, ''))).toMatchObject({ status: 200 })
    made.engine.close()
  })

  test('a name is whoever took its owner\'s place\'s, who signs for it from then on', () => {
    const name = (by: KeyPair, action: string, sequence: number, owner = by.did, behind = ':0xS:0x001'): Told => (
      ordered(signed(by, `0xRW:${action}:anns.mcom${behind}`, nameBody(by, 'anns.mcom', '0xS:0x001', sequence, owner)))
    )
    expect(name(ANN, 'register', 1).status).toBe(200)
    rotated(ANN, ANN2, ANN3)
    expect(name(ANN, 'update', 2)).toMatchObject({ code: 'CMESH_REGISTRAR_NOT_OWNER' })
    expect(name(BEN, 'register', 1)).toMatchObject({ code: 'CMESH_REGISTRAR_TAKEN', message: expect.stringContaining(ANN2.did) as unknown })
    expect(ordered(signed(ANN2, '0xRW:renew:anns.mcom', ''))).toMatchObject({ status: 200, value: { owner: ANN.did } })
    expect(name(ANN2, 'update', 2)).toMatchObject({ status: 200, value: { owner: ANN2.did, sequence: 2 } })
    rotated(ANN2, ANN3)
    // Given to a DID of before, it is the heir's.
    expect(name(ANN3, 'transfer', 3, ANN.did, `:${ANN.did.slice('did:key:'.length)}`)).toMatchObject({ status: 200, value: { owner: ANN.did } })
    expect(ordered(signed(ANN3, '0xRW:release:anns.mcom', ''))).toMatchObject({ status: 200 })
    const left = (did: string): string | undefined => records().get(`owned/${did}`)?.toString()
    expect([ANN, ANN2, ANN3].map(({ did }) => left(did))).toEqual([undefined, undefined, undefined])
  })

  test('a name that ran out is the heir\'s to claim again, before anybody else may', () => {
    const later = { proposedMs: START_MS + TERM_MS + 1 }
    const register = (by: KeyPair): Transaction => (
      signed(by, '0xRW:register:late.mcom:0xS:0x001', nameBody(by, 'late.mcom', '0xS:0x001', 1), { deadlineMs: START_MS + TERM_MS + 60_000 })
    )
    expect(told(made.next(batchOf([register(ANN)]))[0]).status).toBe(200)
    rotated(ANN, ANN2)
    moveTo(made, later.proposedMs)
    const [other, heir] = made.next(batchOf([register(BEN), register(ANN2)], later)).map(told)
    expect(other).toMatchObject({ code: 'CMESH_REGISTRAR_TAKEN', message: expect.stringContaining(ANN2.did) as unknown })
    expect(heir).toMatchObject({ status: 200, value: { owner: ANN2.did } })
    expect([ANN, ANN2].map(({ did }) => Buffer.from(records().get(`owned/${did}`) ?? []).toString())).toEqual(['', '1'])
  })

  test('a contract is replaced by whoever took its deployer\'s place, and not by the deployer', () => {
    grant(ANN, 'deploy 0xSW:0x000:deploy')
    grant(ANN, 'replace 0xSW:0x000:replace')
    const { value } = ordered(signed(ANN, '0xSW:0x000:deploy', deploymentOf(versionedContract({ which: 1 }), {}, ANN)))
    const { address } = value as { address: string }
    const replace = (by: KeyPair): Told => ordered(signed(by, `0xSW:0x000:replace:["${address}"]`, replacementOf(address, 2, versionedContract({ which: 2 }), {}, by)))
    rotated(ANN, ANN2)
    expect(replace(ANN)).toMatchObject({ code: 'CMESH_DEPLOY_OWNER' })
    expect(replace(BEN)).toMatchObject({ code: 'CMESH_DEPLOY_OWNER' })
    expect(replace(ANN2)).toMatchObject({ status: 200, value: { version: 2 } })
    made.engine.close()
  })

  test('an order that names the DID of before counts for its heir', () => {
    rotated(ANN, ANN2)
    expect(grant(ANN, INCREMENT)).toMatchObject({ status: 200, value: { did: ANN2.did } })
    expect(ordered(orderOf(OPERATOR, 'ban', { did: ANN.did })).value).toMatchObject({ did: ANN2.did })
    expect([book.isBanned(ANN2.did), book.isBanned(ANN.did)]).toEqual([true, false])
    expect(ordered(orderOf(OPERATOR, 'unban', { did: ANN.did })).status).toBe(200)
    expect(ordered(orderOf(OPERATOR, 'ungrant', { did: ANN.did, all: true })).value).toMatchObject({ did: ANN2.did, revoked: [{ perm: INCREMENT }] })
  })

  test('a grant of the configuration to the DID of before is found with its heir, and not granted twice', () => {
    const seed = 'a'.repeat(32)
    ordered(orderOf(MEMBER, 'grant', { did: ANN.did, permission: INCREMENT, seed }))
    rotated(ANN, ANN2)
    expect(book.grants(ANN.did)).toMatchObject([{ id: seed }])
    expect(ordered(orderOf(MEMBER, 'grant', { did: ANN.did, permission: INCREMENT, seed }))).toMatchObject({ status: 200, value: { did: ANN2.did, id: seed } })
    expect(book.grants(ANN2.did)).toHaveLength(1)
  })

  test('a grant is taken back by whoever took its granter\'s place', () => {
    for (const permission of ['write 0xIW:grant', 'write 0xIW:ungrant', 'write 0xSW:0x002:>']) grant(ANN, permission)
    expect(grant(BEN, INCREMENT, ANN).status).toBe(200)
    rotated(ANN, ANN2)
    expect(ordered(orderOf(ANN2, 'ungrant', { did: BEN.did, permission: INCREMENT }))).toMatchObject({ status: 200 })
  })

  test('capabilities are the heir\'s, give what their root\'s heir may do, and are taken back by it', () => {
    const nowS = START_MS / 1_000
    const linkOf = (issuer: KeyPair, to: string): string => makeLink({
      issuer, to, mesh: MEMBER.did, permissions: parsePermissions([INCREMENT]), exp: nowS + 1_000, depth: 0, nowS,
    })
    grant(CAT, 'write 0xSW:0x002:>')
    const [imported, late] = [linkOf(CAT, ANN.did), linkOf(CAT, ANN.did)]
    const { jti } = ordered(orderOf(ANN, 'capability', { links: [imported] })).value as { jti: string }
    const mayIncrement = (did: string): boolean => explain(book, did, parseFqmn('0xSW:0x002:increment'), START_MS).allowed
    expect(mayIncrement(ANN.did)).toBe(true)
    rotated(ANN, ANN2)
    expect([mayIncrement(ANN.did), mayIncrement(ANN2.did), records().get(capabilitiesKey(ANN.did))]).toEqual([false, true, undefined])
    // One that was handed to the DID of before, and not presented yet.
    expect(ordered(orderOf(ANN2, 'capability', { links: [late] }))).toMatchObject({ status: 200 })
    rotated(CAT, BEN)
    expect(mayIncrement(ANN2.did)).toBe(true)
    // What a key signs after its end gives nothing, whatever it says of when it did.
    expect(ordered(orderOf(ANN2, 'capability', { links: [linkOf(CAT, ANN2.did)] }))).toMatchObject({
      code: 'CMESH_IAM_CAPABILITY', message: 'The capability is refused: a link of it is signed by a key that another took the place of since.',
    })
    const lateJti = (JSON.parse(Buffer.from(late.split('.')[1] as string, 'base64url').toString()) as { jti: string }).jti
    for (const each of [jti, lateJti]) ordered(orderOf(BEN, 'uncapability', { jti: each }))
    expect(mayIncrement(ANN2.did)).toBe(false)
  })
})

describe('capabilities through rotated issuers', () => {
  const nowS = START_MS / 1_000
  const chainOf = (...people: readonly KeyPair[]): string[] => {
    const links: string[] = []
    for (let i = 0; i < people.length - 1; i++) {
      links.push(makeLink({
        issuer: people[i] as KeyPair, to: (people[i + 1] as KeyPair).did, mesh: MEMBER.did, permissions: parsePermissions(['read 0xS:>']),
        depth: people.length - 2 - i, exp: nowS + 1_000, nowS, ...(i > 0 && { parent: links.at(-1) }),
      }))
    }
    return links
  }
  const jtiOf = (link: string): string => (JSON.parse(Buffer.from(link.split('.')[1] as string, 'base64url').toString()) as { jti: string }).jti
  /** As often as a line goes on, and who is its heir then. */
  const rotatedOften = (from: KeyPair, times: number): KeyPair => {
    const line = [from, ...Array.from({ length: times }, () => KeyPair.generate())]
    ordered(prepareOf(from, line[1] as KeyPair))
    for (let i = 1; i <= times; i++) expect(ordered(rotateOf(line[i - 1] as KeyPair, line[i] as KeyPair, line[i + 1])).status).toBe(200)
    return line.at(-1)
  }
  const readsOf = (did: string): number => {
    let reads = 0
    const counted = { get: (key: string): Uint8Array | undefined => { reads++; return records().get(key) } }
    const rights = new Rights()
    const found = rights.of(counted, did, START_MS, 'log')
    expect(found).toEqual(book.rights.of(records(), did, START_MS, 'log'))
    rights.changesAt(counted, did, START_MS)
    return reads
  }

  test('are worked out with a few reads for each of them and each of their links, however often their issuers were rotated', () => {
    const issuers = Array.from({ length: 5 }, () => KeyPair.generate())
    for (let i = 0; i < 64; i++) expect(ordered(orderOf(BEN, 'capability', { links: chainOf(...issuers, BEN) })).status).toBe(200)
    for (const issuer of issuers) rotatedOften(issuer, MAX_ROTATIONS)
    expect(book.capabilities(BEN.did).filter(({ live }) => live)).toHaveLength(64)
    expect(readsOf(BEN.did)).toBeLessThan(4 * (64 + 5 * 64))
  })

  test('of as many issuers as there can be cost a few reads each as well', () => {
    // Each of 320 links is signed by another identity, in the middle of a line: as if it had been ordered, which would take minutes.
    const caps = Array.from({ length: 64 }, (_, i) => ({
      root: `r${i}.0`, perms: ['read 0xS:>'], exp: nowS + 1_000, importedSeq: 1,
      links: Array.from({ length: 5 }, (_none, k) => ({ jti: `${i}.${k}`, by: `r${i}.${k}` })),
    }))
    const system = made.store.space(SYSTEM_SPACE)
    system.set(capabilitiesKey(BEN.did), Buffer.from(JSON.stringify({ caps })))
    for (const { by } of caps.flatMap(({ links }) => links)) {
      system.set(`rotatedto/${by}`, Buffer.from(JSON.stringify({ from: Array.from({ length: MAX_ROTATIONS - 1 }, (_, i) => `${by}.${i}`) })))
      system.set(rotatedKey(by), Buffer.from(JSON.stringify({ to: `${by}.heir` })))
      system.set(`heir/${by}.0`, Buffer.from(`${by}.heir`))
    }
    expect(book.capabilities(BEN.did).every(({ live }) => live)).toBe(true)
    expect(readsOf(BEN.did)).toBeLessThan(9 * (64 + 5 * 64))
  })

  test('are taken back by any of an issuer\'s line, before it took the place and after, and by nobody of another line', () => {
    const [links, other] = [chainOf(ANN, CAT, BEN), chainOf(ANN, CAT, BEN)]
    for (const each of [links, other]) ordered(orderOf(BEN, 'capability', { links: each }))
    const live = (): boolean[] => book.capabilities(BEN.did).map(cap => cap.live)
    expect(live()).toEqual([true, true])
    // Not of the line yet.
    ordered(orderOf(ANN2, 'uncapability', { jti: jtiOf(links[1] as string) }))
    expect(live()).toEqual([true, true])
    ordered(prepareOf(ANN, ANN2))
    ordered(rotateOf(ANN, ANN2, ANN3))
    expect(live()).toEqual([false, true])
    ordered(rotateOf(ANN2, ANN3))
    expect(live()).toEqual([false, true])
    ordered(orderOf(rotatedOften(KeyPair.generate(), 2), 'uncapability', { jti: jtiOf(other[1] as string) }))
    expect(live()).toEqual([false, true])
    ordered(orderOf(ANN3, 'uncapability', { jti: jtiOf(other[1] as string) }))
    expect(live()).toEqual([false, false])
  })

  test('give nothing while the heir of an issuer is banned', () => {
    ordered(orderOf(BEN, 'capability', { links: chainOf(ANN, CAT, BEN) }))
    rotatedOften(CAT, 2)
    ordered(orderOf(OPERATOR, 'ban', { did: CAT.did }))
    expect(book.capabilities(BEN.did)).toMatchObject([{ live: false }])
    ordered(orderOf(OPERATOR, 'unban', { did: CAT.did }))
    expect(book.capabilities(BEN.did)).toMatchObject([{ live: true }])
  })
})

describe('three replicas', () => {
  let dir: string
  beforeEach(async () => { dir = await mkdtemp(join(tmpdir(), 'cmesh-rotation-')) })
  afterEach(() => rm(dir, { recursive: true, force: true }))

  test('decide alike, and one that reads its log back holds the same', async () => {
    const three = await Promise.all([{ store: new HypercoreStateStore({ dir }) }, {}, {}].map(more => replica({ authority: new OrderedAuthority(), ...more })))
    const all = (...transactions: Transaction[]): Told[] => {
      const message = batchOf(transactions)
      const results = three.map(each => each.next(message).map(told))
      for (const other of results) expect(other).toEqual(results[0])
      expect(new Set(three.map(({ store }) => Buffer.from(store.head.chain).toString('hex'))).size).toBe(1)
      return results[0] as Told[]
    }
    all(genesisTransaction())
    all(orderOf(MEMBER, 'recheck', {}))
    all(orderOf(OPERATOR, 'grant', { did: ANN.did, permission: INCREMENT }), prepareOf(ANN, ANN2))
    const say = (by: KeyPair): Transaction => transactionOf('0xSW:0x002:increment', { sub: by.did })
    // What the guard let through before the rotation was ordered is refused behind it.
    const five = all(say(ANN), rotateOf(ANN, ANN2, ANN3), say(ANN), rotateOf(ANN, BEN), prepareOf(ANN, BEN))
    expect(five.map(({ message, status }) => message ?? status)).toEqual([
      expect.stringContaining('0x002'), 200, 'The identity was revoked before the transaction was ordered.',
      'The rotation is refused: another DID took the place of the old one already.', 'The identity was revoked before the transaction was ordered.',
    ])
    expect(all(say(ANN2))[0]?.code).toBe('CMESH_STATE_NO_CONTRACT')
    expect(three.flatMap(({ halts }) => halts)).toEqual([])
    for (const each of three) each.engine.close()
    await three[0]?.store.flush()
    await three[0]?.store.close()
    const again = await replica({ authority: new OrderedAuthority(), store: new HypercoreStateStore({ dir }) })
    expect(again.store.head).toEqual(three[1]?.store.head)
    const status = rotationStatus(again.store.space(SYSTEM_SPACE), ANN2.did)
    expect(status).toEqual({ did: ANN2.did, next: commitmentTo(ANN3.did), rotatedTo: null, rotatedFrom: [ANN.did] })
    expect(told(again.next(batchOf([say(ANN)]))[0])).toMatchObject({ status: 401, code: 'CMESH_IAM_REVOKED' })
    expect(bookOf(again).grants(ANN2.did)).toMatchObject([{ perm: INCREMENT }])
    again.engine.close()
    await again.store.close()
  })
})

describe('whatever is ordered by whom', () => {
  test('a line never forks, joins another or closes a ring, and nobody loses or doubles a grant', async () => {
    const people = Array.from({ length: 5 }, () => KeyPair.generate())
    const who = fc.constantFrom(...people)
    const stepFrom = (did: string): string | undefined => readRecord<{ to: string }>(records(), rotatedKey(did))?.to
    const step = fc.oneof(
      fc.tuple(who, who).map(([by, next]) => prepareOf(by, next)),
      { weight: 3, arbitrary: fc.tuple(who, who, who).map(([old, by, next]) => rotateOf(old, by, next)) },
      fc.tuple(who, fc.constantFrom('a', 'b')).map(([to, name]) => orderOf(OPERATOR, 'grant', { did: to.did, permission: `write 0xSW:0x002:${name}` })),
    )
    let rotations = 0
    await fc.assert(fc.asyncProperty(fc.array(step, { minLength: 20, maxLength: 60 }), async steps => {
      made = await replica()
      made.next(batchOf([genesisTransaction()]))
      book = bookOf(made)
      const held = new Map<string, readonly string[]>(people.map(({ did }) => [did, []]))
      for (const transaction of steps) {
        const { status, value } = ordered(transaction)
        const { did, old, perm = '' } = value as { did: string, old: string, perm?: string }
        const own = held.get(did) ?? []
        if (status === 200 && transaction.fqmn === '0xIW:grant') held.set(did, own.includes(perm) ? own : [...own, perm])
        if (status !== 200 || transaction.fqmn !== '0xIW:rotate') continue
        rotations++
        held.set(did, [...held.get(old) as readonly string[], ...own])
        held.set(old, [])
      }
      expect(made.halts).toEqual([])
      const dids = people.map(({ did }) => did)
      for (const did of dids) {
        const heir = heirOf(records(), did)
        expect(isRotated(records(), heir)).toBe(false)
        const line = [did]
        for (let to = stepFrom(did); to !== undefined && line.length <= people.length; to = stepFrom(to)) line.push(to)
        expect([new Set(line).size, line.at(-1)]).toEqual([line.length, heir])
        expect(new Set(line.map(each => lineOf(records(), each)))).toEqual(new Set([lineOf(records(), did)]))
        expect(predecessorsOf(records(), heir).concat(heir)).toEqual(expect.arrayContaining([...line]))
        if (heir !== did) expect([book.grantsOf(did), records().get(grantsKey(did))]).toEqual([[], undefined])
        else expect(book.grants(did).map(({ perm }) => perm).sort()).toEqual([...held.get(did) as readonly string[]].sort())
      }
      const heads = dids.filter(did => !isRotated(records(), did))
      const before = heads.flatMap(did => predecessorsOf(records(), did))
      expect(before.length + heads.length).toBe(dids.length)
      expect(new Set(before).size).toBe(before.length)
      made.engine.close()
    }), { numRuns: 60 })
    // The property is worth little unless what it is of happened.
    expect(rotations).toBeGreaterThan(10)
  })
})
