/**
 * Events in one JetStream stream, a subject per channel. The stream stores, orders and knows a second publish by its id;
 * this file composes publishing, reading, the cache of newest events and the live subscriptions.
 *
 * Invariants:
 * 1. The cache answers only for what an unbroken feed keeps true: whenever the feed may have missed an event the cache is
 *    emptied and the live subscriptions read what they lack.
 * 2. Nothing is stored twice by this file's own retries.
 * 3. The connection is the bus's; this file never closes it.
 */
import { hash } from 'node:crypto'
import { setMaxListeners } from 'node:events'
import { CMeshError } from '../../cmtp/errors.ts'
import { LIMITS } from '../../cmtp/limits.ts'
import { eventSubject, EVENT_WILDCARD } from '../../cmtp/subject.ts'
import type { EventRange, EventSubscription, EventsProvider, MeshEvent, PublishFields, PublishResult } from '../../services/events/provider.ts'
import type { Log } from '../../services/log.ts'
import { JetStreamCalls } from '../jetstream/calls.ts'
import type { JetStreamBus } from '../jetstream/calls.ts'
import { pause, StreamPublisher } from '../jetstream/publish.ts'
import { ConsumerApi } from '../jetstream/consumer-api.ts'
import { StreamApi } from '../jetstream/stream-api.ts'
import { managerOf, patient } from '../jetstream/stream.ts'
import type { WantedStream } from '../jetstream/stream.ts'
import { ChannelTail } from './channel-tail.ts'
import type { Stored } from './channel-tail.ts'
import { eventHeaders } from './event-headers.ts'
import { floorsConfig, GroupFloors, NO_FLOORS } from './group-floors.ts'
import { JetStreamGroups, type JetStreamGroupsParts } from './jetstream-groups.ts'
import { JetStreamLetters, lettersConfig } from './letters.ts'
import { Newest } from './newest.ts'
import { checkChannelBytes, checkPublish, resolveRange } from './request.ts'
import { REPUBLISH, StoredFeed } from './stored-feed.ts'
import { StreamReader } from './stream-reader.ts'
import { EventStreams } from './streams.ts'

export interface JetStreamEventsOptions {
  /** Name of the stream. Default `CMESH_EVENTS`. */
  readonly stream?: string
  /** Copies of the stream, 1 to 5, at most the servers of the cluster. Default 1. */
  readonly replicas?: number
  /** Most bytes the stream keeps on disk, all channels together; past it the oldest events go. Default 512 MiB. */
  readonly maxBytes?: number
  /**
   * How long an event is kept, in ms, from 120,000 (the duplicate window); 0 for ever. `latest` may name an expired one as
   * long as none follows it. Default 0.
   */
  readonly maxAgeMs?: number
  /** Most bytes of dead letters, and of what was put back; past it the oldest go, and past an eighth of it the oldest of one owner. Default 64 MiB. */
  readonly letterBytes?: number
  /** How long a dead letter is kept, in ms, from 120,000; 0 for ever. Default 30 days. */
  readonly letterAgeMs?: number
  /** How long `publish` goes on trying, in ms, when its caller gives no deadline. Default 5,000. */
  readonly publishTimeoutMs?: number
  /** How long a read waits for its answer, in ms. Default 2,000. */
  readonly readTimeoutMs?: number
  /** How often the feed is compared with the stream, in ms. Default 2,000. */
  readonly checkMs?: number
  /** How long `start` waits for JetStream where it is not ready, in ms. Default 60,000. */
  readonly readyMs?: number
}

export interface JetStreamEventsParts {
  readonly bus: JetStreamBus
  /** Told of what no caller can be told. */
  readonly onFailure: (failure: CMeshError) => void
  /** Told what `start` waits for. */
  readonly log?: Pick<Log, 'info' | 'warn'>
}

export interface PublishOptions extends PublishFields {
  /** Absolute, ms since 1970. Default: the provider's own time-out from now. */
  readonly deadlineMs?: number
}

