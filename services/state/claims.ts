/**
 * What the members of a mesh hold, by their claims, and so what is confirmed: the highest position up to which a quorum, this member
 * among them, has the same log. One claim a group commit at most; whoever sees that a position is confirmed without it keeps silent.
 *
 * Invariants:
 * 1. A claim counts when a member signed it, its chain value is this node's own at that sequence, and the member's copy survives what this
 *    node's does. One that is ahead of this node counts once it got there.
 * 2. `confirmed` never goes back, and never past what this node itself holds durably.
 * 3. A member whose chain differs counts for nothing until it comes with another log. When so many differ that a quorum without them is
 *    impossible, this node is told so once: its log or theirs is wrong, and it acknowledges nothing more.
 * 4. No claim is made for a block whose time is further ahead of this node's clock than `AHEAD_MS`: whoever pushes the log's time is alone with it.
 */
import { decodeClaim, encodeClaim, signClaim, verifyClaim, type Claim, type ClaimLevel } from '../../cmtp/claim.ts'
import { CLAIM_SUBJECT } from '../../cmtp/subject.ts'
import type { Bus, BusSubscription } from '../bus/provider.ts'
import type { Clock } from '../clock.ts'
import { quorumOf } from '../consensus/provider.ts'
import type { Log } from '../log.ts'
import { ChainRing } from './chain-ring.ts'
import { Duty } from './duty.ts'
import { AHEAD_MS, AWAY_MS, OF_NOW_MS, OtherMember } from './other-member.ts'
import type { StateHead } from './provider.ts'

/** Between two claims of a member that has nothing new to say, ms. */
export const BEAT_MS = 1_000
/** How long who is not asked to speak first waits for the others, ms. */
const SILENCE_MS = 25
/** How long a member that is away keeps the stream from being trimmed, ms; then it has to catch up from another. */
const MISSED_MS = 60_000

export interface ClaimsParts {
  readonly bus: Pick<Bus, 'publish' | 'subscribe' | 'status'>
  readonly member: {
    readonly did: string
    readonly sign: (bytes: Uint8Array) => Uint8Array
    readonly verify: (did: string, bytes: Uint8Array, signature: Uint8Array) => boolean
  }
  readonly members: () => readonly string[]
  readonly level: ClaimLevel
  readonly version: string
  /** The last block whose events are out. */
  readonly out: () => number
  readonly clock: Pick<Clock, 'nowMs'>
  readonly log: Log
  readonly onConfirmed: (seq: number) => void
  /** This node's chain is not the one that the others have. Called once. */
  readonly onDiverged: (others: readonly Claim[]) => void
}

/** What is known of a member, for who asks. */
export interface MemberState {
  readonly did: string
  readonly self: boolean
  readonly epoch: number
  readonly seq: number
  readonly level: ClaimLevel
  /** Since its last claim, ms; 0 for this node. */
  readonly heardMs: number
  readonly version: string
  readonly differs: boolean
}

export class Claims {
  /** Who of the members does what one of them has to do for all. */
  readonly duty: Duty
  readonly #parts: ClaimsParts
  readonly #chains = new ChainRing()
  readonly #peers = new Map<string, OtherMember>()
  #durable: StateHead | undefined
  #confirmed = 0
  #claimed = 0
  #saidMs = 0
  #diverged = false
  #subscription: BusSubscription | undefined
  #beat: NodeJS.Timeout | undefined
  #speaking: NodeJS.Timeout | undefined
  #scheduled = false
  #doubled = false

