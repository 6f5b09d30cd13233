/**
 * What is written ahead of the audit log, so that one append to it is of many batches: `<dir>/ahead-0` and `<dir>/ahead-1`. Batches go into one
 * of them while those of the other are put onto the log; when they are, it is written to from its beginning again. What one batch brought
 * stands in it as one frame:
 *
 *   frame   "CMAH" (4) · batch (6) · length of the block (4) · length of the notes (4) · apart (1) · SHA-256 of the block before, zeros for none (32)
 *           · CRC-32 of all but magic and CRC (4) · block · notes
 *
 * Invariant: a frame is taken for one that follows on the log only by its number and by the block before it. What stands behind the last frame of
 * a file, from an earlier use of it or cut off by the end of the process, is none of them: those of an earlier use are on the log.
 */
import { hash } from 'node:crypto'
import { writev } from 'node:fs'
import { open, readFile, rm, type FileHandle } from 'node:fs/promises'
import { join } from 'node:path'
import { crc32 } from 'node:zlib'
import type { AuditBatch } from '../../services/audit/provider.ts'
import { syncDirectory } from '../sync-directory.ts'

const MAGIC = 0x434d_4148
const MAGIC_BYTES = Buffer.from('CMAH', 'latin1')
const PREVIOUS_AT = 19
const CRC_AT = 51
const HEADER_BYTES = 55
const FILES = ['ahead-0', 'ahead-1'] as const
/** A file that was longer is cut off before it is used again. */
const KEPT_BYTES = 4 * 1024 * 1024
const NONE = Buffer.alloc(32)

interface Filling {
  readonly file: FileHandle
  bytes: number
}

/** What was written ahead, and the hash of the block before it. */
export interface AheadBatch extends AuditBatch {
  readonly previous: Buffer
}

export class Ahead {
  readonly #dir: string
  readonly #sync: boolean
  readonly #files: readonly [Filling, Filling]
  #at: 0 | 1 = 0
  #previous: Buffer

  private constructor(dir: string, sync: boolean, files: readonly [Filling, Filling], previous: Buffer) {
    this.#dir = dir
    this.#sync = sync
    this.#files = files
    this.#previous = previous
  }

  /** Begins with nothing, behind a log with this last block: what was there must be on it. `sync`: what is written is on the disk when `write` resolves. */
  static async open(dir: string, sync: boolean, last: Uint8Array | undefined): Promise<Ahead> {
    const [first, second] = await Promise.all(FILES.map(async name => ({ file: await open(join(dir, name), 'w', 0o600), bytes: 0 })))
    if (sync) await syncDirectory(dir)
    return new Ahead(dir, sync, [first as Filling, second as Filling], hashOf(last))
  }

