/**
 * The wrapper around every protected service: check the session, authorise the address, run, close the layer, count. Whose
 * session it is the front door may have found out already; the guard confirms that, and expiry, revocation and permission,
 * here again. The
 * router calls it in process and the service listener calls it for another node; there is no other way in, so no handler
 * ever sees a call that was not checked here.
 *
 * Invariants: a handler is always awaited; whatever it throws becomes a coded reply; the hot path (session known, handler
 * synchronous) allocates no promise.
 */
import { CMeshError } from '../cmtp/errors.ts'
import { argumentsHash, SALT_BYTES, siteAt, type Decision, type Hop, type StatePosition } from '../cmtp/layer.ts'
import { formatMessageId } from '../cmtp/message-id.ts'
import { errorReply, type Call, type Reply } from './call.ts'
import type { Clock } from './clock.ts'
import type { AuthContext, Guard } from './iam/guard.ts'
import type { Log } from './log.ts'
import { randomFillSync } from 'node:crypto'

/** What a handler adds to the layer of its hop. */
export interface HopNotes {
  gas: bigint
  before: StatePosition | undefined
  after: StatePosition | undefined
}

export type ServiceHandler = (call: Call, auth: AuthContext, notes: HopNotes) => Reply | Promise<Reply>

export interface EndpointParts {
  readonly hop: Hop
  readonly node: string
  readonly guard: Guard
  readonly clock: Clock
  readonly log: Log
  readonly handler: ServiceHandler
}

export interface EndpointStats {
  requests: number
  failed: number
  denied: number
  /** Sum over finished requests, µs. */
  busyUs: number
}

export class Endpoint {
  readonly hop: Hop
  readonly stats: EndpointStats = { requests: 0, failed: 0, denied: 0, busyUs: 0 }
  readonly #parts: EndpointParts

  constructor(parts: EndpointParts) {
    this.#parts = parts
    this.hop = parts.hop
  }

  /** Answers a call; never throws, never rejects. */
  readonly call = (call: Call): Reply | Promise<Reply> => {
    const startUs = call.markUs
    this.stats.requests++
    let auth: AuthContext | Promise<AuthContext>
    try {
      auth = call.auth ?? this.#parts.guard.check(call.token, call.sid)
    } catch (error) {
      return this.#fail(call, startUs, error, 'denied', '', undefined)
    }
    if (auth instanceof Promise) {
      return auth.then(
        checked => this.#run(call, checked, startUs),
        (error: unknown) => this.#fail(call, startUs, error, 'denied', '', undefined),
      )
    }
    return this.#run(call, auth, startUs)
  }

  #run(call: Call, auth: AuthContext, startUs: number): Reply | Promise<Reply> {
    let grant: string
    try {
      grant = this.#parts.guard.authorise(auth, call.route)
    } catch (error) {
      this.stats.denied++
      return this.#fail(call, startUs, error, 'denied', '', undefined)
    }
    const notes: HopNotes = { gas: 0n, before: undefined, after: undefined }
    try {
      const reply = this.#parts.handler(call, auth, notes)
      if (!(reply instanceof Promise)) return this.#close(call, startUs, reply, 'allowed', grant, notes)
      return reply.then(
        done => this.#close(call, startUs, done, 'allowed', grant, notes),
        (error: unknown) => this.#fail(call, startUs, error, 'allowed', grant, notes),
      )
    } catch (error) {
      return this.#fail(call, startUs, error, 'allowed', grant, notes)
    }
  }

  #fail(call: Call, startUs: number, thrown: unknown, decision: Decision, grant: string, notes: HopNotes | undefined): Reply {
    const error = CMeshError.from(thrown, this.hop, formatMessageId(call.id))
    if (error.retry === 'bug') {
      this.#parts.log.error({ err: error.cause ?? error, code: error.code, id: formatMessageId(call.id), fqmn: call.route.bare }, 'request failed unexpectedly')
    }
    return this.#close(call, startUs, errorReply(error), decision, grant, notes)
  }

  #close(call: Call, startUs: number, reply: Reply, decision: Decision, grant: string, notes: HopNotes | undefined): Reply {
    call.markUs = this.#parts.clock.nowUs()
    const durationUs = call.markUs - startUs
    this.stats.busyUs += durationUs
    if (reply.status >= 400) this.stats.failed++
    call.layers.push({
      site: siteAt(call.route, this.hop, this.#parts.node),
      decision,
      grant,
      status: reply.status,
      startUs,
      durationUs,
      gas: notes?.gas ?? 0n,
      before: notes?.before,
      after: notes?.after,
      argumentsHash: hashArguments(call),
    })
    return reply
  }
}

/** The salted hash of a call's arguments, for its layer; `undefined` without arguments. */
export function hashArguments(call: Call): string | undefined {
  const { args } = call.route
  if (args === undefined && call.body.length === 0) return undefined
  call.salt ??= randomFillSync(Buffer.allocUnsafe(SALT_BYTES))
  call.argumentsHash ??= argumentsHash(call.salt, args === undefined ? call.body : Buffer.from(args, 'utf8'))
  return call.argumentsHash
}
