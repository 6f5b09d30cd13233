import { describe, expect, test } from '@jest/globals'
import { issueCertificate } from '../../../cmtp/identity/certificate.ts'
import { KeyPair } from '../../../cmtp/identity/keys.ts'
import { mayOrder, readMembers } from '../../../services/contracts/members.ts'
import { decodeBatch, NO_PROOF, type Batch } from '../../../services/state/batch.ts'
import type { TransactionRecord } from '../../../services/state/provider.ts'
import { SYSTEM_SPACE } from '../../../services/state/transaction.ts'
import { batchOf, genesisTransaction, MEMBER, OPERATOR, replica, START_MS, transactionOf, type Replica } from '../../support/replica.ts'

const MESH = KeyPair.generate()
const NODE = KeyPair.generate()

/** A node's wish to be a member, as it orders it. */
function joinOf(node: KeyPair, certificate: unknown = issueCertificate(node.did, MEMBER, START_MS)): Uint8Array {
  return batchOf([transactionOf('0xSW:0x000:join', { sub: node.did, sid: '', body: Buffer.from(JSON.stringify(certificate)), proof: NO_PROOF })], { by: node })
}

const begun = async (): Promise<Replica> => {
  const made = await replica()
  made.next(batchOf([genesisTransaction()]))
  return made
}

const membersOf = ({ store }: Replica): readonly string[] => readMembers(store.space(SYSTEM_SPACE))
const told = (records: readonly TransactionRecord[]): unknown[] => records.map(({ status, output }) => ({ status, ...JSON.parse(Buffer.from(output).toString('utf8')) as object }))
const leave = (did: string, sub = OPERATOR.did): Uint8Array => batchOf([transactionOf(`0xSW:0x000:leave:["${did}"]`, { sub })])

describe('a node', () => {
  test('with a certificate joins, and its batches count from the next block on', async () => {
    const mesh = await begun()
    const put = transactionOf('0xRW:renew:nobody.mcom')
    expect(mesh.next(batchOf([put], { by: NODE }))).toEqual([])
    expect(told(mesh.next(joinOf(NODE)))).toEqual([{ status: 200, members: [MEMBER.did, NODE.did].sort() }])
    expect(membersOf(mesh)).toEqual([MEMBER.did, NODE.did].sort())
    expect(mesh.next(batchOf([put], { by: NODE }))).toHaveLength(1)
    expect(told(mesh.next(joinOf(NODE)))).toMatchObject([{ status: 200 }])
    expect(membersOf(mesh)).toHaveLength(2)
  })

  test.each<[string, unknown, string]>([
    ['of another mesh', issueCertificate(NODE.did, MESH, START_MS), 'it is of another mesh'],
    ['of another node', issueCertificate(MESH.did, MEMBER, START_MS), 'it was issued to another node'],
    ['that nobody signed', { ...issueCertificate(NODE.did, MEMBER, START_MS), signature: issueCertificate(NODE.did, MESH, START_MS).signature }, 'the mesh it names did not sign it'],
    ['that is none', 7, 'it is no object'],
  ])('with a certificate %s does not', async (_, certificate, reason) => {
    const mesh = await begun()
    expect(told(mesh.next(joinOf(NODE, certificate)))).toMatchObject([{ status: 400, code: 'CMESH_IAM_CERTIFICATE', detail: { reason } }])
    expect(membersOf(mesh)).toEqual([MEMBER.did])
  })

  test('smuggles nothing in beside its wish to join, and joins in nobody else\'s name', async () => {
    const mesh = await begun()
    const { store } = mesh
    const wish = decodeBatch(joinOf(NODE)).transactions[0] as Batch['transactions'][number]
    expect(mesh.next(batchOf([wish, transactionOf('0xSW:0x001:f')], { by: NODE }))).toEqual([])
    expect(mesh.next(batchOf([wish], { by: MESH }))).toEqual([])
    expect(mayOrder(store.space(SYSTEM_SPACE), decodeBatch(batchOf([], { by: NODE })))).toBe(false)
    expect(membersOf(mesh)).toEqual([MEMBER.did])
  })

  test('leaves at the operator\'s word alone; what it proposes counts no more, and only a later certificate brings it back', async () => {
    const mesh = await begun()
    mesh.next(joinOf(NODE))
    expect(told(mesh.next(leave(NODE.did, NODE.did)))).toMatchObject([{ status: 403, code: 'CMESH_IAM_DENIED' }])
    expect(told(mesh.next(leave(NODE.did)))).toEqual([{ status: 200, members: [MEMBER.did] }])
    expect(mesh.next(batchOf([transactionOf('0xSW:0x001:f')], { by: NODE }))).toEqual([])
    expect(told(mesh.next(joinOf(NODE)))).toMatchObject([{ status: 400, detail: { reason: 'the node left the mesh after it was issued' } }])
    expect(told(mesh.next(joinOf(NODE, issueCertificate(NODE.did, MEMBER, START_MS + 1))))).toMatchObject([{ status: 200 }])
    expect(membersOf(mesh)).toHaveLength(2)
  })

  test('that has left does not come back with its old certificate because who issued it had a clock ahead of the log\'s', async () => {
    const mesh = await begun()
    const certificate = issueCertificate(NODE.did, MEMBER, START_MS + 3_600_000)
    expect(told(mesh.next(joinOf(NODE, certificate)))).toMatchObject([{ status: 200 }])
    expect(told(mesh.next(leave(NODE.did)))).toMatchObject([{ status: 200 }])
    expect(told(mesh.next(joinOf(NODE, certificate)))).toMatchObject([{ status: 400, detail: { reason: 'the node left the mesh after it was issued' } }])
    expect(told(mesh.next(joinOf(NODE, issueCertificate(NODE.did, MEMBER, START_MS + 3_600_001))))).toMatchObject([{ status: 200 }])
  })

  test('that is none, or the last one, is not taken out', async () => {
    const mesh = await begun()
    expect(told(mesh.next(leave(NODE.did)))).toMatchObject([
      { status: 409, code: 'CMESH_STATE_MEMBERS', message: `The members of the mesh cannot be changed so: ${NODE.did} is none of them.` },
    ])
    expect(told(mesh.next(leave(MEMBER.did)))).toMatchObject([{ status: 409, detail: { reason: 'the last of them cannot leave' } }])
  })

  test('a mesh has 64 of them at most', async () => {
    const mesh = await begun()
    for (let i = 1; i < 64; i++) mesh.next(joinOf(KeyPair.generate()))
    expect(membersOf(mesh)).toHaveLength(64)
    expect(told(mesh.next(joinOf(NODE)))).toMatchObject([{ status: 409, code: 'CMESH_STATE_MEMBERS', detail: { reason: 'a mesh has at most 64 of them' } }])
  })
})

