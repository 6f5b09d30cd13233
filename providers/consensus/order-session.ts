/**
 * One node's part in the order that a stream keeps, from its start until it is over: it finds or makes the stream, holds it
 * against the log, and joins the way in (`proposals.ts`) to the way out (`order-feed.ts`). It is over when it is closed, or with
 * the first sign that the stream is another than it was: then nothing is delivered any more.
 */
import { CMeshError } from '../../cmtp/errors.ts'
import { orderStoredSubject, orderSubject } from '../../cmtp/subject.ts'
import type { CatchUpLog, Committed, ConsensusStatus, LogEntry, LogHead, Proposal } from '../../services/consensus/provider.ts'
import type { Log } from '../../services/log.ts'
import type { Patience } from '../bus/patience.ts'
import { JetStreamCalls } from '../jetstream/calls.ts'
import type { JetStreamBus } from '../jetstream/calls.ts'
import { StreamPublisher, type PublishAck } from '../jetstream/publish.ts'
import { NO_LEADER, refused } from '../jetstream/refusal.ts'
import { StreamApi, type StreamReport } from '../jetstream/stream-api.ts'
import { ensureStream, findStream, managerOf, patient } from '../jetstream/stream.ts'
import { caughtUp } from './behind.ts'
import { OrderFeed } from './order-feed.ts'
import { checkGoesOn, lostStream, orderBehind, orderedStream, otherStream, type Order, type OrderedStreamOptions } from './ordered-stream.ts'
import { Proposals } from './proposals.ts'
import { SeenProposals } from './seen-proposals.ts'
import { StreamView } from './stream-view.ts'
import { Trimmer } from './trimmer.ts'

export interface OrderSessionOptions extends OrderedStreamOptions {
  readonly keep: number
  readonly window: number
  readonly checkMs: number
  readonly readTimeoutMs: number
  readonly readyMs: number
  readonly now: () => number
}

export interface OrderSessionParts {
  readonly bus: JetStreamBus
  readonly log: Log
  readonly options: OrderSessionOptions
  readonly from: LogHead
  readonly deliver: (entry: LogEntry) => void
  /** Gets what the log lacks from elsewhere. Default: the stream is all there is. */
  readonly catchUp?: CatchUpLog | undefined
  /** It is over, and not because it was closed. Called once. */
  readonly onOver: (error: CMeshError) => void
}

/** What follows from where the order begins. */
interface Joined {
  readonly order: Order
  readonly feed: OrderFeed
  readonly proposals: Proposals
  readonly trimmer: Trimmer
}

export class OrderSession {
  readonly #parts: OrderSessionParts
  readonly #calls: JetStreamCalls
  readonly #api: StreamApi
  readonly #seen: SeenProposals
  readonly #view: StreamView
  readonly #closing = new AbortController()
  readonly #patience: Patience
  /** Where the log ends when the order is taken up. */
  #from: LogHead
  #joined: Joined | undefined
  #over: CMeshError | undefined

  constructor(parts: OrderSessionParts) {
    const { bus, log, options: { stream, readTimeoutMs, readyMs, window } } = parts
    this.#parts = parts
    this.#from = parts.from
    this.#calls = new JetStreamCalls(bus)
    this.#api = new StreamApi(this.#calls, stream, readTimeoutMs)
    this.#seen = new SeenProposals(window)
    this.#view = new StreamView(stream)
    this.#patience = patient({ readyMs, log, signal: this.#closing.signal })
  }

  /** Resolves when everything that the stream held is delivered. Rejects with what the provider's `start` names. */
  async begin(): Promise<void> {
    try {
      await this.#begin()
    } catch (thrown) {
      // What failed because it is over failed for that reason.
      throw this.#over ?? thrown
    }
  }

  async #begin(): Promise<void> {
    const { stream } = this.#parts.options
    const order = await this.#takeUp()
    const from = this.#from
    await this.#checkNewest(from.seq - order.base)
    this.#check()
    const { feed } = this.#joined = this.#join(order)
    await feed.start(this.#patience)
    const report = await this.#patience.with(`the stream ${stream}`, () => this.#led())
    if (report === undefined) throw lostStream(stream, 'it is gone')
    checkGoesOn(stream, report, from)
    await feed.reach(report.state.last_seq)
    this.#check()
  }

