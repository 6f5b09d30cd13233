/**
 * Signs and verifies session tokens, which are compact JWS (RFC 7515) by Ed25519 (RFC 8037). The header is one exact text for each key, and
 * so is the rest of a token: nothing in it chooses how it is checked, and there is no other spelling of it to be taken for another token.
 * What a valid token is good for is the guard's to say.
 */
import { verify } from 'node:crypto'
import { CMeshError } from '../../cmtp/errors.ts'
import type { KeyPair, PublicKey } from '../../cmtp/identity/keys.ts'
import type { TokenClaims } from '../../cmtp/identity/token.ts'
import { readClaims, TOKEN_ALGORITHM, TOKEN_TYPE, writeClaims } from '../../cmtp/identity/token.ts'
import { LIMITS } from '../../cmtp/limits.ts'
import { asBuffer } from '../../cmtp/wire.ts'
import type { TokenKeys } from './key-ring.ts'

/** What stands before and behind the `kid` in the one header there is. */
const HEADER_HEAD = `{"alg":"${TOKEN_ALGORITHM}","typ":"${TOKEN_TYPE}","kid":"`
const HEADER_TAIL = '"}'
const KID_CHARACTERS = 43
const HEADER_CHARACTERS = Math.ceil((HEADER_HEAD.length + KID_CHARACTERS + HEADER_TAIL.length) * 4 / 3)
/** base64url of a signature, 64 bytes. */
const SIGNATURE_CHARACTERS = 86

/** The compact token of the claims, signed by one of the mesh's token keys. */
export function signToken(claims: TokenClaims, signer: KeyPair): string {
  const input = `${base64url(HEADER_HEAD + signer.publicKey.thumbprint + HEADER_TAIL)}.${base64url(JSON.stringify(writeClaims(claims)))}`
  return `${input}.${signer.sign(Buffer.from(input, 'latin1')).toString('base64url')}`
}

export interface VerifiedToken {
  readonly claims: TokenClaims
  /** The key it was signed by. */
  readonly kid: string
}

/** Checks tokens of one mesh. Stateless: nothing is cached, revocation is not looked at. */
export class TokenVerifier {
  readonly #keys: TokenKeys
  readonly #mesh: string
  readonly #now: () => number

  /** `mesh`: its DID; `now`: ms since 1970. */
  constructor(mesh: string, keys: TokenKeys, now: () => number) {
    this.#keys = keys
    this.#mesh = mesh
    this.#now = now
  }

  /** Whether tokens by that key count. */
  knows(kid: string): boolean {
    return this.#keys.verifierOf(kid) !== undefined
  }

  /**
   * Resolves with the claims and the key. Rejects with `CMESH_IAM_NO_SESSION`: its reason is one and the same for everything that only a
   * holder of a key could get right, and tells an expired token from that. With `CMESH_IAM_BUSY` while it is not known whether a member has the key. `graceMs`: how long after its expiry a token still counts, 0 and
   * up. Default 0. The bytes stay the caller's, and must not change before the promise settles.
   */
  async verify(token: string | Uint8Array, graceMs = 0): Promise<VerifiedToken> {
    if (token.length === 0) throw noSession('the request carries no token')
    if (token.length > LIMITS.tokenBytes) throw noSession(`the token is longer than ${LIMITS.tokenBytes} bytes`)
    // As UTF-8, so that no other character of a text is taken for one of base64url.
    const bytes = typeof token === 'string' ? Buffer.from(token, 'utf8') : asBuffer(token)
    const parts = partsOf(bytes.toString('latin1'))
    const key = parts === undefined ? undefined : this.#keys.verifierOf(parts.kid) ?? await this.#keys.learn?.(parts.kid)
    if (parts === undefined || key === undefined) throw invalid()
    if (!await isSigned(bytes.subarray(0, parts.inputBytes), parts.signature, key)) throw invalid()
    const claims = claimsOf(parts.payload)
    if (claims.iss !== this.#mesh) throw invalid()
    if (claims.exp * 1_000 <= this.#now() - graceMs) throw noSession('the token has expired')
    return { claims, kid: key.thumbprint }
  }
}

interface Parts {
  readonly kid: string
  readonly payload: string
  readonly signature: Buffer
  /** What the signature is over: so many bytes from the start. */
  readonly inputBytes: number
}

/** The parts of a token in its one spelling: the header as `signToken` writes it, a signature without stray bits; `undefined` for any other text. */
function partsOf(token: string): Parts | undefined {
  const inputBytes = token.length - SIGNATURE_CHARACTERS - 1
  if (inputBytes <= HEADER_CHARACTERS || token[HEADER_CHARACTERS] !== '.' || token[inputBytes] !== '.') return undefined
  const payload = token.slice(HEADER_CHARACTERS + 1, inputBytes)
  const signature = bytesOf(token.slice(inputBytes + 1))
  const header = bytesOf(token.slice(0, HEADER_CHARACTERS))?.toString('latin1')
  if (signature === undefined || header === undefined || payload.includes('.')) return undefined
  const kid = header.slice(HEADER_HEAD.length, HEADER_HEAD.length + KID_CHARACTERS)
  return header === HEADER_HEAD + kid + HEADER_TAIL ? { kid, payload, signature, inputBytes } : undefined
}

/** The bytes that a text is the one base64url of. */
function bytesOf(text: string): Buffer | undefined {
  const bytes = Buffer.from(text, 'base64url')
  return bytes.toString('base64url') === text ? bytes : undefined
}

/** Off this thread: many tokens that nobody has seen hold up no request under one that is known. Any bytes: never rejects. */
function isSigned(input: Uint8Array, signature: Uint8Array, key: PublicKey): Promise<boolean> {
  return new Promise(resolve => { verify(null, input, key.keyObject, signature, (error, good) => { resolve(error === null && good) }) })
}

/** Throws the one refusal for a payload that is none, whoever signed it. */
function claimsOf(payload: string): TokenClaims {
  try {
    return readClaims(JSON.parse(Buffer.from(payload, 'base64url').toString('utf8')))
  } catch (cause) {
    if (cause instanceof CMeshError || cause instanceof SyntaxError) throw invalid(cause)
    throw cause
  }
}

function base64url(text: string): string {
  return Buffer.from(text, 'utf8').toString('base64url')
}

function invalid(cause?: unknown): CMeshError {
  return new CMeshError('CMESH_IAM_NO_SESSION', { reason: 'the token is not valid' }, { cause })
}

function noSession(reason: string): CMeshError {
  return new CMeshError('CMESH_IAM_NO_SESSION', { reason })
}