describe('who begins a mesh', () => {
  const system = (): Map<string, Uint8Array> => new Map()
  const counts = (genesis: Parameters<typeof genesisTransaction>[1], by: KeyPair): boolean => {
    return mayOrder(system(), decodeBatch(batchOf([genesisTransaction({}, genesis)], { by })))
  }

  test('is its first member, under its own key or with a certificate of the mesh\'s', () => {
    const certificate = issueCertificate(NODE.did, MESH, START_MS)
    expect(counts({ members: [NODE.did] }, NODE)).toBe(true)
    expect(counts({ members: [NODE.did], mesh: MESH.did, certificate }, NODE)).toBe(true)
    expect(counts({ members: [NODE.did], mesh: MESH.did }, NODE)).toBe(false)
    expect(counts({ members: [NODE.did], mesh: MEMBER.did, certificate }, NODE)).toBe(false)
    expect(counts({ members: [MEMBER.did], mesh: MESH.did, certificate }, MEMBER)).toBe(false)
    expect(counts({ members: [NODE.did] }, MEMBER)).toBe(false)
  })

  test('says nothing beside, and nothing else begins one', () => {
    const both = decodeBatch(batchOf([genesisTransaction({}, { members: [NODE.did] }), transactionOf('0xSW:0x001:f')], { by: NODE }))
    expect(mayOrder(system(), both)).toBe(false)
    expect(mayOrder(system(), decodeBatch(batchOf([], { by: NODE })))).toBe(false)
    expect(mayOrder(system(), decodeBatch(batchOf([transactionOf('0xSW:0x000:genesis', { body: Buffer.from('noise') })], { by: NODE })))).toBe(false)
  })

  test('gives the mesh its name: nodes join with a certificate of that key', async () => {
    const mesh = await replica()
    mesh.next(batchOf([genesisTransaction({}, { members: [MEMBER.did], mesh: MESH.did, certificate: issueCertificate(MEMBER.did, MESH, START_MS) })]))
    expect(told(mesh.next(joinOf(NODE)))).toMatchObject([{ status: 400, detail: { reason: 'it is of another mesh' } }])
    expect(told(mesh.next(joinOf(NODE, issueCertificate(NODE.did, MESH, START_MS))))).toMatchObject([{ status: 200 }])
  })
})
