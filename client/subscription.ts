/**
 * Following a channel. It owns a live tail on the mesh, which is a lease, and makes of it one ordered stream without gaps:
 * what the tail could not bring, after a disconnect or because the handler was slower than the channel, is read from the channel.
 *
 *   starting → live ⇄ catching up → closed
 *
 * Invariants: (1) sequences handed to the handler rise, each at most once; (2) one event is handled at a time; (3) at most
 * `QUEUE` events wait, whatever the channel does: past that they are left to be read later; (4) after `close` resolved the
 * handler is not called.
 */
import { CMeshError } from '../cmtp/errors.ts'
import { ReplyFrame } from '../cmtp/frame.ts'
import type { Connection, Tail } from './connection.ts'
import type { VerbCall, VerbOptions } from './verbs.ts'

export interface ChannelEvent {
  readonly channel: string
  /** 1 and up; rises, with gaps. */
  readonly seq: number
  /** When it was stored, ms since 1970. */
  readonly timeMs: number
  /** Text where the payload is UTF-8. */
  readonly data: string | { readonly base64: string }
  /** The trace of the request that published it, and its span as the parent, where there is one. */
  readonly traceparent?: string
  /** The request that published it, or whose transaction emitted it; not there of what the mesh itself publishes, nor of events from before there were origins. */
  readonly origin?: EventOrigin
}

export interface EventOrigin {
  /** Its message id, 32 hex digits: what its receipt is found by. */
  readonly request: string
  /** Of an event of a contract, the sequence of the block that holds it. */
  readonly block?: number
  /** And which of its transaction's events it is, from 0. */
  readonly index?: number
}

export type EventHandler = (event: ChannelEvent) => void | Promise<void>

/** A channel that is being followed. */
export interface Subscription {
  readonly channel: string
  /** Sequence of the last event handed to the handler, or of the newest there was at the start; 0 when there was none. */
  readonly seq: number
  /** Ends it; resolves once the handler that runs has finished. Idempotent. */
  close(): Promise<void>
  [Symbol.asyncDispose](): Promise<void>
}

export interface FollowerParts {
  readonly call: VerbCall
  readonly connection: Connection
  readonly channel: string
  readonly handler: EventHandler
  readonly onWarning: (error: CMeshError) => void
  readonly onEnd: () => void
}

/** Most events that wait for the handler. */
const QUEUE = 1_024
/** Events read at once when catching up; what `range` gives at most. */
const CATCH_UP = 1_000
/** Share of a lease after which it is renewed: two renewals may be lost. */
const RENEW_AT = 1 / 3
/** Pause after a renewal that failed, in ms. */
const AGAIN_MS = 1_000

export class Follower implements Subscription {
  readonly channel: string
  readonly #parts: FollowerParts
  readonly #inbox: Tail
  readonly #closing = new AbortController()
  #tail: string | undefined
  /** Where the tail brings its events. */
  #opened: string | undefined
  #queue: ChannelEvent[] = []
  #seq = 0
  /** Events may be missing between `#seq` and the queue: read the channel first. */
  #behind = false
  /** Reading the channel failed: nothing is handed over until a renewal tries again, or the gap would be lost. */
  #stalled = false
  #working: Promise<void> | undefined
  #renewing: Promise<void> | undefined
  #timer: ReturnType<typeof setTimeout> | undefined
  #stopListening: (() => void) | undefined
  #closed: Promise<void> | undefined

  constructor(parts: FollowerParts) {
    this.#parts = parts
    this.channel = parts.channel
    this.#inbox = parts.connection.tail((data) => this.#onLive(data))
  }

  get seq(): number {
    return this.#seq
  }

  /** Resolves once the mesh serves the tail; rejects when it refuses, and leaves nothing behind then. */
  async start(options: VerbOptions): Promise<void> {
    const { connection } = this.#parts
    try {
      this.#seq = await this.#newest(options)
      const leaseMs = await this.#lease(options)
      this.#stopListening = connection.onStatus((status) => {
        // The mesh may be back before this connection is, and another link hears nothing yet: what is sent meanwhile is lost, and what
        // comes live afterwards must wait.
        if (status !== 'closed') this.#behind = true
        if (status === 'connected') this.#renewSoon(0)
      })
      this.#renewSoon(leaseMs * RENEW_AT)
      options.signal?.addEventListener('abort', () => void this.close(), { once: true, signal: this.#closing.signal })
      // An event may have been published between the two requests.
      this.#catchUp()
    } catch (error) {
      await this.close()
      throw error
    }
  }

  close(): Promise<void> {
    this.#closed ??= this.#close()
    return this.#closed
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close()
  }

  async #close(): Promise<void> {
    const { connection, onEnd } = this.#parts
    this.#closing.abort()
    clearTimeout(this.#timer)
    this.#stopListening?.()
    this.#inbox.stop()
    this.#queue = []
    onEnd()
    await this.#working
    await this.#renewing
    if (connection.status === 'connected') await this.#endTail()
  }

  async #endTail(): Promise<void> {
    const { call, channel } = this.#parts
    const [tail, inbox] = [this.#tail, this.#opened]
    this.#tail = undefined
    if (tail === undefined) return
    try {
      await call(`0xE:${channel}:tail`, { body: JSON.stringify({ inbox, tail, close: true }), timeoutMs: 1_000 })
    } catch {
      // The lease ends by itself, and nothing listens any more: there is nobody whom this failure would matter to.
    }
  }

