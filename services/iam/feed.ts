/**
 * The feed of revocations: what counts no more is told to every node of the mesh on core NATS, and kept on disk so that a restart
 * forgets nothing. It owns the order of that: in force here, on disk, on the wire. With it goes by which keys the node signs tokens.
 *
 * 1. A node hears itself: each second it publishes, and what it hears of its own last messages, by the broker, is the proof that
 *    it would have heard the others. `heardMs` is when the newest of them was sent; a replayed one moves nothing.
 * 2. A message counts when the mesh's key or a member that it certified signed it; anything else on the subject is dropped.
 * 3. Never over JetStream: a stored heartbeat would say nothing of now.
 * 4. What was missed is asked for: at the start, when the broker is back, and when the numbers of another node leave some out. At the start and
 *    when the broker is back, hearing oneself counts once that is over.
 */
import { randomBytes } from 'node:crypto'
import { CMeshError } from '../../cmtp/errors.ts'
import type { KeySet } from '../../cmtp/identity/key-set.ts'
import { REVOKED_ASK_SUBJECT, REVOKED_SUBJECT, revokedAnswerSubject } from '../../cmtp/subject.ts'
import type { Bus, BusSubscription } from '../bus/provider.ts'
import type { Log } from '../log.ts'
import { Asking } from './asking.ts'
import { Believed, readFeed, writeFeed, type FeedMessage, type Speaker } from './feed-message.ts'
import { LiveEntries } from './live-entries.ts'
import type { MemberKeySet } from './member-keys.ts'
import type { RevocationEntry, RevocationLog } from './revocation-log.ts'
import type { Revocation } from './revocations.ts'

/** Between two heartbeats, ms. */
export const HEARTBEAT_MS = 1_000
/** How long `start` waits to hear itself, ms. */
const FIRST_ECHO_MS = 3_000
/** Another node that was not heard for so long is not there, ms. */
const PRESENT_MS = 5_000
/** Entries in one message, and what is known of members' keys, so that the longest fit. */
const ENTRIES = 64
const MEMBERS = 8

export interface FeedParts extends Speaker {
  /** The connection inside the services' account. */
  readonly bus: Bus
  /** Whether the node of that DID is a member of the mesh now. Default: whoever the mesh certified is. */
  readonly isMember?: ((did: string) => boolean) | undefined
  /** Default: no keys are told. */
  readonly keys?: FeedKeys
  readonly revocations: RevocationLog
  /** How long an entry is told to those who missed it, ms. Default 360,000, the longest life of a token with its grace. */
  readonly keepMs?: number
  /** Puts an entry in force on this node. */
  readonly onEntry: (entry: RevocationEntry) => void
  readonly log: Log
  /** ms since 1970. */
  readonly now: () => number
}

export interface FeedKeys {
  /** Those that this node signs tokens with. */
  readonly own: () => KeySet
  /** What a member said of its own. */
  readonly take: (node: string, set: KeySet) => void
  /** What is known of those of the others. */
  readonly known: () => readonly MemberKeySet[]
  /** What a member knows of another's. */
  readonly hear: (known: MemberKeySet) => void
}

/** How far another node is known to have spoken. */
interface Other {
  readonly boot: string
  readonly n: number
  /** When it was sent, by its own clock. */
  readonly timeMs: number
  readonly heardMs: number
}

export class Feed {
  readonly #parts: FeedParts
  readonly #boot = randomBytes(16).toString('base64url')
  readonly #believed: Believed
  readonly #entries: LiveEntries
  readonly #asking: Asking
  /** By DID. */
  readonly #others = new Map<string, Other>()
  #n = 0
  /** The number of the last own message that came back, and when it was sent. */
  #heard = 0
  #echoMs = 0
  #heardMs = 0
  /** How often it is being asked for what was missed right now. */
  #catching = 0
  #subscriptions: BusSubscription[] = []
  #timer: NodeJS.Timeout | undefined
  #offStatus: (() => void) | undefined
  #onEcho: (() => void) | undefined

