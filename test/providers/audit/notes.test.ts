/** Notes in their segments: looked for while a segment is closed and while one goes, and on the disk by name. */
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { randomBytes } from 'node:crypto'
import { afterEach, beforeEach, expect, test } from '@jest/globals'
import { Notes } from '../../../providers/audit/notes.ts'
import { NOTE_OF_REQUEST } from '../../../services/audit/messages.ts'
import { batchOf, note } from '../../support/audit-batches.ts'

let dir: string
beforeEach(async () => { dir = await mkdtemp(path.join(tmpdir(), 'cmesh-notes-')) })
afterEach(() => rm(dir, { recursive: true, force: true }))

async function opened(maxBytes = 1e9): Promise<Notes> {
  const notes = new Notes({ dir, sync: false, maxBytes, maxAgeMs: 1e9, now: Date.now })
  await notes.open(0)
  return notes
}

test('what is noted is found at any moment while its segment is closed and the next begins', async () => {
  const notes = await opened()
  const id = randomBytes(16)
  await notes.write([batchOf(0, [0, 1, 2].map(n => note(NOTE_OF_REQUEST, 0, n, id, `request ${n}`)), true)])
  const writing = notes.write([batchOf(1, [note(NOTE_OF_REQUEST, 1, 0, randomBytes(16), 'another')], true)])
  const found: number[] = []
  let over = false
  void writing.finally(() => { over = true })
  while (!over) found.push((await notes.find(id)).length)
  found.push((await notes.find(id)).length)
  expect(new Set(found)).toEqual(new Set([3]))
  await notes.close()
})

test('a segment of which the file went before its index was opened has nothing', async () => {
  const notes = await opened()
  const ids = [randomBytes(16), randomBytes(16)] as const
  for (const [n, id] of ids.entries()) await notes.write([batchOf(n, [note(NOTE_OF_REQUEST, n, 0, id, 'x')], true)])
  await rm(path.join(dir, '00000000.seg'))
  expect(await notes.find(ids[0])).toEqual([])
  expect(await notes.find(ids[1])).toHaveLength(1)
  await notes.close()
})
