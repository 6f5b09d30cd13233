/**
 * One node a data directory: a lock file with the holder's process id and start time. A lock whose holder is gone is taken
 * over, so a node that was killed starts again by itself.
 */
import { mkdir, open, readFile, rm } from 'node:fs/promises'
import { readFileSync } from 'node:fs'
import path from 'node:path'
import { CMeshError } from '../cmtp/errors.ts'

const FILE = 'node.lock'
const ATTEMPTS = 3

export class DataLock {
  readonly #dir: string
  #held = false

  constructor(dir: string) {
    this.#dir = dir
  }

  /** Rejects with `CMESH_BOOT_DATA_IN_USE` while another process holds the directory, `CMESH_BOOT_DATA_DIR` when it cannot be written to. */
  async acquire(): Promise<void> {
    await mkdir(this.#dir, { recursive: true, mode: 0o700 }).catch((error: unknown) => { throw this.#unusable(error) })
    const file = path.join(this.#dir, FILE)
    for (let attempt = 0; attempt < ATTEMPTS && !this.#held; attempt++) {
      try {
        const handle = await open(file, 'wx', 0o600)
        await handle.writeFile(`${process.pid} ${startOf(process.pid)}\n`)
        await handle.close()
        this.#held = true
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw this.#unusable(error)
        const [pid = '', start = ''] = (await readFile(file, 'utf8').catch(() => '')).trim().split(' ')
        if (isAlive(Number(pid), start)) throw new CMeshError('CMESH_BOOT_DATA_IN_USE', { path: this.#dir, pid: Number(pid) })
        await rm(file, { force: true })
      }
    }
    if (!this.#held) throw new CMeshError('CMESH_BOOT_DATA_IN_USE', { path: this.#dir, pid: 0 })
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
