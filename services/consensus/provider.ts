/**
 * Consensus: one total order of opaque messages. It never looks into a message, and never applies one.
 *
 * Invariants a provider keeps, proven by `test/conformance/consensus.ts`:
 * 1. Sequences are dense and start at `from.seq + 1`. `deliver` sees each exactly once, in order, never re-entrantly.
 * 2. One proposal id gives one entry, however often it is proposed (within the window a provider documents).
 * 3. `propose` resolves once the entry is committed by a quorum. When the deadline passes first, the outcome is unknown:
 *    it rejects with `CMESH_ROUTER_UNKNOWN_OUTCOME` and the entry may still be delivered.
 */

export interface LogPosition {
  readonly epoch: number
  readonly seq: number
}

/** How many of the members make a quorum. */
export function quorumOf(members: readonly unknown[]): number {
  return Math.floor(members.length / 2) + 1
}

/** Where a log ends. */
export interface LogHead extends LogPosition {
  /** What the newest entry holds, where there is one: a provider that keeps entries holds it against its own. */
  readonly data?: Uint8Array
  /** The chain value there, 32 bytes: an order that begins behind this log names it. */
  readonly chain?: Uint8Array
  /**
   * Whether the log has entries of this epoch. An order that keeps its entries is there then: a new one would give out places that are taken.
   * Default: none, and the epoch begins behind this head.
   */
  readonly begun?: boolean
  /** How far this node has said that its log goes: an order that ends before that has lost something. Default: no further than it does. */
  readonly claimed?: number
}

/** The end of a log that an order begins behind, as the order names it. */
export interface LogBefore {
  readonly seq: number
  /** The chain value there, 32 bytes. */
  readonly chain: Uint8Array
}

/**
 * Brings the log at least up to sequence `upTo` by what other members hold of it, and gives where it ends then. Rejects with
 * `CMESH_STATE_CATCH_UP` when none of them can, and the log is as it was. `before`, where the order begins there and names the log that it
 * goes on behind: what this one lacks of that may be executed where no quorum says how the log goes on.
 */
export type CatchUpLog = (upTo: number, before?: LogBefore) => Promise<LogHead>

export interface LogEntry extends LogPosition {
  /** The proposal's id. */
  readonly id: string
  readonly data: Uint8Array
}

export interface Proposal {
  /** 32 lower-case hex digits; the same on each retry. */
  readonly id: string
  readonly data: Uint8Array
  /** Absolute, ms since 1970. */
  readonly deadlineMs: number
}

export interface Committed extends LogPosition {
  /** The id had been proposed before; the position is the first one's. */
  readonly duplicate: boolean
}

export interface ConsensusMember {
  readonly id: string
  readonly role: 'leader' | 'follower'
  readonly matchIndex: number
}

export interface ConsensusStatus {
  readonly provider: string
  readonly epoch: number
  readonly term: number
  readonly leader: string
  /** Highest sequence in the log, and highest one committed by a quorum. */
  readonly lastIndex: number
  readonly commitIndex: number
  readonly quorum: number
  readonly members: readonly ConsensusMember[]
}

export interface ConsensusProvider {
  /** Whether several nodes may share its order. Default: it serves one alone. */
  readonly shared?: boolean
  /**
   * Takes up the order behind `from`; what is in it already is delivered before this resolves. Memoised. Rejects with
   * `CMESH_CONSENSUS_SECOND_NODE` where one node is all it can serve, and with a coded error where the order it keeps is not
   * the one that the log was made by. A provider that does not keep every entry uses `catchUp` for those that `from` lacks.
   */
  start(from: LogHead, deliver: (entry: LogEntry) => void, catchUp?: CatchUpLog): Promise<void>
  /** The provider owns `data` from here on. */
  propose(proposal: Proposal): Promise<Committed>
  status(): ConsensusStatus
  /**
   * The log holds everything up to `seq` at its level of durability, so that the provider need not keep it. For a provider that
   * keeps entries; may be called for every block, costs next to nothing and never throws.
   */
  trim?(seq: number): void
  /** Refuses new proposals with `CMESH_ROUTER_DRAINING`; resolves when those under way are settled. Idempotent. */
  drain(): Promise<void>
  /** Drains, for a while: what is not settled then has an unknown outcome. Then lets go of timers and subscriptions. Idempotent. */
  stop(): Promise<void>
}
