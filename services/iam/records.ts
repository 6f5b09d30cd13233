/**
 * How rights stand in the system space, and nothing of what follows from them (`rights.ts`):
 *
 *     grants/<did>    {"seq", "grants": [Grant…]}      what was granted to a DID
 *     cap/<did>       {"caps": [HeldCapability…]}      capabilities that a DID presented
 *     uncap/<did>     {"jtis": [jti…]}                 links that a DID takes back: its own, and those below them
 *     uncap/<line>/<jti>  seq                          the same, to be found by one look: `line` is the first DID of whose line that DID is
 *     banned/<did>    {"seq", "timeMs", "by", "reason"}
 *     revoked         {"<sid>": log time in ms}        sessions ended by order, for an hour
 *     seeded/<id>     seq                              grants of the configuration that were taken back
 *     grantseq        seq                              last block that changed any of these
 *     prepared/, rotated/, rotatedto/, heir/           whose place a DID took: `rotations.ts`
 *     recheck         seq                              from which block on every transaction is checked against them
 *
 * Written by transactions alone, so every replica holds the same.
 */
import type { Condition } from './conditions.ts'

export interface Records { get(key: string): Uint8Array | undefined }

export interface Grant extends Condition {
  /** The transaction that made it; for one of the configuration, a hash of what it says. */
  readonly id: string
  /** One permission, as `formatPermission` writes it. */
  readonly perm: string
  /** DID of who granted it. */
  readonly by: string
  readonly seq: number
  readonly timeMs: number
}

export interface GrantsRecord { readonly seq: number, readonly grants: readonly Grant[] }

export interface HeldLink {
  readonly jti: string
  /** DID of its issuer. */
  readonly by: string
}

export interface HeldCapability {
  /** Whose rights these are. */
  readonly root: string
  readonly perms: readonly string[]
  /** Seconds since 1970. */
  readonly exp: number
  /** From the root to the holder. */
  readonly links: readonly HeldLink[]
  readonly importedSeq: number
}

export interface CapabilitiesRecord { readonly caps: readonly HeldCapability[] }

export interface UncapRecord { readonly jtis: readonly string[] }

export interface BanRecord {
  readonly seq: number
  readonly timeMs: number
  /** DID of who banned. */
  readonly by: string
  readonly reason: string
}

/** Most entries of one record. */
export const RECORD_LIMITS = Object.freeze({ grants: 256, capabilities: 64, capabilityPermissions: 256, uncaps: 1_024, sessions: 4_096, reasonCharacters: 256 })
/** How long a session that was ended by order is remembered, in ms: longer than any of its tokens lasts. */
export const REVOKED_MS = 3_600_000

export const GRANTSEQ_KEY = 'grantseq'
export const RECHECK_KEY = 'recheck'
export const REVOKED_KEY = 'revoked'

const PREFIXES = ['grants/', 'cap/', 'uncap/', 'banned/', 'rotated/'] as const

export const grantsKey = (did: string): string => `grants/${did}`
export const capabilitiesKey = (did: string): string => `cap/${did}`
export const uncapKey = (did: string): string => `uncap/${did}`
export const takenBackKey = (line: string, jti: string): string => `uncap/${line}/${jti}`
export const bannedKey = (did: string): string => `banned/${did}`
export const seededKey = (id: string): string => `seeded/${id}`

/** The DID whose ban a key holds. */
export function bannedDid(key: string): string | undefined {
  return key.startsWith('banned/') ? key.slice('banned/'.length) : undefined
}

/** Whether a write to this key may change what somebody may do. */
export function isRightsKey(key: string): boolean {
  return key === REVOKED_KEY || PREFIXES.some(prefix => key.startsWith(prefix))
}

export function readRecord<T>(records: Records, key: string): T | undefined {
  const bytes = records.get(key)
  return bytes === undefined ? undefined : JSON.parse(Buffer.from(bytes).toString('utf8')) as T
}

/** Read before every transaction and hardly ever written: a record's bytes are replaced, never changed. */
const seqs = new WeakMap<Uint8Array, number>()

/** A number that stands in a record as text; 0 where there is none. */
export function readSeq(records: Records, key: string): number {
  const bytes = records.get(key)
  if (bytes === undefined) return 0
  let seq = seqs.get(bytes)
  if (seq === undefined) seqs.set(bytes, seq = Number(Buffer.from(bytes).toString('latin1')))
  return seq
}
