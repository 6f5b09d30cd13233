/**
 * Final hashes of messages that are told again: entries of a batch that ask what an earlier one has asked differ from it in their id alone, so that
 * what was hashed for that one is hashed again with another counter in the id, for many entries in one call. Owns scratch memory: for one thread.
 */
import { HASH_BYTES } from './frame.ts'
import { LIMITS } from './limits.ts'
import { counterOf, putEntryId } from './message-id.ts'
import { hashCounted } from './receipt/sha256-lanes.ts'
import { ID_AT } from './sealed.ts'

const HASH_WORDS = HASH_BYTES / 4

export class Repeated {
  readonly #finals = new Uint32Array(LIMITS.batchEntries * HASH_WORDS)
  readonly #hashes = new Uint32Array(LIMITS.batchEntries * HASH_WORDS)
  readonly #hashed = new Uint8Array(this.#hashes.buffer)
  readonly #counters = new Uint32Array(LIMITS.batchEntries)
  readonly #places = new Uint32Array(LIMITS.batchEntries)
  /** The final hashes that were made last, as bytes. */
  readonly finals = Buffer.from(this.#finals.buffer)

  /**
   * The final hashes of entries `first` and those behind it of the batch with id `batch`, each made of what that of a message was made of: 32 bytes each,
   * one behind the other, good until the next call. The id in what is given becomes another.
   */
  seal(batch: Uint8Array, first: number, made: readonly Buffer[]): Buffer {
    const kinds = new Set(made)
    for (const kind of kinds) {
      let count = 0
      for (let i = 0; i < made.length; i++) {
        if (made[i] !== kind) continue
        this.#counters[count] = counterOf(batch) + first + i
        this.#places[count++] = i
      }
      putEntryId(kind, batch, 0, ID_AT)
      hashCounted(kind, this.#counters.subarray(0, count), this.#hashed)
      for (let nth = 0; nth < count; nth++) {
        const to = (this.#places[nth] as number) * HASH_WORDS
        for (let i = 0; i < HASH_WORDS; i++) this.#finals[to + i] = this.#hashes[nth * HASH_WORDS + i] as number
      }
    }
    return this.finals
  }
}
