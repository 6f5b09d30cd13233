/**
 * The Merkle tree over the final hashes of a batch, as in RFC 6962, 2.1: SHA-256, a byte before a leaf and another before two nodes, a
 * tree of n leaves split at the largest power of two below n. Layouts are normative in `SPEC.md`, section 15. Pure; the hashes of a level
 * are handed about in one buffer, one after the other.
 *
 *     leaf = message id (16) ‖ final hash (32)
 *     hash of a leaf  = SHA-256( 0x00 ‖ leaf )
 *     hash of a node  = SHA-256( 0x01 ‖ left ‖ right )
 */
import { hash } from 'node:crypto'
import { HASH_BYTES } from '../frame.ts'
import { MESSAGE_ID_BYTES } from '../message-id.ts'
import { hashEach } from './sha256-lanes.ts'

/** A message id and its final hash: what the audit log keeps of a request. */
export const LEAF_BYTES = MESSAGE_ID_BYTES + HASH_BYTES
/** Longest path that is looked at; a tree of 2^32 leaves has one of 32. */
export const MOST_PATH = 32

const LEAF_PREFIX = 0x00
export const NODE_PREFIX = 0x01

/** The hash of one leaf, 32 bytes. */
export function leafHash(id: Uint8Array, final: Uint8Array): Buffer {
  if (id.length !== MESSAGE_ID_BYTES || final.length !== HASH_BYTES) throw new RangeError(`a leaf is ${MESSAGE_ID_BYTES} bytes of id and ${HASH_BYTES} of final hash`)
  const bytes = Buffer.allocUnsafe(1 + LEAF_BYTES)
  bytes[0] = LEAF_PREFIX
  bytes.set(id, 1)
  bytes.set(final, 1 + MESSAGE_ID_BYTES)
  return hash('sha256', bytes, 'buffer')
}

/** The hashes of leaves that stand one after the other, 48 bytes each; 32 bytes each. */
export function leafHashes(leaves: Uint8Array): Buffer {
  const count = wholes(leaves, LEAF_BYTES)
  const hashes = Buffer.allocUnsafe(count * HASH_BYTES)
  hashEach('leaves', leaves, count, hashes)
  return hashes
}

/** The tree over one leaf hash or more, with all its levels: one pass makes it, and each path is then only looked up. */
export class MerkleTree {
  /** From the leaves to the root, which is alone in its level. */
  readonly #levels: readonly Buffer[]

  constructor(hashes: Uint8Array) {
    if (wholes(hashes, HASH_BYTES) === 0) throw new RangeError('a tree has one leaf or more')
    const levels: Buffer[] = [Buffer.from(hashes)]
    for (let level = levels[0] as Buffer; level.length > HASH_BYTES; levels.push(level)) level = raised(level)
    this.#levels = levels
  }

  get root(): Buffer {
    return Buffer.from(this.#levels.at(-1) as Buffer)
  }

  /** How many leaves it has. */
  get count(): number {
    return (this.#levels[0] as Buffer).length / HASH_BYTES
  }

  /** Writes the hash at a place of a level, the leaves' being 0. */
  putHash(depth: number, at: number, target: Buffer, to: number): void {
    ;(this.#levels[depth] as Buffer).copy(target, to, at * HASH_BYTES, (at + 1) * HASH_BYTES)
  }

  /** What leads from leaf `index` to the root: the hash beside it on each level that has one, from the leaf upwards. */
  path(index: number): Buffer[] {
    const path = this.pathBytes(index)
    return Array.from({ length: path.length / HASH_BYTES }, (_, step) => path.subarray(step * HASH_BYTES, (step + 1) * HASH_BYTES))
  }

  /** The same, one hash behind the other. */
  pathBytes(index: number): Buffer {
    const { count } = this
    if (!Number.isInteger(index) || index < 0 || index >= count) throw new RangeError(`a tree of ${count} leaves has no leaf ${index}`)
    const path = Buffer.allocUnsafe((this.#levels.length - 1) * HASH_BYTES)
    let end = 0
    for (let depth = 0; depth + 1 < this.#levels.length; depth++) {
      const level = this.#levels[depth] as Buffer
      const beside = ((index >>> depth) ^ 1) * HASH_BYTES
      if (beside < level.length) end += level.copy(path, end, beside, beside + HASH_BYTES)
    }
    return path.subarray(0, end)
  }
}

/** The root alone. */
export function merkleRoot(hashes: Uint8Array): Buffer {
  return new MerkleTree(hashes).root
}

/** The root that a leaf hash and its path give; `undefined` where the path is not as long as that of leaf `index` of `count`. */
export function rootFromPath(leaf: Uint8Array, index: number, count: number, path: readonly Uint8Array[]): Buffer | undefined {
  if (index >= count) return undefined
  const scratch = Buffer.allocUnsafe(1 + 2 * HASH_BYTES)
  scratch[0] = NODE_PREFIX
  const node = Buffer.from(leaf)
  let used = 0
  let last = count - 1
  for (let at = index; last > 0; at >>>= 1, last >>>= 1) {
    // The last node of a level of odd length has none beside it and goes up as it is.
    if (at === last && (at & 1) === 0) continue
    const beside = path[used++]
    if (beside?.length !== HASH_BYTES) return undefined
    scratch.set((at & 1) === 0 ? node : beside, 1)
    scratch.set((at & 1) === 0 ? beside : node, 1 + HASH_BYTES)
    node.write(hash('sha256', scratch, 'binary'), 'latin1')
  }
  return used === path.length ? node : undefined
}

/** The level above one of two nodes or more. */
function raised(level: Buffer): Buffer {
  const count = level.length / HASH_BYTES
  const pairs = count >>> 1
  const above = Buffer.allocUnsafe((count - pairs) * HASH_BYTES)
  hashEach('pairs', level, pairs, above)
  // The last one of an odd number goes up as it is.
  if (count % 2 === 1) level.copy(above, pairs * HASH_BYTES, (count - 1) * HASH_BYTES)
  return above
}

function wholes(bytes: Uint8Array, each: number): number {
  if (bytes.length % each !== 0) throw new RangeError(`${bytes.length} bytes are no multiple of ${each}`)
  return bytes.length / each
}
