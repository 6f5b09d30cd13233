/** Verifies the log of a data directory, whether a node runs there or not: every block, the chain, the tree, the signatures. */
import { audit, withLog, type OnProgress } from './source.ts'
import type { LogFacts } from './log-audit.ts'

export interface Verified extends LogFacts {
  /** Hex of the public half of the key that signs the log. */
  readonly logKey: string
}

/** Rejects with `CMESH_STATE_NO_LOG` or `CMESH_STATE_CORRUPT`, which names path and block. */
export function verifyLog(dir: string, onProgress: OnProgress): Promise<Verified> {
  return withLog(dir, async log => ({ ...await audit(log, onProgress), logKey: Buffer.from(log.key).toString('hex') }))
}
