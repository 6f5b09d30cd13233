/**
 * Why a receipt is refused: it is none (`CMESH_RECEIPT_FORMAT`), or it is one that does not hold (`CMESH_RECEIPT_INVALID`), and then where.
 * The words are those of `SPEC.md`, section 15; every verifier uses the same.
 */
import { CMeshError } from '../errors.ts'

/** What is looked at, in the order in which it is. */
export type FaultAt = 'key' | 'certificate' | 'signature' | 'path' | 'final' | 'layer' | 'body' | 'claims'

export function malformedReceipt(offset: number, expected: string, cause?: unknown): CMeshError {
  return new CMeshError('CMESH_RECEIPT_FORMAT', { offset, expected }, cause === undefined ? undefined : { cause })
}

/** `index`: which layer, or which claim, from 0. */
export function invalid(at: FaultAt, reason: string, index?: number, cause?: unknown): CMeshError {
  return new CMeshError('CMESH_RECEIPT_INVALID', index === undefined ? { at, reason } : { at, index, reason }, cause === undefined ? undefined : { cause })
}
