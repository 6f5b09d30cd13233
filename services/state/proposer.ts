/**
 * The proposer: gathers transactions into signed batches and hands them to consensus. A batch leaves on the next tick
 * while fewer than `BATCHES_IN_FLIGHT` are under way, so one client waits for nobody and many share a batch; callers take turns in it. While a
 * batch of this node is ordered and not durable yet only those leave that are half full at least: every batch costs a signature and a block. And
 * were it full ones alone, callers that were answered together would ask together, and the node would stand still while they do.
 * What a block had no gas left for is proposed again when it is its caller's turn, and batches are the smaller for it until their blocks
 * hold them whole.
 *
 * Invariants: a transaction is executed once, however often it is submitted; every submission settles, at the latest when
 * the proposer stops; queue and bytes are bounded, and past the bound a submission is refused with 429, never queued.
 */
import { hash, randomBytes } from 'node:crypto'
import { CMeshError } from '../../cmtp/errors.ts'
import { InFlight } from '../../cmtp/in-flight.ts'
import { LIMITS } from '../../cmtp/limits.ts'
import type { Clock } from '../clock.ts'
import type { ConsensusProvider, LogEntry } from '../consensus/provider.ts'
import { FairQueue } from '../fair-queue.ts'
import { Barrier } from './barrier.ts'
import { BATCH_LIMITS, batchOverheadBytes, encodeBatch, transactionBytes, type BatchContent, type Transaction } from './batch.ts'
import { OwnBatches, type OwnBatch } from './own-batches.ts'
import { transactionDigest, type Outcome, type TransactionIndex } from './transaction-index.ts'

const BATCHES_IN_FLIGHT = 8
/** What part of a full batch is worth a signature and a block of its own while others are under way. */
const WORTH_IT = 1 / 2

export interface ProposerParts {
  readonly consensus: Pick<ConsensusProvider, 'propose'>
  readonly index: TransactionIndex
  readonly clock: Clock
  readonly member: { readonly did: string, sign(bytes: Uint8Array): Uint8Array }
  /** When a batch is said to be proposed, which moves the log's time. Default: now. */
  readonly proposedMs?: () => number
  /** Throws where this batch may not be ordered now, or would count for nothing. Default: each may. */
  readonly check?: (batch: Pick<BatchContent, 'member' | 'transactions'>) => void
  /** The last sequence whose outcomes are as durable as their callers are told. Default: all that are known. */
  readonly reached?: () => number
  /** Most transactions that wait or are under way. Default 65,536. */
  readonly maxPending?: number
  /** Most bytes of their addresses and bodies. Default 67,108,864 (64 MiB). */
  readonly maxPendingBytes?: number
}

/** Somebody who waits for an outcome, and is told what `told` makes of it, or what that throws. */
interface Waiting {
  readonly told: (outcome: Outcome) => unknown
  readonly resolve: (value: unknown) => void
  readonly failed: (error: unknown) => void
}

interface Pending extends Waiting {
  /** In which it was submitted. */
  readonly order: number
  readonly transaction: Transaction
  /** Who submitted the same again. */
  again: Waiting[] | undefined
}

export class Proposer {
  readonly #parts: ProposerParts
  readonly #maxPending: number
  readonly #maxBytes: number
  readonly #pending = new InFlight<string, Pending>()
  readonly #queue = new FairQueue<Pending>()
  readonly #barrier: Barrier
  readonly #own = new OwnBatches()
  /** Most transactions of the next batch. */
  #size: number = BATCH_LIMITS.transactions
  #submitted = 0
  #bytes = 0
  #inFlight = 0
  #scheduled = false
  #closed: CMeshError | undefined
  #idle: (() => void)[] = []

  constructor(parts: ProposerParts) {
    this.#parts = parts
    this.#barrier = new Barrier({ order: deadlineMs => this.#orderNothing(deadlineMs), clock: parts.clock })
    this.#maxPending = parts.maxPending ?? 65_536
    this.#maxBytes = parts.maxPendingBytes ?? 67_108_864
  }

  /** Transactions that wait for their outcome. */
  get pending(): number {
    return this.#pending.size
  }

  /**
   * Resolves with the outcome once it is durable. The same id with the same content gives the first outcome, whichever node proposed it; with other
   * content it rejects with `CMESH_ROUTER_DUPLICATE`. Also rejects with `CMESH_ROUTER_BUSY`, `_DRAINING`,
   * `_UNKNOWN_OUTCOME`, `CMESH_STATE_NOT_MEMBER`, `CMESH_STATE_HALTED`.
   */
  submit(transaction: Transaction): Promise<Outcome> {
    return this.answer(transaction, outcome => outcome)
  }

