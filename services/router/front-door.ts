/**
 * The front door: one request in, one reply out, whoever brought it: a client through the router, the miner, the node's
 * own self-test. It decodes, checks the session, resolves names, dispatches the final address to the endpoint that
 * authorises and answers it, and seals the layers into the final hash.
 *
 * Invariants: every request gets exactly one reply, with a status; no failure leaves here as an exception; the path of a
 * known session that reads allocates no promise and runs to its end in one go; what is answered is recorded, and what could not be is
 * not begun: the one reply that leaves no trace is the one that says so.
 */
import { BatchFrame } from '../../cmtp/batch.ts'
import { CMeshError } from '../../cmtp/errors.ts'
import { RouteCache, type Route } from '../../cmtp/fqmn.ts'
import { encodeReply, REQUEST_HEADER_BYTES, RequestFrame, salvageMessageId } from '../../cmtp/frame.ts'
import { LIMITS } from '../../cmtp/limits.ts'
import { formatMessageId, MESSAGE_ID_BYTES } from '../../cmtp/message-id.ts'
import { Salts } from '../../cmtp/salts.ts'
import { KIND_BATCH_REQUEST, type ReceiptLevel } from '../../cmtp/wire.ts'
import { errorReply, type Reply } from '../call.ts'
import type { Clock } from '../clock.ts'
import { hashArguments } from '../endpoint.ts'
import type { AuthContext, Guard } from '../iam/guard.ts'
import type { Log } from '../log.ts'
import { RegistrarService } from '../registrar/service.ts'
import { callersTrace, saying } from '../traces/trace.ts'
import { BatchAnswer, type BatchDoor } from './batch-answer.ts'
import { Callers } from './callers.ts'
import type { Deadlines } from './deadlines.ts'
import type { Dispatcher } from './dispatcher.ts'
import { Passage, type Envelope, type Origin } from './passage.ts'
import { Sealing, type Audit, type Traces } from './sealing.ts'

export interface FrontDoorParts {
  readonly node: string
  readonly guard: Pick<Guard, 'check' | 'checkCarried'>
  readonly registrar: Pick<RegistrarService, 'resolve' | 'fresh'>
  readonly dispatcher: Pick<Dispatcher, 'dispatch'>
  readonly deadlines: Deadlines
  readonly clock: Clock
  /** Why this node cannot tell what is too late; `undefined` while it can. Default: it always can. */
  readonly clockApart?: () => CMeshError | undefined
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

export class FrontDoor {
  readonly stats: FrontDoorStats = { requests: 0, batches: 0, repeated: 0, failed: 0, statuses: new Uint32Array(600) }
  readonly #parts: FrontDoorParts
  readonly #routes = new RouteCache()
  readonly #sealing: Sealing
  readonly #salts: Pick<Salts, 'next' | 'put'>
  readonly #callers: Callers
  /** Itself, as a batch sees it. */
  readonly #door: BatchDoor

  constructor(parts: FrontDoorParts) {
    this.#parts = parts
    this.#callers = new Callers(parts.guard)
    this.#salts = parts.salts ?? new Salts()
    this.#sealing = new Sealing({ node: parts.node, clock: parts.clock, salts: this.#salts, audit: parts.audit, traces: parts.traces })
    this.#door = {
      sealing: this.#sealing,
      callers: this.#callers,
      stats: this.stats,
      routeOf: (bytes, start, end) => this.#routeOf(bytes, start, end),
      passage: (envelope, id, headers, body, origin, route, startUs) => this.#passage(envelope, id, headers, body, origin, route, startUs),
      answer: (passage, auth) => this.#answer(passage, auth),
      await: (passage, reply, answered) => { this.#await(passage, reply, answered) },
      counted: reply => this.#counted(reply),
      unrecorded: (id, error) => this.#unrecorded(id, error),
    }
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
    const reply = this.#answer(passage, this.#callers.ofFrame(frame.token, origin))
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
    const auth = this.#callers.ofFrame(frame.token, origin)
    const answering = new BatchAnswer({ door: this.#door, frame, origin, startUs, answer })
    if (auth instanceof Promise) void auth.then(known => { answering.begin(known) })
    else answering.begin(auth)
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

  /** From the address to the reply, or to one that has to be waited for (`#await`). Never throws. */
  #answer(passage: Passage, auth: AuthContext | CMeshError | Promise<AuthContext | CMeshError>): Reply | Promise<Reply> {
    try {
      this.#checkDeadline(passage.deadlineMs, passage.hops)
      return auth instanceof Promise ? auth.then(known => this.#pass(passage, known)) : this.#pass(passage, auth)
    } catch (error) {
      return this.#errorOf(error, passage)
    }
  }

  #checkDeadline(deadlineMs: number, hops: number): void {
    const { clock, clockApart } = this.#parts
    const leftMs = deadlineMs - clock.nowMs()
    // By a clock that is not the mesh's another node has to say so.
    if (leftMs < 0) throw clockApart?.() ?? new CMeshError('CMESH_ROUTER_DEADLINE')
    if (leftMs > LIMITS.deadlineAheadMs) throw clockApart?.() ?? new CMeshError('CMESH_FRAME_DEADLINE', { limit: LIMITS.deadlineAheadMs })
    if (hops > LIMITS.hops) throw new CMeshError('CMESH_FRAME_HOPS', { limit: LIMITS.hops })
  }

  /** Calls `answered` once: with the reply, with the error that it came to, or, past the deadline, with one that says so. */
  #await(passage: Passage, reply: Promise<Reply>, answered: (reply: Reply) => void): void {
    const failed = (error: unknown): void => { answered(this.#errorOf(error, passage)) }
    this.#parts.deadlines.watch(reply, passage.deadlineMs, answered, failed, () => { failed(this.#late(passage)) })
  }

  #pass(passage: Passage, auth: AuthContext | CMeshError): Reply | Promise<Reply> {
    if (auth instanceof CMeshError) throw auth
    passage.auth = auth
    if (!RegistrarService.isByName(passage.asked)) return this.#parts.dispatcher.dispatch(passage)
    // What a name stands for is as fresh as what is read there.
    const fresh = passage.asked.write ? undefined : this.#parts.registrar.fresh(passage, auth)
    return fresh === undefined ? this.#byName(passage) : fresh.then(() => this.#byName(passage))
  }

  #byName(passage: Passage): Reply | Promise<Reply> {
    passage.route = this.#resolve(passage)
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

/** The reply, or the refusal of one that no client would take in. */
function bounded(reply: Reply): Reply {
  const bytes = reply.body.length
  return bytes <= LIMITS.bodyBytes ? reply : errorReply(new CMeshError('CMESH_FRAME_TOO_LARGE', { part: 'reply body', bytes, limit: LIMITS.bodyBytes }))
}