  async propose(proposal: Proposal): Promise<Committed> {
    const { order, proposals } = this.#live()
    if (this.#over !== undefined) throw this.#over
    const first = this.#seen.get(proposal.id)
    if (first === undefined && proposal.deadlineMs < this.#parts.options.now()) throw new CMeshError('CMESH_ROUTER_DEADLINE')
    const { seq, duplicate } = first === undefined ? await proposals.submit(proposal) : { seq: first, duplicate: true }
    return { epoch: order.epoch, seq: order.base + seq, duplicate }
  }

  status(): ConsensusStatus {
    return this.#view.status(this.#joined?.feed.high ?? 0)
  }

  trim(seq: number): void {
    this.#joined?.trimmer.durable(seq)
  }

  /** Resolves when no proposal is under way. */
  async settled(): Promise<void> {
    await this.#joined?.proposals.settled()
  }

  /** What is under way ends with `reason`. Idempotent. */
  close(reason: CMeshError): void {
    this.#over ??= reason
    this.#closing.abort()
    this.#joined?.feed.close(reason)
    this.#joined?.proposals.fail(reason)
    this.#calls.close()
  }

  /** Finds the stream, or makes it. */
  async #takeUp(): Promise<Order> {
    const { bus, log, catchUp, options } = this.#parts
    const { stream } = options
    const manager = await managerOf(bus)
    let found = await findStream(manager, stream, this.#patience)
    const from = found === undefined ? this.#from : await caughtUp(found, this.#from, catchUp, log)
    // What others hold by now may be more than the stream held when it was looked at.
    if (from !== this.#from) found = await findStream(manager, stream, this.#patience)
    this.#from = from
    // Before anything is changed: a stream that is not ours stays as it is.
    const order = found === undefined ? orderBehind(from) : checkGoesOn(stream, found, from)
    this.#check()
    // A stream made now would begin before what this node has acknowledged.
    if (found === undefined && from.claimed !== undefined && from.claimed > from.seq) {
      throw new CMeshError('CMESH_STATE_BEHIND', { head: from.seq, claimed: from.claimed })
    }
    // What ordered these entries may have ordered more: places are given out again in another epoch alone.
    if (found === undefined && from.begun === true) throw new CMeshError('CMESH_CONSENSUS_NOT_MIGRATED', { stream, head: from.seq, epoch: from.epoch })
    if (found === undefined && from.seq > 0) log.warn({ stream, head: from.seq }, 'there is no stream of the order yet: it is made, and begins behind the log')
    const made = await ensureStream(manager, orderedStream(options, order), this.#patience)
    this.#view.begin(order, made, this.#server())
    return order
  }

  /** What the stream's leader says of it: a server that was killed and reads its copy back says for seconds that it ends earlier. */
  async #led(): Promise<StreamReport | undefined> {
    const report = await this.#api.report()
    if (report?.cluster !== undefined && (report.cluster.leader ?? '') === '') throw refused(this.#parts.options.stream, NO_LEADER)
    return report
  }

  /** The newest entry of the log must be the stream's, where the stream still has it. */
  async #checkNewest(seq: number): Promise<void> {
    const { options: { stream } } = this.#parts
    const { data } = this.#from
    if (data === undefined || seq === 0) return
    const stored = await this.#patience.with(`the stream ${stream}`, () => this.#api.message({ seq }))
    if (stored === undefined || Buffer.from(stored.data ?? '', 'base64').equals(data)) return
    throw otherStream(stream, `its message ${seq} is not the newest entry of the log`)
  }

  #join(order: Order): Joined {
    const { bus, log, options: { stream, checkMs, keep, maxBytes, now } } = this.#parts
    const feed = new OrderFeed({
      bus, api: this.#api, subject: orderStoredSubject(stream), after: this.#from.seq - order.base, checkMs,
      onEntry: (seq, id, data) => { this.#entry(seq, id, data) },
      onLate: (seq, id) => { this.#checkOld(id, seq) },
      onReport: (report, delivered) => { this.#reported(report, delivered) },
      onHole: seq => { this.#end(lostStream(stream, `its message ${seq} is gone`)) },
      onDenied: error => { this.#end(error) },
    })
    const full = (reason: string): CMeshError => new CMeshError('CMESH_CONSENSUS_FULL', { stream, reason })
    const proposals = new Proposals({
      publisher: new StreamPublisher(bus, this.#calls, stream, { full }), subject: orderSubject(stream), now,
      delivered: () => feed.delivered,
      onAck: (id, ack) => { this.#acknowledged(id, ack) },
    })
    return { order, feed, proposals, trimmer: new Trimmer({ api: this.#api, base: order.base, keep, keepBytes: maxBytes / 4, log }) }
  }

  #entry(seq: number, id: string, data: Uint8Array): void {
    const { order, proposals } = this.#live()
    if (id !== '') this.#seen.add(id, seq)
    try {
      this.#parts.deliver({ epoch: order.epoch, seq: order.base + seq, id, data })
    } catch (thrown) {
      const reason = `entry ${order.base + seq} could not be taken in`
      return this.#end(new CMeshError('CMESH_STATE_HALTED', { reason }, { cause: thrown }))
    }
    if (id !== '') proposals.delivered(id, seq)
  }

  #acknowledged(id: string, { seq, duplicate }: PublishAck): void {
    const { feed } = this.#live()
    if (seq > feed.delivered) feed.reached(seq)
    else if (!duplicate) this.#checkOld(id, seq)
  }

  /** A sequence that was delivered is given out again: then it is for another entry. */
  #checkOld(id: string, seq: number): void {
    if (id !== '' && this.#seen.get(id) !== seq) this.#end(lostStream(this.#parts.options.stream, `its message ${seq} was given out twice`))
  }

  #reported(report: StreamReport | undefined, delivered: number): void {
    const { feed, trimmer } = this.#live()
    const error = this.#view.look(report, delivered, feed.delivered, this.#server())
    if (error !== undefined) this.#end(error)
    else if (report !== undefined) void trimmer.look(report.state)
  }

  #server(): string {
    return this.#parts.bus.connection.info?.server_name ?? 'nats'
  }

  #end(error: CMeshError): void {
    if (this.#over !== undefined) return
    this.close(error)
    this.#parts.onOver(error)
  }

  #check(): void {
    if (this.#over !== undefined) throw this.#over
  }

  #live(): Joined {
    if (this.#joined === undefined) throw new CMeshError('CMESH_ROUTER_NO_SERVICE', { service: 'consensus' })
    return this.#joined
  }
}
