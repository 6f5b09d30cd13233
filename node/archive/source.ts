/**
 * The log of a data directory as something to read, whether a node runs there or not: a copy of links in `<dir>/checkpoint`, which goes
 * when its use is over. One at a time; what one that was killed left behind is cleared by the next.
 */
import { existsSync, readdirSync } from 'node:fs'
import { rm, rmdir } from 'node:fs/promises'
import path from 'node:path'
import { CMeshError } from '../../cmtp/errors.ts'
import { LogCopy } from '../../providers/registry.ts'
import type { ClaimCheck } from '../../services/state/last-claim.ts'
import { clusterDir } from '../cluster/plan.ts'
import { DataLock, HALF_RESTORED, RESTORING } from '../data-lock.ts'
import { LogAudit, type LogFacts } from './log-audit.ts'

/** Told how far it is, in blocks. */
export type OnProgress = (done: number, of: number) => void

const PROGRESS_BLOCKS = 4_096
/** What is said of a directory that the next one has begun in, or cleared already. */
const TAKEN_UP: ReadonlySet<string> = new Set(['ENOTEMPTY', 'EEXIST', 'ENOENT'])

/** Whether a node has kept the log there. */
export function hasLog(dataDir: string, of: 'state' | 'audit' = 'state'): boolean {
  return existsSync(path.join(dataDir, of, 'log'))
}

/** For a directory without a log. Of a cluster's the nodes have one each, beneath it: they are named, since one of them is what was meant. */
export function noLog(dataDir: string, of: 'state' | 'audit' = 'state'): CMeshError {
  const at = clusterDir(dataDir)
  const nodes = (existsSync(at) ? readdirSync(at) : []).filter(name => /^node-\d+$/.test(name) && hasLog(path.join(at, name), of)).sort()
  const reason = nodes.length === 0
    ? 'no node with a log on disk has run there'
    : `it is of a cluster, whose nodes have one each: ${nodes.map(name => path.join(at, name)).join(', ')}`
  return new CMeshError('CMESH_STATE_NO_LOG', { path: dataDir, reason })
}

/** Gives `use` the log as it stands now: that of the state, or of what the node answered. Rejects for a directory that a restore has not finished. */
export async function withLog<T>(dataDir: string, use: (log: LogCopy) => Promise<T>, of: 'state' | 'audit' = 'state'): Promise<T> {
  if (existsSync(path.join(dataDir, RESTORING))) throw new CMeshError('CMESH_STATE_NO_LOG', { path: dataDir, reason: HALF_RESTORED })
  return withAnyLog(dataDir, use, of)
}

/** The same, of a directory that a restore has not finished too. */
export async function withAnyLog<T>(dataDir: string, use: (log: LogCopy) => Promise<T>, of: 'state' | 'audit' = 'state'): Promise<T> {
  // Before anything is made: looking into a directory that is not there leaves none behind.
  if (!hasLog(dataDir, of)) throw noLog(dataDir, of)
  const dir = path.join(dataDir, 'checkpoint')
  const lock = new DataLock(dir)
  await lock.acquire()
  try {
    await rm(path.join(dir, 'log'), { recursive: true, force: true })
    const log = await LogCopy.take(path.join(dataDir, of), path.join(dir, 'log'))
    try {
      return await use(log)
    } finally {
      await log.close()
    }
  } finally {
    // The lock last, and the directory only while nothing is in it: the next one may have begun there.
    await rm(path.join(dir, 'log'), { recursive: true, force: true })
    await lock.release()
    await rmdir(dir).catch((error: unknown) => { if (!TAKEN_UP.has((error as NodeJS.ErrnoException).code ?? '')) throw error })
  }
}

/** Reads all of the log and holds it to what it should be. Rejects with `CMESH_STATE_CORRUPT`. `claim` is told the head behind each block. */
export async function audit(log: LogCopy, onProgress: OnProgress, claim?: Pick<ClaimCheck, 'see'>): Promise<LogFacts> {
  const auditor = new LogAudit(log.path)
  await log.read((bytes, index) => {
    auditor.take(bytes)
    claim?.see(auditor.head)
    if (index % PROGRESS_BLOCKS === 0) onProgress(index, log.length)
  })
  const facts = auditor.facts()
  const corrupt = (reason: string): CMeshError => new CMeshError('CMESH_STATE_CORRUPT', { path: log.path, block: Math.max(0, log.length - 1), reason })
  if (Buffer.from(await log.root()).toString('hex') !== facts.root) throw corrupt('the tree that the log has noted is not that of its blocks')
  if (!log.signed()) throw corrupt('its key did not sign its tree')
  return facts
}
