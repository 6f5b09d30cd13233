/**
 * One Hypercore on disk as an append-only list of blocks. It knows files, keys and durability, and nothing of what a
 * block holds. `append` is one atomic RocksDB batch (blocks, tree nodes, signed head), written to the operating system
 * before it resolves; with `disk` it is on the disk too.
 *
 * Files: `<dir>/log/db` is RocksDB's, `<dir>/key` the log's signing key when the caller gives none. The secret key is
 * never written into the database. RocksDB's own lock keeps a second process out.
 */
import { existsSync } from 'node:fs'
import { mkdir, readdir, rm } from 'node:fs/promises'
import { join } from 'node:path'
import Hypercore from 'hypercore'
import type { BlockStream, CoreStorage, KeyPair, Manifest } from 'hypercore'
import { CMeshError } from '../../cmtp/errors.ts'
import { makeLogKey, readLogKey } from './log-key.ts'
import { WalSync } from './wal-sync.ts'

/** Most blocks, and about as many bytes of blocks, that one trip of a read fetches. */
const READ_BLOCKS = 512
const READ_BYTES = 4 * 1024 * 1024

export interface LogOptions {
  readonly dir: string
  readonly durability: 'os' | 'disk'
  readonly keyPair: KeyPair | undefined
}

export class HypercoreLog {
  readonly path: string
  readonly #core: Hypercore
  readonly #keyPair: KeyPair
  readonly #sync: WalSync | undefined

  private constructor(path: string, core: Hypercore, keyPair: KeyPair, sync: WalSync | undefined) {
    this.path = path
    this.#core = core
    this.#keyPair = keyPair
    this.#sync = sync
  }

  /**
   * Opens the log of a directory, or makes it. What a failed open made, it removes. Rejects with `CMESH_STATE_CORRUPT`,
   * `CMESH_STATE_FULL` (cannot be written) or `CMESH_BOOT_DATA_IN_USE`.
   */
  static async open(options: LogOptions): Promise<HypercoreLog> {
    const path = join(options.dir, 'log')
    const keyPath = join(options.dir, 'key')
    const fresh = !existsSync(path)
    const made: string[] = []
    try {
      await mkdir(options.dir, { recursive: true, mode: 0o700 })
      await refuseHeadless(path)
      let keyPair = options.keyPair ?? await readLogKey(keyPath)
      if (keyPair === undefined) {
        if (!fresh) throw new CMeshError('CMESH_STATE_CORRUPT', { path, block: 0, reason: `its key ${keyPath} is missing` })
        keyPair = await makeLogKey(keyPath)
        made.push(keyPath)
      }
      if (fresh) made.push(path)
      const { core, sync } = await openCore(path, keyPair, options.durability)
      return new HypercoreLog(path, core, keyPair, sync)
    } catch (thrown) {
      for (const file of made) await rm(file, { recursive: true, force: true })
      throw openError(thrown, path)
    }
  }

  /** Blocks in the log. */
  get length(): number {
    return this.#core.length
  }

  /**
   * Hands every block to `each`, in order. Bytes are the callee's to keep. Rejects with what `each` throws, and with
   * `CMESH_STATE_CORRUPT` when a block cannot be read or is missing.
   */
  async read(each: (bytes: Uint8Array, index: number) => void): Promise<void> {
    const { length } = this
    if (length === 0) return
    let next = 0
    // The storage's own stream, read by events: several times as fast as the public read stream awaited block by block.
    const stream = this.#core.state.storage.createBlockStream({ gte: 0, lt: length })
    readAhead(stream, this.#core.byteLength / length)
    try {
      await new Promise<void>((resolve, reject) => {
        stream.on('data', ({ index, value }) => {
          try {
            if (index !== next) throw this.#corrupt(next, 'the block is missing')
            each(value, index)
            next++
          } catch (thrown) {
            reject(thrown)
            stream.destroy()
          }
        })
        stream.on('error', reject)
        stream.on('close', resolve)
      })
    } catch (thrown) {
      throw thrown instanceof CMeshError ? thrown : openError(thrown, this.path, next)
    }
    if (next !== length) throw this.#corrupt(next, `the log ends here, but its head says ${length} blocks`)
  }

  /** Appends blocks as one. Resolves when they are as durable as asked for; rejects with `CMESH_STATE_FULL`. */
  async append(blocks: readonly Uint8Array[]): Promise<void> {
    try {
      await this.#core.append(blocks, { keyPair: this.#keyPair })
      await this.#sync?.sync()
    } catch (thrown) {
      throw new CMeshError('CMESH_STATE_FULL', { reason: reasonOf(thrown) }, { cause: thrown })
    }
  }

  async close(): Promise<void> {
    await this.#sync?.close()
    await this.#core.close()
  }

  #corrupt(block: number, reason: string): CMeshError {
    return new CMeshError('CMESH_STATE_CORRUPT', { path: this.path, block, reason })
  }
}

