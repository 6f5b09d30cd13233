/**
 * Puts requests that are asked in one turn of the event loop into one batch frame: under load a frame costs more than the
 * requests in it. It owns the requests of the current turn. Reads of sessions that were opened for a gateway (`MeshClient.as`) share
 * the frames of the gateway's session, where each entry names its own; writes share frames with those of their own session only.
 *
 * Invariants: (1) nothing waits for company: what was asked in a turn leaves at the end of that turn, one request as an
 * ordinary request frame; (2) each request keeps its own id, status and final hash; (3) a batch is answered when its slowest entry
 * is, so only reads that are answered at once share a frame, and only transactions of contracts, which wait for the same block;
 * (4) a frame that fails fails each of its requests on its own, under the id it had, and whoever asked asks again on its own
 * session's subject; (5) a session is in the gateway's frames only while its token names the gateway's current session and a node
 * has taken that token; (6) writes leave in the order in which they were asked, those that share no frame among them.
 */
import { assembleBatch, BATCH_ID_AT, type BatchEntryFields } from '../cmtp/batch.ts'
import { CMeshError } from '../cmtp/errors.ts'
import { encodeRequest, REQUEST_ID_AT } from '../cmtp/frame.ts'
import { entryId, type MessageIds } from '../cmtp/message-id.ts'
import { contentBytes, type Content } from '../cmtp/wire.ts'
import type { ActiveSession } from './active-session.ts'
import { Sending, type Ask } from './attempt.ts'
import type { Connection } from './connection.ts'
import type { EncodedEntries } from './encoded-entries.ts'
import { readBatchReply, readReply, type Reply } from './reply.ts'
import type { SessionKeeper } from './session.ts'

/** Most requests in one frame: several frames on the way keep client, broker and node busy at the same time. */
const COALESCED = 64
/** Most transactions in one frame to a mesh of several servers: what a frame brings is ordered, and every node applies, keeps and confirms it, frame by frame. */
const SPREAD_WRITES = 256
/** A frame of more than `COALESCED` ends before its requests could take more, in bytes. */
const LONG_FRAME_BYTES = 262_144
/** Longest body with its headers that shares a frame, in bytes: what is long costs more than its frame. */
const SHARED_BYTES = 4_096
/** Longest address that does. */
const FQMN_LENGTH = 1_024

export interface CoalescedRequest {
  readonly fqmn: string
  readonly headers: Uint8Array | undefined
  readonly body: Content | undefined
  readonly session: ActiveSession
  /** Without a signal: nobody gives it up. */
  readonly ask: Ask
  /** Absolute, ms since 1970. */
  readonly deadlineMs: number
  /** Told once what came of it: a reply of any status, or an error. `askedId` gives the id it was asked under; `resent`: more than once. Must not throw. */
  settled(result: Reply | CMeshError, frame: Buffer, index: number, resent: boolean): void
}

/** The id of the request that stood `index`th in `frame`, which both kinds of request keep at the same place. */
export function askedId(frame: Buffer, index: number): Buffer {
  return entryId(frame.subarray(REQUEST_ID_AT), index)
}

export interface CoalescerParts {
  readonly connection: Pick<Connection, 'ask' | 'url'>
  readonly ids: MessageIds
  readonly entries: EncodedEntries
  /** The connection's first session, whose frames carry requests of those opened through it. */
  readonly gateway: Pick<SessionKeeper, 'current' | 'introduced' | 'introduce' | 'doubt'>
}

export class Coalescer {
  readonly #parts: CoalescerParts
  /** Most writes in one frame. */
  readonly #mostWrites: number
  #reads: CoalescedRequest[] = []
  #writes: CoalescedRequest[] = []
  #scheduled = false

  constructor(parts: CoalescerParts) {
    this.#parts = parts
    this.#mostWrites = parts.connection.url.includes(',') ? SPREAD_WRITES : COALESCED
  }

  /** Whether the request may share a frame. */
  takes(fqmn: string, parts: { readonly headers?: Uint8Array, readonly body?: Content } | undefined): boolean {
    if (fqmn.length > FQMN_LENGTH) return false
    if (parts === undefined && isQuickRead(fqmn)) return true
    return isTransaction(fqmn) && isShort(parts?.headers, parts?.body)
  }

