/**
 * What the ordering stream holds, from a sequence on. Live messages come by the stream's republication, which costs no consumer
 * that would have to be made again after a failure; holes and what was stored before are read by direct get; and since
 * the last message before a broker dies may never be republished, the stream's end is asked for now and then.
 *
 * Invariants:
 * 1. `onEntry` sees every message once, in order, without a hole, and never while it runs.
 * 2. Waiting messages and reads under way are bounded; what does not fit is read again later.
 * 3. A broker that goes away costs time, never a message.
 */
import type { Msg, Subscription } from '@nats-io/nats-core'
import { CMeshError } from '../../cmtp/errors.ts'
import type { Patience } from '../bus/patience.ts'
import { denied, type JetStreamBus } from '../jetstream/calls.ts'
import type { StreamApi, StreamReport } from '../jetstream/stream-api.ts'

export interface OrderFeedParts {
  readonly bus: JetStreamBus
  readonly api: StreamApi
  /** Where the stream republishes. */
  readonly subject: string
  /** The last sequence that is not wanted any more. */
  readonly after: number
  /** How often the stream's end is asked for, in ms. */
  readonly checkMs: number
  /** `data` is the receiver's; `id` is empty for a message that came without a proposal's id. */
  readonly onEntry: (seq: number, id: string, data: Uint8Array) => void
  /** A message at or before what was delivered was stored just now, as it seems. */
  readonly onLate: (seq: number, id: string) => void
  /** What the stream says of itself, and how far it had been delivered when it was asked. */
  readonly onReport: (report: StreamReport | undefined, delivered: number) => void
  /** The stream has no message of this sequence, though it begins before it and ends behind it. */
  readonly onHole: (seq: number) => void
  readonly onDenied: (error: CMeshError) => void
}

interface Waiting {
  readonly id: string
  readonly data: Uint8Array
}

/** Reads under way, and how far ahead of the next entry they go. */
const READS = 64
const AHEAD = 256
/** Live messages behind a hole, in messages and bytes. */
const WAITING = 4_096
const WAITING_BYTES = 32 * 1024 * 1024
const AGAIN_FIRST_MS = 20
const AGAIN_LAST_MS = 500
const PROPOSAL_ID = /^[0-9a-f]{32}$/

export class OrderFeed {
  readonly #parts: OrderFeedParts
  readonly #waiting = new Map<number, Waiting>()
  readonly #reading = new Set<number>()
  #waitingBytes = 0
  /** The next sequence to hand over; the newest one known to be stored; the next one to be read. */
  #next: number
  #high: number
  #cursor: number
  #handing = false
  #checking = false
  #closed: CMeshError | undefined
  #misses = 0
  #again: NodeJS.Timeout | undefined
  #timer: NodeJS.Timeout | undefined
  #subscription: Subscription | undefined
  #stopListening: (() => void) | undefined
  #goal: { readonly seq: number, readonly resolve: () => void, readonly reject: (error: CMeshError) => void } | undefined
  /** Messages that had to be read, since they did not come by themselves. */
  reads = 0

  constructor(parts: OrderFeedParts) {
    this.#parts = parts
    this.#next = parts.after + 1
    this.#high = parts.after
    this.#cursor = this.#next
  }

  get delivered(): number {
    return this.#next - 1
  }

  get high(): number {
    return this.#high
  }

