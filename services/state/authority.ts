/**
 * Whether who asked for a transaction may have it, decided where it is ordered: from the log alone, so that every replica decides
 * alike. The guard decided before, by what its node knew then.
 */
import type { Route } from '../../cmtp/fqmn.ts'
import type { Transaction } from './batch.ts'
import type { TransactionContext } from './transaction.ts'

export interface Authority {
  /** Throws `CMESH_IAM_REVOKED`, `CMESH_IAM_DENIED` or `CMESH_IAM_PROOF`, which becomes the transaction's outcome. */
  check(transaction: Transaction, route: Route, context: Pick<TransactionContext, 'system' | 'timeMs' | 'seq'>): void
}
