/**
 * What one other member claims, and how far that is this node's own log. Its claims come over a bus on which old ones can be sent again, so
 * this file says what is news, what shows that the member is there, and what of it counts.
 *
 * Invariants:
 * 1. A claim that is not newer than the last one changes nothing, unless that is of a time still to come; one that was made long before it came neither shows that the member is
 *    there nor that its log is another.
 * 2. What it agrees on never goes back. It counts towards a quorum where its own copy survives what this node's does.
 * 3. A log that differs at one place differs behind it. A member that agrees there later has another log now: it was healed.
 */
import type { Claim, ClaimLevel } from '../../cmtp/claim.ts'
import type { ChainRing } from './chain-ring.ts'
import type { StateHead } from './provider.ts'

/** How far the member's clock and this node's may be apart for its claims to be of now, ms. */
export const OF_NOW_MS = 60_000
/** How long after its last word a member is taken to be away, ms. */
export const AWAY_MS = 5_000
/** How far a block's time may be ahead of the clock, and clocks of members apart, ms. */
export const AHEAD_MS = 5_000
/** Claims that say what its clock shows: one that was long on its way says that it is behind. */
const TIMES = 4
const RANK: Readonly<Record<ClaimLevel, number>> = { memory: 0, os: 1, disk: 2 }

/** What a claim changed. */
export type Change = 'differs' | 'healed' | 'too weak' | undefined

interface Heard {
  readonly claim: Claim
  readonly ofNow: boolean
}

export class OtherMember {
  readonly #level: ClaimLevel
  #newest: Heard
  /** Held against this node's chain once that has come so far; newer ones wait behind it, else who is always ahead would never be compared. */
  #ahead: Heard | undefined
  /** Was held against it: nothing is found a second time. */
  #done: Heard | undefined
  #heardMs = -Infinity
  #cameMs = -Infinity
  /** When it was heard again, for the first time or after it had been away, and what it said was out then. */
  #backMs = -Infinity
  #outWhenBack = 0
  /** By how much this node's clock was ahead of the last claims as they came, ms. */
  #behind: readonly number[] = []
  #agreed = 0
  #counted = 0
  #differs: Claim | undefined
  #isWeak = false

  /** `level`: what this node's own copy survives. `claim` is the first that was heard, its signature checked. */
  constructor(level: ClaimLevel, claim: Claim, nowMs: number) {
    this.#level = level
    this.#newest = this.#hear(claim, nowMs, true)
  }

  get claim(): Claim {
    return this.#newest.claim
  }

  /** When it last said something of that moment, by this node's clock; -Infinity for never. */
  get heardMs(): number {
    return this.#heardMs
  }

  /** When it last said what its clock shows, whatever that was. */
  get cameMs(): number {
    return this.#cameMs
  }

  /** By how much its clock is behind this node's, as far as its claims show, ms. */
  get behindMs(): number {
    return Math.min(...this.#behind)
  }

  /** The last block whose events were out, as it said when it was heard again; of what has come since nothing follows from that. */
  get outWhenBack(): number {
    return this.#outWhenBack
  }

  /** The highest sequence at which its chain is this node's. */
  get agreed(): number {
    return this.#agreed
  }

  /** The same, of what it holds at this node's level or a higher one. */
  get counted(): number {
    return this.#counted
  }

  /** The claim whose chain is another one. */
  get differs(): Claim | undefined {
    return this.#differs
  }

  /**
   * Whether the claim says anything that the last one did not; asked before its signature is looked at. Where the last one is of a time still to
   * come, one of now does: the member's clock was ahead, and it was started again since.
   */
  isNews({ epoch, seq, timeMs }: Claim, nowMs: number): boolean {
    const last = this.#newest.claim
    if (epoch < last.epoch) return false
    if (timeMs > last.timeMs || (timeMs === last.timeMs && seq > last.seq)) return true
    return last.timeMs > nowMs + OF_NOW_MS && Math.abs(nowMs - timeMs) <= OF_NOW_MS
  }

  /** Takes a claim that is news, its signature checked. */
  take(claim: Claim, nowMs: number): void {
    this.#newest = this.#hear(claim, nowMs, claim.timeMs > this.#newest.claim.timeMs)
  }

  /** A block is on the log. */
  logged({ seq, timeMs }: Pick<StateHead, 'seq' | 'timeMs'>): void {
    if (seq <= this.#outWhenBack && timeMs > this.#backMs + AHEAD_MS) this.#outWhenBack = seq - 1
  }

  /** Holds what it said against this node's chain, which goes up to `head`. */
  compare(chains: ChainRing, head: number): Change {
    const newest = this.#newest
    if (newest === this.#done) return undefined
    const waited = this.#ahead
    if (waited !== undefined && waited.claim.seq > head && waited.claim.seq <= newest.claim.seq) return undefined
    if (newest.claim.seq > head) this.#ahead = newest
    else {
      this.#ahead = undefined
      this.#done = newest
    }
    const first = waited === undefined || waited === newest ? undefined : this.#hold(waited, chains)
    return this.#hold(newest, chains) ?? first
  }

  /** `isLater`: than all that it said. A member whose clock was set back says the same time until that has come again: its clock shows another. */
  #hear(claim: Claim, nowMs: number, isLater: boolean): Heard {
    const ofNow = Math.abs(nowMs - claim.timeMs) <= OF_NOW_MS
    if (ofNow) {
      if (nowMs - this.#heardMs > AWAY_MS) {
        this.#backMs = nowMs
        this.#outWhenBack = claim.out
      }
      this.#heardMs = nowMs
    }
    if (isLater) {
      this.#cameMs = nowMs
      this.#behind = [nowMs - claim.timeMs, ...this.#behind].slice(0, TIMES)
    }
    return { claim, ofNow }
  }

  #hold({ claim, ofNow }: Heard, chains: ChainRing): Change {
    const { seq, chain, level } = claim
    const own = chains.at(seq)
    // Ahead of this node, or so far behind that nobody waits for it.
    if (own === undefined) return undefined
    if (Buffer.from(own).toString('hex') !== chain) {
      if (!ofNow || this.#differs !== undefined) return undefined
      this.#differs = claim
      return 'differs'
    }
    const healed = this.#differs !== undefined && seq >= this.#differs.seq
    if (healed) this.#differs = undefined
    if (this.#differs !== undefined) return undefined
    this.#agreed = Math.max(this.#agreed, seq)
    const isWeak = RANK[level] < RANK[this.#level]
    if (!isWeak) this.#counted = Math.max(this.#counted, seq)
    const weakened = isWeak && !this.#isWeak
    this.#isWeak = isWeak
    return healed ? 'healed' : weakened ? 'too weak' : undefined
  }
}
