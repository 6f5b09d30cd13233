/**
 * Consensus for one node: a Raft group simulated in this process orders the proposals. It keeps nothing: the log that it
 * starts behind is the state store's.
 *
 * Invariants:
 * 1. Proposals are ordered as they come, in one microtask after the first of them; no write waits for a timer. Where what is delivered
 *    takes long the event loop turns in between, so that many such entries hold the thread no longer than one.
 * 2. `deliver` runs in that microtask, never inside `propose` and never inside itself.
 * 3. A proposal either becomes an entry and resolves, or was never ordered: here an outcome is never unknown.
 * 4. A `deliver` that throws ends the order for good, as nobody would know what was taken in.
 */
import { CMeshError } from '../../cmtp/errors.ts'
import type { Bus, BusSubscription } from '../../services/bus/provider.ts'
import type {
  Committed, ConsensusProvider, ConsensusStatus, LogEntry, LogPosition, Proposal,
} from '../../services/consensus/provider.ts'
import type { Log } from '../../services/log.ts'
import { Patience } from '../bus/patience.ts'
import { SeenProposals } from './seen-proposals.ts'
import { SimulatedRaft } from './simulated-raft.ts'
import { checkNobody, holdAlone, MOCK_NODE, placePasses, STREAM_NODES } from './single-node.ts'

export interface MockConsensusOptions {
  /** Simulated members, 1 to 9. Default 3. */
  readonly members?: number
  /** Names the members (`<nodeId>/0` …), and this node to another that asks. Default `mock`. */
  readonly nodeId?: string
  /** With a bus the provider refuses to start beside a second node; without one it does not look. */
  readonly bus?: Pick<Bus, 'request' | 'subscribe' | 'publish'>
  /** Where nodes find each other. Default `cmesh.v1.ctl.consensus.mock`. */
  readonly subject?: string
  /** How long a node that is there may take to say so, in ms. Default 1,000. */
  readonly answerMs?: number
  /** How long start waits for a node that starts at the same time, in ms. Default 25. */
  readonly settleMs?: number
  /** How long start waits for the broker, and for a node that does not answer to go, in ms. Default 60,000. */
  readonly readyMs?: number
  /** Told what start waits for. */
  readonly log?: Pick<Log, 'info' | 'warn'>
  /** Proposal ids that are surely remembered: the window of `duplicate`. At most twice as many are. Default 32,768. */
  readonly window?: number
  /** Clock in ms since 1970, for deadlines only. Default `Date.now`. */
  readonly now?: () => number
}

interface Pending {
  readonly proposal: Proposal
  readonly resolve: (committed: Committed) => void
  readonly reject: (error: CMeshError) => void
}

const MOST_MEMBERS = 9
/** Entries that follow one another are delivered for so long before the event loop turns, in ms. */
const TURN_MS = 10

export class MockConsensus implements ConsensusProvider {
  readonly #nodeId: string
  readonly #memberIds: readonly string[]
  readonly #guard: Omit<MockConsensusOptions, 'members' | 'window' | 'now'>
  readonly #now: () => number
  readonly #seen: SeenProposals
  /** Fires when a start under way is no longer wanted. */
  readonly #unwanted = new AbortController()
  #state: 'idle' | 'starting' | 'running' | 'draining' | 'stopped' = 'idle'
  #starting: Promise<void> | undefined
  #stopping: Promise<void> | undefined
  #subscription: BusSubscription | undefined
  #raft: SimulatedRaft
  #epoch = 0
  #deliver: (entry: LogEntry) => void = () => {}
  #failure: CMeshError | undefined
  #queue: Pending[] = []
  #ordering: Promise<void> | undefined

  /** Throws `CMESH_CONFIG_INVALID` for a number of members it cannot simulate. */
  constructor(options: MockConsensusOptions = {}) {
    const { members = 3, window = 32_768, now = Date.now, ...guard } = options
    if (!Number.isInteger(members) || members < 1 || members > MOST_MEMBERS) {
      const reason = `it is an integer from 1 to ${MOST_MEMBERS}`
      throw new CMeshError('CMESH_CONFIG_INVALID', { key: 'consensus.members', reason })
    }
    this.#nodeId = guard.nodeId ?? 'mock'
    this.#memberIds = Array.from({ length: members }, (_, i) => `${this.#nodeId}/${i}`)
    this.#guard = guard
    this.#now = now
    this.#seen = new SeenProposals(window)
    this.#raft = new SimulatedRaft(this.#memberIds, { epoch: 0, seq: 0 })
  }

