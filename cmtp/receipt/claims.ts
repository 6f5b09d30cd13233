/**
 * What members of the mesh say of a write, held against its receipt: of its outcome (version 2), or of the state behind it (version 1). The order
 * of what is looked at and every word are normative in `SPEC.md`, section 15.
 */
import { createHash } from 'node:crypto'
import { verifyClaim } from '../claim.ts'
import { encodeDid } from '../identity/did.ts'
import type { DecodedLayer, StatePosition } from '../layer.ts'
import { checkpointChain } from '../state-hash.ts'
import { certificateFault } from './bare-certificate.ts'
import { CLAIM_LEVELS, type Link, type LinkEvidence, type MemberClaim } from './evidence.ts'
import { rootFromPath } from './merkle.ts'
import type { OutcomeClaim, OutcomeEvidence } from './outcome-evidence.ts'
import { askedHash, outcomeLeaf, resultHash, verifyOutcomes } from './outcome.ts'
import type { Evidence, Receipt } from './receipt.ts'
import { invalid } from './refusal.ts'
import type { Verify } from './root.ts'
import type { Witness } from './witness.ts'

/** What a member says that holds the write, or the state behind it. */
export interface ClaimedState {
  /** DID of the member. */
  readonly member: string
  readonly epoch: number
  readonly seq: number
  readonly level: MemberClaim['level']
}

/** A receipt whose hashes hold, and by what it is checked. */
export interface Claimed {
  readonly receipt: Pick<Receipt, 'id' | 'sub' | 'evidence'>
  readonly layers: readonly (DecodedLayer | undefined)[]
  readonly witness: Witness | undefined
  /** DID. */
  readonly mesh: string
  /** How many claims there must be. */
  readonly needed: number
  readonly verify: Verify
}

type Moved = DecodedLayer & { readonly after: StatePosition }

export interface Claimants {
  readonly count: number
  /** How many members the mesh has; evidence of version 1 does not say. */
  readonly members: number | undefined
  /** What all of their copies survive. */
  readonly level: MemberClaim['level']
}

/** How many members say it, by what the evidence holds: nothing is checked. */
export function claimants(evidence: Evidence): Claimants {
  const lowest = Math.min(...evidence.claims.map(({ level }) => CLAIM_LEVELS.indexOf(level)))
  return { count: evidence.claims.length, members: evidence.version === 2 ? evidence.members : undefined, level: CLAIM_LEVELS[lowest] ?? 'memory' }
}

/** Throws `CMESH_RECEIPT_INVALID` at `claims`. */
export function checkClaims(claimed: Claimed): ClaimedState[] {
  const { receipt: { evidence }, layers, needed } = claimed
  const moved = layers.findLast((layer): layer is Moved => layer?.after !== undefined)
  const given = evidence?.claims.length ?? 0
  // One that is kept back may be of a write.
  const isWrite = moved !== undefined || layers.includes(undefined)
  if (isWrite && given < needed) throw invalid('claims', `it has ${given} claims where ${needed} are needed`)
  if (evidence === undefined) return []
  if (moved === undefined || !Number.isSafeInteger(moved.after.seq)) throw invalid('claims', 'no layer shows where the write left the state')
  return evidence.version === 1 ? checkLinks(evidence, moved.after, claimed) : checkOutcome(evidence, moved, claimed)
}

function checkOutcome(evidence: OutcomeEvidence, moved: Moved, { receipt: { id, sub }, witness, mesh, verify }: Claimed): ClaimedState[] {
  const { asked, result, index, count, path, members, claims } = evidence
  const { status, gas, after, hop } = moved
  // Elsewhere the address that was executed is not the one in the layer.
  if (witness !== undefined && hop === 'state') checkExecuted(evidence, moved, sub, witness)
  const root = rootFromPath(outcomeLeaf({ id, status, gas, after, asked, result }), index, count, path)
  if (root === undefined) throw invalid('claims', 'its path leads to no root')
  return claims.map((claim, i) => {
    const member = certified(claim, i, mesh)
    const { level, timeMs } = claim
    if (!verifyOutcomes({ did: member, root, count, members, level, timeMs }, claim.signature, verify)) throw invalid('claims', 'the member did not sign it', i)
    return { member, epoch: after.epoch, seq: after.seq, level }
  })
}

function checkExecuted({ asked, result }: OutcomeEvidence, { fqmn, status }: Moved, sub: string, { salt, fqmn: told, requestBody, replyBody }: Witness): void {
  const argsAt = told.indexOf(':[')
  const address = argsAt < 0 ? fqmn : fqmn + told.slice(argsAt)
  const request = createHash('sha256').update(`${sub}\0${address}\0`, 'utf8').update(requestBody).digest()
  if (!askedHash(salt, request).equals(asked)) throw invalid('claims', 'another request was executed')
  const output = createHash('sha256').update(replyBody).digest()
  if (status < 400 && !resultHash(salt, output).equals(result)) throw invalid('claims', 'it had another result')
}

function checkLinks({ links, claims }: LinkEvidence, after: StatePosition, { mesh, verify }: Claimed): ClaimedState[] {
  const positions = [after]
  for (const link of links) positions.push(behind(positions.at(-1) ?? after, link))
  return claims.map((claim, i) => checkClaim(claim, i, positions[claim.at] as StatePosition, mesh, verify))
}

/** Where the state is after one more block. */
function behind({ epoch, seq, chain }: StatePosition, { head, rest }: Link): StatePosition {
  const bytes = Buffer.from(head)
  const next = { epoch: Number(bytes.readBigUInt64LE(34)), seq: Number(bytes.readBigUInt64LE(42)) }
  const rooted = bytes[0] === 0x53 && bytes[1] === 2
  const follows = rooted && next.seq === seq + 1 && next.epoch >= epoch && Number.isSafeInteger(next.epoch) && Number.isSafeInteger(next.seq)
  if (!follows) throw invalid('claims', 'a block does not follow the one before')
  return { ...next, chain: checkpointChain(chain, head, rest) }
}

function checkClaim(claim: MemberClaim, index: number, { epoch, seq, chain }: StatePosition, mesh: string, verify: Verify): ClaimedState {
  const member = certified(claim, index, mesh)
  const { level, out, timeMs, version } = claim
  const signature = Buffer.from(claim.signature).toString('base64url')
  if (!verifyClaim({ v: 1, did: member, epoch, seq, chain: Buffer.from(chain).toString('hex'), level, out, timeMs, version, signature }, verify)) {
    throw invalid('claims', 'the member did not sign it', index)
  }
  return { member, epoch, seq, level }
}

/** DID of the member, which the mesh's key stands for. */
function certified({ member, certificate }: OutcomeClaim, index: number, mesh: string): string {
  let did: string
  try {
    did = encodeDid(member)
  } catch (cause) {
    throw invalid('claims', 'it names no member', index, cause)
  }
  const fault = certificateFault(certificate, did, mesh, 'member')
  if (fault !== undefined) throw invalid('claims', fault, index)
  return did
}
