/**
 * Audit logs in a backup: taken out of a data directory as they are, and put aside in the restored one, where nobody goes on with them. A
 * node whose later roots are known elsewhere must not number batches anew; so the restored node begins another log, under another key.
 *
 *   <data>/former/<n>/audit/{log,layers}    readable like the log of a data directory of its own; without the key that signs it
 *
 * Invariant: the key of an audit log is in no backup.
 */
import { closeSync, createReadStream, existsSync, fsyncSync, openSync, writeSync } from 'node:fs'
import { mkdir, readdir } from 'node:fs/promises'
import path from 'node:path'
import { CMeshError } from '../../cmtp/errors.ts'
import { verifyAuditLogs } from './audit-log.ts'
import type { BackupReader, BackupWriter } from './format.ts'
import { withLog, type OnProgress } from './source.ts'

const FORMER = 'former'
const NUMBER = /^[1-9]\d{0,8}$/
/** What a log consists of, below `audit/`: tables of the log, and notes, of which the index is made again. */
const FILE = /^(?:log\/db\/(?:\d+\.(?:sst|blob|log)|MANIFEST-\d+|CURRENT|IDENTITY)|layers\/\d{8}\.seg)$/

/** The directories whose `audit/` a backup of `dir` takes, the oldest first: logs put aside, and the one that the node writes. */
export async function auditLogsOf(dir: string): Promise<string[]> {
  const numbers = (await readdir(path.join(dir, FORMER)).catch(() => [])).filter(name => NUMBER.test(name)).sort((a, b) => Number(a) - Number(b))
  return [...numbers.map(number => path.join(dir, FORMER, number)), dir].filter(each => existsSync(path.join(each, 'audit', 'log')))
}

/** Verifies each of the logs, and writes it. Rejects with `CMESH_AUDIT_CORRUPT`, and as the log's copying does. */
export async function writeAuditLogs(dirs: readonly string[], writer: BackupWriter, onProgress: OnProgress): Promise<void> {
  for (const dir of dirs) {
    await verifyAuditLogs({ dirs: [dir] }, onProgress)
    await withLog(dir, async log => {
      writer.count(log.length)
      const tables = path.join(log.copy, 'db')
      for (const name of await readdir(tables)) await writeFile(writer, `log/db/${name}`, path.join(tables, name))
      // Notes are written before their batch: behind the log, all of its batches have theirs.
      const layers = path.join(dir, 'audit', 'layers')
      for (const name of await readdir(layers).catch(() => [])) await writeFile(writer, `layers/${name}`, path.join(layers, name))
      writer.name('')
    }, 'audit')
  }
}

/** Takes up to 1 MiB of a file at a time, as far as it went at the first look. One that goes meanwhile is left out. */
async function writeFile(writer: BackupWriter, name: string, from: string): Promise<void> {
  if (!FILE.test(name)) return
  const stream = createReadStream(from, { highWaterMark: 1024 * 1024 })
  let named = false
  try {
    for await (const bytes of stream) {
      if (!named) writer.name(name)
      named = true
      writer.part(bytes as Buffer)
    }
  } catch (thrown) {
    if (named || (thrown as NodeJS.ErrnoException).code !== 'ENOENT') throw thrown
    return
  }
  if (!named) writer.name(name)
  writer.part(Buffer.alloc(0))
}

/** Puts `count` logs aside in `dir`, and verifies each. Rejects with `CMESH_BACKUP_FILE`, or `CMESH_AUDIT_CORRUPT`. */
export async function readAuditLogs(file: string, count: number, reader: BackupReader, dir: string, onProgress: OnProgress): Promise<void> {
  const unusable = (reason: string): CMeshError => new CMeshError('CMESH_BACKUP_FILE', { path: file, reason })
  for (let number = 1; number <= count; number++) {
    const batches = await reader.count()
    const place = path.join(dir, FORMER, String(number))
    for (let name = await reader.name(); name !== ''; name = await reader.name()) {
      if (!FILE.test(name)) throw unusable(`an audit log in it has the file ${JSON.stringify(name)}, which none has`)
      const to = path.join(place, 'audit', name)
      await mkdir(path.dirname(to), { recursive: true, mode: 0o700 })
      await readFile(reader, to)
    }
    const facts = await verifyAuditLogs({ dirs: [place] }, onProgress)
    if (facts.batches !== batches) throw unusable(`an audit log in it has ${facts.batches} batches, and it says ${batches}`)
  }
}

async function readFile(reader: BackupReader, to: string): Promise<void> {
  const out = openSync(to, 'wx', 0o600)
  try {
    for (let part = await reader.part(); part.length > 0; part = await reader.part()) {
      for (let at = 0; at < part.length;) at += writeSync(out, part, at)
    }
    fsyncSync(out)
  } finally {
    closeSync(out)
  }
}
