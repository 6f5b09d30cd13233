/**
 * What is written ahead of the audit log, so that one append to it is of many batches: `<dir>/ahead-0` and `<dir>/ahead-1`. Batches go into one
 * of them while those of the other are put onto the log; when they are, it is written to from its beginning again. What one batch brought
 * stands in it as one frame:
 *
 *   frame   "CMAH" (4) · batch (6) · length of the block (4) · length of the notes (4) · apart (1) · CRC-32 of all but magic and CRC (4) · block · notes
 *
 * Frames that were put onto the log stay until they are written over: their batches are those that the log has. Behind the last frame of a file
 * may stand older ones, and one that was being written when the process ended; the next number in a row is what tells them apart.
 */
import { writev } from 'node:fs'
import { open, readFile, rm, type FileHandle } from 'node:fs/promises'
import { join } from 'node:path'
import { crc32 } from 'node:zlib'
import type { AuditBatch } from '../../services/audit/provider.ts'

const MAGIC = 0x434d_4148
const HEADER_BYTES = 23
const CRC_AT = 19
const FILES = ['ahead-0', 'ahead-1'] as const
/** A file that was longer is cut off before it is used again. */
const KEPT_BYTES = 4 * 1024 * 1024

interface Filling {
  readonly file: FileHandle
  bytes: number
}

export class Ahead {
  readonly #dir: string
  readonly #sync: boolean
  readonly #files: readonly [Filling, Filling]
  #at: 0 | 1 = 0

  private constructor(dir: string, sync: boolean, files: readonly [Filling, Filling]) {
    this.#dir = dir
    this.#sync = sync
    this.#files = files
  }

  /** `sync`: what was written is on the disk when `write` resolves. What was there must have been read before. */
  static async open(dir: string, sync: boolean): Promise<Ahead> {
    const [first, second] = await Promise.all(FILES.map(async name => ({ file: await openFile(join(dir, name)), bytes: 0 })))
    return new Ahead(dir, sync, [first as Filling, second as Filling])
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
    header.writeUInt32BE(checkOf(header, block, notes), CRC_AT)
    const whole = HEADER_BYTES + block.length + notes.length
    const bytes = await written(filling.file, [header, block, notes], filling.bytes)
    if (bytes !== whole) throw new Error(`no space left: ${bytes} of ${whole} bytes were written`)
    if (this.#sync) await filling.file.datasync()
    filling.bytes += whole
  }

  /** From here on batches go into the other file. Gives what is to be called when those of this one are on the log. */
  turn(): () => Promise<void> {
    const filling = this.#files[this.#at]
    this.#at = this.#at === 0 ? 1 : 0
    return async () => {
      if (filling.bytes > KEPT_BYTES) await filling.file.truncate(0)
      filling.bytes = 0
    }
  }

  /** Lets go of the files. With `emptied` nothing is left to put onto the log, and they go. */
  async close(emptied: boolean): Promise<void> {
    await Promise.all(this.#files.map(({ file }) => file.close()))
    if (emptied) await Promise.all(FILES.map(name => rm(join(this.#dir, name), { force: true })))
  }
}

/** The batches that were written ahead of a log of so many, in a row from there; nothing is changed. `beyond`: the first of a later row, where there is one. */
export async function aheadOf(dir: string, length: number): Promise<{ readonly batches: readonly AuditBatch[], readonly beyond: number | undefined }> {
  const found = new Map<number, AuditBatch>()
  for (const name of FILES) {
    for (const batch of framesOf(await readFile(join(dir, name)).catch(unlessMissing))) if (batch.number >= length) found.set(batch.number, batch)
  }
  const batches: AuditBatch[] = []
  for (let batch = found.get(length); batch !== undefined; batch = found.get(length + batches.length)) batches.push(batch)
  const beyond = [...found.keys()].filter(number => number > length + batches.length)
  return { batches, beyond: beyond.length === 0 ? undefined : Math.min(...beyond) }
}

/** The frames from the beginning, as long as each is whole and follows on the one before. */
function* framesOf(bytes: Buffer): Generator<AuditBatch> {
  let last: number | undefined
  for (let at = 0; at + HEADER_BYTES <= bytes.length && bytes.readUInt32BE(at) === MAGIC;) {
    const number = bytes.readUIntBE(at + 4, 6)
    const blockAt = at + HEADER_BYTES
    const notesAt = blockAt + bytes.readUInt32BE(at + 10)
    const end = notesAt + bytes.readUInt32BE(at + 14)
    if (end > bytes.length || (last !== undefined && number !== last + 1)) return
    const [block, notes] = [bytes.subarray(blockAt, notesAt), bytes.subarray(notesAt, end)]
    if (checkOf(bytes.subarray(at, blockAt), block, notes) !== bytes.readUInt32BE(at + CRC_AT)) return
    yield { number, block, notes, apart: bytes[at + 18] === 1 }
    last = number
    at = end
  }
}

function checkOf(header: Buffer, block: Uint8Array, notes: Uint8Array): number {
  return crc32(notes, crc32(block, crc32(header.subarray(4, CRC_AT))))
}

/** Made when it is missing; what is in it stays. */
async function openFile(path: string): Promise<FileHandle> {
  return open(path, 'r+').catch((thrown: unknown) => {
    unlessMissing(thrown)
    return open(path, 'wx+', 0o600)
  })
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
