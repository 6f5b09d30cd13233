/**
 * The client's session with the mesh: how it comes to one, keeps it and replaces it. It owns the current token, the templates
 * made with it and the timer that renews it; requests borrow what is current. The session of a connection's owner has a link of its
 * own; one that a gateway carries goes over the gateway's.
 *
 *   none → handshake → current ⇄ renewed
 *            ↑             └─ refused or expired, or its gateway has another session now ─┐
 *            └────────────────────────────────────────────────────────────────────────────┘
 *
 * Invariants: (1) at most one handshake or renewal is under way, whoever asks; (2) a session is renewed at 80 % of its life, and its
 * link replaced before the link's login ends, long before a request could meet the end of either; (3) a failed renewal is no error
 * of any request: the next request that is answered 401 starts a handshake; (4) session and link change in one turn.
 */
import { CMeshError } from '../cmtp/errors.ts'
import type { Session } from '../cmtp/identity/login.ts'
import { activeSession, type ActiveSession } from './active-session.ts'
import { isRefused } from './connection.ts'
import { Handshakes, type HandshakeParts } from './handshakes.ts'
import type { Link } from './link.ts'

export interface SessionParts extends HandshakeParts {
  /** Whose link this session goes over, and whose frames may carry its requests. Default: it has a link of its own, the connection's. */
  readonly gateway?: SessionKeeper
}

/** Share of a session's life after which it is renewed. */
const RENEW_AT = 0.8
/** Least time between two renewals in ms, however short a life the mesh gives. */
const RENEW_SOONEST_MS = 500
/** Pause after a renewal that could not be made, in ms. */
const RENEW_AGAIN_MS = 5_000

export class SessionKeeper {
  readonly #parts: SessionParts
  readonly #handshakes: Handshakes
  /** Those who go over this one's link. */
  readonly #carried = new Set<SessionKeeper>()
  #current: ActiveSession | undefined
  #pending: Promise<ActiveSession> | undefined
  #timer: ReturnType<typeof setTimeout> | undefined
  /** When the link's login ends, by the node's clock, ms since 1970. */
  #linkEndsMs = Infinity
  /** When `doubt` last asked the mesh. */
  #doubtedMs = -Infinity
  /** When the broker's refusal is to be met again at the soonest. */
  #recoverFromMs = -Infinity
  #mayTakeUp = true
  #closed = false

