/** The audit log on disk after what can become of a disk: torn tails, a lost log, files that are gone, no room. */
import { randomBytes } from 'node:crypto'
import { appendFile, chmod, cp, mkdtemp, readdir, rm, stat, truncate, writeFile } from 'node:fs/promises'
import os from 'node:os'
import path from 'node:path'
import { afterAll, afterEach, beforeAll, describe, expect, test } from '@jest/globals'
import { HypercoreAuditLog } from '../../../providers/audit/hypercore.ts'
import { NoteIndex } from '../../../providers/audit/note-index.ts'
import { NOTE_OF_REQUEST } from '../../../services/audit/messages.ts'
import { batchOf, note } from '../../support/audit-batches.ts'

let room: string
let dir: string
const open: HypercoreAuditLog[] = []
beforeAll(async () => { room = await mkdtemp(path.join(os.tmpdir(), 'cmesh-audit-disk-')) })
afterEach(async () => { for (const log of open.splice(0)) await log.close() })
afterAll(() => rm(room, { recursive: true, force: true }))

async function opened(at: string, durability: 'os' | 'disk' = 'os'): Promise<HypercoreAuditLog> {
  dir = path.join(room, at)
  const log = new HypercoreAuditLog({ dir, durability, maxBytes: 1024 ** 3, maxAgeMs: 1e9 })
  open.push(log)
  await log.open()
  return log
}

/** Three batches of one request each, in one segment; the log closed. */
async function written(at: string, batches = 3): Promise<Buffer[]> {
  const log = await opened(at)
  const ids = Array.from({ length: batches }, () => randomBytes(16))
  for (const [i, id] of ids.entries()) await log.append(batchOf(i, [note(NOTE_OF_REQUEST, i, 0, id, `request ${i}`)]))
  await log.close()
  return ids
}

const found = async (log: HypercoreAuditLog, ids: readonly Buffer[]): Promise<number[]> => Promise.all(ids.map(async id => (await log.find(id)).length))
const segment = (name = '00000000.seg'): string => path.join(dir, 'layers', name)

describe('notes whose end was torn', () => {
  test.each([1, 20, 50])('%i bytes before their end are kept up to the last whole batch, and the log goes on', async cut => {
    const ids = await written(`torn ${cut}`)
    await rm(segment('00000000.idx'))
    await truncate(segment(), (await stat(segment())).size - cut)
    const log = await opened(`torn ${cut}`)
    expect(await found(log, ids)).toEqual([1, 1, 0])
    const id = randomBytes(16)
    await log.append(batchOf(3, [note(NOTE_OF_REQUEST, 3, 0, id, 'later')], true))
    expect(await found(log, [id])).toEqual([1])
  })

  test('or filled with what nobody wrote are kept up to there', async () => {
    const ids = await written('noise')
    await rm(segment('00000000.idx'))
    await appendFile(segment(), randomBytes(500))
    expect(await found(await opened('noise'), ids)).toEqual([1, 1, 1])
  })

  test('under an index that is no more one are read anew', async () => {
    const ids = await written('index')
    for (const bytes of [Buffer.alloc(0), randomBytes(100), new NoteIndex().encode(2).subarray(0, 50)]) {
      await writeFile(segment('00000000.idx'), bytes)
      const log = await opened('index')
      expect(await found(log, ids)).toEqual([1, 1, 1])
      await log.close()
    }
  })
})

describe('a log', () => {
  test('that was killed between the notes of a batch and its block has neither', async () => {
    const ids = await written('between')
    const whole = path.join(room, 'whole')
    await cp(dir, whole, { recursive: true })
    const log = await opened('between')
    const lost = randomBytes(16)
    await log.append(batchOf(3, [note(NOTE_OF_REQUEST, 3, 0, lost, 'lost')], true))
    await log.close()
    // The notes of the fourth batch over the log of three.
    await cp(path.join(dir, 'layers'), path.join(whole, 'layers'), { recursive: true })
    const again = await opened('whole')
    expect(await found(again, [...ids, lost])).toEqual([1, 1, 1, 0])
    expect(await readdir(path.join(whole, 'layers'))).toEqual(['00000000.idx', '00000000.seg'])
    await again.append(batchOf(3, [], true))
  })

  test('that has lost batches is not gone on with', async () => {
    await written('lost', 1)
    const old = path.join(room, 'old')
    await cp(dir, old, { recursive: true })
    const log = await opened('lost')
    for (let i = 1; i < 4; i++) await log.append(batchOf(i, [note(NOTE_OF_REQUEST, i, 0, randomBytes(16), 'x')], i === 1))
    await log.close()
    await cp(path.join(dir, 'layers'), path.join(old, 'layers'), { recursive: true })
    const behind = new HypercoreAuditLog({ dir: old, durability: 'os', maxBytes: 1e9, maxAgeMs: 1e9 })
    await expect(behind.open()).rejects.toMatchObject({ code: 'CMESH_AUDIT_BEHIND', detail: { length: 1, noted: 4 } })
  })

  test('whose key is gone is not made again', async () => {
    await written('key')
    await rm(path.join(dir, 'key'))
    const log = new HypercoreAuditLog({ dir, durability: 'os', maxBytes: 1e9, maxAgeMs: 1e9 })
    await expect(log.open()).rejects.toMatchObject({ code: 'CMESH_AUDIT_CORRUPT', message: expect.stringContaining('its key') as unknown })
  })

  test('on the disk at once is what one at the system is', async () => {
    const log = await opened('disk', 'disk')
    const id = randomBytes(16)
    await log.append(batchOf(0, [note(NOTE_OF_REQUEST, 0, 0, id, 'x')]))
    expect([log.durability, await found(log, [id])]).toEqual(['disk', [1]])
  })

  test('that cannot be written fails for good, with the reason', async () => {
    const log = await opened('failed')
    await log.append(batchOf(0, [note(NOTE_OF_REQUEST, 0, 0, randomBytes(16), 'x')]))
    expect(await log.find(randomBytes(16))).toEqual([])
    // Nothing can be made where a file stands in the place of the directory.
    await rm(path.join(dir, 'layers'), { recursive: true })
    await writeFile(path.join(dir, 'layers'), '')
    await chmod(path.join(dir, 'layers'), 0o400)
    const id = randomBytes(16)
    // It is ahead, and durable by that; what cannot be done is to put it onto the log.
    await log.append(batchOf(1, [note(NOTE_OF_REQUEST, 1, 0, id, 'y')], true))
    await log.find(id).catch(() => undefined)
    const next = batchOf(2, [note(NOTE_OF_REQUEST, 2, 0, randomBytes(16), 'z')], true)
    await expect(log.append(next)).rejects.toMatchObject({ code: 'CMESH_AUDIT_FULL' })
    await rm(path.join(dir, 'layers'))
    await expect(log.append(next)).rejects.toMatchObject({ code: 'CMESH_AUDIT_FULL' })
    await log.close()
    const again = await opened('failed')
    expect([(await again.open()).length, await found(again, [id])]).toEqual([2, [1]])
  })
})
