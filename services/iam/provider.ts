/**
 * How a person or node proves who it is. IAM (`services/iam/service.ts`) runs the handshake, binds it to nonce, audience
 * and session key, and issues the token; a provider only says whether the proof for one challenge holds, and for whom.
 *
 * Invariants, proven by `test/conformance/iam.ts`: a proof made for one challenge never verifies for another; a refused
 * proof throws `CMESH_IAM_HANDSHAKE` or `CMESH_IAM_FORGED`; nothing is kept of a challenge after `verify` or `cancel`.
 */

export interface IdentityContext {
  /** Handshake id, unguessable. */
  readonly handshake: string
  /** 32 random bytes of this handshake, base64url. */
  readonly nonce: string
  /** The mesh's DID: what the proof is for. */
  readonly audience: string
  /** SHA-256 of the handshake up to here, base64url: what the proof binds. */
  readonly transcript: string
}

export interface Challenge {
  /** What the client signs or shows; opaque to IAM, at most 4 KiB of text. */
  readonly challenge: string
  /** What a client may show the person, when the provider wants a person to act. */
  readonly ui?: { readonly kind: 'link' | 'qr', readonly value: string }
}

export interface IdentityAttribute {
  readonly id: string
  readonly value: string
  readonly issuer: string
}

/** What a condition of a grant may ask about beyond the DID. */
export interface Facts {
  /** The session's assurance. */
  readonly aal: 0 | 1 | 2
  /** The attributes that the session's token holds. */
  readonly attributes: readonly IdentityAttribute[]
  /** ms since 1970. */
  readonly nowMs: number
}

export interface VerifiedIdentity {
  /** The DID that was proven. */
  readonly sub: string
  readonly attributes: readonly IdentityAttribute[]
  /** When the first credential that showed one of them ends, ms since 1970: a session that goes on goes on without them. Absent: never. */
  readonly attributesUntilMs?: number
  /** RFC 8176 authentication methods. */
  readonly amr: readonly string[]
  /** Assurance: 0 proves nothing (mock), 1 a key, 2 an attribute from an issuer. */
  readonly aal: 0 | 1 | 2
  /** SHA-256 of the evidence, base64url. */
  readonly evidenceHash: string
}

export interface IdentityProvider {
  readonly name: string
  /**
   * `begin` keeps nothing and `verify` needs nothing but its context: IAM then keeps nothing either until the confirm. Default: false.
   */
  readonly stateless?: boolean
  /**
   * There for a provider that wants a person to act: how long that may take, in ms, on top of what programs need for a handshake. The
   * node itself cannot prove anything by such a provider.
   */
  readonly patienceMs?: number
  /** Memoised. A provider that must not run here rejects with `CMESH_IAM_PROVIDER`. */
  start(): Promise<void>
  begin(context: IdentityContext): Promise<Challenge>
  /** `proof` is what the client sent; any JSON value, checked whole. */
  verify(context: IdentityContext, proof: unknown): Promise<VerifiedIdentity>
  cancel(context: IdentityContext): Promise<void>
  stop(): Promise<void>
}
