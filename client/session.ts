/**
 * The client's session with the mesh: how it comes to one, keeps it and replaces it. It owns the current token, the templates
 * made with it and the timer that renews it; requests borrow what is current.
 *
 *   none → handshake → current ⇄ renewed
 *            ↑             └─ refused or expired, or its gateway has another session now ─┐
 *            └────────────────────────────────────────────────────────────────────────────┘
 *
 * Invariants: (1) at most one handshake or renewal is under way, whoever asks; (2) a session is renewed at 80 % of its life,
 * long before a request could meet an expired one; (3) a failed renewal is no error of any request: the next request that is
 * answered 401 starts a handshake.
 */
import { REQUEST } from '../cmtp/correlate.ts'
import { CMeshError } from '../cmtp/errors.ts'
import { encodeRequest } from '../cmtp/frame.ts'
import { login, refresh, type LoginOptions, type SendStep, type Session } from '../cmtp/identity/login.ts'
import type { KeyPair } from '../cmtp/identity/keys.ts'
import { tokenReference } from '../cmtp/identity/token.ts'
import type { MessageIds } from '../cmtp/message-id.ts'
import { HELLO_SUBJECT, helloSubject, requestSubject } from '../cmtp/subject.ts'
import type { Connection } from './connection.ts'
import { readReply } from './reply.ts'
import { RequestTemplates } from './request-templates.ts'

/** Where a session is kept between runs of a program. */
export interface SessionMemory {
  load(): Promise<Session | undefined>
  save(session: Session): Promise<void>
}

export interface SessionParts {
  readonly connection: Connection
  readonly ids: MessageIds
  readonly identity: KeyPair
  /** The mesh's DID, to refuse any other; `undefined` takes whatever mesh answers and keeps to it. */
  readonly mesh: string | undefined
  readonly memory: SessionMemory | undefined
  /** The session of the gateway whose frames may carry this one's requests; asked at each handshake and renewal. Default: none. */
  readonly via?: () => string | undefined
  /** What a person has a say in at each handshake; a renewal asks nobody. Default: consents, and presents nothing. */
  readonly person?: Pick<LoginOptions, 'approve' | 'present' | 'onChallenge'>
  readonly onWarning: (error: CMeshError) => void
  /** ms since 1970. */
  readonly now: () => number
}

/** What requests need of the current session. */
export interface ActiveSession {
  readonly session: Session
  /** What stands in a frame for the token: the token itself, or its reference once a node took it. */
  readonly token: Buffer
  /** `token` is the reference. */
  readonly introduced: boolean
  /** Where the session's requests go. */
  readonly subject: string
  readonly templates: RequestTemplates
}

/** Share of a session's life after which it is renewed. */
const RENEW_AT = 0.8
/** Least time between two renewals in ms, however short a life the mesh gives. */
const RENEW_SOONEST_MS = 500
/** Pause after a renewal that could not be made, in ms. */
const RENEW_AGAIN_MS = 5_000
/** A kept session with less life left than this, in ms, is not worth taking up. */
const WORTH_MS = 5_000
/** Longest wait for one step of the handshake, in ms. */
const STEP_MS = 5_000

export class SessionKeeper {
  readonly #parts: SessionParts
  #mesh: string | undefined
  #current: ActiveSession | undefined
  /** Of the mesh's keys, as far as was seen: older ones are refused. */
  #keyEpoch: number | undefined
  #pending: Promise<ActiveSession> | undefined
  #timer: ReturnType<typeof setTimeout> | undefined
  /** When `doubt` last asked the mesh. */
  #doubtedMs = -Infinity
  #closed = false

  constructor(parts: SessionParts) {
    this.#parts = parts
    this.#mesh = parts.mesh
  }

  /** The session that requests use now; `undefined` before the first. */
  get current(): ActiveSession | undefined {
    return this.#current
  }

  /** Resolves with a session, the kept one if it is still good. Rejects like `login`, or with `CMESH_CLIENT_CLOSED`. */
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
    if (this.#current === session && !session.introduced) this.#current = this.#active(session.session, true)
  }

