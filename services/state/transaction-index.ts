/**
 * The recent transactions by id: what makes a repeated proposal harmless and `0xC:tx:<id>` answerable. It is part of the
 * deterministic state: filled by blocks alone, in order, so every replica holds the same. Keeps at least the last
 * `ENTRIES` transactions, or the last `BYTES` of output.
 */
import { hash } from 'node:crypto'
import type { Transaction } from './batch.ts'
import type { StatePosition } from '../../cmtp/layer.ts'
import { IdTable } from './id-table.ts'
import type { Block, ReadBack, Recollection } from './provider.ts'

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

/** Transactions of a block that was read back, of which nothing is remembered yet but that they are there. */
interface Unread {
  /** Places in the block, `end` not among them. */
  readonly start: number
  readonly end: number
  readonly outcomes: () => readonly Outcome[]
}

export class TransactionIndex {
  readonly #entries: number
  readonly #bytes: number
  readonly #outcomes: IdTable<Outcome>
  /** Where the generations that are kept begin. */
  #old: Recollection | undefined
  #young: Recollection | undefined
  /** What was read back, by generation, until somebody asks: most of it is forgotten again unread. */
  readonly #unread: { old: Unread[], young: Unread[], entries: number, weight: number } = { old: [], young: [], entries: 0, weight: 0 }

  /** How many it keeps at least, or how many bytes of their outputs: the same on every replica. */
  constructor(entries = ENTRIES, bytes = BYTES) {
    this.#entries = entries
    this.#bytes = bytes
    this.#outcomes = new IdTable({ entries, weight: bytes })
  }

  /** From where the same outcomes, added to an empty index, make this one; `undefined` when that is not known. */
  get since(): Recollection | undefined {
    return this.#old ?? this.#young
  }

  get(id: string): Outcome | undefined {
    this.#read()
    return this.#outcomes.get(id)
  }

  /** `skip` is the transaction's place in its block, `before` the state before that. */
  add(outcome: Outcome, at?: ReadBack): void {
    this.#read()
    const turned = this.#outcomes.set(outcome, outcome.output.length)
    if (this.#young !== undefined && !turned) return
    this.#begin(at && { seq: outcome.seq, ...at })
  }

  /** The same for all of a block that was read back, but for its first `skip` transactions. `outcomes` gives all of them and is asked when they are needed. */
  restore(block: Block, { before, skip }: ReadBack, outcomes: () => readonly Outcome[]): void {
    if (this.#outcomes.size > 0) {
      for (const [place, outcome] of outcomes().entries()) if (place >= skip) this.add(outcome, { before, skip: place })
      return
    }
    const unread = this.#unread
    const { transactions: count, outputBytes } = block.holds ?? { transactions: block.transactions.length, outputBytes: Infinity }
    if (count <= skip) return
    let start = skip
    if (this.#young === undefined || unread.entries + count > this.#entries || unread.weight + outputBytes > this.#bytes) {
      // A generation may end in this block: each counts on its own, as it would when it is added.
      for (const [place, { output: { length } }] of block.transactions.entries()) {
        if (place < skip) continue
        const full = unread.entries >= this.#entries || unread.weight + length > this.#bytes
        if (full) {
          unread.young.push({ start, end: place, outcomes })
          Object.assign(unread, { old: unread.young, young: [], entries: 0, weight: 0 })
          start = place
        }
        if (full || this.#young === undefined) this.#begin({ seq: block.seq, before, skip: place })
        unread.entries++
        unread.weight += length
      }
    } else {
      unread.entries += count - skip
      unread.weight += outputBytes
    }
    unread.young.push({ start, end: count, outcomes })
  }

  /** A generation begins with the transaction at that place. */
  #begin(place: Recollection | undefined): void {
    this.#old = this.#young
    this.#young = place
  }

  #read(): void {
    const { old, young } = this.#unread
    if (young.length === 0) return
    this.#unread.old = this.#unread.young = []
    for (const { start, end, outcomes } of [...old, ...young]) {
      for (const outcome of outcomes().slice(start, end)) this.#outcomes.set(outcome, outcome.output.length)
    }
  }
}

/** Digest of who asked what: the caller, the address and the body. */
export function transactionDigest(transaction: Pick<Transaction, 'sub' | 'fqmn' | 'body' | 'condition'>): string {
  const { condition } = transaction
  const head = Buffer.from(`${transaction.sub}\0${transaction.fqmn}\0${condition === undefined ? '' : `if-match ${Buffer.from(condition).toString('hex')}\0`}`)
  return hash('sha256', transaction.body.length === 0 ? head : Buffer.concat([head, transaction.body]), 'base64url')
}
