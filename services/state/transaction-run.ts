/**
 * One ordered transaction, run: whoever asked may have it, its handler executes it, and what it came to is a record, whatever that is. All that
 * is ever ordered goes through here, and so does what is run again later.
 *
 * Invariant: a transaction that fails leaves nothing but its record. A failure of the host is thrown and is no record.
 */
import { CMeshError } from '../../cmtp/errors.ts'
import { RouteCache, type ServiceLetter } from '../../cmtp/fqmn.ts'
import type { Authority } from './authority.ts'
import type { Transaction } from './batch.ts'
import type { Space, TransactionRecord } from './provider.ts'
import { failedExecution, Recorder, SYSTEM_SPACE, type Execution, type TransactionContext, type TransactionHandler } from './transaction.ts'

/** The most one transaction may add to a block; with less room left it is put off, so that no block outgrows its bound. */
const TRANSACTION_ROOM_BYTES = 4 * 1024 * 1024

export interface TransactionRunParts {
  /** Who executes what, by the service of the transaction's address. */
  readonly handlers: Partial<Record<ServiceLetter, TransactionHandler>>
  /** Who may have what, asked before each handler. Default: whatever was ordered is executed. */
  readonly authority?: Authority
  readonly space: (name: string) => Space
}

/** Where in the log a transaction stands, and the time that its deadline is held against, ms since 1970. */
export type TransactionPlace = Omit<TransactionContext, 'system'> & { readonly dueMs: number }

export class TransactionRun {
  readonly #parts: TransactionRunParts
  /** Parsed once, where one address is written to again and again. */
  readonly #routes = new RouteCache(1_024)

  constructor(parts: TransactionRunParts) {
    this.#parts = parts
  }

  /** To be called before the first transaction of block `seq`. What it throws halts the replica. */
  begin(seq: number): void {
    for (const handler of Object.values(this.#parts.handlers)) handler.begin?.(seq)
  }

  /** `room`: bytes that are left in the block. */
  execute(transaction: Transaction, { dueMs, ...place }: TransactionPlace, room: number): TransactionRecord {
    const system = new Recorder(SYSTEM_SPACE, this.#parts.space(SYSTEM_SPACE))
    let execution: Execution
    try {
      if (room < TRANSACTION_ROOM_BYTES) throw new CMeshError('CMESH_STATE_BLOCK_FULL', { tx: transaction.id })
      if (transaction.deadlineMs < dueMs) throw new CMeshError('CMESH_ROUTER_DEADLINE')
      const route = this.#routes.fromText(transaction.fqmn)
      const handler = this.#parts.handlers[route.service]
      if (handler === undefined) throw new CMeshError('CMESH_CONSENSUS_BATCH', { reason: `nothing executes ${route.bare}` })
      const context = { ...place, system }
      this.#parts.authority?.check(transaction, route, context)
      execution = handler.execute(transaction, route, context)
    } catch (error) {
      system.undo()
      if (!(error instanceof CMeshError) || error.retry === 'bug') throw error
      execution = failedExecution(error)
    }
    if (execution.status >= 400) system.undo()
    const { status, gas, output, events } = execution
    const own = system.writes()
    return { id: transaction.id, status, gas, output, events, writes: own.length === 0 ? execution.writes : [...own, ...execution.writes] }
  }
}
