/**
 * One ordered transaction, run: whoever asked may have it, its handler executes it, and what it came to is a record, whatever that is. All that
 * is ever ordered goes through here, and so does what is run again later.
 *
 * Invariant: a transaction that fails leaves nothing but its record. A failure of the host is thrown and is no record.
 */
import { CMeshError } from '../../cmtp/errors.ts'
import { RouteCache, type Route, type ServiceLetter } from '../../cmtp/fqmn.ts'
import { needsProof } from '../../cmtp/identity/request-proof.ts'
import type { Authority } from './authority.ts'
import type { Transaction } from './batch.ts'
import type { Space, TransactionRecord } from './provider.ts'
import { failedExecution, Recorder, SYSTEM_SPACE, type Execution, type TransactionContext, type TransactionHandler } from './transaction.ts'

/** The most one transaction may add to a block; with less room left it is put off, so that no block outgrows its bound. */
const TRANSACTION_ROOM_BYTES = 4 * 1024 * 1024

export interface TransactionRunParts {
  /** Who executes what, by the service of the transaction's address. */
  readonly handlers: Partial<Record<ServiceLetter, TransactionHandler>>
  /**
   * Who may have what, asked before a handler is. What it allows once, the same caller is allowed for the same address until the block ends or
   * the system space changes, but for what needs a signature of its own. Default: whatever was ordered is executed.
   */
  readonly authority?: Authority
  readonly space: (name: string) => Space
}

/** The block that a transaction stands in, and the time that deadlines in it are held against, ms since 1970. */
export type BlockPlace = Omit<TransactionContext, 'system'> & { readonly dueMs: number }

/** A caller who may have an address. */
interface Allowed {
  readonly sub: string
  readonly sid: string
  readonly route: Route
}

const NO_PLACE: BlockPlace = { seq: 0, timeMs: 0, chain: new Uint8Array(0), dueMs: 0 }

export class TransactionRun {
  readonly #parts: TransactionRunParts
  /** Parsed once, where one address is written to again and again. */
  readonly #routes = new RouteCache(1_024)
  #place = NO_PLACE
  #allowed: Allowed | undefined

  constructor(parts: TransactionRunParts) {
    this.#parts = parts
  }

  /** To be called before the first transaction of a block. What it throws halts the replica. */
  begin(place: BlockPlace): void {
    this.#place = place
    this.#allowed = undefined
    for (const handler of Object.values(this.#parts.handlers)) handler.begin?.(place.seq)
  }

  /** `room`: bytes that are left in the block. */
  execute(transaction: Transaction, room: number): TransactionRecord {
    const { seq, timeMs, chain, begins, dueMs } = this.#place
    const system = new Recorder(SYSTEM_SPACE, this.#parts.space(SYSTEM_SPACE))
    let execution: Execution
    try {
      if (room < TRANSACTION_ROOM_BYTES) throw new CMeshError('CMESH_STATE_BLOCK_FULL', { tx: transaction.id })
      if (transaction.deadlineMs < dueMs) throw new CMeshError('CMESH_ROUTER_DEADLINE')
      const route = this.#routes.fromText(transaction.fqmn)
      const handler = this.#parts.handlers[route.service]
      if (handler === undefined) throw new CMeshError('CMESH_CONSENSUS_BATCH', { reason: `nothing executes ${route.bare}` })
      const context: TransactionContext = begins === undefined ? { seq, timeMs, chain, system } : { seq, timeMs, chain, begins, system }
      this.#authorise(transaction, route, context)
      execution = handler.execute(transaction, route, context)
    } catch (error) {
      system.undo()
      if (!(error instanceof CMeshError) || error.retry === 'bug') throw error
      execution = failedExecution(error)
    }
    if (execution.status >= 400) system.undo()
    const { status, gas, output, events } = execution
    const own = system.writes()
    if (own.length > 0) this.#allowed = undefined
    return { id: transaction.id, status, gas, output, events, writes: own.length === 0 ? execution.writes : [...own, ...execution.writes] }
  }

  #authorise(transaction: Transaction, route: Route, context: TransactionContext): void {
    const { authority } = this.#parts
    if (authority === undefined) return
    const { sub, sid } = transaction
    const before = this.#allowed
    if (before !== undefined && before.route === route && before.sub === sub && before.sid === sid) return
    authority.check(transaction, route, context)
    this.#allowed = needsProof(route) ? undefined : { sub, sid, route }
  }
}