  constructor(parts: ClaimsParts) {
    const { member: { did }, members, clock } = parts
    this.#parts = parts
    this.duty = new Duty({ did, members, peers: this.#peers, clock, beatMs: BEAT_MS })
  }

  get confirmed(): number {
    return this.#confirmed
  }

  /** Members whose agreement makes a quorum, this one included. */
  get quorum(): number {
    return quorumOf(this.#parts.members())
  }

  /** Takes up the position that the log has when it is open; blocks behind it may have become durable before. */
  start(head: StateHead): void {
    if (head.seq >= (this.#durable?.seq ?? 0)) {
      this.#durable = head
      this.#chains.add(head.seq, head.chain)
    }
    this.duty.start()
    this.#subscription = this.#parts.bus.subscribe(CLAIM_SUBJECT, ({ data }) => { this.#hear(data) })
    this.#beat = setInterval(() => { this.#speak() }, BEAT_MS).unref()
    this.#settle()
    this.#speak()
  }

  /** Says the last word, so that nobody waits for it. Idempotent. */
  stop(): void {
    clearInterval(this.#beat)
    clearTimeout(this.#speaking)
    if (this.#subscription === undefined) return
    this.#speak()
    this.#subscription.unsubscribe()
    this.#subscription = undefined
  }

  /** A block is durable here; `head` is the position behind it. In order. */
  durable(head: StateHead): void {
    this.#durable = head
    this.#chains.add(head.seq, head.chain)
    for (const [did, peer] of this.#peers) {
      peer.logged(head)
      this.#compare(did)
    }
    this.#settle()
    if (this.#scheduled || this.#subscription === undefined) return
    // Blocks that became durable together are claimed together.
    this.#scheduled = true
    setImmediate(() => {
      this.#scheduled = false
      this.#claimSoon()
    })
  }

  /** The lowest sequence that members have who can be reckoned with: what is before it may be taken out of the order. */
  held(): number {
    const { member: { did }, members, clock } = this.#parts
    let lowest = this.#durable?.seq ?? 0
    for (const other of members()) {
      const peer = this.#peers.get(other)
      if (other === did || peer === undefined || clock.nowMs() - peer.heardMs > MISSED_MS) continue
      lowest = Math.min(lowest, peer.claim.seq)
    }
    return lowest
  }

  /** By how much this node's clock is ahead of that of each other member that is there, ms. */
  offsets(): readonly number[] {
    const { members, clock } = this.#parts
    const there = [...this.#peers].filter(([did, { cameMs }]) => clock.nowMs() - cameMs <= AWAY_MS && members().includes(did))
    return there.map(([, { behindMs }]) => behindMs)
  }

  states(): readonly MemberState[] {
    const { member: { did }, members, level, version, clock } = this.#parts
    return members().map(other => {
      const peer = this.#peers.get(other)
      if (other === did) {
        const { epoch = 0, seq = 0 } = this.#durable ?? {}
        return { did, self: true, epoch, seq, level, heardMs: 0, version, differs: false }
      }
      const { epoch = 0, seq = 0, level: theirs = 'memory', version: running = '' } = peer?.claim ?? {}
      const heardMs = peer === undefined || peer.heardMs === -Infinity ? -1 : Math.max(0, clock.nowMs() - peer.heardMs)
      return { did: other, self: false, epoch, seq, level: theirs, heardMs, version: running, differs: peer?.differs !== undefined }
    })
  }

  /** Of so many as make a quorum the first speak at once, by turns; the others only when it takes longer. */
  #claimSoon(): void {
    const { member: { did }, members } = this.#parts
    const { seq = 0 } = this.#durable ?? {}
    if (seq <= this.#claimed || members().length < 2) return
    const all = members()
    // A turn is a stretch of the log, so that members whose commits fall on other blocks have the same order.
    const turn = (all.indexOf(did) + all.length - Math.floor(seq / 64) % all.length) % all.length
    if (turn < this.quorum) return this.#speak()
    this.#speaking ??= setTimeout(() => {
      this.#speaking = undefined
      if ((this.#durable?.seq ?? 0) > this.#confirmed || this.#isBehind()) this.#speak()
    }, SILENCE_MS)
  }

  /** Another member may need this one's word where this one needs none. */
  #isBehind(): boolean {
    const agreed = [...this.#peers.values()].filter(peer => peer.agreed >= (this.#durable?.seq ?? 0))
    return agreed.length < this.quorum
  }

  #speak(): void {
    const { bus, member, level, version, out, clock, log } = this.#parts
    const head = this.#durable
    if (head === undefined || this.#subscription === undefined || bus.status !== 'connected') return
    if (head.timeMs > clock.nowMs() + AHEAD_MS) {
      log.warn({ seq: head.seq, aheadMs: head.timeMs - clock.nowMs() }, 'a block is ahead of this node\'s clock; it is not claimed yet')
      return
    }
    this.#claimed = head.seq
    const chain = Buffer.from(head.chain).toString('hex')
    // Never back: where this node's clock is set back the others would take what it says for old words, unless those are of a time
    // still to come, by their clocks too.
    const nowMs = clock.nowMs()
    const timeMs = this.#saidMs = this.#saidMs > nowMs + OF_NOW_MS + AHEAD_MS ? nowMs : Math.max(nowMs, this.#saidMs)
    const claim = signClaim({ did: member.did, epoch: head.epoch, seq: head.seq, chain, level, out: out(), timeMs, version }, member)
    try {
      bus.publish(CLAIM_SUBJECT, encodeClaim(claim))
    } catch (error) {
      // The bus is going down; the next beat says it again.
      log.debug({ err: error }, 'a claim could not be published')
    }
  }

  #hear(data: Uint8Array): void {
    const { member, members, level, clock } = this.#parts
    const claim = decodeClaim(data)
    if (claim === undefined) return
    if (claim.did === member.did) return this.#hearOwn(claim)
    if (!members().includes(claim.did)) return
    const known = this.#peers.get(claim.did)
    // Older ones and repeated ones say nothing new, and cost no look at a signature.
    const nowMs = clock.nowMs()
    if (known?.isNews(claim, nowMs) === false || !verifyClaim(claim, member.verify)) return
    if (known === undefined) this.#peers.set(claim.did, new OtherMember(level, claim, nowMs))
    else known.take(claim, nowMs)
    this.#compare(claim.did)
    this.#settle()
  }

  /** What this node did not say itself comes from another process with its key: a data directory that was copied, or restored twice. */
  #hearOwn(claim: Claim): void {
    const { member, clock, log } = this.#parts
    const ahead = claim.seq > (this.#durable?.seq ?? 0) && claim.timeMs > clock.nowMs() - AWAY_MS
    if (this.#doubled || !ahead || !verifyClaim(claim, member.verify)) return
    this.#doubled = true
    log.error({ seq: claim.seq }, 'another process claims with this node\'s key; stop one of them, for both count as one member')
  }

  #compare(did: string): void {
    const { log, level } = this.#parts
    const peer = this.#peers.get(did)
    const change = peer?.compare(this.#chains, this.#durable?.seq ?? 0)
    if (peer === undefined || change === undefined) return
    const { seq, level: theirs } = peer.claim
    if (change === 'healed') log.info({ member: did, seq }, 'a member has this node\'s log again')
    else if (change === 'too weak') log.warn({ member: did, level: theirs, own: level }, 'a member\'s copy survives less than this node\'s: it confirms nothing here')
    else {
      log.error({ member: did, seq: peer.differs?.seq }, 'a member claims another log than this node has')
      this.#judge()
    }
  }

  #settle(): void {
    const { member: { did }, members, onConfirmed } = this.#parts
    if (this.#diverged) return
    const heads = members().map(other => (other === did ? this.#durable?.seq ?? 0 : this.#peers.get(other)?.counted ?? 0)).sort((a, b) => b - a)
    const confirmed = Math.min(heads[this.quorum - 1] ?? 0, this.#durable?.seq ?? 0)
    if (confirmed <= this.#confirmed) return
    this.#confirmed = confirmed
    onConfirmed(confirmed)
  }

  #judge(): void {
    const all = this.#parts.members()
    const others = [...this.#peers.values()].flatMap(({ differs }) => (differs !== undefined && all.includes(differs.did) ? [differs] : []))
    if (this.#diverged || all.length - others.length >= this.quorum) return
    this.#diverged = true
    this.#parts.onDiverged(others)
  }
}
