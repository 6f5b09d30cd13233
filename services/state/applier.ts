/**
 * The applier: turns the ordered log into state. It takes one ordered message after another, checks that a member signed
 * it, executes its transactions and hands the outcome to the store. It is the only writer of state.
 *
 * Invariants:
 * 1. Sequences are applied densely and in order; one at or below the head is skipped, a hole halts.
 * 2. What it computes depends on the order and the payload alone. Log time follows the proposers' clocks (`log-time.ts`); the applier has no
 *    clock and never sees a token.
 * 3. A batch that no member signed changes nothing but takes its sequence, and so does an entry that is passed at the operator's word.
 * 4. A transaction's failure is its outcome. A failure of the host halts the applier and is never recorded.
 * 5. A block ends when it has used its gas: what the batch holds beyond that has no outcome and changes nothing, as if it had not been
 *    proposed. So no block holds the thread for longer than its gas and one transaction's.
 */
import { CMeshError } from '../../cmtp/errors.ts'
import { RouteCache, type ServiceLetter } from '../../cmtp/fqmn.ts'
import type { StatePosition } from '../../cmtp/layer.ts'
import type { LogEntry } from '../consensus/provider.ts'
import type { Log } from '../log.ts'
import type { Authority } from './authority.ts'
import { timeBehind } from './log-time.ts'
import { BATCH_VERSION, decodeBatch, movesBySteps, newerBatch, type Batch, type BatchContent, type Transaction } from './batch.ts'
import { BLOCK_BYTES, BLOCK_OVERHEAD_BYTES, recordBytes } from './block.ts'
import type { OwnBatch } from './own-batches.ts'
import type { Block, ReadBack, StateHead, StateStore, TransactionRecord } from './provider.ts'
import { failedExecution, Recorder, SYSTEM_SPACE, type Execution, type TransactionContext, type TransactionHandler } from './transaction.ts'
import { transactionDigest, type Outcome, type TransactionIndex } from './transaction-index.ts'

/** The most one transaction may add to a block; with less room left it is put off, so that no block outgrows its bound. */
const TRANSACTION_ROOM_BYTES = 4 * 1024 * 1024
/** Most bytes of a batch for each transaction of its block that are kept to be read later. */
const KEPT_BYTES = 1_024

export interface ApplierParts {
  readonly store: StateStore
  readonly index: TransactionIndex
  /** Who executes what, by the service of the transaction's address. */
  readonly handlers: Partial<Record<ServiceLetter, TransactionHandler>>
  /** Who may have what, asked before each handler. Default: whatever was ordered is executed. */
  readonly authority?: Authority
  /** Gas after which block `seq` takes in no more transactions: what the log before it says, and so the same on every replica. Default: no bound. */
  readonly blockGas?: (seq: number) => number
  /** The block as it goes into the log: with the state's root, where it is a checkpoint. Default: none is. */
  readonly seal?: (block: Block) => Block
  /** Whether the signer of a batch is a member of this mesh, or asks to be one, and its signature over the bytes holds. */
  readonly verifyMember: (batch: Batch, bytes: Uint8Array) => boolean
  /** The batch in an entry where this node proposed it, is a member and has kept it. Default: every batch is decoded and verified. */
  readonly own?: (entry: LogEntry) => OwnBatch | undefined
  /** Whether the entry is passed at the operator's word, unexecuted. Default: none is. */
  readonly passes?: (entry: LogEntry) => boolean
  /** The error to stop with where an entry cannot be applied. Default: what was thrown. */
  readonly stuck?: (entry: LogEntry, error: CMeshError) => CMeshError
  readonly log: Log
  /** A block is applied; it is not durable yet. */
  readonly onApplied: (block: Block) => void
  /** A block is durable, `head` the position behind it; `outcomes` are those of its transactions, and of earlier ones proposed again. */
  readonly onDurable: (block: Block, outcomes: readonly Outcome[], head: StateHead) => void
  /** The applier stopped for good. Called once. */
  readonly onHalt: (error: CMeshError) => void
}

