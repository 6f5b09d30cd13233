/** How a contract's own failure travels inside the engine. It never leaves it: it becomes a result. */
import type { ContractFailure } from '../../services/contracts/provider.ts'

export class ContractStop extends Error {
  readonly failure: ContractFailure
  /** Recorded in the log: it depends on the contract and its input alone, never on the engine. */
  readonly reason: string

  constructor(failure: ContractFailure, reason: string) {
    super(reason)
    this.failure = failure
    this.reason = reason
  }
}
