/**
 * What came of a transaction, by its id and the sequence of its block: of what is remembered, or read back from the log, however old. What members
 * say of a write to who was not there is made of it.
 *
 * Invariants: what it gives is durable here; no more than one block is read at a time, so that who asks for old ones takes little memory.
 */
import type { StatePosition } from '../../cmtp/layer.ts'
import { decodeBatch } from './batch.ts'
import type { Block, StateStore } from './provider.ts'
import { transactionDigest, type Outcome } from './transaction-index.ts'

export interface LoggedOutcome extends Pick<Outcome, 'status' | 'gas' | 'output' | 'digest'> {
  /** The position behind its block. */
  readonly after: StatePosition
}

export interface LoggedOutcomesParts {
  readonly store: Pick<StateStore, 'head' | 'flush' | 'readBack' | 'replica'>
  /** What is remembered of a transaction. */
  readonly outcome: (id: string) => Outcome | undefined
  /** Resolves when the block is applied; `undefined` when it is. Rejects past the deadline. */
  readonly applied: (seq: number, deadlineMs: number) => Promise<void> | undefined
}

export class LoggedOutcomes {
  readonly #parts: LoggedOutcomesParts
  #reading: Promise<unknown> = Promise.resolve()

  constructor(parts: LoggedOutcomesParts) {
    this.#parts = parts
  }

  /** The outcome where it is remembered whole. Whoever was told of it knows that it is durable; others ask for `durable` first. */
  remembered(id: string, seq: number): LoggedOutcome | undefined {
    const outcome = this.#parts.outcome(id)
    const after = outcome?.span?.after
    return outcome === undefined || outcome.seq !== seq || after === undefined ? undefined : { ...outcome, digest: outcome.digest, after }
  }

  /** The same, from the log where need be; `undefined` where that block holds no such transaction, or none is kept. Rejects as the store does. */
  async find(id: string, seq: number): Promise<LoggedOutcome | undefined> {
    const known = this.remembered(id, seq)
    if (known !== undefined) return known
    const { store: { head } } = this.#parts
    if (seq === 0 || seq > head.seq) return undefined
    const read = this.#reading.then(() => this.#read(id, seq))
    this.#reading = read.catch(() => undefined)
    return read
  }

  /** Resolves once all blocks up to `seq` are durable here. Rejects past the deadline, and as the store does. */
  async durable(seq: number, deadlineMs: number): Promise<void> {
    const { store, applied } = this.#parts
    await applied(seq, deadlineMs)
    await store.flush()
  }

  async #read(id: string, seq: number): Promise<LoggedOutcome | undefined> {
    const { store } = this.#parts
    if (store.readBack === undefined || store.replica === undefined) return undefined
    let block: Block | undefined
    await store.readBack(seq, seq, each => { block = each })
    const record = block?.transactions.find(each => each.id === id)
    if (block === undefined || record === undefined) return undefined
    // Of two with one id the first was executed.
    const transaction = decodeBatch(block.message).transactions.find(each => each.id === id)
    if (transaction === undefined) return undefined
    const { status, gas, output } = record
    return { status, gas, output, digest: transactionDigest(transaction), after: { epoch: block.epoch, seq, chain: await store.replica.chainAt(seq) } }
  }
}
