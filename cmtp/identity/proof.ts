/**
 * The proofs a client can make by itself, each beside its check: `did`, a signature by the key of a did:key, and `mock`, which
 * proves nothing and exists for tests. Providers that need a person (a link, a QR code) have theirs made outside.
 */
import { hash } from 'node:crypto'
import { CMeshError } from '../errors.ts'
import { canonicalJson } from './canonical-json.ts'
import { isDid } from './did.ts'
import type { HandshakeContext } from './handshake.ts'
import type { KeyPair } from './keys.ts'
import { PublicKey } from './keys.ts'

/** Most presentations of credentials in one proof. */
export const MAX_PRESENTATIONS = 4

export interface DidProof {
  readonly did: string
  /** base64url, over `proofBytes`. */
  readonly signature: string
  /** Credentials shown beside it, 1 to 4, each bound to the transcript by the key it was issued to (`credential.ts`). */
  readonly presentations?: readonly string[]
}

/** The DID's signature over handshake, nonce, audience and transcript; through the transcript, over the session key. */
export function makeDidProof(context: HandshakeContext, identity: KeyPair, presentations: readonly string[] = []): DidProof {
  const proof = { did: identity.did, signature: identity.sign(proofBytes(context)).toString('base64url') }
  return presentations.length === 0 ? proof : { ...proof, presentations }
}

/** The DID that was proven. Throws `CMESH_IAM_FORGED`, or `CMESH_IAM_HANDSHAKE` for anything else than a proof by a sound key. */
export function checkDidProof(context: HandshakeContext, proof: unknown): string {
  const { did, signature } = textFields(proof, 'did', 'signature')
  const bytes = Buffer.from(signature, 'base64url')
  if (bytes.toString('base64url') !== signature) throw refused('the signature of the proof is not base64url')
  if (!readKey(did).verify(proofBytes(context), bytes)) throw new CMeshError('CMESH_IAM_FORGED', { what: 'proof' })
  return did
}

function proofBytes({ handshake, nonce, audience, transcript }: HandshakeContext): Buffer {
  return Buffer.from(`CMesh/1 proof\n${canonicalJson({ handshake, nonce, audience, transcript })}`, 'utf8')
}

function readKey(did: string): PublicKey {
  try {
    return PublicKey.fromDid(did)
  } catch (cause) {
    if (!(cause instanceof CMeshError)) throw cause
    throw refused(`the key of the proof is refused: ${String(cause.detail['reason'])}`, cause)
  }
}

export interface MockProof {
  readonly did: string
  /** The call string, answered. */
  readonly answer: string
}

/** The call string of a handshake: the same for the same context, on both sides. */
export function mockChallenge(context: HandshakeContext): string {
  return `call ${hash('sha256', canonicalJson({ ...context }), 'base64url')}`
}

export function makeMockProof(challenge: string, did: string): MockProof {
  return { did, answer: challenge.replace(/^call /, 'answer ') }
}

/** The DID that was claimed. Throws `CMESH_IAM_HANDSHAKE`. */
export function checkMockProof(context: HandshakeContext, proof: unknown): string {
  const { did, answer } = textFields(proof, 'did', 'answer')
  if (!isDid(did)) throw refused('the proof names no did:key')
  if (answer !== makeMockProof(mockChallenge(context), did).answer) throw refused('the answer does not fit the call string')
  return did
}

function textFields<K extends string>(proof: unknown, ...keys: readonly K[]): Record<K, string> {
  const fields = typeof proof === 'object' && proof !== null ? Object.entries(proof) : []
  const texts = new Map(fields.filter((field): field is [string, string] => typeof field[1] === 'string'))
  if (fields.length !== keys.length || !keys.every(key => texts.has(key))) {
    throw refused(`the proof has exactly the text fields ${keys.join(' and ')}`)
  }
  return Object.fromEntries(texts) as Record<K, string>
}

function refused(reason: string, cause?: unknown): CMeshError {
  return new CMeshError('CMESH_IAM_HANDSHAKE', { step: 'confirm', reason }, { cause })
}