  constructor(parts: SessionParts) {
    this.#parts = parts
    this.#handshakes = new Handshakes(parts)
    if (parts.gateway === undefined) parts.connection.onRefused(() => void this.#recover())
    else parts.gateway.#carried.add(this)
  }

  /** The session that requests use now; `undefined` before the first, and after one that ended and could not be followed by another. */
  get current(): ActiveSession | undefined {
    return this.#current
  }

  /** The mesh's DID: the one to insist on, or the one that was met. */
  get mesh(): string | undefined {
    return this.#handshakes.mesh
  }

  /** Resolves with a session, the kept one if it is still good. Rejects like `login`, `Connection.knock`, or with `CMESH_CLIENT_CLOSED`. */
  ensure(): Promise<ActiveSession> {
    return this.#current === undefined ? this.#once(() => this.#begin()) : Promise.resolve(this.#current)
  }

  /** A session in place of `refused`, which the mesh does not accept: the current one if it is another already. */
  replace(refused: ActiveSession): Promise<ActiveSession> {
    // By the session itself: the same one may have gone back to its whole token meanwhile.
    if (this.#current !== undefined && this.#current.session !== refused.session) return Promise.resolve(this.#current)
    return this.#once(() => this.#handshake())
  }

  /** A node took the whole token: from now on requests carry its reference. */
  introduced(session: ActiveSession): void {
    if (this.#current === session && !session.introduced) this.#current = activeSession(session.session, this.#parts.ids, true)
  }

  /**
   * A node does not know the token that `session` refers to: the same session, with the whole token again, or the one that took its place. With
   * several nodes the next may not know it either, whatever others have introduced meanwhile: what is given here has the whole token always.
   */
  introduce(session: ActiveSession): ActiveSession {
    const { session: now } = this.#current ?? session
    const whole = activeSession(now, this.#parts.ids, false)
    if (this.#current?.session === session.session) this.#current = whole
    return whole
  }

  /**
   * The mesh took nothing of a frame under `session`, whose whole token it had; other sessions' requests were in it, which go on by
   * themselves. Asks for a new token, and for a new session where the mesh does not know this one: no request of its own might.
   */
  doubt(session: ActiveSession): void {
    const now = this.#parts.now()
    if (this.#current !== session || session.introduced || now < this.#doubtedMs + RENEW_SOONEST_MS) return
    this.#doubtedMs = now
    void this.#renewQuietly(true)
  }

  /** Ends the session at the mesh, where there is one. Rejects with what the mesh says. */
  async hangup(): Promise<void> {
    if (this.#current !== undefined) await this.#handshakes.hangup(this.#current.session)
  }

  /** Stops renewing. The session itself lives until it expires, so that another run may take it up. */
  close(): void {
    this.#closed = true
    clearTimeout(this.#timer)
    const { gateway } = this.#parts
    if (gateway !== undefined) gateway.#carried.delete(this)
  }

  #once(make: () => Promise<ActiveSession>): Promise<ActiveSession> {
    if (this.#closed) return Promise.reject(new CMeshError('CMESH_CLIENT_CLOSED'))
    this.#pending ??= make().finally(() => { this.#pending = undefined })
    return this.#pending
  }

  async #begin(): Promise<ActiveSession> {
    const kept = this.#mayTakeUp ? await this.#handshakes.kept() : undefined
    this.#mayTakeUp = false
    if (kept === undefined) return await this.#handshake()
    try {
      return await this.#enter(kept, kept.issued - this.#parts.now())
    } catch (thrown) {
      if (!isRefused(thrown)) throw thrown
      return await this.#renewAsGuest(kept)
    }
  }

  async #handshake(): Promise<ActiveSession> {
    const { gateway } = this.#parts
    if (gateway === undefined) return await this.#enter(await this.#handshakes.open(), 0)
    for (;;) {
      const via = (await gateway.ensure()).session.sid
      const session = await this.#handshakes.open(via)
      // Only what names the gateway's current session goes over its link.
      if (gateway.current?.session.sid === via) return this.#adopt(session, 0)
    }
  }

  async #renew(): Promise<ActiveSession> {
    const { connection, gateway } = this.#parts
    if (this.#current === undefined) return await this.#handshake()
    const renewed = await this.#handshakes.renew(this.#current.session, 'current')
    // Another session of the gateway's may have come meanwhile, which this one does not name.
    if (this.#current === undefined) return await this.#handshake()
    const inMs = lifeOf(renewed) * RENEW_AT
    this.#adopt(renewed, 0)
    if (gateway === undefined) {
      connection.renewed(renewed)
      // One renewal may fail and still leave another before the login ends. The new link is there before the old one goes.
      if (this.#linkEndsMs - renewed.issued < 2 * inMs) this.#use(await connection.dial(renewed), renewed)
    }
    return this.#current
  }

  async #renewOrReplace(): Promise<ActiveSession> {
    try {
      return await this.#renew()
    } catch (thrown) {
      if (!(thrown instanceof CMeshError) || thrown.status !== 401) throw thrown
      return await this.#handshake()
    }
  }

  /** Renews a session whose link the broker refuses, or opens another in its place. */
  async #renewAsGuest(session: Session): Promise<ActiveSession> {
    try {
      return await this.#enter(await this.#handshakes.renew(session, 'guest'), 0)
    } catch (thrown) {
      if (!(thrown instanceof CMeshError) || (thrown.status !== 401 && !isRefused(thrown))) throw thrown
      return await this.#handshake()
    }
  }

  /** The broker does not take the link's login any more. */
  async #recover(): Promise<void> {
    const { connection, now, onWarning } = this.#parts
    if (this.#closed || this.#pending !== undefined || now() < this.#recoverFromMs) return
    try {
      await this.#once(() => (this.#current === undefined ? this.#handshake() : this.#renewAsGuest(this.#current.session)))
    } catch (thrown) {
      if (this.#closed) return
      const error = CMeshError.from(thrown, 'the session')
      // The broker refuses the link again soon, which is when this is tried again.
      this.#recoverFromMs = now() + RENEW_SOONEST_MS
      if (error.retry === 'retry') return
      // The next request starts a handshake, and is told what that fails with.
      this.#end()
      connection.leave()
      onWarning(error)
    }
  }

  #end(): void {
    clearTimeout(this.#timer)
    this.#current = undefined
    for (const keeper of this.#carried) keeper.#current = undefined
  }

  /** Opens the session's link and makes both current. */
  async #enter(session: Session, bornMs: number): Promise<ActiveSession> {
    const link = await this.#parts.connection.dial(session)
    this.#use(link, session)
    return this.#adopt(session, bornMs)
  }

  #use(link: Link, { sid, connection }: Session): void {
    // Those who are carried name the session that they go over: they need another when it is another.
    if (this.#current?.session.sid !== sid) this.#end()
    this.#linkEndsMs = connection?.expires ?? Infinity
    this.#parts.connection.use(link)
  }

  /** `bornMs`: when its life began, in ms from now. A fresh one's began now, whatever the two clocks think of each other. */
  #adopt(session: Session, bornMs: number): ActiveSession {
    this.#current = activeSession(session, this.#parts.ids, false)
    const lifeMs = lifeOf(session)
    // A token counts whole seconds, so a fresh one has lived up to one already. A clock that is off says nothing of that.
    const leftMs = session.issued + lifeMs - this.#parts.now()
    const soundMs = leftMs > 0 && leftMs < lifeMs ? leftMs : lifeMs
    this.#schedule(Math.max(Math.min(bornMs + lifeMs * RENEW_AT, soundMs * RENEW_AT), RENEW_SOONEST_MS))
    return this.#current
  }

  #schedule(inMs: number): void {
    clearTimeout(this.#timer)
    if (this.#closed) return
    this.#timer = setTimeout(() => void this.#renewQuietly(false), inMs)
    this.#timer.unref()
  }

  /** `orReplace`: with a handshake when the mesh does not know the session any more. */
  async #renewQuietly(orReplace: boolean): Promise<void> {
    const { connection, onWarning } = this.#parts
    try {
      await this.#once(() => (orReplace ? this.#renewOrReplace() : this.#renew()))
    } catch (thrown) {
      // Without a session there is nothing to renew: the next request opens one, or is told why it cannot.
      if (this.#closed || this.#current === undefined) return
      const error = CMeshError.from(thrown, 'the session')
      if (error.retry === 'retry' || connection.status !== 'connected') return this.#schedule(RENEW_AGAIN_MS)
      // A mesh that no longer knows the session says so with 401: only a handshake helps, and the next request will start it.
      if (error.status !== 401) onWarning(error)
    }
  }
}

/** How long all of a session lasts, its link's login included, in ms. */
function lifeOf({ issued, expires, connection }: Session): number {
  return Math.min(expires, connection?.expires ?? Infinity) - issued
}
