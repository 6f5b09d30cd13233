/**
 * Pre-rotation: a DID commits to the DID that may take its place by a digest, long before anybody sees that key. Whoever has the key of
 * today, by right or not, learns nothing of the next one from it, and can neither make nor name another.
 */
import { hash } from 'node:crypto'

/** base64url of the SHA-256 of a DID, as text: what a DID commits to. */
export function commitmentTo(did: string): string {
  return hash('sha256', did, 'base64url')
}

/** Whether a value is such a digest, in its one spelling. */
export function isCommitment(value: unknown): value is string {
  return typeof value === 'string' && value.length === 43 && Buffer.from(value, 'base64url').toString('base64url') === value
}
