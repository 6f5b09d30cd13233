/**
 * Sends requests and brings their replies: the hot path of the client and what happens off it. It owns no connection and no
 * session; it uses the ones it is given.
 *
 * On the hot path a request is one copy of a template, one publication and one check of what came back. Everything else
 * (no session yet, 401, an error worth another try) goes through `#persist`, which sends the same message again under the
 * same id until it is answered, its error is final, or its deadline is near.
 *
 * Invariants: (1) a request settles once, at the latest `ANSWER_MS` after its deadline; (2) however often it is sent, it has
 * one id, so that the mesh executes a write once; (3) at most one handshake is started on behalf of one request; (4) a write
 * that got no answer is `CMESH_ROUTER_UNKNOWN_OUTCOME`, never an error that says it did not happen.
 */
import { assembleBatch, BATCH_ID_AT, type BatchEntryFields } from '../cmtp/batch.ts'
import { REQUEST } from '../cmtp/correlate.ts'
import { CMeshError } from '../cmtp/errors.ts'
import { encodeRequest } from '../cmtp/frame.ts'
import type { KeyPair } from '../cmtp/identity/keys.ts'
import type { MessageIds } from '../cmtp/message-id.ts'
import { AbortFan } from './abort-fan.ts'
import type { ActiveSession } from './active-session.ts'
import type { Connection } from './connection.ts'
import type { ResolvedRequestDefaults } from './options.ts'
import { frameOf, type CoalescedRequest, type Coalescer } from './coalescer.ts'
import type { EncodedEntries } from './encoded-entries.ts'
import { readBatchReply, readReply, Reply, requestId } from './reply.ts'
import { ANSWER_MS, mayChangeState, pauseBeforeRetry } from './retry.ts'
import type { SessionKeeper } from './session.ts'
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
}

/** How one request is asked, every option resolved. */
export interface Ask extends ResolvedRequestDefaults {
  readonly signal: AbortSignal | undefined
}

export interface RequestParts {
  readonly headers?: Uint8Array
  readonly body?: Uint8Array
  /** Whose signature the request needs beside its session; made anew under each. */
  readonly signer?: KeyPair
}

/** What stays of a request while it is tried again. */
interface Attempt<T> {
  readonly ask: Ask
  readonly deadlineMs: number
  readonly changesState: boolean
  readonly read: (data: Uint8Array, frame: Buffer) => T | Reply
  readonly signer?: KeyPair | undefined
  frame: Buffer
  /** The session whose token stands in the frame. */
  session: ActiveSession | undefined
  /** It was sent at least once. */
  sent: boolean
  /** It was sent and no answer came: it may have been executed. */
  lost: boolean
}

const NO_TOKEN = Buffer.alloc(0)

export class Requester {
  readonly #parts: RequesterParts
  readonly #aborts = new AbortFan()

  constructor(parts: RequesterParts) {
    this.#parts = parts
  }

  /** Resolves with the reply. Rejects with `CMESH_BUS_*`, `CMESH_CLIENT_*`, `CMESH_FRAME_*`, or the error of a reply that has one. */
  request(fqmn: string, parts: RequestParts | undefined, ask: Ask): Promise<Reply> {
    const { connection, sessions, ids, now, coalescer } = this.#parts
    const { receipt } = ask
    const signer = parts?.signer
    const deadlineMs = now() + ask.timeoutMs
    const session = sessions.current
    if (coalescer !== undefined) {
      if (session !== undefined && signer === undefined && ask.signal === undefined && coalescer.takes(fqmn, parts)) {
        return this.#together(coalescer, fqmn, parts, session, ask, deadlineMs)
      }
      coalescer.flushWrites()
    }
    let frame: Buffer
    try {
      frame = session !== undefined && parts === undefined
        ? session.templates.frame(fqmn, receipt, deadlineMs)
        : signed(encodeRequest({ id: ids.next(), fqmn, token: session?.token ?? NO_TOKEN, deadlineMs, receipt, bundle: true, ...parts }), session, signer)
    } catch (thrown) {
      return Promise.reject(CMeshError.from(thrown, 'the client'))
    }
    const sent = session !== undefined && connection.status === 'connected'
    const again = (failure: Reply | CMeshError | undefined): Promise<Reply> => {
      const read = (data: Uint8Array, asked: Buffer): Reply => readReply(data, asked, receipt)
      return this.#persist<Reply>({ ask, deadlineMs, changesState: mayChangeState(fqmn), read, signer, frame, session, sent, lost: false }, failure)
    }
    if (session === undefined) return again(undefined)
    return connection.request(session.subject, frame, waitOf(ask.timeoutMs, ask.signal)).then(
      (data) => {
        const reply = readReply(data, frame, receipt)
        if (reply.status >= 400) return again(reply)
        if (!session.introduced) sessions.introduced(session)
        return reply
      },
      (error: unknown) => again(CMeshError.from(error, 'the client')),
    )
  }

