/**
 * What members of the mesh say of a write: that their log holds the transaction, in the block with that chain value, with that outcome. A member
 * signs one root over the outcomes that it was asked for together; a receipt leads to it by a path. Layouts are normative in `SPEC.md`,
 * section 15. What was asked and what came of it stand there salted: the claim says both to who holds the witness, and nothing to others.
 */
import { hash } from 'node:crypto'
import type { ClaimLevel } from '../claim.ts'
import { HASH_BYTES, writeUint64 } from '../frame.ts'
import { canonicalJson } from '../identity/canonical-json.ts'
import type { StatePosition } from '../layer.ts'
import { leafHash } from './merkle.ts'
import type { Verify } from './root.ts'

/** Most outcomes under one root. */
export const MOST_OUTCOMES = 256

/** What came of a transaction, and the position behind its block. */
export interface Outcome {
  readonly id: Uint8Array
  readonly status: number
  readonly gas: bigint
  readonly after: StatePosition
  /** 32 bytes each: `askedHash` and `resultHash`. */
  readonly asked: Uint8Array
  readonly result: Uint8Array
}

/** What a member signs. */
export interface OutcomesClaim {
  /** DID of the member. */
  readonly did: string
  /** 32 bytes: the root over the outcomes, and how many there are. */
  readonly root: Uint8Array
  readonly count: number
  /** How many members the mesh has, as far as this one knows. */
  readonly members: number
  /** What the member's own copy of the log survives. */
  readonly level: ClaimLevel
  /** The member's clock, ms since 1970. */
  readonly timeMs: number
}

const ASKED_PREFIX = Buffer.of(0x05)
const RESULT_PREFIX = Buffer.of(0x06)
const OUTCOME_PREFIX = 0x07
const OUTCOME_BYTES = 1 + 2 + 8 + 4 + 8 + 3 * HASH_BYTES

/** `request`: SHA-256( caller's DID ‖ 00 ‖ address, arguments included ‖ 00 ‖ body ). */
export function askedHash(salt: Uint8Array, request: Uint8Array): Buffer {
  return hash('sha256', Buffer.concat([ASKED_PREFIX, salt, request]), 'buffer')
}

/** `output`: SHA-256 of what the transaction gave. */
export function resultHash(salt: Uint8Array, output: Uint8Array): Buffer {
  return hash('sha256', Buffer.concat([RESULT_PREFIX, salt, output]), 'buffer')
}

/** The hash of the leaf that stands for it, 32 bytes. */
export function outcomeLeaf({ id, status, gas, after, asked, result }: Outcome): Buffer {
  const bytes = Buffer.allocUnsafe(OUTCOME_BYTES)
  bytes[0] = OUTCOME_PREFIX
  bytes.writeUInt16BE(status, 1)
  bytes.writeBigUInt64BE(gas, 3)
  bytes.writeUInt32BE(after.epoch, 11)
  writeUint64(bytes, after.seq, 15)
  bytes.set(after.chain, 23)
  bytes.set(asked, 23 + HASH_BYTES)
  bytes.set(result, 23 + 2 * HASH_BYTES)
  return leafHash(id, hash('sha256', bytes, 'buffer'))
}

export function signOutcomes(claim: OutcomesClaim, key: { readonly sign: (bytes: Uint8Array) => Uint8Array }): Uint8Array {
  return key.sign(outcomesBytes(claim))
}

/** Whether the member that it names signed it. `verify` holds the keys. */
export function verifyOutcomes(claim: OutcomesClaim, signature: Uint8Array, verify: Verify): boolean {
  return verify(claim.did, outcomesBytes(claim), signature)
}

function outcomesBytes({ root, ...claim }: OutcomesClaim): Buffer {
  return Buffer.from(`CMesh/1 outcomes\n${canonicalJson({ v: 1, ...claim, root: Buffer.from(root).toString('hex') })}`, 'utf8')
}