  /** Resolves when it listens. Rejects with the bus's error, where `patience` is over. */
  async start(patience: Patience): Promise<void> {
    const { bus, subject, checkMs, onDenied } = this.#parts
    this.#stopListening = bus.onStatus(status => {
      if (status === 'connected') void this.#check()
    })
    this.#subscription = bus.connection.subscribe(subject, {
      callback: (failure, message) => {
        if (failure === null) this.#live(message)
        else onDenied(denied(subject, failure))
      },
    })
    await patience.with('the broker', () => bus.flush())
    this.#timer = setInterval(() => { void this.#check() }, checkMs).unref()
  }

  /** The stream is known to go so far. */
  reached(seq: number): void {
    this.#high = Math.max(this.#high, seq)
    this.#fill()
  }

  /** Resolves when everything up to `seq` was handed over. Rejects when the feed is closed before. */
  reach(seq: number): Promise<void> {
    this.reached(seq)
    return new Promise((resolve, reject) => {
      if (this.#closed !== undefined) reject(this.#closed)
      else if (this.delivered >= seq) resolve()
      else this.#goal = { seq, resolve, reject }
    })
  }

  close(reason = new CMeshError('CMESH_ROUTER_DRAINING')): void {
    if (this.#closed !== undefined) return
    this.#closed = reason
    clearInterval(this.#timer)
    clearTimeout(this.#again)
    this.#stopListening?.()
    if (this.#subscription?.isClosed() === false) this.#subscription.unsubscribe()
    this.#waiting.clear()
    this.#goal?.reject(reason)
  }

  #live(message: Msg): void {
    const seq = Number(message.headers?.get('Nats-Sequence'))
    if (this.#closed !== undefined || !(seq > 0)) return
    const id = idOf(message)
    if (seq < this.#next) return this.#parts.onLate(seq, id)
    const full = seq !== this.#next && (this.#waiting.size >= WAITING || this.#waitingBytes + message.data.length > WAITING_BYTES)
    // Copied: what arrived is a view into the chunk the connection read, and would keep all of it.
    if (!full) this.#take(seq, { id, data: Buffer.from(message.data) })
    this.reached(seq)
  }

  #take(seq: number, message: Waiting): void {
    if (seq < this.#next || this.#waiting.has(seq)) return
    this.#waiting.set(seq, message)
    this.#waitingBytes += message.data.length
    this.#high = Math.max(this.#high, seq)
    if (!this.#handing) this.#hand()
  }

  #hand(): void {
    this.#handing = true
    for (;;) {
      const entry = this.#closed === undefined ? this.#waiting.get(this.#next) : undefined
      if (entry === undefined) break
      this.#waiting.delete(this.#next)
      this.#waitingBytes -= entry.data.length
      this.#parts.onEntry(this.#next++, entry.id, entry.data)
    }
    this.#handing = false
    if (this.#goal === undefined || this.delivered < this.#goal.seq) return
    this.#goal.resolve()
    this.#goal = undefined
  }

  /** Reads what is missing between the next entry and the newest one known. */
  #fill(): void {
    if (this.#closed !== undefined) return
    this.#cursor = Math.max(this.#cursor, this.#next)
    while (this.#reading.size < READS && this.#cursor <= this.#high && this.#cursor < this.#next + AHEAD) {
      const seq = this.#cursor++
      if (!this.#waiting.has(seq) && !this.#reading.has(seq)) void this.#read(seq)
    }
  }

  async #read(seq: number): Promise<void> {
    this.#reading.add(seq)
    try {
      const message = await this.#parts.api.direct({ seq })
      if (message !== undefined) {
        this.reads++
        this.#misses = 0
        if (this.#closed === undefined) this.#take(seq, { id: idOf(message), data: Buffer.from(message.data) })
      } else if (await this.#isHole(seq)) {
        this.#parts.onHole(seq)
      } else {
        this.#later()
      }
    } catch {
      // The broker is away, or slow: what is missing stays missing, and is read again.
      this.#later()
    } finally {
      this.#reading.delete(seq)
    }
    this.#fill()
  }

  /** Whether nobody has the message: a replica that lags has not yet, the leader must. */
  async #isHole(seq: number): Promise<boolean> {
    const { api } = this.#parts
    if (this.#closed !== undefined || seq < this.#next || await api.message({ seq }) !== undefined) return false
    const delivered = this.delivered
    const report = await api.report()
    if (this.#closed !== undefined) return false
    this.#parts.onReport(report, delivered)
    return report !== undefined && seq >= this.#next && report.state.first_seq <= seq && seq <= report.state.last_seq
  }

  #later(): void {
    if (this.#again !== undefined || this.#closed !== undefined) return
    this.#again = setTimeout(() => {
      this.#again = undefined
      this.#cursor = this.#next
      this.#fill()
    }, Math.min(AGAIN_LAST_MS, AGAIN_FIRST_MS * 2 ** Math.min(this.#misses++, 8)))
  }

  async #check(): Promise<void> {
    if (this.#checking || this.#closed !== undefined || this.#parts.bus.status !== 'connected') return
    this.#checking = true
    const delivered = this.delivered
    try {
      const report = await this.#parts.api.report()
      if (this.#closed !== undefined) return
      this.#parts.onReport(report, delivered)
      if (report !== undefined) this.reached(report.state.last_seq)
    } catch {
      // It says nothing of the stream: the next check asks again.
    } finally {
      this.#checking = false
    }
  }
}

function idOf({ headers }: Msg): string {
  const id = headers?.get('Nats-Msg-Id') ?? ''
  return PROPOSAL_ID.test(id) ? id : ''
}