/**
 * RocksDB's iterator fetches eight blocks a trip to its thread, which makes the trips cost more than the blocks. It has an
 * option for that which the storage does not pass on, so it is set before the first read; without it reading is only slower.
 */
function readAhead(stream: BlockStream, blockBytes: number): void {
  if (typeof stream._resize !== 'function') return
  stream._capacity = Math.max(8, Math.min(READ_BLOCKS, Math.floor(READ_BYTES / blockBytes)))
  stream._resize()
}

interface OpenedCore {
  readonly core: Hypercore
  /** Only with `disk`. */
  readonly sync: WalSync | undefined
}

async function openCore(path: string, keyPair: KeyPair, durability: 'os' | 'disk'): Promise<OpenedCore> {
  // Without `allowBackup` the store ties itself to its inode and refuses a copy or a restored backup of the directory.
  const storage = Hypercore.defaultStorage(path, { allowBackup: true })
  let core: Hypercore | undefined
  let sync: WalSync | undefined
  try {
    // Asked for by key, an absent core would be made beside the one that is there: so the store's own first, if any.
    const known = await storage.getDefaultDiscoveryKey() !== null
    const manifest: Manifest = { signers: [{ publicKey: keyPair.publicKey }] }
    core = new Hypercore(storage, known ? { createIfMissing: false } : { createIfMissing: true, key: Hypercore.key(manifest), manifest })
    await core.ready()
    const signer = core.manifest?.signers[0]?.publicKey
    if (signer === undefined || Buffer.compare(signer, keyPair.publicKey) !== 0) {
      throw new CMeshError('CMESH_STATE_CORRUPT', { path, block: 0, reason: 'it is signed by another key than the one given' })
    }
    if (durability === 'disk') {
      sync = new WalSync(join(path, 'db'), storage.rocks)
      await sync.start()
    }
    return { core, sync }
  } catch (thrown) {
    await release(core, storage)
    throw thrown
  }
}

/** Lets go of what a failed open holds. Closing fails for the same reason as opening did, and that one is reported. */
async function release(core: Hypercore | undefined, storage: CoreStorage): Promise<void> {
  await Promise.allSettled([core?.close()])
  await Promise.allSettled([storage.close()])
}

/** RocksDB takes a directory without `CURRENT` for a new database, and would delete the tables that lie there. */
async function refuseHeadless(path: string): Promise<void> {
  const db = join(path, 'db')
  if (!existsSync(db) || existsSync(join(db, 'CURRENT'))) return
  const data = (await readdir(db)).filter(name => /\.(log|sst|blob)$/.test(name))
  if (data.length > 0) throw new CMeshError('CMESH_STATE_CORRUPT', { path, block: 0, reason: 'its file CURRENT is missing' })
}

const UNWRITABLE = /no space|quota|read-only|permission denied|not permitted|too many open files|file too large/i
const UNWRITABLE_CODES = new Set(['ENOSPC', 'EDQUOT', 'EROFS', 'EACCES', 'EPERM', 'EMFILE', 'ENFILE', 'EFBIG', 'ENOTDIR', 'EEXIST'])

function openError(thrown: unknown, path: string, block = 0): CMeshError {
  if (thrown instanceof CMeshError) return thrown
  const reason = reasonOf(thrown)
  const code = thrown instanceof Error ? (thrown as NodeJS.ErrnoException).code ?? '' : ''
  if (/\bLOCK: /.test(reason)) return new CMeshError('CMESH_BOOT_DATA_IN_USE', { path, pid: 'unknown' }, { cause: thrown })
  if (UNWRITABLE_CODES.has(code) || UNWRITABLE.test(reason)) return new CMeshError('CMESH_STATE_FULL', { reason }, { cause: thrown })
  return new CMeshError('CMESH_STATE_CORRUPT', { path, block, reason }, { cause: thrown })
}

function reasonOf(thrown: unknown): string {
  return (thrown instanceof Error ? thrown.message : String(thrown)).slice(0, 300)
}
