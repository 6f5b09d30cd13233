/**
 * The session token's claims and their wire form: a compact JWS (RFC 7515) with `alg: EdDSA`, `typ: cmesh-at+jwt` and a `kid`. It
 * travels in every request, so DIDs are written as their `z…` part and a whole set of permissions as its name. This file
 * neither signs nor verifies; `readClaims` is total and takes exactly the claims listed here.
 */
import { hash } from 'node:crypto'
import { CMeshError } from '../errors.ts'
import { LIMITS } from '../limits.ts'
import { didFromSegment, didToSegment } from './did.ts'

export const TOKEN_TYPE = 'cmesh-at+jwt'
export const TOKEN_ALGORITHM = 'EdDSA'
/** Who takes the token: CMTP receivers of the mesh named by `iss`. A token for another door has another audience. */
export const TOKEN_AUDIENCE = 'cmtp'
export const TOKEN_VERSION = 1

/** Bytes of a token's reference; no compact JWS is that short. */
export const TOKEN_REFERENCE_BYTES = 16

/**
 * What may stand in a frame for a token that the receiver has verified before: the first 16 bytes of its SHA-256. As hard to
 * guess as the token, and good only where the token itself is remembered; anybody else asks for the token.
 */
export function tokenReference(token: Uint8Array): Buffer {
  return Buffer.from(hash('sha256', token, 'hex').slice(0, TOKEN_REFERENCE_BYTES * 2), 'hex')
}

export interface TokenClaims {
  /** The mesh's DID, whose root vouches for the key that signs. */
  readonly iss: string
  readonly aud: typeof TOKEN_AUDIENCE
  /** The DID that was proven. */
  readonly sub: string
  /** The session: one subject, one handshake, any number of tokens. */
  readonly sid: string
  /** This token. */
  readonly jti: string
  /** Issued and expires, seconds since 1970 (RFC 7519, 2). */
  readonly iat: number
  readonly exp: number
  readonly ver: typeof TOKEN_VERSION
  /** Thumbprint of the session key (RFC 7800, RFC 7638), and the nkey of the session's own connection where it has one. */
  readonly cnf: { readonly jkt: string, readonly nkey?: string }
  /** Texts of permissions, or the name of a set (`cmtp/permission.ts`). */
  readonly perms: readonly string[]
  readonly amr: readonly string[]
  readonly aal: 0 | 1 | 2
  /** The session of a gateway, whose frames may carry requests under this token. */
  readonly via?: string
  /** The attributes that were consented to; nothing else. */
  readonly att?: readonly TokenAttribute[]
  /** When `att`, and the assurance that came of it, ends by the next renewal; seconds since 1970. */
  readonly atu?: number
}

export interface TokenAttribute {
  readonly id: string
  readonly value: string
  readonly issuer: string
}

/** The payload as it is signed. */
export function writeClaims(claims: TokenClaims): Record<string, unknown> {
  return { ...claims, iss: didToSegment(claims.iss), sub: didToSegment(claims.sub) }
}

/** The claims of a payload. Throws `CMESH_IAM_NO_SESSION` naming the claim that is not as it must be. */
export function readClaims(payload: unknown): TokenClaims {
  if (typeof payload !== 'object' || payload === null) throw noSession('its payload is no object')
  const claim = payload as Record<string, unknown>
  for (const name of Object.keys(claim)) {
    if (!Object.hasOwn(CLAIMS, name)) throw noSession(`the claim ${name.slice(0, 16)} is not known`)
  }
  for (const [name, valid] of CHECKS) if (!valid(claim[name])) throw noSession(`the claim ${name} is not valid`)
  const { iss, aud, sub, sid, jti, iat, exp, ver, cnf, perms, amr, aal, via, att, atu } = claim as unknown as TokenClaims
  // Field by field: copied as a whole, the claims of each token would have a shape of their own, which takes more room than they do.
  return {
    iss: readDid(iss, 'iss'), aud, sub: readDid(sub, 'sub'), sid, jti, iat, exp, ver, cnf, perms, amr, aal,
    ...(via !== undefined && { via }), ...(att !== undefined && { att }), ...(atu !== undefined && { atu }),
  }
}

/** The claims of a compact token whose signature nobody checked here. Throws `CMESH_IAM_NO_SESSION`. */
export function decodeToken(token: string): TokenClaims {
  const parts = token.split('.')
  if (token.length > LIMITS.tokenBytes || parts.length !== 3) throw noSession('it is no compact JWS')
  let payload: unknown
  try {
    payload = JSON.parse(Buffer.from(parts[1] as string, 'base64url').toString('utf8'))
  } catch (cause) {
    throw new CMeshError('CMESH_IAM_NO_SESSION', { reason: 'the token is malformed: its payload is no JSON' }, { cause })
  }
  return readClaims(payload)
}

/** The `kid` in the header of a compact token whose signature nobody checked here; empty when there is none. Total. */
export function tokenKeyId(token: string): string {
  const [header = ''] = token.split('.', 1)
  let value: unknown
  try {
    value = JSON.parse(Buffer.from(header, 'base64url').toString('utf8'))
  } catch {
    return ''
  }
  return typeof value === 'object' && value !== null && 'kid' in value && typeof value.kid === 'string' ? value.kid : ''
}

const ID = /^[A-Za-z0-9_-]{8,64}$/
const THUMBPRINT = /^[A-Za-z0-9_-]{43}$/
const USER_NKEY = /^U[A-Z2-7]{55}$/

const isId = (value: unknown): boolean => typeof value === 'string' && ID.test(value)
const isSeconds = (value: unknown): boolean => Number.isSafeInteger(value) && (value as number) > 0
const isTexts = (value: unknown): boolean => Array.isArray(value) && value.every(text => typeof text === 'string')
const isConfirmation = (value: unknown): boolean => typeof value === 'object' && value !== null
  && Object.keys(value).every(name => name === 'jkt' || name === 'nkey')
  && 'jkt' in value && typeof value.jkt === 'string' && THUMBPRINT.test(value.jkt)
  && (!('nkey' in value) || (typeof value.nkey === 'string' && USER_NKEY.test(value.nkey)))
const isAttribute = (value: unknown): boolean => typeof value === 'object' && value !== null
  && Object.keys(value).length === 3 && ['id', 'value', 'issuer'].every(name => typeof (value as Record<string, unknown>)[name] === 'string')

const CLAIMS: { readonly [K in keyof TokenClaims]-?: (value: unknown) => boolean } = {
  iss: value => typeof value === 'string',
  aud: value => value === TOKEN_AUDIENCE,
  sub: value => typeof value === 'string',
  sid: isId,
  jti: isId,
  iat: isSeconds,
  exp: isSeconds,
  ver: value => value === TOKEN_VERSION,
  cnf: isConfirmation,
  perms: isTexts,
  amr: isTexts,
  aal: value => value === 0 || value === 1 || value === 2,
  via: value => value === undefined || isId(value),
  att: value => value === undefined || (Array.isArray(value) && value.every(isAttribute)),
  atu: value => value === undefined || isSeconds(value),
}
const CHECKS = Object.entries(CLAIMS)

function readDid(segment: string, claim: string): string {
  try {
    return didFromSegment(segment)
  } catch (cause) {
    throw new CMeshError('CMESH_IAM_NO_SESSION', { reason: `the token is malformed: the claim ${claim} is not valid` }, { cause })
  }
}

function noSession(reason: string): CMeshError {
  return new CMeshError('CMESH_IAM_NO_SESSION', { reason: `the token is malformed: ${reason}` })
}
