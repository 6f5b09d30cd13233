/**
 * One file of notes. What one batch brought stands in it as one frame:
 *
 *   frame   "CMNF" (4) · batch (6) · length (4) · CRC-32 of the notes (4) · notes
 *
 * While it is the newest its index is in memory; once it is followed by another the index lies beside it, and the file is never written to
 * again, but by a start that goes on where a kill left off. What follows the last whole frame was being written when the process ended, and is cut off.
 */
import { open, rename, rm, stat, writeFile, type FileHandle } from 'node:fs/promises'
import { crc32 } from 'node:zlib'
import { asBuffer } from '../../cmtp/wire.ts'
import type { AuditBatch } from '../../services/audit/provider.ts'
import { eachKey, NOTE_HEADER_BYTES, NOTE_OF_RUN, readNote, type Note } from '../../services/audit/messages.ts'
import { written } from './ahead.ts'
import { NoteIndex, offsetsIn, readIndexHeader } from './note-index.ts'

const MAGIC = 0x434d_4e46
const FRAME_HEADER_BYTES = 18

/** What one batch brought, as it stands in a segment. */
export interface NoteFrame {
  readonly batch: number
  readonly notes: Buffer
  /** Where the next one begins. */
  readonly end: number
}

interface Writing {
  readonly file: FileHandle
  readonly index: NoteIndex
  /** The newest batch in it; −1 before there is one. */
  last: number
}

export class Segment {
  readonly #path: string
  #bytes: number
  #newestMs: number
  #writing: Writing | undefined
  /** In its index, once that is beside it. */
  #notes = 0

  private constructor(path: string, bytes: number, newestMs: number) {
    this.#path = path
    this.#bytes = bytes
    this.#newestMs = newestMs
  }

  get bytes(): number {
    return this.#bytes
  }

  /** When it was last written to, ms since 1970. */
  get newestMs(): number {
    return this.#newestMs
  }

  /** A new file, to be written to: `<path>.seg`. `before`: the one before it, which is likely to have held as many notes. */
  static async make(path: string, nowMs: number, before?: Segment): Promise<Segment> {
    const segment = new Segment(path, 0, nowMs)
    await rm(`${path}.idx`, { force: true })
    segment.#writing = { file: await open(`${path}.seg`, 'w+', 0o600), index: new NoteIndex(before === undefined ? 0 : before.#notes), last: -1 }
    return segment
  }

  /** One from before, which is written to no more. `length`: batches on the log; what it has of others goes. */
  static async found(path: string, length: number): Promise<Segment> {
    const { size, mtimeMs } = await stat(`${path}.seg`)
    const segment = new Segment(path, size, mtimeMs)
    const known = await indexOf(path, header => Promise.resolve(header?.last))
    if (known !== undefined && known < length) return segment
    await segment.#scan(length)
    await segment.seal()
    return segment
  }

  /** The newest batch in it, −1 for none. */
  static async lastIn(path: string): Promise<number> {
    const known = await indexOf(path, header => Promise.resolve(header?.last))
    // An index says 0 where there is none, too.
    if (known !== undefined && known > 0) return known
    const file = await open(`${path}.seg`, 'r')
    try {
      const { size } = await file.stat()
      let last = -1
      for (let frame = await readFrame(file, 0, size); frame !== undefined; frame = await readFrame(file, frame.end, size)) last = frame.batch
      return last
    } finally {
      await file.close()
    }
  }

  /** Takes it up again where it ends: what follows needs notes that are in it. */
  async resume(): Promise<void> {
    await rm(`${this.#path}.idx`, { force: true })
    await this.#scan(Infinity)
  }

