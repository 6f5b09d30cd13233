/** How names stand in the system space: a record per name in normal form, and a count per owner. */
import type { SignableNameRecord } from '../../cmtp/identity/name-record.ts'

/** What `0xR:resolve:<name>` answers. */
export interface RegisteredName extends SignableNameRecord {
  readonly registeredAtMs: number
  /** Log time from which the name no longer resolves. */
  readonly expiresAtMs: number
  /** The owner's signature over {name, target, owner, sequence}, base64url. */
  readonly signature: string
  /** Of an answer: which DID owns it today, where one took the place of `owner`. */
  readonly holder?: string
}

/** How long a registration lasts: 365 days. */
export const TERM_MS = 365 * 24 * 60 * 60 * 1000
/** How long after its end the owner alone may renew: 30 days. */
export const GRACE_MS = 30 * 24 * 60 * 60 * 1000

type Records = { get(key: string): Uint8Array | undefined }

export function nameKey(normal: string): string {
  return `name/${normal}`
}

/** Names one DID owns, as decimal text. */
export function ownedKey(did: string): string {
  return `owned/${did}`
}

/** The registered name a skeleton belongs to; kept only where the skeleton differs from the name. */
export function skeletonKey(skeleton: string): string {
  return `skeleton/${skeleton}`
}

export function decodeName(bytes: Uint8Array): RegisteredName {
  return JSON.parse(Buffer.from(bytes).toString('utf8')) as RegisteredName
}

export function readName(system: Records, normal: string): RegisteredName | undefined {
  const bytes = system.get(nameKey(normal))
  return bytes === undefined ? undefined : decodeName(bytes)
}

export function readText(system: Records, key: string): string | undefined {
  const bytes = system.get(key)
  return bytes === undefined ? undefined : Buffer.from(bytes).toString('utf8')
}
