/**
 * The door for those who have no session yet: `cmesh.v1.hello.<cid>`, each on a connection of its own, and
 * `cmesh.v1.hello.<cid>.<node>` for the steps that only the node which answered can go on with. It listens among the newcomers and
 * among the sessions, which renew themselves there. It takes the steps of the handshake and nothing else.
 *
 * 1. An answer goes to an inbox of the connection that asked, over the bus it came from; what wants it elsewhere is dropped.
 * 2. Each bus has places of its own, so that newcomers, however many knock, keep no session from renewing itself.
 * 3. Steps whose end the identity provider decides take a part of the places and never all.
 * 4. A step that is looked into is recorded before it is answered, whatever came of it; what there is no place for is not, and promises nothing.
 */
import { CMeshError } from '../../cmtp/errors.ts'
import { RouteCache, type Route } from '../../cmtp/fqmn.ts'
import { encodeReply, RequestFrame, salvageMessageId } from '../../cmtp/frame.ts'
import type { HandshakeAction } from '../../cmtp/identity/messages.ts'
import { decodeToken } from '../../cmtp/identity/token.ts'
import { EMPTY_HASH, layerSite, placeOf, sha256, type Decision, type Layer } from '../../cmtp/layer.ts'
import { MESSAGE_ID_BYTES } from '../../cmtp/message-id.ts'
import { layersPart, partHead } from '../../cmtp/receipt/full-part.ts'
import { LayerSealer } from '../../cmtp/sealer.ts'
import { connectionOfHello, HELLO_WILDCARD, helloNodeSubject, IAM_QUEUE, isReplyOf } from '../../cmtp/subject.ts'
import { sendAnswer } from '../bus/answer.ts'
import type { Bus, BusMessage, BusSubscription } from '../bus/provider.ts'
import { errorReply, jsonTextReply, type Reply } from '../call.ts'
import type { Audit } from '../router/sealing.ts'
import type { Clock } from '../clock.ts'
import type { Log } from '../log.ts'
import type { IamService } from './service.ts'

/** Steps of one bus under way at once; each costs some signatures, so a flood is refused and not queued. */
const PLACES = 160
/** Calls among them, and confirms: they wait for the identity provider, which may ask another server, or a person. */
const PLACES_WAITING = 64
const RETRY_AFTER_MS = 100
const NO_ID = Buffer.alloc(MESSAGE_ID_BYTES)
const NOBODY: Proven = Object.freeze({ sid: '', sub: '' })

/** Whom a step proved its caller to be. */
interface Proven {
  readonly sid: string
  readonly sub: string
}

/** One bus, and how many of its places are taken. */
interface Door {
  readonly bus: Bus
  taken: number
  readonly waiting: { call: number, confirm: number }
}

export interface IamListenerParts {
  /** The connections in the newcomers' and in the sessions' account; where the broker has none that is one and the same. */
  readonly buses: readonly Bus[]
  readonly iam: Pick<IamService, 'handle'>
  readonly node: string
  readonly clock: Clock
  /** Why this node cannot say how long a session holds; `undefined` while it can. Default: it always can. */
  readonly clockApart?: () => CMeshError | undefined
  readonly log: Log
  /** Where every step is recorded. Default: nowhere, and an answer at `full` has no receipt. */
  readonly audit?: Audit
}

export class IamListener {
  readonly #parts: IamListenerParts
  readonly #routes = new RouteCache(256)
  readonly #sealer = new LayerSealer()
  readonly #underWay = new Set<Promise<void>>()
  readonly #full = errorReply(busy())
  #dropped = 0
  #subscriptions: BusSubscription[] = []

  constructor(parts: IamListenerParts) {
    this.#parts = parts
  }

  /** Messages that were not taken because no inbox of their sender's connection waits for the answer. */
  get dropped(): number {
    return this.#dropped
  }

