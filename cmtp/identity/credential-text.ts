/**
 * The one shape of a credential that CMesh takes: an SD-JWT VC (RFC 9901) by a did:key, bound to an Ed25519 key, whose every claim
 * can be withheld. Reads the text strictly and whole before any library sees it; whether a signature holds is `credential.ts`'s to
 * say. Total: a value, or `CMESH_IAM_CREDENTIAL`.
 *
 *   <issuer's JWT> ~ <disclosure> ~ … ~ [<key binding JWT>]
 */
import { hash } from 'node:crypto'
import { CMeshError } from '../errors.ts'
import { PublicKey } from './keys.ts'

/** Longest credential or presentation, in characters. */
export const CREDENTIAL_CHARACTERS = 8_192
/** Most claims of one credential. */
export const CREDENTIAL_CLAIMS = 32
/** Longest value of a claim, in characters. */
export const CLAIM_CHARACTERS = 1_024

export const CREDENTIAL_ALGORITHM = 'EdDSA'
export const CREDENTIAL_TYPE = 'dc+sd-jwt'
export const BINDING_TYPE = 'kb+jwt'
export const DIGEST_ALGORITHM = 'sha-256'

export type ClaimValue = string | number | boolean

export interface Disclosure {
  /** As it stands in the credential. */
  readonly text: string
  readonly name: string
  readonly value: ClaimValue
}

export interface Binding {
  readonly issued: number
  readonly audience: string
  readonly nonce: string
}

export interface CredentialText {
  /** The issuer's JWT. */
  readonly jwt: string
  readonly issuer: PublicKey
  /** The type of the credential. */
  readonly vct: string
  /** The key that the credential is bound to. */
  readonly holder: PublicKey
  /** Seconds since 1970. */
  readonly issued: number
  readonly expires: number
  readonly disclosures: readonly Disclosure[]
  readonly binding: Binding | undefined
}

/** What has a meaning of its own in a JWT or an SD-JWT VC, or in the language that reads it, and is never an attribute. */
const RESERVED: ReadonlySet<string> = new Set([
  'iss', 'sub', 'aud', 'exp', 'nbf', 'iat', 'jti', 'vct', 'cnf', 'act', 'status', 'alg', 'typ', 'kid', 'nonce', 'vctm', 'sd_hash', 'constructor',
  'prototype', 'toString', 'valueOf', 'hasOwnProperty', 'isPrototypeOf', 'propertyIsEnumerable', 'toLocaleString',
])
/** Without the characters that set an attribute off in a grant's condition: `#`, `=`, `@`. */
const TYPE = /^[A-Za-z0-9][A-Za-z0-9:/._~-]{0,127}$/
const CLAIM = /^[A-Za-z][A-Za-z0-9_-]{0,63}$/
const PART = /^[A-Za-z0-9_-]+$/

/** Whether text names a type of credential. */
export function isCredentialType(vct: unknown): vct is string {
  return typeof vct === 'string' && TYPE.test(vct)
}

/** Whether text names a claim that may be an attribute. */
export function isClaimName(name: unknown): name is string {
  return typeof name === 'string' && CLAIM.test(name) && !RESERVED.has(name)
}

export function isClaimValue(value: unknown): value is ClaimValue {
  if (typeof value === 'string') return value.length <= CLAIM_CHARACTERS
  return typeof value === 'boolean' || Number.isSafeInteger(value)
}

/** How an attribute is named: `<vct>#<claim>`. */
export function attributeId(vct: string, claim: string): string {
  return `${vct}#${claim}`
}

/** Reads a credential or a presentation. Throws `CMESH_IAM_CREDENTIAL`. */
export function readCredentialText(text: unknown): CredentialText {
  if (typeof text !== 'string' || text.length === 0 || text.length > CREDENTIAL_CHARACTERS) {
    throw refused(`it is text of 1 to ${CREDENTIAL_CHARACTERS} characters`)
  }
  const [jwt = '', ...rest] = text.split('~')
  const last = rest.pop()
  if (last === undefined) throw refused('it is no SD-JWT')
  const { issuer, vct, holder, issued, expires, digests } = readIssued(jwt)
  return { jwt, issuer, vct, holder, issued, expires, disclosures: readDisclosures(rest, digests), binding: last === '' ? undefined : readBinding(last) }
}

interface Issued extends Pick<CredentialText, 'issuer' | 'vct' | 'holder' | 'issued' | 'expires'> {
  readonly digests: ReadonlySet<string>
}