  constructor(parts: FeedParts) {
    const { now, keepMs = 360_000, isMember = () => true } = parts
    this.#parts = parts
    this.#believed = new Believed(parts, isMember)
    this.#entries = new LiveEntries(now, keepMs)
    const answers = revokedAnswerSubject(this.#boot)
    this.#asking = new Asking({ now, present: () => this.present, send: ask => { this.#send(REVOKED_ASK_SUBJECT, { ask }, answers) } })
  }

  /** When the newest of the node's own messages was sent that it heard, ms since 1970; 0 before the first. */
  readonly heardMs = (): number => this.#heardMs

  /** The other members that were heard lately, by their DIDs. */
  get present(): readonly string[] {
    const afterMs = this.#parts.now() - PRESENT_MS
    const { isMember = () => true } = this.#parts
    return [...this.#others].filter(([did, { heardMs }]) => heardMs > afterMs && isMember(did)).map(([did]) => did)
  }

  /**
   * Puts in force what was revoked before, here and by those who are there, and resolves when the node hears itself. Rejects with
   * `CMESH_IAM_STALE` when it does not within 3 s.
   */
  async start(): Promise<void> {
    const { bus, revocations, onEntry } = this.#parts
    for (const entry of revocations.load()) {
      this.#entries.add(entry)
      onEntry(entry)
    }
    this.#subscriptions = [
      bus.subscribe(REVOKED_SUBJECT, ({ data }) => { this.#take(data, message => { this.#follow(message) }) }),
      bus.subscribe(revokedAnswerSubject(this.#boot), ({ data }) => {
        // The broker's own word that nobody listens.
        if (data.length === 0) this.#asking.nobody()
        else this.#take(data, message => { this.#answered(message) })
      }),
    ]
    await bus.flush()
    const echo = new Promise<void>(resolve => { this.#onEcho = resolve })
    this.#timer = setInterval(() => { if (bus.status === 'connected') this.announce() }, HEARTBEAT_MS)
    this.#timer.unref()
    this.#offStatus = bus.onStatus(status => { if (status === 'connected') this.#returned() })
    const caughtUp = this.#catchUp()
    this.#tell(this.#entries.all, part => { this.#publish(part) })
    await this.#within(echo, FIRST_ECHO_MS)
    await caughtUp
    // Not before: until now there was nothing to learn here that others do not know.
    this.#subscriptions.push(bus.subscribe(REVOKED_ASK_SUBJECT, ({ data }) => { this.#take(data, message => { this.#answer(message) }) }))
  }

  /** Idempotent. */
  stop(): void {
    clearInterval(this.#timer)
    this.#offStatus?.()
    this.#asking.close()
    // Nobody is to wait for an answer of this node.
    if (this.#subscriptions.length > 0) this.#send(REVOKED_SUBJECT, { ends: true })
    const subscriptions = this.#subscriptions
    this.#subscriptions = []
    for (const subscription of subscriptions) subscription.unsubscribe()
  }

  /** Revokes: in force on this node at once; resolves when it is on disk and handed to the broker, where there is one. Rejects with what the disk rejects with. */
  async publish(revocation: Revocation): Promise<void> {
    const entry: RevocationEntry = { ...revocation, atMs: this.#parts.now() }
    this.#entries.add(entry)
    this.#parts.onEntry(entry)
    // Told even when the disk fails: the others can keep it.
    this.#publish([entry])
    await this.#parts.revocations.append(entry)
  }

  /**
   * Tells the others of this node, and asks those who are there for what was missed; resolves when that is in force. For a node that was no
   * member when it started: nobody answered it then.
   */
  async catchUp(): Promise<void> {
    this.announce()
    if (this.present.length > 0) await this.#catchUp()
  }

  /** Tells the others that this node is there, and its keys. */
  announce(): void {
    this.#publish([])
  }

  /** Asks the others for their keys; resolves at the end of that with whether all who are there answered. */
  askForKeys(): Promise<boolean> {
    return this.#asking.round('keys')
  }

  #publish(entries: readonly RevocationEntry[]): void {
    this.#n++
    this.#send(REVOKED_SUBJECT, { entries })
  }

  #send(subject: string, said: Partial<Pick<FeedMessage, 'entries' | 'members' | 'ends' | 'ask' | 'answers'>>, reply?: string): void {
    const { bus, keys, now, log } = this.#parts
    const own = keys?.own()
    const message = { boot: this.#boot, n: this.#n, timeMs: now(), entries: [], ...(own !== undefined && { keys: own }), ...said }
    try {
      bus.publish(subject, writeFeed(message, this.#parts), reply)
    } catch (error) {
      // The bus is going down. Nobody passes the guard while nothing is heard.
      log[message.entries.length > 0 ? 'warn' : 'debug']({ err: error }, 'a message of the revocation feed could not be published')
      if (reply !== undefined) this.#asking.nobody()
    }
  }

  /** In as many messages as it takes, one at least. */
  #tell(entries: readonly RevocationEntry[], send: (part: readonly RevocationEntry[], isLast: boolean) => void): void {
    for (let at = 0; at === 0 || at < entries.length; at += ENTRIES) send(entries.slice(at, at + ENTRIES), at + ENTRIES >= entries.length)
  }

  /** Reads a message of another node; this one's own, of this run, goes to `#echo`. */
  #take(data: Uint8Array, then: (message: FeedMessage & { readonly node: string }) => void): void {
    const message = readFeed(data)
    const node = message === undefined ? undefined : this.#believed.nodeOf(message)
    if (message === undefined || node === undefined) return
    if (message.boot === this.#boot) {
      if (node === this.#parts.signer.did && message.ask === undefined) this.#echo(message)
      return
    }
    for (const entry of message.entries) this.#enter(entry)
    then({ ...message, node })
  }

  #enter(entry: RevocationEntry): void {
    if (!this.#entries.add(entry)) return
    const { revocations, onEntry, log } = this.#parts
    onEntry(entry)
    revocations.append(entry).catch((error: unknown) => { log.warn({ err: error }, 'what another node revoked could not be written down') })
  }

  #echo({ n, timeMs }: FeedMessage): void {
    if (n <= this.#heard) return
    this.#heard = n
    this.#echoMs = timeMs
    this.#hear()
  }

  #hear(): void {
    if (this.#catching > 0 || this.#echoMs === 0) return
    this.#heardMs = this.#echoMs
    this.#onEcho?.()
  }

  /** A message to all: whoever left some out has said something that was missed. */
  #follow(message: FeedMessage & { readonly node: string }): void {
    const { node, boot, n, ends } = message
    const known = this.#others.get(node)
    if (ends !== undefined) {
      if (known?.boot === boot) this.#others.delete(node)
      return
    }
    const last = known?.boot === boot ? known.n : 0
    if (n <= last || this.#isOfEarlierRun(message)) return
    this.#note(message)
    if (n > last + 1) void this.#asking.round('log')
  }

  #answer({ boot, ask }: FeedMessage): void {
    if (ask === undefined) return
    const subject = revokedAnswerSubject(boot)
    const known = ask === 'log' ? this.#parts.keys?.known() ?? [] : []
    for (let at = 0; at < known.length; at += MEMBERS) this.#send(subject, { members: known.slice(at, at + MEMBERS) })
    this.#tell(ask === 'log' ? this.#entries.all : [], (entries, isLast) => { this.#send(subject, { entries, ...(isLast && { answers: ask }) }) })
  }

  #answered(message: FeedMessage & { readonly node: string }): void {
    const { answers, node, keys, members = [] } = message
    for (const each of members) this.#parts.keys?.hear(each)
    // Only a whole answer makes good what was left out before it.
    if (answers === 'log') this.#note(message)
    else if (keys !== undefined) this.#parts.keys?.take(node, keys)
    if (answers !== undefined) this.#asking.answered(answers, node)
  }

  #note({ node, boot, n, timeMs, keys }: FeedMessage & { readonly node: string }): void {
    const known = this.#others.get(node)
    const isSame = known?.boot === boot
    this.#others.set(node, { boot, n: isSame ? Math.max(n, known.n) : n, timeMs: isSame ? Math.max(timeMs, known.timeMs) : timeMs, heardMs: this.#parts.now() })
    if (keys !== undefined) this.#parts.keys?.take(node, keys)
  }

  /** Whether it is of another run than the one that is there, and older: sent once more by somebody, and everybody would be asked for what it seems to leave out. */
  #isOfEarlierRun({ node, boot, timeMs }: FeedMessage & { readonly node: string }): boolean {
    const known = this.#others.get(node)
    return known !== undefined && known.boot !== boot && timeMs < known.timeMs && known.heardMs > this.#parts.now() - PRESENT_MS
  }

  /** The broker is back: what was said meanwhile comes first, and the node need not be deaf until the next heartbeat. */
  #returned(): void {
    if (this.#others.size > 0) void this.#catchUp()
    this.announce()
  }

  async #catchUp(): Promise<void> {
    this.#catching++
    // One that was under way may have been lost with the broker.
    if (!await this.#asking.round('log')) await this.#asking.round('log')
    this.#catching--
    this.#hear()
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