/** How long an id is known, in ms. */
export const DUPLICATE_WINDOW_MS = 120_000

const LETTER_BYTES = 64 * 1024 * 1024
const LETTER_AGE_MS = 30 * 86_400_000

/** Room for the headers of an event beside its data. */
const HEADER_ROOM_BYTES = 1_024
/** How often a replica that lags is asked again in the midst of a range, and the first wait. */
const LAGGARD_TRIES = 6
const LAGGARD_FIRST_MS = 5

/** What a started provider owns. */
interface Running {
  readonly calls: JetStreamCalls
  readonly feed: StoredFeed
  readonly reader: StreamReader
  readonly publisher: StreamPublisher
  readonly groups: JetStreamGroupsParts
}

export class JetStreamEvents implements EventsProvider {
  readonly groups = new JetStreamGroups(() => this.#live().groups)
  readonly letters: JetStreamLetters
  readonly #parts: JetStreamEventsParts
  readonly #stream: WantedStream
  readonly #letters: WantedStream
  readonly #floors: WantedStream | undefined
  readonly #publishTimeoutMs: number
  readonly #readTimeoutMs: number
  readonly #checkMs: number
  readonly #readyMs: number | undefined
  readonly #newest: Newest
  readonly #tails = new Map<string, Set<ChannelTail>>()
  readonly #publishing = new Set<Promise<unknown>>()
  readonly #stopping = new AbortController()
  #running: Running | undefined
  #started: Promise<void> | undefined
  #stopped: Promise<void> | undefined

  constructor(parts: JetStreamEventsParts, options: JetStreamEventsOptions = {}) {
    this.#parts = parts
    this.#publishTimeoutMs = options.publishTimeoutMs ?? 5_000
    this.#readTimeoutMs = options.readTimeoutMs ?? 2_000
    this.#checkMs = options.checkMs ?? 2_000
    this.#readyMs = options.readyMs
    this.#stream = streamConfig(options)
    this.letters = new JetStreamLetters(() => this.#live().groups, options.letterBytes ?? LETTER_BYTES)
    this.#letters = lettersConfig({
      name: `${this.#stream.name}_DEAD`, replicas: options.replicas ?? 1, maxBytes: options.letterBytes ?? LETTER_BYTES,
      maxAgeMs: options.letterAgeMs ?? LETTER_AGE_MS, windowMs: DUPLICATE_WINDOW_MS,
    })
    if (this.#stream.num_replicas === 1) this.#floors = floorsConfig(`${this.#stream.name}_FLOORS`)
    this.#newest = new Newest(channel => this.#readNewest(channel), this.#stopping.signal)
    // As many listeners as there are waits under way, which is bounded elsewhere.
    setMaxListeners(0, this.#stopping.signal)
  }

  /** Rejects with `CMESH_BUS_STREAM` when JetStream is missing for `readyMs`, or has a stream of this name that cannot be used. */
  start(): Promise<void> {
    this.#started ??= this.#start()
    return this.#started
  }

  /**
   * Tries until the deadline. Without an id a publish whose outcome is unknown is not tried again, so that nothing is
   * stored twice; give one wherever a loss matters. An id belongs to its channel and is known for 120 s; `duplicate` may be
   * true for the caller's own first try. Rejects with `CMESH_EVENTS_PAYLOAD`, `CMESH_EVENTS_CHANNEL`, `CMESH_BUS_STORE`, or
   * `CMESH_BUS_*`, after which the event may or may not be stored. `data` must not change until this settles.
   */
  publish(channel: string, data: Uint8Array, options?: PublishOptions): Promise<PublishResult> {
    const publishing = this.#publish(channel, data, options)
    this.#publishing.add(publishing)
    const settled = (): void => { this.#publishing.delete(publishing) }
    publishing.then(settled, settled)
    return publishing
  }

  /** At once for a channel asked about before. Rejects with `CMESH_BUS_*` while the broker is away; never gives an old event. */
  latest(channel: string): MeshEvent | undefined | Promise<MeshEvent | undefined> {
    return this.#newest.of(channel)
  }

  /** Walks the channel, one read an event. Rejects with `CMESH_EVENTS_RANGE` or `CMESH_BUS_*`. */
  async range(channel: string, range: EventRange): Promise<readonly MeshEvent[]> {
    const { reader } = this.#live()
    const { from, to, limit } = resolveRange(range)
    const newest = await this.latest(channel)
    const last = Math.min(to, newest?.seq ?? 0)
    const found: MeshEvent[] = []
    let misses = 0
    for (let seq = from; seq <= last && found.length < limit;) {
      const event = await reader.next(channel, seq)
      if (event !== undefined) {
        if (event.seq > last) break
        found.push(event)
        seq = event.seq + 1
        misses = 0
      } else {
        // There is an event up to `last`, so the replica that answers is behind; or all were discarded just now.
        if (++misses > LAGGARD_TRIES) break
        await pause(LAGGARD_FIRST_MS * 2 ** misses, this.#stopping.signal)
      }
    }
    return found
  }

  async count(channel: string): Promise<number> {
    const { reader } = this.#live()
    checkChannelBytes(channel)
    return reader.count(channel)
  }

  /** Outlives the loss of the connection: what was stored meanwhile is handed over once it is back. */
  subscribe(channel: string, handler: (event: MeshEvent) => void): EventSubscription {
    const { reader, feed } = this.#live()
    checkChannelBytes(channel)
    const { onFailure } = this.#parts
    const tail = new ChannelTail({ channel, handler, after: feed.head, next: (name, seq) => reader.next(name, seq), onFailure })
    const tails = this.#tails.get(channel) ?? new Set()
    this.#tails.set(channel, tails.add(tail))
    return {
      close: () => {
        tail.close()
        tails.delete(tail)
        if (tails.size === 0 && this.#tails.get(channel) === tails) this.#tails.delete(channel)
      },
    }
  }

  /** Waits for the publishes under way, each for its attempt at hand only. */
  stop(): Promise<void> {
    this.#stopped ??= this.#stop()
    return this.#stopped
  }

  async #start(): Promise<void> {
    const { bus, onFailure, log } = this.#parts
    const calls = new JetStreamCalls(bus)
    const patience = patient({ readyMs: this.#readyMs, signal: this.#stopping.signal, ...(log !== undefined && { log }) })
    let feed: StoredFeed | undefined
    try {
      const manager = await managerOf(bus)
      const streams = new EventStreams(
        { calls, manager, patience, timeoutMs: this.#readTimeoutMs }, this.#stream, [this.#letters, ...(this.#floors === undefined ? [] : [this.#floors])],
      )
      const reader = new StreamReader(calls, this.#stream.name, this.#readTimeoutMs)
      feed = new StoredFeed({
        bus, stream: this.#stream.name, ensure: streams.ensure, look: streams.look, checkMs: this.#checkMs, patience, onFailure,
        onStored: (channel, stored) => { this.#stored(channel, stored) },
        onMissed: () => { this.#missed() },
        onRestarted: head => { for (const tail of this.#allTails()) tail.restart(head) },
      })
      await feed.start()
      if (this.#stopping.signal.aborted) throw new CMeshError('CMESH_BUS_CLOSED')
      this.#running = { calls, feed, reader, publisher: new StreamPublisher(bus, calls, this.#stream.name), groups: this.#groupParts(calls, reader) }
    } catch (thrown) {
      feed?.close()
      calls.close()
      throw CMeshError.from(thrown, 'events')
    }
  }

  #groupParts(calls: JetStreamCalls, reader: StreamReader): JetStreamGroupsParts {
    const [stream, dead, timeoutMs] = [this.#stream.name, this.#letters.name, this.#readTimeoutMs]
    const { bus } = this.#parts
    const publisher = new StreamPublisher(bus, calls, dead)
    const [events, eventsStream] = [new ConsumerApi(bus, calls, stream, timeoutMs), new StreamApi(calls, stream, timeoutMs)]
    const notes = this.#floors && new StreamApi(calls, this.#floors.name, timeoutMs)
    return {
      events,
      again: new ConsumerApi(bus, calls, dead, timeoutMs),
      floors: notes === undefined ? NO_FLOORS : new GroupFloors({ bus, events, eventsStream, notes, stopping: this.#stopping.signal }),
      eventsStream,
      againStream: new StreamApi(calls, dead, timeoutMs),
      next: (channel, seq) => reader.next(channel, seq),
      store: (subject: string, data: Uint8Array, id?: string) => publisher.publish({
        subject, data, timeoutMs: this.#publishTimeoutMs, signal: this.#stopping.signal, ...(id !== undefined && { id }),
      }),
    }
  }

  async #stop(): Promise<void> {
    this.#stopping.abort()
    // A start under way sees the signal and undoes itself; who called it hears of it.
    await this.#started?.catch(() => undefined)
    await Promise.allSettled([...this.#publishing])
    const running = this.#running
    this.#running = undefined
    for (const tail of this.#allTails()) tail.close()
    this.#tails.clear()
    running?.feed.close()
    running?.groups.floors.close()
    running?.calls.close()
    this.#newest.clear()
  }

  async #publish(channel: string, data: Uint8Array, options: PublishOptions = {}): Promise<PublishResult> {
    const { publisher, feed } = this.#live()
    checkPublish(channel, data)
    const { id, deadlineMs } = options
    const headers = eventHeaders(options)
    const ack = await publisher.publish({
      subject: eventSubject(channel),
      data,
      timeoutMs: deadlineMs === undefined ? this.#publishTimeoutMs : deadlineMs - Date.now(),
      signal: this.#stopping.signal,
      // Hashed with its channel: an id means something in its own channel only, and any text makes a header of one size.
      ...(id !== undefined && { id: hash('sha256', `${channel} ${id}`, 'base64url') }),
      ...(headers !== undefined && { headers }),
    })
    this.#newest.stored(channel, ack.seq)
    feed.acknowledged(ack.seq)
    return ack
  }

  async #readNewest(channel: string): Promise<MeshEvent | undefined> {
    const { reader } = this.#live()
    checkChannelBytes(channel)
    return reader.newest(channel)
  }

  #stored(channel: string, stored: Stored): void {
    this.#newest.stored(channel, stored.seq, stored.event)
    for (const tail of this.#tails.get(channel) ?? []) tail.stored(stored)
  }

  #missed(): void {
    this.#newest.clear()
    // Without a connection there is nowhere to look; the feed calls again when it is back.
    if (this.#parts.bus.status !== 'connected') return
    for (const tail of this.#allTails()) tail.recheck()
  }

  #allTails(): ChannelTail[] {
    return [...this.#tails.values()].flatMap(tails => [...tails])
  }

  #live(): Running {
    if (this.#running === undefined || this.#stopping.signal.aborted) throw new CMeshError('CMESH_BUS_CLOSED')
    return this.#running
  }
}

function streamConfig(options: JetStreamEventsOptions): WantedStream {
  return {
    name: options.stream ?? 'CMESH_EVENTS',
    subjects: [EVENT_WILDCARD],
    storage: 'file',
    retention: 'limits',
    discard: 'old',
    num_replicas: options.replicas ?? 1,
    max_bytes: options.maxBytes ?? 512 * 1024 * 1024,
    max_age: (options.maxAgeMs ?? 0) * 1e6,
    max_msg_size: LIMITS.eventBytes + HEADER_ROOM_BYTES,
    duplicate_window: DUPLICATE_WINDOW_MS * 1e6,
    allow_direct: true,
    republish: REPUBLISH,
  }
}
