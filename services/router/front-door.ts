/**
 * The front door: one request in, one reply out, whoever brought it: a client through the router, the miner, the node's
 * own self-test. It decodes, checks the session, resolves names, dispatches the final address to the endpoint that
 * authorises and answers it, and seals the layers into the final hash.
 *
 * Invariants: every request gets exactly one reply, with a status; no failure leaves here as an exception; the path of a
 * known session that reads allocates no promise and runs to its end in one go; what is answered is recorded, and what could not be is
 * not begun: the one reply that leaves no trace is the one that says so.
 */
import { BatchFrame, type BatchEntry } from '../../cmtp/batch.ts'
import { BatchReplyWriter, REPLY_ENTRY_BYTES } from '../../cmtp/batch-reply.ts'
import { CMeshError } from '../../cmtp/errors.ts'
import { RouteCache, type Route } from '../../cmtp/fqmn.ts'
import { encodeReply, REQUEST_HEADER_BYTES, RequestFrame, salvageMessageId } from '../../cmtp/frame.ts'
import { LIMITS } from '../../cmtp/limits.ts'
import { entryId, formatMessageId, MESSAGE_ID_BYTES } from '../../cmtp/message-id.ts'
import { ENTRY_PART_BYTES, SHARED_EVIDENCE_BYTES, SHARED_HEAD_BYTES } from '../../cmtp/receipt/shared-part.ts'
import { Salts } from '../../cmtp/salts.ts'
import { KIND_BATCH_REQUEST, type ReceiptLevel } from '../../cmtp/wire.ts'
import { errorReply, type Reply } from '../call.ts'
import type { Clock } from '../clock.ts'
import { hashArguments } from '../endpoint.ts'
import type { AuthContext, Guard } from '../iam/guard.ts'
import type { Log } from '../log.ts'
import { RegistrarService } from '../registrar/service.ts'
import { callersTrace, saying } from '../traces/trace.ts'
import type { Deadlines } from './deadlines.ts'
import type { Dispatcher } from './dispatcher.ts'
import { FullEntries } from './full-entries.ts'
import { Passage, type Envelope, type Origin } from './passage.ts'
import { Repetitions } from './repetitions.ts'
import { Sealing, type Audit, type SealedReply, type Traces } from './sealing.ts'

export interface FrontDoorParts {
  readonly node: string
  readonly guard: Pick<Guard, 'check' | 'checkCarried'>
  readonly registrar: Pick<RegistrarService, 'resolve'>
  readonly dispatcher: Pick<Dispatcher, 'dispatch'>
  readonly deadlines: Deadlines
  readonly clock: Clock
  readonly log: Log
  /** Where the salts of final hashes come from; random ones unless told otherwise. */
  readonly salts?: Pick<Salts, 'next' | 'put'>
  /** Where every request is recorded. Default: nowhere, and a reply at `full` has no receipt. */
  readonly audit?: Audit
  /** Where requests are traced. Default: nowhere, and a caller's trace is passed on. */
  readonly traces?: Traces | undefined
}

export interface FrontDoorStats {
  requests: number
  batches: number
  /** Entries of batches that asked what an earlier entry had asked, and were answered with it. */
  repeated: number
  failed: number
  /** Replies by status, at the status's index. */
  readonly statuses: Uint32Array
}

const EMPTY = Buffer.alloc(0)
const NO_ID = Buffer.alloc(MESSAGE_ID_BYTES)
/** Kept free in a batch reply for each entry still to come, so that one which does not fit is refused on its own; that takes about 300. */
const REFUSED_ENTRY_BYTES = 512
/** What an entry at `full` takes besides its head, its evidence, its root and its path. */
const FULL_ENTRY_BYTES = ENTRY_PART_BYTES + SHARED_HEAD_BYTES + SHARED_EVIDENCE_BYTES

export class FrontDoor {
  readonly stats: FrontDoorStats = { requests: 0, batches: 0, repeated: 0, failed: 0, statuses: new Uint32Array(600) }
  readonly #parts: FrontDoorParts
  readonly #routes = new RouteCache()
  readonly #sealing: Sealing
  readonly #salts: Pick<Salts, 'next' | 'put'>

