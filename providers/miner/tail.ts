/**
 * Follows one log file by its path: gives the bytes as they are appended, and says when another file begins. It knows
 * nothing of lines or entries and waits for nothing: whoever reads asks again when something may have changed.
 *
 * What it follows: growth; rotation by rename (the old file is read to its end, and must have been quiet for
 * `rotateWaitMs`, since its writer may hold it a while longer); truncation in place, seen by the size or by other bytes at
 * the beginning; a path that does not exist yet. What it cannot see: a file that came and went between two looks, and a
 * file truncated and written again past the old position with the same first `PREFIX_BYTES`.
 */
import { hash } from 'node:crypto'
import { open, readdir, stat, type FileHandle } from 'node:fs/promises'
import type { BigIntStats } from 'node:fs'
import path from 'node:path'
import { CMeshError } from '../../cmtp/errors.ts'
import type { Checkpoint, FileIdentity, Fingerprint } from './checkpoint.ts'
import { isMissing } from './file-errors.ts'

/** How much of a file's beginning tells it from another of the same number. */
export const PREFIX_BYTES = 1_024
const CHUNK_BYTES = 65_536

/** One life of a file: a truncation begins another. */
export class TailedFile implements FileIdentity {
  readonly dev: string
  readonly ino: string
  /** Its first bytes as far as they were read, at most `PREFIX_BYTES`. */
  prefix: Buffer

  constructor(stats: BigIntStats, prefix: Buffer = Buffer.alloc(0)) {
    this.dev = String(stats.dev)
    this.ino = String(stats.ino)
    this.prefix = prefix
  }

  get fingerprint(): Fingerprint {
    return { bytes: this.prefix.length, sha256: hash('sha256', this.prefix, 'hex') }
  }

  isSame(other: BigIntStats): boolean {
    return this.dev === String(other.dev) && this.ino === String(other.ino)
  }
}

export type BeginReason = 'opened' | 'resumed' | 'rotated' | 'truncated'

export type TailStep =
  /** The next bytes. Valid until `read` is called again. */
  | { readonly kind: 'bytes', readonly bytes: Uint8Array }
  /** What follows is from this file, from this offset on. */
  | { readonly kind: 'begin', readonly file: TailedFile, readonly offset: number, readonly because: BeginReason }
  /** Nothing more now. */
  | { readonly kind: 'end' }

export interface TailOptions {
  readonly path: string
  /** In ms. */
  readonly rotateWaitMs: number
  /** Monotonic, in ms. */
  readonly now: () => number
}

export class Tail {
  readonly #path: string
  readonly #rotateWaitMs: number
  readonly #now: () => number
  readonly #chunk = Buffer.allocUnsafe(CHUNK_BYTES)
  #handle: FileHandle | undefined
  #file: TailedFile | undefined
  #offset = 0
  #size = 0
  /** Since when the file has been quiet after another one was seen under its path. */
  #quietSinceMs: number | undefined
  /** The end was reached since the beginning was last compared. */
  #atRest = false

  constructor(options: TailOptions) {
    this.#path = options.path
    this.#rotateWaitMs = options.rotateWaitMs
    this.#now = options.now
  }

  /** Bytes of the file that is open, as last seen. */
  get size(): number {
    return this.#size
  }

  /** Takes up the file a checkpoint names, under the path or renamed in the same directory. `undefined`: it is not there. */
  async resume(checkpoint: Checkpoint): Promise<TailStep | undefined> {
    for (const candidate of await this.#candidates(checkpoint)) {
      const found = await openFile(candidate)
      if (found === undefined) continue
      const { handle, stats } = found
      const prefix = await readPrefix(handle, Math.min(PREFIX_BYTES, checkpoint.offset))
      const print = await readPrefix(handle, Math.min(PREFIX_BYTES, checkpoint.fingerprint.bytes))
      const same = stats.size >= checkpoint.offset && print.length === checkpoint.fingerprint.bytes
        && hash('sha256', print, 'hex') === checkpoint.fingerprint.sha256
      if (same) return this.#begin(handle, new TailedFile(stats, prefix), checkpoint.offset, 'resumed')
      await handle.close()
    }
    return undefined
  }