  /** Sequence of the newest event; 0 for a channel without any. */
  async #newest(options: VerbOptions): Promise<number> {
    try {
      return (await this.#parts.call(`0xE:${this.channel}:read`, options)).json<ChannelEvent>().seq
    } catch (error) {
      if (error instanceof CMeshError && error.code === 'CMESH_EVENTS_NO_CHANNEL') return 0
      throw error
    }
  }

  /** Opens the tail or renews it; gives the lease in ms. */
  async #lease(options: VerbOptions): Promise<number> {
    for (;;) {
      const { inbox } = this.#inbox
      // A tail keeps the inbox that it was opened with: another inbox takes another tail.
      if (inbox !== this.#opened) void this.#endTail()
      try {
        const answer = await this.#parts.call(`0xE:${this.channel}:tail`, { ...options, body: JSON.stringify({ inbox, tail: this.#tail }) })
        const { tail, leaseMs } = answer.json<{ readonly tail: string, readonly leaseMs: number }>()
        this.#tail = tail
        this.#opened = inbox
        if (inbox === this.#inbox.inbox) return leaseMs
      } catch (error) {
        // Another link has taken the place of the one that it was asked for.
        if (inbox === this.#inbox.inbox || options.signal?.aborted === true) throw error
      }
    }
  }

  #renewSoon(inMs: number): void {
    clearTimeout(this.#timer)
    if (this.#closing.signal.aborted) return
    this.#timer = setTimeout(() => {
      this.#renewing = this.#renew().finally(() => { this.#renewing = undefined })
    }, inMs)
    this.#timer.unref()
  }

  async #renew(): Promise<void> {
    const { connection, onWarning } = this.#parts
    try {
      const leaseMs = await this.#lease({ signal: this.#closing.signal })
      this.#renewSoon(leaseMs * RENEW_AT)
      // Whatever broke the tail since the last renewal, this closes the gap; nothing is read when nothing is missing.
      this.#catchUp()
    } catch (thrown) {
      if (this.#closing.signal.aborted) return
      const error = CMeshError.from(thrown, 'a subscription')
      // A new session may not renew the old one's tail: it opens its own.
      if (error.code === 'CMESH_EVENTS_TAIL' && this.#tail !== undefined) {
        this.#tail = undefined
        return this.#renewSoon(0)
      }
      if (connection.status === 'connected') onWarning(error)
      this.#renewSoon(AGAIN_MS)
    }
  }

  #onLive(data: Uint8Array): void {
    let event: ChannelEvent
    try {
      event = readEvent(data)
    } catch (thrown) {
      return this.#parts.onWarning(CMeshError.from(thrown, 'a subscription'))
    }
    if (this.#queue.length >= QUEUE) this.#behind = true
    else this.#queue.push(event)
    this.#work()
  }

  #catchUp(): void {
    this.#behind = true
    this.#stalled = false
    this.#work()
  }

  #work(): void {
    if (this.#stalled || this.#closing.signal.aborted) return
    this.#working ??= this.#drain().finally(() => {
      this.#working = undefined
      if (this.#behind || this.#queue.length > 0) this.#work()
    })
  }

  async #drain(): Promise<void> {
    const { signal } = this.#closing
    while (!signal.aborted && (this.#behind || this.#queue.length > 0)) {
      if (this.#behind) {
        this.#behind = false
        this.#stalled = !await this.#readMissing()
        if (this.#stalled) {
          this.#behind = true
          return
        }
      }
      for (let event = this.#queue.shift(); event !== undefined && !signal.aborted; event = this.#queue.shift()) {
        await this.#hand(event)
        if (this.#behind) break
      }
    }
  }

  /** Hands over what the channel has behind the last event; gives whether it could be read. */
  async #readMissing(): Promise<boolean> {
    const { call, channel, onWarning, connection } = this.#parts
    const { signal } = this.#closing
    try {
      for (;;) {
        const body = JSON.stringify([this.#seq + 1, null, CATCH_UP])
        const events = (await call(`0xE:${channel}:range`, { body, signal })).json<readonly ChannelEvent[]>()
        // Fewer than asked for may be what fits into one reply: only an empty one is the end.
        if (events.length === 0) return true
        for (const event of events) if (!signal.aborted) await this.#hand(event)
        if (signal.aborted) return true
      }
    } catch (thrown) {
      if (signal.aborted) return false
      // The next renewal, or the return of the connection, tries again.
      if (connection.status === 'connected') onWarning(CMeshError.from(thrown, 'a subscription'))
      return false
    }
  }

  async #hand(event: ChannelEvent): Promise<void> {
    if (event.seq <= this.#seq) return
    this.#seq = event.seq
    try {
      await this.#parts.handler(event)
    } catch (thrown) {
      this.#parts.onWarning(CMeshError.from(thrown, `the handler of channel ${this.channel}`))
    }
  }
}

/** The event in a frame of a live tail. Throws `CMESH_FRAME_*` or `CMESH_CLIENT_REPLY`. */
function readEvent(data: Uint8Array): ChannelEvent {
  const { body } = ReplyFrame.decode(data)
  let value: unknown
  try {
    value = JSON.parse(body.toString('utf8'))
  } catch (cause) {
    throw new CMeshError('CMESH_CLIENT_REPLY', { id: 'an event', reason: 'its body is not JSON' }, { cause })
  }
  const event = value as Partial<ChannelEvent> | null
  if (typeof event !== 'object' || event === null || !Number.isSafeInteger(event.seq) || typeof event.channel !== 'string' || event.data === undefined) {
    throw new CMeshError('CMESH_CLIENT_REPLY', { id: 'an event', reason: 'its body is not an event' })
  }
  return event as ChannelEvent
}
