/** Verifies the log of a data directory, whether a node runs there or not: every block, the chain, the tree, the signatures, the last claim. */
import { ClaimCheck } from '../../services/state/last-claim.ts'
import { readClaim } from '../last-claim.ts'
import type { LogFacts } from './log-audit.ts'
import { audit, withLog, type OnProgress } from './source.ts'

export interface Verified extends LogFacts {
  /** Hex of the public half of the key that signs the log. */
  readonly logKey: string
}

/**
 * Rejects with `CMESH_STATE_NO_LOG`, with `CMESH_STATE_CORRUPT`, which names path and block, and with `CMESH_STATE_BEHIND` or
 * `CMESH_STATE_FORKED` for a log that is not the one its node has claimed.
 */
export function verifyLog(dir: string, onProgress: OnProgress): Promise<Verified> {
  // Read first: a node that runs claims more meanwhile.
  const claim = new ClaimCheck(readClaim(dir))
  return withLog(dir, async log => {
    const facts = await audit(log, onProgress, claim)
    claim.check(facts.seq)
    return { ...facts, logKey: Buffer.from(log.key).toString('hex') }
  })
}
