/**
 * The paths of many leaves of one tree, each hash that several of them need told once: on each level, from the leaves upwards and from left to
 * right, the hashes beside those known that are not known themselves. Who has the leaves makes each path of it. Layouts are normative in
 * `SPEC.md`, section 7.
 */
import { hash } from 'node:crypto'
import { HASH_BYTES } from '../frame.ts'
import { NODE_PREFIX, type MerkleTree } from './merkle.ts'

/** Calls back for each hash that the paths of these leaves need, `indexes` rising, of a tree of `count`. */
function eachUnknown(indexes: readonly number[], count: number, unknown: (depth: number, at: number) => void): void {
  let known = indexes
  // Indexes may have 32 bits, which operators on bits take for a sign.
  for (let depth = 0, last = count - 1; last > 0; depth++, last = Math.floor(last / 2)) {
    const above: number[] = []
    for (let i = 0; i < known.length; i++) {
      const at = known[i] as number
      const left = at % 2 === 0
      if (left && known[i + 1] === at + 1) i++
      // The last node of a level of odd length has none beside it and goes up as it is.
      else if (!left || at < last) unknown(depth, left ? at + 1 : at - 1)
      above.push(Math.floor(at / 2))
    }
    known = above
  }
}

/** What the paths of these leaves need besides them, `indexes` rising: 32 bytes each. */
export function hashesBeside(tree: MerkleTree, indexes: readonly number[]): Buffer {
  const found: number[] = []
  eachUnknown(indexes, tree.count, (depth, at) => { found.push(depth, at) })
  const hashes = Buffer.allocUnsafe(found.length / 2 * HASH_BYTES)
  for (let i = 0; i < found.length; i += 2) tree.putHash(found[i] as number, found[i + 1] as number, hashes, i / 2 * HASH_BYTES)
  return hashes
}

/** The paths of some leaves of a tree. */
export class MerklePaths {
  readonly #count: number
  /** What is known of each level, the root's left out. */
  readonly #levels: readonly ReadonlyMap<number, Uint8Array>[]

  /** Out of their leaf hashes, by their indexes, and `hashesBeside` of them. Throws `RangeError` where these are not as many as they need. */
  constructor(leaves: ReadonlyMap<number, Uint8Array>, count: number, besides: Uint8Array) {
    const indexes = [...leaves.keys()].sort((a, b) => a - b)
    if ((indexes.at(-1) ?? 0) >= count) throw new RangeError(`a tree of ${count} leaves has no leaf ${indexes.at(-1) ?? 0}`)
    const levels = [new Map(leaves)]
    for (let last = count - 1; last > 1; last = Math.floor(last / 2)) levels.push(new Map())
    let used = 0
    eachUnknown(indexes, count, (depth, at) => {
      levels[depth]?.set(at, besides.subarray(used, used + HASH_BYTES))
      used += HASH_BYTES
    })
    if (used !== besides.length) throw new RangeError(`these leaves need ${used / HASH_BYTES} hashes`)
    for (let depth = 0; depth + 1 < levels.length; depth++) raise(levels[depth] as Map<number, Uint8Array>, levels[depth + 1] as Map<number, Uint8Array>)
    this.#count = count
    this.#levels = levels
  }

  /** What leads from one of the leaves to the root, from the leaf upwards: 32 bytes each. */
  path(index: number): Buffer {
    const besides: Uint8Array[] = []
    let at = index
    for (let depth = 0, last = this.#count - 1; last > 0; depth++, last = Math.floor(last / 2), at = Math.floor(at / 2)) {
      const beside = at % 2 === 0 ? at + 1 : at - 1
      if (beside <= last) besides.push(this.#levels[depth]?.get(beside) as Uint8Array)
    }
    return Buffer.concat(besides)
  }
}

/** Adds to the level above what follows from the one below. */
function raise(level: ReadonlyMap<number, Uint8Array>, above: Map<number, Uint8Array>): void {
  for (const at of level.keys()) {
    const parent = Math.floor(at / 2)
    if (above.has(parent)) continue
    const left = level.get(2 * parent) as Uint8Array
    const right = level.get(2 * parent + 1)
    above.set(parent, right === undefined ? left : hash('sha256', Buffer.concat([PREFIX, left, right]), 'buffer'))
  }
}

const PREFIX = Buffer.of(NODE_PREFIX)
