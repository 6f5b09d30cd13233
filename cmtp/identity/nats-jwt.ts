/**
 * The JWTs by which a NATS server with an operator lets in accounts and users (its version 2 claims): made on node:crypto, read
 * with their signature checked. Owns the claims' shapes and the two public constants of the guests' account; it keeps no key.
 *
 * Two habits of the server that this file answers: a limit that is not written counts as 0, so each is written, -1 for none; and
 * a user under a scoped signing key must carry no permission or limit of its own, or it is refused.
 */
import { createHash, hash } from 'node:crypto'
import { base32nopad } from '@scure/base'
import { CMeshError } from '../errors.ts'
import { Nkey, readNkey, type NkeyRole } from './nats-keys.ts'

/**
 * The account of newcomers, the same at every broker: SHA-256 of `CMesh guest account, version 1`. Nobody has its seed, and
 * anybody can see that.
 */
export const GUEST_ACCOUNT = 'ADGEEOFUSSAQJSZ7T7KI6LGKNA4Y4GEPHCBOJ3B2RPUXYTULNZ74GESV'
/**
 * Seed of the key by which newcomers sign their own login: SHA-256 of `CMesh guest signing key, version 1`. It is public on
 * purpose: the account ties it to a template that allows the handshake and an inbox of one's own.
 */
export const GUEST_KEY_SEED = Nkey.fromBytes('account', hash('sha256', 'CMesh guest signing key, version 1', 'buffer')).exportSeed()
/** A guest that idles this long has to log in again, in seconds. */
const GUEST_LIFE_S = 600

/** What a user may do; a list that is absent allows everything. */
export interface NatsPermissions {
  readonly publish?: readonly string[]
  readonly subscribe?: readonly string[]
}

/** A signing key whose users all have this template's rights. `{{name()}}` is the user's name, `{{subject()}}` its nkey. */
export interface NatsScope extends Required<NatsPermissions> {
  readonly key: string
  readonly role: string
  /** Most subscriptions at once. Default: no limit. */
  readonly subscriptions?: number
  /** Largest message in bytes. Default: the server's. */
  readonly payloadBytes?: number
}

export interface NatsAccount {
  readonly name: string
  /** The account's nkey. */
  readonly id: string
  /** Keys whose users have every right inside the account, unless their own JWT says less. */
  readonly keys: readonly string[]
  readonly scopes?: readonly NatsScope[]
  readonly jetStream?: boolean
  /** Most connections at once. Default: no limit. */
  readonly connections?: number
  /** Users that are kept out: nkey to the second, up to which what was signed for them counts for nothing. */
  readonly revocations?: Readonly<Record<string, number>>
}

export interface NatsUser {
  readonly nkey: string
  readonly name: string
  readonly account: string
  readonly nowS: number
  /** When the server ends the connection, in seconds since 1970. Default: never. */
  readonly expiresS?: number
}

export interface NatsClaims {
  readonly iat: number
  readonly exp?: number
  readonly iss: string
  readonly sub: string
  readonly name: string
  readonly nats: Readonly<Record<string, unknown>> & { readonly type: NkeyRole }
}

const HEADER = encoded({ typ: 'JWT', alg: 'ed25519-nkey' })
const OPEN = Object.freeze({ subs: -1, data: -1, payload: -1 })
/** Far above any JWT of ours: an account with 5,000 revocations has half a megabyte. */
const MOST_CHARACTERS = 4_194_304

export function operatorJwt(operator: Nkey, { systemAccount, signing, nowS }: { systemAccount: string, signing: string, nowS: number }): string {
  const nats = { type: 'operator', version: 2, signing_keys: [signing], system_account: systemAccount }
  return signed(operator, { iat: nowS, name: 'cmesh', sub: operator.text, nats })
}

/** Signed by the operator or one of its signing keys. */
export function accountJwt(signer: Nkey, account: NatsAccount, nowS: number): string {
  return signed(signer, { iat: nowS, name: account.name, sub: account.id, nats: accountClaims(account) })
}

/** What stands in an account's JWT of ours, without who signed it and when. */
export function accountClaims(account: NatsAccount): NatsClaims['nats'] {
  const store = account.jetStream === true ? -1 : 0
  return {
    type: 'account',
    version: 2,
    signing_keys: [...account.keys, ...(account.scopes ?? []).map(scopeClaims)],
    ...(account.revocations && { revocations: account.revocations }),
    limits: {
      ...OPEN, imports: -1, exports: -1, wildcards: true, conn: account.connections ?? -1, leaf: 0,
      mem_storage: store, disk_storage: store, streams: store, consumer: store,
    },
    default_permissions: { pub: {}, sub: {} },
  }
}

/** An account's JWT as it was read, with other revocations. Later than the one it replaces, whatever the clock says: the server keeps the latest. */
export function changedAccountJwt(signer: Nkey, claims: NatsClaims, { revocations }: Pick<Required<NatsAccount>, 'revocations'>, nowS: number): string {
  const iat = Math.max(nowS, claims.iat + 1)
  return signed(signer, { iat, name: claims.name, sub: claims.sub, nats: { ...claims.nats, revocations } })
}

