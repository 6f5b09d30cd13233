/** What the bodies of orders on rights must look like: JSON objects with exactly the named members. Throws `CMESH_FRAME_MALFORMED` else. */
import { CMeshError } from '../../cmtp/errors.ts'
import { isDid } from '../../cmtp/identity/did.ts'
import { isCommitment } from '../../cmtp/identity/rotation.ts'
import { jsonBody } from '../call.ts'
import type { Condition } from './conditions.ts'
import { RECORD_LIMITS } from './records.ts'

type Body = Readonly<Record<string, unknown>>

const SID = /^[A-Za-z0-9_-]{8,64}$/
const JTI = /^[A-Za-z0-9_-]{22}$/
const SEED = /^[0-9a-f]{32}$/
/** Characters of a text of an attribute. */
const TEXT = 256

export interface GrantRequest extends Condition {
  readonly did: string
  readonly permission: string
  /** Of the configuration: the grant's id, which stays the same from one start to the next. */
  readonly seed?: string
}

export function readGrant(body: Uint8Array): GrantRequest {
  const shape = '{"did", "permission", "notBefore"?, "notAfter"?, "aal"?, "attribute"?: {"id", "value"?, "issuer"}}'
  const value = read(body, shape, ['did', 'permission'], ['notBefore', 'notAfter', 'aal', 'attribute', 'seed'])
  const { did, permission, notBefore, notAfter, aal, attribute, seed } = value
  if (!isDidText(did) || typeof permission !== 'string' || !isTime(notBefore) || !isTime(notAfter)) throw malformed(shape)
  if ((aal !== undefined && aal !== 1 && aal !== 2) || (seed !== undefined && !isText(seed, SEED))) throw malformed(shape)
  return {
    did, permission, ...(notBefore !== undefined && { notBefore }), ...(notAfter !== undefined && { notAfter }),
    ...(aal !== undefined && { aal }), ...(attribute !== undefined && { attribute: attributeOf(attribute, shape) }), ...(seed !== undefined && { seed }),
  }
}

function attributeOf(value: unknown, shape: string): NonNullable<Condition['attribute']> {
  const { id, value: wanted, issuer, ...more } = (typeof value === 'object' && value !== null ? value : {}) as Record<string, unknown>
  const short = (text: unknown): text is string => typeof text === 'string' && text.length > 0 && text.length <= TEXT
  if (!short(id) || !isDidText(issuer) || (wanted !== undefined && !short(wanted)) || Object.keys(more).length > 0) throw malformed(shape)
  return { id, ...(wanted !== undefined && { value: wanted }), issuer }
}

export function readUngrant(body: Uint8Array): { readonly did: string, readonly id?: string, readonly permission?: string, readonly all?: true } {
  const shape = '{"did", and one of "id", "permission", "all": true}'
  const { did, id, permission, all } = read(body, shape, ['did'], ['id', 'permission', 'all'])
  const given = [id, permission, all].filter(each => each !== undefined)
  if (!isDidText(did) || given.length !== 1) throw malformed(shape)
  if (typeof id === 'string') return { did, id }
  if (typeof permission === 'string') return { did, permission }
  if (all === true) return { did, all }
  throw malformed(shape)
}

export function readBan(body: Uint8Array): { readonly did?: string, readonly sid?: string, readonly reason: string } {
  const shape = `{"did" or "sid", "reason"?: at most ${RECORD_LIMITS.reasonCharacters} characters}`
  const { did, sid, reason = '' } = read(body, shape, [], ['did', 'sid', 'reason'])
  if (typeof reason !== 'string' || reason.length > RECORD_LIMITS.reasonCharacters) throw malformed(shape)
  if (isDidText(did) && sid === undefined) return { did, reason }
  if (isText(sid, SID) && did === undefined) return { sid, reason }
  throw malformed(shape)
}

export function readCapability(body: Uint8Array): readonly string[] {
  const shape = '{"links": [text…]}'
  const { links } = read(body, shape, ['links'], [])
  if (!Array.isArray(links) || !links.every(link => typeof link === 'string')) throw malformed(shape)
  return links
}

export function readUncap(body: Uint8Array): { readonly jti: string } {
  const shape = '{"jti"}'
  const { jti } = read(body, shape, ['jti'], [])
  if (!isText(jti, JTI)) throw malformed(shape)
  return { jti }
}

export function readPrepare(body: Uint8Array): { readonly mesh: string, readonly next: string } {
  const shape = '{"mesh", "next": SHA-256 of a DID in base64url}'
  const { mesh, next } = read(body, shape, ['mesh', 'next'], [])
  if (!isDidText(mesh) || !isCommitment(next)) throw malformed(shape)
  return { mesh, next }
}

export function readRotate(body: Uint8Array): { readonly mesh: string, readonly old: string, readonly next: string } {
  const shape = '{"mesh", "old", "next": SHA-256 of a DID in base64url}'
  const { mesh, old, next } = read(body, shape, ['mesh', 'old', 'next'], [])
  if (!isDidText(mesh) || !isDidText(old) || !isCommitment(next)) throw malformed(shape)
  return { mesh, old, next }
}

function read(body: Uint8Array, shape: string, needed: readonly string[], optional: readonly string[]): Body {
  const value = jsonBody(body, shape)
  const names = Object.keys(value)
  if (!needed.every(name => names.includes(name)) || !names.every(name => needed.includes(name) || optional.includes(name))) throw malformed(shape)
  return value
}

function isDidText(value: unknown): value is string {
  return typeof value === 'string' && isDid(value)
}

function isTime(value: unknown): value is number | undefined {
  return value === undefined || (Number.isSafeInteger(value) && (value as number) >= 0)
}

function isText(value: unknown, pattern: RegExp): value is string {
  return typeof value === 'string' && pattern.test(value)
}

function malformed(shape: string): CMeshError {
  return new CMeshError('CMESH_FRAME_MALFORMED', { offset: 0, expected: `a JSON object as body: ${shape}` })
}
