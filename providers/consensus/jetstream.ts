/**
 * Consensus by JetStream: a stream is the order. The broker gives each proposal its sequence, keeps it on as many servers as
 * there are replicas, and knows it again by its id for 120 s; this process remembers more. This file owns the life of the
 * provider and keeps off what must not be beside it; the stream's set-up is in `ordered-stream.ts`, the work in `order-session.ts`.
 *
 * Invariants:
 * 1. Position = base + sequence in the stream, for as long as the stream stands. A stream that is not the one the log was
 *    ordered by ends the order with a coded error; it is never numbered anew.
 * 2. A proposal resolves after `deliver` saw its entry, whether or not its ack ever came.
 * 3. Only what state said it holds durably is purged, and of that the newest stays.
 */
import { CMeshError } from '../../cmtp/errors.ts'
import { controlSubject } from '../../cmtp/subject.ts'
import type { BusSubscription } from '../../services/bus/provider.ts'
import type {
  CatchUpLog, Committed, ConsensusProvider, ConsensusStatus, LogEntry, LogHead, Proposal,
} from '../../services/consensus/provider.ts'
import type { Log } from '../../services/log.ts'
import { Patience, READY_MS } from '../bus/patience.ts'
import type { JetStreamBus } from '../jetstream/calls.ts'
import { OrderSession } from './order-session.ts'
import { checkNobody, holdAlone, holdShared, MOCK_NODE, placePasses, STREAM_NODES } from './single-node.ts'
import { StreamView } from './stream-view.ts'

export interface JetStreamConsensusParts {
  readonly bus: JetStreamBus
  /** Names this node to another that asks. */
  readonly nodeId: string
  readonly log: Log
  /** The order is over and the node must stop. Called once, and never before `start` resolved. */
  readonly onFailed: (error: CMeshError) => void
}

export interface JetStreamConsensusOptions {
  /** Name of the stream. Default `CMESH_ORDER`. */
  readonly stream?: string
  /** Copies of the stream, 1 to 5, at most the servers of the cluster. Default 1. */
  readonly replicas?: number
  /** Most bytes the stream keeps on disk; past it proposals are refused. Default 512 MiB. */
  readonly maxBytes?: number
  /** How many entries that state holds stay in the stream, 1 and up; fewer where they take over a quarter of `maxBytes`. Default 10,000. */
  readonly keep?: number
  /** Proposal ids that are surely remembered by this process. Default 32,768. */
  readonly window?: number
  /** How often the stream is looked at, in ms. Default 500. */
  readonly checkMs?: number
  /** How long a look or a read waits for its answer, in ms. Default 2,000. */
  readonly readTimeoutMs?: number
  /** How long a node that is there may take to say so, in ms. Default 1,000. */
  readonly answerMs?: number
  /** How long start waits for a node that starts at the same time, in ms. Default 25. */
  readonly settleMs?: number
  /** How long start waits for JetStream to be ready, and for a node under its key that does not answer to go, in ms. Default 60,000. */
  readonly readyMs?: number
  /** How long `stop` waits for proposals under way, in ms; it does not wait for a broker that is away. Default 5,000. */
  readonly drainMs?: number
  /** Clock in ms since 1970, for deadlines only. Default `Date.now`. */
  readonly now?: () => number
}

export class JetStreamConsensus implements ConsensusProvider {
  readonly shared = true
  readonly #parts: JetStreamConsensusParts
  readonly #options: Required<JetStreamConsensusOptions>
  readonly #held: BusSubscription[] = []
  /** Fires when a start under way is no longer wanted. */
  readonly #unwanted = new AbortController()
  #state: 'idle' | 'starting' | 'running' | 'draining' | 'stopped' = 'idle'
  #starting: Promise<void> | undefined
  #stopping: Promise<void> | undefined
  #session: OrderSession | undefined

