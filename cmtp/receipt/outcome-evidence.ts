/**
 * Evidence of a write, version 2: members' claims over its outcome (`outcome.ts`) as a receipt carries them. What the claims are of beside what
 * stands here (id, status, gas, position) the receipt's own layer says, so that there is one word for each. Layouts are normative in `SPEC.md`,
 * section 15.
 */
import { writeUint64, HASH_BYTES } from '../frame.ts'
import { PUBLIC_KEY_BYTES } from '../identity/did.ts'
import type { Reader } from '../reader.ts'
import { decodeBareCertificate, encodeBareCertificate } from './bare-certificate.ts'
import { CLAIM_LEVELS, MOST_CLAIMS, type MemberClaim } from './evidence.ts'
import { MOST_OUTCOMES } from './outcome.ts'

/** One member's signature over the root. */
export type OutcomeClaim = Pick<MemberClaim, 'member' | 'level' | 'timeMs' | 'certificate' | 'signature'>

export interface OutcomeEvidence {
  readonly version: 2
  /** How many members the mesh has: each of the claims says so. */
  readonly members: number
  /** 32 bytes each: what was asked for and what came of it, salted. */
  readonly asked: Uint8Array
  readonly result: Uint8Array
  /** Of the outcome among those under the root, and how many these are. */
  readonly index: number
  readonly count: number
  readonly path: readonly Uint8Array[]
  /** One or more, in the order of the members' keys. */
  readonly claims: readonly OutcomeClaim[]
}

/** Longest path to the root of `MOST_OUTCOMES`. */
const MOST_STEPS = 8
const VERSION = 2

/*
 * evidence: version 1 · members 2 · asked 32 · result 32 · index 2 · count 2 · path length 1 · path · claims 1 · claim*
 * claim:    member 32 · level 1 · time ms 8 · certified 1 · [certificate 72] · signature 64
 */
export function encodeOutcomeEvidence({ members, asked, result, index, count, path, claims }: OutcomeEvidence): Buffer {
  if (claims.length === 0 || claims.length > MOST_CLAIMS) throw new RangeError(`1 to ${MOST_CLAIMS} claims`)
  const head = Buffer.alloc(3)
  head[0] = VERSION
  head.writeUInt16BE(members, 1)
  const place = Buffer.alloc(5)
  place.writeUInt16BE(index)
  place.writeUInt16BE(count, 2)
  place[4] = path.length
  const sorted = [...claims].sort((a, b) => Buffer.compare(a.member, b.member))
  return Buffer.concat([head, asked, result, place, ...path, Buffer.of(claims.length), ...sorted.map(encodeClaim)])
}

function encodeClaim({ member, level, timeMs, certificate, signature }: OutcomeClaim): Buffer {
  const fixed = Buffer.alloc(PUBLIC_KEY_BYTES + 10)
  fixed.set(member)
  fixed[PUBLIC_KEY_BYTES] = CLAIM_LEVELS.indexOf(level)
  writeUint64(fixed, timeMs, PUBLIC_KEY_BYTES + 1)
  fixed[PUBLIC_KEY_BYTES + 9] = certificate === undefined ? 0 : 1
  return Buffer.concat([fixed, ...(certificate === undefined ? [] : [encodeBareCertificate(certificate)]), signature])
}

/** Total, like `decodeReceipt`. */
export function decodeOutcomeEvidence(reader: Reader): OutcomeEvidence {
  if (reader.byte('a version of evidence') !== VERSION) throw reader.fault(`version ${VERSION} of evidence`, 1)
  const members = reader.take(2, 'a number of members').readUInt16BE(0)
  const asked = reader.take(HASH_BYTES, 'a hash')
  const result = reader.take(HASH_BYTES, 'a hash')
  const index = reader.take(2, 'an index').readUInt16BE(0)
  const count = reader.take(2, 'a number of outcomes').readUInt16BE(0)
  if (count === 0 || count > MOST_OUTCOMES) throw reader.fault(`1 to ${MOST_OUTCOMES} outcomes`, 2)
  const steps = reader.byte('a length of a path')
  if (steps > MOST_STEPS) throw reader.fault(`at most ${MOST_STEPS} hashes of a path`, 1)
  const path = Array.from({ length: steps }, () => reader.take(HASH_BYTES, 'a hash'))
  const many = reader.byte('a number of claims')
  if (many === 0 || many > MOST_CLAIMS) throw reader.fault(`1 to ${MOST_CLAIMS} claims`, 1)
  let before: Uint8Array | undefined
  const claims = Array.from({ length: many }, () => {
    const claim = decodeClaim(reader)
    if (before !== undefined && Buffer.compare(before, claim.member) >= 0) throw reader.fault('claims in the order of their members')
    before = claim.member
    return claim
  })
  return { version: VERSION, members, asked, result, index, count, path, claims }
}

function decodeClaim(reader: Reader): OutcomeClaim {
  const member = reader.take(PUBLIC_KEY_BYTES, 'a public key')
  const level = CLAIM_LEVELS[reader.byte('a level')]
  if (level === undefined) throw reader.fault('a known level', 1)
  const timeMs = reader.count('a time')
  const certified = reader.byte('whether there is a certificate')
  if (certified > 1) throw reader.fault('0 or 1', 1)
  const certificate = certified === 0 ? undefined : decodeBareCertificate(reader)
  return { member, level, timeMs, certificate, signature: reader.take(64, 'a signature') }
}
