/**
 * A member's claim: that it holds the log up to a position, with this chain value, at this level of durability. Chain values are
 * cumulative, so that one claim covers every block up to its position; claims of a quorum that agree are what confirms a write, and what
 * shows it to who was not there. Signed by the member's key over `CMesh/1 claim\n` and the canonical JSON of the rest.
 */
import { CMeshError } from './errors.ts'
import { canonicalBytes, canonicalJson, parseCanonicalJson } from './identity/canonical-json.ts'

/** What a member's own copy survives: nothing, kill −9 of every process, a power cut. */
export type ClaimLevel = 'memory' | 'os' | 'disk'

export interface Claim {
  readonly v: 1
  /** DID of the member. */
  readonly did: string
  readonly epoch: number
  readonly seq: number
  /** 64 lower-case hex digits. */
  readonly chain: string
  readonly level: ClaimLevel
  /** The last block whose events are all out, as far as this member knows. */
  readonly out: number
  /** The member's clock, ms since 1970. */
  readonly timeMs: number
  /** Of its software. */
  readonly version: string
  /** base64url. */
  readonly signature: string
}

/** Largest message that is looked at, in bytes. */
const LARGEST = 1_024
const LEVELS: readonly unknown[] = ['memory', 'os', 'disk']
const CHAIN = /^[0-9a-f]{64}$/

export function signClaim(claim: Omit<Claim, 'v' | 'signature'>, key: { readonly sign: (bytes: Uint8Array) => Uint8Array }): Claim {
  const unsigned = { v: 1 as const, ...claim }
  return { ...unsigned, signature: Buffer.from(key.sign(claimBytes(unsigned))).toString('base64url') }
}

export function encodeClaim(claim: Claim): Buffer {
  return canonicalBytes(claim)
}

/** The claim in the bytes, its signature not looked at; `undefined` for anything else. Total. */
export function decodeClaim(data: Uint8Array): Claim | undefined {
  if (data.length > LARGEST) return undefined
  let value: unknown
  try {
    value = parseCanonicalJson(data)
  } catch (error) {
    if (error instanceof CMeshError) return undefined
    throw error
  }
  if (typeof value !== 'object' || value === null) return undefined
  const { v, did, epoch, seq, chain, level, out, timeMs, version, signature, ...more } = value as Record<string, unknown>
  const sound = v === 1 && typeof did === 'string' && [epoch, seq, out, timeMs].every(isCount) && typeof chain === 'string' && CHAIN.test(chain)
    && LEVELS.includes(level) && typeof version === 'string' && typeof signature === 'string' && Object.keys(more).length === 0
  return sound ? value as unknown as Claim : undefined
}

/** Whether the member that it names signed it. `verify` holds the keys. */
export function verifyClaim({ signature, ...unsigned }: Claim, verify: (did: string, bytes: Uint8Array, signature: Uint8Array) => boolean): boolean {
  const bytes = Buffer.from(signature, 'base64url')
  // In its one spelling.
  return bytes.toString('base64url') === signature && verify(unsigned.did, claimBytes(unsigned), bytes)
}

function claimBytes(claim: Omit<Claim, 'signature'>): Buffer {
  return Buffer.from(`CMesh/1 claim\n${canonicalJson(claim)}`, 'utf8')
}

function isCount(value: unknown): boolean {
  return Number.isSafeInteger(value) && (value as number) >= 0
}
