/**
 * Message ids: 128 bits, time-ordered. 48 bits of ms since 1970, 48 random bits of the generator, 32 bits of a counter, so
 * that ids of one generator rise and a batch takes a run of them: entry `i` has the batch's id plus `i` in the last 32 bits.
 */
import { randomBytes } from 'node:crypto'

export const MESSAGE_ID_BYTES = 16
/** Where the counter stands in an id. */
export const COUNTER_AT = 12

export class MessageIds {
  readonly #now: () => number
  readonly #prefix = Buffer.alloc(6)
  #ms = 0
  #high = 0
  #low = 0
  #counter = 0

  constructor(now: () => number = Date.now) {
    this.#now = now
    randomBytes(6).copy(this.#prefix)
  }

  /** Writes the first of `count` consecutive ids at `offset`. Where the counter would wrap, random bits and millisecond are new. */
  write(target: Buffer, offset: number, count = 1): void {
    let ms = this.#now()
    if (this.#counter + count > 0xffff_ffff) {
      randomBytes(6).copy(this.#prefix)
      this.#counter = 0
      // New random bits may sort below the old ones, so the ids rise by their time.
      ms = Math.max(ms, this.#ms + 1)
    }
    if (ms > this.#ms) {
      this.#ms = ms
      this.#high = Math.floor(ms / 0x1_0000)
      this.#low = ms % 0x1_0000
    }
    target.writeUInt32BE(this.#high, offset)
    target.writeUInt16BE(this.#low, offset + 4)
    target.set(this.#prefix, offset + 6)
    target.writeUInt32BE(this.#counter, offset + 12)
    this.#counter += count
  }

  next(): Buffer {
    const id = Buffer.allocUnsafe(MESSAGE_ID_BYTES)
    this.write(id, 0)
    return id
  }
}

/** 32 lower-case hex digits. */
export function formatMessageId(id: Uint8Array): string {
  return Buffer.from(id.buffer, id.byteOffset, MESSAGE_ID_BYTES).toString('hex')
}

/** The id of entry `index` of the batch with id `batch`. */
export function entryId(batch: Uint8Array, index: number): Buffer {
  const id = Buffer.allocUnsafe(MESSAGE_ID_BYTES)
  putEntryId(id, batch, index)
  return id
}

/** Writes the id of entry `index` of the batch with id `batch` into `target` at `at`. */
export function putEntryId(target: Uint8Array, batch: Uint8Array, index: number, at = 0): void {
  for (let i = 0; i < COUNTER_AT; i++) target[at + i] = batch[i] as number
  putCounter(target, counterOf(batch) + index, at)
}

/** The last 32 bits of an id. */
export function counterOf(id: Uint8Array): number {
  return ((id[COUNTER_AT] as number) << 24 | (id[13] as number) << 16 | (id[14] as number) << 8 | (id[15] as number)) >>> 0
}

/** Writes them, modulo 2^32, into the id at `at`. */
export function putCounter(target: Uint8Array, counter: number, at = 0): void {
  target[at + COUNTER_AT] = counter >>> 24
  target[at + 13] = counter >>> 16
  target[at + 14] = counter >>> 8
  target[at + 15] = counter
}