/** A user whose rights stand in its own JWT; `signer` is one of the account's plain keys. */
export function userJwt(signer: Nkey, user: NatsUser & NatsPermissions): string {
  const pub = user.publish === undefined ? {} : { allow: user.publish }
  const sub = user.subscribe === undefined ? {} : { allow: user.subscribe }
  return signed(signer, { ...userHead(user), nats: { type: 'user', version: 2, issuer_account: user.account, pub, sub, ...OPEN } })
}

/** A user whose rights are the template of `signer`, a scoped key of the account. */
export function scopedUserJwt(signer: Nkey, user: NatsUser): string {
  return signed(signer, { ...userHead(user), nats: { type: 'user', version: 2, issuer_account: user.account } })
}

/** The login that a newcomer makes for itself, good for ten minutes. */
export function guestJwt(nkey: Nkey, nowS: number): string {
  return scopedUserJwt(Nkey.fromSeed(GUEST_KEY_SEED), { nkey: nkey.text, name: 'guest', account: GUEST_ACCOUNT, nowS, expiresS: nowS + GUEST_LIFE_S })
}

/** `authenticator` of a NATS connection. `jwt` is asked at each attempt to connect. A server without accounts sends no nonce and looks at nothing. */
export function natsAuthenticator(nkey: Nkey, jwt: () => string): (nonce?: string) => { jwt: string, sig?: string } {
  return nonce => ({ jwt: jwt(), ...(nonce !== undefined && nonce !== '' && { sig: nkey.sign(Buffer.from(nonce)).toString('base64url') }) })
}

/**
 * The claims of a JWT that the key in its `iss` signed; whether that key may is the caller's to say. Any text: throws
 * `CMESH_IAM_KEY`.
 */
export function decodeNatsJwt(text: string): NatsClaims {
  const parts = text.length > MOST_CHARACTERS ? [] : text.split('.')
  const [header, payload, signature] = parts as [string, string, string]
  if (parts.length !== 3 || header !== HEADER) throw refused('it is no JWT of NATS')
  const claims = claimsOf(payload)
  const issuer = readNkey(claims.nats.type === 'user' ? 'account' : 'operator', claims.iss)
  if (!issuer.verify(Buffer.from(`${header}.${payload}`), Buffer.from(signature, 'base64url'))) throw refused('its signature is wrong')
  return claims
}

function claimsOf(payload: string): NatsClaims {
  let value: unknown
  try {
    value = JSON.parse(Buffer.from(payload, 'base64url').toString('utf8'))
  } catch (cause) {
    throw refused('its claims are not JSON', cause)
  }
  if (!isRecord(value) || !isRecord(value['nats'])) throw refused('its claims are no object')
  const { iat, exp, iss, sub, name } = value
  const { type } = value['nats']
  const whole = (one: unknown): boolean => Number.isSafeInteger(one)
  if (!whole(iat) || (exp !== undefined && !whole(exp))) throw refused('its times are no whole seconds')
  if (typeof iss !== 'string' || typeof sub !== 'string' || typeof name !== 'string') throw refused('iss, sub or name is missing')
  if (type !== 'operator' && type !== 'account' && type !== 'user') throw refused('it is of no type that is known')
  readNkey(type, sub)
  return value as unknown as NatsClaims
}

function scopeClaims(scope: NatsScope): Record<string, unknown> {
  const template = {
    pub: { allow: scope.publish },
    sub: { allow: scope.subscribe },
    ...OPEN,
    ...(scope.subscriptions !== undefined && { subs: scope.subscriptions }),
    ...(scope.payloadBytes !== undefined && { payload: scope.payloadBytes }),
    allowed_connection_types: ['STANDARD'],
  }
  return { kind: 'user_scope', key: scope.key, role: scope.role, template }
}

function userHead(user: NatsUser): Record<string, unknown> {
  return { iat: user.nowS, ...(user.expiresS !== undefined && { exp: user.expiresS }), name: user.name, sub: user.nkey }
}

/** `jti` is the hash of the other claims, as `nsc` makes it; the server does not look. */
function signed(issuer: Nkey, claims: Record<string, unknown>): string {
  const body = { ...claims, iss: issuer.text }
  const jti = base32nopad.encode(createHash('sha512-256').update(JSON.stringify(body)).digest())
  const text = `${HEADER}.${encoded({ ...body, jti })}`
  return `${text}.${issuer.sign(Buffer.from(text)).toString('base64url')}`
}

function encoded(value: unknown): string {
  return Buffer.from(JSON.stringify(value)).toString('base64url')
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

function refused(reason: string, cause?: unknown): CMeshError {
  return new CMeshError('CMESH_IAM_KEY', { reason }, cause === undefined ? undefined : { cause })
}
