/**
 * Signs and verifies session tokens with jose. The header is one exact text for each key, the audience and the issuer are pinned
 * here: nothing in a token chooses how it is checked, and a token has one spelling. What a valid token is good for is the guard's to say.
 */
import { errors, jwtVerify, SignJWT } from 'jose'
import { CMeshError } from '../../cmtp/errors.ts'
import type { KeyPair } from '../../cmtp/identity/keys.ts'
import type { TokenClaims } from '../../cmtp/identity/token.ts'
import { readClaims, TOKEN_ALGORITHM, TOKEN_AUDIENCE, TOKEN_TYPE, writeClaims } from '../../cmtp/identity/token.ts'
import { didToSegment } from '../../cmtp/identity/did.ts'
import { LIMITS } from '../../cmtp/limits.ts'
import type { TokenKeys } from './key-ring.ts'

/** The compact token of the claims, signed by one of the mesh's token keys. */
export async function signToken(claims: TokenClaims, signer: KeyPair): Promise<string> {
  return await new SignJWT(writeClaims(claims))
    .setProtectedHeader({ alg: TOKEN_ALGORITHM, typ: TOKEN_TYPE, kid: signer.publicKey.thumbprint })
    .sign(signer.privateKeyObject)
}

export interface VerifiedToken {
  readonly claims: TokenClaims
  /** The key it was signed by. */
  readonly kid: string
}

/** What stands before and behind the `kid` in the one header there is. */
const HEADER_HEAD = `{"alg":"${TOKEN_ALGORITHM}","typ":"${TOKEN_TYPE}","kid":"`
const HEADER_TAIL = '"}'
const KID_CHARACTERS = 43
/** base64url of a signature, 64 bytes. */
const SIGNATURE_CHARACTERS = 86

/** Checks tokens of one mesh. Stateless: nothing is cached, revocation is not looked at. */
export class TokenVerifier {
  readonly #keys: TokenKeys
  readonly #issuer: string
  readonly #now: () => number

  /** `mesh`: its DID; `now`: ms since 1970. */
  constructor(mesh: string, keys: TokenKeys, now: () => number) {
    this.#keys = keys
    this.#issuer = didToSegment(mesh)
    this.#now = now
  }

  /** Whether tokens by that key count. */
  knows(kid: string): boolean {
    return this.#keys.verifierOf(kid) !== undefined
  }

  /**
   * Resolves with the claims and the key. Rejects with `CMESH_IAM_NO_SESSION`: its reason is one and the same for everything that only a
   * holder of a key could get right, and tells an expired token from that. `graceMs`: how long after its expiry a token still counts, 0 and
   * up. Default 0.
   */
  async verify(token: string | Uint8Array, graceMs = 0): Promise<VerifiedToken> {
    if (token.length === 0) throw noSession('the request carries no token')
    if (token.length > LIMITS.tokenBytes) throw noSession(`the token is longer than ${LIMITS.tokenBytes} bytes`)
    const text = typeof token === 'string' ? token : Buffer.from(token.buffer, token.byteOffset, token.byteLength).toString('latin1')
    const kid = kidOf(text)
    const key = this.#keys.verifierOf(kid ?? '')
    if (kid === undefined || key === undefined) throw invalid()
    try {
      const { payload } = await jwtVerify(text, key.keyObject, {
        algorithms: [TOKEN_ALGORITHM],
        typ: TOKEN_TYPE,
        audience: TOKEN_AUDIENCE,
        issuer: this.#issuer,
        requiredClaims: ['exp', 'iat', 'jti', 'sid', 'sub', 'ver'],
        currentDate: new Date(this.#now() - graceMs),
      })
      return { claims: readClaims(payload), kid }
    } catch (cause) {
      if (cause instanceof errors.JWTExpired) throw new CMeshError('CMESH_IAM_NO_SESSION', { reason: 'the token has expired' }, { cause })
      if (cause instanceof errors.JOSEError || cause instanceof CMeshError) throw invalid(cause)
      throw cause
    }
  }
}

/** The `kid` of a token in its one spelling: the header as `signToken` writes it, a signature without stray bits; `undefined` for any other. */
function kidOf(token: string): string | undefined {
  const [header = '', , signature = '', ...more] = token.split('.')
  if (more.length > 0 || signature.length !== SIGNATURE_CHARACTERS || !isOneSpelling(signature)) return undefined
  const text = Buffer.from(header, 'base64url').toString('latin1')
  const kid = text.slice(HEADER_HEAD.length, HEADER_HEAD.length + KID_CHARACTERS)
  return text === HEADER_HEAD + kid + HEADER_TAIL && isOneSpelling(header) ? kid : undefined
}

function isOneSpelling(text: string): boolean {
  return Buffer.from(text, 'base64url').toString('base64url') === text
}

function invalid(cause?: unknown): CMeshError {
  return new CMeshError('CMESH_IAM_NO_SESSION', { reason: 'the token is not valid' }, { cause })
}

function noSession(reason: string): CMeshError {
  return new CMeshError('CMESH_IAM_NO_SESSION', { reason })
}
