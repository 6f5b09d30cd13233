/**
 * Calls between nodes: how a router reaches a service that another node runs, and how that node's endpoint is reached. The
 * frame carries the caller's own token, so the endpoint on the other side checks everything again; the connection is in
 * the services' account, where no session can publish.
 */
import { CMeshError } from '../../cmtp/errors.ts'
import { RouteCache } from '../../cmtp/fqmn.ts'
import { encodeReply, encodeRequest, ReplyFrame, RequestFrame } from '../../cmtp/frame.ts'
import { decodeHeaders, encodeHeaders, headerValue, type HeaderList } from '../../cmtp/headers.ts'
import { decodeLayers, encodeLayer, encodeLayers, layerSite, SALT_BYTES, type DecodedLayer, type Layer } from '../../cmtp/layer.ts'
import { LIMITS } from '../../cmtp/limits.ts'
import { formatMessageId } from '../../cmtp/message-id.ts'
import { serviceSubject } from '../../cmtp/subject.ts'
import { randomFillSync } from 'node:crypto'
import { isInbox, sendAnswer } from '../bus/answer.ts'
import type { Bus, BusSubscription } from '../bus/provider.ts'
import { errorReply, type Call, type CallHandler, type Reply } from '../call.ts'
import type { Clock } from '../clock.ts'
import { hashArguments } from '../endpoint.ts'
import type { AuthContext } from '../iam/guard.ts'
import type { Log } from '../log.ts'
import { serviceOf, type ServiceName } from './dispatcher.ts'

const VERB = 'call'
/** The session a forwarded call belongs to, and where its caller listens; only between nodes. */
const SESSION_HEADER = 'x-cmesh-session'
const REPLY_HEADER = 'x-cmesh-reply'

export interface RemoteCallsParts {
  /** The connection inside the services' account. */
  readonly bus: Pick<Bus, 'request'>
  readonly clock: Clock
  /** The whole token of a caller: the other side may never have seen it. */
  readonly tokenOf: (auth: AuthContext) => Uint8Array
}

/** The dispatcher's way to other nodes. */
export class RemoteCalls {
  readonly #parts: RemoteCallsParts

  constructor(parts: RemoteCallsParts) {
    this.#parts = parts
  }

  /**
   * Adds the layers of the other side. Rejects with `CMESH_ROUTER_NO_SERVICE`, `_TIMEOUT`, `_UNKNOWN_OUTCOME` for a transaction
   * that may have been proposed there, `CMESH_FRAME_HOPS`, or what the bus says.
   */
  readonly call = async (service: ServiceName, call: Call): Promise<Reply> => {
    if (call.hops + 1 > LIMITS.hops) throw new CMeshError('CMESH_FRAME_HOPS', { limit: LIMITS.hops })
    const callers = traced(ofCaller(decodeHeaders(call.headers)), call)
    const headers = encodeHeaders([...callers, [SESSION_HEADER, call.auth?.sid ?? call.sid], [REPLY_HEADER, call.replySubject]])
    const frame = encodeRequest({
      id: call.id, fqmn: call.route.text, token: call.auth === undefined ? call.token : this.#parts.tokenOf(call.auth), deadlineMs: call.deadlineMs, receipt: 'full', hops: call.hops + 1, headers, body: call.body,
    })
    const reply = this.#read(await this.#send(service, call, frame), call)
    call.markUs = this.#parts.clock.nowUs()
    return reply
  }

  async #send(service: ServiceName, call: Call, frame: Buffer): Promise<Uint8Array> {
    const timeoutMs = Math.min(Math.max(call.deadlineMs - this.#parts.clock.nowMs(), 1), LIMITS.deadlineAheadMs)
    // A transaction may be done on the other side even when no answer comes back.
    call.proposed = call.route.write && (service === 'state' || service === 'registrar')
    try {
      return await this.#parts.bus.request(serviceSubject(service, VERB), frame, { timeoutMs })
    } catch (cause) {
      const { code } = CMeshError.from(cause, 'the bus')
      if (code === 'CMESH_BUS_TIMEOUT' || code === 'CMESH_BUS_DISCONNECTED') {
        if (call.proposed) throw new CMeshError('CMESH_ROUTER_UNKNOWN_OUTCOME', { tx: formatMessageId(call.id) }, { cause })
        if (code === 'CMESH_BUS_TIMEOUT') throw new CMeshError('CMESH_ROUTER_TIMEOUT', {}, { cause })
        throw cause
      }
      // Nothing left this node.
      call.proposed = false
      throw code === 'CMESH_BUS_NO_RESPONDERS' ? new CMeshError('CMESH_ROUTER_NO_SERVICE', { service }, { cause }) : cause
    }
  }

  #read(answer: Uint8Array, call: Call): Reply {
    try {
      const { status, headers, body, layers } = ReplyFrame.decode(answer)
      const added = decodeLayers(layers).layers.map(layer => asLayer(layer, call))
      // Room for the router's own, which comes last.
      if (call.layers.length + added.length >= LIMITS.layers) throw new RangeError(`${added.length} layers are too many`)
      call.layers.push(...added)
      return { status, headers, body }
    } catch (cause) {
      throw new CMeshError('CMESH_INTERNAL', { component: 'another node, whose answer cannot be read', id: formatMessageId(call.id) }, { cause })
    }
  }
}

