/**
 * The front door: one request in, one reply out, whoever brought it: a client through the router, the miner, the node's
 * own self-test. It decodes, checks the session, resolves names, dispatches the final address to the endpoint that
 * authorises and answers it, and seals the layers into the final hash.
 *
 * Invariants: every request gets exactly one reply, with a status; no failure leaves here as an exception; the path of a
 * known session that reads allocates no promise and runs to its end in one go.
 */
import { randomBytes } from 'node:crypto'
import { BatchFrame, BatchReplyWriter } from '../../cmtp/batch.ts'
import { CMeshError } from '../../cmtp/errors.ts'
import { RouteCache, type Route } from '../../cmtp/fqmn.ts'
import { encodeReply, REQUEST_HEADER_BYTES, RequestFrame, salvageMessageId } from '../../cmtp/frame.ts'
import { EMPTY_HASH, encodeLayers, LayerSealer, layerSite, SALT_BYTES, sha256, type LayerSite } from '../../cmtp/layer.ts'
import { LIMITS } from '../../cmtp/limits.ts'
import { entryId, formatMessageId, MESSAGE_ID_BYTES } from '../../cmtp/message-id.ts'
import { TwoGenerations } from '../../cmtp/two-generations.ts'
import { KIND_BATCH_REQUEST, type ReceiptLevel } from '../../cmtp/wire.ts'
import { errorReply, NO_BODY, type Reply } from '../call.ts'
import type { Clock } from '../clock.ts'
import { hashArguments } from '../endpoint.ts'
import type { AuthContext, Guard } from '../iam/guard.ts'
import type { Log } from '../log.ts'
import { RegistrarService } from '../registrar/service.ts'
import type { Deadlines } from './deadlines.ts'
import type { Dispatcher } from './dispatcher.ts'
import { Passage, type Origin, type RequestParts } from './passage.ts'

export interface FrontDoorParts {
  readonly node: string
  readonly guard: Pick<Guard, 'check'>
  readonly registrar: Pick<RegistrarService, 'resolve'>
  readonly dispatcher: Pick<Dispatcher, 'dispatch'>
  readonly deadlines: Deadlines
  readonly clock: Clock
  readonly log: Log
}

export interface FrontDoorStats {
  requests: number
  batches: number
  failed: number
  /** Replies by status, at the status's index. */
  readonly statuses: Uint32Array
}

type Done = (passage: Passage | undefined, id: Uint8Array, receipt: ReceiptLevel, reply: Reply) => void

const EMPTY = Buffer.alloc(0)
const NO_ID = Buffer.alloc(MESSAGE_ID_BYTES)
/** Room for what a batch reply holds besides bodies; one entry that no longer fits is refused on its own. */
const BATCH_REPLY_BYTES = LIMITS.frameBytes
const SITES = 16_384

export class FrontDoor {
  readonly stats: FrontDoorStats = { requests: 0, batches: 0, failed: 0, statuses: new Uint32Array(600) }
  readonly #parts: FrontDoorParts
  readonly #routes = new RouteCache()
  readonly #sealer = new LayerSealer()
  readonly #routerSites = new TwoGenerations<Route, LayerSite>({ entries: SITES })
  readonly #registrarSites = new TwoGenerations<Route, LayerSite>({ entries: SITES })
  readonly #unread: LayerSite

  constructor(parts: FrontDoorParts) {
    this.#parts = parts
    this.#unread = layerSite('router', parts.node, '')
  }

  /** Takes a request or a batch; calls `answer` once, with the reply frame. Synchronously where it can. */
  handle(data: Uint8Array, origin: Origin, answer: (frame: Buffer) => void): void {
    const startUs = this.#parts.clock.nowUs()
    if (data[3] === KIND_BATCH_REQUEST) this.#batch(data, origin, startUs, answer)
    else this.#single(data, origin, startUs, answer)
  }

  /** `handle` as a promise, for callers in process. */
  route(frame: Uint8Array, sid: string): Promise<Buffer> {
    return new Promise(resolve => { this.handle(frame, { sid, replySubject: '' }, resolve) })
  }

  /** Answers a message with an error without looking into it. */
  refuse(data: Uint8Array, error: CMeshError): Buffer {
    return this.#replyFrame(undefined, salvageMessageId(data) ?? NO_ID, 'hash', this.#counted(errorReply(error)), this.#parts.clock.nowUs())
  }

