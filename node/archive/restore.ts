/**
 * Makes a data directory of a backup file. It is made beside its place, held to what the backup says of itself, and moved there whole:
 * whatever goes wrong before, nothing is in the place. An empty directory that is there already may be where a volume is mounted, which nothing
 * can be moved to: it is filled where it stands, and until all of it is right a mark in it keeps everybody else out.
 */
import { existsSync, mkdirSync, statSync } from 'node:fs'
import { mkdir, open, readdir, rename, rm, writeFile, type FileHandle } from 'node:fs/promises'
import path from 'node:path'
import { CMeshError } from '../../cmtp/errors.ts'
import { HypercoreLog, syncDirectory } from '../../providers/registry.ts'
import { DataLock, HALF_RESTORED, RESTORING } from '../data-lock.ts'
import { CLAIM_FILE, writeClaim } from '../last-claim.ts'
import { isKept } from './backup.ts'
import { readAuditLogs } from './former-logs.ts'
import { BackupReader, type BackupHeader } from './format.ts'
import { LogAudit, type LogFacts } from './log-audit.ts'
import { audit, withAnyLog, type OnProgress } from './source.ts'

export interface RestoreAsk {
  readonly file: string
  readonly dir: string
  /** Reads the new log back from the disk before it is put in its place. */
  readonly verify: boolean
}

export interface Restored extends LogFacts {
  /** Whether the keys were in the backup: without them the directory has none. */
  readonly keys: boolean
  /** How many audit logs were put aside. */
  readonly audits: number
  readonly verified: boolean
}

/** Where a file system of its own puts what a check of it found. */
const LOST_AND_FOUND = 'lost+found'
/** Blocks and bytes that go into the new log at once. */
const GROUP_BLOCKS = 256
const GROUP_BYTES = 4 * 1024 * 1024

/**
 * Rejects with `CMESH_BACKUP_FILE`, `CMESH_BACKUP_TARGET`, or `CMESH_STATE_CORRUPT` for what the backup holds; with `CMESH_BOOT_DATA_IN_USE` while
 * another restore makes the same directory.
 */
export async function restoreBackup({ file, dir, verify }: RestoreAsk, onProgress: OnProgress): Promise<Restored> {
  const inPlace = await isThere(dir)
  const part = inPlace ? path.resolve(dir) : `${path.resolve(dir)}.restore`
  const from = await openBackup(file)
  let mark: DataLock | undefined
  try {
    mark = await (inPlace ? beginIn(part) : begin(part))
    const reader = new BackupReader(file, from)
    const header = await reader.header()
    for (const { name, bytes } of await reader.files()) {
      if (!isKept(name)) throw unusable(file, `it holds the file ${JSON.stringify(name)}, which no backup does`)
      await mkdir(path.dirname(path.join(part, name)), { recursive: true, mode: 0o700 })
      await writeFile(path.join(part, name), bytes, { mode: 0o600, flush: true })
    }
    const facts = await copyBlocks(file, reader, header, part, onProgress)
    const { audits = 0 } = header
    await readAuditLogs(file, audits, reader, part, onProgress)
    await reader.end()
    const { epoch, seq, chain, timeMs } = facts
    await writeClaim(path.join(part, CLAIM_FILE), { epoch, seq, chain, timeMs })
    if (verify) await readBack(part, facts, onProgress)
    await mark.release()
    await rm(path.join(part, RESTORING), { recursive: true, force: true })
    if (!inPlace) await rename(part, dir)
    // It is made: what fails from here on takes nothing of it away.
    mark = undefined
    // The new name is on the disk too, and that the mark is gone.
    await syncDirectory(inPlace ? part : path.dirname(path.resolve(dir)))
    return { ...facts, keys: header.keys, audits, verified: verify }
  } catch (thrown) {
    if (mark !== undefined) await (inPlace ? clear(part) : rm(part, { recursive: true, force: true }))
    if (thrown instanceof CMeshError) throw thrown
    throw new CMeshError('CMESH_BACKUP_TARGET', { path: dir, reason: (thrown as Error).message }, { cause: thrown })
  } finally {
    await mark?.release()
    await from.close()
  }
}

/** Rejects with `CMESH_BACKUP_FILE`. */
async function openBackup(file: string): Promise<FileHandle> {
  if (statSync(file, { throwIfNoEntry: false })?.isDirectory() === true) throw unusable(file, 'it is a directory')
  return open(file, 'r').catch((error: unknown) => { throw unusable(file, (error as Error).message) })
}

