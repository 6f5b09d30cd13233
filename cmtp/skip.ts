/**
 * A skip: the operator's word that one entry of the log, which no node can apply, is passed. It names the entry by its place and the SHA-256
 * of its bytes, so that it is good for that entry alone. Signed by the operator's key over `CMesh/1 skip\n` and the canonical JSON of the
 * rest. It is written for the place where a node halted, which the node notes for it.
 */
import { CMeshError } from './errors.ts'
import { canonicalJson } from './identity/canonical-json.ts'
import { isDid } from './identity/did.ts'
import { PublicKey, type KeyPair } from './identity/keys.ts'

/** An entry of the log: its place, and the SHA-256 of its bytes as 64 lower-case hex digits. */
export interface EntryName {
  /** DIDs of the mesh, and of who operates it. */
  readonly mesh: string
  readonly operator: string
  readonly epoch: number
  readonly seq: number
  readonly hash: string
}

/** Where a node halted, and why. */
export interface Halt extends EntryName {
  readonly v: 1
  /** Of the error. */
  readonly code: string
  readonly reason: string
}

export interface Skip extends EntryName {
  readonly v: 1
  /** Why it is passed, in the operator's words; 1 to 300 characters. */
  readonly reason: string
  /** base64url. */
  readonly signature: string
}

/** In a data directory: where its node halted, and the skips that it takes up when it starts. */
export const HALT_FILE = 'halted.json'
export const SKIP_DIRECTORY = 'skips'

const LONGEST_REASON = 300
const HASH = /^[0-9a-f]{64}$/

/** Throws `CMESH_STATE_SKIP` where `key` is not the operator's, or the reason is none. */
export function signSkip({ mesh, operator, epoch, seq, hash }: EntryName, reason: string, key: KeyPair): Skip {
  if (key.did !== operator) throw refused(`${operator} operates the mesh, and ${key.did} was to sign`)
  const unsigned = { v: 1 as const, mesh, operator, epoch, seq, hash, reason }
  return checkSkip({ ...unsigned, signature: key.sign(signedBytes(unsigned)).toString('base64url') })
}

/** A value read from somewhere as a skip, once its form and its signature hold. Whether who signed operates the mesh is for who knows the mesh. Throws `CMESH_STATE_SKIP`. */
export function checkSkip(value: unknown): Skip {
  const { signature, reason, ...entry } = objectOf(value)
  checkEntry(entry)
  if (typeof reason !== 'string' || reason.length === 0 || reason.length > LONGEST_REASON) throw refused(`its reason has not 1 to ${LONGEST_REASON} characters`)
  if (typeof signature !== 'string') throw refused('it is not signed')
  const bytes = Buffer.from(signature, 'base64url')
  const unsigned = { ...entry, reason } as Omit<Skip, 'signature'>
  if (bytes.toString('base64url') !== signature || !PublicKey.fromDid(unsigned.operator).verify(signedBytes(unsigned), bytes)) {
    throw refused(`${unsigned.operator} did not sign it`)
  }
  return { ...unsigned, signature }
}

/** What a node noted of its halt. Throws `CMESH_STATE_SKIP`. */
export function checkHalt(value: unknown): Halt {
  const { code, reason, ...entry } = objectOf(value)
  checkEntry(entry)
  if (typeof code !== 'string' || typeof reason !== 'string') throw refused('the place where the node halted was not noted')
  return { ...entry, code, reason } as unknown as Halt
}

function checkEntry({ v, mesh, operator, epoch, seq, hash, ...more }: Record<string, unknown>): void {
  const named = [mesh, operator].every(did => typeof did === 'string' && isDid(did)) && [epoch, seq].every(count => Number.isSafeInteger(count) && (count as number) >= 0)
  if (v !== 1 || !named || typeof hash !== 'string' || !HASH.test(hash) || Object.keys(more).length > 0) throw refused('it names no entry of a log')
}

function objectOf(value: unknown): Record<string, unknown> {
  if (typeof value !== 'object' || value === null) throw refused('it is no object')
  return value as Record<string, unknown>
}

function signedBytes(skip: Omit<Skip, 'signature'>): Buffer {
  return Buffer.from(`CMesh/1 skip\n${canonicalJson(skip)}`, 'utf8')
}

function refused(reason: string): CMeshError {
  return new CMeshError('CMESH_STATE_SKIP', { reason })
}
