/**
 * Sends requests and brings their replies: the hot path of the client and what happens off it. It owns no connection and no
 * session; it uses the ones it is given.
 *
 * On the hot path a request is one copy of a template, one publication and one check of what came back. Everything else
 * (no session yet, 401, an error worth another try) goes through `#persist`, which sends the same message again under the
 * same id until it is answered, its error is final, or its deadline is near. What is not answered at all the link sends again meanwhile,
 * which whichever node takes it then may answer: the one that had it may be gone.
 *
 * Invariants: (1) a request settles once, at the latest `ANSWER_MS` after its deadline; (2) however often it is sent, it has
 * one id, so that the mesh executes a write once; (3) at most one handshake is started on behalf of one request; (4) a write
 * that got no answer is `CMESH_ROUTER_UNKNOWN_OUTCOME`, never an error that says it did not happen.
 */
import { assembleBatch, BATCH_ID_AT, type BatchEntryFields } from '../cmtp/batch.ts'
import { CMeshError } from '../cmtp/errors.ts'
import { encodeRequest } from '../cmtp/frame.ts'
import type { KeyPair } from '../cmtp/identity/keys.ts'
import type { MessageIds } from '../cmtp/message-id.ts'
import type { Content } from '../cmtp/wire.ts'
import { AbortFan } from './abort-fan.ts'
import type { ActiveSession } from './active-session.ts'
import { aborted, errorOf, isFailure, isLost, isPassing, past, prompt, Sending, settle, type Ask, type Attempt } from './attempt.ts'
import type { Connection } from './connection.ts'
import { isWrite } from './call.ts'
import { askedId, frameOf, type Coalescer } from './coalescer.ts'
import type { EncodedEntries } from './encoded-entries.ts'
import { readBatchReply, readReply, Reply, requestId } from './reply.ts'
import { isTransaction, mayChangeState, pauseBeforeRetry } from './retry.ts'
import type { SessionKeeper } from './session.ts'
import { SharedRequest } from './shared-request.ts'
import { withProof, withToken } from './with-token.ts'

export interface RequesterParts {
  readonly connection: Connection
  readonly sessions: SessionKeeper
  readonly entries: EncodedEntries
  readonly ids: MessageIds
  /** Fires when the client begins to close: from then on nothing is tried again. */
  readonly closing: AbortSignal
  /** Puts reads asked in one turn into one frame; shared by the sessions of a connection. `undefined`: each has its own. */
  readonly coalescer: Coalescer | undefined
  /** ms since 1970. */
  readonly now: () => number
  /** Told of each reply to a write that stood alone in its call, before whoever asked. Must not throw. */
  readonly noted: (reply: Reply) => void
}

export interface RequestParts {
  readonly headers?: Uint8Array
  readonly body?: Content
  /** Whose signature the request needs beside its session; made anew under each. */
  readonly signer?: KeyPair
}

const NO_TOKEN = Buffer.alloc(0)

export class Requester {
  readonly #parts: RequesterParts
  readonly #aborts = new AbortFan()
  #resent = 0

  constructor(parts: RequesterParts) {
    this.#parts = parts
  }

  /** Requests that were sent more than once. */
  get resent(): number {
    return this.#resent
  }