  /** Takes a request that `takes` accepts. */
  add(request: CoalescedRequest): void {
    ;(isTransaction(request.fqmn) ? this.#writes : this.#reads).push(request)
    if (this.#scheduled) return
    this.#scheduled = true
    // After the promises of this turn have run: whoever was answered in it may ask again before it ends.
    process.nextTick(this.#flush)
  }

  /** Sends the writes of this turn now: for whoever sends another one that shares no frame. */
  flushWrites(): void {
    if (this.#writes.length === 0) return
    const writes = this.#writes
    this.#writes = []
    this.#leave(writes, this.#mostWrites, undefined)
  }

  readonly #flush = (): void => {
    this.#scheduled = false
    this.flushWrites()
    const reads = this.#reads
    this.#reads = []
    this.#leave(reads, COALESCED, reads.length > 1 ? this.#parts.gateway.current : undefined)
  }

  /** `most`: requests in one frame. `gateway`: whose frames may carry requests of other sessions. */
  #leave(turn: readonly CoalescedRequest[], most: number, gateway: ActiveSession | undefined): void {
    for (let from = 0; from < turn.length;) {
      const first = turn[from] as CoalescedRequest
      let to = from + 1
      let bytes = most > COALESCED ? mostBytes(first) : 0
      for (; to < turn.length && to - from < most; to++) {
        const next = turn[to] as CoalescedRequest
        if (!alike(first, next, gateway)) break
        if (most > COALESCED && (bytes += mostBytes(next)) > LONG_FRAME_BYTES && to - from >= COALESCED) break
      }
      if (to === from + 1) this.#single(first)
      else this.#batch(turn.slice(from, to))
      from = to
    }
  }

  #single(request: CoalescedRequest): void {
    const { session, ask } = request
    // Whoever has one request in a turn seldom asks the same again soon: keeping its frame would cost more than making it.
    const frame = frameOf(request, this.#parts.ids.next())
    this.#send(session, ask, frame, data => readReply(data, frame, ask.receipt), (result, resent) => { request.settled(result, frame, 0, resent) })
  }

  #batch(requests: readonly CoalescedRequest[]): void {
    const last = requests[requests.length - 1] as CoalescedRequest
    const { ask, deadlineMs } = last
    const { receipt } = ask
    const { gateway } = this.#parts
    const mixed = requests.some((request) => request.session !== last.session)
    const session = mixed ? gateway.current as ActiveSession : last.session
    const entries = requests.map((request) => this.#entryOf(request))
    const references = mixed ? requests.map((request) => request.session.token) : undefined
    const frame = assembleBatch({ token: session.token, deadlineMs, receipt }, entries, references)
    this.#parts.ids.write(frame, BATCH_ID_AT, requests.length)
    this.#send(session, ask, frame, data => readBatchReply(data, frame, requests.length, receipt), (result, resent) => {
      if (mixed && Array.isArray(result)) {
        // The gateway's own token counts for the frame: without it no entry is taken, whosever it is.
        if (result.some((reply) => reply.status !== 401)) gateway.introduced(session)
        else if (session.introduced) gateway.introduce(session)
        else gateway.doubt(session)
      }
      for (let i = 0; i < requests.length; i++) {
        const own = Array.isArray(result) ? result[i] as Reply : result
        ;(requests[i] as CoalescedRequest).settled(own, frame, i, resent)
      }
    })
  }

  #entryOf(request: CoalescedRequest): Uint8Array | BatchEntryFields {
    const { fqmn, headers, body } = request
    return headers === undefined && body === undefined ? this.#parts.entries.of({ fqmn }).bytes : request
  }

  /** `read` makes the result of what comes back; what it throws, and a request that fails, is an error as a result. */
  #send<T>(
    session: ActiveSession, ask: Ask, frame: Buffer,
    read: (data: Uint8Array) => T, settle: (result: T | CMeshError, resent: boolean) => void,
  ): void {
    const sending = new Sending(ask, ask.timeoutMs)
    const failed = (thrown: unknown): void => { settle(CMeshError.from(thrown, 'the client'), sending.resent) }
    this.#parts.connection.ask(session.subject, frame, sending, (data) => {
      let result: T
      try {
        result = read(data)
      } catch (thrown) {
        failed(thrown)
        return
      }
      settle(result, sending.resent)
    }, failed)
  }
}

/** The request in a frame of its own. */
export function frameOf({ fqmn, headers, body, session, deadlineMs, ask }: CoalescedRequest, id: Uint8Array): Buffer {
  return encodeRequest({
    id, fqmn, token: session.token, deadlineMs, receipt: ask.receipt, bundle: true, ...(headers && { headers }), ...(body !== undefined && { body }),
  })
}

/**
 * Whether two requests may share a frame: of one session, or of sessions that the gateway's frames carry. Deadlines of one turn
 * differ by what the turn lasts; the last one stands for all.
 */
function alike(a: CoalescedRequest, b: CoalescedRequest, gateway: ActiveSession | undefined): boolean {
  if (a.ask !== b.ask && !askedAlike(a.ask, b.ask)) return false
  return a.session === b.session || (gateway !== undefined && isCarried(a.session, gateway) && isCarried(b.session, gateway))
}

function askedAlike(a: Ask, b: Ask): boolean {
  return a.receipt === b.receipt && a.timeoutMs === b.timeoutMs && a.retry === b.retry && (!a.retry || a.resendMs === b.resendMs)
}

/** A node knows the token by its reference, and the token says that this gateway carries it. */
function isCarried({ session, introduced }: ActiveSession, gateway: ActiveSession): boolean {
  return introduced && session.via === gateway.session.sid
}

function isShort(headers: Uint8Array | undefined, body: Content | undefined): boolean {
  const room = SHARED_BYTES - (headers?.length ?? 0)
  // Three bytes a character at most: few texts need to be measured.
  return body === undefined || body.length * 3 <= room ? room >= 0 : contentBytes(body) <= room
}

/** What its address, headers and body may take, without looking at each character of them. */
function mostBytes({ fqmn, headers, body }: CoalescedRequest): number {
  const text = typeof body === 'string' ? body.length * 3 : body?.length ?? 0
  return fqmn.length * 3 + (headers?.length ?? 0) + text
}

/** A function of a contract. The mesh's own, which need signatures or take long, are asked alone. */
function isTransaction(fqmn: string): boolean {
  return fqmn.startsWith('0xSW:') && !fqmn.startsWith('0x000:', 5)
}

/** Views, names, the state of consensus, the newest event: answered in the turn in which they arrive, from memory. */
function isQuickRead(fqmn: string): boolean {
  const service = fqmn.slice(0, 4)
  if (service === '0xE:') return fqmn.endsWith(':read') || !fqmn.includes(':', 4)
  return service === '0xS:' || service === '0xR:' || service === '0xC:'
}
