/** `cmesh audit verify`, on logs that the real provider wrote. */
import { cp, mkdtemp, rm, writeFile } from 'node:fs/promises'
import os from 'node:os'
import path from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals'
import { issueCertificate, formatCertificate } from '../../../cmtp/identity/certificate.ts'
import { KeyPair } from '../../../cmtp/identity/keys.ts'
import { leafHashes, merkleRoot } from '../../../cmtp/receipt/merkle.ts'
import { decodeRootRecord, encodeRootRecord, rootRecordHash, type AuditRoot } from '../../../cmtp/receipt/root.ts'
import { verifyAuditLogs } from '../../../node/archive/audit-log.ts'
import { Ahead } from '../../../providers/audit/ahead.ts'
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

test('what a node that was killed had written ahead of its log counts with it', async () => {
  const at = await write('killed', { batches: 3 })
  const whole = path.join(dir, 'started since')
  await cp(at, whole, { recursive: true })
  await write('started since', { batches: 2 })
  const log = new HypercoreAuditLog({ dir: path.join(whole, 'audit'), durability: 'os', maxBytes: 1024 ** 3, maxAgeMs: 1e9 })
  await log.open()
  const [last, ...lost] = await Promise.all([2, 3, 4].map(batch => log.read(batch)))
  await log.close()
  const ahead = await Ahead.open(path.join(at, 'audit'), false, last)
  for (const [i, block] of lost.entries()) await ahead.write({ number: 3 + i, block, notes: new Uint8Array(0), apart: false })
  await ahead.close(false)
  expect(await verified(at, whole)).toMatchObject({ batches: 5, requests: 15, copies: [5] })
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
    message: `The audit log in ${at} and what is in ${fork} are not one log: batch 4 differs. Whoever signed both has rewritten what it answered.`,
  })
})

test('a copy that goes further than the log shows what the log has lost', async () => {
  const at = await write('shortened', { batches: 3 })
  const longer = path.join(dir, 'longer')
  await cp(at, longer, { recursive: true })
  await write('longer', { batches: 2 })
  await expect(verified(at, longer)).rejects.toMatchObject({
    code: 'CMESH_AUDIT_LOST', detail: { path: at, length: 3, other: longer, batch: 3 },
    message: `The audit log in ${at} has 3 batches, and ${longer} has batch 3 of it, with the root that its node signed: what was answered from batch 3 on is gone from the log.`,
  })
})