  /** Resolves with the reply. Rejects with `CMESH_BUS_*`, `CMESH_CLIENT_*`, `CMESH_FRAME_*`, or the error of a reply that has one. */
  request(fqmn: string, parts: RequestParts | undefined, ask: Ask): Promise<Reply> {
    const { connection, sessions, now, coalescer } = this.#parts
    const deadlineMs = now() + ask.timeoutMs
    const session = sessions.current
    if (coalescer !== undefined) {
      if (session !== undefined && parts?.signer === undefined && ask.signal === undefined && coalescer.takes(fqmn, parts)) {
        // A request that may share its frame with others of this turn.
        return new Promise((resolve) => {
          coalescer.add(new SharedRequest(fqmn, parts, session, ask, deadlineMs, connection.status === 'connected', resolve, this.#shared))
        })
      }
      coalescer.flushWrites()
    }
    return this.#noting(fqmn, this.#alone(fqmn, parts, session, ask, deadlineMs))
  }

  /** A request in a frame of its own. */
  #alone(fqmn: string, parts: RequestParts | undefined, session: ActiveSession | undefined, ask: Ask, deadlineMs: number): Promise<Reply> {
    const { connection, sessions, ids } = this.#parts
    const { receipt } = ask
    const signer = parts?.signer
    let frame: Buffer
    try {
      frame = session !== undefined && parts === undefined
        ? session.templates.frame(fqmn, receipt, deadlineMs)
        : signed(encodeRequest({ id: ids.next(), fqmn, token: session?.token ?? NO_TOKEN, deadlineMs, receipt, bundle: true, ...parts }), session, signer)
    } catch (thrown) {
      return Promise.reject(CMeshError.from(thrown, 'the client'))
    }
    const sent = session !== undefined && connection.status === 'connected'
    const sending = new Sending(ask, ask.timeoutMs)
    const again = (failure: Reply | CMeshError | undefined): Promise<Reply> =>
      this.#persist<Reply>({ ...this.#attempt(fqmn, ask, deadlineMs), signer, frame, session, ...past(sent, sending.resent) }, failure)
    if (session === undefined) return again(undefined)
    return connection.request(session.subject, frame, sending).then(
      (data) => {
        const reply = readReply(data, frame, receipt)
        if (reply.status >= 400) return again(reply)
        if (!session.introduced) sessions.introduced(session)
        if (sending.resent) this.#resent++
        return reply
      },
      (error: unknown) => again(CMeshError.from(error, 'the client')),
    )
  }

  #attempt(fqmn: string, ask: Ask, deadlineMs: number): Pick<Attempt<Reply>, 'ask' | 'deadlineMs' | 'changesState' | 'isTransaction' | 'read'> {
    const read = (data: Uint8Array, asked: Buffer): Reply => readReply(data, asked, ask.receipt)
    return { ask, deadlineMs, changesState: mayChangeState(fqmn), isTransaction: isTransaction(fqmn), read }
  }

  /** What came of a request that shared its frame. */
  readonly #shared = (request: SharedRequest, result: Reply | CMeshError, asked: Buffer, index: number, resent: boolean): void => {
    const { fqmn, session, ask, deadlineMs } = request
    const { sessions, noted } = this.#parts
    if (result instanceof Reply && result.status < 400) {
      if (!session.introduced) sessions.introduced(session)
      if (resent) this.#resent++
      if (isWrite(fqmn)) noted(result)
      request.resolve(result)
      return
    }
    const frame = frameOf(request, askedId(asked, index))
    const attempt = { ...this.#attempt(fqmn, ask, deadlineMs), frame, session, ...past(request.sent, resent) }
    request.resolve(this.#noting(fqmn, this.#persist<Reply>(attempt, result)))
  }

  #noting(fqmn: string, reply: Promise<Reply>): Promise<Reply> {
    return isWrite(fqmn) ? reply.then(this.#noted) : reply
  }

  readonly #noted = (reply: Reply): Reply => {
    this.#parts.noted(reply)
    return reply
  }

  /** Resolves with one reply for each entry, in order, whatever its status. Rejects when the batch as a whole fails. */
  async batch(entries: readonly BatchEntryFields[], ask: Ask): Promise<Reply[]> {
    const { sessions, entries: encodedEntries, ids, now } = this.#parts
    const deadlineMs = now() + ask.timeoutMs
    const session = sessions.current
    let changesState = false
    const encoded = entries.map((fields) => {
      const entry = encodedEntries.of(fields)
      changesState ||= entry.changesState
      return entry.bytes
    })
    const frame = assembleBatch({ token: session?.token ?? NO_TOKEN, deadlineMs, receipt: ask.receipt }, encoded)
    ids.write(frame, BATCH_ID_AT, entries.length)
    const read = (data: Uint8Array, asked: Buffer): Reply[] | Reply => {
      const replies = readBatchReply(data, asked, entries.length, ask.receipt)
      // One token serves all entries: when it is refused it is refused for each, and the batch is sent again under another.
      return Array.isArray(replies) && replies.every((reply) => reply.status === 401) ? replies[0] as Reply : replies
    }
    const whole = { ...ask, throwOnError: true }
    const attempt = { ask: whole, deadlineMs, changesState, isTransaction: false, read, frame, session, ...past(false, false) }
    return await this.#persist<Reply[]>(attempt, undefined) as Reply[]
  }