  constructor(parts: FrontDoorParts) {
    this.#parts = parts
    this.#salts = parts.salts ?? new Salts()
    this.#sealing = new Sealing({ node: parts.node, clock: parts.clock, salts: this.#salts, audit: parts.audit, traces: parts.traces })
  }

  /** Takes a request or a batch; calls `answer` once, with the reply frame. Synchronously where it can. */
  handle(data: Uint8Array, origin: Origin, answer: (frame: Buffer) => void): void {
    const startUs = this.#parts.clock.nowUs()
    const unrecorded = this.#sealing.refusal
    if (unrecorded !== undefined) answer(this.#unrecorded(salvageMessageId(data) ?? NO_ID, unrecorded))
    else if (data[3] === KIND_BATCH_REQUEST) this.#batch(data, origin, startUs, answer)
    else this.#single(data, origin, startUs, answer)
  }

  /** `handle` as a promise, for callers in process. */
  route(frame: Uint8Array, sid: string): Promise<Buffer> {
    return new Promise(resolve => { this.handle(frame, { sid, via: undefined, replySubject: '' }, resolve) })
  }

  /** Answers a message with an error without looking into it. */
  refuse(data: Uint8Array, error: CMeshError): Buffer {
    return this.#refusal(data, error, this.#parts.clock.nowUs())
  }

  #single(data: Uint8Array, origin: Origin, startUs: number, answer: (frame: Buffer) => void): void {
    let frame: RequestFrame
    try {
      frame = RequestFrame.decode(data)
    } catch (error) {
      answer(this.#refusal(data, error, startUs))
      return
    }
    this.stats.requests++
    const route = this.#routeOf(frame.bytes, REQUEST_HEADER_BYTES, frame.fqmnEnd)
    if (route instanceof CMeshError) {
      this.#reply(undefined, frame.id, frame.receipt, errorReply(route), startUs, answer)
      return
    }
    const passage = this.#passage(frame, frame.id, frame.headers, frame.body, origin, route, startUs)
    const reply = this.#answer(passage, this.#check(frame.token, origin))
    if (reply instanceof Promise) this.#await(passage, reply, late => { this.#reply(passage, passage.id, passage.receipt, bounded(late), startUs, answer) })
    else this.#reply(passage, passage.id, passage.receipt, bounded(reply), startUs, answer)
  }

  #batch(data: Uint8Array, origin: Origin, startUs: number, answer: (frame: Buffer) => void): void {
    let frame: BatchFrame
    try {
      frame = BatchFrame.decode(data)
    } catch (error) {
      answer(this.#refusal(data, error, startUs))
      return
    }
    this.stats.batches++
    this.stats.requests += frame.entries.length
    // One token serves all entries, so one check does; with own tokens it is the gateway's, without which none of them counts.
    const auth = this.#check(frame.token, origin)
    if (auth instanceof Promise) void auth.then(known => { this.#entries(frame, origin, known, startUs, answer) })
    else this.#entries(frame, origin, auth, startUs, answer)
  }

  #entries(frame: BatchFrame, origin: Origin, envelopeAuth: AuthContext | CMeshError, startUs: number, answer: (frame: Buffer) => void): void {
    const { bytes, entries, receipt } = frame
    const id = Buffer.from(frame.id)
    const writer = new BatchReplyWriter(id, entries.length, receipt)
    // Replies leave in the order of the entries; one that is early waits in `parked`.
    const parked = new Map<number, () => void>()
    let next = 0
    const fully = new FullEntries(writer, entries.length, this.#sealing.audit, told => {
      answer(told instanceof CMeshError ? this.#unrecorded(id, told) : told)
    })
    const repetitions = new Repetitions(this.#sealing, writer, receipt === 'full' ? fully : undefined, id)
    const write = (passage: Passage | undefined, entry: Uint8Array, asked: Reply): void => {
      repetitions.flush()
      const limit = LIMITS.frameBytes - (entries.length - next - 1) * REFUSED_ENTRY_BYTES
      let reply = saying(passage?.trace, asked)
      let sealed = this.#sealing.seal(passage, entry, receipt, reply, startUs)
      const own = entryBytes(reply, sealed, fully.sharedBytes + (passage?.route.write === true ? this.#sealing.evidenceBytes : 0))
      const bytes = (receipt === 'full' ? fully.bytes : writer.length) + own
      const fits = bytes <= limit
      if (!fits) {
        reply = errorReply(new CMeshError('CMESH_FRAME_TOO_LARGE', { part: 'batch reply', bytes, limit }))
        // The router's layer says what is sent; it was the last.
        passage?.layers.pop()
        sealed = this.#sealing.seal(passage, entry, receipt, reply, startUs)
      }
      this.#counted(reply)
      if (receipt === 'full') {
        fully.bytes += fits ? own : REFUSED_ENTRY_BYTES
        const evidence = this.#sealing.evidence(sealed)
        fully.add(reply, sealed.finalHash, fits ? sealed.head : undefined, this.#sealing.record(entry, sealed), evidence)
      } else {
        this.#sealing.record(entry, sealed)
        writer.add(reply.status, sealed.finalHash, reply.headers, undefined, reply.body)
      }
      next++
    }
    const unpark = (): void => {
      for (let waiting = parked.get(next); waiting !== undefined; waiting = parked.get(next)) {
        parked.delete(next)
        waiting()
      }
      if (next === entries.length && receipt !== 'full') answer(writer.finish())
    }
    const settle = (index: number, passage: Passage | undefined, entry: Uint8Array, reply: Reply): void => {
      if (index !== next) {
        parked.set(index, () => { write(passage, entry, reply) })
        return
      }
      write(passage, entry, reply)
      unpark()
    }
    for (let i = 0; i < entries.length; i++) {
      const { fqmnStart, fqmnEnd, headersEnd, end } = entries[i] as BatchEntry
      const bare = end === fqmnEnd
      const auth = frame.ownTokens ? this.#checkCarried(frame.referenceOf(entries[i] as BatchEntry), origin, envelopeAuth) : envelopeAuth
      const before = bare && i === next ? repetitions.find(auth, bytes, fqmnStart, fqmnEnd) : undefined
      if (before !== undefined && repetitions.nextBytes <= LIMITS.frameBytes - (entries.length - i - 1) * REFUSED_ENTRY_BYTES) {
        repetitions.add(before, i)
        this.#counted(before.reply)
        this.stats.repeated++
        next++
        continue
      }
      const route = this.#routeOf(bytes, fqmnStart, fqmnEnd)
      const entry = entryId(id, i)
      if (route instanceof CMeshError) {
        settle(i, undefined, entry, errorReply(route))
        continue
      }
      const headers = headersEnd === fqmnEnd ? EMPTY : bytes.subarray(fqmnEnd, headersEnd)
      const body = end === headersEnd ? EMPTY : bytes.subarray(headersEnd, end)
      const passage = this.#passage(frame, entry, headers, body, origin, route, startUs)
      const reply = this.#answer(passage, auth)
      if (route.write) repetitions.forget()
      if (reply instanceof Promise) this.#await(passage, reply, late => { settle(i, passage, entry, late) })
      else {
        if (i !== next) {
          settle(i, passage, entry, reply)
          continue
        }
        write(passage, entry, reply)
        // What was too large for the frame was not sent.
        const sent = !this.#sealing.seals(receipt) || passage.layers.at(-1)?.status === reply.status
        if (bare && sent && reply.status < 400 && !route.write) {
          repetitions.remember(() => ({ passage, reply, entry: i, start: fqmnStart, end: fqmnEnd, made: this.#sealing.kept(receipt) }))
        }
        unpark()
      }
    }
    if (repetitions.waiting) {
      repetitions.flush()
      unpark()
    }
  }

  #passage(envelope: Envelope, id: Uint8Array, headers: Uint8Array, body: Uint8Array, origin: Origin, route: Route, startUs: number): Passage {
    const passage = new Passage(envelope, id, headers, body, origin, route, startUs)
    if (route.args !== undefined || body.length > 0) passage.salt = this.#salts.next()
    const { traces } = this.#parts
    if (traces !== undefined) passage.trace = traces.begin(id, headers, startUs)
    else if (headers.length > 0) passage.trace = callersTrace(id, headers, startUs, false)
    return passage
  }

  #routeOf(bytes: Buffer, start: number, end: number): Route | CMeshError {
    try {
      return this.#routes.fromBytes(bytes, start, end)
    } catch (error) {
      return CMeshError.from(error, 'the router')
    }
  }

  /** Whose session it is, or why it is nobody's. Never throws, never rejects. */
  #check(token: Uint8Array, { sid, via }: Origin): AuthContext | CMeshError | Promise<AuthContext | CMeshError> {
    try {
      const auth = this.#parts.guard.check(token, sid, via)
      return auth instanceof Promise ? auth.catch((error: unknown) => CMeshError.from(error, 'the guard')) : auth
    } catch (error) {
      return CMeshError.from(error, 'the guard')
    }
  }

  /** The same for an entry that a gateway carries, in a frame on its own subject. */
  #checkCarried(reference: Uint8Array, { via }: Origin, gateway: AuthContext | CMeshError): AuthContext | CMeshError | Promise<AuthContext | CMeshError> {
    // Over another's connection it is carried itself, and passes nothing on: its gateway is not whom the entry's session named.
    if (via !== undefined) return new CMeshError('CMESH_IAM_TOKEN')
    // Whoever is carried is not to blame: on its own subject it will be heard.
    if (gateway instanceof CMeshError) return gateway.status === 401 ? new CMeshError('CMESH_IAM_TOKEN') : gateway
    try {
      const auth = this.#parts.guard.checkCarried(reference, gateway.sid)
      return auth instanceof Promise ? auth.catch((error: unknown) => CMeshError.from(error, 'the guard')) : auth
    } catch (error) {
      return CMeshError.from(error, 'the guard')
    }
  }

  /** From the address to the reply, or to one that has to be waited for (`#await`). Never throws. */
  #answer(passage: Passage, auth: AuthContext | CMeshError | Promise<AuthContext | CMeshError>): Reply | Promise<Reply> {
    try {
      checkDeadline(passage.deadlineMs, this.#parts.clock.nowMs(), passage.hops)
      return auth instanceof Promise ? auth.then(known => this.#pass(passage, known)) : this.#pass(passage, auth)
    } catch (error) {
      return this.#errorOf(error, passage)
    }
  }

  /** Calls `answered` once: with the reply, with the error that it came to, or, past the deadline, with one that says so. */
  #await(passage: Passage, reply: Promise<Reply>, answered: (reply: Reply) => void): void {
    const failed = (error: unknown): void => { answered(this.#errorOf(error, passage)) }
    this.#parts.deadlines.watch(reply, passage.deadlineMs, answered, failed, () => { failed(this.#late(passage)) })
  }

  #pass(passage: Passage, auth: AuthContext | CMeshError): Reply | Promise<Reply> {
    if (auth instanceof CMeshError) throw auth
    passage.auth = auth
    if (RegistrarService.isByName(passage.asked)) passage.route = this.#resolve(passage)
    return this.#parts.dispatcher.dispatch(passage)
  }

  #resolve(passage: Passage): Route {
    const { asked, markUs: startUs } = passage
    let status = 200
    let target: Route | undefined
    try {
      target = this.#parts.registrar.resolve(asked)
      return target
    } catch (error) {
      status = error instanceof CMeshError ? error.status : 500
      throw error
    } finally {
      passage.markUs = this.#parts.clock.nowUs()
      passage.layers.push({
        site: this.#sealing.site('registrar', asked, target ?? asked),
        decision: 'none', grant: '', status, startUs, durationUs: passage.markUs - startUs, gas: 0n,
        before: undefined, after: undefined, argumentsHash: hashArguments(passage),
      })
    }
  }

  /** The deadline passed while the request was under way: what the router's layer ends with. */
  #late(passage: Passage): CMeshError {
    passage.markUs = this.#parts.clock.nowUs()
    return passage.proposed
      ? new CMeshError('CMESH_ROUTER_UNKNOWN_OUTCOME', { tx: formatMessageId(passage.id) })
      : new CMeshError('CMESH_ROUTER_TIMEOUT')
  }

  #errorOf(thrown: unknown, passage: Passage): Reply {
    const id = formatMessageId(passage.id)
    const error = CMeshError.from(thrown, 'the router', id)
    if (error.retry === 'bug') this.#parts.log.error({ err: error.cause ?? error, code: error.code, id, fqmn: passage.route.bare }, 'request failed unexpectedly')
    return errorReply(error)
  }

  /** The reply to what is no frame. It is recorded where it says whose reply it is. */
  #refusal(data: Uint8Array, thrown: unknown, startUs: number): Buffer {
    const error = CMeshError.from(thrown, 'the router')
    const id = salvageMessageId(data)
    const unrecorded = this.#sealing.refusal
    if (id === undefined || unrecorded !== undefined) return this.#unrecorded(id ?? NO_ID, unrecorded ?? error)
    const reply = this.#counted(errorReply(error))
    const sealed = this.#sealing.seal(undefined, id, 'hash', reply, startUs)
    this.#sealing.record(id, sealed)
    return frameOf(id, 'hash', reply, sealed.finalHash, EMPTY)
  }

  /** A reply that promises nothing. */
  #unrecorded(id: Uint8Array, error: CMeshError): Buffer {
    return frameOf(id, 'none', this.#counted(errorReply(error)), '', EMPTY)
  }

  #counted(reply: Reply): Reply {
    const { statuses } = this.stats
    statuses[reply.status] = (statuses[reply.status] ?? 0) + 1
    if (reply.status >= 400) this.stats.failed++
    return reply
  }

  /** Seals, records and answers; at `full` once it is on the log. */
  #reply(passage: Passage | undefined, id: Uint8Array, receipt: ReceiptLevel, given: Reply, startUs: number, answer: (frame: Buffer) => void): void {
    const reply = saying(passage?.trace, given)
    this.#counted(reply)
    const sealed = this.#sealing.seal(passage, id, receipt, reply, startUs)
    if (receipt !== 'full') {
      this.#sealing.record(id, sealed)
      answer(frameOf(id, receipt, reply, sealed.finalHash, EMPTY))
      return
    }
    const { finalHash } = sealed
    this.#sealing.recordFully(id, sealed, layers => {
      answer(layers instanceof CMeshError ? this.#unrecorded(id, layers) : frameOf(id, receipt, reply, finalHash, layers))
    })
  }
}