  /** One at a time. */
  async write({ number, block, notes, apart }: AuditBatch): Promise<void> {
    const filling = this.#files[this.#at]
    const header = Buffer.allocUnsafe(HEADER_BYTES)
    header.writeUInt32BE(MAGIC, 0)
    header.writeUIntBE(number, 4, 6)
    header.writeUInt32BE(block.length, 10)
    header.writeUInt32BE(notes.length, 14)
    header[18] = apart ? 1 : 0
    header.set(this.#previous, PREVIOUS_AT)
    header.writeUInt32BE(checkOf(header, block, notes), CRC_AT)
    const whole = HEADER_BYTES + block.length + notes.length
    const bytes = await written(filling.file, [header, block, notes], filling.bytes)
    if (bytes !== whole) throw new Error(`no space left: ${bytes} of ${whole} bytes were written`)
    if (this.#sync) await filling.file.datasync()
    filling.bytes += whole
    this.#previous = hashOf(block)
  }

  /** From here on batches go into the other file. Gives what is to be called when those of this one are on the log; `idle`: none has come since. */
  turn(): (idle: boolean) => Promise<void> {
    const filling = this.#files[this.#at]
    this.#at = this.#at === 0 ? 1 : 0
    return async idle => {
      // The notes in it are to be kept no longer than those beside the log; a file that is soon written to again keeps its room.
      if (idle || filling.bytes > KEPT_BYTES) await filling.file.truncate(0)
      filling.bytes = 0
    }
  }

  /** Lets go of the files. With `emptied` nothing is left to put onto the log, and they go. */
  async close(emptied: boolean): Promise<void> {
    await Promise.all(this.#files.map(({ file }) => file.close()))
    if (emptied) await Promise.all(FILES.map(name => rm(join(this.#dir, name), { force: true })))
  }
}

/** All whole frames that stand there, by their numbers, older ones of an earlier use among them; nothing is changed. */
export async function aheadIn(dir: string): Promise<ReadonlyMap<number, AheadBatch>> {
  const found = new Map<number, AheadBatch>()
  for (const name of FILES) {
    for (const batch of framesOf(await readFile(join(dir, name)).catch(unlessMissing))) found.set(batch.number, batch)
  }
  return found
}

export interface AheadRow {
  readonly batches: readonly AheadBatch[]
  /** The first that is not on the log and does not follow on it either, where there is one. */
  readonly beyond: number | undefined
}

/** Those that follow on a log of so many batches with this last block. */
export function aheadOf(found: ReadonlyMap<number, AheadBatch>, length: number, last: Uint8Array | undefined): AheadRow {
  const batches: AheadBatch[] = []
  let previous = hashOf(last)
  for (let batch = found.get(length); batch?.previous.equals(previous) === true; batch = found.get(length + batches.length)) {
    batches.push(batch)
    previous = hashOf(batch.block)
  }
  const beyond = [...found.keys()].filter(number => number >= length + batches.length)
  return { batches, beyond: beyond.length === 0 ? undefined : Math.min(...beyond) }
}

/** Every whole frame. Behind one that is damaged others may stand that follow on it: what was written ahead is not whole then. */
function* framesOf(bytes: Buffer): Generator<AheadBatch> {
  for (let at = bytes.indexOf(MAGIC_BYTES); at >= 0;) {
    const frame = frameAt(bytes, at)
    if (frame !== undefined) yield frame.batch
    at = bytes.indexOf(MAGIC_BYTES, frame === undefined ? at + 1 : frame.end)
  }
}

function frameAt(bytes: Buffer, at: number): { readonly batch: AheadBatch, readonly end: number } | undefined {
  const blockAt = at + HEADER_BYTES
  if (blockAt > bytes.length) return undefined
  const notesAt = blockAt + bytes.readUInt32BE(at + 10)
  const end = notesAt + bytes.readUInt32BE(at + 14)
  if (end > bytes.length) return undefined
  const [block, notes] = [bytes.subarray(blockAt, notesAt), bytes.subarray(notesAt, end)]
  if (checkOf(bytes.subarray(at, blockAt), block, notes) !== bytes.readUInt32BE(at + CRC_AT)) return undefined
  const previous = bytes.subarray(at + PREVIOUS_AT, at + CRC_AT)
  return { batch: { number: bytes.readUIntBE(at + 4, 6), block, notes, apart: bytes[at + 18] === 1, previous }, end }
}

function checkOf(header: Buffer, block: Uint8Array, notes: Uint8Array): number {
  return crc32(notes, crc32(block, crc32(header.subarray(4, CRC_AT))))
}

function hashOf(block: Uint8Array | undefined): Buffer {
  return block === undefined ? NONE : hash('sha256', block, 'buffer')
}

function unlessMissing(thrown: unknown): Buffer {
  if ((thrown as NodeJS.ErrnoException).code !== 'ENOENT') throw thrown
  return Buffer.alloc(0)
}

/** As the callback has it: the promise of a file handle costs as much again as the write. */
export function written(file: FileHandle, buffers: readonly Uint8Array[], position: number): Promise<number> {
  return new Promise((resolve, reject) => {
    writev(file.fd, buffers, position, (error, bytesWritten) => {
      if (error === null) resolve(bytesWritten)
      else reject(error)
    })
  })
}
