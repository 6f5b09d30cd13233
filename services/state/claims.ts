/**
 * What the members of a mesh hold, by their claims, and so what is confirmed: the highest position up to which a quorum, this member
 * among them, has the same log. One claim a group commit at most; whoever sees that a position is confirmed without it keeps silent.
 *
 * Invariants:
 * 1. A claim counts when a member signed it and its chain value is this node's own at that sequence. One that is ahead of this node counts
 *    once it got there.
 * 2. `confirmed` never goes back, and never past what this node itself holds durably.
 * 3. Chains that differ never agree again. When so many differ that a quorum without them is impossible, this node is told so once: its log
 *    or theirs is wrong, and it acknowledges nothing more.
 * 4. No claim is made for a block whose time is further ahead of this node's clock than `AHEAD_MS`: whoever pushes the log's time is alone with it.
 */
import { decodeClaim, encodeClaim, signClaim, verifyClaim, type Claim, type ClaimLevel } from '../../cmtp/claim.ts'
import { CLAIM_SUBJECT } from '../../cmtp/subject.ts'
import type { Bus, BusSubscription } from '../bus/provider.ts'
import type { Clock } from '../clock.ts'
import type { Log } from '../log.ts'
import { ChainRing } from './chain-ring.ts'
import type { StateHead } from './provider.ts'

/** Between two claims of a member that has nothing new to say, ms. */
export const BEAT_MS = 1_000
/** How long who is not asked to speak first waits for the others, ms. */
const SILENCE_MS = 25
/** How long after its last word a member is taken to be away, ms. */
export const AWAY_MS = 5_000
/** How long a member that is away keeps the stream from being trimmed, ms; then it has to catch up from another. */
const MISSED_MS = 60_000
/** How far a block's time may be ahead of the clock, and clocks of members apart, ms. */
export const AHEAD_MS = 5_000
/** Claims of a member that say what its clock shows: one that was long on its way says that it is behind. */
const TIMES = 4

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

interface Peer {
  claim: Claim
  heardMs: number
  /** By how much this node's clock was ahead of its own as the last claims came, ms. */
  aheads: number[]
  /** The highest sequence at which its chain is this node's. */
  agreed: number
  /** The claim whose chain is another one. */
  differs: Claim | undefined
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
  readonly #parts: ClaimsParts
  readonly #chains = new ChainRing()
  readonly #peers = new Map<string, Peer>()
  #durable: StateHead | undefined
  #confirmed = 0
  #claimed = 0
  #diverged = false
  #subscription: BusSubscription | undefined
  #beat: NodeJS.Timeout | undefined
  #speaking: NodeJS.Timeout | undefined
  #scheduled = false

  constructor(parts: ClaimsParts) {
    this.#parts = parts
  }

  get confirmed(): number {
    return this.#confirmed
  }

  /** Members whose agreement makes a quorum, this one included. */
  get quorum(): number {
    return Math.floor(this.#parts.members().length / 2) + 1
  }

  /** Takes up the position that the log has when it is open. */
  start(head: StateHead): void {
    const { bus } = this.#parts
    this.#durable = head
    this.#chains.add(head.seq, head.chain)
    this.#subscription = bus.subscribe(CLAIM_SUBJECT, ({ data }) => { this.#hear(data) })
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
    for (const peer of this.#peers.values()) this.#compare(peer)
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

  /** The last block whose events are out, as far as any member that is there says. */
  outElsewhere(): number {
    const { members } = this.#parts
    return Math.max(0, ...[...this.#peers].filter(([did]) => members().includes(did)).map(([, { claim }]) => claim.out))
  }

  /** Whether this member does what one of them has to do for all: the first of those that are there. */
  onDuty(): boolean {
    const { member: { did }, members, clock } = this.#parts
    const there = members().filter(other => other === did || clock.nowMs() - (this.#peers.get(other)?.heardMs ?? -Infinity) <= AWAY_MS)
    return there[0] === did || there.length === 0
  }

  /** By how much this node's clock is ahead of that of each other member that is there, ms. */
  offsets(): readonly number[] {
    const { members, clock } = this.#parts
    const there = [...this.#peers].filter(([did, { heardMs }]) => clock.nowMs() - heardMs <= AWAY_MS && members().includes(did))
    return there.map(([, { aheads }]) => Math.min(...aheads))
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
      const heardMs = peer === undefined ? -1 : Math.max(0, clock.nowMs() - peer.heardMs)
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
    const claim = signClaim({ did: member.did, epoch: head.epoch, seq: head.seq, chain, level, out: out(), timeMs: clock.nowMs(), version }, member)
    try {
      bus.publish(CLAIM_SUBJECT, encodeClaim(claim))
    } catch (error) {
      // The bus is going down; the next beat says it again.
      log.debug({ err: error }, 'a claim could not be published')
    }
  }

  #hear(data: Uint8Array): void {
    const { member, members, clock } = this.#parts
    const claim = decodeClaim(data)
    if (claim === undefined || claim.did === member.did || !members().includes(claim.did)) return
    const known = this.#peers.get(claim.did)
    // Older ones and repeated ones say nothing new, and cost no look at a signature.
    if (known !== undefined && (claim.timeMs < known.claim.timeMs || claim.epoch < known.claim.epoch)) return
    if (!verifyClaim(claim, member.verify)) return
    const peer = known ?? { claim, heardMs: 0, aheads: [], agreed: 0, differs: undefined }
    peer.claim = claim
    peer.heardMs = clock.nowMs()
    peer.aheads = [clock.nowMs() - claim.timeMs, ...peer.aheads].slice(0, TIMES)
    this.#peers.set(claim.did, peer)
    this.#compare(peer)
    this.#settle()
  }

  #compare(peer: Peer): void {
    const { seq, chain } = peer.claim
    if (peer.differs !== undefined || seq <= peer.agreed) return
    const own = this.#chains.at(seq)
    // Ahead of this node, or so far behind that nobody waits for it.
    if (own === undefined) return
    if (Buffer.from(own).toString('hex') === chain) peer.agreed = seq
    else {
      peer.differs = peer.claim
      this.#parts.log.error({ member: peer.claim.did, seq }, 'a member claims another log than this node has')
      this.#judge()
    }
  }

  #settle(): void {
    const { member: { did }, members, onConfirmed } = this.#parts
    if (this.#diverged) return
    const heads = members().map(other => (other === did ? this.#durable?.seq ?? 0 : this.#peers.get(other)?.agreed ?? 0)).sort((a, b) => b - a)
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
