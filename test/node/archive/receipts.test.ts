/** `cmesh receipt export`, beside a mesh whose audit log is the real one; and what is left of receipts once their layers are pruned. */
import { mkdtemp, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises'
import os from 'node:os'
import path from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals'
import { KeyPair } from '../../../cmtp/identity/keys.ts'
import type { Session } from '../../../cmtp/identity/login.ts'
import { leafHashes, merkleRoot } from '../../../cmtp/receipt/merkle.ts'
import { encodeRootRecord } from '../../../cmtp/receipt/root.ts'
import { verifyReceipt } from '../../../cmtp/receipt/verify.ts'
import { exportReceipts, type Exported } from '../../../node/archive/receipts.ts'
import { HypercoreAuditLog } from '../../../providers/audit/hypercore.ts'
import { startMesh, type TestMesh } from '../../support/mesh.ts'

const VIEW = '0xS:0x001:hello_world'
const STEP_MS = 60_000
let room: string
let data: string
let mesh: TestMesh
let session: Session
/** When the first request was made. */
let beganMs: number
/** The receipt of that one, as its caller got it. */
let kept: Buffer
const id = (n: number): Buffer => Buffer.alloc(16, n)

/** One run of a node over the data directory; notes of each run are a segment of their own. */
async function start(key: KeyPair, nowMs?: () => number): Promise<void> {
  const auditLog = new HypercoreAuditLog({
    dir: path.join(data, 'audit'), durability: 'os', maxBytes: 1024 ** 3, maxAgeMs: 36_000_000, ...(nowMs && { now: nowMs }),
  })
  mesh = await startMesh({ key, auditLog })
  session = await mesh.open()
}

const ask = async (n: number, fqmn = VIEW): Promise<void> => {
  await mesh.ask(session, fqmn, { id: id(n) })
  await mesh.batcher?.flush()
}
const exported = (out: string, fromMs: number, toMs: number): Promise<Exported> =>
  exportReceipts({ dir: data, out: path.join(room, out), fromMs, toMs }, () => undefined)
const filesIn = async (out: string): Promise<string[]> => (await readdir(path.join(room, out))).sort()
const nameOf = (n: number, request?: number): string => `${id(n).toString('hex')}${request === undefined ? '' : `-${request}`}.receipt`

beforeAll(async () => {
  room = await mkdtemp(path.join(os.tmpdir(), 'cmesh-export-'))
  data = path.join(room, 'data')
  const key = KeyPair.generate()
  await start(key)
  beganMs = mesh.time.ms
  const { frame } = await mesh.ask(session, VIEW, { id: id(1), receipt: 'full' })
  kept = Buffer.from(frame.layers.subarray(frame.layers.indexOf('CMRC')))
  await ask(2, '0xS:0xfff:x')
  mesh.time.ms += STEP_MS
  await ask(3)
  // One id twice, and two that one execution answered: each is a request.
  await Promise.all([mesh.ask(session, VIEW, { id: id(4) }), mesh.ask(undefined, VIEW, { id: id(4) }), mesh.ask(session, VIEW, { id: id(5) })])
  await mesh.batcher?.flush()
})
afterAll(async () => {
  await mesh.stop()
  await rm(room, { recursive: true, force: true })
})

test('each request of the stretch is a file that verifies, while the node goes on', async () => {
  expect(await exported('all', beganMs, beganMs + 2 * STEP_MS)).toMatchObject({
    mesh: mesh.node, node: mesh.node, requests: 6, written: 6, there: 0, pruned: 0, firstMs: beganMs, lastMs: beganMs + STEP_MS,
  })
  const files = await filesIn('all')
  expect(files).toEqual([nameOf(1), nameOf(2), nameOf(3), nameOf(4, 4), nameOf(4), nameOf(5)].sort())
  const statuses = await Promise.all(files.map(async file => {
    const verdict = verifyReceipt(await readFile(path.join(room, 'all', file)), mesh.node)
    return verdict.valid && verdict.layers.every(layer => layer !== undefined) && verdict.receipt.status
  }))
  expect(statuses.sort()).toEqual([200, 200, 200, 200, 401, 404])
  expect((await stat(path.join(room, 'all', nameOf(1)))).mode & 0o777).toBe(0o600)
})

test('the first moment counts and the last does not; what is outside is not written', async () => {
  expect(await exported('first', beganMs, beganMs + STEP_MS)).toMatchObject({ requests: 2, written: 2 })
  expect(await filesIn('first')).toEqual([nameOf(1), nameOf(2)])
  expect(await exported('empty', beganMs + 1, beganMs + STEP_MS)).toMatchObject({ requests: 0, written: 0, pruned: 0, firstMs: beganMs })
  expect(await filesIn('empty')).toEqual([])
})

test('again, it writes what is missing and leaves what is there, whatever that is', async () => {
  const at = (file: string): string => path.join(room, 'again', file)
  await exported('again', beganMs, beganMs + STEP_MS)
  await rm(at(nameOf(2)))
  await writeFile(at(nameOf(1)), 'mine')
  await writeFile(at('.receipt.part'), 'cut short')
  expect(await exported('again', beganMs, beganMs + STEP_MS)).toMatchObject({ written: 2, there: 0 })
  expect(await filesIn('again')).toEqual([nameOf(1, 0), nameOf(1), nameOf(2)].sort())
  expect(await readFile(at(nameOf(1)), 'utf8')).toBe('mine')
  expect(await exported('again', beganMs, beganMs + STEP_MS)).toMatchObject({ written: 0, there: 2 })
  await writeFile(at(nameOf(1, 0)), 'mine too')
  await expect(exported('again', beganMs, beganMs + STEP_MS)).rejects.toMatchObject({
    code: 'CMESH_RECEIPT_TARGET', message: expect.stringContaining(`${nameOf(1, 0)} is there already, and is another file`) as unknown,
  })
})

test('a directory that cannot be written to is refused by name', async () => {
  await writeFile(path.join(room, 'a file'), '')
  await expect(exported('a file', beganMs, beganMs + STEP_MS)).rejects.toMatchObject({ code: 'CMESH_RECEIPT_TARGET', detail: { path: path.join(room, 'a file') } })
  await expect(exportReceipts({ dir: room, out: room, fromMs: 0, toMs: 1 }, () => undefined)).rejects.toMatchObject({ code: 'CMESH_STATE_NO_LOG' })
})

test('a node that is not the mesh has to show its certificate', async () => {
  const [own, node] = [KeyPair.generate(), KeyPair.generate()]
  const dir = path.join(room, 'member')
  const log = new HypercoreAuditLog({ dir: path.join(dir, 'audit'), durability: 'os', maxBytes: 1024 ** 3, maxAgeMs: 1e9 })
  await log.open()
  const leaves = Buffer.alloc(48, 1)
  const root = {
    mesh: own.did, node: node.did, log: log.id, batch: 0, first: 0, count: 1, merkleRoot: merkleRoot(leafHashes(leaves)),
    previous: Buffer.alloc(32), timeUs: 5_000,
  }
  await log.append({ number: 0, block: Buffer.concat([encodeRootRecord(root, bytes => node.sign(bytes)), leaves]), notes: new Uint8Array(0), apart: true })
  await log.close()
  await expect(exportReceipts({ dir, out: path.join(room, 'none'), fromMs: 0, toMs: 9 }, () => undefined)).rejects.toMatchObject({
    code: 'CMESH_IAM_CERTIFICATE', message: expect.stringContaining('the certificate of the node is missing, whose key is not the mesh\'s; --certificate names its file') as unknown,
  })
})

describe('once layers are pruned', () => {
  const fetched = async (): Promise<number> => (await mesh.askRaw(mesh.root, `0xC:receipt:${id(1).toString('hex')}`)).status
  beforeAll(async () => {
    expect(await fetched()).toBe(200)
    const key = mesh.mesh
    await mesh.stop()
    // A day later by what keeps them: with the first request of this run a segment begins, and the one before is too old.
    await start(key, () => Date.now() + 86_400_000)
    await ask(6)
  })

  test('an older receipt that was kept still verifies against its signed root, and nobody can fetch it any more', async () => {
    expect(await fetched()).toBe(404)
    await mesh.batcher?.flush()
    expect(verifyReceipt(kept, mesh.node)).toMatchObject({ valid: true, receipt: { status: 200 } })
    // Its root is where it was: batch 0 of the log.
    expect(verifyReceipt(await readFile(path.join(room, 'all', nameOf(1))), mesh.node)).toMatchObject({ valid: true, root: { batch: 0 } })
  })

  test('an export counts what is pruned and writes what is left', async () => {
    expect(await exported('left', beganMs, beganMs + 2 * STEP_MS)).toMatchObject({ requests: 9, pruned: 7, written: 2 })
    expect(await filesIn('left')).toContain(nameOf(6))
    expect(await filesIn('left')).not.toContain(nameOf(1))
  })

  test('a clock that was set back does no harm: each batch counts by its own time', async () => {
    for (const [n, ms] of [[7, STEP_MS], [8, -STEP_MS], [9, STEP_MS]] as const) {
      mesh.time.ms += ms
      await ask(n)
    }
    expect(await exported('back', beganMs + STEP_MS, beganMs + 2 * STEP_MS)).toMatchObject({ requests: 5 + 2, pruned: 5, written: 2, there: 0 })
    expect(await filesIn('back')).toEqual([nameOf(7), nameOf(9)])
  })
})
