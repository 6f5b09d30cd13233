/**
 * What the events stream has stored, as it stores it: the stream's republication, which carries the sequence and comes
 * only for what was stored, unlike the publication itself, which may be a duplicate or be refused. It watches over its
 * own completeness and says so when events may have been missed. It keeps no event.
 *
 * Invariants: a lost connection, a hole in the sequences and a feed found behind the stream each end in `onMissed`; a
 * stream that was made anew ends in `onRestarted` and then `onMissed`; one that is gone is made anew.
 */
import type { Msg, Subscription } from '@nats-io/nats-core'
import { CMeshError } from '../../cmtp/errors.ts'
import { channelOfSubject, EVENT_STORED, EVENT_WILDCARD } from '../../cmtp/subject.ts'
import type { Patience } from '../bus/patience.ts'
import { denied, type JetStreamBus } from '../jetstream/calls.ts'
import { pause } from '../jetstream/publish.ts'
import type { Stored } from './channel-tail.ts'
import { saidBy } from './event-headers.ts'

/** The `republish` setting of a stream that such a feed follows. */
export const REPUBLISH = { src: EVENT_WILDCARD, dest: EVENT_STORED.mapping }

const RESYNC_PAUSE_MS = 200

/** A stream as it stands. */
export interface Standing {
  /** Where it ends. */
  readonly head: number
  /** When it was made, as the broker writes it: what tells it from another of its name. */
  readonly made: string
}

/** A stream that is not there. */
export interface Gone {
  readonly gone: string
}

export interface StoredFeedParts {
  readonly bus: JetStreamBus
  /** The stream's name, for errors. */
  readonly stream: string
  /** The stream, or the name of what is gone: it, or one that goes with it. */
  readonly look: () => Promise<Standing | Gone>
  /** The stream, once what is gone is made anew. */
  readonly ensure: () => Promise<Standing>
  /** How often the feed is compared with the stream, in ms. */
  readonly checkMs: number
  /** What waits for JetStream where it is not ready. */
  readonly patience: Patience
  readonly onStored: (channel: string, stored: Stored) => void
  /** Called when the connection is lost as well: until it is back everything is missed. */
  readonly onMissed: () => void
  /** The stream's sequences begin anew behind `head`. */
  readonly onRestarted: (head: number) => void
  readonly onFailure: (failure: CMeshError) => void
}

export class StoredFeed {
  readonly #parts: StoredFeedParts
  readonly #closed = new AbortController()
  #subscription: Subscription | undefined
  #checking: NodeJS.Timeout | undefined
  #stopListening: (() => void) | undefined
  /** Every event up to here was brought, or reported as missed. */
  #fed = 0
  #head = 0
  /** The stream's head at the last check. */
  #checked = 0
  /** When the stream was made that is followed. */
  #made: string | undefined
  #resyncing = false

  constructor(parts: StoredFeedParts) {
    this.#parts = parts
  }

  /** The newest sequence known to be stored. */
  get head(): number {
    return this.#head
  }

  /** An ack says that the stream has come so far; the feed may bring it later. */
  acknowledged(seq: number): void {
    this.#head = Math.max(this.#head, seq)
  }

  /** Resolves when every event stored from then on is brought. */
  async start(): Promise<void> {
    const { bus, ensure, checkMs, patience, onFailure } = this.#parts
    this.#stopListening = bus.onStatus(status => {
      if (status === 'connected') void this.#resync()
      else this.#parts.onMissed()
    })
    this.#subscription = bus.connection.subscribe(EVENT_STORED.wildcard, {
      callback: (failure, message) => {
        if (failure === null) this.#fedBy(message)
        else onFailure(denied(EVENT_STORED.wildcard, failure))
      },
    })
    await patience.with('the broker', () => bus.flush())
    const { head, made } = await ensure()
    this.#made = made
    this.#reached(head)
    this.#checking = setInterval(() => { this.#check() }, checkMs).unref()
  }

  close(): void {
    this.#closed.abort()
    clearInterval(this.#checking)
    this.#stopListening?.()
    if (this.#subscription?.isClosed() === false) this.#subscription.unsubscribe()
  }

  #reached(seq: number): void {
    this.#fed = Math.max(this.#fed, seq)
    this.#head = Math.max(this.#head, seq)
  }

  #fedBy(message: Msg): void {
    const { headers } = message
    const seq = Number(headers?.get('Nats-Sequence'))
    const channel = channelOfSubject(headers?.get('Nats-Subject') ?? '')
    if (headers === undefined || channel === undefined || !(seq > 0)) return
    if (seq > this.#fed + 1) this.#parts.onMissed()
    this.#reached(seq)
    // A server before 2.10 does not say when it stored the event: then it is read from the stream by whoever wants it.
    const time = headers.get('Nats-Time-Stamp')
    // Copied: what arrived is a view into the chunk the connection read, and would keep all of it.
    const event = time === '' ? undefined : { channel, seq, timeMs: Date.parse(time), data: new Uint8Array(message.data), ...saidBy(headers) }
    this.#parts.onStored(channel, { seq, previous: Number(headers.get('Nats-Last-Sequence')), event })
  }

  /** The connection is back, or a stream is gone: finds it, or makes it where its storage is gone, and takes up from its head. */
  async #resync(): Promise<void> {
    if (this.#resyncing) return
    this.#resyncing = true
    try {
      while (!this.#closed.signal.aborted && this.#parts.bus.status === 'connected' && !await this.#takeUp()) {
        await pause(RESYNC_PAUSE_MS, this.#closed.signal)
      }
    } finally {
      this.#resyncing = false
    }
  }

  async #takeUp(): Promise<boolean> {
    const before = this.#fed
    try {
      const standing = await this.#parts.ensure()
      this.#compare(standing, before)
      this.#reached(standing.head)
      this.#parts.onMissed()
      return true
    } catch (thrown) {
      if (!this.#closed.signal.aborted) this.#parts.onFailure(CMeshError.from(thrown, 'events'))
      return false
    }
  }

  /** A feed behind the stream over two checks has lost the newest event, which no later one gives away. */
  #check(): void {
    if (this.#parts.bus.status !== 'connected' || this.#resyncing) return
    const before = this.#fed
    const followed = this.#made
    this.#parts.look().then(found => {
      // It was asked of the stream before.
      if (this.#made !== followed) return
      if ('gone' in found) {
        this.#parts.onFailure(new CMeshError('CMESH_BUS_STREAM', { stream: found.gone, reason: 'somebody deleted it, with all that was in it; it is made anew' }))
        void this.#resync()
        return
      }
      const { head } = found
      this.#compare(found, before)
      const lost = this.#checked > this.#fed
      this.#checked = head
      if (!lost) return
      this.#reached(head)
      this.#parts.onMissed()
    }, (thrown: unknown) => {
      // It says nothing about the feed: the next check asks again, and a lost connection is told by the bus.
      if (!this.#closed.signal.aborted) this.#parts.onFailure(CMeshError.from(thrown, 'events'))
    })
  }

  /** What was made at another time, or ends before what was fed when it was asked for, is another stream of the same name. */
  #compare({ head, made }: Standing, fedBefore: number): void {
    if (made === this.#made && head >= fedBefore) return
    const reason = head < fedBefore ? `it ends at ${head} where ${fedBefore} was seen, so it was made anew` : `it was made anew at ${made}`
    this.#made = made
    this.#parts.onFailure(new CMeshError('CMESH_BUS_STREAM', { stream: this.#parts.stream, reason }))
    this.#fed = head
    this.#head = head
    this.#checked = head
    this.#parts.onRestarted(head)
    this.#parts.onMissed()
  }
}
