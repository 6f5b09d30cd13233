/**
 * Whether a receipt holds, by the mesh's DID alone: layers → final hash → leaf → Merkle root → signature of a node that the mesh's key
 * stands for; with the witness also bodies and arguments, and for a write what members claim of it (`claims.ts`). The order of what
 * is looked at and every word of a verdict are normative in `SPEC.md`, section 15: another verifier gives the same. Total over any bytes.
 */
import { CMeshError } from '../errors.ts'
import { HASH_BYTES } from '../frame.ts'
import { decodeLayer, placeDigest, sha256, type DecodedLayer } from '../layer.ts'
import { checkClaims, type ClaimedState } from './claims.ts'
import { leafHash, rootFromPath } from './merkle.ts'
import { boundBytes, decodeReceipt, type DecodedReceipt, type ReceiptLayer } from './receipt.ts'
import { invalid, type FaultAt } from './refusal.ts'
import { verifyBareRecord, verifyByKey, type AuditRoot, type Verify } from './root.ts'
import { checkWitness, decodeWitness } from './witness.ts'

export interface VerifyOptions {
  /** The witness that belongs to it, as bytes; bodies and arguments are checked against it. */
  readonly witness?: Uint8Array
  /** How many members must have claimed a write. Default 0. */
  readonly claims?: number
  /** Checks signatures; who verifies many receipts may remember those of roots. */
  readonly verify?: Verify
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
    return { valid: true, receipt, layers, root, claims: checkClaims({ receipt, layers, witness, mesh, needed: options.claims ?? 0, verify }) }
  } catch (error) {
    if (!(error instanceof CMeshError)) throw error
    const { at, index, reason, expected, offset } = error.detail
    if (error.code === 'CMESH_RECEIPT_FORMAT') return { valid: false, at: 'format', reason: `byte ${String(offset)} is not ${String(expected)}`, error }
    if (error.code !== 'CMESH_RECEIPT_INVALID') throw error
    return { valid: false, at: at as FaultAt, ...(typeof index === 'number' && { index }), reason: String(reason), error }
  }
}

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

function latin1(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString('latin1')
}
