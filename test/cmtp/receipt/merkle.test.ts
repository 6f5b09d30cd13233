import { createHash } from 'node:crypto'
import { describe, expect, test } from '@jest/globals'
import fc from 'fast-check'
import { LEAF_BYTES, leafHash, leafHashes, merkleRoot, MerkleTree, rootFromPath } from '../../../cmtp/receipt/merkle.ts'

const sha256 = (...parts: Uint8Array[]): Buffer => parts.reduce((hash, part) => hash.update(part), createHash('sha256')).digest()

/** The tree hash in the words of RFC 6962, 2.1, over leaves in the clear. */
function treeHash(leaves: readonly Uint8Array[]): Buffer {
  if (leaves.length === 1) return sha256(Buffer.of(0), leaves[0] as Uint8Array)
  const split = splitOf(leaves.length)
  return sha256(Buffer.of(1), treeHash(leaves.slice(0, split)), treeHash(leaves.slice(split)))
}

/** The audit path in the words of RFC 6962, 2.1.1. */
function auditPath(index: number, leaves: readonly Uint8Array[]): Buffer[] {
  if (leaves.length === 1) return []
  const split = splitOf(leaves.length)
  return index < split
    ? [...auditPath(index, leaves.slice(0, split)), treeHash(leaves.slice(split))]
    : [...auditPath(index - split, leaves.slice(split)), treeHash(leaves.slice(0, split))]
}

function splitOf(count: number): number {
  let split = 1
  while (split * 2 < count) split *= 2
  return split
}

const leavesOf = (count: number, seed: number): Buffer[] => Array.from({ length: count }, (_, i) =>
  Buffer.concat([sha256(Buffer.of(seed, i >> 8, i & 255)), sha256(Buffer.of(i & 255)).subarray(0, 16)]))
const anyTree = fc.tuple(fc.integer({ min: 1, max: 70 }), fc.nat({ max: 255 })).map(([count, seed]) => leavesOf(count, seed))
const anyPlace = anyTree.chain(leaves => fc.tuple(fc.constant(leaves), fc.nat({ max: leaves.length - 1 })))

describe('the tree over a batch', () => {
  test('has the root and the paths of RFC 6962, for any number of leaves', () => {
    fc.assert(fc.property(anyPlace, ([leaves, index]) => {
      const hashes = leafHashes(Buffer.concat(leaves))
      expect(merkleRoot(hashes)).toEqual(treeHash(leaves))
      expect(new MerkleTree(hashes).path(index)).toEqual(auditPath(index, leaves))
    }), { numRuns: 200 })
  })

  test('hashes thousands of leaves, and pairs of them, as one by one', () => {
    const leaves = leavesOf(2_501, 3)
    const hashes = leafHashes(Buffer.concat(leaves))
    expect(hashes).toEqual(Buffer.concat(leaves.map(leaf => sha256(Buffer.of(0), leaf))))
    expect(merkleRoot(hashes)).toEqual(treeHash(leaves))
  })

  test('gives its root for each leaf with its path, and nothing or another root for any other leaf, index, count or path', () => {
    fc.assert(fc.property(anyPlace, fc.nat({ max: 80 }), fc.nat({ max: 80 }), ([leaves, index], otherIndex, otherCount) => {
      const count = leaves.length
      const hashes = leafHashes(Buffer.concat(leaves))
      const leaf = hashes.subarray(index * 32, index * 32 + 32)
      const path = new MerkleTree(hashes).path(index)
      const root = merkleRoot(hashes)
      expect(rootFromPath(leaf, index, count, path)).toEqual(root)
      if (otherIndex !== index) expect(rootFromPath(leaf, otherIndex, count, path)).not.toEqual(root)
      expect(rootFromPath(sha256(leaf), index, count, path)).not.toEqual(root)
      expect(rootFromPath(leaf, index, count, [...path, root])).toBeUndefined()
      if (path.length > 0) expect(rootFromPath(leaf, index, count, path.slice(1))).toBeUndefined()
      // A count that gives the leaf the same path is a tree of the same form as far as the leaf can see; the record signs the count.
      if (otherCount <= index) expect(rootFromPath(leaf, index, otherCount, path)).toBeUndefined()
      for (let i = 0; i < path.length; i++) {
        expect(rootFromPath(leaf, index, count, path.map((each, j) => (i === j ? sha256(each) : each)))).not.toEqual(root)
      }
    }), { numRuns: 200 })
  })

  test('of leaves past what a signed integer holds has paths of the length that its last leaf needs', () => {
    const leaf = sha256(Buffer.of(9))
    const last = 0xffff_fffe
    // 2^32 - 1 leaves: the last one goes up alone once, and has one beside it on the other 31 levels.
    expect(rootFromPath(leaf, last, last + 1, Array<Buffer>(31).fill(leaf))).toHaveLength(32)
    expect(rootFromPath(leaf, last, last + 1, Array<Buffer>(32).fill(leaf))).toBeUndefined()
    expect(rootFromPath(leaf, 0, last + 1, Array<Buffer>(32).fill(leaf))).toHaveLength(32)
  })

  test('hashes one leaf as it hashes many, and leaves what it is given as it was', () => {
    const leaves = Buffer.concat(leavesOf(7, 1))
    const hashes = leafHashes(leaves)
    const before = Buffer.from(hashes)
    merkleRoot(hashes)
    new MerkleTree(hashes).path(3)
    expect(hashes).toEqual(before)
    expect(leafHash(leaves.subarray(LEAF_BYTES, LEAF_BYTES + 16), leaves.subarray(LEAF_BYTES + 16, 2 * LEAF_BYTES))).toEqual(hashes.subarray(32, 64))
  })

  test('refuses what is no leaf, no level and no index', () => {
    const one = leafHashes(Buffer.alloc(LEAF_BYTES))
    expect(() => leafHash(Buffer.alloc(15), Buffer.alloc(32))).toThrow('a leaf is 16 bytes of id and 32 of final hash')
    expect(() => leafHashes(Buffer.alloc(LEAF_BYTES + 1))).toThrow('49 bytes are no multiple of 48')
    expect(() => merkleRoot(Buffer.alloc(0))).toThrow('a tree has one leaf or more')
    expect(() => merkleRoot(Buffer.alloc(33))).toThrow('33 bytes are no multiple of 32')
    for (const index of [-1, 1, 0.5]) expect(() => new MerkleTree(one).path(index)).toThrow(`a tree of 1 leaves has no leaf ${index}`)
    expect(rootFromPath(one, 0, 2, [Buffer.alloc(31)])).toBeUndefined()
  })
})
