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
import type { StatePosition } from '../../cmtp/layer.ts'
import type { LogEntry } from '../consensus/provider.ts'
import type { Log } from '../log.ts'
import { timeBehind } from './log-time.ts'
import { BATCH_VERSION, decodeBatch, movesBySteps, newerBatch, type Batch, type BatchContent, type Transaction } from './batch.ts'
import { BLOCK_BYTES, BLOCK_OVERHEAD_BYTES, recordBytes } from './block.ts'
import type { OwnBatch } from './own-batches.ts'
import type { Block, ReadBack, StateHead, StateStore, TransactionRecord } from './provider.ts'
import { outcomesOf, recalled } from './recorded-outcomes.ts'
import type { Outcome, TransactionIndex } from './transaction-index.ts'
import { TransactionRun, type TransactionRunParts } from './transaction-run.ts'

export interface ApplierParts extends Pick<TransactionRunParts, 'handlers' | 'authority'> {
  readonly store: StateStore
  readonly index: TransactionIndex
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
  /**
   * A block is durable, `head` the position behind it; `outcomes` are those of its transactions, and of earlier ones proposed again. `asked`: the
   * transactions themselves that the first of them are of.
   */
  readonly onDurable: (block: Block, outcomes: readonly Outcome[], head: StateHead, asked: readonly Transaction[]) => void
  /** The applier stopped for good. Called once. */
  readonly onHalt: (error: CMeshError) => void
}

export class Applier {
  readonly #parts: ApplierParts
  readonly #run: TransactionRun
  /** By how much the last block is ahead of the one before, ms. */
  #stepMs = 0
  #halted: CMeshError | undefined

  constructor(parts: ApplierParts) {
    this.#parts = parts
    this.#run = new TransactionRun({ ...parts, space: name => parts.store.space(name) })
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
    this.#parts.index.restore(block, at, recalled(block))
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
    const records: TransactionRecord[] = []
    /** The transactions that they are of. */
    const executed: Transaction[] = []
    const repeated: Outcome[] = []
    const inBlock = new Set<string>()
    let bytes = BLOCK_OVERHEAD_BYTES + entry.data.length
    if (transactions.length > 0) {
      this.#run.begin({ seq: entry.seq, timeMs, chain: head.chain, dueMs: time.dueMs, ...(entry.epoch > head.epoch && { begins: entry.epoch }) })
    }
    const mostGas = this.#parts.blockGas?.(entry.seq) ?? Infinity
    let gas = 0
    let taken = 0
    for (; taken < transactions.length; taken++) {
      const transaction = transactions[taken] as Transaction
      const known = index.get(transaction.id)
      if (known !== undefined || inBlock.has(transaction.id)) {
        if (known !== undefined) repeated.push(known)
        continue
      }
      if (gas >= mostGas) break
      const record = this.#run.execute(transaction, BLOCK_BYTES - bytes)
      bytes += recordBytes(record)
      // Less than 2^53, as a call's is, until it is past the bound: a number says the same of that on every replica.
      gas += Number(record.gas)
      inBlock.add(transaction.id)
      records.push(record)
      executed.push(transaction)
    }
    if (own !== undefined) {
      own.taken = taken
      own.load = gas / mostGas
    }

    const made: Block = { epoch: entry.epoch, seq: entry.seq, timeMs, message: entry.data, transactions: records }
    const block = this.#parts.seal?.(made) ?? made
    const durable = store.commit(block)
    this.#stepMs = head.seq === 0 ? 0 : timeMs - head.timeMs
    const reached = store.head
    const span = { before: position(head), after: position(reached) }
    const outcomes = outcomesOf(block, span)
    for (let place = 0; place < outcomes.length; place++) index.add(outcomes[place] as Outcome, { before: span.before, skip: place })
    for (const outcome of repeated) outcomes.push(outcome)
    this.#parts.onApplied(block)
    durable.then(
      () => { this.#parts.onDurable(block, outcomes, reached, executed) },
      (thrown: unknown) => {
        const error = CMeshError.from(thrown, 'the state store', entry.id)
        // A block that has no bytes never will have any; a store that failed may be well again.
        if (error.code === 'CMESH_STATE_BLOCK') this.#stuck(entry, error)
        else this.halt(error)
      },
    )
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

function position(head: StateHead): StatePosition {
  return { epoch: head.epoch, seq: head.seq, chain: head.chain }
}