export class Applier {
  readonly #parts: ApplierParts
  /** Parsed once, where one address is written to again and again. */
  readonly #routes = new RouteCache(1_024)
  /** By how much the last block is ahead of the one before, ms. */
  #stepMs = 0
  #halted: CMeshError | undefined

  constructor(parts: ApplierParts) {
    this.#parts = parts
  }

  get halted(): CMeshError | undefined {
    return this.#halted
  }

  /** Takes the next entry of the log. Synchronous; durability is told by `onDurable`. */
  readonly apply = (entry: LogEntry): void => {
    if (this.#halted !== undefined) return
    const head = this.#parts.store.head
    if (entry.seq <= head.seq) return
    if (entry.seq !== head.seq + 1) {
      this.halt(new CMeshError('CMESH_STATE_HALTED', { reason: `entry ${entry.seq} came after ${head.seq}` }))
      return
    }
    try {
      this.#applyNext(entry, head)
    } catch (error) {
      this.#stuck(entry, CMeshError.from(error, 'the applier', entry.id))
    }
  }

  #stuck(entry: LogEntry, error: CMeshError): void {
    this.halt(this.#parts.stuck?.(entry, error) ?? error)
  }

  /** Takes up by how much the last block of the log is ahead of the one before, ms: 0 for one block or none. */
  stepped(stepMs: number): void {
    this.#stepMs = stepMs
  }

  /** Takes up a block that the store read back: no execution and no check of a signature, only what is remembered of it. */
  restore(block: Block, at: ReadBack): void {
    this.#parts.index.restore(block, at, () => {
      const asked = new AskedOf(block)
      // Most outcomes are forgotten again before anybody asks what their transaction was: the batch is read when somebody does.
      return block.transactions.map(({ id, status, gas, output }): Outcome =>
        ({ id, status, gas, output, seq: block.seq, timeMs: block.timeMs, span: undefined, get digest() { return asked.digest(id) } }))
    })
  }

  #applyNext(entry: LogEntry, head: StateHead): void {
    const { store, index } = this.#parts
    const passed = this.#parts.passes?.(entry) === true
    const own = passed ? undefined : this.#parts.own?.(entry)
    const batch = passed ? undefined : own ?? this.#members(entry.data)
    if (batch === undefined && !passed) this.#parts.log.error({ seq: entry.seq }, 'a batch that no member signed was ordered; it changes nothing')
    const time = timeOf(batch, entry.data, head, this.#stepMs)
    const { timeMs } = time
    const transactions = batch?.transactions ?? []
    const place = { seq: entry.seq, timeMs, chain: head.chain, ...(entry.epoch > head.epoch && { begins: entry.epoch }) }
    const records: TransactionRecord[] = []
    /** Where in the batch each of them stands. */
    const executed: number[] = []
    const repeated: Outcome[] = []
    const inBlock = new Set<string>()
    let bytes = BLOCK_OVERHEAD_BYTES + entry.data.length
    if (transactions.length > 0) for (const handler of Object.values(this.#parts.handlers)) handler.begin?.(entry.seq)
    const mostGas = this.#parts.blockGas?.(entry.seq) ?? Infinity
    let gas = 0n
    let taken = 0
    for (; taken < transactions.length; taken++) {
      const transaction = transactions[taken] as Transaction
      const known = index.get(transaction.id)
      if (known !== undefined || inBlock.has(transaction.id)) {
        if (known !== undefined) repeated.push(known)
        continue
      }
      if (gas >= mostGas) break
      const record = this.#execute(transaction, { ...place, dueMs: time.dueMs }, BLOCK_BYTES - bytes)
      bytes += recordBytes(record)
      gas += record.gas
      inBlock.add(transaction.id)
      records.push(record)
      executed.push(taken)
    }
    if (own !== undefined) {
      own.taken = taken
      own.load = Number(gas) / mostGas
    }

    const made: Block = { epoch: entry.epoch, seq: entry.seq, timeMs, message: entry.data, transactions: records }
    const block = this.#parts.seal?.(made) ?? made
    const durable = store.commit(block)
    this.#stepMs = head.seq === 0 ? 0 : timeMs - head.timeMs
    const reached = store.head
    const span = { before: position(head), after: position(reached) }
    const outcomes = records.map((record, i) => {
      const at = executed[i] as number
      return outcomeOf(record, own?.digests[at] ?? transactionDigest(transactions[at] as Transaction), block, span)
    })
    for (const [place, outcome] of outcomes.entries()) index.add(outcome, { before: span.before, skip: place })
    this.#parts.onApplied(block)
    durable.then(
      () => { this.#parts.onDurable(block, [...outcomes, ...repeated], reached) },
      (thrown: unknown) => {
        const error = CMeshError.from(thrown, 'the state store', entry.id)
        // A block that has no bytes never will have any; a store that failed may be well again.
        if (error.code === 'CMESH_STATE_BLOCK') this.#stuck(entry, error)
        else this.halt(error)
      },
    )
  }

  #execute(transaction: Transaction, { dueMs, ...place }: Omit<TransactionContext, 'system'> & { readonly dueMs: number }, room: number): TransactionRecord {
    const system = new Recorder(SYSTEM_SPACE, this.#parts.store.space(SYSTEM_SPACE))
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

  /** The batch, when a member signed it. Throws for one of a later version: members that read it have another state behind it. */
  #members(message: Uint8Array): BatchContent | undefined {
    const { verifyMember, log } = this.#parts
    try {
      const batch = decodeBatch(message)
      return verifyMember(batch, message) ? batch : undefined
    } catch (error) {
      const newer = newerBatch(message)
      if (newer !== undefined && verifyMember(newer.batch, message)) {
        throw new CMeshError('CMESH_CONSENSUS_NEWER', { member: newer.batch.member, version: newer.version, known: BATCH_VERSION })
      }
      log.error({ err: error }, 'an ordered message is no batch')
      return undefined
    }
  }

  /** Stops for good, for a reason of its own or one it is told. Idempotent. */
  halt(error: CMeshError): void {
    if (this.#halted !== undefined) return
    this.#halted = error
    this.#parts.log.error({ err: error, code: error.code }, 'state has halted')
    this.#parts.onHalt(error)
  }
}

/** What the transactions of a block that was read back asked for. Keeps the batch until it is needed, or what it says where it is large. */
class AskedOf {
  #message: Uint8Array | undefined
  #digests: ReadonlyMap<string, string> | undefined

  constructor({ message, transactions }: Block) {
    if (message.length > KEPT_BYTES * transactions.length) this.#digests = digestsOf(message)
    // A copy, for the message is a view that keeps the whole block.
    else this.#message = new Uint8Array(message)
  }

  digest(id: string): string {
    if (this.#message !== undefined) this.#digests = digestsOf(this.#message)
    this.#message = undefined
    return this.#digests?.get(id) ?? ''
  }
}

/** The time of the block, and the one that deadlines of its transactions are held against. */
function timeOf(
  batch: Pick<BatchContent, 'proposedMs'> | undefined, message: Uint8Array, head: StateHead, stepMs: number,
): { readonly timeMs: number, readonly dueMs: number } {
  if (batch === undefined) return { timeMs: head.timeMs, dueMs: head.timeMs }
  const { proposedMs } = batch
  if (!movesBySteps(message)) {
    const timeMs = Math.max(head.timeMs, proposedMs)
    return { timeMs, dueMs: timeMs }
  }
  // Where the log's time was pushed ahead of everybody's, what is asked for now is in time all the same.
  return { timeMs: head.seq === 0 ? proposedMs : timeBehind({ beforeMs: head.timeMs, stepMs, proposedMs }), dueMs: proposedMs }
}

function digestsOf(message: Uint8Array): ReadonlyMap<string, string> {
  // Of two with one id the first was executed.
  return new Map(decodeBatch(message).transactions.toReversed().map(transaction => [transaction.id, transactionDigest(transaction)]))
}

function position(head: StateHead): StatePosition {
  return { epoch: head.epoch, seq: head.seq, chain: head.chain }
}

function outcomeOf(record: TransactionRecord, digest: string, block: Block, span?: Outcome['span']): Outcome {
  const { id, status, gas, output } = record
  return { id, status, gas, output, seq: block.seq, timeMs: block.timeMs, span, digest }
}
