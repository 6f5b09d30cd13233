/**
 * The client's way to the mesh, over links that follow each other: newcomers' for handshakes, and one at a time that is current,
 * a session's. It owns the links and the tails; which session is current is for the keeper of sessions to say (`use`).
 *
 *   knock → a newcomer's link, closed by whoever asked for it
 *   dial  → a session's link → use → current → retired (another took its place) → closed when nothing waits on it
 *
 * Invariants: (1) a link that is replaced still brings the answers that were under way on it; (2) what comes live arrives on the
 * current link alone: whoever follows hears `connected` when that is another one, and tells the mesh its new inbox; (3) once
 * closed there is no link, and none is opened.
 */
import { CMeshError } from '../cmtp/errors.ts'
import type { Session } from '../cmtp/identity/login.ts'
import { guestJwt } from '../cmtp/identity/nats-jwt.ts'
import { Nkey } from '../cmtp/identity/nats-keys.ts'
import { isRefusedLogin } from './broker-login.ts'
import { Link, TAIL, type LinkEvents, type LinkOptions, type LinkStatus, type RequestOptions } from './link.ts'

export type ConnectionStatus = LinkStatus

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
  /** Where the mesh sends the events: on the link that is current now. */
  readonly inbox: string
  readonly stop: () => void
}

/** What a session's link needs of the session. */
export type Pass = Pick<Session, 'sid' | 'nkey' | 'connection'>

export class Connection {
  readonly url: string
  readonly #options: ConnectionOptions
  readonly #events: LinkEvents
  #current: Link | undefined
  /** Open, and not current: newcomers', those not used yet, and those that were replaced. */
  readonly #others = new Set<Link>()
  readonly #tails = new Map<string, (data: Uint8Array) => void>()
  readonly #listeners = new Set<(status: ConnectionStatus) => void>()
  #onRefused: () => void = () => undefined
  #tailSequence = 0
  /** Late answers of links that are closed. */
  #late = 0
  /** A link was open once. */
  #met = false
  #status: ConnectionStatus = 'disconnected'
  #closed: Promise<void> | undefined

