/**
 * This node as one of the members that hold the same log: when a block is durable here it is claimed, and what was written is acknowledged
 * once as many hold it as the level asks for. Also who of the members does what one of them has to do for all.
 *
 * Invariant: acknowledgements are given in the order of the log, each once; those that are not given when the node stops never are, and
 * their callers are told that the outcome is unknown.
 */
import { quorumOf } from '../consensus/provider.ts'
import { Claims, type ClaimsParts, type MemberState } from './claims.ts'
import type { Duty } from './duty.ts'
import type { StateHead, StateStore } from './provider.ts'

/** What an acknowledged write survives: see `docs/consensus.md`. */
export type Durability = StateStore['durability'] | 'quorum-os' | 'quorum-disk'

export interface ReplicationParts extends Omit<ClaimsParts, 'bus' | 'onConfirmed'> {
  /** Among the services; absent: this node is alone. */
  readonly bus: ClaimsParts['bus'] | undefined
  /** Whether an acknowledgement waits for a quorum. */
  readonly quorum: boolean
}

export interface ReplicationState {
  readonly members: readonly MemberState[]
  readonly quorum: number
  /** The last sequence that a quorum holds. */
  readonly confirmed: number
}

interface Waiting {
  readonly seq: number
  readonly acknowledge: () => void
}

export class Replication {
  readonly #claims: Claims | undefined
  readonly #quorum: boolean
  readonly #did: string
  readonly #members: () => readonly string[]
  #waiting: Waiting[] = []
  #hasStarted = false
  #reached = 0

  constructor({ bus, quorum, ...parts }: ReplicationParts) {
    this.#quorum = quorum && bus !== undefined
    this.#did = parts.member.did
    this.#members = parts.members
    this.#claims = bus && new Claims({ ...parts, bus, onConfirmed: seq => { this.#confirmed(seq) } })
  }

  /** Who of the members does what one of them has to do for all of them; `undefined` where this node is alone. */
  get duty(): Duty | undefined {
    return this.#claims?.duty
  }

  /** Whether this node does it. */
  readonly onDuty = (): boolean => this.duty?.onDuty() ?? true

  /** Whether it has said what it holds: until then nobody can be heard either. */
  get hasStarted(): boolean {
    return this.#hasStarted
  }

  /** By how much this node's clock is ahead of that of each other member that is there, ms. */
  readonly offsets = (): readonly number[] => this.#claims?.offsets() ?? []

  /**
   * How many members, this one among them, confirm what is ordered: 1 where it is the only one, 0 where nobody waits for that, or there is nobody yet.
   * Who is no member yet joins by the word of those that are.
   */
  readonly confirming = (): number => {
    const all = this.#members()
    if (!this.#quorum || !this.#hasStarted || all.length === 0) return 0
    return all.includes(this.#did) ? quorumOf(all) : quorumOf(all) + 1
  }

  get state(): ReplicationState | undefined {
    const claims = this.#claims
    return claims && { members: claims.states(), quorum: claims.quorum, confirmed: claims.confirmed }
  }

  /** The last sequence that is as durable as the level asks for. */
  get reached(): number {
    return this.#reached
  }

  start(head: StateHead): void {
    if (!this.#quorum) this.#reached = Math.max(this.#reached, head.seq)
    this.#hasStarted = true
    this.#claims?.start(head)
  }

  /** A block is durable here, `head` the position behind it. `acknowledge` is called when the level is reached; none, where nobody waits for the block. */
  durable(head: StateHead, acknowledge: (() => void) | undefined): void {
    if (this.#quorum && acknowledge !== undefined) this.#waiting.push({ seq: head.seq, acknowledge })
    this.#claims?.durable(head)
    if (this.#quorum) return
    this.#reached = head.seq
    acknowledge?.()
  }

  /**
   * The lowest sequence that every member holds who can be reckoned with, and, where acknowledgements wait for a quorum, that one holds: what
   * only this node has, those that are away get from the order. `own` where this node is alone.
   */
  held(own: number): number {
    const claims = this.#claims
    if (claims === undefined) return own
    return this.#quorum ? Math.min(claims.held(), claims.confirmed) : claims.held()
  }

  stop(): void {
    this.#claims?.stop()
    this.#waiting = []
  }

  #confirmed(seq: number): void {
    if (this.#quorum) this.#reached = seq
    let done = 0
    for (const { seq: held, acknowledge } of this.#waiting) {
      if (held > seq) break
      done++
      acknowledge()
    }
    if (done > 0) this.#waiting.splice(0, done)
  }
}

/** The level of a mesh whose members hold their own copies at `own`. */
export function levelOf(own: StateStore['durability'], quorum: boolean): Durability {
  return quorum && own !== 'memory' ? `quorum-${own}` : own
}