  /** Writes the notes of batches that follow on each other. With `sync` they are on the disk when this resolves. */
  async write(batches: readonly Pick<AuditBatch, 'number' | 'notes'>[], nowMs: number, sync: boolean): Promise<void> {
    const writing = this.#open()
    const frames = batches.flatMap(({ number, notes }) => [headerOf(number, notes), notes])
    const whole = frames.reduce((bytes, frame) => bytes + frame.length, 0)
    const bytesWritten = await written(writing.file, frames, this.#bytes)
    if (bytesWritten !== whole) throw new Error(`no space left: ${bytesWritten} of ${whole} bytes were written`)
    if (sync) await writing.file.datasync()
    let at = this.#bytes
    for (const { number, notes } of batches) {
      addAll(writing.index, asBuffer(notes), at + FRAME_HEADER_BYTES)
      at += FRAME_HEADER_BYTES + notes.length
      writing.last = number
    }
    this.#bytes = at
    this.#newestMs = nowMs
  }

  /** The notes that have this key, the newest first; `run`: the runs, no others. */
  async find(key: Uint8Array, run = false): Promise<Note[]> {
    const writing = this.#writing
    if (writing !== undefined) {
      try {
        return await this.#notesAt(writing.file, writing.index.offsets(key, run), key)
      } catch (thrown) {
        // Its index lies beside it by now.
        if (this.#writing === writing) throw thrown
      }
    }
    const offsets = await indexOf(this.#path, async (header, file) => (header === undefined ? [] : offsetsIn(file, header, key, run)))
    if (offsets === undefined || offsets.length === 0) return []
    const file = await openedIf(`${this.#path}.seg`)
    // It may go while it is looked into.
    if (file === undefined) return []
    try {
      return await this.#notesAt(file, offsets, key)
    } finally {
      await file.close()
    }
  }

  /** Puts its index beside it; from here on it is only read. */
  async seal(): Promise<void> {
    const { file, index, last } = this.#open()
    const part = `${this.#path}.idx.part`
    this.#notes = index.size
    try {
      await writeFile(part, index.encode(Math.max(0, last)), { mode: 0o600 })
      await rename(part, `${this.#path}.idx`)
    } finally {
      // Not before: whoever looks something up meanwhile finds it here.
      this.#writing = undefined
      await file.close()
    }
  }

  async remove(): Promise<void> {
    await this.#writing?.file.close()
    this.#writing = undefined
    await rm(`${this.#path}.idx`, { force: true })
    await rm(`${this.#path}.seg`, { force: true })
  }

  #open(): Writing {
    if (this.#writing === undefined) throw new Error('the segment is not written to any more')
    return this.#writing
  }

  async #notesAt(file: FileHandle, offsets: readonly number[], key: Uint8Array): Promise<Note[]> {
    const found: Note[] = []
    for (const offset of offsets) {
      const header = Buffer.alloc(NOTE_HEADER_BYTES)
      const { bytesRead } = await file.read(header, 0, NOTE_HEADER_BYTES, offset)
      const length = NOTE_HEADER_BYTES + header.readUInt32BE(11)
      if (bytesRead < NOTE_HEADER_BYTES || offset + length > this.#bytes) continue
      const bytes = Buffer.alloc(length)
      await file.read(bytes, 0, length, offset)
      const note = readNote(bytes, 0)
      if (note !== undefined && Buffer.compare(note.key, key) === 0) found.push(note)
    }
    return found
  }

  /** Makes the index anew and cuts off what is not on the log. */
  async #scan(length: number): Promise<void> {
    const file = await open(`${this.#path}.seg`, 'r+')
    const index = new NoteIndex()
    let kept = 0
    let last = -1
    for (let at = 0; ;) {
      const frame = await readFrame(file, at, this.#bytes)
      if (frame === undefined) break
      last = frame.batch
      if (frame.batch < length) {
        addAll(index, frame.notes, at + FRAME_HEADER_BYTES)
        kept = frame.end
      }
      at = frame.end
    }
    await file.truncate(kept)
    this.#bytes = kept
    this.#writing = { file, index, last: Math.min(last, length - 1) }
  }
}

function headerOf(batch: number, notes: Uint8Array): Buffer {
  const header = Buffer.allocUnsafe(FRAME_HEADER_BYTES)
  header.writeUInt32BE(MAGIC, 0)
  header.writeUIntBE(batch, 4, 6)
  header.writeUInt32BE(notes.length, 10)
  header.writeUInt32BE(crc32(notes), 14)
  return header
}

/** The whole frame at an offset of a file of so many bytes; `undefined` where there is none. */
export async function readFrame(file: FileHandle, at: number, size: number): Promise<NoteFrame | undefined> {
  if (at + FRAME_HEADER_BYTES > size) return undefined
  const header = Buffer.alloc(FRAME_HEADER_BYTES)
  await file.read(header, 0, FRAME_HEADER_BYTES, at)
  const [batch, bytes] = [header.readUIntBE(4, 6), header.readUInt32BE(10)]
  const end = at + FRAME_HEADER_BYTES + bytes
  if (header.readUInt32BE(0) !== MAGIC || end > size) return undefined
  const notes = Buffer.allocUnsafe(bytes)
  await file.read(notes, 0, bytes, at + FRAME_HEADER_BYTES)
  return crc32(notes) === header.readUInt32BE(14) ? { batch, notes, end } : undefined
}

function addAll(index: NoteIndex, notes: Buffer, offset: number): void {
  eachKey(notes, (keyAt, at) => { index.add(notes, keyAt, offset + at, notes[at] === NOTE_OF_RUN) })
}

/** What `use` makes of the index beside a segment; `undefined` where there is none. */
async function indexOf<T>(path: string, use: (header: Awaited<ReturnType<typeof readIndexHeader>>, file: FileHandle) => Promise<T>): Promise<T | undefined> {
  const file = await openedIf(`${path}.idx`)
  if (file === undefined) return undefined
  try {
    return await use(await readIndexHeader(file), file)
  } finally {
    await file.close()
  }
}

/** `undefined` where there is no such file. */
async function openedIf(path: string): Promise<FileHandle | undefined> {
  return open(path, 'r').catch((thrown: unknown) => {
    if ((thrown as NodeJS.ErrnoException).code === 'ENOENT') return undefined
    throw thrown
  })
}