  /** Connects to nothing yet. */
  constructor(options: ConnectionOptions) {
    this.url = options.url
    this.#options = options
    this.#events = {
      onStatus: (link, status) => this.#onLinkStatus(link, status),
      onTail: (link, token, data) => { if (link === this.#current) this.#tails.get(token)?.(data) },
      onRefused: (link) => { if (link === this.#current) this.#onRefused() },
      onWarning: options.onWarning,
    }
  }

  /** Of the current link; `disconnected` while there is none. */
  get status(): ConnectionStatus {
    return this.#status
  }

  /** The current link is down and comes back by itself. */
  get returning(): boolean {
    return this.#status === 'disconnected' && this.#current !== undefined
  }

  /** Id of the current link. */
  get cid(): string | undefined {
    return this.#current?.cid
  }

  /** Requests in flight. */
  get pending(): number {
    let pending = this.#current?.pending ?? 0
    for (const link of this.#others) pending += link.pending
    return pending
  }

  /** Answers that nobody waited for: late, repeated or unasked. */
  get late(): number {
    let late = this.#late + (this.#current?.late ?? 0)
    for (const link of this.#others) late += link.late
    return late
  }

  /**
   * A newcomer's link, under an nkey of its own, for the steps of a handshake; the caller closes it. Rejects with
   * `CMESH_CLIENT_NO_MESH`, with `CMESH_BUS_DISCONNECTED` where the broker was met before, or with `CMESH_CLIENT_CLOSED`.
   */
  async knock(): Promise<Link> {
    const nkey = Nkey.generate('user')
    const login = { nkey, jwt: guestJwt(nkey, Math.floor(Date.now() / 1000)) }
    return await this.#open({ cid: nkey.text, login, reconnect: false }, 'newcomers')
  }

  /** A session's link, for `use`. Rejects like `knock`; where `isRefused` holds for the error, the broker does not take the session's login. */
  async dial({ sid, nkey, connection }: Pass): Promise<Link> {
    const login = nkey === undefined || connection === undefined ? undefined : { nkey, jwt: connection.jwt }
    return await this.#open({ cid: sid, login, reconnect: true }, 'this session')
  }

  /** Makes a link that was dialled the current one, at once. The one before closes when what waits on it is settled. */
  use(link: Link): void {
    const before = this.#current
    this.#others.delete(link)
    this.#current = link
    if (before !== undefined) {
      this.#others.add(before)
      void before.retire()
    }
    this.#onLinkStatus(link, link.status, before !== undefined)
  }

  /** Has the current link log in with this session's newest login from the next time on. */
  renewed({ sid, connection }: Pass): void {
    if (connection !== undefined && this.#current?.cid === sid) this.#current.renew(connection.jwt)
  }

  /** Gives the current link up. */
  leave(): void {
    const link = this.#current
    if (link === undefined) return
    this.#current = undefined
    this.#others.add(link)
    void link.close()
    // Also where it was down already: who waits for its return waits in vain.
    this.#set('disconnected', true)
  }

  /** Calls back when the broker does not take the current link's login any more; until that is mended, again at each attempt. */
  onRefused(listener: () => void): void {
    this.#onRefused = listener
  }

  /**
   * Resolves with the answer's bytes. Rejects with `CMESH_BUS_DISCONNECTED`, `CMESH_BUS_TIMEOUT`, `CMESH_BUS_NO_RESPONDERS`,
   * `CMESH_BUS_BUSY`, `CMESH_BUS_DENIED`, `CMESH_CLIENT_ABORTED`, `CMESH_CLIENT_CLOSED`, `CMESH_FRAME_TOO_LARGE`.
   */
  request(subject: string, frame: Uint8Array, options: RequestOptions): Promise<Uint8Array> {
    return new Promise((resolve, reject) => { this.ask(subject, frame, options, resolve, reject) })
  }

  /** `request` with callbacks, of which exactly one is called, once; it must not throw. */
  ask(
    subject: string, frame: Uint8Array, options: RequestOptions, resolve: (data: Uint8Array) => void, reject: (error: CMeshError) => void,
  ): void {
    const link = this.#current
    if (link?.ready === true) link.ask(subject, frame, options, resolve, reject)
    else reject(this.#unable())
  }

  /** Opens a place on the inbox for live events. The handler must not throw. */
  tail(handler: (data: Uint8Array) => void): Tail {
    const token = `${TAIL}${++this.#tailSequence}`
    this.#tails.set(token, handler)
    const inbox = (): string => `${this.#current?.inbox ?? ''}.${token}`
    return { get inbox() { return inbox() }, stop: () => { this.#tails.delete(token) } }
  }

  /**
   * Calls back on each change of status, and with `connected` when another link has become the current one; returns what stops
   * that. The listener must not throw.
   */
  onStatus(listener: (status: ConnectionStatus) => void): () => void {
    this.#listeners.add(listener)
    return () => { this.#listeners.delete(listener) }
  }

  /** Takes no new requests, waits up to `withinMs` for those in flight, then closes. Memoised with `close`. */
  drain(withinMs: number): Promise<void> {
    this.#closed ??= this.#drain(withinMs)
    return this.#closed
  }

  /** Closes every link at once; what is in flight rejects with `CMESH_CLIENT_CLOSED`. */
  close(): Promise<void> {
    this.#closed ??= this.#close()
    return this.#closed
  }

  async #drain(withinMs: number): Promise<void> {
    let timer: ReturnType<typeof setTimeout> | undefined
    const cutOff = new Promise<void>((resolve) => { timer = setTimeout(resolve, withinMs) })
    try {
      await Promise.race([Promise.all(this.#links().map((link) => link.retire())), cutOff])
    } finally {
      clearTimeout(timer)
      await this.#close()
    }
  }

  async #close(): Promise<void> {
    this.#set('closed')
    await Promise.all(this.#links().map((link) => link.close()))
  }

  #links(): Link[] {
    return this.#current === undefined ? [...this.#others] : [this.#current, ...this.#others]
  }

  async #open(login: Pick<LinkOptions, 'cid' | 'login' | 'reconnect'>, whom: string): Promise<Link> {
    const { url, name, connectTimeoutMs, maxInFlight } = this.#options
    if (this.#closed !== undefined) throw new CMeshError('CMESH_CLIENT_CLOSED')
    let link: Link
    try {
      link = await Link.open({ url, name, connectTimeoutMs, maxInFlight, events: this.#events, ...login })
    } catch (cause) {
      throw this.#unmade(cause, whom)
    }
    this.#met = true
    if (this.#isClosed()) {
      await link.close()
      throw new CMeshError('CMESH_CLIENT_CLOSED')
    }
    this.#others.add(link)
    return link
  }

  #isClosed(): boolean {
    return this.#closed !== undefined
  }

  /** Why a link could not be opened, in words for the user. */
  #unmade(cause: unknown, whom: string): CMeshError {
    const said = (cause instanceof Error ? cause.message : String(cause)).replace(/\.$/, '')
    const { url } = this
    if (isRefusedLogin(cause)) {
      const why = 'it has other accounts than a mesh\'s, or its clock and this machine\'s are minutes apart'
      const reason = `its broker refuses ${whom} (${said.toLowerCase()}): ${why}`
      return new CMeshError('CMESH_CLIENT_NO_MESH', { url, reason }, { cause })
    }
    // Where it was met before, only the connection is down: that passes.
    return this.#met ? new CMeshError('CMESH_BUS_DISCONNECTED', {}, { cause }) : new CMeshError('CMESH_CLIENT_NO_MESH', { url, reason: said }, { cause })
  }

  #onLinkStatus(link: Link, status: LinkStatus, another = false): void {
    if (link === this.#current) {
      // Only its owner closes a link on purpose; one that ended by itself needs another in its place.
      if (status === 'closed' && !this.#isClosed()) this.#onRefused()
      this.#set(status === 'closed' ? 'disconnected' : status, another)
    } else if (status === 'closed' && this.#others.delete(link)) {
      this.#late += link.late
    }
  }

  #unable(): CMeshError {
    if (this.#status === 'closed') return new CMeshError('CMESH_CLIENT_CLOSED')
    return this.#current?.unable() ?? new CMeshError('CMESH_BUS_DISCONNECTED')
  }

  /** `anew`: even where it is that already. */
  #set(status: ConnectionStatus, anew = false): void {
    if (this.#status === 'closed' || (this.#status === status && !anew)) return
    this.#status = status
    for (const listener of [...this.#listeners]) listener(status)
  }
}

/** Whether a link could not be opened because the broker does not take its login. */
export function isRefused(error: unknown): boolean {
  return error instanceof CMeshError && isRefusedLogin(error.cause)
}
