/**
 * The messages of the handshake, call → answer → confirm → grant → consent → session, and those of a session's life:
 * refresh and hangup. All are canonical JSON. This file owns their fields and reads them; every reader is total and refuses a field
 * that is missing, malformed or unknown with `CMESH_IAM_HANDSHAKE`. Whether a signature holds is `handshake.ts`'s to say.
 */
import { CMeshError } from '../errors.ts'
import { MAX_PERMISSIONS } from '../permission.ts'
import { parseCanonicalJson } from './canonical-json.ts'
import type { Certificate } from './certificate.ts'
import { isDid } from './did.ts'
import type { KeySet } from './key-set.ts'

/** What a client may ask of IAM by `0xIW:<action>`. */
export type HandshakeAction = 'call' | 'confirm' | 'consent' | 'refresh' | 'hangup'

/** Largest body of one step in bytes: room for the longest token, and for a proof with its presentations. */
export const HANDSHAKE_BODY_BYTES = 49_152
/** Largest challenge of a provider, in characters. */
export const CHALLENGE_CHARACTERS = 4_096
/** Longest cookie of an answer, in characters: room for the longest wishes that a token can hold. */
export const COOKIE_CHARACTERS = 8_192
/** Most keys that one key set names. */
export const KEY_SET_KEYS = 16

/** Client: opens a handshake. */
export interface CallMessage {
  readonly step: 'call'
  readonly version: 1
  /** The provider the client wants to prove itself by, or `any`. */
  readonly provider: string
  /** The session's public key, base64url. */
  readonly key: string
  /** Texts of the permissions wanted; empty means all that is granted. */
  readonly want: readonly string[]
  /** 16 random bytes, base64url: makes every answer fresh. */
  readonly nonce: string
  /** The mesh the client means, when it knows: a mesh with another DID refuses. */
  readonly audience?: string
  /** The session of a gateway, whose frames may carry this session's requests too. */
  readonly via?: string
  /** The nkey (`U…`) that the session's own connection will log in with; its possession is proven by the confirm. */
  readonly nkey?: string
}

/** IAM: what the client must prove, signed by the mesh or by a node that it certified. */
export interface AnswerMessage {
  readonly step: 'answer'
  readonly handshake: string
  /** SHA-256 of the call. */
  readonly call: string
  /** 32 random bytes. */
  readonly nonce: string
  /** The mesh's DID. */
  readonly audience: string
  /** The node that keeps this handshake; the rest goes there (`helloSubject`). */
  readonly node: string
  readonly provider: string
  readonly challenge: string
  readonly ui?: { readonly kind: 'link' | 'qr', readonly value: string }
  /** By the node's clock, ms since 1970. */
  readonly expires: number
  /** The handshake's state, sealed for IAM alone, base64url; the confirm gives it back. */
  readonly cookie?: string
  /** Of the node that answers, which signs in place of the mesh. Absent where the node's key is the mesh's. */
  readonly certificate?: Certificate
  readonly signature: string
}

/** Client: the proof, signed by the session key to show that it is held. */
export interface ConfirmMessage {
  readonly step: 'confirm'
  readonly handshake: string
  readonly nonce: string
  readonly audience: string
  readonly transcript: string
  /** For the provider; any JSON. */
  readonly proof: unknown
  /** The cookie of the answer, as it came. */
  readonly cookie?: string
  /** By the nkey of the call over the transcript, base64url; there when the call named one. */
  readonly possession?: string
  readonly signature: string
}

/** IAM: exactly what a consent will grant, signed as the answer was. */
export interface GrantMessage {
  readonly step: 'grant'
  readonly handshake: string
  readonly audience: string
  readonly sub: string
  /** Texts of permissions, written out. */
  readonly perms: readonly string[]
  /** Attributes the mesh will keep. */
  readonly claims: readonly { readonly id: string, readonly value: string, readonly issuer: string }[]
  readonly purpose: string
  /** The session of a gateway, whose frames may carry requests of this one. */
  readonly via?: string
  readonly lifetimeMs: number
  readonly amr: readonly string[]
  readonly aal: 0 | 1 | 2
  readonly signature: string
}

