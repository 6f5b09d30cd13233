/**
 * Random salts, many from one call of the generator, since a call costs as much as all else that a request does with its salt.
 * A salt is given out once. It owns the memory that the salts lie in.
 */
import { randomFillSync } from 'node:crypto'
import { SALT_BYTES } from '../../cmtp/layer.ts'

const SALTS = 256

export class Salts {
  #pool = Buffer.alloc(0)
  #at = 0

  /** 16 bytes, the caller's to keep. */
  next(): Buffer {
    if (this.#at === this.#pool.length) {
      // Fresh memory, for the salts given out before may still be in use.
      this.#pool = randomFillSync(Buffer.allocUnsafeSlow(SALTS * SALT_BYTES))
      this.#at = 0
    }
    return this.#pool.subarray(this.#at, this.#at += SALT_BYTES)
  }
}
