/**
 * Capabilities: rights that are handed on by file. A chain has 1 to 5 links, each a compact JWS (RFC 7515) by the DID key of who hands
 * on, each no wider than the one before it in address, action, expiry and depth. What the first issuer may not do itself, no chain
 * gives: that is looked at when the capability is used. This file makes and checks chains; it knows no state and no revocation.
 *
 *   header  {"alg":"EdDSA","typ":"cmesh-cap+jwt"}, byte for byte
 *   claims  canonical JSON {aud, dep, exp, iat, iss, jti, perms, prf?, sub}; prf = SHA-256 of the parent link's text, base64url
 *
 * One chain has one spelling: whatever `makeLink` would not write is refused.
 */
import { hash, randomBytes } from 'node:crypto'
import { CMeshError } from '../errors.ts'
import { formatPermission, isCovered, parsePermissions, type Permission } from '../permission.ts'
import { canonicalBytes, parseCanonicalJson } from './canonical-json.ts'
import { isDid } from './did.ts'
import { PublicKey, type KeyPair } from './keys.ts'

export const CAPABILITY_TYPE = 'cmesh-cap+jwt'
/** Links of a chain, and permissions and characters of a link, at most. */
export const CAPABILITY_LIMITS = Object.freeze({ links: 5, permissions: 32, characters: 8_192 })
/** How far ahead of the log's time a link may say it was made, in s. */
const SKEW_S = 60

const HEADER = Buffer.from(JSON.stringify({ alg: 'EdDSA', typ: CAPABILITY_TYPE })).toString('base64url')
const JTI = /^[A-Za-z0-9_-]{22}$/
const HASH = /^[A-Za-z0-9_-]{43}$/
const CLAIMS = ['aud', 'dep', 'exp', 'iat', 'iss', 'jti', 'perms', 'sub']

/** One link as it was read. */
export interface CapabilityLink {
  /** DID of who hands on, and of whom to. */
  readonly iss: string
  readonly sub: string
  /** The mesh's DID. */
  readonly aud: string
  readonly jti: string
  /** Seconds since 1970. */
  readonly iat: number
  readonly exp: number
  readonly perms: readonly string[]
  /** How many links may still follow, 0 to 4. */
  readonly dep: number
  /** Of the link before: SHA-256 of its text, base64url. */
  readonly prf?: string
}

/** What a whole chain says. */
export interface Capability {
  /** Whose rights these are. */
  readonly root: string
  /** Who may use them. */
  readonly holder: string
  readonly permissions: readonly Permission[]
  /** Seconds since 1970. */
  readonly exp: number
  readonly links: readonly CapabilityLink[]
}

export interface LinkOptions {
  readonly issuer: KeyPair
  /** DID of whom it is handed to. */
  readonly to: string
  /** The mesh's DID. */
  readonly mesh: string
  /** 1 to 32. */
  readonly permissions: readonly Permission[]
  /** Seconds since 1970. */
  readonly exp: number
  /** How many links may follow, 0 to 4. */
  readonly depth: number
  /** Now, in seconds since 1970. */
  readonly nowS: number
  /** The text of the link that this one continues. */
  readonly parent?: string
}

/** The text of one link. Says nothing of whether it makes a chain that holds: ask `checkChain`. */
export function makeLink({ issuer, to, mesh, permissions, exp, depth, nowS, parent }: LinkOptions): string {
  const claims: CapabilityLink = {
    iss: issuer.did, sub: to, aud: mesh, jti: freshId(), iat: nowS, exp,
    perms: permissions.map(formatPermission), dep: depth, ...(parent !== undefined && { prf: hash('sha256', parent, 'base64url') }),
  }
  const signed = `${HEADER}.${canonicalBytes(claims).toString('base64url')}`
  return `${signed}.${issuer.sign(Buffer.from(signed)).toString('base64url')}`
}

/** The claims of one link, whose signature holds. Throws `CMESH_IAM_CAPABILITY`. */
export function readLink(text: string, place = 1): CapabilityLink {
  const [header, payload = '', signature = '', ...more] = text.length > CAPABILITY_LIMITS.characters ? [] : text.split('.')
  if (header !== HEADER || more.length > 0) throw refused(place, `it is no ${CAPABILITY_TYPE}`)
  const claims = claimsOf(payload, place)
  const bytes = Buffer.from(signature, 'base64url')
  const holds = bytes.toString('base64url') === signature && PublicKey.fromDid(claims.iss).verify(Buffer.from(`${header}.${payload}`), bytes)
  if (!holds) throw refused(place, 'its signature is not its issuer\'s')
  return claims
}

/**
 * What the chain hands to whom, for the mesh with the DID `mesh` at `nowS` seconds since 1970. Throws `CMESH_IAM_CAPABILITY` naming the link,
 * counted from 1, for everything the head of this file says a chain is not.
 */
