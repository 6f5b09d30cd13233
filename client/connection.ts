/**
 * The client's one connection to the broker. It owns the connection, one wildcard inbox and what waits on it: answers to
 * requests by number, live events by tail. It knows no session and decodes no frame.
 *
 * Invariants: (1) it comes back by itself until it is closed; (2) a request in flight when the connection breaks fails at
 * once with `CMESH_BUS_DISCONNECTED`, for its answer can no longer come; (3) nothing is sent while disconnected, so nothing
 * that was given up is sent later; (4) the inbox is not guessable.
 */
import { randomBytes } from 'node:crypto'
import { connect as connectNats, errors } from '@nats-io/transport-node'
import type { Msg, NatsConnection } from '@nats-io/transport-node'
import { BUNDLE_TOKEN, decodeBundle } from '../cmtp/bundle.ts'
import { Correlator } from '../cmtp/correlate.ts'
import { CMeshError } from '../cmtp/errors.ts'
import { EARLY_SENDING } from '../cmtp/nats.ts'

export type ConnectionStatus = 'connected' | 'disconnected' | 'closed'

export interface ConnectionOptions {
  /** `nats://host:port`; several of one cluster separated by commas. */
  readonly url: string
  /** What the broker's connection list shows. */
  readonly name: string
  /** Longest wait for one attempt to connect, in ms. */
  readonly connectTimeoutMs: number
  /** Most requests in flight. */
  readonly maxInFlight: number
  /** Told of what no caller can be told. */
  readonly onWarning: (error: CMeshError) => void
}

export interface Tail {
  /** Where the mesh sends the events. */
  readonly inbox: string
  readonly stop: () => void
}

/** Between two attempts to reconnect, in ms: half fixed, half random, so that clients do not return in step. */
const RECONNECT_MS = 200
/** A silent broker is given up after two unanswered pings: 4 to 6 s. */
const PING_MS = 2_000
/** First letter of a tail's token on the inbox; an answer's is a digit. */
const TAIL = 't'

export class Connection {
  /** What the subjects of all answers and tails begin with, without a trailing dot. */
  readonly inbox: string
  readonly url: string
  readonly #nats: NatsConnection
  readonly #correlator: Correlator
  readonly #onWarning: (error: CMeshError) => void
  readonly #tails = new Map<string, (data: Uint8Array) => void>()
  readonly #listeners = new Set<(status: ConnectionStatus) => void>()
  #tailSequence = 0
  #status: ConnectionStatus = 'connected'
  #inboxDenied: CMeshError | undefined
  #closed: Promise<void> | undefined

  /** Connects once. Rejects with `CMESH_CLIENT_NO_MESH`; after that it reconnects for ever. */
  static async open(options: ConnectionOptions): Promise<Connection> {
    try {
      const nats = await connectNats({
        servers: options.url.split(','),
        name: options.name,
        timeout: options.connectTimeoutMs,
        maxReconnectAttempts: -1,
        reconnectDelayHandler: () => RECONNECT_MS / 2 + Math.random() * (RECONNECT_MS / 2),
        // The broker's answer to a login may change, as when it is being configured; giving up is for the user to decide.
        ignoreAuthErrorAbort: true,
        pingInterval: PING_MS,
        maxPingOut: 2,
        // Capturing a stack for each request would cost more than the request.
        noAsyncTraces: true,
        ...EARLY_SENDING,
      })
      return new Connection(nats, options)
    } catch (cause) {
      const reason = (cause instanceof Error ? cause.message : String(cause)).replace(/\.$/, '')
      throw new CMeshError('CMESH_CLIENT_NO_MESH', { url: options.url, reason }, { cause })
    }
  }

