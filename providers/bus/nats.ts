/**
 * The bus on NATS: one connection that comes back for ever. It owns the connection, its inbox and the requests in flight; it
 * knows no CMTP. Subscriptions outlive a disconnect, requests do not: they fail the moment their answer can no longer come.
 */
import { connect, errors, nuid } from '@nats-io/transport-node'
import type { ConnectionOptions, Msg, NatsConnection, Status, Subscription } from '@nats-io/transport-node'
import { Correlator } from '../../cmtp/correlate.ts'
import { CMeshError } from '../../cmtp/errors.ts'
import { EARLY_SENDING } from '../../cmtp/nats.ts'
import type { Bus, BusMessage, BusRequestOptions, BusStatus, BusSubscription } from '../../services/bus/provider.ts'
import { authenticatorOf, type NatsLogin, withoutCredentials } from './nats-login.ts'

/** Without a login of `NatsLogin` the one in a URL counts; without that, the broker decides who the connection is. */
export interface NatsBusOptions extends NatsLogin {
  /** One URL or several of one cluster (`nats://host:port`). */
  readonly servers: string | readonly string[]
  /** What the broker's connection list shows. Default `cmesh`. */
  readonly name?: string
  /** First tokens of every inbox. Default `_INBOX`. */
  readonly inboxPrefix?: string
  /** Longest wait for one attempt to connect in ms, 100 to 60,000. Default 5,000. */
  readonly connectTimeoutMs?: number
  /** Most requests in flight. Default 65,536. */
  readonly maxPending?: number
  /** How long `close` waits for requests in flight and for handlers to be fed, in ms, 0 to 300,000. Default 5,000. */
  readonly drainMs?: number
  /** Told of what no caller can be told: a handler that threw, a subject the broker forbids. Default: a process warning. */
  readonly onError?: (error: CMeshError) => void
}

/** Between two attempts to reconnect, in ms: half of it fixed, half of it random, so that clients do not return in step. */
const RECONNECT_MS = 300
/** The same after the broker refused the login: asking at full speed does not make it change its mind. */
const RECONNECT_REFUSED_MS = 5_000
/** A silent broker is given up after two unanswered pings: 4 to 6 s. */
const PING_MS = 2_000

/**
 * Connects once and resolves with the bus. Rejects with `CMESH_BUS_CONNECT` when no server can be reached or the login is
 * refused, with `CMESH_CONFIG_INVALID` when two logins or half of one are given. After that the bus reconnects by itself until it is closed.
 */
export async function connectNats(options: NatsBusOptions): Promise<NatsBus> {
  const servers = typeof options.servers === 'string' ? [options.servers] : [...options.servers]
  if (options.nkeySeed !== undefined && options.user !== undefined) {
    const reason = 'an nkey seed and a user are given; one login is needed'
    throw new CMeshError('CMESH_CONFIG_INVALID', { key: 'user', reason })
  }
  if (options.jwt !== undefined && options.nkeySeed === undefined) {
    throw new CMeshError('CMESH_CONFIG_INVALID', { key: 'jwt', reason: 'it is worth nothing without the nkey seed it speaks of' })
  }
  const login: Login = { refused: false, signed: false }
  const authenticator = authenticatorOf(options, servers)
  const natsOptions: ConnectionOptions = {
    servers: servers.map(withoutCredentials),
    name: options.name ?? 'cmesh',
    inboxPrefix: options.inboxPrefix ?? '_INBOX',
    timeout: options.connectTimeoutMs ?? 5_000,
    maxReconnectAttempts: -1,
    reconnectDelayHandler: () => jittered(login.refused ? RECONNECT_REFUSED_MS : RECONNECT_MS),
    ignoreAuthErrorAbort: true,
    pingInterval: PING_MS,
    maxPingOut: 2,
    noAsyncTraces: true,
    ...EARLY_SENDING,
    ...(authenticator && {
      authenticator: nonce => {
        login.signed = nonce !== undefined
        return authenticator(nonce)
      },
    }),
  }
  try {
    return new NatsBus(await connect(natsOptions), options, login)
  } catch (thrown) {
    const reason = thrown instanceof Error ? thrown.message : String(thrown)
    throw new CMeshError('CMESH_BUS_CONNECT', { servers: natsOptions.servers?.toString() ?? '', reason }, { cause: thrown })
  }
}

/** How the last login went. */
interface Login {
  refused: boolean
  /** The server asked whoever comes to sign. What it says of itself later does not repeat that. */
  signed: boolean
}

