/**
 * The headers of a write's reply: how durable it is, what it cost, and where it stands in the log. Most transactions of a block differ
 * in their id alone, which comes last, so what stands before it is encoded once and copied.
 */
import { encodeHeaders, type HeaderList } from '../../cmtp/headers.ts'
import type { Durability } from './replication.ts'
import type { Outcome } from './transaction-index.ts'

const ID_LENGTH = 32
/** In place of an id. */
const BLANK = '0'.repeat(ID_LENGTH)

export function outcomeHeaders(durability: Durability, { gas, seq, id }: Pick<Outcome, 'gas' | 'seq' | 'id'>): HeaderList {
  return [
    ['x-cmesh-durability', durability],
    ['x-cmesh-gas', String(gas)],
    ['x-cmesh-sequence', String(seq)],
    ['x-cmesh-transaction', id],
  ]
}

export class OutcomeHeaders {
  readonly #durability: Durability
  /** Of the last outcome: a header block with the id left blank. */
  #template: Buffer = Buffer.alloc(0)
  #gas = -1n
  #seq = -1

  constructor(durability: Durability) {
    this.#durability = durability
  }

  /** The encoded block of a result, its content type first. */
  ofResult({ gas, seq, id }: Pick<Outcome, 'gas' | 'seq' | 'id'>): Buffer {
    if (gas !== this.#gas || seq !== this.#seq) {
      this.#template = encodeHeaders([['content-type', 'application/json'], ...outcomeHeaders(this.#durability, { gas, seq, id: BLANK })])
      this.#gas = gas
      this.#seq = seq
    }
    const template = this.#template
    const headers = Buffer.allocUnsafe(template.length)
    headers.set(template)
    headers.write(id, template.length - ID_LENGTH, 'latin1')
    return headers
  }
}