  #single(data: Uint8Array, origin: Origin, startUs: number, answer: (frame: Buffer) => void): void {
    const done: Done = (passage, id, receipt, reply) => { answer(this.#replyFrame(passage, id, receipt, reply, startUs)) }
    let frame: RequestFrame
    try {
      frame = RequestFrame.decode(data)
    } catch (error) {
      done(undefined, salvageMessageId(data) ?? NO_ID, 'hash', this.#counted(this.#errorOf(error, NO_ID)))
      return
    }
    const { bytes, receipt } = frame
    this.#enter(bytes, REQUEST_HEADER_BYTES, frame.fqmnEnd, {
      id: frame.id, receipt, token: frame.token, headers: frame.headers, body: frame.body, deadlineMs: frame.deadlineMs, hops: frame.hops,
    }, origin, startUs, done)
  }

  #batch(data: Uint8Array, origin: Origin, startUs: number, answer: (frame: Buffer) => void): void {
    let frame: BatchFrame
    try {
      frame = BatchFrame.decode(data)
    } catch (error) {
      answer(this.#replyFrame(undefined, salvageMessageId(data) ?? NO_ID, 'hash', this.#counted(this.#errorOf(error, NO_ID)), startUs))
      return
    }
    this.stats.batches++
    const { bytes, entries, receipt, token, deadlineMs, hops } = frame
    const id = Buffer.from(frame.id)
    const writer = new BatchReplyWriter(id, entries.length, receipt)
    // Replies leave in the order of the entries; one that is early waits in `parked`.
    const parked = new Map<number, () => void>()
    let next = 0
    const write = (passage: Passage | undefined, entry: Uint8Array, reply: Reply): void => {
      const fits = writer.length + reply.body.length + reply.headers.length < BATCH_REPLY_BYTES
      const sent = fits ? reply : errorReply(new CMeshError('CMESH_FRAME_TOO_LARGE', { part: 'batch reply', bytes: writer.length + reply.body.length, limit: BATCH_REPLY_BYTES }))
      const sealed = this.#seal(passage, entry, receipt, sent, startUs)
      writer.add(sent.status, sealed.finalHash, sent.headers, sealed.layers, sent.body)
    }
    const settle = (index: number, passage: Passage | undefined, entry: Uint8Array, reply: Reply): void => {
      if (index !== next) {
        parked.set(index, () => { write(passage, entry, reply) })
        return
      }
      write(passage, entry, reply)
      next++
      for (let waiting = parked.get(next); waiting !== undefined; waiting = parked.get(next)) {
        parked.delete(next++)
        waiting()
      }
      if (next === entries.length) answer(writer.finish())
    }
    for (let i = 0; i < entries.length; i++) {
      const entry = entries[i]
      if (entry === undefined) continue
      const { fqmnStart, fqmnEnd, headersEnd, end } = entry
      this.#enter(bytes, fqmnStart, fqmnEnd, {
        id: entryId(id, i),
        receipt,
        token,
        headers: headersEnd === fqmnEnd ? EMPTY : bytes.subarray(fqmnEnd, headersEnd),
        body: end === headersEnd ? EMPTY : bytes.subarray(headersEnd, end),
        deadlineMs,
        hops,
      }, origin, startUs, (passage, entryIdBytes, _, reply) => { settle(i, passage, entryIdBytes, reply) })
    }
  }

  /** From the address to the reply. */
  #enter(bytes: Buffer, fqmnStart: number, fqmnEnd: number, parts: RequestParts, origin: Origin, startUs: number, done: Done): void {
    this.stats.requests++
    let passage: Passage | undefined
    let reply: Reply | Promise<Reply>
    try {
      passage = new Passage(parts, origin, this.#routes.fromBytes(bytes, fqmnStart, fqmnEnd), startUs)
      checkDeadline(parts.deadlineMs, this.#parts.clock.nowMs(), parts.hops)
      const auth = this.#parts.guard.check(parts.token, origin.sid)
      reply = auth instanceof Promise ? this.#later(passage, auth) : this.#pass(passage, auth)
    } catch (error) {
      reply = this.#errorOf(error, parts.id, passage)
    }
    if (!(reply instanceof Promise)) done(passage, parts.id, parts.receipt, this.#counted(reply))
    else if (passage !== undefined) this.#wait(passage, reply, done)
  }

  #wait(passage: Passage, work: Promise<Reply>, done: Done): void {
    const { id, receipt, deadlineMs } = passage
    this.#parts.deadlines.race(work, deadlineMs, () => this.#late(passage)).then(
      reply => { done(passage, id, receipt, this.#counted(reply)) },
      (error: unknown) => { done(passage, id, receipt, this.#counted(this.#errorOf(error, id, passage))) },
    )
  }

  async #later(passage: Passage, auth: Promise<AuthContext>): Promise<Reply> {
    return this.#pass(passage, await auth)
  }

  #pass(passage: Passage, auth: AuthContext): Reply | Promise<Reply> {
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
        site: this.#site('registrar', asked, target ?? asked),
        decision: 'none', grant: '', status, startUs, durationUs: passage.markUs - startUs, gas: 0n,
        before: undefined, after: undefined, argumentsHash: hashArguments(passage),
      })
    }
  }

  /** The deadline passed while the request was under way. */
  #late(passage: Passage): CMeshError {
    return passage.proposed
      ? new CMeshError('CMESH_ROUTER_UNKNOWN_OUTCOME', { tx: formatMessageId(passage.id) })
      : new CMeshError('CMESH_ROUTER_TIMEOUT')
  }

  #errorOf(thrown: unknown, id: Uint8Array, passage?: Passage): Reply {
    const error = CMeshError.from(thrown, 'the router', formatMessageId(id))
    if (error.retry === 'bug') {
      this.#parts.log.error({ err: error.cause ?? error, code: error.code, id: formatMessageId(id), fqmn: passage?.route.bare }, 'request failed unexpectedly')
    }
    return errorReply(error)
  }

  #counted(reply: Reply): Reply {
    const { statuses } = this.stats
    statuses[reply.status] = (statuses[reply.status] ?? 0) + 1
    if (reply.status >= 400) this.stats.failed++
    return reply
  }

  #replyFrame(passage: Passage | undefined, id: Uint8Array, receipt: ReceiptLevel, reply: Reply, startUs: number): Buffer {
    const { finalHash, layers } = this.#seal(passage, id, receipt, reply, startUs)
    return encodeReply({ id, status: reply.status, receipt, finalHash, headers: reply.headers, layers, body: reply.body })
  }

  /** Adds the router's layer, the last one, and makes the final hash. The layer ends where the last hop did. */
  #seal(passage: Passage | undefined, id: Uint8Array, receipt: ReceiptLevel, reply: Reply, startUs: number): { finalHash: string, layers: Buffer } {
    if (receipt === 'none') return UNSEALED
    const endUs = passage === undefined || passage.markUs === startUs ? this.#parts.clock.nowUs() : passage.markUs
    const all = passage?.layers ?? []
    all.push({
      site: passage === undefined ? this.#unread : this.#site('router', passage.asked, passage.route),
      decision: 'none', grant: '', status: reply.status, startUs, durationUs: endUs - startUs, gas: 0n,
      before: undefined, after: undefined, argumentsHash: passage === undefined ? undefined : hashArguments(passage),
    })
    const body = passage?.body ?? NO_BODY
    const encoded: Buffer[] | undefined = receipt === 'full' ? [] : undefined
    const finalHash = this.#sealer.seal(all, {
      id,
      status: reply.status,
      sid: passage?.sid ?? '',
      sub: passage?.auth?.sub ?? '',
      requestBodyHash: body.length === 0 ? EMPTY_HASH : sha256(body),
      replyBodyHash: reply.bodyHash ?? sha256(reply.body),
      replyHeaders: reply.headers,
    }, encoded)
    if (encoded === undefined) return { finalHash, layers: EMPTY }
    return { finalHash, layers: encodeLayers(passage?.saltOrFresh() ?? randomBytes(SALT_BYTES), encoded) }
  }

  /** The site of a hop of this router, by the address that was asked for; names may come to map elsewhere. */
  #site(hop: 'router' | 'registrar', asked: Route, target: Route): LayerSite {
    const sites = hop === 'router' ? this.#routerSites : this.#registrarSites
    const bare = asked === target ? undefined : target.bare
    const known = sites.get(asked)
    if (known !== undefined && known.target === bare) return known
    const site = layerSite(hop, this.#parts.node, asked.bare, bare)
    sites.set(asked, site)
    return site
  }
}

const UNSEALED = { finalHash: '', layers: EMPTY }

function checkDeadline(deadlineMs: number, nowMs: number, hops: number): void {
  if (deadlineMs < nowMs) throw new CMeshError('CMESH_ROUTER_DEADLINE')
  if (deadlineMs - nowMs > LIMITS.deadlineAheadMs) throw new CMeshError('CMESH_FRAME_DEADLINE', { limit: LIMITS.deadlineAheadMs })
  if (hops > LIMITS.hops) throw new CMeshError('CMESH_FRAME_HOPS', { limit: LIMITS.hops })
}