  /** The same, and resolves with what `told` makes of the outcome, or rejects with what it throws. */
  answer<T>(transaction: Transaction, told: (outcome: Outcome) => T): Promise<T> {
    if (this.#closed !== undefined) return Promise.reject(this.#closed)
    const pending = this.#pending.get(transaction.id)
    const done = this.#parts.index.get(transaction.id)
    const known = pending === undefined ? done?.digest : transactionDigest(pending.transaction)
    if (known !== undefined && known !== transactionDigest(transaction)) return Promise.reject(new CMeshError('CMESH_ROUTER_DUPLICATE', { id: transaction.id }))
    if (pending !== undefined) {
      return new Promise<unknown>((resolve, failed) => { (pending.again ??= []).push({ told, resolve, failed }) }) as Promise<T>
    }
    // What another node proposed may be done here and held by nobody else yet. It is ordered again then, which changes nothing and waits for that.
    if (done !== undefined && done.seq <= (this.#parts.reached?.() ?? Infinity)) return new Promise(resolve => { resolve(told(done)) })
    const bytes = bytesOf(transaction)
    if (this.#pending.size >= this.#maxPending || this.#bytes + bytes > this.#maxBytes) {
      return Promise.reject(new CMeshError('CMESH_ROUTER_BUSY', { what: 'consensus', limit: this.#pending.size, retryAfterMs: 100 }))
    }
    return new Promise<unknown>((resolve, failed) => {
      const entry: Pending = { order: this.#submitted++, transaction, told, resolve, failed, again: undefined }
      this.#pending.add(transaction.id, entry)
      this.#bytes += bytes
      this.#queue.push(transaction.sub, entry)
      this.#schedule()
    }) as Promise<T>
  }

  /** Whether the transaction is under way here, or was executed: what it was submitted for then cannot be refused any more. */
  knows(id: string): boolean {
    return this.#pending.get(id) !== undefined || this.#parts.index.get(id) !== undefined
  }

  /**
   * Orders an empty batch, which moves log time on, and resolves with its sequence once this node has applied it: everything that was
   * acknowledged anywhere before the call is applied then, too. Many share one (`barrier.ts`). Rejects as consensus does, and with `CMESH_ROUTER_TIMEOUT`.
   */
  barrier(deadlineMs: number): Promise<number> {
    return this.#closed === undefined ? this.#barrier.pass(deadlineMs) : Promise.reject(this.#closed)
  }

  async #orderNothing(deadlineMs: number): Promise<number> {
    const { member, clock, consensus, check, proposedMs = clock.nowMs } = this.#parts
    const content = { member: member.did, proposedMs: proposedMs(), transactions: [] }
    check?.(content)
    const data = encodeBatch(content, bytes => member.sign(bytes))
    // Under an id of its own: two of one moment have the same content, and the second must not be given the place of the first.
    const id = randomBytes(16).toString('hex')
    const { seq } = await consensus.propose({ id, data, deadlineMs })
    return seq
  }

  /** What this node proposed and an entry of the log brings back, if it does; asked once for each entry, when it is applied. */
  own(entry: LogEntry): OwnBatch | undefined {
    return this.#own.take(entry)
  }

  /** The block of this sequence is durable, and its outcomes are settled. */
  durable(seq: number): void {
    this.#own.durable(seq)
    this.#schedule()
  }

  /** Outcomes of a durable block. `asked`: the transactions themselves that the first of them are of. */
  settle(outcomes: readonly Outcome[], asked: readonly Transaction[] = []): void {
    for (let i = 0; i < outcomes.length; i++) {
      const outcome = outcomes[i] as Outcome
      const entry = this.#pending.take(outcome.id)
      if (entry === undefined) continue
      this.#left(entry)
      // What came back as it was proposed need not be compared by what it says.
      if (entry.transaction === asked[i] || transactionDigest(entry.transaction) === outcome.digest) {
        tell(entry, outcome)
        if (entry.again !== undefined) for (const other of entry.again) tell(other, outcome)
      } else {
        refuse(entry, new CMeshError('CMESH_ROUTER_DUPLICATE', { id: outcome.id }))
      }
    }
  }

  /** Refuses new submissions with `CMESH_ROUTER_DRAINING`; resolves when none waits any more. */
  drain(): Promise<void> {
    this.#closed ??= new CMeshError('CMESH_ROUTER_DRAINING')
    return this.#pending.size === 0 ? Promise.resolve() : new Promise(resolve => { this.#idle.push(resolve) })
  }

  /**
   * Settles everything that waits with `error`, and every later submission. Where asking again would not help by that error, what is on its way
   * has an unknown outcome: other members may execute it all the same.
   */
  fail(error: CMeshError): void {
    this.#end(error, tx => error.retry === 'retry' ? error : new CMeshError('CMESH_ROUTER_UNKNOWN_OUTCOME', { tx }, { cause: error }))
  }

  /** Waits no longer: what is on its way has an unknown outcome, and what was not sent yet is refused as a later submission is. */
  giveUp(): void {
    this.#end(new CMeshError('CMESH_ROUTER_DRAINING'), tx => new CMeshError('CMESH_ROUTER_UNKNOWN_OUTCOME', { tx }))
  }

  #end(error: CMeshError, ofSent: (tx: string) => CMeshError): void {
    this.#closed = error
    for (const entry of this.#queue.drain()) this.#abandon(entry, error)
    for (const entry of this.#pending.values()) this.#abandon(entry, ofSent(entry.transaction.id))
  }

  #schedule(): void {
    if (this.#scheduled || !this.#mayLeave()) return
    this.#scheduled = true
    setImmediate(() => {
      this.#scheduled = false
      while (this.#mayLeave()) void this.#send(this.#take())
    })
  }

  /** Whether another batch may leave now. */
  #mayLeave(): boolean {
    const { size } = this.#queue
    return size > 0 && this.#inFlight < BATCHES_IN_FLIGHT && (this.#own.undurable === 0 || size >= this.#size * WORTH_IT)
  }

  #take(): Pending[] {
    let bytes = batchOverheadBytes(this.#parts.member.did)
    const batch: Pending[] = []
    while (batch.length < this.#size) {
      const next = this.#queue.peek()
      if (next === undefined) break
      bytes += transactionBytes(next.transaction)
      // A single transaction always fits: its body is bounded by `LIMITS.bodyBytes`.
      if (batch.length > 0 && bytes > BATCH_LIMITS.bytes) break
      batch.push(this.#queue.shift() as Pending)
    }
    return batch
  }

  async #send(batch: readonly Pending[]): Promise<void> {
    const first = batch[0]
    if (first === undefined) return
    this.#inFlight++
    let id = ''
    try {
      const { member, clock, consensus, check } = this.#parts
      const nowMs = clock.nowMs()
      const content = { member: member.did, proposedMs: this.#parts.proposedMs?.() ?? nowMs, transactions: batch.map(entry => entry.transaction) }
      check?.(content)
      const data = encodeBatch(content, bytes => member.sign(bytes))
      let deadlineMs = first.transaction.deadlineMs
      for (const { transaction } of batch) deadlineMs = Math.max(deadlineMs, transaction.deadlineMs)
      id = idOf(data)
      const own = this.#own.add(id, data, content)
      await consensus.propose({ id, data, deadlineMs: Math.min(deadlineMs, nowMs + LIMITS.deadlineAheadMs) })
      this.#again(batch, own)
    } catch (thrown) {
      const error = CMeshError.from(thrown, 'consensus', first.transaction.id)
      for (const entry of batch) this.#abandon(entry, perTransaction(error, entry.transaction.id))
    } finally {
      this.#own.forget(id)
      this.#inFlight--
      this.#schedule()
    }
  }

  /** The block of a batch is applied: those it had no gas left for wait again, where they stood among their caller's. */
  #again(batch: readonly Pending[], own: OwnBatch): void {
    const { index } = this.#parts
    const isPending = (entry: Pending): boolean => this.#pending.get(entry.transaction.id) === entry
    const left = own.taken === undefined
      ? batch.filter(entry => index.get(entry.transaction.id) === undefined && isPending(entry))
      : batch.slice(own.taken).filter(isPending)
    const executed = batch.length - left.length
    // Of a batch that counts for nothing there is nothing to expect the next time either.
    if (executed === 0) {
      const error = new CMeshError('CMESH_STATE_NOT_MEMBER', { reason: 'the log does not list it' })
      for (const entry of left) this.#abandon(entry, error)
      return
    }
    // Grows as far as the block had gas for: what only comes back was encoded, signed and stored for nothing.
    const room = own.load === 0 ? Infinity : Math.max(this.#size, Math.floor(executed / own.load))
    this.#size = left.length === 0 ? Math.min(BATCH_LIMITS.transactions, this.#size * 2, room) : executed
    if (left.length > 0) this.#queue.putBack(left, ({ transaction }) => transaction.sub, ({ order }) => order)
  }

  #abandon(entry: Pending, error: CMeshError): void {
    const { id } = entry.transaction
    // Of one that another node's batch settled meanwhile the place may be that of the same transaction, submitted again.
    if (this.#pending.get(id) === entry && this.#pending.delete(id)) this.#left(entry)
    refuse(entry, error)
  }

  /** It waits no longer. */
  #left(entry: Pending): void {
    this.#bytes -= bytesOf(entry.transaction)
    if (this.#pending.size > 0) return
    for (const resolve of this.#idle.splice(0)) resolve()
  }
}

function tell({ told, resolve, failed }: Waiting, outcome: Outcome): void {
  try {
    resolve(told(outcome))
  } catch (error) {
    failed(error)
  }
}

function refuse({ failed, again = [] }: Pending, error: CMeshError): void {
  failed(error)
  for (const other of again) other.failed(error)
}

function bytesOf({ fqmn, body }: Transaction): number {
  return fqmn.length + body.length
}

/** The error of a batch as each of its callers must see it: with its own transaction's id. */
function perTransaction(error: CMeshError, id: string): CMeshError {
  return error.code === 'CMESH_ROUTER_UNKNOWN_OUTCOME' ? new CMeshError(error.code, { tx: id }, { cause: error }) : error
}

/** Named by its content: an id that a caller chose could be one that consensus has seen, and the batch be taken for a repeat. */
function idOf(data: Uint8Array): string {
  return hash('sha256', data, 'hex').slice(0, 32)
}
