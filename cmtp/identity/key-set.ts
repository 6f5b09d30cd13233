/**
 * The keys that a mesh signs session tokens with, signed by the mesh's root DID, so that a client and another node know which
 * `kid` counts. This file owns their form.
 */

export interface VerificationKey {
  /** RFC 7638 thumbprint of the key, 43 characters. */
  readonly kid: string
  /** The Ed25519 public key, base64url. */
  readonly x: string
  /** The last moment a token by this key counts, ms since 1970. */
  readonly notAfter: number
}

export interface KeySet {
  readonly version: 1
  /** The mesh's DID, whose key signs this set. */
  readonly mesh: string
  /** Rises whenever a key is dropped: an older set is refused. */
  readonly epoch: number
  /** ms since 1970. */
  readonly issued: number
  readonly keys: readonly VerificationKey[]
  /** By the root over `CMesh/1 keys\n` and the canonical JSON of the rest, base64url. */
  readonly signature: string
}
