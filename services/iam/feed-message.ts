/**
 * What nodes of one mesh tell each other of sessions: what was revoked, and by which keys their tokens are signed. This file owns the form of
 * such a message, its signature and whose word counts: the mesh's own key, and a node that it certified, as long as that is a member.
 */
import { CMeshError } from '../../cmtp/errors.ts'
import { canonicalBytes, canonicalJson, parseCanonicalJson } from '../../cmtp/identity/canonical-json.ts'
import { speakerOf, type Certificate } from '../../cmtp/identity/certificate.ts'
import { signerOf, type KeySet } from '../../cmtp/identity/key-set.ts'
import type { KeyPair, PublicKey } from '../../cmtp/identity/keys.ts'
import { isCertificate, isKeySet, KEY_SET_KEYS } from '../../cmtp/identity/messages.ts'
import { TwoGenerations } from '../../cmtp/two-generations.ts'
import type { MemberKeySet } from './member-keys.ts'
import type { RevocationEntry } from './revocation-log.ts'

/** Largest message that is looked at, in bytes. */
const MESSAGE_BYTES = 65_536
const BOOT_CHARACTERS = 64
/** Certificates that are not verified again. */
const SPEAKERS = 64

export interface FeedMessage {
  readonly v: 1
  readonly mesh: string
  /** Of the node that speaks; absent where its key is the mesh's. */
  readonly certificate?: Certificate
  /** 16 random bytes of this run of the node, base64url. */
  readonly boot: string
  /** Rises by one with each message of a run to all; an answer has the number of the last one before it. */
  readonly n: number
  readonly timeMs: number
  readonly entries: readonly RevocationEntry[]
  /** The keys that the node signs tokens with. */
  readonly keys?: KeySet
  /** In an answer to `log`: what the node knows of the keys of others. */
  readonly members?: readonly MemberKeySet[]
  /** The node is not there any more. */
  readonly ends?: true
  /** Asks every other node: for all that was revoked, or for its keys alone. */
  readonly ask?: 'log' | 'keys'
  /** The last message of an answer, and what it answers. */
  readonly answers?: 'log' | 'keys'
  readonly signature: string
}

/** In whose name a node speaks. */
export interface Speaker {
  /** The node's own key pair. */
  readonly signer: KeyPair
  /** Default: none, and the key is the mesh's own. */
  readonly certificate?: Certificate | undefined
}

/** The DID of the mesh that a node speaks for. */
export function meshOf({ signer, certificate }: Speaker): string {
  return certificate?.mesh ?? signer.did
}

/** The bytes of a message to the other nodes. */
export function writeFeed(message: Omit<FeedMessage, 'v' | 'mesh' | 'certificate' | 'signature'>, speaker: Speaker): Uint8Array {
  const { signer, certificate } = speaker
  const unsigned = { v: 1 as const, mesh: meshOf(speaker), ...(certificate !== undefined && { certificate }), ...message }
  return canonicalBytes({ ...unsigned, signature: signer.sign(signedBytes(unsigned)).toString('base64url') })
}

/** Says whose word a message is. */
export class Believed {
  readonly #mesh: string
  readonly #own: string
  readonly #isMember: (did: string) => boolean
  /** By the whole certificate: each is verified once. */
  readonly #speakers = new TwoGenerations<string, PublicKey>({ entries: SPEAKERS })

  /** `isMember`: whether the node of that DID belongs to the mesh now. */
  constructor(speaker: Speaker, isMember: (did: string) => boolean) {
    this.#mesh = meshOf(speaker)
    this.#own = speaker.signer.did
    this.#isMember = isMember
  }

  /** The DID of the node that a message is by; `undefined` for one that does not count. Total. */
  nodeOf(message: FeedMessage): string | undefined {
    const { signature, ...unsigned } = message
    const { mesh, certificate, keys } = unsigned
    const node = certificate?.node ?? mesh
    if (mesh !== this.#mesh || (node !== this.#own && !this.#isMember(node))) return undefined
    const key = this.#keyOf(certificate)
    if (key === undefined || !key.verify(signedBytes(unsigned), Buffer.from(signature, 'base64url'))) return undefined
    // Nobody speaks for another's keys.
    return keys === undefined || (keys.mesh === mesh && signerOf(keys) === node) ? node : undefined
  }

  #keyOf(certificate: Certificate | undefined): PublicKey | undefined {
    const text = certificate === undefined ? '' : canonicalJson(certificate)
    const known = this.#speakers.get(text)
    if (known !== undefined) return known
    try {
      const key = speakerOf(this.#mesh, certificate)
      this.#speakers.set(text, key)
      return key
    } catch (error) {
      if (error instanceof CMeshError) return undefined
      throw error
    }
  }
}

/** The message in the bytes, its signature not looked at; `undefined` for anything else. Total. */
export function readFeed(data: Uint8Array): FeedMessage | undefined {
  if (data.length > MESSAGE_BYTES) return undefined
  let value: unknown
  try {
    value = parseCanonicalJson(data)
  } catch (error) {
    if (error instanceof CMeshError) return undefined
    throw error
  }
  if (!isRecord(value)) return undefined
  const { v, mesh, certificate, boot, n, timeMs, entries, keys, members, ends, ask, answers, signature, ...more } = value
  const sound = v === 1 && typeof mesh === 'string' && typeof boot === 'string' && boot.length <= BOOT_CHARACTERS && isCount(n) && isCount(timeMs) && typeof signature === 'string'
    && Array.isArray(entries) && entries.every(isRevocationEntry) && Object.keys(more).length === 0
    && (certificate === undefined || isCertificate(certificate)) && (keys === undefined || isKeySet(keys))
    && (members === undefined || (Array.isArray(members) && members.every(isMemberKeySet))) && (ends === undefined || ends === true)
    && [ask, answers].every(what => what === undefined || what === 'log' || what === 'keys')
  return sound ? value as unknown as FeedMessage : undefined
}

const ENTRY_TEXTS = ['sid', 'jti', 'sub', 'kid'] as const
const USER_NKEY = /^U[A-Z2-7]{55}$/

/** Whether a value read from somewhere is an entry: its fields and no others, and at least one that something can match. */
export function isRevocationEntry(value: unknown): value is RevocationEntry {
  if (!isRecord(value)) return false
  const { atMs, nkey, ...texts } = value
  return isCount(atMs) && (nkey === undefined || (typeof nkey === 'string' && USER_NKEY.test(nkey)))
    && Object.entries(texts).every(([name, text]) => (ENTRY_TEXTS as readonly string[]).includes(name) && typeof text === 'string' && text.length <= 128)
    && ENTRY_TEXTS.some(name => Object.hasOwn(texts, name))
}

/** Whether a value read from somewhere has the form of what is known of a member's keys. */
export function isMemberKeySet(value: unknown): value is MemberKeySet {
  if (!isRecord(value)) return false
  const { set, heardMs, dropped, ...more } = value
  return isKeySet(set) && isCount(heardMs) && Array.isArray(dropped) && dropped.length <= KEY_SET_KEYS && dropped.every(kid => typeof kid === 'string')
    && Object.keys(more).length === 0
}

function isCount(value: unknown): value is number {
  return Number.isSafeInteger(value) && (value as number) >= 0
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

function signedBytes(message: Omit<FeedMessage, 'signature'>): Buffer {
  return Buffer.from(`CMesh/1 revoked\n${canonicalJson(message)}`, 'utf8')
}
