/**
 * did:key for Ed25519: `did:key:z` and the base58btc of 0xed01 ‖ public key (W3C CCG, "The did:key Method"). Owns which
 * public keys CMesh accepts at all; it never signs or verifies. Every DID has one spelling, and every function is total:
 * a value, or `CMESH_IAM_KEY` with the reason.
 */
import { base58 } from '@scure/base'
import { CMeshError } from '../errors.ts'

export const PUBLIC_KEY_BYTES = 32

const PREFIX = 'did:key:z'
/** Multicodec `ed25519-pub` (0xed) as an unsigned varint. */
const MULTICODEC = [0xed, 0x01] as const
/** 34 bytes that begin with 0xed01 always take 47 characters; a bound before the quadratic base58 decoder runs. */
const BASE58_CHARACTERS = 47

/** The DID of a public key. Throws `CMESH_IAM_KEY` for one that `checkPublicKey` refuses. */
export function encodeDid(publicKey: Uint8Array): string {
  checkPublicKey(publicKey)
  const bytes = new Uint8Array(MULTICODEC.length + PUBLIC_KEY_BYTES)
  bytes.set(MULTICODEC)
  bytes.set(publicKey, MULTICODEC.length)
  return PREFIX + base58.encode(bytes)
}

/** The 32 bytes of the public key that a DID names. Throws `CMESH_IAM_KEY`. */
export function decodeDid(did: string): Uint8Array {
  if (!did.startsWith(PREFIX)) throw refused('a DID begins with did:key:z')
  if (did.length !== PREFIX.length + BASE58_CHARACTERS) {
    throw refused(`the DID of an Ed25519 key has ${PREFIX.length + BASE58_CHARACTERS} characters`)
  }
  const bytes = decodeBase58(did.slice(PREFIX.length))
  if (bytes.length !== MULTICODEC.length + PUBLIC_KEY_BYTES || bytes[0] !== MULTICODEC[0] || bytes[1] !== MULTICODEC[1]) {
    throw refused('the DID does not name an Ed25519 key')
  }
  const publicKey = bytes.subarray(MULTICODEC.length)
  checkPublicKey(publicKey)
  return publicKey
}

export function isDid(text: string): boolean {
  try {
    decodeDid(text)
    return true
  } catch (error) {
    if (error instanceof CMeshError) return false
    throw error
  }
}

/** The `z…` part of a DID: one segment of an address, and the short form inside a token. */
export function didToSegment(did: string): string {
  return did.slice(PREFIX.length - 1)
}

/** The DID whose `z…` part this is. Throws `CMESH_IAM_KEY`. */
export function didFromSegment(segment: string): string {
  const did = `did:key:${segment}`
  decodeDid(did)
  return did
}

/**
 * Refuses what OpenSSL would import and must not be an identity: keys of another length, encodings of y that are not
 * reduced modulo p (RFC 8032, 5.1.3), and the points of small order, for which one fixed signature verifies for any message.
 * Throws `CMESH_IAM_KEY`.
 */
export function checkPublicKey(publicKey: Uint8Array): void {
  if (publicKey.length !== PUBLIC_KEY_BYTES) {
    throw refused(`an Ed25519 public key has ${PUBLIC_KEY_BYTES} bytes, not ${publicKey.length}`)
  }
  if (yIsNotReduced(publicKey)) throw refused('its encoding is not canonical')
  for (const y of SMALL_ORDER_Y) if (sameY(publicKey, y)) throw refused('it is a point of small order')
}

/**
 * The y coordinates of the eight points whose order divides 8, little-endian and without the sign bit. The two of order 8
 * are the roots of the curve equation where x² = y²; with either sign bit these five give every encoding of the eight.
 */
const SMALL_ORDER_Y = [
  '0000000000000000000000000000000000000000000000000000000000000000',
  '0100000000000000000000000000000000000000000000000000000000000000',
  'ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f',
  'c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a',
  '26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05',
].map(hex => Buffer.from(hex, 'hex'))

function sameY(publicKey: Uint8Array, y: Uint8Array): boolean {
  for (let i = 0; i < 31; i++) if (publicKey[i] !== y[i]) return false
  return withoutSign(publicKey) === y[31]
}

/** y ≥ p = 2²⁵⁵ − 19, whatever the sign bit. */
function yIsNotReduced(publicKey: Uint8Array): boolean {
  if (withoutSign(publicKey) !== 0x7f) return false
  for (let i = 30; i > 0; i--) if (publicKey[i] !== 0xff) return false
  return (publicKey[0] as number) >= 0xed
}

/** The last byte of y: the sign of x rides on its top bit. */
function withoutSign(publicKey: Uint8Array): number {
  return (publicKey[PUBLIC_KEY_BYTES - 1] ?? 0) & 0x7f
}

function decodeBase58(text: string): Uint8Array {
  try {
    return base58.decode(text)
  } catch (cause) {
    throw new CMeshError('CMESH_IAM_KEY', { reason: 'the DID is not base58btc' }, { cause })
  }
}

function refused(reason: string): CMeshError {
  return new CMeshError('CMESH_IAM_KEY', { reason })
}
