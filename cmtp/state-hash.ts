/**
 * What the state of a mesh hashes to: the bytes behind a state root, and how a block that carries one goes into the chain. Pure; the tree
 * itself is a service's, the proof over it is `state-proof.ts`. Every kind of hash opens with a byte of its own (RFC 6962, 2.1), so that
 * none can pass for another.
 *
 *   page    SHA-256(0x00 ‖ entry…)              0 to 32 entries, by path; entry = path (32) ‖ digest (32)
 *   branch  SHA-256(0x01 ‖ child…)              the hashes of all 16 children
 *   path    SHA-256(0x02 ‖ length of the contract's address (1) ‖ address ‖ key)
 *   digest  SHA-256(0x03 ‖ value)
 *
 * A path is read from its first bit, four bits a level: which of the 16 children it goes on in. All keys below one place are a page where
 * they are 32 or fewer, else a branch: what is held decides the form of the tree, and the order in which it came does not. An empty
 * place is a page without entries.
 *
 * Hashes and keys are handed about as latin1 text of one character a byte, which costs less than a buffer of that size.
 */
import { createHash, hash } from 'node:crypto'

export const HASH_BYTES = 32
/** Most entries of a page. */
export const PAGE_ENTRIES = 32
/** A path and a digest. */
export const ENTRY_BYTES = 64
/** Children of a branch; four bits of a path say which. */
export const BRANCH_CHILDREN = 16
/** Most branches between the root and a page: every bit of a path is used then. */
export const MOST_BRANCHES = 64

/** The first byte of what is hashed for each. */
export const PAGE_PREFIX = 0x00
export const BRANCH_PREFIX = 0x01
const KEY_PREFIX = '\u0002'
const VALUE_PREFIX = 0x03
const AT_ONCE = 65_536

/** Where a key stands in the tree. `contract` is an address, `key` a byte string. */
export function keyPath(contract: string, key: string): string {
  return hash('sha256', Buffer.from(KEY_PREFIX + String.fromCharCode(contract.length) + contract + key, 'latin1'), 'binary')
}

export function valueDigest(value: Uint8Array): string {
  if (value.length > AT_ONCE) return createHash('sha256').update(new Uint8Array([VALUE_PREFIX])).update(value).digest('binary')
  const bytes = Buffer.allocUnsafe(value.length + 1)
  bytes[0] = VALUE_PREFIX
  bytes.set(value, 1)
  return hash('sha256', bytes, 'binary')
}

/** The hash of a page or a branch; `bytes` begin with its prefix. */
export function nodeHash(bytes: Uint8Array): string {
  return hash('sha256', bytes, 'binary')
}

/** Which child of a branch a path goes on in, `depth` branches below the root. */
export function childAt(path: string, depth: number): number {
  return (path.charCodeAt(depth >>> 1) >>> (depth % 2 === 0 ? 4 : 0)) & 15
}

// --- a block with a state root

/** The first bytes of a block that carries a state root. */
export interface CheckpointHead {
  /** 32 bytes: the root of the state after the block. */
  readonly root: Uint8Array
  readonly epoch: number
  readonly seq: number
  /** Log time, ms since 1970. */
  readonly timeMs: number
}

/** 'S', version 2, root, then epoch, sequence and time as 64 bits each, little-endian. */
export const CHECKPOINT_HEAD_BYTES = 58

export function checkpointHead({ root, epoch, seq, timeMs }: CheckpointHead): Buffer {
  const bytes = Buffer.alloc(CHECKPOINT_HEAD_BYTES)
  bytes[0] = 0x53
  bytes[1] = 2
  bytes.set(root, 2)
  bytes.writeBigUInt64LE(BigInt(epoch), 34)
  bytes.writeBigUInt64LE(BigInt(seq), 42)
  bytes.writeBigUInt64LE(BigInt(timeMs), 50)
  return bytes
}

/**
 * The chain value after a block that carries a state root: SHA-256(chain before ‖ head ‖ SHA-256(rest of the block)). `rest` is that last
 * hash, so that who has the head and 64 bytes more sees that the root is in the chain, without the block.
 */
export function checkpointChain(previous: Uint8Array, head: Uint8Array, rest: Uint8Array): Uint8Array {
  return new Uint8Array(createHash('sha256').update(previous).update(head).update(rest).digest())
}