/** What the caller sent, without what only nodes tell each other: nobody speaks for another session or listens in its place. */
function ofCaller(headers: HeaderList): HeaderList {
  return headers.filter(([name]) => name !== SESSION_HEADER && name !== REPLY_HEADER)
}

/**
 * The same with this node's span as the parent, in place of the caller's; a state without a trace that holds belongs to none. What is not
 * traced here is passed on as it came.
 */
function traced(headers: HeaderList, { trace }: Pick<Call, 'trace'>): HeaderList {
  if (trace === undefined) return headers
  const others = headers.filter(([name]) => name !== 'traceparent' && (name !== 'tracestate' || trace.parentId !== undefined))
  return [...others, ['traceparent', trace.traceparent]]
}

/** The layer with its arguments under this request's own salt: one message has one. */
function asLayer(layer: DecodedLayer, call: Call): Layer {
  const { hop, node, fqmn, target, argumentsHash } = layer
  return { ...layer, site: layerSite(hop, node, fqmn, target), argumentsHash: argumentsHash === undefined ? undefined : hashArguments(call) }
}

export interface ServiceListenerParts {
  readonly bus: Pick<Bus, 'status' | 'subscribe' | 'publish'>
  readonly clock: Clock
  readonly log: Log
  readonly service: ServiceName
  /** The endpoint's own handler: it checks the session and the permission. */
  readonly handler: CallHandler
}

/** Serves one endpoint to the other nodes of the mesh. */
export class ServiceListener {
  readonly #parts: ServiceListenerParts
  readonly #routes = new RouteCache(4_096)
  #subscription: BusSubscription | undefined
  readonly #underWay = new Set<Promise<void>>()

  constructor(parts: ServiceListenerParts) {
    this.#parts = parts
  }

  /** Idempotent. */
  start(): void {
    const { bus, service } = this.#parts
    this.#subscription ??= bus.subscribe(serviceSubject(service, VERB), message => {
      if (!isInbox(message.reply)) return
      const work: Promise<void> = this.#serve(message.data).then(frame => { sendAnswer(this.#parts, message.reply, frame) })
        .finally(() => { this.#underWay.delete(work) })
      this.#underWay.add(work)
    }, { queue: service })
  }

  /** Stops intake and resolves when everything taken is answered. */
  async drain(): Promise<void> {
    await this.#subscription?.drain()
    await Promise.all(this.#underWay)
  }

  async #serve(data: Uint8Array): Promise<Buffer> {
    let request: RequestFrame | undefined
    const layers: Layer[] = []
    let reply: Reply
    let call: Call | undefined
    try {
      request = RequestFrame.decode(data)
      const headers = decodeHeaders(request.headers)
      const route = this.#routes.fromText(request.fqmn)
      // The endpoint authorises the address and hands it to its one service: it must be that service's.
      if (serviceOf(route) !== this.#parts.service) throw new CMeshError('CMESH_ROUTER_INTERNAL_ONLY', { fqmn: route.bare })
      call = {
        id: request.id,
        route,
        body: request.body,
        headers: encodeHeaders(ofCaller(headers)),
        deadlineMs: request.deadlineMs,
        token: request.token,
        sid: headerValue(headers, SESSION_HEADER) ?? '',
        replySubject: headerValue(headers, REPLY_HEADER) ?? '',
        hops: request.hops,
        auth: undefined,
        layers,
        markUs: this.#parts.clock.nowUs(),
        salt: undefined,
        proposed: false,
      }
      reply = await this.#parts.handler(call)
    } catch (error) {
      reply = errorReply(CMeshError.from(error, this.#parts.service))
    }
    const id = request?.id ?? Buffer.alloc(16)
    const salt = call?.salt ?? randomFillSync(Buffer.allocUnsafe(SALT_BYTES))
    return encodeReply({ id, status: reply.status, receipt: 'full', finalHash: '\0'.repeat(32), headers: reply.headers, layers: encodeLayers(salt, layers.map(encodeLayer)), body: reply.body })
  }
}
