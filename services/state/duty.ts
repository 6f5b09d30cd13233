/**
 * Which of the members does what one of them has to do for all: publish what contracts emitted, carry their messages, make delayed calls. It is
 * the first in the list that is there, has this node's log, and a clock that is not apart from this node's, since by such a one nothing is ordered.
 *
 * Invariants:
 * 1. Who just started leaves it to the others, until it has heard them or they have had the time to speak.
 * 2. What a member says is out counts at once of one that stands before this one, which does it while it is there. Of one behind, what it said when it
 *    was heard again counts, for it may have done it while this node was away: who says more than is so keeps back nothing that comes later.
 */
import type { Clock } from '../clock.ts'
import { AHEAD_MS, AWAY_MS, type OtherMember } from './other-member.ts'

export interface DutyParts {
  readonly did: string
  readonly members: () => readonly string[]
  /** Those that were heard. */
  readonly peers: ReadonlyMap<string, OtherMember>
  readonly clock: Pick<Clock, 'nowMs'>
  /** How long a member that is there may be silent, ms. */
  readonly beatMs: number
}

export class Duty {
  readonly #parts: DutyParts
  #startedMs = -Infinity

  constructor(parts: DutyParts) {
    this.#parts = parts
  }

  start(): void {
    this.#startedMs = this.#parts.clock.nowMs()
  }

  /** Whether this node does it. */
  onDuty(): boolean {
    const { did, members } = this.#parts
    if (this.#isWaiting()) return false
    return (members().find(other => other === did || this.#serves(other)) ?? did) === did
  }

  /** The last block whose events are out, as far as it may be believed. */
  outElsewhere(): number {
    const all = this.#parts.members()
    const own = all.indexOf(this.#parts.did)
    return this.#most((peer, place) => (own >= 0 && place < own ? peer.claim.out : Math.min(peer.claim.out, peer.outWhenBack)))
  }

  /** The same as whoever says most: for blocks that this node does not publish itself in any case. */
  saidOut(): number {
    return this.#most(({ claim: { out } }) => out)
  }

  /** Whether any other member is there, or may be. */
  accompanied(): boolean {
    const { did, members } = this.#parts
    return this.#isWaiting() || members().some(other => other !== did && this.#serves(other))
  }

  /** Whether who does it for this node says that nothing is out: it may be waiting for what this one still has. */
  idles(): boolean {
    const { did, members, peers } = this.#parts
    const first = members().find(other => other === did || this.#serves(other))
    return first !== undefined && first !== did && peers.get(first)?.claim.out === 0
  }

  #isWaiting(): boolean {
    const { did, members, peers, clock, beatMs } = this.#parts
    const sinceMs = clock.nowMs() - this.#startedMs
    return sinceMs >= 0 && sinceMs < 2 * beatMs && members().some(other => other !== did && !peers.has(other))
  }

  #serves(other: string): boolean {
    const { peers, clock } = this.#parts
    const peer = peers.get(other)
    return peer !== undefined && peer.differs === undefined && clock.nowMs() - peer.heardMs <= AWAY_MS && Math.abs(peer.behindMs) <= AHEAD_MS
  }

  /** What a member says of blocks beyond those that this node knows it has is nobody's business yet. */
  #most(of: (peer: OtherMember, place: number) => number): number {
    const { members, peers } = this.#parts
    let most = 0
    members().forEach((did, place) => {
      const peer = peers.get(did)
      if (peer !== undefined && peer.differs === undefined) most = Math.max(most, Math.min(of(peer, place), peer.agreed))
    })
    return most
  }
}
