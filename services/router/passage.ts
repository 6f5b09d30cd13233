/** One request on its way through the front door: the call that services see, and what only the router knows of it. */
import { randomFillSync } from 'node:crypto'
import type { Route } from '../../cmtp/fqmn.ts'
import { SALT_BYTES, type Layer } from '../../cmtp/layer.ts'
import type { ReceiptLevel } from '../../cmtp/wire.ts'
import type { Call } from '../call.ts'
import type { AuthContext } from '../iam/guard.ts'

/** Where a message came from. */
export interface Origin {
  /** Session id of the subject it came on. */
  readonly sid: string
  /** Where its answer goes; empty in process. */
  readonly replySubject: string
}

/** What a frame, or an entry of a batch, says about one request. */
export interface RequestParts {
  readonly id: Uint8Array
  readonly receipt: ReceiptLevel
  readonly token: Uint8Array
  readonly headers: Uint8Array
  readonly body: Uint8Array
  readonly deadlineMs: number
  readonly hops: number
}

export class Passage implements Call {
  readonly id: Uint8Array
  readonly receipt: ReceiptLevel
  readonly token: Uint8Array
  readonly headers: Uint8Array
  readonly body: Uint8Array
  readonly deadlineMs: number
  readonly hops: number
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
  proposed = false

  constructor(parts: RequestParts, origin: Origin, asked: Route, startUs: number) {
    this.id = parts.id
    this.receipt = parts.receipt
    this.token = parts.token
    this.headers = parts.headers
    this.body = parts.body
    this.deadlineMs = parts.deadlineMs
    this.hops = parts.hops
    this.sid = origin.sid
    this.replySubject = origin.replySubject
    this.asked = asked
    this.route = asked
    this.startUs = startUs
    this.markUs = startUs
  }

  /** The salt of the hashes in this request's layers; made now if no hop needed one. */
  saltOrFresh(): Buffer {
    this.salt ??= randomFillSync(Buffer.allocUnsafe(SALT_BYTES))
    return this.salt
  }
}
