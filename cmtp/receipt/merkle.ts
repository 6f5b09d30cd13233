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

/** A message id and its final hash: what the audit log keeps of a request. */
export const LEAF_BYTES = MESSAGE_ID_BYTES + HASH_BYTES
/** Longest path that is looked at; a tree of 2^32 leaves has one of 32. */
export const MOST_PATH = 32

const LEAF_PREFIX = 0x00
const NODE_PREFIX = 0x01

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
  const scratch = Buffer.allocUnsafe(1 + LEAF_BYTES)
  scratch[0] = LEAF_PREFIX
  for (let i = 0; i < count; i++) {
    for (let j = 0; j < LEAF_BYTES; j++) scratch[1 + j] = leaves[i * LEAF_BYTES + j] as number
    // As text: a buffer of its own for each hash costs three times as much.
    hashes.write(hash('sha256', scratch, 'binary'), i * HASH_BYTES, 'latin1')
  }
  return hashes
}

/** The root of the tree over one leaf hash or more. */
export function merkleRoot(hashes: Uint8Array): Buffer {
  const level = Buffer.from(hashes)
  for (let count = leafCount(hashes); count > 1;) count = raise(level, count)
  return Buffer.from(level.subarray(0, HASH_BYTES))
}

/** What leads from leaf `index` to the root: the hash beside it on each level that has one, from the leaf upwards. */
export function merklePath(hashes: Uint8Array, index: number): Buffer[] {
  let count = leafCount(hashes)
  if (!Number.isInteger(index) || index < 0 || index >= count) throw new RangeError(`a tree of ${count} leaves has no leaf ${index}`)
  const level = Buffer.from(hashes)
  const path: Buffer[] = []
  for (let at = index; count > 1; at >>>= 1) {
    const beside = (at ^ 1) * HASH_BYTES
    if ((at ^ 1) < count) path.push(Buffer.from(level.subarray(beside, beside + HASH_BYTES)))
    count = raise(level, count)
  }
  return path
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

/** Puts the next level in the place of one with `count` nodes; gives how many that has. */
function raise(level: Buffer, count: number): number {
  const scratch = Buffer.allocUnsafe(1 + 2 * HASH_BYTES)
  scratch[0] = NODE_PREFIX
  const pairs = count >>> 1
  for (let i = 0; i < pairs; i++) {
    level.copy(scratch, 1, 2 * i * HASH_BYTES, (2 * i + 2) * HASH_BYTES)
    level.write(hash('sha256', scratch, 'binary'), i * HASH_BYTES, 'latin1')
  }
  if (count % 2 === 0) return pairs
  level.copy(level, pairs * HASH_BYTES, (count - 1) * HASH_BYTES, count * HASH_BYTES)
  return pairs + 1
}

function leafCount(hashes: Uint8Array): number {
  const count = wholes(hashes, HASH_BYTES)
  if (count === 0) throw new RangeError('a tree has one leaf or more')
  return count
}

function wholes(bytes: Uint8Array, each: number): number {
  if (bytes.length % each !== 0) throw new RangeError(`${bytes.length} bytes are no multiple of ${each}`)
  return bytes.length / each
}
