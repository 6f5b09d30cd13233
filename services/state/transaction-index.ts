/**
 * The recent transactions by id: what makes a repeated proposal harmless and `0xC:tx:<id>` answerable. It is part of the
 * deterministic state: filled by blocks alone, in order, so every replica holds the same. Keeps at least the last
 * `ENTRIES` transactions, or the last `BYTES` of output.
 */
import { hash } from 'node:crypto'
import { TwoGenerations } from '../../cmtp/two-generations.ts'
import type { Transaction } from './batch.ts'
import type { StatePosition } from '../../cmtp/layer.ts'

const ENTRIES = 65_536
const BYTES = 32 * 1024 * 1024

export interface Outcome {
  readonly id: string
  readonly status: number
  readonly gas: bigint
  readonly output: Uint8Array
  /** What the transaction asked: equal ids must have equal digests. */
  readonly digest: string
  /** Sequence and log time of the block that holds it. */
  readonly seq: number
  readonly timeMs: number
  /** State before and after that block; unknown for one that was read back from the log. */
  readonly span: { readonly before: StatePosition, readonly after: StatePosition } | undefined
}

export class TransactionIndex {
  readonly #outcomes = new TwoGenerations<string, Outcome>({ entries: ENTRIES, weight: BYTES })

  get(id: string): Outcome | undefined {
    return this.#outcomes.peek(id)
  }

  add(outcome: Outcome): void {
    this.#outcomes.set(outcome.id, outcome, outcome.output.length)
  }
}

/** Digest of who asked what: the caller, the address and the body. */
export function transactionDigest(transaction: Pick<Transaction, 'sub' | 'fqmn' | 'body'>): string {
  const head = Buffer.from(`${transaction.sub}\0${transaction.fqmn}\0`)
  return hash('sha256', transaction.body.length === 0 ? head : Buffer.concat([head, transaction.body]), 'base64url')
}