function frameOf(id: Uint8Array, receipt: ReceiptLevel, { status, headers, body }: Reply, finalHash: string, layers: Uint8Array): Buffer {
  return encodeReply({ id, status, receipt, finalHash, headers, layers, body })
}

/** What an entry of a batch reply takes; at `full` reckoned high. */
function entryBytes({ headers, body }: Reply, { head }: SealedReply, shared: number): number {
  return REPLY_ENTRY_BYTES + headers.length + body.length + (head === undefined ? 0 : head.length + FULL_ENTRY_BYTES + shared)
}

/** The reply, or the refusal of one that no client would take in. */
function bounded(reply: Reply): Reply {
  const bytes = reply.body.length
  return bytes <= LIMITS.bodyBytes ? reply : errorReply(new CMeshError('CMESH_FRAME_TOO_LARGE', { part: 'reply body', bytes, limit: LIMITS.bodyBytes }))
}

function checkDeadline(deadlineMs: number, nowMs: number, hops: number): void {
  if (deadlineMs < nowMs) throw new CMeshError('CMESH_ROUTER_DEADLINE')
  if (deadlineMs - nowMs > LIMITS.deadlineAheadMs) throw new CMeshError('CMESH_FRAME_DEADLINE', { limit: LIMITS.deadlineAheadMs })
  if (hops > LIMITS.hops) throw new CMeshError('CMESH_FRAME_HOPS', { limit: LIMITS.hops })
}