  /** Memoised. Rejects with `CMESH_CONSENSUS_SECOND_NODE`, or the bus's error, and holds nothing then. */
  start(from: LogPosition, deliver: (entry: LogEntry) => void): Promise<void> {
    if (this.#state === 'draining' || this.#state === 'stopped') return Promise.reject(new CMeshError('CMESH_ROUTER_DRAINING'))
    this.#starting ??= this.#start(from, deliver)
    return this.#starting
  }

  async #start(from: LogPosition, deliver: (entry: LogEntry) => void): Promise<void> {
    this.#state = 'starting'
    const { bus, subject = MOCK_NODE, answerMs = 1_000, settleMs = 25, readyMs, log } = this.#guard
    if (bus !== undefined) {
      const patience = new Patience({ readyMs, passes: placePasses, signal: this.#unwanted.signal, ...(log !== undefined && { log }) })
      const subscription = await holdAlone({ bus, subject, nodeId: this.#nodeId, answerMs, settleMs, patience })
      try {
        // Those whose order a stream keeps ask for this node's subject as this one does for theirs, and both take up their own first.
        await checkNobody({ bus, subject: STREAM_NODES, nodeId: this.#nodeId, answerMs, patience })
        if (this.#state !== 'starting') throw new CMeshError('CMESH_ROUTER_DRAINING')
      } catch (thrown) {
        subscription.unsubscribe()
        throw thrown
      }
      this.#subscription = subscription
    }
    this.#epoch = from.epoch
    this.#raft = new SimulatedRaft(this.#memberIds, from)
    this.#deliver = deliver
    this.#state = 'running'
  }

  /**
   * Resolves once a quorum holds the entry and `deliver` has seen it. Rejects with `CMESH_ROUTER_DEADLINE` when the deadline
   * passed before it was ordered, `CMESH_ROUTER_DRAINING`, `CMESH_ROUTER_NO_SERVICE` before the start, or
   * `CMESH_STATE_HALTED` once `deliver` failed.
   */
  propose(proposal: Proposal): Promise<Committed> {
    if (this.#state === 'draining' || this.#state === 'stopped') return Promise.reject(new CMeshError('CMESH_ROUTER_DRAINING'))
    if (this.#state !== 'running') return Promise.reject(new CMeshError('CMESH_ROUTER_NO_SERVICE', { service: 'consensus' }))
    if (this.#failure !== undefined) return Promise.reject(this.#failure)
    return new Promise((resolve, reject) => {
      this.#queue.push({ proposal, resolve, reject })
      this.#ordering ??= this.#order()
    })
  }

  status(): ConsensusStatus {
    const { term, leader, lastIndex, commitIndex, quorum } = this.#raft
    return { provider: 'mock', epoch: this.#epoch, term, leader, lastIndex, commitIndex, quorum, members: this.#raft.members() }
  }

  async drain(): Promise<void> {
    this.#unwanted.abort()
    if (this.#state !== 'stopped') this.#state = 'draining'
    await this.#ordering
  }

  stop(): Promise<void> {
    this.#stopping ??= this.#stop()
    return this.#stopping
  }

  async #stop(): Promise<void> {
    await this.drain()
    this.#state = 'stopped'
    // A start under way sees the state and lets go by itself; its caller is told.
    await Promise.allSettled([this.#starting])
    this.#subscription?.unsubscribe()
    this.#subscription = undefined
  }

  /** Never rejects: each proposal hears of its own outcome. */
  async #order(): Promise<void> {
    await Promise.resolve()
    let endMs = performance.now() + TURN_MS
    // `deliver` may propose: what it adds is ordered in a next round, behind what came before.
    while (this.#queue.length > 0) {
      const round = this.#queue
      this.#queue = []
      for (const pending of round) {
        if (performance.now() > endMs) {
          await new Promise(resolve => { setImmediate(resolve) })
          endMs = performance.now() + TURN_MS
        }
        this.#orderOne(pending)
      }
    }
    this.#ordering = undefined
  }

  #orderOne({ proposal, resolve, reject }: Pending): void {
    if (this.#failure !== undefined) return reject(this.#failure)
    const first = this.#seen.get(proposal.id)
    if (first !== undefined) return resolve({ epoch: this.#epoch, seq: first, duplicate: true })
    if (proposal.deadlineMs < this.#now()) return reject(new CMeshError('CMESH_ROUTER_DEADLINE'))
    const seq = this.#raft.order(proposal.id)
    this.#seen.add(proposal.id, seq)
    try {
      this.#deliver({ epoch: this.#epoch, seq, id: proposal.id, data: proposal.data })
    } catch (thrown) {
      this.#failure = new CMeshError('CMESH_STATE_HALTED', { reason: `entry ${seq} could not be taken in` }, { cause: thrown })
      return reject(this.#failure)
    }
    resolve({ epoch: this.#epoch, seq, duplicate: false })
  }
}