export class NatsBus implements Bus {
  /** The connection itself, for the providers that speak JetStream. It belongs to the bus: nobody else closes it. */
  readonly connection: NatsConnection
  readonly #correlator: Correlator
  readonly #onError: (error: CMeshError) => void
  readonly #drainMs: number
  readonly #login: Login
  readonly #listeners = new Set<(status: BusStatus) => void>()
  readonly #subscriptions = new Set<NatsSubscription>()
  #status: BusStatus = 'connected'
  #dropped = 0
  #inboxDenied: CMeshError | undefined
  #closing: Promise<void> | undefined

  /** Takes over `connection`, which must be connected. Use `connectNats`. */
  constructor(connection: NatsConnection, options: NatsBusOptions, login: Login) {
    this.connection = connection
    this.#login = login
    this.#drainMs = options.drainMs ?? 5_000
    this.#onError = options.onError ?? ((error) => process.emitWarning(error))
    const inbox = `${options.inboxPrefix ?? '_INBOX'}.${nuid.next()}`
    this.#correlator = new Correlator({
      inbox,
      publish: (subject, data, reply) => this.#send(subject, data, reply),
      ...(options.maxPending !== undefined && { maxPending: options.maxPending }),
    })
    connection.subscribe(`${inbox}.*`, { callback: (error, message) => this.#onInbox(error, message, `${inbox}.*`) })
    void this.#followStatus(connection.status())
    void connection.closed().then(() => this.#onClosed())
  }

  get status(): BusStatus {
    return this.#status
  }

  /** Whether the server had this login signed, as one with accounts does. */
  get signed(): boolean {
    return this.#login.signed
  }

  /** Messages published while there was no connection; they are gone, as fire and forget allows. */
  get dropped(): number {
    return this.#dropped
  }

  /** Answers that came too late for their request. */
  get late(): number {
    return this.#correlator.late
  }

  /** Requests in flight. */
  get pending(): number {
    return this.#correlator.pending
  }

  publish(subject: string, data: Uint8Array, reply?: string): void {
    if (this.#status === 'closed') throw new CMeshError('CMESH_BUS_CLOSED')
    // What the library buffered now it would throw away at its next attempt to connect.
    if (this.#status === 'disconnected') this.#dropped++
    else this.#send(subject, data, reply)
  }

  subscribe(subject: string, handler: (message: BusMessage) => void, options?: { readonly queue?: string }): BusSubscription {
    if (this.#status === 'closed' || this.#closing !== undefined) throw new CMeshError('CMESH_BUS_CLOSED')
    const callback = (error: Error | null, message: Msg): void => {
      if (error !== null) return this.#report(error, 'subscribe to', subject)
      try {
        // The library's message is handed over as it is: it decodes subject and reply when they are read, and only then.
        handler(message as BusMessage)
      } catch (thrown) {
        // Thrown on into the library it would end the reading of this connection.
        this.#onError(CMeshError.from(thrown, `the handler of ${subject}`))
      }
    }
    const inner = this.connection.subscribe(subject, { callback, ...(options?.queue !== undefined && { queue: options.queue }) })
    const subscription = new NatsSubscription(inner, (ended) => this.#subscriptions.delete(ended))
    this.#subscriptions.add(subscription)
    return subscription
  }

  request(subject: string, data: Uint8Array, options?: BusRequestOptions): Promise<Uint8Array> {
    if (this.#status === 'disconnected') return Promise.reject(new CMeshError('CMESH_BUS_DISCONNECTED'))
    if (this.#inboxDenied !== undefined) return Promise.reject(this.#inboxDenied)
    return this.#correlator.request(subject, data, options)
  }

  async flush(): Promise<void> {
    if (this.#status === 'closed') throw new CMeshError('CMESH_BUS_CLOSED')
    if (this.#status === 'disconnected') throw new CMeshError('CMESH_BUS_DISCONNECTED')
    try {
      await this.connection.flush()
    } catch (cause) {
      throw new CMeshError(this.connection.isClosed() ? 'CMESH_BUS_CLOSED' : 'CMESH_BUS_DISCONNECTED', {}, { cause })
    }
  }

  onStatus(listener: (status: BusStatus) => void): () => void {
    this.#listeners.add(listener)
    return () => this.#listeners.delete(listener)
  }

  close(): Promise<void> {
    this.#closing ??= this.#close()
    return this.#closing
  }

  async #close(): Promise<void> {
    if (this.#status === 'closed') return
    const cutOff = deferredTimer(this.#drainMs)
    try {
      if (this.#status === 'connected') await Promise.race([this.#drainAll(), cutOff.expired])
    } finally {
      cutOff.clear()
      this.#correlator.close()
      await this.connection.close()
      this.#onClosed()
    }
  }

  /** Intake first, then what is in flight, whose handlers may still publish; then what they published. */
  async #drainAll(): Promise<void> {
    try {
      await Promise.all([...this.#subscriptions].map((subscription) => subscription.drain()))
      await this.#correlator.drain()
      await this.connection.drain()
    } catch (thrown) {
      // The broker went away meanwhile: nothing is left to drain to. Anything else is worth knowing.
      if (this.#status === 'connected' && !this.connection.isClosed()) this.#onError(CMeshError.from(thrown, 'bus'))
    }
  }

  #send(subject: string, data: Uint8Array, reply: string | undefined): void {
    try {
      this.connection.publish(subject, data, reply === undefined || reply === '' ? undefined : { reply })
    } catch (thrown) {
      throw this.#mapped(thrown, data)
    }
  }

  #mapped(thrown: unknown, data: Uint8Array): CMeshError {
    if (thrown instanceof errors.ClosedConnectionError || thrown instanceof errors.DrainingConnectionError) {
      return new CMeshError('CMESH_BUS_CLOSED', {}, { cause: thrown })
    }
    const limit = this.connection.info?.max_payload
    if (thrown instanceof errors.InvalidArgumentError && limit !== undefined && data.length > limit) {
      return new CMeshError('CMESH_FRAME_TOO_LARGE', { part: 'message', bytes: data.length, limit }, { cause: thrown })
    }
    return CMeshError.from(thrown, 'bus')
  }

  #onInbox(error: Error | null, message: Msg, inbox: string): void {
    if (error !== null) {
      this.#inboxDenied = new CMeshError('CMESH_BUS_DENIED', { operation: 'subscribe to', subject: inbox }, { cause: error })
      this.#correlator.fail(this.#inboxDenied)
      return
    }
    const { data, subject } = message
    // "No responders" is an empty message with a status header; looking for headers only when it is empty keeps answers cheap.
    if (data.length === 0 && message.headers?.code === 503) this.#correlator.onNoResponders(subject)
    else this.#correlator.onReply(subject, data)
  }

  async #followStatus(changes: AsyncIterable<Status>): Promise<void> {
    for await (const change of changes) {
      if (change.type === 'disconnect') {
        this.#set('disconnected')
        this.#correlator.fail(new CMeshError('CMESH_BUS_DISCONNECTED'))
      } else if (change.type === 'reconnect') {
        this.#login.refused = false
        this.#set('connected')
      } else if (change.type === 'error') {
        if (change.error instanceof errors.AuthorizationError) this.#login.refused = true
        // A forbidden subscription is told to its callback as well; a forbidden publication is told here only.
        if (change.error instanceof errors.PermissionViolationError && change.error.operation === 'publish') {
          this.#onDeniedPublish(change.error)
        }
      }
    }
  }

  #onDeniedPublish(violation: InstanceType<typeof errors.PermissionViolationError>): void {
    const { subject } = violation
    const error = new CMeshError('CMESH_BUS_DENIED', { operation: 'publish on', subject }, { cause: violation })
    this.#correlator.failSubject(subject, error)
    this.#onError(error)
  }

  #report(error: Error, operation: string, subject: string): void {
    if (!(error instanceof errors.PermissionViolationError)) this.#onError(CMeshError.from(error, 'bus'))
    else this.#onError(new CMeshError('CMESH_BUS_DENIED', { operation, subject }, { cause: error }))
  }

  #onClosed(): void {
    this.#correlator.close()
    this.#set('closed')
  }

  #set(status: BusStatus): void {
    if (this.#status === status || this.#status === 'closed') return
    this.#status = status
    for (const listener of [...this.#listeners]) {
      try {
        listener(status)
      } catch (thrown) {
        this.#onError(CMeshError.from(thrown, 'a status listener of the bus'))
      }
    }
  }
}

class NatsSubscription implements BusSubscription {
  readonly #subscription: Subscription
  readonly #onEnd: (ended: NatsSubscription) => void
  #drained: Promise<void> | undefined

  constructor(subscription: Subscription, onEnd: (ended: NatsSubscription) => void) {
    this.#subscription = subscription
    this.#onEnd = onEnd
  }

  drain(): Promise<void> {
    this.#onEnd(this)
    this.#drained ??= this.#subscription.isClosed() ? Promise.resolve() : this.#subscription.drain()
    return this.#drained
  }

  unsubscribe(): void {
    this.#onEnd(this)
    this.#subscription.unsubscribe()
  }
}

function jittered(ms: number): number {
  return ms / 2 + Math.random() * (ms / 2)
}

function deferredTimer(ms: number): { readonly expired: Promise<void>; readonly clear: () => void } {
  let timer: ReturnType<typeof setTimeout> | undefined
  const expired = new Promise<void>((resolve) => { timer = setTimeout(resolve, ms) })
  return { expired, clear: () => clearTimeout(timer) }
}