  /** The next step. Rejects with what the file system says, other than that the file is missing; it may be called again then. */
  async read(): Promise<TailStep> {
    for (;;) {
      const [handle, file] = [this.#handle, this.#file]
      if (handle === undefined || file === undefined) return await this.#open('opened')
      if (this.#atRest && !await this.#beginsAsBefore(handle, file)) return await this.#startOver(handle)
      this.#atRest = false
      const { bytesRead } = await handle.read(this.#chunk, 0, CHUNK_BYTES, this.#offset)
      const stats = await handle.stat({ bigint: true })
      this.#size = Number(stats.size)
      if (bytesRead > 0) return this.#took(file, this.#chunk.subarray(0, bytesRead))
      if (this.#size < this.#offset) return await this.#startOver(handle)
      if (this.#size > this.#offset) continue
      this.#atRest = true
      if (!await this.#pathMovedOn(file)) {
        this.#quietSinceMs = undefined
        return { kind: 'end' }
      }
      if (this.#quietSinceMs === undefined) {
        // The look at the path came after the look at the file's end: look there once more at least.
        this.#quietSinceMs = this.#now()
        continue
      }
      if (this.#now() - this.#quietSinceMs < this.#rotateWaitMs) return { kind: 'end' }
      await this.close()
      return await this.#open('rotated')
    }
  }

  async close(): Promise<void> {
    const handle = this.#handle
    this.#handle = undefined
    this.#file = undefined
    await handle?.close()
  }

  async #open(because: BeginReason): Promise<TailStep> {
    const found = await openFile(this.#path)
    if (found === undefined) return { kind: 'end' }
    return this.#begin(found.handle, new TailedFile(found.stats), 0, because)
  }

  async #startOver(handle: FileHandle): Promise<TailStep> {
    return this.#begin(handle, new TailedFile(await handle.stat({ bigint: true })), 0, 'truncated')
  }

  #begin(handle: FileHandle, file: TailedFile, offset: number, because: BeginReason): TailStep {
    this.#handle = handle
    this.#file = file
    this.#offset = offset
    this.#size = offset
    this.#quietSinceMs = undefined
    this.#atRest = false
    return { kind: 'begin', file, offset, because }
  }

  #took(file: TailedFile, bytes: Buffer): TailStep {
    if (file.prefix.length < PREFIX_BYTES && file.prefix.length === this.#offset) {
      file.prefix = Buffer.concat([file.prefix, bytes.subarray(0, PREFIX_BYTES - file.prefix.length)])
    }
    this.#offset += bytes.length
    if (this.#quietSinceMs !== undefined) this.#quietSinceMs = this.#now()
    return { kind: 'bytes', bytes }
  }

  async #beginsAsBefore(handle: FileHandle, file: TailedFile): Promise<boolean> {
    return file.prefix.equals(await readPrefix(handle, file.prefix.length))
  }

  async #pathMovedOn(file: TailedFile): Promise<boolean> {
    try {
      return !file.isSame(await stat(this.#path, { bigint: true }))
    } catch (thrown) {
      // Renamed, and nothing in its place yet: its writer may still be at it.
      if (isMissing(thrown)) return false
      throw thrown
    }
  }

  /** Where the file of a checkpoint may be: its path, and every file of its directory with the same number. */
  async #candidates(checkpoint: Checkpoint): Promise<string[]> {
    const directory = path.dirname(this.#path)
    const found: string[] = []
    try {
      const names = (await readdir(directory, { withFileTypes: true })).filter(entry => entry.isFile()).map(entry => entry.name)
      for (const name of [this.#path, ...names.map(each => path.join(directory, each))]) {
        const stats = await stat(name, { bigint: true }).catch((thrown: unknown) => {
          if (isMissing(thrown)) return undefined
          throw thrown
        })
        if (stats !== undefined && String(stats.ino) === checkpoint.ino && String(stats.dev) === checkpoint.dev) found.push(name)
      }
    } catch (thrown) {
      if (!isMissing(thrown)) throw thrown
    }
    return [...new Set(found)]
  }
}

async function openFile(name: string): Promise<{ handle: FileHandle, stats: BigIntStats } | undefined> {
  try {
    // Before it is opened: opening a pipe would wait for its writer.
    if (!(await stat(name)).isFile()) {
      throw new CMeshError('CMESH_MINER_ENTRY', { entry: name, source: 'log file', reason: 'it is no regular file' })
    }
    const handle = await open(name, 'r')
    return { handle, stats: await handle.stat({ bigint: true }) }
  } catch (thrown) {
    if (isMissing(thrown)) return undefined
    throw thrown
  }
}

/** The first bytes of the file, fewer when it is shorter. */
async function readPrefix(handle: FileHandle, bytes: number): Promise<Buffer> {
  const prefix = Buffer.alloc(bytes)
  let filled = 0
  while (filled < bytes) {
    const { bytesRead } = await handle.read(prefix, filled, bytes - filled, filled)
    if (bytesRead === 0) break
    filled += bytesRead
  }
  return prefix.subarray(0, filled)
}
