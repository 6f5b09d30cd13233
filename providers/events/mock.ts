/**
 * Events in memory, for tests and for a mesh that may forget. It keeps the newest events within its bounds, the oldest of
 * any channel going first, as a stream that discards old messages does. Nothing survives the process.
 *
 * Invariants: sequences are those of one log shared by all channels, so nobody comes to rely on dense ones; data is
 * copied in, and what is handed out is never changed again.
 */
import { CMeshError } from '../../cmtp/errors.ts'
import type { EventRange, EventsProvider, EventSubscription, MeshEvent, PublishFields, PublishResult } from '../../services/events/provider.ts'
import { MockGroups } from './mock-groups.ts'
import { MockLetters } from './mock-letters.ts'
import { checkChannelBytes, checkPublish, resolveRange } from './request.ts'

export interface MockEventsOptions {
  /** Most events kept, over all channels. 1 and up. Default 100,000. */
  readonly maxEvents?: number
  /** Most bytes of data kept, over all channels. Default 64 MiB. */
  readonly maxBytes?: number
  /** How long an id is remembered, in ms. Default 120,000. */
  readonly duplicateWindowMs?: number
  /** Most ids remembered; the oldest is forgotten first. Default 100,000. */
  readonly maxIds?: number
  /** Most bytes of dead letters; past it the oldest go, and past an eighth of it the oldest of one owner. Default 64 MiB. */
  readonly letterBytes?: number
  /** Wall clock, ms since 1970. */
  readonly now?: () => number
}

interface RememberedId {
  readonly seq: number
  readonly timeMs: number
}

export class MockEvents implements EventsProvider {
  readonly groups: MockGroups
  readonly letters: MockLetters
  readonly #maxEvents: number
  readonly #maxBytes: number
  readonly #windowMs: number
  readonly #maxIds: number
  readonly #now: () => number
  /** Every event, oldest first; each stands in the queue of its channel as well. */
  readonly #log = new Queue<MeshEvent>()
  readonly #channels = new Map<string, Queue<MeshEvent>>()
  readonly #ids = new Map<string, RememberedId>()
  readonly #idOrder = new Queue<{ readonly key: string, readonly remembered: RememberedId }>()
  readonly #handlers = new Map<string, Set<(event: MeshEvent) => void>>()
  #seq = 0
  #bytes = 0
  #stopped = false

