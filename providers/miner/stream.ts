/**
 * Requests from a JetStream work queue: a session leaves CMTP frames with its own token on `cmesh.v1.mine.<sid>`, and the nodes of
 * a mesh share them out by one durable pull consumer. The broker keeps the position.
 *
 * Invariants: an entry leaves the stream only by `done`, as garbage, or after its last try; never more than `maxInFlight`
 * are under way here, and nothing is pulled beyond that; an entry that takes long is kept from coming twice by telling the
 * broker so; the stream refuses new entries when it is full and never drops one that it took.
 */
import { createInbox } from '@nats-io/nats-core'
import type { Msg, Subscription } from '@nats-io/nats-core'
import type { ConsumerInfo, JetStreamManager } from '@nats-io/jetstream'
import { CMeshError } from '../../cmtp/errors.ts'
import { sessionOfMine } from '../../cmtp/subject.ts'
import type { MinerHandler, MinerOutcome, MinerSource, MinerSourceStats } from '../../services/miner/provider.ts'
import type { Log } from '../../services/log.ts'
import { READY_MS } from '../bus/patience.ts'
import { denied, type JetStreamBus } from '../jetstream/calls.ts'
import { ensureStream, managerOf, patient, unusable } from '../jetstream/stream.ts'
import { ACK, deliveryOf, nak, TERM, WORKING, type Delivery } from './delivery.ts'
import { Garbage } from './garbage.ts'
import { sharedConsumer, streamConfig, type StreamSourceOptions } from './work-queue.ts'

export type { StreamSourceOptions }

export interface StreamSourceParts {
  readonly bus: JetStreamBus
  readonly onFailure: (failure: CMeshError) => void
  /** Told what `start` waits for. */
  readonly log?: Pick<Log, 'info' | 'warn'>
}

/** How long one pull stands at the broker, and how much later it is taken for lost, in ms. */
const PULL_MS = 10_000
const PULL_GRACE_MS = 2_000
/** How soon a pull that the broker could not take is made again, in ms: it may just be starting. */
const PULL_AGAIN_MS = 250
/** Status of a pull whose time is over (NATS ADR-13). */
const EXPIRED = 408
const RETRY_DELAY_MOST_MS = 60_000

interface Running {
  readonly manager: JetStreamManager
  readonly inbox: string
  readonly subscription: Subscription
  readonly timer: NodeJS.Timeout
  readonly stopListening: () => void
}

export class StreamSource implements MinerSource {
  readonly name = 'stream'
  readonly #bus: JetStreamBus
  readonly #onFailure: (failure: CMeshError) => void
  readonly #log: StreamSourceParts['log']
  readonly #options: Required<StreamSourceOptions>
  readonly #garbage: Garbage
  /** By sequence in the stream: where to send word about the entry, and the end of its handling. */
  readonly #underWay = new Map<number, { readonly reply: string, readonly settled: Promise<void> }>()
  #running: Running | undefined
  #started: Promise<void> | undefined
  #stopped: Promise<void> | undefined
  #stopping = false
  /** Fires when a start under way is no longer wanted. */
  readonly #unwanted = new AbortController()
  /** Entries the pull at the broker may still bring. */
  #pulled = 0
  #pulledUntilMs = 0
  #again: NodeJS.Timeout | undefined
  /** What could not be said about entries that ended while there was no connection; at most as many as may be under way. */
  #unsaid: { readonly reply: string, readonly word: Uint8Array }[] = []
  #toldMs = 0
  #done = 0
  #retried = 0
  #abandoned = 0
  /** Entries that are not done and not under way here, as far as is known. */
  #waiting = 0

