/**
 * One node a data directory: a lock file that its holder keeps locked at the kernel, with the holder's process id in it. That lock ends with the process,
 * however it ends, so a node that was killed starts again by itself. And it holds between containers that share a volume, where process ids say
 * nothing of each other: in each of them the node is process 1.
 */
import { closeSync, constants, existsSync, fstatSync, ftruncateSync, mkdirSync, openSync, readFileSync, rmSync, statSync, writeSync } from 'node:fs'
import path from 'node:path'
import { tryLock } from 'fs-native-extensions'
import { CMeshError } from '../cmtp/errors.ts'

/** Stands in a data directory while a restore fills it, with the lock of its process in it: what is there is not whole yet. */
export const RESTORING = 'restoring'
/** What is said of such a directory. */
export const HALF_RESTORED = 'a restore into it is under way or was interrupted; if none runs, empty it and restore again'

const FILE = 'node.lock'
/** A file that its holder removed meanwhile is no lock any more: so often another is tried. */
const ATTEMPTS = 3

export class DataLock {
  readonly #dir: string
  readonly #file: string
  #held: number | undefined

  constructor(dir: string) {
    this.#dir = dir
    this.#file = path.join(dir, FILE)
  }

  /** Rejects with `CMESH_BOOT_DATA_IN_USE` while another process holds the directory, `CMESH_BOOT_DATA_DIR` when it cannot be written to or is half restored. */
  async acquire(): Promise<void> {
    // In one go: of two that ask, the first has it, and its id is there when the second is refused.
    await Promise.resolve()
    const had = this.#held !== undefined
    try {
      makeDirectory(path.resolve(this.#dir))
      this.#checkWhole()
      for (let attempt = 0; attempt < ATTEMPTS && this.#held === undefined; attempt++) this.#held = this.#take()
      // Once more: a restore looks for others when its mark is there, and did not see a lock that was made behind its look.
      this.#checkWhole()
    } catch (error) {
      if (!had) await this.release()
      throw error instanceof CMeshError ? error : this.#unusable(error)
    }
    if (this.#held === undefined) throw this.#inUse(0)
  }

  /** Idempotent. */
  release(): Promise<void> {
    const held = this.#held
    this.#held = undefined
    if (held !== undefined) {
      // Removed while it is held: whoever has it open already finds that it is not there any more, and makes its own.
      if (this.#isThere(held)) rmSync(this.#file, { force: true })
      closeSync(held)
    }
    return Promise.resolve()
  }

  #checkWhole(): void {
    if (existsSync(path.join(this.#dir, RESTORING))) throw this.#unusable(new Error(HALF_RESTORED))
  }

  /** The open file; `undefined` where it was removed before it was ours. */
  #take(): number | undefined {
    const fd = openSync(this.#file, constants.O_RDWR | constants.O_CREAT, 0o600)
    let kept = false
    try {
      if (!tryLock(fd)) throw this.#inUse(holderIn(readFileSync(fd, 'utf8')))
      ftruncateSync(fd)
      writeSync(fd, `${process.pid}\n`, 0)
      kept = this.#isThere(fd)
    } finally {
      if (!kept) closeSync(fd)
    }
    return kept ? fd : undefined
  }

  /** Whether the lock file is still the one that is open. */
  #isThere(fd: number): boolean {
    const [open, there] = [fstatSync(fd), statSync(this.#file, { throwIfNoEntry: false })]
    return open.ino === there?.ino && open.dev === there.dev
  }

  #inUse(pid: number): CMeshError {
    return new CMeshError('CMESH_BOOT_DATA_IN_USE', { path: this.#dir, pid })
  }

  #unusable(error: unknown): CMeshError {
    return new CMeshError('CMESH_BOOT_DATA_DIR', { path: this.#dir, reason: (error as Error).message }, { cause: error })
  }
}

/** The process that the file names; 0 where it names none yet. */
function holderIn(text: string): number {
  return Number(/^\d{1,10}\n/.exec(text)?.[0] ?? 0)
}

/**
 * Makes the directory and those above it. Node's own way to do so never ends where the system says of a directory that it cannot be made that there is
 * none above it, as it does in `/proc`.
 */
function makeDirectory(dir: string): void {
  try {
    mkdirSync(dir, { mode: 0o700 })
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException
    if (code === 'EEXIST' && statSync(dir).isDirectory()) return
    if (code !== 'ENOENT' || existsSync(path.dirname(dir))) throw error
    makeDirectory(path.dirname(dir))
    makeDirectory(dir)
  }
}