  constructor(options: MockEventsOptions = {}) {
    this.#maxEvents = options.maxEvents ?? 100_000
    this.#maxBytes = options.maxBytes ?? 64 * 1024 * 1024
    this.#windowMs = options.duplicateWindowMs ?? 120_000
    this.#maxIds = options.maxIds ?? 100_000
    this.#now = options.now ?? Date.now
    const assertOpen = (): void => { this.#assertOpen() }
    this.groups = new MockGroups({ events: channel => this.#channels.get(channel) ?? [], head: () => this.#seq, now: this.#now, assertOpen })
    this.letters = new MockLetters(options.letterBytes ?? 64 * 1024 * 1024, assertOpen)
  }

  start(): Promise<void> {
    return Promise.resolve()
  }

  async publish(channel: string, data: Uint8Array, options?: PublishFields): Promise<PublishResult> {
    this.#assertOpen()
    checkPublish(channel, data)
    const timeMs = this.#now()
    const key = options?.id === undefined ? undefined : `${channel} ${options.id}`
    if (key !== undefined) {
      this.#forgetIds(timeMs)
      const first = this.#ids.get(key)
      if (first !== undefined) return { seq: first.seq, duplicate: true }
    }
    const { traceparent, origin } = options ?? {}
    const event: MeshEvent = {
      channel, seq: ++this.#seq, timeMs, data: Uint8Array.from(data),
      ...(traceparent !== undefined && { traceparent }), ...(origin !== undefined && { origin }),
    }
    this.#store(event)
    if (key !== undefined) this.#remember(key, { seq: event.seq, timeMs })
    for (const handler of [...this.#handlers.get(channel) ?? []]) handler(event)
    this.groups.stored(channel)
    return { seq: event.seq, duplicate: false }
  }

  latest(channel: string): MeshEvent | undefined {
    this.#assertOpen()
    return this.#channels.get(channel)?.last()
  }

  async range(channel: string, range: EventRange): Promise<readonly MeshEvent[]> {
    this.#assertOpen()
    checkChannelBytes(channel)
    const { from, to, limit } = resolveRange(range)
    const found: MeshEvent[] = []
    for (const event of this.#channels.get(channel) ?? []) {
      if (event.seq > to || found.length === limit) break
      if (event.seq >= from) found.push(event)
    }
    return found
  }

  async count(channel: string): Promise<number> {
    this.#assertOpen()
    checkChannelBytes(channel)
    return this.#channels.get(channel)?.size ?? 0
  }

  subscribe(channel: string, handler: (event: MeshEvent) => void): EventSubscription {
    this.#assertOpen()
    checkChannelBytes(channel)
    const handlers = this.#handlers.get(channel) ?? new Set()
    this.#handlers.set(channel, handlers)
    let open = true
    // Of its own, so that a handler given twice is two subscriptions, and silent at once when another handler closes it.
    const own = (event: MeshEvent): void => { if (open) handler(event) }
    handlers.add(own)
    return {
      close: () => {
        open = false
        handlers.delete(own)
        if (handlers.size === 0 && this.#handlers.get(channel) === handlers) this.#handlers.delete(channel)
      },
    }
  }

  stop(): Promise<void> {
    this.#stopped = true
    this.#handlers.clear()
    this.groups.stop()
    return Promise.resolve()
  }

  #assertOpen(): void {
    if (this.#stopped) throw new CMeshError('CMESH_BUS_CLOSED')
  }

  #store(event: MeshEvent): void {
    const own = this.#channels.get(event.channel) ?? new Queue<MeshEvent>()
    this.#channels.set(event.channel, own)
    own.push(event)
    this.#log.push(event)
    this.#bytes += event.data.length
    // The event just stored stays, whatever its size: `latest` must see it.
    while (this.#log.size > 1 && (this.#log.size > this.#maxEvents || this.#bytes > this.#maxBytes)) this.#discardOldest()
  }

  #discardOldest(): void {
    const oldest = this.#log.shift()
    if (oldest === undefined) return
    this.#bytes -= oldest.data.length
    const own = this.#channels.get(oldest.channel)
    own?.shift()
    if (own?.size === 0) this.#channels.delete(oldest.channel)
  }

  #remember(key: string, remembered: RememberedId): void {
    this.#ids.set(key, remembered)
    this.#idOrder.push({ key, remembered })
    if (this.#idOrder.size > this.#maxIds) this.#forgetOldestId()
  }

  #forgetIds(nowMs: number): void {
    for (let oldest = this.#idOrder.first(); oldest !== undefined; oldest = this.#idOrder.first()) {
      if (nowMs - oldest.remembered.timeMs < this.#windowMs) return
      this.#forgetOldestId()
    }
  }

  #forgetOldestId(): void {
    const oldest = this.#idOrder.shift()
    if (oldest !== undefined && this.#ids.get(oldest.key) === oldest.remembered) this.#ids.delete(oldest.key)
  }
}

/** First in, first out, in constant time: `Array.shift` moves every element that stays. */
class Queue<T> {
  #items: (T | undefined)[] = []
  #head = 0

  get size(): number {
    return this.#items.length - this.#head
  }

  push(item: T): void {
    this.#items.push(item)
  }

  first(): T | undefined {
    return this.#items[this.#head]
  }

  last(): T | undefined {
    return this.size === 0 ? undefined : this.#items.at(-1)
  }

  shift(): T | undefined {
    if (this.size === 0) return undefined
    const item = this.#items[this.#head]
    this.#items[this.#head++] = undefined
    if (this.#head > 1_024 && this.#head * 2 > this.#items.length) {
      this.#items = this.#items.slice(this.#head)
      this.#head = 0
    }
    return item
  }

  * [Symbol.iterator](): Generator<T> {
    for (let i = this.#head; i < this.#items.length; i++) yield this.#items[i] as T
  }
}