/** Client: agrees to one grant, signed by the session key. */
export interface ConsentMessage {
  readonly step: 'consent'
  readonly handshake: string
  /** SHA-256 of the grant. */
  readonly grant: string
  readonly signature: string
}

/** IAM: the session. The token carries its own signature. */
export interface SessionMessage {
  readonly step: 'session'
  readonly sid: string
  readonly token: string
  /** By the node's clock, ms since 1970. */
  readonly issued: number
  readonly expires: number
  /** What the session's own connection logs in with, where the broker has accounts; `expires` in ms since 1970. */
  readonly connection?: { readonly jwt: string, readonly expires: number }
  /** The keys that the node signs tokens with, under its signature. */
  readonly keys?: KeySet
}

/** Client: a new token for a session, by a fresh signature of the session key. `hangup` ends it the same way. */
export interface RenewalMessage {
  readonly step: 'refresh' | 'hangup'
  readonly token: string
  /** The session's public key, base64url; the token holds its thumbprint. */
  readonly key: string
  /** By the client's clock, ms since 1970. */
  readonly issued: number
  readonly signature: string
}

/** IAM: the session is over. */
export interface ByeMessage {
  readonly step: 'bye'
  readonly sid: string
}

type Check = (value: unknown) => boolean
type Shape<T> = { readonly [K in keyof T]-?: Check }

const isText = (limit: number): Check => value => typeof value === 'string' && value.length > 0 && value.length <= limit
const isTexts = (count: number, limit: number): Check => value =>
  Array.isArray(value) && value.length <= count && value.every(isText(limit))
const isTime: Check = value => Number.isSafeInteger(value) && (value as number) >= 0
const isOneOf = (...words: readonly unknown[]): Check => value => words.includes(value)
const isAnyDid: Check = value => typeof value === 'string' && isDid(value)
/** base64url of exactly so many bytes, in its one spelling. */
const isBytes = (length: number): Check => value => {
  if (typeof value !== 'string' || value.length > 128) return false
  const bytes = Buffer.from(value, 'base64url')
  return bytes.length === length && bytes.toString('base64url') === value
}
const optional = (check: Check): Check => value => value === undefined || check(value)
const hasShape = (shape: Readonly<Record<string, Check>>): Check => value => isRecord(value)
  && Object.keys(value).every(key => Object.hasOwn(shape, key))
  && Object.entries(shape).every(([key, check]) => check(value[key]))

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

const isId = isBytes(16)
const isHash = isBytes(32)
const isSignature = isBytes(64)
/** base64url of any bytes, in its one spelling. */
const isBase64url = (limit: number): Check => value => typeof value === 'string' && value.length > 0 && value.length <= limit
  && Buffer.from(value, 'base64url').toString('base64url') === value
const isUserNkey: Check = value => typeof value === 'string' && /^U[A-Z2-7]{55}$/.test(value)
const isConnection = hasShape({ jwt: isText(4_096), expires: isTime })
const isVerificationKey = hasShape({ kid: isHash, x: isBytes(32), notAfter: isTime })
/** Its form; whether it is one is the signature's to say. */
export const isCertificate = hasShape({ v: isOneOf(1), mesh: isAnyDid, node: isAnyDid, issued: isTime, signature: isSignature })
export const isKeySet = hasShape({
  version: isOneOf(1), mesh: isAnyDid, certificate: optional(isCertificate), epoch: isTime, issued: isTime, signature: isSignature,
  keys: value => Array.isArray(value) && value.length > 0 && value.length <= KEY_SET_KEYS && value.every(isVerificationKey),
})
const isAttribute = hasShape({ id: isText(256), value: isText(4_096), issuer: isText(256) })