  /** Resolves when the broker knows of the subscriptions. Idempotent. */
  async start(): Promise<void> {
    const { buses, node } = this.#parts
    const each = [...new Set(buses)]
    if (this.#subscriptions.length === 0) {
      this.#subscriptions = each.flatMap(bus => {
        const door: Door = { bus, taken: 0, waiting: { call: 0, confirm: 0 } }
        const take = (message: BusMessage): void => { this.#take(door, message) }
        return [bus.subscribe(HELLO_WILDCARD, take, { queue: IAM_QUEUE }), bus.subscribe(helloNodeSubject(node), take)]
      })
    }
    await Promise.all(each.map(bus => bus.flush()))
  }

  /** Stops intake and resolves when every step taken is answered. */
  async drain(): Promise<void> {
    await Promise.all(this.#subscriptions.map(subscription => subscription.drain()))
    await Promise.all(this.#underWay)
  }

  #take(door: Door, { subject, reply, data }: BusMessage): void {
    const cid = connectionOfHello(subject)
    if (cid === undefined || !isReplyOf(cid, reply)) {
      this.#dropped++
      return
    }
    const answer = { bus: door.bus, log: this.#parts.log }
    if (door.taken >= PLACES) {
      sendAnswer(answer, reply, this.#refusal(data))
      return
    }
    door.taken++
    const work: Promise<void> = this.#step(door, data).then(frame => { sendAnswer(answer, reply, frame) }).finally(() => {
      door.taken--
      this.#underWay.delete(work)
    })
    this.#underWay.add(work)
  }

  /** The answer to a step there is no place for, which is not looked into: whoever floods the door makes as little work as may be. */
  #refusal(data: Uint8Array, reply = this.#full): Buffer {
    return unrecorded(salvageMessageId(data) ?? NO_ID, reply)
  }

  async #step(door: Door, data: Uint8Array): Promise<Buffer> {
    const { audit, clock, clockApart } = this.#parts
    const refusal = audit?.batcher.refusal ?? clockApart?.()
    if (refusal !== undefined) return this.#refusal(data, errorReply(refusal))
    const startUs = clock.nowUs()
    let frame: RequestFrame | undefined
    let route: Route | undefined
    let reply: Reply
    let proven = NOBODY
    try {
      frame = RequestFrame.decode(data)
      route = this.#routes.fromText(frame.fqmn)
      const [action = ''] = route.segments
      if (route.service !== 'I' || !route.write) {
        throw new CMeshError('CMESH_IAM_NO_SESSION', { reason: 'only the steps of the handshake are answered without one' })
      }
      const body = await this.#handle(door, action, frame.body)
      proven = provenBy(action, body)
      reply = jsonTextReply(body)
    } catch (error) {
      reply = errorReply(CMeshError.from(error, 'iam'))
    }
    const id = frame?.id ?? salvageMessageId(data)
    if (id === undefined) return unrecorded(NO_ID, reply)
    return await this.#seal({ id, frame, route, reply, startUs, proven })
  }

  async #handle({ waiting }: Door, action: string, body: Uint8Array): Promise<Uint8Array> {
    const { iam } = this.#parts
    // `handle` knows its actions and refuses any other by name.
    if (action !== 'call' && action !== 'confirm') return await iam.handle(action as HandshakeAction, body)
    if (waiting[action] >= PLACES_WAITING) throw busy()
    waiting[action]++
    try {
      return await iam.handle(action, body)
    } finally {
      waiting[action]--
    }
  }

  async #seal({ id, frame, route, reply, startUs, proven }: Step): Promise<Buffer> {
    const { audit, node, clock } = this.#parts
    const receipt = frame?.receipt ?? 'hash'
    const { status, headers, body } = reply
    if (receipt === 'none' && audit === undefined) return unrecorded(id, reply)
    const layers: Layer[] = [{
      site: layerSite('iam', node, route?.bare ?? ''), decision: decisionOf(status), grant: '', status, startUs,
      durationUs: clock.nowUs() - startUs, gas: 0n, before: undefined, after: undefined, argumentsHash: undefined,
    }]
    const finalHash = this.#sealer.seal(layers, {
      ...proven, id, status, replyHeaders: headers, replyBodyHash: sha256(body),
      requestBodyHash: frame === undefined || route === undefined ? EMPTY_HASH : sha256(frame.body),
    })
    if (receipt !== 'full') {
      audit?.batcher.add(id, finalHash, this.#sealer, layers)
      return encodeReply({ id, status, receipt, headers, body, ...(receipt === 'hash' && { finalHash }) })
    }
    const head = partHead(this.#sealer.last, layers.map(({ site, grant }) => placeOf(site, grant).texts))
    const part = audit === undefined ? layersPart(head) : await this.#recorded(audit, id, finalHash, layers, head)
    if (part instanceof CMeshError) return unrecorded(id, errorReply(part))
    return encodeReply({ id, status, receipt, finalHash, headers, body, layers: part })
  }

  /** Records what was sealed last, and gives its layers part once it is on the log, or why there is none. */
  #recorded({ batcher, receipts }: Audit, id: Uint8Array, finalHash: string, layers: readonly Layer[], head: Buffer): Promise<Buffer | CMeshError> {
    const index = batcher.add(id, finalHash, this.#sealer, layers)
    return new Promise(resolve => {
      batcher.wait(rooted => { resolve(rooted instanceof CMeshError ? rooted : receipts.part(head, id, finalHash, index, rooted, undefined)) })
    })
  }
}

/** A step that was looked into, and what came of it. */
interface Step {
  readonly id: Uint8Array
  readonly frame: RequestFrame | undefined
  readonly route: Route | undefined
  readonly reply: Reply
  readonly startUs: number
  readonly proven: Proven
}

function decisionOf(status: number): Decision {
  if (status < 400) return 'allowed'
  return status === 401 || status === 403 ? 'denied' : 'none'
}

/** A reply that promises nothing. */
function unrecorded(id: Uint8Array, { status, headers, body }: Reply): Buffer {
  return encodeReply({ id, status, receipt: 'none', headers, body })
}

/** By what IAM answered to a step that succeeded: a grant names who it is for, a session and its renewal whose it is, a farewell the session alone. */
function provenBy(action: string, body: Uint8Array): Proven {
  if (action === 'call') return NOBODY
  const { sub = '', sid = '', token } = JSON.parse(Buffer.from(body).toString('utf8')) as { readonly sub?: string, readonly sid?: string, readonly token?: string }
  return { sid, sub: token === undefined ? sub : decodeToken(token).sub }
}

function busy(): CMeshError {
  return new CMeshError('CMESH_IAM_BUSY', { retryAfterMs: RETRY_AFTER_MS })
}
