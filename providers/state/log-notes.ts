/**
 * Small notes beside a log, as JSON in files of their own: on the disk, whole or not at all, before whoever writes one goes on.
 */
import { open, readFile, rename, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { CMeshError } from '../../cmtp/errors.ts'
import type { TakenNote, TakenNotes } from '../../services/state/provider.ts'
import { syncDirectory } from '../sync-directory.ts'
import { readError, writeError } from './log-error.ts'

export const TAKEN_NOTE = 'taken.json'

/** Resolves when the note is on the disk. Rejects with `CMESH_STATE_FULL`. */
export async function writeNote(dir: string, name: string, note: object): Promise<void> {
  const path = join(dir, name)
  try {
    const file = await open(`${path}.part`, 'w', 0o600)
    try {
      await file.writeFile(`${JSON.stringify(note, undefined, 2)}\n`)
      await file.sync()
    } finally {
      await file.close()
    }
    await rename(`${path}.part`, path)
    await syncDirectory(dir)
  } catch (thrown) {
    throw writeError(thrown)
  }
}

/** On whose word the log of a directory took in blocks. */
export function takenNotes(dir: string): TakenNotes {
  const path = join(dir, TAKEN_NOTE)
  return {
    read: async () => {
      const text = await readFile(path, 'utf8').catch((thrown: unknown) => {
        if ((thrown as NodeJS.ErrnoException).code === 'ENOENT') return undefined
        throw readError(thrown, path, 0)
      })
      return text === undefined ? undefined : noteIn(text, path)
    },
    write: note => writeNote(dir, TAKEN_NOTE, note),
    forget: () => rm(path, { force: true }).catch((thrown: unknown) => { throw writeError(thrown) }),
  }
}

function noteIn(text: string, path: string): TakenNote {
  let value: unknown
  try {
    value = JSON.parse(text)
  } catch {
    value = undefined
  }
  const { from, seq, by } = (typeof value === 'object' && value !== null ? value : {}) as Partial<TakenNote>
  const sound = Number.isSafeInteger(from) && Number.isSafeInteger(seq) && Array.isArray(by) && by.every(did => typeof did === 'string')
  if (!sound) throw new CMeshError('CMESH_STATE_CORRUPT', { path, block: 0, reason: 'it does not say on whose word blocks were taken in' })
  return { from: from as number, seq: seq as number, by: by }
}
