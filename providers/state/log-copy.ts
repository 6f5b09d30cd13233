/**
 * A consistent copy of a log that may be open elsewhere, made of links, and opened to be read. The process that writes is neither asked
 * nor held up: tables never change once they are written, and the rest is small and copied.
 *
 * Invariants: the copy holds at least what was durable (`os`) when the copying began, or it is refused; nothing is ever written to a
 * file that the log's own process has, so the copy is only opened to be read.
 */
import { copyFile, link, mkdir, readdir, readFile, rm, stat } from 'node:fs/promises'
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import Hypercore from 'hypercore'
import { CMeshError } from '../../cmtp/errors.ts'
import { readError } from './log-error.ts'
import { LogReader } from './log-reader.ts'

/** Tables and what their long values lie in: written once, and then only read or removed. */
const FIXED = /^\d+\.(sst|blob)$/
/** Grows by appending. */
const GROWING = /^(\d+\.log|MANIFEST-\d+|CURRENT|IDENTITY)$/
/** RocksDB changes its set of tables every 64 MiB or so of writes. */
const ATTEMPTS = 20

export class LogCopy extends LogReader {
  /** Public half of the key that signs the log. */
  readonly key: Uint8Array
  /** Where its files are. */
  readonly copy: string
  readonly #close: () => Promise<void>

  private constructor(path: string, copy: string, core: Hypercore, key: Uint8Array, close: () => Promise<void>) {
    super(path, core)
    this.copy = copy
    this.key = key
    this.#close = close
  }

  /**
   * Copies the log in `<dir>/log` to `to`, which must not exist, and opens the copy; errors name the log. Rejects with
   * `CMESH_STATE_NO_LOG`, `CMESH_STATE_CORRUPT`, or `CMESH_STATE_FULL` when the copy cannot be written.
   */
  static async take(dir: string, to: string): Promise<LogCopy> {
    const path = join(dir, 'log')
    const db = join(path, 'db')
    if (!existsSync(path)) throw new CMeshError('CMESH_STATE_NO_LOG', { path: dir, reason: 'no node with a log on disk has run there' })
    try {
      if (!existsSync(join(db, 'CURRENT'))) throw new CMeshError('CMESH_STATE_CORRUPT', { path, block: 0, reason: 'its file CURRENT is missing' })
      await copyAtRest(db, to, path)
      return await LogCopy.#open(path, to)
    } catch (thrown) {
      throw readError(thrown, path, 0)
    }
  }

  static async #open(path: string, copy: string): Promise<LogCopy> {
    const storage = Hypercore.defaultStorage(copy, { allowBackup: true, readOnly: true })
    let core: Hypercore | undefined
    try {
      if (await storage.getDefaultDiscoveryKey() === null) throw new CMeshError('CMESH_STATE_CORRUPT', { path, block: 0, reason: 'everything that was in it is gone' })
      core = new Hypercore(storage, { createIfMissing: false, writable: false })
      await core.ready()
      const key = core.manifest?.signers[0]?.publicKey
      if (key === undefined) throw new CMeshError('CMESH_STATE_CORRUPT', { path, block: 0, reason: 'it does not say who signs it' })
      const opened = core
      return new LogCopy(path, copy, opened, key, () => opened.close())
    } catch (thrown) {
      await Promise.allSettled([core?.close()])
      await Promise.allSettled([storage.close()])
      throw thrown
    }
  }

  async close(): Promise<void> {
    await this.#close()
  }
}

/** Copies until nothing but the end of the write-ahead log changed meanwhile: then everything in the copy belongs together. */
async function copyAtRest(db: string, to: string, path: string): Promise<void> {
  for (let attempt = 0; attempt < ATTEMPTS; attempt++) {
    const copy = join(to, 'db')
    await rm(copy, { recursive: true, force: true })
    await mkdir(copy, { recursive: true, mode: 0o700 })
    const before = await lookOf(db)
    try {
      for (const name of await readdir(db)) {
        if (FIXED.test(name)) await linkOrCopy(join(db, name), join(copy, name))
        else if (GROWING.test(name)) await copyFile(join(db, name), join(copy, name))
      }
    } catch (thrown) {
      if ((thrown as NodeJS.ErrnoException).code !== 'ENOENT') throw thrown
      continue
    }
    if (before === await lookOf(db)) return
  }
  throw new CMeshError('CMESH_STATE_CORRUPT', { path, block: 0, reason: `its files changed during each of ${ATTEMPTS} attempts to copy them` })
}

/** What is different once RocksDB has changed its set of files. */
async function lookOf(db: string): Promise<string> {
  const names = (await readdir(db)).filter(name => FIXED.test(name) || GROWING.test(name)).sort()
  const current = (await readFile(join(db, 'CURRENT'), 'latin1')).trim()
  const { size } = await stat(join(db, current))
  return [...names, current, size].join(' ')
}

/** Another file system has no links to this one. */
async function linkOrCopy(from: string, to: string): Promise<void> {
  try {
    await link(from, to)
  } catch (thrown) {
    if (!['EXDEV', 'EPERM', 'ENOTSUP', 'EMLINK', 'EOPNOTSUPP'].includes((thrown as NodeJS.ErrnoException).code ?? '')) throw thrown
    await copyFile(from, to)
  }
}