  /** A request that may share its frame with others of this turn. */
  #together(
    coalescer: Coalescer, fqmn: string, parts: RequestParts | undefined, session: ActiveSession, ask: Ask, deadlineMs: number,
  ): Promise<Reply> {
    const { connection, sessions } = this.#parts
    const { receipt, timeoutMs } = ask
    const sent = connection.status === 'connected'
    return new Promise((resolve, reject) => {
      const asked: CoalescedRequest = {
        fqmn, session, receipt, timeoutMs, deadlineMs,
        headers: parts?.headers,
        // It leaves at the end of the turn, and once more if it has to: what the caller does to its bytes meanwhile is nobody's concern.
        body: parts?.body === undefined ? undefined : Buffer.from(parts.body),
        settled: (result, id) => {
          if (result instanceof Reply && result.status < 400) {
            if (!session.introduced) sessions.introduced(session)
            resolve(result)
            return
          }
          const read = (data: Uint8Array, again: Buffer): Reply => readReply(data, again, receipt)
          const frame = frameOf(asked, id())
          this.#persist<Reply>({ ask, deadlineMs, changesState: mayChangeState(fqmn), read, frame, session, sent, lost: false }, result).then(resolve, reject)
        },
      }
      coalescer.add(asked)
    })
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
    return await this.#persist<Reply[]>({ ask: whole, deadlineMs, changesState, read, frame, session, sent: false, lost: false }, undefined) as Reply[]
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
    if (connection.status === 'connected') attempt.sent = true
    const leftMs = Math.max(attempt.deadlineMs - now(), 1)
    const data = await connection.request(session.subject, attempt.frame, waitOf(leftMs, attempt.ask.signal))
    return attempt.read(data, attempt.frame)
  }

  /** Waits as long as it is wise to; resolves with whether there is any point in another attempt. */
  async #mayTryAgain({ ask, deadlineMs }: Attempt<unknown>, error: CMeshError, tries: number): Promise<boolean> {
    const { connection, closing, now } = this.#parts
    const pauseMs = ask.retry && !closing.aborted ? pauseBeforeRetry(error, tries, deadlineMs - now()) : undefined
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

function waitOf(leftMs: number, signal: AbortSignal | undefined): { readonly timeoutMs: number, readonly signal?: AbortSignal } {
  const timeoutMs = Math.min(leftMs + ANSWER_MS, REQUEST.timeoutMaxMs)
  return signal === undefined ? { timeoutMs } : { timeoutMs, signal }
}

function isFailure<T>(result: T | Reply): result is Reply {
  return !Array.isArray(result) && (result as Reply).status >= 400
}

function isLost(failure: Reply | CMeshError): boolean {
  return LEFT_OPEN.has(errorOf(failure).code)
}

/** No answer came; or one of a node that stopped, which may have proposed the request before it did. */
const LEFT_OPEN: ReadonlySet<string> = new Set([
  'CMESH_BUS_DISCONNECTED', 'CMESH_BUS_TIMEOUT', 'CMESH_STATE_FULL', 'CMESH_STATE_HALTED', 'CMESH_STATE_DIVERGED',
])

function errorOf(failure: Reply | CMeshError): CMeshError {
  return failure instanceof CMeshError ? failure : failure.error() as CMeshError
}

/** What a 401 prompts for: the identity handshake, or the whole token in place of its reference. */
function prompt(failure: Reply | CMeshError): unknown {
  if (failure instanceof CMeshError || failure.status !== 401) return undefined
  try {
    return failure.json<{ readonly prompt?: unknown }>().prompt
  } catch {
    // An unreadable body prompts for nothing; the error it stands for is reported as it is.
    return undefined
  }
}

function aborted(signal: AbortSignal): CMeshError {
  return new CMeshError('CMESH_CLIENT_ABORTED', {}, { cause: signal.reason })
}

/** What a request that is not tried again comes to: its reply, or its error. */
function settle(attempt: Attempt<unknown>, last: Reply | CMeshError): Reply {
  const error = errorOf(last)
  // Whoever asked for one attempt is told what became of the connection; a time-out says nothing of what became of the write.
  // That the last sending came too late says nothing of those before it either.
  const unknown = attempt.ask.retry ? error.retry === 'retry' || error.code === 'CMESH_ROUTER_DEADLINE' : error.code === 'CMESH_BUS_TIMEOUT'
  if (attempt.changesState && attempt.lost && unknown) {
    throw new CMeshError('CMESH_ROUTER_UNKNOWN_OUTCOME', { tx: requestId(attempt.frame) }, { cause: error })
  }
  if (last instanceof CMeshError || attempt.ask.throwOnError) throw error
  return last
}
