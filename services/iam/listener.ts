/**
 * The door for those who have no session yet: `cmesh.v1.hello.<cid>`, each on a connection of its own, and
 * `cmesh.v1.hello.<cid>.<node>` for the steps that only the node which answered can go on with. It listens among the newcomers and
 * among the sessions, which renew themselves there. It takes the steps of the handshake and nothing else.
 *
 * Invariant: an answer goes to an inbox of the connection that asked, over the bus it came from; what wants it elsewhere is dropped.
 */
import { CMeshError } from '../../cmtp/errors.ts'
import { RouteCache, type Route } from '../../cmtp/fqmn.ts'
import { encodeReply, RequestFrame, salvageMessageId } from '../../cmtp/frame.ts'
import type { HandshakeAction } from '../../cmtp/identity/messages.ts'
import { EMPTY_HASH, encodeLayers, LayerSealer, layerSite, SALT_BYTES, sha256 } from '../../cmtp/layer.ts'
import { MESSAGE_ID_BYTES } from '../../cmtp/message-id.ts'
import { connectionOfHello, HELLO_WILDCARD, helloNodeSubject, IAM_QUEUE, isReplyOf } from '../../cmtp/subject.ts'
import { sendAnswer } from '../bus/answer.ts'
import type { Bus, BusMessage, BusSubscription } from '../bus/provider.ts'
import { errorReply, jsonTextReply, type Reply } from '../call.ts'
import type { Clock } from '../clock.ts'
import type { Log } from '../log.ts'
import type { IamService } from './service.ts'
import { randomBytes } from 'node:crypto'

/** Steps under way at once; each costs some signatures, so a flood is refused and not queued. */
const MAX_UNDER_WAY = 64

export interface IamListenerParts {
  /** The connections in the newcomers' and in the sessions' account; where the broker has none that is one and the same. */
  readonly buses: readonly Bus[]
  readonly iam: Pick<IamService, 'handle'>
  readonly node: string
  readonly clock: Clock
  readonly log: Log
}

export class IamListener {
  readonly #parts: IamListenerParts
  readonly #routes = new RouteCache(256)
  readonly #sealer = new LayerSealer()
  readonly #underWay = new Set<Promise<void>>()
  #dropped = 0
  #subscriptions: BusSubscription[] = []

  constructor(parts: IamListenerParts) {
    this.#parts = parts
  }

  /** Messages that were not taken because no inbox of their sender's connection waits for the answer. */
  get dropped(): number {
    return this.#dropped
  }

  /** Resolves when the broker knows of the subscriptions. */
  async start(): Promise<void> {
    const { buses, node } = this.#parts
    const each = [...new Set(buses)]
    this.#subscriptions = each.flatMap(bus => {
      const take = (message: BusMessage): void => { this.#take(bus, message) }
      return [bus.subscribe(HELLO_WILDCARD, take, { queue: IAM_QUEUE }), bus.subscribe(helloNodeSubject(node), take)]
    })
    await Promise.all(each.map(bus => bus.flush()))
  }

  /** Stops intake and resolves when every step taken is answered. */
  async drain(): Promise<void> {
    await Promise.all(this.#subscriptions.map(subscription => subscription.drain()))
    await Promise.all(this.#underWay)
  }

  #take(bus: Bus, { subject, reply, data }: BusMessage): void {
    const cid = connectionOfHello(subject)
    if (cid === undefined || !isReplyOf(cid, reply)) {
      this.#dropped++
      return
    }
    const { log } = this.#parts
    const work: Promise<void> = this.#step(data).then(frame => { sendAnswer({ bus, log }, reply, frame) })
      .finally(() => { this.#underWay.delete(work) })
    this.#underWay.add(work)
  }

  async #step(data: Uint8Array): Promise<Buffer> {
    const startUs = this.#parts.clock.nowUs()
    let frame: RequestFrame | undefined
    let route: Route | undefined
    let reply: Reply
    try {
      frame = RequestFrame.decode(data)
      route = this.#routes.fromText(frame.fqmn)
      if (this.#underWay.size >= MAX_UNDER_WAY) throw new CMeshError('CMESH_IAM_BUSY', { retryAfterMs: 100 })
      const [action = ''] = route.segments
      if (route.service !== 'I' || !route.write) {
        throw new CMeshError('CMESH_IAM_NO_SESSION', { reason: 'only the steps of the handshake are answered without one' })
      }
      // `handle` knows its actions and refuses any other by name.
      reply = jsonTextReply(await this.#parts.iam.handle(action as HandshakeAction, frame.body))
    } catch (error) {
      reply = errorReply(CMeshError.from(error, 'iam'))
    }
    return this.#seal(frame, route, reply, startUs, frame?.id ?? salvageMessageId(data) ?? Buffer.alloc(MESSAGE_ID_BYTES))
  }

  #seal(frame: RequestFrame | undefined, route: Route | undefined, reply: Reply, startUs: number, id: Uint8Array): Buffer {
    const receipt = frame?.receipt ?? 'hash'
    const { status, headers, body } = reply
    if (receipt === 'none') return encodeReply({ id, status, receipt, headers, body })
    const encoded: Buffer[] = []
    const finalHash = this.#sealer.seal([{
      site: layerSite('iam', this.#parts.node, route?.bare ?? ''), decision: 'none', grant: '', status, startUs,
      durationUs: this.#parts.clock.nowUs() - startUs, gas: 0n, before: undefined, after: undefined, argumentsHash: undefined,
    }], {
      id, status, sid: '', sub: '', requestBodyHash: frame === undefined ? EMPTY_HASH : sha256(frame.body), replyBodyHash: sha256(body), replyHeaders: headers,
    }, encoded)
    return encodeReply({ id, status, receipt, finalHash, headers, body, ...(receipt === 'full' && { layers: encodeLayers(randomBytes(SALT_BYTES), encoded) }) })
  }
}
