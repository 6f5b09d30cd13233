/** The Merkle tree over one batch with all its levels, so that the paths of many leaves cost one tree. Pure. */
import { hash } from 'node:crypto'
import { HASH_BYTES } from '../../cmtp/frame.ts'
import { leafHashes } from '../../cmtp/receipt/merkle.ts'

const NODE_PREFIX = 0x01

export class BatchTree {
  /** Each level's hashes one behind the other, the leaves' first. */
  readonly #levels: Buffer[]

  /** `leaves`: 48 bytes each, one or more. */
  constructor(leaves: Uint8Array) {
    let level = leafHashes(leaves)
    this.#levels = [level]
    const scratch = Buffer.allocUnsafe(1 + 2 * HASH_BYTES)
    scratch[0] = NODE_PREFIX
    while (level.length > HASH_BYTES) {
      const pairs = Math.floor(level.length / (2 * HASH_BYTES))
      const odd = level.length - pairs * 2 * HASH_BYTES
      const above = Buffer.allocUnsafe(pairs * HASH_BYTES + odd)
      for (let i = 0; i < pairs; i++) {
        level.copy(scratch, 1, 2 * i * HASH_BYTES, 2 * (i + 1) * HASH_BYTES)
        above.write(hash('sha256', scratch, 'binary'), i * HASH_BYTES, 'latin1')
      }
      // The last node of a level of odd length goes up as it is.
      if (odd > 0) level.copy(above, pairs * HASH_BYTES, pairs * 2 * HASH_BYTES)
      this.#levels.push(above)
      level = above
    }
  }

  get root(): Buffer {
    return this.#levels[this.#levels.length - 1] as Buffer
  }

  /** As `merklePath` gives it. */
  path(index: number): Buffer[] {
    const path: Buffer[] = []
    let at = index
    for (const level of this.#levels.slice(0, -1)) {
      const beside = (at ^ 1) * HASH_BYTES
      if (beside < level.length) path.push(level.subarray(beside, beside + HASH_BYTES))
      at >>>= 1
    }
    return path
  }
}
