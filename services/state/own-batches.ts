/**
 * The batches that this node proposed and that have not come back yet. What it encoded and signed itself it need not decode, parse and
 * verify when it is delivered: the transactions are still here. A batch is known by its id and by every one of its bytes, so what
 * anybody changed on the way, and what others proposed, takes the long way.
 *
 * Invariants: what is given out is what decoding the bytes would give; each is given out once; nothing is kept of a batch whose proposal is
 * settled, and of its block nothing but its sequence until that is durable.
 */
import type { LogEntry } from '../consensus/provider.ts'
import type { BatchContent } from './batch.ts'

export interface OwnBatch extends BatchContent {
  readonly data: Uint8Array
  /** How many of its transactions, from the first on, its block has taken in; `undefined` until it is applied. */
  taken: number | undefined
  /** What part of its block's gas these used; 0 where a block has no bound. */
  load: number
}

export class OwnBatches {
  readonly #proposed = new Map<string, OwnBatch>()
  /** Sequences of blocks that hold own batches and are not durable. */
  readonly #undurable = new Set<number>()

  /** Own batches that are ordered and not durable yet. */
  get undurable(): number {
    return this.#undurable.size
  }

  /** A batch that is about to be proposed, under its proposal's id. */
  add(id: string, data: Uint8Array, content: BatchContent): OwnBatch {
    const { member, proposedMs, transactions } = content
    const own: OwnBatch = { member, proposedMs, transactions, data, taken: undefined, load: 0 }
    this.#proposed.set(id, own)
    return own
  }

  /** The batch that an entry of the log brings back, if it is one of these to the last byte. */
  take({ id, seq, data }: LogEntry): OwnBatch | undefined {
    const own = this.#proposed.get(id)
    if (own === undefined || (own.data !== data && Buffer.compare(own.data, data) !== 0)) return undefined
    this.#proposed.delete(id)
    this.#undurable.add(seq)
    return own
  }

  /** The block of this sequence is durable. */
  durable(seq: number): void {
    this.#undurable.delete(seq)
  }

  /** The proposal of this id is settled: if it was not ordered until now, it is nobody's when it is. */
  forget(id: string): void {
    this.#proposed.delete(id)
  }
}
