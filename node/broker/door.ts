/**
 * The node's connection among newcomers, which nothing of the node waits for: newcomers share a limit of connections with it, so whoever
 * fills their places keeps it out. It tries for ever, takes subscriptions meanwhile, and says why it is not in.
 *
 * Not a bus in one point: `flush` while it is out resolves, as the broker hears of the subscriptions when it comes in.
 */
import { setTimeout as delay } from 'node:timers/promises'
import { CMeshError } from '../../cmtp/errors.ts'
import type { Bus, BusMessage, BusRequestOptions, BusStatus, BusSubscription } from '../../services/bus/provider.ts'
import type { Log } from '../../services/log.ts'

/** Between two attempts, in ms: half of it fixed, half of it random. */
const RETRY_MS = 500
/** Longest that a boot is held up by the first attempt, in ms: the library notices a full account by its time-out alone. */
const FIRST_MS = 1_000

type Handler = (message: BusMessage) => void

export class Door implements Bus {
  readonly #open: () => Promise<Bus>
  readonly #log: Log
  readonly #closing = new AbortController()
  readonly #listeners = new Set<(status: BusStatus) => void>()
  readonly #waiting = new Set<DoorSubscription>()
  #bus: Bus | undefined
  #failure: CMeshError | undefined
  /** Resolves when it is in or was refused once, at the latest after a second. */
  readonly tried: Promise<void>

  /** Begins at once. `open` connects one time. */
  constructor(open: () => Promise<Bus>, log: Log) {
    this.#open = open
    this.#log = log
    const first = delay(FIRST_MS, undefined, { signal: this.#closing.signal, ref: false }).catch(() => undefined)
    this.tried = Promise.race([this.#connect(), first])
  }

  get status(): BusStatus {
    if (this.#closing.signal.aborted) return 'closed'
    return this.#bus?.status ?? 'disconnected'
  }

  publish(subject: string, data: Uint8Array, reply?: string): void {
    this.#refuseClosed()
    this.#bus?.publish(subject, data, reply)
  }

  subscribe(subject: string, handler: Handler, options?: { readonly queue?: string }): BusSubscription {
    this.#refuseClosed()
    if (this.#bus !== undefined) return this.#bus.subscribe(subject, handler, options)
    const subscription = new DoorSubscription(bus => bus.subscribe(subject, handler, options), ended => { this.#waiting.delete(ended) })
    this.#waiting.add(subscription)
    return subscription
  }

  async request(subject: string, data: Uint8Array, options?: BusRequestOptions): Promise<Uint8Array> {
    this.#refuseClosed()
    if (this.#bus === undefined) throw new CMeshError('CMESH_BUS_DISCONNECTED')
    return this.#bus.request(subject, data, options)
  }

  async flush(): Promise<void> {
    this.#refuseClosed()
    if (this.#bus?.status === 'connected') await this.#bus.flush().catch(ofThoseWhoStay)
  }

  onStatus(listener: (status: BusStatus) => void): () => void {
    this.#listeners.add(listener)
    return () => this.#listeners.delete(listener)
  }

  /** An attempt under way is not waited for; what comes of it is closed. */
  async close(): Promise<void> {
    const first = !this.#closing.signal.aborted
    this.#closing.abort()
    await this.#bus?.close()
    if (first && this.#bus === undefined) this.#tell('closed')
  }

  /** One attempt, and the next after a while where it failed. Never rejects. */
  async #connect(): Promise<void> {
    try {
      const bus = await this.#open()
      if (this.#closing.signal.aborted) await bus.close()
      else this.#enter(bus)
    } catch (thrown) {
      if (this.#closing.signal.aborted) return
      const failure = CMeshError.from(thrown, 'the door')
      if (this.#failure === undefined) {
        this.#log.error({ err: failure, code: failure.code }, 'newcomers cannot come in: the node has no connection among them; it is tried again')
      }
      this.#failure = failure
      void this.#again()
    }
  }

  async #again(): Promise<void> {
    await delay(RETRY_MS / 2 + Math.random() * (RETRY_MS / 2), undefined, { signal: this.#closing.signal }).catch(() => undefined)
    if (!this.#closing.signal.aborted) await this.#connect()
  }

  #enter(bus: Bus): void {
    this.#bus = bus
    bus.onStatus(status => { this.#tell(status) })
    for (const subscription of this.#waiting) subscription.begin(bus)
    this.#waiting.clear()
    if (this.#failure !== undefined) this.#log.info({}, 'newcomers can come in')
    this.#tell('connected')
  }

  #tell(status: BusStatus): void {
    for (const listener of [...this.#listeners]) listener(status)
  }

  #refuseClosed(): void {
    if (this.#closing.signal.aborted) throw new CMeshError('CMESH_BUS_CLOSED')
  }
}

/** A subscription that the broker may hear of later. */
class DoorSubscription implements BusSubscription {
  readonly #subscribe: (bus: Bus) => BusSubscription
  readonly #onEnd: (ended: DoorSubscription) => void
  #inner: BusSubscription | undefined

  constructor(subscribe: (bus: Bus) => BusSubscription, onEnd: (ended: DoorSubscription) => void) {
    this.#subscribe = subscribe
    this.#onEnd = onEnd
  }

  begin(bus: Bus): void {
    this.#inner = this.#subscribe(bus)
  }

  async drain(): Promise<void> {
    this.#onEnd(this)
    await this.#inner?.drain()
  }

  unsubscribe(): void {
    this.#onEnd(this)
    this.#inner?.unsubscribe()
  }
}

/** A subscription outlives a disconnect. */
function ofThoseWhoStay(error: unknown): void {
  if (!(error instanceof CMeshError) || error.code !== 'CMESH_BUS_DISCONNECTED') throw error
}
