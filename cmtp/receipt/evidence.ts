/**
 * Evidence of a write, version 1, which receipts from before there were claims over outcomes (`outcome-evidence.ts`) hold: the blocks from where the write was to where members of the mesh have claimed the log to be, as far
 * as the chain value needs them (`state-hash.ts`), and those claims (`claim.ts`). A router alone can make none of it up. Layouts are
 * normative in `SPEC.md`, section 15.
 *
 * A claim stands without what follows from the blocks (epoch, sequence, chain value) and is put together again when it is checked.
 */
import type { ClaimLevel } from '../claim.ts'
import { writeUint64 } from '../frame.ts'
import { PUBLIC_KEY_BYTES } from '../identity/did.ts'
import type { Reader } from '../reader.ts'
import { CHECKPOINT_HEAD_BYTES, HASH_BYTES } from '../state-hash.ts'
import { decodeBareCertificate, encodeBareCertificate, type BareCertificate } from './bare-certificate.ts'

/** A block with a state root, as far as the chain value needs it. */
export interface Link {
  /** 58 bytes. */
  readonly head: Uint8Array
  /** SHA-256 of the rest of the block. */
  readonly rest: Uint8Array
}

export interface MemberClaim {
  /** Behind how many of the links the claim is: 0 for the state behind the write itself. */
  readonly at: number
  /** Public key of the member, 32 bytes. */
  readonly member: Uint8Array
  readonly level: ClaimLevel
  readonly out: number
  readonly timeMs: number
  /** Of its software: 0 to 255 printable characters of ASCII, neither `"` nor `\\`. */
  readonly version: string
  /** None where the member's key is the mesh's. */
  readonly certificate: BareCertificate | undefined
  readonly signature: Uint8Array
}

export interface LinkEvidence {
  readonly version: 1
  /** One for each block behind the write, in order. */
  readonly links: readonly Link[]
  /** One or more, in the order of the members' keys. */
  readonly claims: readonly MemberClaim[]
}

export const MOST_LINKS = 1_024
export const MOST_CLAIMS = 64
/** Positions are wire format: only append. */
export const CLAIM_LEVELS = ['memory', 'os', 'disk'] as const

const PLAIN = /^[ !#-[\]-~]*$/
const LINK_BYTES = CHECKPOINT_HEAD_BYTES + HASH_BYTES

/*
 * evidence: links 2 · ( head 58 · rest 32 )* · claims 1 · claim*
 * claim:    at 2 · member 32 · level 1 · out 8 · time ms 8 · version length 1 · version · certified 1 · [certificate 72] · signature 64
 */
export function encodeEvidence({ links, claims }: LinkEvidence): Buffer {
  if (links.length > MOST_LINKS || claims.length === 0 || claims.length > MOST_CLAIMS) throw new RangeError(`at most ${MOST_LINKS} links, and 1 to ${MOST_CLAIMS} claims`)
  const sorted = [...claims].sort((a, b) => Buffer.compare(a.member, b.member))
  return Buffer.concat([
    Buffer.of(links.length >> 8, links.length & 0xff), ...links.flatMap(({ head, rest }) => [head, rest]),
    Buffer.of(claims.length), ...sorted.map(encodeClaimPart),
  ])
}

function encodeClaimPart({ at, member, level, out, timeMs, version, certificate, signature }: MemberClaim): Buffer {
  if (!PLAIN.test(version) || version.length > 0xff) throw new RangeError('a version that a receipt can hold has at most 255 printable characters of ASCII')
  const fixed = Buffer.alloc(2 + PUBLIC_KEY_BYTES + 1 + 8 + 8 + 1)
  fixed.writeUInt16BE(at)
  fixed.set(member, 2)
  fixed[34] = CLAIM_LEVELS.indexOf(level)
  writeUint64(fixed, out, 35)
  writeUint64(fixed, timeMs, 43)
  fixed[51] = version.length
  return Buffer.concat([
    fixed, Buffer.from(version, 'latin1'), Buffer.of(certificate === undefined ? 0 : 1),
    ...(certificate === undefined ? [] : [encodeBareCertificate(certificate)]), signature,
  ])
}

/** Total, like `decodeReceipt`. */
export function decodeEvidence(reader: Reader): LinkEvidence {
  const linkCount = reader.take(2, 'a number of links').readUInt16BE(0)
  if (linkCount > MOST_LINKS) throw reader.fault(`at most ${MOST_LINKS} links`, 2)
  const links = Array.from({ length: linkCount }, () => {
    const bytes = reader.take(LINK_BYTES, 'a link')
    return { head: bytes.subarray(0, CHECKPOINT_HEAD_BYTES), rest: bytes.subarray(CHECKPOINT_HEAD_BYTES) }
  })
  const count = reader.byte('a number of claims')
  if (count === 0 || count > MOST_CLAIMS) throw reader.fault(`1 to ${MOST_CLAIMS} claims`, 1)
  let before: Uint8Array | undefined
  const claims = Array.from({ length: count }, () => {
    const claim = decodeClaimPart(reader, linkCount)
    if (before !== undefined && Buffer.compare(before, claim.member) >= 0) throw reader.fault('claims in the order of their members')
    before = claim.member
    return claim
  })
  return { version: 1, links, claims }
}

function decodeClaimPart(reader: Reader, links: number): MemberClaim {
  const at = reader.take(2, 'a place of a claim').readUInt16BE(0)
  if (at > links) throw reader.fault('a claim behind one of the links', 2)
  const member = reader.take(PUBLIC_KEY_BYTES, 'a public key')
  const level = CLAIM_LEVELS[reader.byte('a level')]
  if (level === undefined) throw reader.fault('a known level', 1)
  const out = reader.count('a sequence')
  const timeMs = reader.count('a time')
  const version = reader.take(reader.byte('a length of a version'), 'a version').toString('latin1')
  if (!PLAIN.test(version)) throw reader.fault('a version in plain text', version.length)
  const certified = reader.byte('whether there is a certificate')
  if (certified > 1) throw reader.fault('0 or 1', 1)
  const certificate = certified === 0 ? undefined : decodeBareCertificate(reader)
  return { at, member, level, out, timeMs, version, certificate, signature: reader.take(64, 'a signature') }
}
