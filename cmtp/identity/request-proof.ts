/**
 * The signature of a single request, which `deploy`, `replace` and `proxy` need beside a session, and IAM's `prepare` and `rotate`: by the
 * caller's DID key, over the token it goes with, the final address, the body, the message id and the deadline. It travels in a header and stands in the log,
 * where every replica checks it again without ever seeing the token. An id is executed once, so a proof is good once.
 *
 *   signed  'CMesh/1 request\n' · canonical JSON {body, deadline, fqmn, id, token}; body and token as SHA-256, base64url
 *   header  x-cmesh-proof: base64url of SHA-256 of the token (32) · Ed25519 (64)
 */
import { hash } from 'node:crypto'
import { CMeshError } from '../errors.ts'
import type { Route } from '../fqmn.ts'
import { ACTIONS, actionOf } from '../permission.ts'
import { canonicalJson } from './canonical-json.ts'
import { PublicKey, type KeyPair } from './keys.ts'

export const PROOF_HEADER = 'x-cmesh-proof'
export const PROOF_BYTES = 96

const HASH_BYTES = 32
const SIGNED_ACTIONS = ACTIONS.deploy | ACTIONS.replace | ACTIONS.proxy
/** Of IAM's: they decide who is who from then on, which a session alone must not. */
const SIGNED_ORDERS: ReadonlySet<string> = new Set(['prepare', 'rotate'])

export interface ProvenRequest {
  /** 32 lower-case hex digits. */
  readonly id: string
  /** The final address, arguments included, as it is sent. */
  readonly fqmn: string
  readonly body: Uint8Array
  /** Absolute, ms since 1970. */
  readonly deadlineMs: number
}

/** Whether an address is one of those that need a signature of their own. */
export function needsProof(route: Route): boolean {
  return (actionOf(route) & SIGNED_ACTIONS) !== 0 || (route.service === 'I' && route.write && SIGNED_ORDERS.has(route.segments[0] as string))
}

/** The value of the header. `token`: the whole compact session token, never its reference. */
export function makeRequestProof({ token, ...request }: ProvenRequest & { readonly token: Uint8Array }, identity: KeyPair): string {
  const tokenHash = sha256(token)
  return Buffer.concat([tokenHash, identity.sign(proofBytes(request, tokenHash))]).toString('base64url')
}

/** The 96 bytes of a header's value. Throws `CMESH_IAM_PROOF` for none, or for anything `makeRequestProof` does not write. */
export function readRequestProof(value: string | undefined, fqmn: string): Buffer {
  if (value === undefined) throw refused(fqmn, 'it carries none')
  const proof = Buffer.from(value, 'base64url')
  if (proof.length !== PROOF_BYTES || proof.toString('base64url') !== value) throw refused(fqmn, `what it carries is no base64url of ${PROOF_BYTES} bytes`)
  return proof
}

/**
 * What the proof says of the token, once it holds for this request and the DID `sub`. Whether that token is the caller's is for who knows
 * the token to compare. Throws `CMESH_IAM_PROOF`.
 */
export function checkRequestProof(proof: Uint8Array, { sub, ...request }: ProvenRequest & { readonly sub: string }): { readonly tokenHash: Buffer } {
  if (proof.length !== PROOF_BYTES) throw refused(request.fqmn, 'it carries none')
  const tokenHash = Buffer.from(proof.subarray(0, HASH_BYTES))
  if (!keyOf(sub, request.fqmn).verify(proofBytes(request, tokenHash), proof.subarray(HASH_BYTES))) {
    throw refused(request.fqmn, 'the one it carries was not made by the caller for this request')
  }
  return { tokenHash }
}

/** As `checkRequestProof`, and the proof goes with `token`. Throws `CMESH_IAM_PROOF`. */
export function checkProofOfToken(proof: Uint8Array, token: Uint8Array, request: ProvenRequest & { readonly sub: string }): void {
  const { tokenHash } = checkRequestProof(proof, request)
  if (!tokenHash.equals(sha256(token))) throw refused(request.fqmn, 'the one it carries was made for another token')
}

function proofBytes({ id, fqmn, body, deadlineMs }: ProvenRequest, tokenHash: Buffer): Buffer {
  const content = { body: sha256(body).toString('base64url'), deadline: deadlineMs, fqmn, id, token: tokenHash.toString('base64url') }
  return Buffer.from(`CMesh/1 request\n${canonicalJson(content)}`, 'utf8')
}

function keyOf(sub: string, fqmn: string): PublicKey {
  try {
    return PublicKey.fromDid(sub)
  } catch (cause) {
    if (!(cause instanceof CMeshError)) throw cause
    throw new CMeshError('CMESH_IAM_PROOF', { fqmn: fqmn.slice(0, 128), reason: 'its caller has no key that could sign' }, { cause })
  }
}

function sha256(bytes: Uint8Array): Buffer {
  return hash('sha256', bytes, 'buffer')
}

function refused(fqmn: string, reason: string): CMeshError {
  return new CMeshError('CMESH_IAM_PROOF', { fqmn: fqmn.slice(0, 128), reason })
}