describe('roots that others have seen', () => {
  /** The root records of a log. */
  async function rootsOf(at: string): Promise<Buffer[]> {
    const log = new HypercoreAuditLog({ dir: path.join(at, 'audit'), durability: 'os', maxBytes: 1024 ** 3, maxAgeMs: 1e9 })
    const { length } = await log.open()
    const records: Buffer[] = []
    for (let batch = 0; batch < length; batch++) records.push(Buffer.from((await log.read(batch)).subarray(0, 253)))
    await log.close()
    return records
  }
  let count = 0
  async function against(at: string, records: readonly Buffer[]): ReturnType<typeof verifyAuditLogs> {
    const file = path.join(dir, `roots-${count++}`)
    await writeFile(file, Buffer.concat([...records]))
    return verifyAuditLogs({ dirs: [at], seen: { file, from: 'the mesh' } }, () => undefined)
  }
  const forged = (record: Buffer, key: KeyPair, change: Partial<AuditRoot> = {}): Buffer =>
    encodeRootRecord({ ...decodeRootRecord(record), ...change }, bytes => key.sign(bytes))

  let at: string
  let roots: Buffer[]
  /** A log that was the same for two batches, and was then written anew with the same keys. */
  let rewritten: string
  let shortened: string
  beforeAll(async () => {
    at = await write('seen', { batches: 2 })
    rewritten = path.join(dir, 'seen, rewritten')
    shortened = path.join(dir, 'seen, shortened')
    await Promise.all([cp(at, rewritten, { recursive: true }), cp(at, shortened, { recursive: true })])
    await write('seen', { batches: 4 })
    roots = await rootsOf(at)
    // Another answer in batch 2, and all behind it signed anew.
    await write('seen, rewritten', { batches: 4, change: { 2: (_, leaves) => {
      const other = Buffer.from(leaves).fill(9, 0, 1)
      return { leaves: other, root: { merkleRoot: merkleRoot(leafHashes(other)) } }
    } } })
  })

  test('that are of the log are counted, in whatever order they came, and some may be missing', async () => {
    expect((await against(at, roots)).seen).toEqual({ roots: 6, from: 0, to: 5, unsigned: 0, otherLogs: [] })
    expect((await against(at, [roots[4], roots[1], roots[4]] as Buffer[])).seen).toMatchObject({ roots: 3, from: 1, to: 4 })
    expect((await against(at, [])).seen).toEqual({ roots: 0, from: -1, to: -1, unsigned: 0, otherLogs: [] })
    expect((await verified(at)).seen).toBeNull()
  })

  test.each<[string, () => Buffer[], number]>([
    ['all of them', () => roots, 2],
    ['the one behind it, which holds its hash', () => roots.slice(3), 2],
    ['a later one alone', () => roots.slice(5), 4],
    ['newest first', () => [...roots].reverse(), 2],
  ])('name the first batch that was written anew, by %s', async (_, seen, batch) => {
    expect(await verified(rewritten)).toMatchObject({ batches: 6 })
    await expect(against(rewritten, seen())).rejects.toMatchObject({ code: 'CMESH_AUDIT_FORKED', detail: { path: rewritten, other: 'the mesh', batch } })
  })

  test('name a fork of which both sides were seen', async () => {
    await expect(against(at, [...roots, forged(roots[3] as Buffer, mesh, { timeUs: 77 })])).rejects.toMatchObject({ code: 'CMESH_AUDIT_FORKED', detail: { batch: 3 } })
  })

  test('name the first batch that the log has lost', async () => {
    expect(await verified(shortened)).toMatchObject({ batches: 2 })
    await expect(against(shortened, roots)).rejects.toMatchObject({ code: 'CMESH_AUDIT_LOST', detail: { path: shortened, length: 2, other: 'the mesh', batch: 2 } })
    await expect(against(shortened, roots.slice(4))).rejects.toMatchObject({ code: 'CMESH_AUDIT_LOST', detail: { length: 2, batch: 4 } })
  })

  test('say nothing that the node of the log did not sign: nobody else can accuse it', async () => {
    const [record] = roots as [Buffer]
    const lies = [
      forged(record, OTHER, { timeUs: 77 }), forged(record, OTHER, { node: OTHER.did, timeUs: 77 }), forged(roots[5] as Buffer, OTHER, { batch: 9 }),
      Buffer.concat([Buffer.of(9), record.subarray(1)]),
    ]
    expect((await against(at, [...roots, ...lies])).seen).toEqual({ roots: 10, from: 0, to: 9, unsigned: 4, otherLogs: [] })
  })

  test('name other logs of the same node, and none of other nodes', async () => {
    const log = Buffer.alloc(32, 7)
    const [record] = roots as [Buffer]
    const others = [
      forged(record, mesh, { log }), forged(roots[3] as Buffer, mesh, { log }), forged(record, OTHER, { log: Buffer.alloc(32, 8), node: OTHER.did }),
      forged(record, OTHER, { log: Buffer.alloc(32, 9) }),
    ]
    expect((await against(at, others)).seen).toMatchObject({ roots: 0, otherLogs: [{ log: log.toString('hex'), batch: 3 }] })
  })
})

test('a directory without such a log is told apart', async () => {
  await expect(verified(path.join(dir, 'nothing'))).rejects.toMatchObject({ code: 'CMESH_STATE_NO_LOG' })
})