  /** Tries until there is a result, a final error, or no time. `failure` is what an attempt made before came to. */
  async #persist<T>(attempt: Attempt<T>, failure: Reply | CMeshError | undefined): Promise<T | Reply> {
    const { sessions } = this.#parts
    let last = failure
    let refused: ActiveSession | undefined
    let mayHandshake = true
    let mayIntroduce = true
    let whole: ActiveSession | undefined
    // What this request had to send whole it sends whole again: with several nodes the next may not know the reference either.
    let told: ActiveSession | undefined
    for (let tries = last === undefined ? 0 : 1; ; tries++) {
      if (last !== undefined) {
        if (attempt.sent && isLost(last)) attempt.lost = true
        attempt.sent = false
        if (mayIntroduce && attempt.session?.introduced === true && prompt(last) === 'token') {
          mayIntroduce = false
          told = whole = sessions.introduce(attempt.session)
        } else if (mayHandshake && attempt.session !== undefined && prompt(last) === 'identity') {
          mayHandshake = false
          mayIntroduce = true
          refused = attempt.session
        } else if (!await this.#mayTryAgain(attempt, errorOf(last), tries)) {
          if (attempt.sendings > 1) this.#resent++
          return settle(attempt, last)
        }
      }
      try {
        // With a session at hand there is nothing to wait for, and no patience to watch over.
        const found = whole ?? (refused === undefined ? sessions.current : undefined)
          ?? await this.#within(refused === undefined ? sessions.ensure() : sessions.replace(refused), attempt)
        const session = told?.session === found.session ? told : found
        whole = refused = undefined
        const result = await this.#send(attempt, session)
        if (!isFailure(result)) {
          sessions.introduced(session)
          if (attempt.sendings > 1) this.#resent++
          return result
        }
        last = result
      } catch (thrown) {
        last = CMeshError.from(thrown, 'the client', requestId(attempt.frame))
      }
    }
  }

  async #send<T>(attempt: Attempt<T>, session: ActiveSession): Promise<T | Reply> {
    if (attempt.session !== session) {
      attempt.frame = signed(withToken(attempt.frame, session.token), session, attempt.signer)
      attempt.session = session
    }
    const { connection, now } = this.#parts
    if (connection.status === 'connected') {
      attempt.sent = true
      attempt.sendings++
    }
    const leftMs = Math.max(attempt.deadlineMs - now(), 1)
    const sending = new Sending(attempt.ask, leftMs)
    try {
      return attempt.read(await connection.request(session.subject, attempt.frame, sending), attempt.frame)
    } finally {
      if (sending.resent) {
        attempt.lost = true
        attempt.sendings++
      }
    }
  }

  /** Waits as long as it is wise to; resolves with whether there is any point in another attempt. */
  async #mayTryAgain(attempt: Attempt<unknown>, error: CMeshError, tries: number): Promise<boolean> {
    const { ask, deadlineMs } = attempt
    const { connection, closing, now } = this.#parts
    const pauseMs = ask.retry && !closing.aborted ? pauseBeforeRetry(error, tries, deadlineMs - now(), Math.random, isPassing(attempt, error)) : undefined
    if (pauseMs === undefined) return false
    await this.#aborts.pause(pauseMs, ask.signal, closing)
    if (connection.returning) {
      await this.#aborts.until(deadlineMs - now(), (wake) => connection.onStatus(wake), ask.signal, closing)
    }
    if (ask.signal?.aborted === true) throw aborted(ask.signal)
    return !closing.aborted && now() < deadlineMs
  }

  /** The session, or the end of this request's patience: the handshake itself goes on for those who wait longer. */
  async #within(session: Promise<ActiveSession>, { ask, deadlineMs }: Attempt<unknown>): Promise<ActiveSession> {
    const stop = new AbortController()
    const givenUp = this.#aborts.pause(deadlineMs - this.#parts.now(), ask.signal, stop.signal)
    try {
      const first = await Promise.race([session, givenUp])
      if (first !== undefined) return first
      if (ask.signal?.aborted === true) throw aborted(ask.signal)
      throw new CMeshError('CMESH_BUS_TIMEOUT', { subject: 'the handshake', timeoutMs: ask.timeoutMs })
    } finally {
      stop.abort()
    }
  }
}

/** The frame with the signature it needs under a session: over the session's whole token, whatever stands in the frame for it. */
function signed(frame: Buffer, session: ActiveSession | undefined, signer: KeyPair | undefined): Buffer {
  return session === undefined || signer === undefined ? frame : withProof(frame, Buffer.from(session.session.token, 'ascii'), signer)
}
