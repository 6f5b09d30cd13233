/**
 * What a block says became of its transactions. What they asked for it does not say but by the message that was ordered: that is kept beside
 * the outcomes and read when an id comes again, which nearly none does.
 *
 * Invariant: an outcome keeps nothing of its block's memory, and of the message no more than `KEPT_BYTES` a transaction.
 */
import { decodeBatch } from './batch.ts'
import type { Block, TransactionRecord } from './provider.ts'
import { transactionDigest, type Outcome } from './transaction-index.ts'

/** Most bytes of a block, and again for each of its transactions, that are kept to be read later. */
const KEPT_BYTES = 1_024

/** The outcomes of a block that was executed here. `span`: the state before and after it. */
export function outcomesOf(block: Block, span: Outcome['span']): Outcome[] {
  const { message, transactions } = block
  // What was ordered there may be no batch.
  if (transactions.length === 0) return []
  const asked = askedIn(message, transactions.length)
  return transactions.map(record => new RecordedOutcome(record, block, span, asked))
}

/**
 * The same of a block that was read back. Most are forgotten again before anybody asks for them: a block is kept as it is until then, but
 * for one that is large for its transactions, which is read at once.
 */
export function recalled(block: Block): () => readonly Outcome[] {
  const { message, holds } = block
  const count = holds?.transactions ?? block.transactions.length
  if (count > 0 && (holds?.bytes ?? message.length) <= mostKept(count)) return () => outcomesOf(block, undefined)
  return readAlready(outcomesOf(block, undefined))
}

/** In a scope of its own: what a function can reach, it keeps. */
function readAlready(outcomes: readonly Outcome[]): () => readonly Outcome[] {
  return () => outcomes
}

class RecordedOutcome implements Outcome {
  readonly id: string
  readonly status: number
  readonly gas: bigint
  readonly output: Uint8Array
  readonly seq: number
  readonly timeMs: number
  readonly span: Outcome['span']
  readonly #asked: AskedOf

  constructor({ id, status, gas, output }: TransactionRecord, { seq, timeMs }: Block, span: Outcome['span'], asked: AskedOf) {
    this.id = id
    this.status = status
    this.gas = gas
    this.output = output
    this.seq = seq
    this.timeMs = timeMs
    this.span = span
    this.#asked = asked
  }

  get digest(): string {
    return this.#asked.digest(this.id)
  }
}

/** What the transactions of a block asked for: read from its batch when somebody wants to know. */
class AskedOf {
  #message: Uint8Array | undefined
  #digests: ReadonlyMap<string, string> | undefined

  /** A message of its own, for that of a block keeps the whole block; or what it says. */
  constructor(asked: Uint8Array | ReadonlyMap<string, string>) {
    if (asked instanceof Uint8Array) this.#message = asked
    else this.#digests = asked
  }

  digest(id: string): string {
    if (this.#message !== undefined) this.#digests = digestsOf(this.#message)
    this.#message = undefined
    return this.#digests?.get(id) ?? ''
  }
}

/** Of an ordered message, so many of whose transactions were executed. */
function askedIn(message: Uint8Array, count: number): AskedOf {
  return new AskedOf(message.length <= mostKept(count) ? new Uint8Array(message) : digestsOf(message))
}

function mostKept(count: number): number {
  return KEPT_BYTES * (1 + count)
}

function digestsOf(message: Uint8Array): ReadonlyMap<string, string> {
  // Of two with one id the first was executed.
  return new Map(decodeBatch(message).transactions.toReversed().map(transaction => [transaction.id, transactionDigest(transaction)]))
}
