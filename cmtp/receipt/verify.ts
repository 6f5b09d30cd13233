/**
 * Whether a receipt holds, by the mesh's DID alone: layers → final hash → leaf → Merkle root → signature of a node that the mesh's key
 * stands for; with the witness also bodies and arguments, and for a write the members' claims over the state behind it. The order of what
 * is looked at and every word of a verdict are normative in `SPEC.md`, section 15: another verifier gives the same. Total over any bytes.
 */
import { verifyClaim } from '../claim.ts'
import { CMeshError } from '../errors.ts'
import { HASH_BYTES } from '../frame.ts'
import { encodeDid } from '../identity/did.ts'
import { decodeLayer, placeDigest, sha256, type DecodedLayer, type StatePosition } from '../layer.ts'
import { checkpointChain } from '../state-hash.ts'
import { certificateFault } from './bare-certificate.ts'
import type { Evidence, Link, MemberClaim } from './evidence.ts'
import { leafHash, rootFromPath } from './merkle.ts'
import { boundBytes, decodeReceipt, type DecodedReceipt, type ReceiptLayer } from './receipt.ts'
import { invalid, type FaultAt } from './refusal.ts'
import { verifyBareRecord, verifyByKey, type AuditRoot, type Verify } from './root.ts'
import { checkWitness, decodeWitness } from './witness.ts'

export interface VerifyOptions {
  /** The witness that belongs to it, as bytes; bodies and arguments are checked against it. */
  readonly witness?: Uint8Array
  /** How many members must have claimed the state behind a write. Default 0. */
  readonly claims?: number
  /** Checks signatures; who verifies many receipts may remember those of roots. */
  readonly verify?: Verify
}

/** What a member says that holds the state behind a write. */
export interface ClaimedState {
  /** DID of the member. */
  readonly member: string
  readonly epoch: number
  readonly seq: number
  readonly level: MemberClaim['level']
}

export type Verdict =
  | {
    readonly valid: true
    readonly receipt: DecodedReceipt
    /** `undefined`: kept back. */
    readonly layers: readonly (DecodedLayer | undefined)[]
    readonly root: AuditRoot
    readonly claims: readonly ClaimedState[]
  }
  | {
    readonly valid: false
    readonly at: 'format' | FaultAt
    /** Which layer or claim, from 0. */
    readonly index?: number
    readonly reason: string
    readonly error: CMeshError
  }

export function verifyReceipt(data: Uint8Array, mesh: string, options: VerifyOptions = {}): Verdict {
  try {
    const receipt = decodeReceipt(data)
    const witness = options.witness === undefined ? undefined : decodeWitness(options.witness)
    const verify = options.verify ?? verifyByKey
    const root = verifyBareRecord(receipt.root, mesh, receipt.certificate, verify)
    checkHashes(receipt)
    const layers = receipt.layers.map(checkLayer)
    if (witness !== undefined) checkWitness(witness, receipt, layers)
    return { valid: true, receipt, layers, root, claims: checkClaims(receipt.evidence, layers, mesh, options.claims ?? 0, verify) }
  } catch (error) {
    if (!(error instanceof CMeshError)) throw error
    const { at, index, reason, expected, offset } = error.detail
    if (error.code === 'CMESH_RECEIPT_FORMAT') return { valid: false, at: 'format', reason: `byte ${String(offset)} is not ${String(expected)}`, error }
    if (error.code !== 'CMESH_RECEIPT_INVALID') throw error
    return { valid: false, at: at as FaultAt, ...(typeof index === 'number' && { index }), reason: String(reason), error }
  }
}

type Layers = readonly (DecodedLayer | undefined)[]

const LAYER_PREFIX = Buffer.of(0x04)
const FINAL_PREFIX = Buffer.of(0x01)

function checkHashes(receipt: DecodedReceipt): void {
  const { id, final, index, path, record, layers } = receipt
  const root = rootFromPath(leafHash(id, final), index, record.count, path)
  if (root === undefined || !root.equals(record.merkleRoot)) throw invalid('path', 'its path does not lead to the root')
  const bound = sha256(Buffer.concat([FINAL_PREFIX, boundBytes(receipt), ...layers.map(({ hash }) => hash)]))
  if (bound !== latin1(final)) throw invalid('final', 'the final hash is not that of the message and the hashes of its layers')
}

function checkLayer({ hash, shown }: ReceiptLayer, index: number): DecodedLayer | undefined {
  if (shown === undefined) return undefined
  const { layer, texts } = shown
  if (sha256(Buffer.concat([LAYER_PREFIX, layer])) !== latin1(hash)) throw invalid('layer', 'its hash is another', index)
  if (placeDigest(texts) !== latin1(layer.subarray(26, 26 + HASH_BYTES))) throw invalid('layer', 'its texts are not those of its place', index)
  const decoded = layerOf(Buffer.concat([layer, texts]))
  if (decoded?.version !== 1 || decoded.bytes.length !== layer.length) throw invalid('layer', 'it is no layer of version 1', index)
  return decoded
}

function layerOf(bytes: Buffer): DecodedLayer | undefined {
  try {
    return decodeLayer(bytes)
  } catch (error) {
    if (error instanceof CMeshError) return undefined
    throw error
  }
}

function checkClaims(evidence: Evidence | undefined, layers: Layers, mesh: string, needed: number, verify: Verify): ClaimedState[] {
  const after = layers.findLast(layer => layer?.after !== undefined)?.after
  const given = evidence?.claims.length ?? 0
  if (after !== undefined && given < needed) throw invalid('claims', `it has ${given} claims where ${needed} are needed`)
  if (evidence === undefined) return []
  if (after === undefined || !Number.isSafeInteger(after.seq)) throw invalid('claims', 'no layer shows where the write left the state')
  const positions = [after]
  for (const link of evidence.links) positions.push(behind(positions.at(-1) ?? after, link))
  return evidence.claims.map((claim, i) => checkClaim(claim, i, positions[claim.at] as StatePosition, mesh, verify))
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
  const member = memberOf(claim, index)
  const fault = certificateFault(claim.certificate, member, mesh, 'member')
  if (fault !== undefined) throw invalid('claims', fault, index)
  const { level, out, timeMs, version } = claim
  const signature = Buffer.from(claim.signature).toString('base64url')
  if (!verifyClaim({ v: 1, did: member, epoch, seq, chain: Buffer.from(chain).toString('hex'), level, out, timeMs, version, signature }, verify)) {
    throw invalid('claims', 'the member did not sign it', index)
  }
  return { member, epoch, seq, level }
}

function memberOf({ member }: MemberClaim, index: number): string {
  try {
    return encodeDid(member)
  } catch (cause) {
    throw invalid('claims', 'it names no member', index, cause)
  }
}

function latin1(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString('latin1')
}
