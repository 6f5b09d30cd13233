/**
 * Opens the Hypercore of a log, or makes one. `<dir>/log/db` is RocksDB's, `<dir>/key` the log's signing key when the caller
 * gives none. The secret key is never written into the database.
 *
 * Invariants: a log in its place was made whole, so what opens empty and should not is told from what was never written to;
 * a log is never opened under another key than its own, which would give an empty one; what fails here lets go of
 * everything and removes what it made.
 */
import { existsSync } from 'node:fs'
import { mkdir, rename, rm } from 'node:fs/promises'
import { join } from 'node:path'
import Hypercore from 'hypercore'
import type { CoreStorage, KeyPair, Manifest } from 'hypercore'
import { CMeshError } from '../../cmtp/errors.ts'
import { pagesFromMemory } from './bitfield-pages.ts'
import { readError } from './log-error.ts'
import { makeLogKey, readLogKey } from './log-key.ts'
import { WalSync } from './wal-sync.ts'

export interface LogOptions {
  readonly dir: string
  readonly durability: 'os' | 'disk'
  readonly keyPair: KeyPair | undefined
}

export interface OpenedLog {
  readonly path: string
  readonly keyPair: KeyPair
  readonly core: Hypercore
  /** With `disk` only. */
  readonly sync: WalSync | undefined
}

/** Rejects with `CMESH_STATE_CORRUPT`, `CMESH_STATE_FULL` (cannot be written) or `CMESH_BOOT_DATA_IN_USE`. */
export async function openLog(options: LogOptions): Promise<OpenedLog> {
  const path = join(options.dir, 'log')
  try {
    await mkdir(options.dir, { recursive: true, mode: 0o700 })
    const keyPair = existsSync(path) ? await keyOf(options, path) : await makeLog(options, path)
    // RocksDB would take this for a place to make a new database in, and delete the tables that lie there.
    if (!existsSync(join(path, 'db', 'CURRENT'))) throw corrupt(path, 'its file CURRENT is missing')
    return { path, keyPair, ...await openCore(path, keyPair, options.durability, 'open') }
  } catch (thrown) {
    throw readError(thrown, path, 0)
  }
}

/** The key that a log which is there is signed with. */
async function keyOf({ dir, keyPair }: LogOptions, path: string): Promise<KeyPair> {
  const keyPath = join(dir, 'key')
  const key = keyPair ?? await readLogKey(keyPath)
  if (key === undefined) throw corrupt(path, `its key ${keyPath} is missing`)
  return key
}

/** Makes an empty log beside its place and moves it there once it is on the disk. */
async function makeLog({ dir, keyPair }: LogOptions, path: string): Promise<KeyPair> {
  const keyPath = join(dir, 'key')
  const part = `${path}.part`
  const given = keyPair ?? await readLogKey(keyPath)
  try {
    const key = given ?? await makeLogKey(keyPath)
    await rm(part, { recursive: true, force: true })
    await mkdir(part, { mode: 0o700 })
    const { core, sync } = await openCore(part, key, 'disk', 'make')
    try {
      await sync?.sync()
    } finally {
      await sync?.close()
      await core.close()
    }
    await rename(part, path)
    return key
  } catch (thrown) {
    await rm(part, { recursive: true, force: true })
    if (given === undefined) await rm(keyPath, { force: true })
    throw thrown
  }
}

async function openCore(
  path: string, keyPair: KeyPair, durability: 'os' | 'disk', how: 'open' | 'make',
): Promise<Pick<OpenedLog, 'core' | 'sync'>> {
  // Without `allowBackup` the store ties itself to its inode and refuses a copy or a restored backup of the directory.
  const storage = Hypercore.defaultStorage(path, { allowBackup: true })
  let core: Hypercore | undefined
  try {
    if (how === 'open' && await storage.getDefaultDiscoveryKey() === null) {
      throw corrupt(path, 'everything that was in it is gone')
    }
    // Opened by key, a log of another key would be passed by and a new one made beside it: so by key only where none is.
    const manifest: Manifest = { signers: [{ publicKey: keyPair.publicKey }] }
    core = new Hypercore(storage, how === 'make'
      ? { createIfMissing: true, key: Hypercore.key(manifest), manifest }
      : { createIfMissing: false })
    await core.ready()
    const signer = core.manifest?.signers[0]?.publicKey
    if (signer === undefined || Buffer.compare(signer, keyPair.publicKey) !== 0) {
      throw corrupt(path, 'it is signed by another key than the one given')
    }
    pagesFromMemory(core)
    if (durability === 'os') return { core, sync: undefined }
    const sync = new WalSync(join(path, 'db'), storage.rocks)
    await sync.start()
    return { core, sync }
  } catch (thrown) {
    await release(core, storage)
    throw thrown
  }
}

/** Closing fails for the same reason as opening did, and that one is reported. */
async function release(core: Hypercore | undefined, storage: CoreStorage): Promise<void> {
  await Promise.allSettled([core?.close()])
  await Promise.allSettled([storage.close()])
}

function corrupt(path: string, reason: string): CMeshError {
  return new CMeshError('CMESH_STATE_CORRUPT', { path, block: 0, reason })
}
