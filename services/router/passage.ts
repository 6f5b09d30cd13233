/** One request on its way through the front door: the call that services see, and what only the router knows of it. */
import { randomFillSync } from 'node:crypto'
import type { Route } from '../../cmtp/fqmn.ts'
import { SALT_BYTES, type Layer } from '../../cmtp/layer.ts'
import type { ReceiptLevel } from '../../cmtp/wire.ts'
import type { Call } from '../call.ts'
import type { AuthContext } from '../iam/guard.ts'
import type { Trace } from '../traces/trace.ts'

/** Where a message came from. */
export interface Origin {
  /** Session id of the subject it came on. */
  readonly sid: string
  /** The session of the gateway whose connection it came over, where that is not its own. */
  readonly via?: string | undefined
  /** Where its answer goes; empty in process. */
  readonly replySubject: string
}

/** What a request frame says, or a batch frame for all of its entries. */
export interface Envelope {
  readonly receipt: ReceiptLevel
  readonly token: Uint8Array
  readonly deadlineMs: number
  readonly hops: number
}

export class Passage implements Call {
  readonly id: Uint8Array
  readonly receipt: ReceiptLevel
  readonly headers: Uint8Array
  readonly body: Uint8Array
  readonly deadlineMs: number
  readonly sid: string
  readonly replySubject: string
  /** The address that was asked for. */
  readonly asked: Route
  readonly startUs: number
  readonly layers: Layer[] = []
  route: Route
  auth: AuthContext | undefined = undefined
  markUs: number
  salt: Buffer | undefined = undefined
  argumentsHash: string | undefined = undefined
  proposed = false
  fresh = false
  trace: Trace | undefined = undefined
  readonly #envelope: Envelope

  constructor(envelope: Envelope, id: Uint8Array, headers: Uint8Array, body: Uint8Array, origin: Origin, asked: Route, startUs: number) {
    this.#envelope = envelope
    this.id = id
    this.receipt = envelope.receipt
    this.headers = headers
    this.body = body
    this.deadlineMs = envelope.deadlineMs
    this.sid = origin.sid
    this.replySubject = origin.replySubject
    this.asked = asked
    this.route = asked
    this.startUs = startUs
    this.markUs = startUs
  }

  get token(): Uint8Array {
    return this.#envelope.token
  }

  get hops(): number {
    return this.#envelope.hops
  }

  /** The salt of the hashes in this request's layers; made now if no hop needed one. */
  saltOrFresh(): Buffer {
    this.salt ??= randomFillSync(Buffer.allocUnsafe(SALT_BYTES))
    return this.salt
  }
}