const CALL: Shape<CallMessage> = {
  step: isOneOf('call'), version: isOneOf(1), provider: isText(32), key: isBytes(32),
  want: isTexts(MAX_PERMISSIONS, 4_096), nonce: isBytes(16), audience: optional(isAnyDid), via: optional(isId),
  nkey: optional(isUserNkey),
}
const ANSWER: Shape<AnswerMessage> = {
  step: isOneOf('answer'), handshake: isId, call: isHash, nonce: isBytes(32), audience: isAnyDid, node: isText(256),
  provider: isText(32), challenge: isText(CHALLENGE_CHARACTERS),
  ui: optional(hasShape({ kind: isOneOf('link', 'qr'), value: isText(CHALLENGE_CHARACTERS) })),
  expires: isTime, cookie: optional(isBase64url(COOKIE_CHARACTERS)), certificate: optional(isCertificate), signature: isSignature,
}
const CONFIRM: Shape<ConfirmMessage> = {
  step: isOneOf('confirm'), handshake: isId, nonce: isBytes(32), audience: isAnyDid, transcript: isHash,
  proof: value => value !== undefined, cookie: optional(isBase64url(COOKIE_CHARACTERS)), possession: optional(isSignature), signature: isSignature,
}
const GRANT: Shape<GrantMessage> = {
  step: isOneOf('grant'), handshake: isId, audience: isAnyDid, sub: isAnyDid, perms: isTexts(65_536, 4_200),
  claims: value => Array.isArray(value) && value.every(isAttribute),
  purpose: isText(256), via: optional(isId), lifetimeMs: isTime, amr: isTexts(16, 32), aal: isOneOf(0, 1, 2), signature: isSignature,
}
const CONSENT: Shape<ConsentMessage> = { step: isOneOf('consent'), handshake: isId, grant: isHash, signature: isSignature }
const SESSION: Shape<SessionMessage> = {
  step: isOneOf('session'), sid: isId, token: isText(4_096), issued: isTime, expires: isTime,
  connection: optional(isConnection), keys: optional(isKeySet),
}
const RENEWAL: Shape<RenewalMessage> = {
  step: isOneOf('refresh', 'hangup'), token: isText(4_096), key: isBytes(32), issued: isTime, signature: isSignature,
}
const BYE: Shape<ByeMessage> = { step: isOneOf('bye'), sid: isId }

interface Messages {
  readonly call: CallMessage
  readonly answer: AnswerMessage
  readonly confirm: ConfirmMessage
  readonly grant: GrantMessage
  readonly consent: ConsentMessage
  readonly session: SessionMessage
  readonly refresh: RenewalMessage
  readonly hangup: RenewalMessage
  readonly bye: ByeMessage
}
export type Step = keyof Messages

const SHAPES: { readonly [S in Step]: Shape<Messages[S]> } = {
  call: CALL, answer: ANSWER, confirm: CONFIRM, grant: GRANT, consent: CONSENT,
  session: SESSION, refresh: RENEWAL, hangup: RENEWAL, bye: BYE,
}

/** The message of that step in the bytes. Throws `CMESH_IAM_HANDSHAKE`. */
export function readMessage<S extends Step>(step: S, body: Uint8Array): Messages[S] {
  let value: unknown
  try {
    value = parseCanonicalJson(body)
  } catch (cause) {
    if (!(cause instanceof CMeshError)) throw cause
    throw new CMeshError('CMESH_IAM_HANDSHAKE', { step, reason: 'its body is not canonical JSON' }, { cause })
  }
  if (!isRecord(value)) throw refused(step, 'its body is no object')
  const shape: Readonly<Record<string, Check>> = SHAPES[step]
  for (const key of Object.keys(value)) {
    if (!Object.hasOwn(shape, key)) throw refused(step, `the field ${key.slice(0, 32)} is not known`)
  }
  for (const [key, check] of Object.entries(shape)) if (!check(value[key])) throw refused(step, `the field ${key} is not valid`)
  if (value['step'] !== step) throw refused(step, `its body is a ${String(value['step'])}`)
  return value as unknown as Messages[S]
}

function refused(step: Step, reason: string): CMeshError {
  return new CMeshError('CMESH_IAM_HANDSHAKE', { step, reason })
}
