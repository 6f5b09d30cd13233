/**
 * The router: takes requests off `cmesh.v1.req.<sid>`, and off `cmesh.v1.req.<via>.<sid>` what a gateway carries; bounds what is
 * in flight, and hands each to the front door. It holds no state about a request beyond that it is under way, so any router of
 * the queue group may take any request.
 *
 * Invariants: what is under way counts for the connection that sent it, whatever session it is for; past a bound a request is
 * refused with 429 and a time to come back, never queued; a request that was taken is answered before `drain` resolves, or its
 * deadline has passed; an answer goes to an inbox of the connection that asked, and what wants it elsewhere is dropped: there is
 * nowhere to say so.
 */
import { CMeshError } from '../../cmtp/errors.ts'
import { CARRIED_WILDCARD, isReplyOf, originOfSubject, REQUEST_WILDCARD, ROUTER_QUEUE, sessionOfSubject } from '../../cmtp/subject.ts'
import type { Bus, BusMessage, BusSubscription } from '../bus/provider.ts'
import type { Log } from '../log.ts'
import type { FrontDoor } from './front-door.ts'
import { Replies } from './replies.ts'

export interface RouterParts {
  /** The connection inside the sessions' account. */
  readonly bus: Bus
  readonly frontDoor: Pick<FrontDoor, 'handle' | 'refuse'>
  readonly log: Log
  /** Messages of one session's connection under way at once, with what it carries for others; a batch counts once. Default 1,024. */
  readonly perSession?: number
  /** Messages under way at once in all. Default 16,384. */
  readonly inAll?: number
}

const RETRY_AFTER_MS = 50

export class Router {
  readonly #bus: Bus
  readonly #frontDoor: RouterParts['frontDoor']
  readonly #replies: Replies
  readonly #perSession: number
  readonly #inAll: number
  /** By the session whose connection they came over. */
  readonly #sessions = new Map<string, number>()
  #inFlight = 0
  #dropped = 0
  #subscriptions: readonly BusSubscription[] = []
  #draining: Promise<void> | undefined
  #idle: (() => void)[] = []

  constructor({ bus, frontDoor, log, perSession = 1_024, inAll = 16_384 }: RouterParts) {
    this.#bus = bus
    this.#frontDoor = frontDoor
    this.#replies = new Replies({ bus, log, refuse: (data, error) => frontDoor.refuse(data, error) })
    this.#perSession = perSession
    this.#inAll = inAll
  }

  /** Requests that were taken and not answered yet. */
  get inFlight(): number {
    return this.#inFlight
  }

  /** Messages that were not taken because no inbox of their sender's connection waits for the answer. */
  get dropped(): number {
    return this.#dropped
  }

  /** Starts taking requests; resolves when the broker knows. Idempotent. */
  async start(): Promise<void> {
    if (this.#subscriptions.length === 0) {
      const queue = { queue: ROUTER_QUEUE }
      this.#subscriptions = [
        this.#bus.subscribe(REQUEST_WILDCARD, message => { this.#take(message, sessionOfSubject(message.subject), undefined) }, queue),
        this.#bus.subscribe(CARRIED_WILDCARD, message => {
          const origin = originOfSubject(message.subject)
          this.#take(message, origin?.sid, origin?.via)
        }, queue),
      ]
    }
    await this.#bus.flush()
  }

  /** Stops taking requests and resolves when every one taken is answered. Memoised. */
  drain(): Promise<void> {
    this.#draining ??= this.#drain()
    return this.#draining
  }

  async #drain(): Promise<void> {
    await Promise.all(this.#subscriptions.map(subscription => subscription.drain()))
    if (this.#inFlight > 0) await new Promise<void>(resolve => { this.#idle.push(resolve) })
    this.#replies.flush()
    // Answers must have left before whoever drains closes the connection. Without one they cannot, and nobody is there for them.
    if (this.#bus.status === 'connected') await this.#bus.flush().catch(unlessDisconnected)
  }

  #take(message: BusMessage, sid: string | undefined, via: string | undefined): void {
    const { reply, data } = message
    // Without a reply subject nobody waits for the outcome: such a message can only be a mistake, and doing it would have no receipt.
    // Who sent it: the broker lets a connection name any session behind its own.
    const sender = via ?? sid
    if (sid === undefined || sender === undefined || !isReplyOf(sender, reply)) {
      this.#dropped++
      return
    }
    const refusal = this.#refusal(sender)
    if (refusal !== undefined) {
      this.#replies.send(message, reply, this.#frontDoor.refuse(data, refusal))
      return
    }
    let answered = false
    let waiting = false
    this.#frontDoor.handle(data, { sid, via, replySubject: reply }, frame => {
      answered = true
      if (waiting) this.#leave(sender)
      this.#replies.send(message, reply, frame)
    })
    if (!answered) {
      waiting = true
      this.#inFlight++
      this.#sessions.set(sender, (this.#sessions.get(sender) ?? 0) + 1)
    }
  }

  #refusal(sender: string): CMeshError | undefined {
    if (this.#inFlight === 0) return undefined
    if (this.#inFlight >= this.#inAll) return new CMeshError('CMESH_ROUTER_BUSY', { what: 'This node', limit: this.#inAll, retryAfterMs: RETRY_AFTER_MS })
    if ((this.#sessions.get(sender) ?? 0) < this.#perSession) return undefined
    return new CMeshError('CMESH_ROUTER_BUSY', { what: 'This session', limit: this.#perSession, retryAfterMs: RETRY_AFTER_MS })
  }

  #leave(sender: string): void {
    this.#inFlight--
    const left = (this.#sessions.get(sender) ?? 1) - 1
    if (left === 0) this.#sessions.delete(sender)
    else this.#sessions.set(sender, left)
    if (this.#inFlight > 0) return
    for (const resolve of this.#idle.splice(0)) resolve()
  }
}

function unlessDisconnected(thrown: unknown): void {
  const { code } = CMeshError.from(thrown, 'the router')
  if (code !== 'CMESH_BUS_DISCONNECTED' && code !== 'CMESH_BUS_CLOSED') throw thrown
}
