/**
 * One connection to the broker, under one login and with one id: a newcomer's, or a session's. It owns the connection, one
 * wildcard inbox and the requests that wait on it. It decodes no frame and knows of no other link.
 *
 * Invariants: (1) a session's link comes back by itself until it is closed, each time with the newest login it was given; a
 * newcomer's does not; (2) a request in flight when the connection breaks fails at once with `CMESH_BUS_DISCONNECTED`, for its
 * answer can no longer come; (3) nothing is sent while disconnected, so nothing that was given up is sent later; (4) the inbox
 * begins with the link's id, where the broker may look for it, and is not guessable.
 */
import { randomBytes } from 'node:crypto'
import { errors } from '@nats-io/transport-node'
import type { Msg, NatsConnection } from '@nats-io/transport-node'
import { BUNDLE_TOKEN, decodeBundle } from '../cmtp/bundle.ts'
import { Correlator, type CorrelatedRequestOptions } from '../cmtp/correlate.ts'
import { CMeshError } from '../cmtp/errors.ts'
import { inboxPrefix } from '../cmtp/subject.ts'
import { isRefusal, openNats } from './broker-login.ts'
import type { BrokerOptions } from './broker-options.ts'

export type LinkStatus = 'connected' | 'disconnected' | 'closed'

export interface RequestOptions extends Pick<CorrelatedRequestOptions, 'signal' | 'resendMs' | 'onResend'> {
  readonly timeoutMs: number
}

/** Told of what happens on a link; none may throw. */
export interface LinkEvents {
  readonly onStatus: (link: Link, status: LinkStatus) => void
  /** A message for a tail, by the last token of its subject. */
  readonly onTail: (link: Link, token: string, data: Uint8Array) => void
  /** The broker does not take the login any more; the link goes on trying with the newest. */
  readonly onRefused: (link: Link) => void
  readonly onWarning: (error: CMeshError) => void
}

export interface LinkOptions extends BrokerOptions {
  readonly maxInFlight: number
  /** A newcomer's nkey, or the session. */
  readonly cid: string
  readonly events: LinkEvents
}

/** First letter of a tail's token on the inbox; an answer's is a digit. */
export const TAIL = 't'

export class Link {
  readonly cid: string
  /** What the subjects of all answers and tails begin with, without a trailing dot. */
  readonly inbox: string
  readonly #nats: NatsConnection
  readonly #login: { jwt: string }
  readonly #events: LinkEvents
  readonly #correlator: Correlator
  #status: LinkStatus = 'connected'
  #inboxDenied: CMeshError | undefined
  /** Whether a request may be sent now. */
  #ready = true
  #closed: Promise<void> | undefined

  /** Connects once. Rejects with what the NATS client says. */
  static async open(options: LinkOptions): Promise<Link> {
    const login = { jwt: options.login?.jwt ?? '' }
    return new Link(await openNats(options, login), login, options)
  }

