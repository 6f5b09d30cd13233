/**
 * Signs and verifies session tokens with jose. The algorithm, the type, the audience and the issuer are pinned here, so that
 * nothing in a token chooses how it is checked. What a valid token is good for is the guard's to say.
 */
import type { KeyObject } from 'node:crypto'
import { errors, jwtVerify, SignJWT } from 'jose'
import { CMeshError } from '../../cmtp/errors.ts'
import type { KeyPair, PublicKey } from '../../cmtp/identity/keys.ts'
import type { TokenClaims } from '../../cmtp/identity/token.ts'
import { readClaims, TOKEN_ALGORITHM, TOKEN_AUDIENCE, TOKEN_TYPE, writeClaims } from '../../cmtp/identity/token.ts'
import { didToSegment } from '../../cmtp/identity/did.ts'
import { LIMITS } from '../../cmtp/limits.ts'

/** The compact token of the claims, signed by the mesh. */
export async function signToken(claims: TokenClaims, signer: KeyPair): Promise<string> {
  return await new SignJWT(writeClaims(claims))
    .setProtectedHeader({ alg: TOKEN_ALGORITHM, typ: TOKEN_TYPE })
    .sign(signer.privateKeyObject)
}

/** Checks tokens of one mesh. Stateless: nothing is cached, revocation is not looked at. */
export class TokenVerifier {
  readonly #key: KeyObject
  readonly #issuer: string
  readonly #now: () => number

  /** `now`: ms since 1970. */
  constructor(meshKey: PublicKey, now: () => number) {
    this.#key = meshKey.keyObject
    this.#issuer = meshKey.did
    this.#now = now
  }

  /**
   * Resolves with the claims. Rejects with `CMESH_IAM_NO_SESSION`, whose reason says what failed. `graceMs`: how long after
   * its expiry a token still counts, 0 and up. Default 0.
   */
  async verify(token: string | Uint8Array, graceMs = 0): Promise<TokenClaims> {
    if (token.length === 0) throw noSession('the request carries no token')
    if (token.length > LIMITS.tokenBytes) throw noSession(`the token is longer than ${LIMITS.tokenBytes} bytes`)
    let payload: unknown
    try {
      const verified = await jwtVerify(token, this.#key, {
        algorithms: [TOKEN_ALGORITHM],
        typ: TOKEN_TYPE,
        audience: TOKEN_AUDIENCE,
        issuer: didToSegment(this.#issuer),
        requiredClaims: ['exp', 'iat', 'jti', 'sid', 'sub', 'ver'],
        currentDate: new Date(this.#now() - graceMs),
      })
      payload = verified.payload
    } catch (cause) {
      if (!(cause instanceof errors.JOSEError)) throw cause
      throw new CMeshError('CMESH_IAM_NO_SESSION', { reason: reasonOf(cause) }, { cause })
    }
    return readClaims(payload)
  }
}

function reasonOf(error: errors.JOSEError): string {
  if (error instanceof errors.JWTExpired) return 'the token has expired'
  if (error instanceof errors.JWSSignatureVerificationFailed) return 'the token is not signed by this mesh'
  if (error instanceof errors.JOSEAlgNotAllowed) return `the token is not signed with ${TOKEN_ALGORITHM}`
  if (error instanceof errors.JWTClaimValidationFailed) return `the token has no valid ${error.claim}`
  return 'the token is malformed'
}

function noSession(reason: string): CMeshError {
  return new CMeshError('CMESH_IAM_NO_SESSION', { reason })
}
