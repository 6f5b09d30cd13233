/**
 * The door for those who have no session yet: `cmesh.v1.hello.<cid>`, each on a connection of its own, and
 * `cmesh.v1.hello.<cid>.<node>` for the steps that only the node which answered can go on with. It listens among the newcomers and
 * among the sessions, which renew themselves there. It takes the steps of the handshake and nothing else.
 *
 * 1. An answer goes to an inbox of the connection that asked, over the bus it came from; what wants it elsewhere is dropped.
 * 2. Each bus has places of its own, so that newcomers, however many knock, keep no session from renewing itself.
 * 3. Steps whose end the identity provider decides take a part of the places and never all.
 */
import { CMeshError } from '../../cmtp/errors.ts'
import { RouteCache, type Route } from '../../cmtp/fqmn.ts'
import { encodeReply, RequestFrame, salvageMessageId } from '../../cmtp/frame.ts'
import type { HandshakeAction } from '../../cmtp/identity/messages.ts'
import { EMPTY_HASH, encodeLayers, layerSite, SALT_BYTES, sha256 } from '../../cmtp/layer.ts'
import { MESSAGE_ID_BYTES } from '../../cmtp/message-id.ts'
import { LayerSealer } from '../../cmtp/sealer.ts'
import { connectionOfHello, HELLO_WILDCARD, helloNodeSubject, IAM_QUEUE, isReplyOf } from '../../cmtp/subject.ts'
import { receiptFlags, RECEIPT_MASK } from '../../cmtp/wire.ts'
import { sendAnswer } from '../bus/answer.ts'
import type { Bus, BusMessage, BusSubscription } from '../bus/provider.ts'
import { errorReply, jsonTextReply, type Reply } from '../call.ts'
import type { Clock } from '../clock.ts'
import type { Log } from '../log.ts'
import type { IamService } from './service.ts'
import { randomBytes } from 'node:crypto'

/** Steps of one bus under way at once; each costs some signatures, so a flood is refused and not queued. */
const PLACES = 160
/** Calls among them, and confirms: they wait for the identity provider, which may ask another server, or a person. */
const PLACES_WAITING = 64
const RETRY_AFTER_MS = 100
/** Where the receipt level stands in a frame. */
const FLAGS_AT = 5
const NO_ID = Buffer.alloc(MESSAGE_ID_BYTES)

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
  readonly log: Log
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
  #refusal(data: Uint8Array): Buffer {
    const { status, headers, body } = this.#full
    const id = salvageMessageId(data) ?? NO_ID
    if (((data[FLAGS_AT] ?? 0) & RECEIPT_MASK) === receiptFlags('none')) return encodeReply({ id, status, receipt: 'none', headers, body })
    return this.#seal(undefined, undefined, this.#full, this.#parts.clock.nowUs(), id)
  }

  async #step(door: Door, data: Uint8Array): Promise<Buffer> {
    const startUs = this.#parts.clock.nowUs()
    let frame: RequestFrame | undefined
    let route: Route | undefined
    let reply: Reply
    try {
      frame = RequestFrame.decode(data)
      route = this.#routes.fromText(frame.fqmn)
      const [action = ''] = route.segments
      if (route.service !== 'I' || !route.write) {
        throw new CMeshError('CMESH_IAM_NO_SESSION', { reason: 'only the steps of the handshake are answered without one' })
      }
      reply = jsonTextReply(await this.#handle(door, action, frame.body))
    } catch (error) {
      reply = errorReply(CMeshError.from(error, 'iam'))
    }
    return this.#seal(frame, route, reply, startUs, frame?.id ?? salvageMessageId(data) ?? NO_ID)
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

  #seal(frame: RequestFrame | undefined, route: Route | undefined, reply: Reply, startUs: number, id: Uint8Array): Buffer {
    const receipt = frame?.receipt ?? 'hash'
    const { status, headers, body } = reply
    if (receipt === 'none') return encodeReply({ id, status, receipt, headers, body })
    const encoded: Buffer[] = []
    const salt = randomBytes(SALT_BYTES)
    const finalHash = this.#sealer.seal([{
      site: layerSite('iam', this.#parts.node, route?.bare ?? ''), decision: 'none', grant: '', status, startUs,
      durationUs: this.#parts.clock.nowUs() - startUs, gas: 0n, before: undefined, after: undefined, argumentsHash: undefined,
    }], {
      id, status, sid: '', sub: '', requestBodyHash: frame === undefined ? EMPTY_HASH : sha256(frame.body), replyBodyHash: sha256(body), replyHeaders: headers, salt,
    }, encoded)
    return encodeReply({ id, status, receipt, finalHash, headers, body, ...(receipt === 'full' && { layers: encodeLayers(salt, encoded) }) })
  }
}

function busy(): CMeshError {
  return new CMeshError('CMESH_IAM_BUSY', { retryAfterMs: RETRY_AFTER_MS })
}