export function checkChain(texts: readonly string[], { mesh, nowS }: { readonly mesh: string, readonly nowS: number }): Capability {
  if (texts.length === 0 || texts.length > CAPABILITY_LIMITS.links) {
    throw new CMeshError('CMESH_IAM_CAPABILITY', { reason: `a chain has 1 to ${CAPABILITY_LIMITS.links} links, not ${texts.length}` })
  }
  const links: CapabilityLink[] = []
  const seen = new Set<string>()
  let permissions: readonly Permission[] = []
  for (const [i, text] of texts.entries()) {
    const place = i + 1
    const link = readLink(text, place)
    const before = links.at(-1)
    if (link.aud !== mesh) throw refused(place, 'it is meant for another mesh')
    if (link.iss === link.sub) throw refused(place, 'nobody hands on to itself')
    if (link.exp <= nowS) throw refused(place, 'it has expired')
    if (link.iat > nowS + SKEW_S) throw refused(place, 'it was made in the future')
    if (before === undefined) {
      if (link.prf !== undefined) throw refused(place, 'it continues another link, which is missing')
      seen.add(link.iss)
    } else {
      if (link.prf !== hash('sha256', texts[i - 1] as string, 'base64url')) throw refused(place, 'it does not continue the link before it')
      if (link.iss !== before.sub) throw refused(place, 'its issuer does not hold the link before it')
      if (link.exp > before.exp) throw refused(place, 'it lasts longer than the link before it')
      if (link.dep >= before.dep) throw refused(place, 'the link before it may not be handed on that far')
    }
    if (seen.has(link.sub)) throw refused(place, 'it hands back to who stands in the chain already')
    seen.add(link.sub)
    const own = permissionsOf(link.perms, place)
    if (before !== undefined && !own.every(permission => isCovered(permission, permissions))) throw refused(place, 'it is wider than the link before it')
    permissions = own
    links.push(link)
  }
  const last = links.at(-1)
  return { root: (links[0] as CapabilityLink).iss, holder: last.sub, permissions, exp: last.exp, links }
}

function claimsOf(payload: string, place: number): CapabilityLink {
  const bytes = Buffer.from(payload, 'base64url')
  let value: unknown
  try {
    value = parseCanonicalJson(bytes)
  } catch (cause) {
    if (!(cause instanceof CMeshError)) throw cause
    throw refused(place, 'its claims are not canonical JSON', cause)
  }
  if (bytes.toString('base64url') !== payload || typeof value !== 'object' || value === null || Array.isArray(value)) {
    throw refused(place, 'its claims are not canonical JSON')
  }
  const claims = value as Partial<Record<keyof CapabilityLink, unknown>>
  const names = Object.keys(claims)
  if (!CLAIMS.every(name => names.includes(name)) || !names.every(name => CLAIMS.includes(name) || name === 'prf')) throw refused(place, 'it has other claims than a link has')
  const { iss, sub, aud, jti, iat, exp, perms, dep, prf } = claims
  const dids = [iss, sub, aud].every(did => typeof did === 'string' && isDid(did))
  const times = [iat, exp].every(time => Number.isSafeInteger(time) && (time as number) > 0)
  const ids = typeof jti === 'string' && JTI.test(jti) && (prf === undefined || (typeof prf === 'string' && HASH.test(prf)))
  const depth = Number.isInteger(dep) && (dep as number) >= 0 && (dep as number) < CAPABILITY_LIMITS.links
  const texts = Array.isArray(perms) && perms.length > 0 && perms.length <= CAPABILITY_LIMITS.permissions && perms.every(text => typeof text === 'string')
  if (!dids || !times || !ids || !depth || !texts) throw refused(place, 'a claim of it is not valid')
  return claims as CapabilityLink
}

function permissionsOf(texts: readonly string[], place: number): readonly Permission[] {
  try {
    return parsePermissions(texts)
  } catch (cause) {
    if (!(cause instanceof CMeshError)) throw cause
    throw refused(place, `its permissions are not valid: ${formatReason(cause)}`, cause)
  }
}

function formatReason(cause: CMeshError): string {
  return String(cause.detail['reason'] ?? cause.code)
}

function refused(place: number, reason: string, cause?: unknown): CMeshError {
  return new CMeshError('CMESH_IAM_CAPABILITY', { reason: `link ${place}: ${reason}` }, cause === undefined ? undefined : { cause })
}

// --- the file

/** What a capability's file holds. */
export interface CapabilityFile {
  readonly cmesh: 'capability'
  readonly version: 1
  readonly links: readonly string[]
}

export function formatCapabilityFile(links: readonly string[]): string {
  const file: CapabilityFile = { cmesh: 'capability', version: 1, links }
  return `${JSON.stringify(file, undefined, 2)}\n`
}

/** The links of a capability's file. Throws `CMESH_IAM_CAPABILITY` for a text that is none. */
export function parseCapabilityFile(text: string): readonly string[] {
  let value: unknown
  try {
    value = JSON.parse(text)
  } catch {
    value = undefined
  }
  const { cmesh, version, links } = (typeof value === 'object' && value !== null ? value : {}) as Record<string, unknown>
  if (cmesh !== 'capability' || version !== 1 || !Array.isArray(links) || !links.every(link => typeof link === 'string')) {
    throw new CMeshError('CMESH_IAM_CAPABILITY', { reason: 'the file is no capability of version 1' })
  }
  return links
}

/** 128 random bits. It does not begin with a dash: it is typed as a word of a command line. */
function freshId(): string {
  let id: string
  do id = randomBytes(16).toString('base64url'); while (id.startsWith('-'))
  return id
}