function readIssued(jwt: string): Issued {
  const { header, payload } = readJwt(jwt)
  checkHeader(header, CREDENTIAL_TYPE)
  const { iss, iat, exp, vct, cnf, _sd, _sd_alg: digest } = payload
  // Claims that cannot be withheld and a status list, which the library would fetch from wherever it points, are no part of this.
  onlyHas(payload, ['iss', 'iat', 'exp', 'vct', 'cnf', '_sd', '_sd_alg'], 'its payload')
  if (exp === undefined) throw refused('it has no expiry')
  if (!isSeconds(iat) || !isSeconds(exp) || exp <= iat) throw refused('its times are not valid')
  if (!isCredentialType(vct)) throw refused('its type (vct) is not valid')
  if (digest !== DIGEST_ALGORITHM) throw refused(`its digests are not ${DIGEST_ALGORITHM}`)
  if (!Array.isArray(_sd) || _sd.length > 2 * CREDENTIAL_CLAIMS || !_sd.every((each): each is string => typeof each === 'string' && each.length === 43)) {
    throw refused('its list of digests is not valid')
  }
  const digests = new Set<string>(_sd)
  if (digests.size !== _sd.length) throw refused('a digest stands in it twice')
  return { issuer: readIssuer(iss), vct, holder: readHolder(cnf), issued: iat, expires: exp, digests }
}

function readDisclosures(texts: readonly string[], digests: ReadonlySet<string>): Disclosure[] {
  if (texts.length > CREDENTIAL_CLAIMS) throw refused(`it has more than ${CREDENTIAL_CLAIMS} disclosures`)
  const names = new Set<string>()
  return texts.map((text) => {
    const parts = readJson(text, 'a disclosure')
    if (!Array.isArray(parts) || parts.length !== 3 || typeof parts[0] !== 'string') throw refused('a disclosure is not salt, name and value')
    const [, name, value] = parts as [string, unknown, unknown]
    if (!isClaimName(name)) throw refused('it discloses a claim whose name is reserved or not valid')
    if (!isClaimValue(value)) throw refused('it discloses a value that is no text, whole number or truth value')
    // The same text twice is a name twice.
    if (names.has(name)) throw refused('it discloses a claim twice')
    if (!digests.has(hash('sha256', text, 'base64url'))) throw refused('it discloses what its issuer did not sign')
    names.add(name)
    return { text, name, value }
  })
}

function readBinding(jwt: string): Binding {
  const { header, payload } = readJwt(jwt)
  checkHeader(header, BINDING_TYPE)
  onlyHas(payload, ['iat', 'aud', 'nonce', 'sd_hash'], 'its key binding')
  const { iat, aud, nonce, sd_hash: digest } = payload
  if (!isSeconds(iat) || typeof aud !== 'string' || typeof nonce !== 'string' || nonce === '' || typeof digest !== 'string') {
    throw refused('its key binding is not valid')
  }
  return { issued: iat, audience: aud, nonce }
}

function readIssuer(iss: unknown): PublicKey {
  try {
    return PublicKey.fromDid(typeof iss === 'string' ? iss : '')
  } catch (cause) {
    throw refused('its issuer is no did:key', cause)
  }
}

function readHolder(cnf: unknown): PublicKey {
  if (cnf === undefined) throw refused('it is bound to no key (cnf)')
  const jwk = fieldsOf(fieldsOf(cnf)['jwk'])
  onlyHas(fieldsOf(cnf), ['jwk'], 'its cnf')
  onlyHas(jwk, ['kty', 'crv', 'x'], 'its key')
  try {
    if (jwk['kty'] !== 'OKP' || jwk['crv'] !== 'Ed25519' || typeof jwk['x'] !== 'string') throw refused('its key is no Ed25519 key')
    return PublicKey.fromText(jwk['x'])
  } catch (cause) {
    throw refused('the key it is bound to is no sound Ed25519 key', cause)
  }
}

function checkHeader(header: Record<string, unknown>, type: string): void {
  if (header['alg'] !== CREDENTIAL_ALGORITHM) throw refused(`its algorithm is not ${CREDENTIAL_ALGORITHM}`)
  if (header['typ'] !== type) throw refused(`its typ is not ${type}`)
  onlyHas(header, ['alg', 'typ'], 'its header')
}

function readJwt(jwt: string): { readonly header: Record<string, unknown>, readonly payload: Record<string, unknown> } {
  const [header = '', payload = '', signature = '', ...more] = jwt.split('.')
  if (more.length > 0 || Buffer.from(signature, 'base64url').length !== 64) throw refused('it is no signed JWT')
  checkSpelling(signature)
  return { header: fieldsOf(readJson(header, 'a header')), payload: fieldsOf(readJson(payload, 'a payload')) }
}

function readJson(part: string, what: string): unknown {
  checkSpelling(part)
  try {
    return JSON.parse(Buffer.from(part, 'base64url').toString('utf8')) as unknown
  } catch (cause) {
    throw refused(`${what} is no JSON`, cause)
  }
}

/** base64url has one spelling here: two texts that mean the same would be two presentations. */
function checkSpelling(part: string): void {
  if (!PART.test(part) || Buffer.from(part, 'base64url').toString('base64url') !== part) throw refused('a part is not base64url')
}

function onlyHas(fields: Record<string, unknown>, known: readonly string[], what: string): void {
  if (!Object.keys(fields).every(name => known.includes(name))) throw refused(`${what} has a member that is not known`)
}

function isSeconds(value: unknown): value is number {
  return Number.isSafeInteger(value) && (value as number) > 0
}

function fieldsOf(value: unknown): Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value) ? { ...value } : {}
}

function refused(reason: string, cause?: unknown): CMeshError {
  return new CMeshError('CMESH_IAM_CREDENTIAL', { reason }, { cause })
}
