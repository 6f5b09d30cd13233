/**
 * The recent transactions by id: what makes a repeated proposal harmless and `0xC:tx:<id>` answerable. It is part of the
 * deterministic state: filled by blocks alone, in order, so every replica holds the same. Keeps at least the last
 * `ENTRIES` transactions, or the last `BYTES` of output.
 */
import { hash } from 'node:crypto'
import { TwoGenerations } from '../../cmtp/two-generations.ts'
import type { Transaction } from './batch.ts'
import type { StatePosition } from '../../cmtp/layer.ts'
import type { ReadBack, Recollection } from './provider.ts'

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
  readonly #outcomes: TwoGenerations<string, Outcome>
  /** Where the generations that are kept begin. */
  #old: Recollection | undefined
  #young: Recollection | undefined

  /** `entries` is how many it keeps at least, the same on every replica. */
  constructor(entries = ENTRIES) {
    this.#outcomes = new TwoGenerations({ entries, weight: BYTES })
  }

  /** From where the same outcomes, added to an empty index, make this one; `undefined` when that is not known. */
  get since(): Recollection | undefined {
    return this.#old ?? this.#young
  }

  get(id: string): Outcome | undefined {
    return this.#outcomes.peek(id)
  }

  /** `skip` is the transaction's place in its block, `before` the state before that. */
  add(outcome: Outcome, at?: ReadBack): void {
    const turns = this.#outcomes.turns
    this.#outcomes.set(outcome.id, outcome, outcome.output.length)
    if (this.#young !== undefined && turns === this.#outcomes.turns) return
    this.#old = this.#young
    this.#young = at === undefined ? undefined : { seq: outcome.seq, ...at }
  }
}

/** Digest of who asked what: the caller, the address and the body. */
export function transactionDigest(transaction: Pick<Transaction, 'sub' | 'fqmn' | 'body'>): string {
  const head = Buffer.from(`${transaction.sub}\0${transaction.fqmn}\0`)
  return hash('sha256', transaction.body.length === 0 ? head : Buffer.concat([head, transaction.body]), 'base64url')
}