  constructor(parts: StreamSourceParts, options: StreamSourceOptions = {}) {
    this.#bus = parts.bus
    this.#onFailure = parts.onFailure
    this.#log = parts.log
    this.#options = {
      stream: 'CMESH_MINE', consumer: 'miner', replicas: 1, maxBytes: 256 * 1024 * 1024, maxInFlight: 128,
      ackWaitMs: 30_000, maxDeliver: 5, retryDelayMs: 1_000, readyMs: READY_MS, ...options,
    }
    this.#garbage = new Garbage({ source: 'stream', onFailure: parts.onFailure, now: () => performance.now() })
  }

  /** Rejects with `CMESH_BUS_STREAM` when JetStream is missing or the stream cannot be used. */
  start(handler: MinerHandler): Promise<void> {
    this.#started ??= this.#start(handler)
    return this.#started
  }

  stop(): Promise<void> {
    this.#stopped ??= this.#stop()
    return this.#stopped
  }

  stats(): MinerSourceStats {
    return {
      done: this.#done,
      retried: this.#retried,
      abandoned: this.#abandoned,
      garbage: this.#garbage.count,
      inFlight: this.#underWay.size,
      lag: this.#waiting + this.#underWay.size,
      lagUnit: 'entries',
      reports: this.#garbage.reports,
    }
  }

  async #start(handler: MinerHandler): Promise<void> {
    const { bus, stream, ackWaitMs, readyMs } = { bus: this.#bus, ...this.#options }
    const patience = patient({ readyMs, signal: this.#unwanted.signal, ...(this.#log !== undefined && { log: this.#log }) })
    const manager = await managerOf(bus)
    await ensureStream(manager, streamConfig(this.#options), patience)
    try {
      const info = await patience.with(`the consumer of ${stream}`, () => sharedConsumer(manager, this.#options))
      this.#waiting = lagOf(info)
    } catch (thrown) {
      throw unusable(stream, thrown)
    }
    if (this.#stopping) throw new CMeshError('CMESH_BUS_CLOSED')
    const inbox = createInbox()
    const subscription = bus.connection.subscribe(inbox, {
      callback: (failure, message) => {
        if (failure === null) this.#received(message, handler)
        else this.#onFailure(denied(inbox, failure))
      },
    })
    const timer = setInterval(() => { this.#beat() }, Math.max(250, Math.min(ackWaitMs / 3, 5_000))).unref()
    const stopListening = bus.onStatus(status => {
      this.#pulled = 0
      if (status !== 'connected') return
      for (const { reply, word } of this.#unsaid.splice(0)) this.#tell(reply, word)
      this.#pull()
    })
    this.#running = { manager, inbox, subscription, timer, stopListening }
    this.#pull()
  }

  async #stop(): Promise<void> {
    this.#stopping = true
    this.#unwanted.abort()
    await this.#started?.catch(() => undefined)
    const running = this.#running
    if (running === undefined) return
    running.stopListening()
    // Nobody listens for the pull any more, so the broker drops it; what it sent meanwhile comes again after `ackWaitMs`.
    if (!running.subscription.isClosed()) running.subscription.unsubscribe()
    await Promise.all([...this.#underWay.values()].map(({ settled }) => settled))
    clearInterval(running.timer)
    clearTimeout(this.#again)
    this.#running = undefined
    // The words about the last entries are on their way to the broker before the bus may be closed.
    try {
      if (this.#bus.status === 'connected') await this.#bus.flush()
    } catch (thrown) {
      this.#onFailure(CMeshError.from(thrown, 'miner'))
    }
  }

  /** Asks for as many entries as there is room for, unless a pull stands at the broker already. */
  #pull(): void {
    const running = this.#running
    if (running === undefined || this.#stopping || this.#bus.status !== 'connected') return
    const now = performance.now()
    const room = this.#options.maxInFlight - this.#underWay.size
    const standing = this.#pulled > 0 && now < this.#pulledUntilMs
    if (standing || room === 0) return
    this.#pulled = room
    this.#pulledUntilMs = now + PULL_MS + PULL_GRACE_MS
    const { stream, consumer } = this.#options
    const request = JSON.stringify({ batch: room, expires: PULL_MS * 1e6 })
    this.#bus.connection.publish(`$JS.API.CONSUMER.MSG.NEXT.${stream}.${consumer}`, request, { reply: running.inbox })
  }

  #received(message: Msg, handler: MinerHandler): void {
    const delivery = deliveryOf(message.reply)
    if (delivery === undefined) {
      // A status: the pull has ended, by its time or because the broker does not take it.
      this.#pulled = 0
      if (message.headers?.code === EXPIRED) this.#pull()
      else this.#again ??= setTimeout(() => { this.#again = undefined; this.#pull() }, PULL_AGAIN_MS).unref()
      return
    }
    this.#pulled = Math.max(0, this.#pulled - 1)
    this.#waiting = delivery.pending
    this.#take(message, delivery, handler)
    this.#pull()
  }

  #take(message: Msg, delivery: Delivery, handler: MinerHandler): void {
    const { seq, count } = delivery
    const reply = message.reply ?? ''
    // The broker thought it lost; it is under way, and its end will be told.
    if (this.#underWay.has(seq) || this.#stopping) return
    if (count > this.#options.maxDeliver) {
      // Its last try never ended: whatever handled it may not have survived it.
      this.#abandon(seq, reply, count - 1)
      return
    }
    const sid = sessionOfMine(message.subject)
    if (sid === undefined) {
      this.#settle({ garbage: `it was left on ${message.subject}, which names no session` }, reply, delivery)
      return
    }
    const settled = handler({ id: String(seq), frame: message.data, sid }).then(
      outcome => { this.#settle(outcome, reply, delivery) },
      (thrown: unknown) => {
        this.#onFailure(CMeshError.from(thrown, 'miner'))
        this.#settle('retry', reply, delivery)
      },
    ).finally(() => {
      this.#underWay.delete(seq)
      this.#pull()
    })
    this.#underWay.set(seq, { reply, settled })
  }

  #settle(outcome: MinerOutcome, reply: string, { seq, count }: Delivery): void {
    if (outcome === 'done') {
      this.#done++
      this.#tell(reply, ACK)
    } else if (outcome !== 'retry') {
      this.#garbage.add(this.#placeOf(seq), outcome.garbage)
      this.#tell(reply, TERM)
    } else {
      this.#retried++
      const { maxDeliver, retryDelayMs } = this.#options
      if (this.#stopping) this.#tell(reply, nak(0))
      else if (count >= maxDeliver) this.#abandon(seq, reply, count)
      else this.#tell(reply, nak(Math.min(RETRY_DELAY_MOST_MS, retryDelayMs * 2 ** (count - 1))))
    }
  }

  #abandon(seq: number, reply: string, tries: number): void {
    this.#abandoned++
    this.#garbage.report(this.#placeOf(seq), `given up after ${tries} tries`)
    this.#tell(reply, TERM)
  }

  /** Word that gets lost with the connection means that the entry comes again. */
  #tell(reply: string, word: Uint8Array): void {
    if (this.#bus.status === 'connected') this.#bus.connection.publish(reply, word)
    else if (word !== WORKING) this.#unsaid.push({ reply, word })
  }

  #placeOf(seq: number): string {
    return `message ${seq} of ${this.#options.stream}`
  }

  /** Keeps the broker from handing out again what is under way, finds a pull that got lost, and learns what waits. */
  #beat(): void {
    const running = this.#running
    if (running === undefined || this.#bus.status !== 'connected') return
    for (const { reply } of this.#underWay.values()) this.#tell(reply, WORKING)
    this.#pull()
    running.manager.consumers.info(this.#options.stream, this.#options.consumer).then(
      info => { this.#waiting = Math.max(0, lagOf(info) - this.#underWay.size) },
      (thrown: unknown) => {
        if (this.#stopping || performance.now() - this.#toldMs < PULL_MS) return
        this.#toldMs = performance.now()
        this.#onFailure(unusable(this.#options.stream, thrown))
      },
    )
  }
}

/** What is not done: not handed out yet, and under way here, elsewhere or before another try. */
function lagOf(info: ConsumerInfo): number {
  return info.num_pending + info.num_ack_pending
}
