/** Makes a backup file of a data directory, whether a node runs there or not. What is in it has been verified. */
import { closeSync, existsSync, fstatSync, openSync, statSync } from 'node:fs'
import { readdir, readFile, rename, rm } from 'node:fs/promises'
import path from 'node:path'
import { CMeshError } from '../../cmtp/errors.ts'
import { syncDirectory, type LogCopy } from '../../providers/registry.ts'
import { packageVersion } from '../descriptor.ts'
import { BackupWriter, type BackupHeader, type KeptFile } from './format.ts'
import { auditLogsOf, writeAuditLogs } from './former-logs.ts'
import { audit, withLog, type OnProgress } from './source.ts'

/** What is secret in a data directory, and whoever has it can be the mesh: only with `--with-keys`. With the keys of tokens goes which do not count. */
const SECRET_FILES = ['node.key', 'state/key', 'iam/keys.json', 'iam/revoked.jsonl'] as const
const SECRET_DIRECTORIES = ['operator'] as const

export interface BackupAsk {
  readonly dir: string
  readonly file: string
  readonly keys: boolean
  /** Takes the audit logs along, with what their receipts need. */
  readonly audit?: boolean
}

/** Rejects with `CMESH_STATE_NO_LOG`, `CMESH_STATE_CORRUPT`, `CMESH_AUDIT_CORRUPT` or `CMESH_BACKUP_TARGET`, and leaves no file then. */
export async function makeBackup({ dir, file, keys, audit: wanted = false }: BackupAsk, nowMs: number, onProgress: OnProgress): Promise<BackupHeader> {
  if (existsSync(file)) throw new CMeshError('CMESH_BACKUP_TARGET', { path: file, reason: 'it is there already' })
  const part = `${file}.part`
  let out: number | undefined
  const begin = async (): Promise<BackupWriter> => {
    await rm(part, { force: true })
    out = openSync(part, 'wx', 0o600)
    return new BackupWriter(out)
  }
  try {
    const audits = wanted ? await auditLogsOf(dir) : []
    const { header, writer } = await withLog(dir, log => writeLog(log, { dir, keys, audits: audits.length, nowMs }, begin, onProgress))
    await writeAuditLogs(audits, writer, onProgress)
    writer.end()
    if (!isThere(part, out)) throw new Error('another backup is being written there')
    if (existsSync(file)) throw new Error('it is there by now')
    await rename(part, file)
    // The new name is on the disk too.
    await syncDirectory(path.dirname(path.resolve(file)))
    return header
  } catch (thrown) {
    if (isThere(part, out)) await Promise.allSettled([rm(part, { force: true })])
    if (thrown instanceof CMeshError) throw thrown
    throw new CMeshError('CMESH_BACKUP_TARGET', { path: file, reason: (thrown as Error).message }, { cause: thrown })
  } finally {
    if (out !== undefined) closeSync(out)
  }
}

/** Whether what stands there is the open file: another backup to the same place clears it, and puts its own there. */
function isThere(place: string, open: number | undefined): boolean {
  if (open === undefined) return false
  const [own, there] = [fstatSync(open), statSync(place, { throwIfNoEntry: false })]
  return own.ino === there?.ino && own.dev === there.dev
}

interface LogAsk {
  readonly dir: string
  readonly keys: boolean
  readonly audits: number
  readonly nowMs: number
}

/** Verifies the log of the state, and writes what the backup says of itself, the files of the node and the blocks. */
async function writeLog(
  log: LogCopy, { dir, keys, audits, nowMs }: LogAsk, begin: () => Promise<BackupWriter>, onProgress: OnProgress,
): Promise<{ readonly header: BackupHeader, readonly writer: BackupWriter }> {
  const { transactions: _, members: __, ...facts } = await audit(log, (done, of) => { onProgress(done, 2 * of) })
  const header: BackupHeader = {
    v: audits > 0 ? 2 : 1, ...facts, logKey: Buffer.from(log.key).toString('hex'), keys, ...(audits > 0 && { audits }), createdMs: nowMs, version: packageVersion(),
  }
  const writer = await begin()
  writer.begin(header, keys ? await secretsOf(dir) : [])
  await log.read((bytes, index) => {
    writer.block(bytes)
    onProgress(log.length + index, 2 * log.length)
  })
  return { header, writer }
}

async function secretsOf(dir: string): Promise<KeptFile[]> {
  const names: string[] = [...SECRET_FILES]
  for (const directory of SECRET_DIRECTORIES) {
    const entries = await readdir(path.join(dir, directory), { withFileTypes: true }).catch(() => [])
    names.push(...entries.filter(entry => entry.isFile()).map(entry => `${directory}/${entry.name}`))
  }
  const files: KeptFile[] = []
  for (const name of names) {
    const place = path.join(dir, name)
    if (existsSync(place)) files.push({ name, bytes: await readFile(place) })
  }
  return files
}

/** Whether a backup may hold the file: what a backup names is otherwise never written. */
export function isKept(name: string): boolean {
  if ((SECRET_FILES as readonly string[]).includes(name)) return true
  const [directory = '', file = '', ...more] = name.split('/')
  return (SECRET_DIRECTORIES as readonly string[]).includes(directory) && more.length === 0 && /^[A-Za-z0-9][\w.-]*$/.test(file)
}
