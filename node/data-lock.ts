/**
 * One node a data directory: a lock file with the holder's process id and start time. A lock whose holder is gone is taken
 * over, so a node that was killed starts again by itself.
 *
 * Invariant: the lock stands there with all that it says or not at all: whoever found an empty one would take it for a dead holder's.
 */
import { randomUUID } from 'node:crypto'
import { copyFile, link, mkdir, readFile, rm, writeFile } from 'node:fs/promises'
import { constants, readFileSync } from 'node:fs'
import path from 'node:path'
import { CMeshError } from '../cmtp/errors.ts'

const FILE = 'node.lock'
const ATTEMPTS = 3
/** What file systems without hard links say. */
const NO_LINKS: ReadonlySet<string> = new Set(['EPERM', 'ENOTSUP', 'EOPNOTSUPP', 'ENOSYS', 'EMLINK'])

export class DataLock {
  readonly #dir: string
  #held = false

  constructor(dir: string) {
    this.#dir = dir
  }

  /** Rejects with `CMESH_BOOT_DATA_IN_USE` while another process holds the directory, `CMESH_BOOT_DATA_DIR` when it cannot be written to. */
  async acquire(): Promise<void> {
    if (this.#held) return
    await mkdir(this.#dir, { recursive: true, mode: 0o700 }).catch((error: unknown) => { throw this.#unusable(error) })
    const file = path.join(this.#dir, FILE)
    const own = `${file}.${randomUUID()}`
    try {
      await writeFile(own, `${process.pid} ${startOf(process.pid)}\n`, { mode: 0o600, flag: 'wx' })
      this.#held = await place(own, file)
      for (let attempt = 0; attempt < ATTEMPTS && !this.#held; attempt++) {
        await this.#clear(file, own)
        this.#held = await place(own, file)
      }
    } catch (error) {
      throw error instanceof CMeshError ? error : this.#unusable(error)
    } finally {
      await rm(own, { force: true })
    }
    if (!this.#held) throw new CMeshError('CMESH_BOOT_DATA_IN_USE', { path: this.#dir, pid: 0 })
  }

  /**
   * Takes a lock away whose holder is gone, unless another one is at that. Rejects with `CMESH_BOOT_DATA_IN_USE` where it is not gone. One at a
   * time, who looks again: what it takes away must not be the lock of somebody who was faster.
   */
  async #clear(file: string, own: string): Promise<void> {
    const found = await contentOf(file)
    if (found === undefined) return
    const pid = holderOf(found)
    if (pid !== undefined) throw new CMeshError('CMESH_BOOT_DATA_IN_USE', { path: this.#dir, pid })
    const guard = `${file}.takeover`
    if (await place(own, guard)) {
      if (await contentOf(file) === found) await rm(file, { force: true })
    } else if (holderOf(await contentOf(guard)) !== undefined) {
      return
    }
    await rm(guard, { force: true })
  }

  /** Idempotent. */
  async release(): Promise<void> {
    if (!this.#held) return
    this.#held = false
    await rm(path.join(this.#dir, FILE), { force: true })
  }

  #unusable(error: unknown): CMeshError {
    return new CMeshError('CMESH_BOOT_DATA_DIR', { path: this.#dir, reason: (error as Error).message }, { cause: error })
  }
}

/** Gives `own` the name `file` as well, whole; `false` where that is taken. */
async function place(own: string, file: string): Promise<boolean> {
  try {
    await link(own, file).catch((error: unknown) => {
      if (!NO_LINKS.has((error as NodeJS.ErrnoException).code ?? '')) throw error
      return copyFile(own, file, constants.COPYFILE_EXCL)
    })
    return true
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error
    return false
  }
}

/** `undefined` where there is no such file. */
async function contentOf(file: string): Promise<string | undefined> {
  return readFile(file, 'utf8').catch((error: unknown) => {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined
    throw error
  })
}

/** The process that a lock names; `undefined` where it is gone, or none is named. */
function holderOf(content = ''): number | undefined {
  const [pid = '', start = ''] = content.trim().split(' ')
  return isAlive(Number(pid), start) ? Number(pid) : undefined
}

/** Process ids are used again, so a holder counts only while its start time is the one noted, where the system tells it. */
function isAlive(pid: number, start: string): boolean {
  if (!Number.isSafeInteger(pid) || pid <= 0) return false
  try {
    process.kill(pid, 0)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ESRCH') return false
  }
  return startOf(pid) === start
}

/** Start time of a process in clock ticks since boot (proc(5), field 22); empty where there is no /proc. */
function startOf(pid: number): string {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8')
    return stat.slice(stat.lastIndexOf(')') + 2).split(' ')[19] ?? ''
  } catch {
    return ''
  }
}
