/**
 * The notes of a data directory one after another, whether a node writes there or not. Nothing is written; what the node removes meanwhile is
 * read to its end where that was begun, and left out where it was not.
 */
import { open, readdir, type FileHandle } from 'node:fs/promises'
import { join } from 'node:path'
import { asBuffer } from '../../cmtp/wire.ts'
import { aheadIn, type AheadBatch } from './ahead.ts'
import { SEGMENT_FILE } from './notes.ts'
import { readFrame, type NoteFrame } from './segment.ts'

/** One segment. A note refers to others of its own alone. */
export interface SegmentReader {
  /** The first batch in it. */
  readonly first: number
  /** What each of its batches brought, in order. */
  frames(): AsyncIterable<Pick<NoteFrame, 'batch' | 'notes'>>
}

/**
 * The segments in `<dir>/layers`, the oldest first; empty ones are left out. What is written ahead of the log stands behind what is in the newest,
 * or, where it needs none of that, in one of its own.
 */
export async function segmentsIn(dir: string): Promise<SegmentReader[]> {
  const layers = join(dir, 'layers')
  // Read first: what is put beside the log meanwhile is met there.
  const ahead = [...(await aheadIn(dir)).values()].sort((a, b) => a.number - b.number)
  const names = (await readdir(layers).catch(unlessMissing) ?? []).filter(name => SEGMENT_FILE.test(name)).sort()
  const segments: SegmentReader[] = []
  let last = -1
  for (const name of names) {
    const path = join(layers, name)
    let first: number | undefined
    for await (const { batch } of framesOf(path)) {
      first ??= batch
      last = Math.max(last, batch)
      if (name !== names.at(-1)) break
    }
    if (first !== undefined) segments.push({ first, frames: () => framesOf(path) })
  }
  let missing = ahead.filter(({ number }) => number > last)
  while (missing.length > 0) {
    const apart = missing.findIndex((batch, i) => batch.apart && i > 0)
    const own = apart < 0 ? missing : missing.slice(0, apart)
    const before = own[0]?.apart === true ? undefined : segments.pop()
    segments.push({ first: before?.first ?? own[0]?.number as number, frames: () => both(before, own) })
    missing = apart < 0 ? [] : missing.slice(apart)
  }
  return segments
}

async function* both(before: SegmentReader | undefined, ahead: readonly AheadBatch[]): AsyncGenerator<Pick<NoteFrame, 'batch' | 'notes'>> {
  let last = -1
  for await (const frame of before?.frames() ?? []) {
    last = frame.batch
    yield frame
  }
  for (const { number, notes } of ahead) if (number > last) yield { batch: number, notes: asBuffer(notes) }
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