/** Whether the directory is there, and empty. Rejects with `CMESH_BACKUP_TARGET` for anything else that is there. */
async function isThere(dir: string): Promise<boolean> {
  if (!existsSync(dir)) return false
  if (!statSync(dir).isDirectory()) throw target(dir, 'it is no directory')
  await checkEmpty(dir)
  return true
}

async function checkEmpty(dir: string): Promise<void> {
  const names = await entries(dir).catch((error: unknown) => { throw target(dir, (error as Error).message) })
  if (names.includes(RESTORING)) throw target(dir, HALF_RESTORED)
  if (names.length > 0) throw target(dir, 'it is not empty')
}

/** What is in the directory but for what a volume begins with. */
async function entries(dir: string): Promise<string[]> {
  return (await readdir(dir)).filter(name => name !== LOST_AND_FOUND)
}

/** Marks an empty directory that is filled where it stands: of two that begin at once one has the mark. */
async function beginIn(dir: string): Promise<DataLock> {
  const mark = path.join(dir, RESTORING)
  try {
    mkdirSync(mark, { mode: 0o700 })
  } catch (error) {
    await checkEmpty(dir)
    throw target(dir, (error as Error).message)
  }
  const lock = new DataLock(mark)
  await lock.acquire()
  // One that ended a moment ago has filled it since it was looked at.
  if ((await entries(dir)).length === 1) return lock
  await rm(mark, { recursive: true, force: true })
  await lock.release()
  throw target(dir, 'it is not empty')
}

/** What was made in the directory goes, the mark last. */
async function clear(dir: string): Promise<void> {
  for (const name of await entries(dir)) if (name !== RESTORING) await rm(path.join(dir, name), { recursive: true, force: true })
  await rm(path.join(dir, RESTORING), { recursive: true, force: true })
}

/** Makes the place beside, and marks it: only what a restore left that was interrupted is ever cleared. */
async function begin(part: string): Promise<DataLock> {
  const mark = path.join(part, RESTORING)
  if (existsSync(part) && !existsSync(mark)) throw target(part, 'it is there already, and no restore that was interrupted left it, so move it away')
  const lock = new DataLock(mark)
  await lock.acquire()
  for (const name of await readdir(part)) if (name !== RESTORING) await rm(path.join(part, name), { recursive: true, force: true })
  return lock
}

/** Appends the blocks to a new log in `part`, and holds them to the header. */
async function copyBlocks(file: string, reader: BackupReader, header: BackupHeader, part: string, onProgress: OnProgress): Promise<LogFacts> {
  const audited = new LogAudit(file)
  // A key that was in the backup signs the log again; without one the log gets a new one.
  const log = await HypercoreLog.open({ dir: path.join(part, 'state'), durability: 'disk', keyPair: undefined })
  try {
    let group: Buffer[] = []
    let bytes = 0
    const append = async (): Promise<void> => {
      if (group.length > 0) await log.append(group)
      group = []
      bytes = 0
    }
    for (let index = 0; index < header.blocks; index++) {
      const block = await reader.block(index)
      audited.take(block)
      group.push(block)
      bytes += block.length
      if (group.length < GROUP_BLOCKS && bytes < GROUP_BYTES) continue
      await append()
      onProgress(index, header.blocks)
    }
    await append()
    const facts = audited.facts()
    for (const name of ['mesh', 'epoch', 'seq', 'timeMs', 'chain', 'root'] as const) {
      if (facts[name] !== header[name]) throw unusable(file, `its blocks give ${name} ${facts[name]}, and it says ${header[name]}`)
    }
    const { root } = facts
    if (Buffer.from(await log.root()).toString('hex') !== root || !log.signed()) throw unusable(file, 'the log made of it has another tree')
    return facts
  } finally {
    await log.close()
  }
}

/** The log as it is on the disk now, read like any other. */
async function readBack(dir: string, made: LogFacts, onProgress: OnProgress): Promise<void> {
  const found = await withAnyLog(dir, log => audit(log, onProgress))
  if (found.chain !== made.chain || found.root !== made.root) {
    throw new CMeshError('CMESH_STATE_CORRUPT', { path: dir, block: 0, reason: 'what was read back is not what was written' })
  }
}

function target(path: string, reason: string): CMeshError {
  return new CMeshError('CMESH_BACKUP_TARGET', { path, reason })
}

function unusable(file: string, reason: string): CMeshError {
  return new CMeshError('CMESH_BACKUP_FILE', { path: file, reason })
}
