/**
 * Live tails: events of a channel relayed to a client's inbox, on a lease. A client that vanishes stops renewing, and its
 * tail ends with the lease; nothing is kept for it. What was revoked ends at once.
 *
 * Invariants: an inbox lies under the same `_INBOX.<connection>` as the reply subject of the request that asked, so nobody
 * has events sent to somebody else; tails per session and in all are bounded; one timer serves all leases.
 */
import { randomUUID } from 'node:crypto'
import { CMeshError } from '../../cmtp/errors.ts'
import { encodeReply } from '../../cmtp/frame.ts'
import { MessageIds } from '../../cmtp/message-id.ts'
import { INBOX_PREFIX } from '../../cmtp/subject.ts'
import type { Bus } from '../bus/provider.ts'
import { JSON_HEADERS } from '../call.ts'
import type { Clock } from '../clock.ts'
import type { AuthContext, Guard } from '../iam/guard.ts'
import type { Revocation } from '../iam/revocations.ts'
import type { EventsProvider, EventSubscription, MeshEvent } from './provider.ts'

export const TAIL_LEASE_MS = 30_000
const TAILS_PER_SESSION = 64
const TAILS_IN_ALL = 4_096
const SWEEP_MS = 5_000
/** Longest inbox, in bytes: NATS ends a connection that sends a line over 4,096. */
const INBOX_BYTES = 255

export interface TailsParts {
  readonly provider: Pick<EventsProvider, 'subscribe'>
  /** The connection inside the sessions' account: events leave as the replies do. */
  readonly bus: Pick<Bus, 'publish'>
  readonly clock: Clock
  readonly guard: Pick<Guard, 'watch' | 'isRevoked'>
}

export interface TailRequest {
  readonly channel: string
  readonly inbox: string
  /** Who asks. */
  readonly auth: AuthContext
  readonly replySubject: string
  readonly event: (event: MeshEvent) => object
}

interface Tail {
  /** Of the request that opened or renewed it last. */
  auth: AuthContext
  readonly channel: string
  readonly inbox: string
  readonly subscription: EventSubscription
  expiresAtMs: number
}

export interface TailAnswer {
  readonly tail: string
  /** Renew within this time, in ms; 0 once closed. */
  readonly leaseMs: number
}

export class Tails {
  readonly #parts: TailsParts
  readonly #tails = new Map<string, Tail>()
  readonly #ids = new MessageIds()
  #timer: NodeJS.Timeout | undefined

  constructor(parts: TailsParts) {
    this.#parts = parts
    parts.guard.watch(() => undefined, revocation => { this.#revoked(revocation) })
  }

  get size(): number {
    return this.#tails.size
  }

  /** Opens a tail, or renews the one named; one whose lease has ended is opened anew under its id. */
  open(request: TailRequest, id: string = randomUUID()): TailAnswer {
    checkInbox(request)
    const expiresAtMs = this.#parts.clock.nowMs() + TAIL_LEASE_MS
    const known = this.#mine(request, id)
    if (known !== undefined) {
      known.expiresAtMs = expiresAtMs
      known.auth = request.auth
      return { tail: id, leaseMs: TAIL_LEASE_MS }
    }
    const inSession = [...this.#tails.values()].filter(({ auth }) => auth.sid === request.auth.sid).length
    if (inSession >= TAILS_PER_SESSION) throw busy('this session', TAILS_PER_SESSION)
    if (this.#tails.size >= TAILS_IN_ALL) throw busy('this node', TAILS_IN_ALL)
    const { inbox, channel, auth } = request
    const subscription = this.#parts.provider.subscribe(channel, event => {
      const body = Buffer.from(JSON.stringify(request.event(event)))
      this.#parts.bus.publish(inbox, encodeReply({ id: this.#ids.next(), status: 200, receipt: 'none', headers: JSON_HEADERS, body }))
    })
    this.#tails.set(id, { auth, channel, inbox, subscription, expiresAtMs })
    this.#timer ??= setInterval(() => { this.#sweep() }, SWEEP_MS).unref()
    return { tail: id, leaseMs: TAIL_LEASE_MS }
  }

  close(request: TailRequest, id: string | undefined): TailAnswer {
    if (id !== undefined && this.#mine(request, id) !== undefined) this.#end(id)
    return { tail: id ?? '', leaseMs: 0 }
  }

  /** Ends every tail. Idempotent. */
  stop(): void {
    for (const id of [...this.#tails.keys()]) this.#end(id)
  }

  /** The tail, when it is this session's; another session's id is treated as unknown and must not be taken over. */
  #mine(request: TailRequest, id: string): Tail | undefined {
    const tail = this.#tails.get(id)
    if (tail === undefined) return undefined
    if (tail.auth.sid !== request.auth.sid || tail.channel !== request.channel || tail.inbox !== request.inbox) {
      throw new CMeshError('CMESH_EVENTS_TAIL', { reason: 'the tail belongs to another session, channel or inbox' })
    }
    return tail
  }

  /** Ends the tails of whom a revocation bites. The guard is asked only where it may be theirs: there may be thousands of both. */
  #revoked({ sid, sub, jti, kid }: Revocation): void {
    for (const [id, { auth }] of this.#tails) {
      if ((auth.sid === sid || auth.sub === sub || auth.jti === jti || kid !== undefined) && this.#parts.guard.isRevoked(auth)) this.#end(id)
    }
  }

  #sweep(): void {
    const now = this.#parts.clock.nowMs()
    for (const [id, tail] of this.#tails) if (tail.expiresAtMs <= now) this.#end(id)
  }

  #end(id: string): void {
    this.#tails.get(id)?.subscription.close()
    this.#tails.delete(id)
    if (this.#tails.size > 0) return
    clearInterval(this.#timer)
    this.#timer = undefined
  }
}

function checkInbox({ inbox, replySubject }: TailRequest): void {
  const connection = /^_INBOX\.[A-Za-z0-9_-]+\./.exec(replySubject)?.[0]
  if (connection === undefined || inbox.length > INBOX_BYTES || !inbox.startsWith(connection) || !/^[A-Za-z0-9_.-]+$/.test(inbox) || inbox.endsWith('.') || inbox.includes('..')) {
    throw new CMeshError('CMESH_EVENTS_TAIL', { reason: `the inbox must lie under the ${INBOX_PREFIX}… of the connection that asks` })
  }
}

function busy(what: string, limit: number): CMeshError {
  return new CMeshError('CMESH_ROUTER_BUSY', { what, limit, retryAfterMs: TAIL_LEASE_MS })
}
