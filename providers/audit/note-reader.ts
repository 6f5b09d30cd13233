/**
 * The notes of a data directory one after another, whether a node writes there or not. Nothing is written; what the node removes meanwhile is
 * read to its end where that was begun, and left out where it was not.
 */
import { open, readdir, type FileHandle } from 'node:fs/promises'
import { join } from 'node:path'
import { SEGMENT_FILE } from './notes.ts'
import { readFrame, type NoteFrame } from './segment.ts'

/** One segment. A note refers to others of its own alone. */
export interface SegmentReader {
  /** The first batch in it. */
  readonly first: number
  /** What each of its batches brought, in order. */
  frames(): AsyncIterable<NoteFrame>
}

/** The segments in `dir`, the oldest first; empty ones are left out. */
export async function segmentsIn(dir: string): Promise<SegmentReader[]> {
  const names = (await readdir(dir).catch(unlessMissing) ?? []).filter(name => SEGMENT_FILE.test(name)).sort()
  const segments: SegmentReader[] = []
  for (const name of names) {
    const path = join(dir, name)
    for await (const { batch } of framesOf(path)) {
      segments.push({ first: batch, frames: () => framesOf(path) })
      break
    }
  }
  return segments
}

async function* framesOf(path: string): AsyncGenerator<NoteFrame> {
  const file: FileHandle | undefined = await open(path, 'r').catch(unlessMissing)
  if (file === undefined) return
  try {
    const { size } = await file.stat()
    for (let frame = await readFrame(file, 0, size); frame !== undefined; frame = await readFrame(file, frame.end, size)) yield frame
  } finally {
    await file.close()
  }
}

function unlessMissing(thrown: unknown): undefined {
  if ((thrown as NodeJS.ErrnoException).code !== 'ENOENT') throw thrown
  return undefined
}
