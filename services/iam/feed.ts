/**
 * The feed of revocations: what counts no more is told to every node of the mesh on core NATS, and kept on disk so that a restart
 * forgets nothing. It owns the order of that: in force here, on disk, on the wire.
 *
 * 1. A node hears itself: each second it publishes, and what it hears of its own last messages, by the broker, is the proof that
 *    it would have heard the others. `heardMs` is when the newest of them was sent; a replayed one moves nothing.
 * 2. A message counts when the mesh's key signed it; anything else on the subject is dropped.
 * 3. Never over JetStream: a stored heartbeat would say nothing of now.
 */
import { randomBytes } from 'node:crypto'
import { CMeshError } from '../../cmtp/errors.ts'
import { canonicalBytes, canonicalJson, parseCanonicalJson } from '../../cmtp/identity/canonical-json.ts'
import type { KeyPair } from '../../cmtp/identity/keys.ts'
import { REVOKED_SUBJECT } from '../../cmtp/subject.ts'
import type { Bus, BusSubscription } from '../bus/provider.ts'
import type { Log } from '../log.ts'
import type { RevocationEntry, RevocationLog } from './revocation-log.ts'
import type { Revocation } from './revocations.ts'

/** Between two heartbeats, ms. */
export const HEARTBEAT_MS = 1_000
/** How long `start` waits to hear itself, ms. */
const FIRST_ECHO_MS = 3_000
/** Largest message that is looked at, in bytes. */
const MESSAGE_BYTES = 65_536

export interface FeedParts {
  /** The connection inside the services' account. */
  readonly bus: Bus
  /** The mesh's key pair: signs, and alone is believed. */
  readonly signer: KeyPair
  readonly revocations: RevocationLog
  /** Puts an entry in force on this node. */
  readonly onEntry: (entry: RevocationEntry) => void
  readonly log: Log
  /** ms since 1970. */
  readonly now: () => number
}

interface FeedMessage {
  readonly v: 1
  readonly mesh: string
  /** 16 random bytes of this run of the node, base64url. */
  readonly boot: string
  /** Rises by one with each message of a run. */
  readonly n: number
  readonly timeMs: number
  readonly entries: readonly RevocationEntry[]
  readonly signature: string
}

export class Feed {
  readonly #parts: FeedParts
  readonly #boot = randomBytes(16).toString('base64url')
  #n = 0
  /** The number of the last own message that came back. */
  #heard = 0
  #heardMs = 0
  #subscription: BusSubscription | undefined
  #timer: NodeJS.Timeout | undefined
  #offStatus: (() => void) | undefined
  #onEcho: (() => void) | undefined

  constructor(parts: FeedParts) {
    this.#parts = parts
  }

  /** When the newest of the node's own messages was sent that it heard, ms since 1970; 0 before the first. */
  readonly heardMs = (): number => this.#heardMs

  /** Puts in force what was revoked before, and resolves when the node hears itself. Rejects with `CMESH_IAM_STALE` when it does not within 3 s. */
  async start(): Promise<void> {
    const { bus, revocations, onEntry } = this.#parts
    for (const entry of revocations.load()) onEntry(entry)
    this.#subscription = bus.subscribe(REVOKED_SUBJECT, ({ data }) => { this.#take(data) })
    await bus.flush()
    const echo = new Promise<void>(resolve => { this.#onEcho = resolve })
    this.#timer = setInterval(() => { if (bus.status === 'connected') this.#publish([]) }, HEARTBEAT_MS)
    this.#timer.unref()
    // After the broker was lost, the node need not be deaf until the next heartbeat.
    this.#offStatus = bus.onStatus(status => { if (status === 'connected') this.#publish([]) })
    this.#publish([])
    await this.#within(echo, FIRST_ECHO_MS)
  }

  /** Idempotent. */
  stop(): void {
    clearInterval(this.#timer)
    this.#offStatus?.()
    this.#subscription?.unsubscribe()
  }

  /** Revokes: in force on this node at once; resolves when it is on disk and handed to the broker, where there is one. Rejects with what the disk rejects with. */
  async publish(revocation: Revocation): Promise<void> {
    const entry: RevocationEntry = { ...revocation, atMs: this.#parts.now() }
    this.#parts.onEntry(entry)
    // Told even when the disk fails: the others can keep it.
    this.#publish([entry])
    await this.#parts.revocations.append(entry)
  }

  #publish(entries: readonly RevocationEntry[]): void {
    const { bus, signer, now, log } = this.#parts
    const unsigned = { v: 1 as const, mesh: signer.did, boot: this.#boot, n: ++this.#n, timeMs: now(), entries }
    try {
      bus.publish(REVOKED_SUBJECT, canonicalBytes({ ...unsigned, signature: signer.sign(signedBytes(unsigned)).toString('base64url') }))
    } catch (error) {
      // The bus is going down. Nobody passes the guard while nothing is heard.
      log[entries.length > 0 ? 'warn' : 'debug']({ err: error }, 'a message of the revocation feed could not be published')
    }
  }

  #take(data: Uint8Array): void {
    const { signer, onEntry } = this.#parts
    const message = readFeed(data)
    if (message === undefined || message.mesh !== signer.did) return
    const { signature, ...unsigned } = message
    if (!signer.publicKey.verify(signedBytes(unsigned), Buffer.from(signature, 'base64url'))) return
    if (message.boot !== this.#boot) {
      for (const entry of message.entries) onEntry(entry)
      return
    }
    if (message.n <= this.#heard) return
    this.#heard = message.n
    this.#heardMs = message.timeMs
    this.#onEcho?.()
  }

  async #within(echo: Promise<void>, ms: number): Promise<void> {
    let timer: NodeJS.Timeout | undefined
    const late = new Promise<never>((_, reject) => {
      timer = setTimeout(() => { reject(new CMeshError('CMESH_IAM_STALE', { silentMs: ms, retryAfterMs: HEARTBEAT_MS })) }, ms)
    })
    try {
      await Promise.race([echo, late])
    } catch (error) {
      this.stop()
      throw error
    } finally {
      clearTimeout(timer)
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
  const { v, mesh, boot, n, timeMs, entries, signature, ...more } = value
  const sound = v === 1 && typeof mesh === 'string' && typeof boot === 'string' && isCount(n) && isCount(timeMs) && typeof signature === 'string'
    && Array.isArray(entries) && entries.every(isRevocationEntry) && Object.keys(more).length === 0
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

function isCount(value: unknown): value is number {
  return Number.isSafeInteger(value) && (value as number) >= 0
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

function signedBytes(message: Omit<FeedMessage, 'signature'>): Buffer {
  return Buffer.from(`CMesh/1 revoked\n${canonicalJson(message)}`, 'utf8')
}