  constructor(parts: JetStreamConsensusParts, options: JetStreamConsensusOptions = {}) {
    this.#parts = parts
    this.#options = {
      stream: 'CMESH_ORDER', replicas: 1, maxBytes: 512 * 1024 * 1024, keep: 10_000, window: 32_768, checkMs: 500, readTimeoutMs: 2_000,
      answerMs: 1_000, settleMs: 25, readyMs: READY_MS, drainMs: 5_000, now: Date.now, ...options,
    }
  }

  /**
   * Resolves when everything the stream held is delivered. The first start makes the stream, which then begins behind `from`.
   * Memoised. Rejects with `CMESH_CONSENSUS_SECOND_NODE`, `CMESH_CONSENSUS_SAME_KEY`, a `CMESH_CONSENSUS_STREAM_*` that says why the stream does not go
   * with the log, `CMESH_BUS_STREAM`, or the bus's error, and holds nothing then.
   */
  start(from: LogHead, deliver: (entry: LogEntry) => void, catchUp?: CatchUpLog): Promise<void> {
    if (this.#state === 'draining' || this.#state === 'stopped') return Promise.reject(new CMeshError('CMESH_ROUTER_DRAINING'))
    this.#starting ??= this.#start(from, deliver, catchUp)
    return this.#starting
  }

  async #start(from: LogHead, deliver: (entry: LogEntry) => void, catchUp: CatchUpLog | undefined): Promise<void> {
    const { bus, log } = this.#parts
    this.#state = 'starting'
    try {
      await this.#takePlace()
      const onOver = (error: CMeshError): void => {
        // One that is over before it has begun is told by `start`.
        if (this.#state === 'running' || this.#state === 'draining') this.#parts.onFailed(error)
      }
      this.#session = new OrderSession({ bus, log, options: this.#options, from, deliver, catchUp, onOver })
      await this.#session.begin()
      this.#checkWanted()
      this.#state = 'running'
    } catch (thrown) {
      const error = CMeshError.from(thrown, 'consensus')
      this.#release(error)
      throw error
    }
  }

  /**
   * Resolves once the stream holds the entry and `deliver` has seen it. Rejects with `CMESH_ROUTER_DEADLINE` when nothing
   * left before the deadline, `CMESH_ROUTER_UNKNOWN_OUTCOME` when something did, `CMESH_CONSENSUS_FULL`, `CMESH_BUS_STORE`,
   * `CMESH_ROUTER_DRAINING`, `CMESH_ROUTER_NO_SERVICE` before the start, or what ended the order.
   */
  async propose(proposal: Proposal): Promise<Committed> {
    if (this.#state === 'draining' || this.#state === 'stopped') throw new CMeshError('CMESH_ROUTER_DRAINING')
    if (this.#state !== 'running' || this.#session === undefined) throw new CMeshError('CMESH_ROUTER_NO_SERVICE', { service: 'consensus' })
    return this.#session.propose(proposal)
  }

  /** As of the last look at the stream. The term counts the changes of leader that this process saw. */
  status(): ConsensusStatus {
    return this.#session?.status() ?? new StreamView(this.#options.stream).status(0)
  }

  trim(seq: number): void {
    this.#session?.trim(seq)
  }

  async drain(): Promise<void> {
    this.#unwanted.abort()
    // A start has nothing under way that would be worth waiting for.
    if (this.#state === 'starting') this.#session?.close(new CMeshError('CMESH_ROUTER_DRAINING'))
    if (this.#state !== 'stopped') this.#state = 'draining'
    await this.#session?.settled()
  }

  stop(): Promise<void> {
    this.#stopping ??= this.#stop()
    return this.#stopping
  }

  async #stop(): Promise<void> {
    const cutOff = setTimeout(() => { this.#session?.close(new CMeshError('CMESH_ROUTER_DRAINING')) }, this.#options.drainMs)
    await this.drain()
    clearTimeout(cutOff)
    this.#state = 'stopped'
    // A start under way sees the state and lets go by itself; its caller is told.
    await Promise.allSettled([this.#starting])
    this.#release(new CMeshError('CMESH_ROUTER_DRAINING'))
  }

  async #takePlace(): Promise<void> {
    const { bus, nodeId, log } = this.#parts
    const { answerMs, settleMs, readyMs } = this.#options
    const refuse = (_: string, options?: ErrorOptions): CMeshError => new CMeshError('CMESH_CONSENSUS_SAME_KEY', { node: nodeId }, options)
    const place = { bus, nodeId, answerMs, patience: new Patience({ readyMs, log, signal: this.#unwanted.signal, passes: placePasses }) }
    this.#held.push(await holdAlone({ ...place, subject: controlSubject('consensus', 'node', nodeId), settleMs, refuse }))
    this.#checkWanted()
    // Beside a node whose order is the mock's there would be two orders.
    this.#held.push(holdShared({ bus, subject: STREAM_NODES, nodeId }))
    await checkNobody({ ...place, subject: MOCK_NODE })
  }

  #release(reason: CMeshError): void {
    this.#session?.close(reason)
    for (const subscription of this.#held.splice(0)) subscription.unsubscribe()
  }

  #checkWanted(): void {
    if (this.#state !== 'starting') throw new CMeshError('CMESH_ROUTER_DRAINING')
  }
}