  private constructor(nats: NatsConnection, options: ConnectionOptions) {
    this.url = options.url
    this.#nats = nats
    this.#onWarning = options.onWarning
    this.inbox = `_INBOX.${randomBytes(16).toString('hex')}`
    this.#correlator = new Correlator({
      inbox: this.inbox,
      maxPending: options.maxInFlight,
      publish: (subject, data, reply) => this.#publish(subject, data, reply),
    })
    nats.subscribe(`${this.inbox}.*`, { callback: (error, message) => this.#onMessage(error, message) })
    void this.#followStatus()
    void nats.closed().then(() => this.#set('closed'))
  }

  get status(): ConnectionStatus {
    return this.#status
  }

  /** Requests in flight. */
  get pending(): number {
    return this.#correlator.pending
  }

  /** Answers that nobody waited for: late, repeated or unasked. */
  get late(): number {
    return this.#correlator.late
  }

  /**
   * Resolves with the answer's bytes. Rejects with `CMESH_BUS_DISCONNECTED`, `CMESH_BUS_TIMEOUT`, `CMESH_BUS_NO_RESPONDERS`,
   * `CMESH_BUS_BUSY`, `CMESH_BUS_DENIED`, `CMESH_CLIENT_ABORTED`, `CMESH_CLIENT_CLOSED`, `CMESH_FRAME_TOO_LARGE`.
   */
  request(subject: string, frame: Uint8Array, options: { readonly timeoutMs: number, readonly signal?: AbortSignal }): Promise<Uint8Array> {
    return new Promise((resolve, reject) => { this.ask(subject, frame, options, resolve, reject) })
  }

  /** `request` with callbacks, of which exactly one is called, once; it must not throw. */
  ask(
    subject: string, frame: Uint8Array, options: { readonly timeoutMs: number, readonly signal?: AbortSignal },
    resolve: (data: Uint8Array) => void, reject: (error: CMeshError) => void,
  ): void {
    if (this.#status !== 'connected' || this.#inboxDenied !== undefined) reject(this.#unable())
    else this.#correlator.ask(subject, frame, options, resolve, reject)
  }

  /** Opens a place on the inbox for live events. The handler must not throw. */
  tail(handler: (data: Uint8Array) => void): Tail {
    const token = `${TAIL}${++this.#tailSequence}`
    this.#tails.set(token, handler)
    return { inbox: `${this.inbox}.${token}`, stop: () => { this.#tails.delete(token) } }
  }

  /** Calls back on each change of status; returns what stops that. The listener must not throw. */
  onStatus(listener: (status: ConnectionStatus) => void): () => void {
    this.#listeners.add(listener)
    return () => { this.#listeners.delete(listener) }
  }

  /** Takes no new requests, waits up to `withinMs` for those in flight, then closes. Memoised with `close`. */
  drain(withinMs: number): Promise<void> {
    this.#closed ??= this.#drain(withinMs)
    return this.#closed
  }

  /** Closes at once; what is in flight rejects with `CMESH_CLIENT_CLOSED`. */
  close(): Promise<void> {
    this.#closed ??= this.#close()
    return this.#closed
  }

  async #drain(withinMs: number): Promise<void> {
    let timer: ReturnType<typeof setTimeout> | undefined
    const cutOff = new Promise<void>((resolve) => { timer = setTimeout(resolve, withinMs) })
    try {
      await Promise.race([this.#correlator.drain(), cutOff])
    } finally {
      clearTimeout(timer)
      await this.#close()
    }
  }

  async #close(): Promise<void> {
    this.#set('closed')
    await this.#nats.close()
  }

  #publish(subject: string, data: Uint8Array, reply: string): void {
    try {
      this.#nats.publish(subject, data, { reply })
    } catch (thrown) {
      if (this.#nats.isClosed() || this.#nats.isDraining()) throw new CMeshError('CMESH_CLIENT_CLOSED', {}, { cause: thrown })
      const limit = this.#nats.info?.max_payload
      if (limit !== undefined && data.length > limit) {
        throw new CMeshError('CMESH_FRAME_TOO_LARGE', { part: 'message', bytes: data.length, limit }, { cause: thrown })
      }
      throw CMeshError.from(thrown, 'the connection')
    }
  }

  #unable(): CMeshError {
    if (this.#status === 'closed') return new CMeshError('CMESH_CLIENT_CLOSED')
    return this.#inboxDenied ?? new CMeshError('CMESH_BUS_DISCONNECTED')
  }

  #onMessage(error: Error | null, message: Msg): void {
    if (error !== null) {
      this.#inboxDenied = new CMeshError('CMESH_BUS_DENIED', { operation: 'subscribe to', subject: `${this.inbox}.*` }, { cause: error })
      this.#correlator.fail(this.#inboxDenied)
      return
    }
    const { subject, data } = message
    const first = subject.charAt(this.inbox.length + 1)
    if (first === BUNDLE_TOKEN) this.#onBundle(data)
    else if (first === TAIL) this.#tails.get(subject.slice(this.inbox.length + 1))?.(data)
    // "No responders" is an empty message with a status; looking for headers only when it is empty keeps answers cheap.
    else if (data.length === 0 && message.headers?.code === 503) this.#correlator.onNoResponders(subject)
    else this.#correlator.onReply(subject, data)
  }

  #onBundle(data: Uint8Array): void {
    try {
      for (const { token, frame } of decodeBundle(data)) this.#correlator.onReplyTo(token, frame)
    } catch (thrown) {
      // Whoever waits for a reply in it asks again when its time is up.
      this.#onWarning(CMeshError.from(thrown, 'a bundle of replies'))
    }
  }

  async #followStatus(): Promise<void> {
    for await (const change of this.#nats.status()) {
      if (change.type === 'disconnect') {
        this.#set('disconnected')
        this.#correlator.fail(new CMeshError('CMESH_BUS_DISCONNECTED'))
      } else if (change.type === 'reconnect') {
        this.#set('connected')
      } else if (change.type === 'error' && change.error instanceof errors.PermissionViolationError && change.error.operation === 'publish') {
        const { subject } = change.error
        const denied = new CMeshError('CMESH_BUS_DENIED', { operation: 'publish on', subject }, { cause: change.error })
        this.#correlator.failSubject(subject, denied)
        this.#onWarning(denied)
      }
    }
  }

  #set(status: ConnectionStatus): void {
    if (this.#status === status || this.#status === 'closed') return
    this.#status = status
    if (status === 'closed') this.#correlator.close(new CMeshError('CMESH_CLIENT_CLOSED'))
    for (const listener of [...this.#listeners]) listener(status)
  }
}