  /** A node does not know the token that `session` refers to: the same session, with the whole token again. */
  introduce(session: ActiveSession): ActiveSession {
    if (this.#current !== undefined && this.#current.session !== session.session) return this.#current
    this.#current = this.#active(session.session, false)
    return this.#current
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

  /** Stops renewing. The session itself lives until it expires, so that another run may take it up. */
  close(): void {
    this.#closed = true
    clearTimeout(this.#timer)
  }

  #once(make: () => Promise<ActiveSession>): Promise<ActiveSession> {
    if (this.#closed) return Promise.reject(new CMeshError('CMESH_CLIENT_CLOSED'))
    this.#pending ??= make().finally(() => { this.#pending = undefined })
    return this.#pending
  }

  async #begin(): Promise<ActiveSession> {
    const kept = await this.#kept()
    if (kept === undefined) return await this.#handshake()
    return this.#adopt(kept, kept.issued - this.#parts.now())
  }

  /** The session of an earlier run, if it is this identity's, this mesh's and has life left. */
  async #kept(): Promise<Session | undefined> {
    const { memory, identity, now } = this.#parts
    const kept = await memory?.load()
    if (kept === undefined || kept.sub !== identity.did) return undefined
    if (this.#mesh !== undefined && kept.mesh !== this.#mesh) return undefined
    if (kept.expires - now() >= WORTH_MS) return kept
    // Its epoch outlives it, where it is known to be this mesh's.
    if (this.#mesh !== undefined) this.#keyEpoch = kept.keyEpoch
    return undefined
  }

  async #handshake(): Promise<ActiveSession> {
    const { identity, person } = this.#parts
    const via = this.#parts.via?.()
    const session = await login({
      ...person, identity, send: this.#send, ...(this.#mesh !== undefined && { mesh: this.#mesh }), ...(via !== undefined && { via }),
      ...(this.#keyEpoch !== undefined && { keyEpoch: this.#keyEpoch }),
    })
    // From here on it is this mesh or none: another one under the same address is somebody else.
    this.#mesh = session.mesh
    await this.#keep(session)
    return this.#adopt(session, 0)
  }

  async #renew(): Promise<ActiveSession> {
    if (this.#current === undefined) return await this.#handshake()
    const { session } = this.#current
    const via = this.#parts.via?.()
    // Only a handshake can name another gateway: without one no frame would carry this session's requests again.
    if (via !== undefined && via !== session.via) return await this.#handshake()
    const renewed = await refresh(session, this.#send, this.#parts.now())
    await this.#keep(renewed)
    return this.#adopt(renewed, 0)
  }

  async #renewOrReplace(): Promise<ActiveSession> {
    try {
      return await this.#renew()
    } catch (thrown) {
      if (!(thrown instanceof CMeshError) || thrown.status !== 401) throw thrown
      return await this.#handshake()
    }
  }

  async #keep(session: Session): Promise<void> {
    try {
      await this.#parts.memory?.save(session)
    } catch (thrown) {
      // The session works all the same; the next run makes another.
      this.#parts.onWarning(CMeshError.from(thrown, 'the credentials store'))
    }
  }

  /** `bornMs`: when its life began, in ms from now. A fresh one's began now, whatever the two clocks think of each other. */
  #adopt(session: Session, bornMs: number): ActiveSession {
    this.#keyEpoch = session.keyEpoch
    this.#current = this.#active(session, false)
    const lifeMs = session.expires - session.issued
    // A token counts whole seconds, so a fresh one has lived up to one already. A clock that is off says nothing of that.
    const leftMs = session.expires - this.#parts.now()
    const soundMs = leftMs > 0 && leftMs < lifeMs ? leftMs : lifeMs
    this.#schedule(Math.max(Math.min(bornMs + lifeMs * RENEW_AT, soundMs * RENEW_AT), RENEW_SOONEST_MS))
    return this.#current
  }

  #active(session: Session, introduced: boolean): ActiveSession {
    const whole = Buffer.from(session.token, 'ascii')
    const token = introduced ? tokenReference(whole) : whole
    return { session, token, introduced, subject: requestSubject(session.sid), templates: new RequestTemplates(token, this.#parts.ids) }
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
      if (this.#closed) return
      const error = CMeshError.from(thrown, 'the session')
      if (error.retry === 'retry' || connection.status !== 'connected') return this.#schedule(RENEW_AGAIN_MS)
      // A mesh that no longer knows the session says so with 401: only a handshake helps, and the next request will start it.
      if (error.status !== 401) onWarning(error)
    }
  }

  /** One step of the handshake: a request without a token. */
  readonly #send: SendStep = async (action, body, node, until) => {
    const { ids, connection, now } = this.#parts
    const waitMs = until === undefined ? STEP_MS : personMs(until - now())
    const fields = { id: ids.next(), fqmn: `0xIW:${action}`, token: Buffer.alloc(0), deadlineMs: now() + waitMs, receipt: 'none' as const, body }
    const frame = encodeRequest(fields)
    const data = await connection.request(node === undefined ? HELLO_SUBJECT : helloSubject(node), frame, { timeoutMs: waitMs })
    const reply = readReply(data, frame, 'none')
    const error = reply.error()
    if (error !== undefined) throw error
    return reply.body
  }
}

/** How long to wait for a step while a person acts, `leftMs` by the node's clock. Clocks that disagree say nothing: the longest it is. */
const personMs = (leftMs: number): number => (leftMs > STEP_MS && leftMs < REQUEST.timeoutMaxMs ? Math.ceil(leftMs) : REQUEST.timeoutMaxMs)
