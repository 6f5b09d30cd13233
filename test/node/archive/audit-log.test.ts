/** `cmesh audit verify`, on logs that the real provider wrote. */
import { cp, mkdtemp, rm } from 'node:fs/promises'
import os from 'node:os'
import path from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals'
import { issueCertificate, formatCertificate } from '../../../cmtp/identity/certificate.ts'
import { KeyPair } from '../../../cmtp/identity/keys.ts'
import { leafHashes, merkleRoot } from '../../../cmtp/receipt/merkle.ts'
import { encodeRootRecord, rootRecordHash, type AuditRoot } from '../../../cmtp/receipt/root.ts'
import { verifyAuditLogs } from '../../../node/archive/audit-log.ts'
import { HypercoreAuditLog } from '../../../providers/audit/hypercore.ts'

const mesh = KeyPair.generate()
let dir: string
beforeAll(async () => { dir = await mkdtemp(path.join(os.tmpdir(), 'cmesh-audit-log-')) })
afterAll(() => rm(dir, { recursive: true, force: true }))

type Change = (root: Omit<AuditRoot, 'signature'>, leaves: Buffer) => { readonly root?: Partial<AuditRoot>, readonly leaves?: Buffer, readonly key?: KeyPair }

interface Wanted {
  readonly batches: number
  readonly node?: KeyPair
  /** Differs from the honest log, by batch. */
  readonly change?: Readonly<Record<number, Change>>
}

/** Appends to the audit log of a data directory. */
async function write(at: string, { batches, node = mesh, change = {} }: Wanted): Promise<string> {
  const log = new HypercoreAuditLog({ dir: path.join(dir, at, 'audit'), durability: 'os', maxBytes: 1024 ** 3, maxAgeMs: 1e9 })
  const { length } = await log.open()
  let previous: Uint8Array = length === 0 ? Buffer.alloc(32) : rootRecordHash((await log.read(length - 1)).subarray(0, 253))
  for (let batch = length; batch < length + batches; batch++) {
    const honest = Buffer.alloc(48 * 3, batch + 1)
    const root = {
      mesh: mesh.did, node: node.did, log: log.id, batch, first: batch * 3, count: 3, merkleRoot: merkleRoot(leafHashes(honest)), previous, timeUs: batch,
    }
    const { root: other = {}, leaves = honest, key = node } = change[batch]?.(root, honest) ?? {}
    const record = encodeRootRecord({ ...root, ...other }, bytes => key.sign(bytes))
    previous = rootRecordHash(record)
    await log.append({ number: batch, block: Buffer.concat([record, leaves]), notes: new Uint8Array(0), apart: batch === length })
  }
  await log.close()
  return path.join(dir, at)
}

const verified = (...dirs: string[]): ReturnType<typeof verifyAuditLogs> => verifyAuditLogs({ dirs }, () => undefined)

test('an honest log is whole, and says how much stands on it', async () => {
  const at = await write('honest', { batches: 5 })
  expect(await verified(at)).toMatchObject({ mesh: mesh.did, node: mesh.did, batches: 5, requests: 15, timeUs: 4, certified: true, copies: [] })
  expect(await verifyAuditLogs({ dirs: [at], mesh: mesh.did }, () => undefined)).toMatchObject({ batches: 5 })
})

test('a node that is not the mesh is certified, or it is said that nobody knows', async () => {
  const node = KeyPair.generate()
  const at = await write('certified', { batches: 1, node })
  expect(await verified(at)).toMatchObject({ node: node.did, certified: false })
  const certificate = formatCertificate(issueCertificate(node.did, mesh, 0))
  expect(await verifyAuditLogs({ dirs: [at], certificate }, () => undefined)).toMatchObject({ node: node.did, certified: true })
  await expect(verifyAuditLogs({ dirs: [at], mesh: KeyPair.generate().did }, () => undefined)).rejects.toMatchObject({ code: 'CMESH_AUDIT_CORRUPT', detail: { batch: 0 } })
})

const OTHER = KeyPair.generate()
describe('the batch is named', () => {
  test.each<[string, Change, string]>([
    ['whose leaves were changed', (_, leaves) => ({ leaves: Buffer.from(leaves).fill(9, 0, 1) }), 'its leaves are not those under its root'],
    ['that lacks a leaf', (_, leaves) => ({ leaves: leaves.subarray(48) }), 'it has 96 bytes of leaves for 3 requests'],
    ['that leaves requests out', () => ({ root: { first: 7 } }), 'it begins at request 7, where 6 stand before it'],
    ['that does not follow on', () => ({ root: { previous: Buffer.alloc(32, 1) } }), 'its root does not follow on the one before'],
    ['that has another number', () => ({ root: { batch: 3 } }), 'it says that it is batch 3'],
    ['of another log', () => ({ root: { log: Buffer.alloc(32, 1) } }), 'its root is of a log with another key'],
    ['that another signed', () => ({ key: OTHER }), 'the node did not sign the root'],
  ])('%s', async (name, change, reason) => {
    const at = await write(name, { batches: 4, change: { 2: change } })
    const error: unknown = await verified(at).catch((thrown: unknown) => thrown)
    expect(error).toMatchObject({ code: 'CMESH_AUDIT_CORRUPT', detail: { path: at, batch: 2 } })
    expect((error as Error).message).toContain(reason)
  })
})

test('a copy that is behind is the same log; one that goes on otherwise is named with the first batch that differs', async () => {
  const at = await write('first', { batches: 3 })
  const [behind, fork] = [path.join(dir, 'behind'), path.join(dir, 'fork')]
  await Promise.all([cp(at, behind, { recursive: true }), cp(at, fork, { recursive: true })])
  await write('first', { batches: 2 })
  await write('fork', { batches: 2, change: { 4: () => ({ root: { timeUs: 99 } }) } })
  expect(await verified(at, behind)).toMatchObject({ batches: 5, copies: [3] })
  await expect(verified(at, behind, fork)).rejects.toMatchObject({
    code: 'CMESH_AUDIT_FORKED', detail: { path: at, other: fork, batch: 4 },
    message: `The audit logs in ${at} and ${fork} are not one log: batch 4 differs. Whoever signed both has rewritten what it answered.`,
  })
})

test('a directory without such a log is told apart', async () => {
  await expect(verified(path.join(dir, 'nothing'))).rejects.toMatchObject({ code: 'CMESH_STATE_NO_LOG' })
})
