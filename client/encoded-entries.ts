/**
 * Entries of batch frames as they are sent, kept by address: whoever asks in batches asks the same addresses over and over. It
 * owns the encoded bytes, which go into any number of frames and are never changed.
 */
import { encodeBatchEntry, type BatchEntryFields } from '../cmtp/batch.ts'
import { TwoGenerations } from '../cmtp/two-generations.ts'
import { mayChangeState } from './retry.ts'

export interface EncodedEntry {
  readonly bytes: Buffer
  /** See `mayChangeState`. */
  readonly changesState: boolean
}

/** Entries kept at least, and the longest address that is: longer ones are seldom asked twice. */
const ENTRIES = 8_192
const FQMN_LENGTH = 1_024

export class EncodedEntries {
  readonly #kept = new TwoGenerations<string, EncodedEntry>({ entries: ENTRIES })

  /** Throws `CMESH_FRAME_TOO_LARGE` or `CMESH_FQMN_TOO_LONG`. */
  of(fields: BatchEntryFields): EncodedEntry {
    const { fqmn, headers, body } = fields
    const plain = headers === undefined && body === undefined
    const known = plain ? this.#kept.get(fqmn) : undefined
    if (known !== undefined) return known
    const entry = { bytes: encodeBatchEntry(fields), changesState: mayChangeState(fqmn) }
    if (plain && fqmn.length <= FQMN_LENGTH) this.#kept.set(fqmn, entry)
    return entry
  }
}
