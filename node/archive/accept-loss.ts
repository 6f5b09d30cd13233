/**
 * An operator's word that what a node had claimed beyond its log is given up. The log stays as it is; from its end on it goes on in an
 * epoch that was never used, so that no position is given out twice. Each such word is kept in `losses.jsonl` in the data directory.
 */
import { open } from 'node:fs/promises'
import path from 'node:path'
import { CMeshError } from '../../cmtp/errors.ts'
import type { ClaimedPosition } from '../../services/state/last-claim.ts'
import { DataLock } from '../data-lock.ts'
import { CLAIM_FILE, readClaim, writeClaim } from '../last-claim.ts'
import type { LogFacts } from './log-audit.ts'
import { audit, hasLog, noLog, withLog, type OnProgress } from './source.ts'

export interface AcceptedLoss extends LogFacts {
  /** The epoch in which the log goes on. */
  readonly newEpoch: number
  /** What the node had claimed; `null` when nothing. */
  readonly claimed: ClaimedPosition | null
  /** Blocks that were claimed and are not in the log. */
  readonly lost: number
}

const RECORD = 'losses.jsonl'

export interface AcceptLossAsk {
  readonly dir: string
  /** The other members are given up. */
  readonly alone: boolean
}

/**
 * Rejects with `CMESH_BOOT_DATA_IN_USE` while a node runs there, with `CMESH_CONSENSUS_NOT_ALONE` for a log of several members that are not given
 * up, and as `audit` does: a damaged log is no place to go on from.
 */
export async function acceptLoss({ dir, alone }: AcceptLossAsk, nowMs: number, onProgress: OnProgress): Promise<AcceptedLoss> {
  if (!hasLog(dir)) throw noLog(dir)
  const lock = new DataLock(dir)
  await lock.acquire()
  try {
    const facts = await withLog(dir, log => audit(log, onProgress))
    if (facts.members > 1 && !alone) throw new CMeshError('CMESH_CONSENSUS_NOT_ALONE', { path: dir, count: facts.members - 1 })
    const claimed = readClaim(dir) ?? null
    const { epoch, seq, chain, timeMs } = facts
    const newEpoch = Math.max(epoch, claimed?.epoch ?? 0) + 1
    await record(path.join(dir, RECORD), { acceptedMs: nowMs, from: { epoch, seq, chain }, newEpoch, claimed })
    await writeClaim(path.join(dir, CLAIM_FILE), { epoch: newEpoch, seq, chain, timeMs })
    return { ...facts, newEpoch, claimed, lost: Math.max(0, (claimed?.seq ?? 0) - seq) }
  } finally {
    await lock.release()
  }
}

/** Before anything changes: what was done is known even if it was only half done. */
async function record(file: string, entry: object): Promise<void> {
  const handle = await open(file, 'a', 0o600)
  try {
    await handle.appendFile(`${JSON.stringify(entry)}\n`)
    await handle.sync()
  } finally {
    await handle.close()
  }
}