  private constructor(nats: NatsConnection, login: { jwt: string }, options: LinkOptions) {
    this.#nats = nats
    this.#login = login
    this.#events = options.events
    this.cid = options.cid
    this.inbox = inboxPrefix(options.cid) + randomBytes(16).toString('base64url')
    this.#correlator = new Correlator({
      inbox: this.inbox,
      maxPending: options.maxInFlight,
      publish: (subject, data, reply) => this.#publish(subject, data, reply),
    })
    nats.subscribe(`${this.inbox}.*`, { callback: (error, message) => this.#onMessage(error, message) })
    void this.#followStatus()
    void nats.closed().then(() => this.#set('closed'))
  }

  get status(): LinkStatus {
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

  /** Whether a request may be sent now; where it may not, `unable` says why. */
  get ready(): boolean {
    return this.#ready
  }

  unable(): CMeshError {
    if (this.#status === 'closed') return new CMeshError('CMESH_CLIENT_CLOSED')
    return this.#inboxDenied ?? new CMeshError('CMESH_BUS_DISCONNECTED')
  }

  /** What the link logs in with from the next time on. */
  renew(jwt: string): void {
    this.#login.jwt = jwt
  }

  /** Resolves with the answer's bytes; rejects like `Connection.request`. */
  request(subject: string, frame: Uint8Array, options: RequestOptions): Promise<Uint8Array> {
    return new Promise((resolve, reject) => {
      if (this.#ready) this.ask(subject, frame, options, resolve, reject)
      else reject(this.unable())
    })
  }

  /** Only while the link is `ready`. Exactly one of the callbacks is called, once; it must not throw. */
  ask(
    subject: string, frame: Uint8Array, options: RequestOptions, resolve: (data: Uint8Array) => void, reject: (error: CMeshError) => void,
  ): void {
    this.#correlator.ask(subject, frame, options, resolve, reject)
  }

  /** Takes no new requests and closes when those in flight are answered, given up or lost with the connection. */
  async retire(): Promise<void> {
    await this.#correlator.drain()
    await this.close()
  }

  /** Closes at once; what is in flight rejects with `CMESH_CLIENT_CLOSED`. Memoised. */
  close(): Promise<void> {
    this.#closed ??= this.#close()
    return this.#closed
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

  #onMessage(error: Error | null, message: Msg): void {
    if (error !== null) {
      this.#inboxDenied = new CMeshError('CMESH_BUS_DENIED', { operation: 'subscribe to', subject: `${this.inbox}.*` }, { cause: error })
      this.#ready = false
      this.#correlator.fail(this.#inboxDenied)
      return
    }
    const { subject, data } = message
    const first = subject.charAt(this.inbox.length + 1)
    if (first === BUNDLE_TOKEN) this.#onBundle(data)
    else if (first === TAIL) this.#events.onTail(this, subject.slice(this.inbox.length + 1), data)
    // "No responders" is an empty message with a status; looking for headers only when it is empty keeps answers cheap.
    else if (data.length === 0 && message.headers?.code === 503) this.#correlator.onNoResponders(subject)
    else this.#correlator.onReply(subject, data)
  }

  #onBundle(data: Uint8Array): void {
    try {
      for (const { token, frame } of decodeBundle(data)) this.#correlator.onReplyTo(token, frame)
    } catch (thrown) {
      // Whoever waits for a reply in it asks again when its time is up.
      this.#events.onWarning(CMeshError.from(thrown, 'a bundle of replies'))
    }
  }

  async #followStatus(): Promise<void> {
    for await (const change of this.#nats.status()) {
      if (change.type === 'disconnect') {
        this.#set('disconnected')
        this.#correlator.fail(new CMeshError('CMESH_BUS_DISCONNECTED'))
      } else if (change.type === 'reconnect') {
        this.#set('connected')
      } else if (change.type === 'error') {
        this.#onError(change.error)
      }
    }
  }

  #onError(error: Error): void {
    if (error instanceof errors.PermissionViolationError) {
      if (error.operation === 'publish') this.#onDenied(error)
    } else if (isRefusal(error)) {
      // A login that expired is not one of these: the next attempt, with the newest, may be all it takes.
      this.#events.onRefused(this)
    }
  }

  #onDenied(error: InstanceType<typeof errors.PermissionViolationError>): void {
    const { subject } = error
    if (!subject.split('.').includes(this.cid)) {
      // It was made for the session before, and left in the moment in which this one took its place: whoever asked asks again.
      this.#correlator.failSubject(subject, new CMeshError('CMESH_BUS_DISCONNECTED', {}, { cause: error }))
      return
    }
    const denied = new CMeshError('CMESH_BUS_DENIED', { operation: 'publish on', subject }, { cause: error })
    this.#correlator.failSubject(subject, denied)
    this.#events.onWarning(denied)
  }

  #set(status: LinkStatus): void {
    if (this.#status === status || this.#status === 'closed') return
    this.#status = status
    this.#ready = status === 'connected' && this.#inboxDenied === undefined
    if (status === 'closed') this.#correlator.close(new CMeshError('CMESH_CLIENT_CLOSED'))
    this.#events.onStatus(this, status)
  }
}
