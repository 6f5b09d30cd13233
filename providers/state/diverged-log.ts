/**
 * The log of a replica that came to another state than the quorum did. `<dir>/diverged.json` says from which sequence on; the next
 * opening keeps log, key and note in `log.diverged-<seq>/`, so that the new log is signed by a new key.
 *
 * Invariant: wherever the putting aside is cut off, the next opening ends it, and never takes a new log for the diverged one.
 */
import { existsSync } from 'node:fs'
import { mkdir, readFile, rename } from 'node:fs/promises'
import { join } from 'node:path'
import { CMeshError } from '../../cmtp/errors.ts'
import type { DivergenceNote } from '../../services/state/provider.ts'
import { readError } from './log-error.ts'
import { TAKEN_NOTE, writeNote } from './log-notes.ts'

const NOTE = 'diverged.json'

/** Resolves when the note is on the disk. Rejects with `CMESH_STATE_FULL`. */
export function writeDivergence(dir: string, note: DivergenceNote): Promise<void> {
  return writeNote(dir, NOTE, note)
}

/** Puts a diverged log aside, if there is a note of one. Rejects with `CMESH_STATE_CORRUPT` for a note that cannot be read. */
export async function putAside(dir: string): Promise<void> {
  const path = join(dir, NOTE)
  if (!existsSync(path)) return
  try {
    const seq = sequenceOf(await readFile(path, 'utf8'), path)
    const kept = await placeFor(dir, seq)
    // The note goes along last: what is still here by then is to follow.
    for (const name of [TAKEN_NOTE, 'log', 'key']) {
      const from = join(dir, name)
      if (existsSync(from)) await rename(from, join(kept, name))
    }
    await rename(path, join(kept, NOTE))
  } catch (thrown) {
    throw readError(thrown, path, 0)
  }
}

/** A directory of its own; one that an opening left half done, its note not in it yet, is taken up again. */
async function placeFor(dir: string, seq: number): Promise<string> {
  for (let again = 1; ; again++) {
    const kept = join(dir, `log.diverged-${seq}${again === 1 ? '' : `-${again}`}`)
    if (existsSync(join(kept, NOTE))) continue
    await mkdir(kept, { recursive: true, mode: 0o700 })
    return kept
  }
}

function sequenceOf(text: string, path: string): number {
  let note: unknown
  try {
    note = JSON.parse(text)
  } catch {
    note = undefined
  }
  if (typeof note === 'object' && note !== null && 'seq' in note && Number.isSafeInteger(note.seq)) return note.seq as number
  throw new CMeshError('CMESH_STATE_CORRUPT', { path, block: 0, reason: 'it does not say from which sequence on the log differs' })
}
