/**
 * Ed25519 keys on node:crypto (RFC 8032, 8037). A `PublicKey` is always one that `checkPublicKey` accepts. A `KeyPair`
 * shows its seed to nobody but the caller of `exportSeed`: not to an inspector, not to JSON.
 */
import { createPrivateKey, createPublicKey, hash, randomBytes, sign, verify } from 'node:crypto'
import type { KeyObject } from 'node:crypto'
import { CMeshError } from '../errors.ts'
import { checkPublicKey, decodeDid, encodeDid, PUBLIC_KEY_BYTES } from './did.ts'

export const SEED_BYTES = 32

/**
 * In the place of a public key that is yet to be computed. Keys are imported as JWK, a tenth of what the DER decoder takes; of a private one
 * Node reads `d` alone. Were `x` ever taken instead, this is a point of small order, and refused.
 */
const UNKNOWN_X = Buffer.alloc(PUBLIC_KEY_BYTES).toString('base64url')

/** RFC 8037, 2. */
export interface OkpJwk {
  readonly kty: 'OKP'
  readonly crv: 'Ed25519'
  /** The public key, base64url. */
  readonly x: string
}

/** A public key and the forms it is asked for in, each made once. */
export class PublicKey {
  readonly #bytes: Buffer
  #keyObject: KeyObject | undefined
  #did: string | undefined
  #thumbprint: string | undefined

  private constructor(bytes: Buffer) {
    this.#bytes = bytes
  }

  /** Copies the 32 bytes. Throws `CMESH_IAM_KEY`. */
  static fromBytes(bytes: Uint8Array): PublicKey {
    checkPublicKey(bytes)
    return new PublicKey(Buffer.from(bytes))
  }

  /** Throws `CMESH_IAM_KEY`. */
  static fromDid(did: string): PublicKey {
    return new PublicKey(Buffer.from(decodeDid(did)))
  }

  /** The key whose base64url this is, in its one spelling. Throws `CMESH_IAM_KEY`. */
  static fromText(text: string): PublicKey {
    const bytes = Buffer.from(text, 'base64url')
    if (bytes.toString('base64url') !== text) throw new CMeshError('CMESH_IAM_KEY', { reason: 'it is not base64url' })
    return PublicKey.fromBytes(bytes)
  }

  /** A copy of the 32 bytes. */
  toBytes(): Buffer {
    return Buffer.from(this.#bytes)
  }

  /** base64url of the 32 bytes. */
  get text(): string {
    return this.#bytes.toString('base64url')
  }

  get did(): string {
    return this.#did ??= encodeDid(this.#bytes)
  }

  get keyObject(): KeyObject {
    return this.#keyObject ??= createPublicKey({ key: { ...this.jwk }, format: 'jwk' })
  }

  get jwk(): OkpJwk {
    return { kty: 'OKP', crv: 'Ed25519', x: this.text }
  }

  /** JWK thumbprint, base64url of SHA-256 (RFC 7638; members and their order from RFC 8037, 2). */
  get thumbprint(): string {
    return this.#thumbprint ??= hash('sha256', `{"crv":"Ed25519","kty":"OKP","x":"${this.text}"}`, 'base64url')
  }

  /** Whether the signature is this key's over the message. Any bytes: never throws. */
  verify(message: Uint8Array, signature: Uint8Array): boolean {
    return verify(null, message, this.keyObject, signature)
  }
}

/** A private key and its public half. */
export class KeyPair {
  readonly publicKey: PublicKey
  readonly #private: KeyObject

  private constructor(seed: Uint8Array) {
    const d = Buffer.from(seed).toString('base64url')
    this.#private = createPrivateKey({ key: { kty: 'OKP', crv: 'Ed25519', d, x: UNKNOWN_X }, format: 'jwk' })
    this.publicKey = PublicKey.fromText(createPublicKey(this.#private).export({ format: 'jwk' }).x ?? '')
  }

  static generate(): KeyPair {
    return new KeyPair(randomBytes(SEED_BYTES))
  }

  /** The key pair of a 32-byte seed (RFC 8032, 5.1.5). Throws `CMESH_IAM_KEY` for another length. */
  static fromSeed(seed: Uint8Array): KeyPair {
    if (seed.length !== SEED_BYTES) {
      throw new CMeshError('CMESH_IAM_KEY', { reason: `a seed has ${SEED_BYTES} bytes, not ${seed.length}` })
    }
    return new KeyPair(seed)
  }

  get did(): string {
    return this.publicKey.did
  }

  /** For a library that signs by itself. */
  get privateKeyObject(): KeyObject {
    return this.#private
  }

  /** 64 bytes, deterministic. */
  sign(message: Uint8Array): Buffer {
    return sign(null, message, this.#private)
  }

  /** The secret itself, for a store that keeps it. The caller owns the bytes. */
  exportSeed(): Buffer {
    return Buffer.from(this.#private.export({ format: 'der', type: 'pkcs8' }).subarray(-SEED_BYTES))
  }
}
