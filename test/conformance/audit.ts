/** What every audit log promises, as tests. `registry.test.ts` calls this with a way to make one on a directory. */
import { randomBytes } from 'node:crypto'
import { mkdtemp, rm } from 'node:fs/promises'
import os from 'node:os'
import path from 'node:path'
import { afterAll, afterEach, beforeAll, describe, expect, test } from '@jest/globals'
import { entryId } from '../../cmtp/message-id.ts'
import { NOTE_OF_REPEAT, NOTE_OF_REQUEST, NOTE_OF_TEXT, runKey } from '../../services/audit/messages.ts'
import type { AuditLog } from '../../services/audit/provider.ts'
import { Recording } from '../../services/audit/recording.ts'
import { batchOf, note } from '../support/audit-batches.ts'

export interface AuditOptions {
  readonly maxBytes: number
  readonly maxAgeMs: number
}

const DAY_MS = 86_400_000
const ROOMY: AuditOptions = { maxBytes: 1024 ** 3, maxAgeMs: DAY_MS }

const textOf = (bytes: Uint8Array | undefined): string | undefined => bytes && Buffer.from(bytes).toString('latin1')

export function auditConformance(name: string, make: (dir: string, options: AuditOptions) => AuditLog): void {
  describe(`audit log ${name}`, () => {
    let dir: string
    const open: AuditLog[] = []
    beforeAll(async () => { dir = await mkdtemp(path.join(os.tmpdir(), 'cmesh-audit-')) })
    afterEach(async () => { for (const log of open.splice(0)) await log.close() })
    afterAll(() => rm(dir, { recursive: true, force: true }))

    const opened = async (at: string, options = ROOMY): Promise<{ log: AuditLog, head: Awaited<ReturnType<AuditLog['open']>> }> => {
      const log = make(path.join(dir, at), options)
      open.push(log)
      return { log, head: await log.open() }
    }
    const reopens = make('nowhere', ROOMY).durability !== 'memory'

    test('begins empty, under a name of 32 bytes that is its own', async () => {
      const [{ log, head }, { log: other }] = [await opened('one'), await opened('another')]
      expect(head).toEqual({ length: 0, last: undefined })
      expect(log.id).toHaveLength(32)
      expect(Buffer.compare(log.id, other.id)).not.toBe(0)
      expect(log.noteBytes).toBe(0)
    })

    test('open is memoised', async () => {
      const { log, head } = await opened('memoised')
      expect(await log.open()).toEqual(head)
    })

    test('gives back the blocks that were appended, in their order', async () => {
      const { log } = await opened('blocks')
      for (let i = 0; i < 5; i++) await log.append(batchOf(i, []))
      expect(await Promise.all([0, 3, 4].map(async i => textOf(await log.read(i))))).toEqual(['block 0', 'block 3', 'block 4'])
    })

    test.each([5, -1, 0.5])('has no batch %s', async number => {
      const { log } = await opened(`none ${number}`)
      await log.append(batchOf(0, []))
      await expect(log.read(number)).rejects.toThrow(`there is no batch ${number}`)
    })

    test('takes only the batch that comes next', async () => {
      const { log } = await opened('dense')
      await log.append(batchOf(0, []))
      for (const number of [0, 2]) await expect(log.append(batchOf(number, []))).rejects.toThrow(`batch 1 comes next, not ${number}`)
      await log.append(batchOf(1, []))
    })

    test('finds what was noted of a request, and the texts that go with it', async () => {
      const { log } = await opened('find')
      const [id, other, key] = [randomBytes(16), randomBytes(16), randomBytes(16)]
      await log.append(batchOf(0, [note(NOTE_OF_TEXT, 0, 0, key, 'a text'), note(NOTE_OF_REQUEST, 0, 0, other, 'theirs')]))
      await log.append(batchOf(1, [note(NOTE_OF_REQUEST, 1, 0, randomBytes(16), 'x'), note(NOTE_OF_REQUEST, 1, 1, id, 'mine')]))
      const [entry, ...more] = await log.find(id)
      expect({ more, batch: entry?.batch, index: entry?.index, sealed: textOf(entry?.sealed) }).toEqual({ more: [], batch: 1, index: 1, sealed: 'mine' })
      expect(textOf(await entry?.textOf(key))).toBe('a text')
      expect(await entry?.textOf(id)).toBeUndefined()
      expect(await log.find(key)).toEqual([])
      expect(await log.find(randomBytes(16))).toEqual([])
    })

    test('finds a request that repeats another of its batch by that one, under its own id', async () => {
      const { log } = await opened('repeat')
      const [of, again, gone] = [randomBytes(16), randomBytes(16), randomBytes(16)]
      const sealed = Buffer.concat([Buffer.alloc(17, 's'), of, Buffer.from('the rest')]).toString('latin1')
      const repeat = (index: number, id: Buffer, first: Buffer): Buffer => note(NOTE_OF_REPEAT, 1, index, id, first.toString('latin1'))
      await log.append(batchOf(0, [note(NOTE_OF_REQUEST, 0, 0, of, 'of another batch')]))
      await log.append(batchOf(1, [note(NOTE_OF_REQUEST, 1, 0, of, sealed), repeat(1, again, of), repeat(2, gone, randomBytes(16))]))
      const [entry, ...more] = await log.find(again)
      expect({ more, batch: entry?.batch, index: entry?.index }).toEqual({ more: [], batch: 1, index: 1 })
      expect(Buffer.from(entry?.sealed ?? [])).toEqual(Buffer.concat([Buffer.alloc(17, 's'), again, Buffer.from('the rest')]))
      expect(await log.find(gone)).toEqual([])
    })

    test('finds each request of a run: many that repeat others of their batch, told in one note', async () => {
      const { log } = await opened('run')
      // Its last bits wrap within the run.
      const frame = Buffer.from('0102030405060708090a0b0cfffffff0', 'hex')
      const sealedOf = (id: Buffer): string => Buffer.concat([Buffer.alloc(17, 's'), id, Buffer.from('the rest')]).toString('latin1')
      const [one, two] = [entryId(frame, 0), entryId(frame, 1)]
      const recording = new Recording()
      recording.clear(1, true)
      const finals = Buffer.alloc(200 * 32)
      const sealed = (id: Buffer): { recordBytes: number, recordTo: (target: Uint8Array, at: number) => number } =>
        ({ recordBytes: 41, recordTo: (target, at) => { target.set(Buffer.from(sealedOf(id), 'latin1'), at); return at + 41 } })
      for (const id of [one, two]) recording.add(id, '\0'.repeat(32), sealed(id), [], {}, new Set(), undefined)
      expect(recording.repeat(frame, 2, finals, Array.from({ length: 180 }, (_, i) => (i % 3 === 0 ? one : two)))).toBe(2)
      expect(recording.count).toBe(182)
      // 14 of them come before the first 64 ids end, and have a note each; the others are three runs.
      expect(recording.notes.length).toBeLessThan(2 * (31 + 41) + 14 * 47 + 3 * (31 + 10) + 180)
      await log.append(batchOf(0, [note(NOTE_OF_REQUEST, 0, 0, one, 'of another batch')]))
      await log.append({ number: 1, block: Buffer.from('block 1'), notes: Buffer.from(recording.notes), apart: true })
      for (const i of [0, 1, 2, 15, 16, 17, 79, 80, 181]) {
        const id = entryId(frame, i)
        const of = i < 2 ? id : (i - 2) % 3 === 0 ? one : two
        const [entry] = await log.find(id)
        expect({ i, batch: entry?.batch, index: entry?.index }).toEqual({ i, batch: 1, index: i })
        expect(Buffer.from(entry?.sealed ?? []).equals(Buffer.concat([Buffer.from(sealedOf(of), 'latin1').subarray(0, 17), id, Buffer.from('the rest')]))).toBe(true)
      }
      expect(await log.find(entryId(frame, 182))).toEqual([])
      expect(await log.find(entryId(frame, 0xffff_ffff))).toEqual([])
    })

    test('gives a repetition what the nearest request before it had, though its id is asked again', async () => {
      const { log } = await opened('nearest')
      const [of, again] = [randomBytes(16), randomBytes(16)]
      const sealed = (text: string): string => Buffer.concat([Buffer.alloc(17, 's'), of, Buffer.from(text)]).toString('latin1')
      await log.append(batchOf(0, [
        note(NOTE_OF_REQUEST, 0, 0, of, sealed('before')), note(NOTE_OF_REQUEST, 0, 1, of, sealed('this')), note(NOTE_OF_REPEAT, 0, 2, again, of.toString('latin1')),
        note(NOTE_OF_REQUEST, 0, 3, of, sealed('behind')),
      ]))
      const [entry] = await log.find(again)
      expect(Buffer.from(entry?.sealed ?? []).toString('latin1', 33)).toBe('this')
    })

    test('finds the requests of a run, though others are asked under the key that it is found by, and it is asked again', async () => {
      const { log } = await opened('hidden')
      const frame = Buffer.from('0102030405060708090a0b0cffffff00', 'hex')
      const recording = new Recording()
      recording.clear(0, true)
      const source = { recordBytes: 33, recordTo: (target: Uint8Array, at: number) => { target.fill(1, at, at + 33); return at + 33 } }
      for (let asked = 0; asked < 2; asked++) {
        recording.add(entryId(frame, 0), '\0'.repeat(32), source, [], {}, new Set(), undefined)
        for (const first of [1, 21, 41]) recording.repeat(frame, first, Buffer.alloc(20 * 32), Array.from({ length: 20 }, () => entryId(frame, 0)))
      }
      const notes = Array.from({ length: 6 }, (_, i) => note(NOTE_OF_REQUEST, 0, 200 + i, runKey(frame), 'another'))
      await log.append({ number: 0, block: Buffer.from('block 0'), notes: Buffer.concat([recording.notes, ...notes]), apart: true })
      for (const i of [1, 20, 21, 40, 41, 60]) expect((await log.find(entryId(frame, i))).map(({ index }) => index)).toEqual([61 + i, i])
    })

    test('of an id that was used again and again gives the four newest, the newest first', async () => {
      const { log } = await opened('same')
      const id = randomBytes(16)
      for (let i = 0; i < 7; i++) await log.append(batchOf(i, [note(NOTE_OF_REQUEST, i, 0, id, `${i}`)], i % 3 === 0))
      expect((await log.find(id)).map(({ batch, sealed }) => [batch, textOf(sealed)])).toEqual([[6, '6'], [5, '5'], [4, '4'], [3, '3']])
    })

    test('finds each of many', async () => {
      const { log } = await opened('many')
      const ids = Array.from({ length: 6_000 }, () => randomBytes(16))
      for (let i = 0; i < 3; i++) {
        await log.append(batchOf(i, ids.slice(i * 2_000, (i + 1) * 2_000).map((id, j) => note(NOTE_OF_REQUEST, i, j, id, `${i * 2_000 + j}`)), i !== 1))
      }
      for (const at of [0, 1_999, 2_000, 3_333, 5_999]) {
        const found = await log.find(ids[at] as Buffer)
        expect(found.map(({ batch, index, sealed }) => [batch, index, textOf(sealed)])).toEqual([[Math.floor(at / 2_000), at % 2_000, `${at}`]])
      }
    })

    test('keeps notes as long as they fit, drops the oldest whole segments, and every block stays', async () => {
      const { log } = await opened('pruned', { maxBytes: 2_500, maxAgeMs: DAY_MS })
      const ids = Array.from({ length: 4 }, () => randomBytes(16))
      for (const [i, id] of ids.entries()) await log.append(batchOf(i, [note(NOTE_OF_REQUEST, i, 0, id, 'x'.repeat(1_000))], true))
      const found = await Promise.all(ids.map(async id => (await log.find(id)).length))
      expect(found).toEqual([0, 0, 1, 1])
      expect(log.noteBytes).toBeGreaterThan(2_000)
      expect(log.noteBytes).toBeLessThan(2_500)
      expect(textOf(await log.read(0))).toBe('block 0')
    })

    test('drops notes that are too old, but the newest segment stays', async () => {
      const { log } = await opened('old', { maxBytes: 1024 ** 3, maxAgeMs: -1 })
      const ids = [randomBytes(16), randomBytes(16)]
      for (const [i, id] of ids.entries()) await log.append(batchOf(i, [note(NOTE_OF_REQUEST, i, 0, id, 'x')], true))
      expect(await Promise.all(ids.map(async id => (await log.find(id)).length))).toEqual([0, 1])
    })

    test('takes nothing once it is closed, and closing is idempotent', async () => {
      const { log } = await opened('closed')
      await log.append(batchOf(0, []))
      await Promise.all([log.close(), log.close()])
      await expect(log.append(batchOf(1, []))).rejects.toMatchObject({ code: 'CMESH_AUDIT_FULL' })
    })

    if (!reopens) return

    test('is after another start what it was, in segments old and new', async () => {
      const [id, key, later] = [randomBytes(16), randomBytes(16), randomBytes(16)]
      const { log } = await opened('again')
      await log.append(batchOf(0, [note(NOTE_OF_TEXT, 0, 0, key, 'a text'), note(NOTE_OF_REQUEST, 0, 0, id, 'mine')]))
      await log.close()
      const { log: again, head } = await opened('again')
      expect({ length: head.length, last: textOf(head.last), id: again.id }).toEqual({ length: 1, last: 'block 0', id: log.id })
      await again.append(batchOf(1, [note(NOTE_OF_REQUEST, 1, 0, later, 'theirs')], true))
      const [entry] = await again.find(id)
      expect([textOf(entry?.sealed), textOf(await entry?.textOf(key))]).toEqual(['mine', 'a text'])
      expect((await again.find(later)).map(({ batch }) => batch)).toEqual([1])
    })

    test('is held by one process at a time', async () => {
      await opened('held')
      await expect(opened('held')).rejects.toMatchObject({ code: 'CMESH_BOOT_DATA_IN_USE' })
    })
  })
}
