/**
 * A client of one mesh, under one identity: what a program calls. It owns its session, and the connection too unless another
 * client opened it there (`as`), and closes what it owns; every method is safe to call concurrently.
 *
 *   connect → open → closing (waits for what is in flight) → closed
 *
 * Errors are `CMeshError`: branch on `code`. Unless stated otherwise a method rejects with the error of the mesh's reply, or
 * with `CMESH_BUS_DISCONNECTED`, `CMESH_BUS_TIMEOUT`, `CMESH_BUS_BUSY`, `CMESH_ROUTER_UNKNOWN_OUTCOME` (a write that got no
 * answer), `CMESH_CLIENT_ABORTED`, `CMESH_CLIENT_CLOSED` or `CMESH_CLIENT_USAGE`.
 */
import { CMeshError } from '../cmtp/errors.ts'
import { KeyPair } from '../cmtp/identity/keys.ts'
import { LIMITS } from '../cmtp/limits.ts'
import type { Ask } from './attempt.ts'
import { BATCH_CHECKS, CALL_CHECKS, fieldsOf, isSigned, isWrite, partsOf, type BatchEntry, type BatchOptions, type CallOptions } from './call.ts'
import type { ConnectOptions } from './connect.ts'
import type { ConnectionStatus } from './connection.ts'
import { MeshVerbs } from './mesh-verbs.ts'
import { anything, checkOptions, usage } from './options.ts'
import { Reply } from './reply.ts'
import { Requester } from './requester.ts'
import { SessionKeeper } from './session.ts'
import type { MeshClientParts } from './shared-connection.ts'

export class MeshClient extends MeshVerbs {
  readonly #parts: MeshClientParts
  readonly #requester: Requester
  /** How a request without options is asked. */
  readonly #plain: Ask
  #closed: Promise<void> | undefined
  /** The highest sequence at which a write of this client was acknowledged. */
  #seen = 0

  /** Use `connect`. */
  constructor(parts: MeshClientParts) {
    const { identity, connection, onWarning } = parts
    // Not `this.call`: a subscription still says good-bye when the client takes no more calls.
    super({ call: (fqmn, options) => this.#send(fqmn, { ...options, throwOnError: true }), identity, connection, onWarning })
    this.#parts = parts
    this.#requester = new Requester({ ...parts, closing: parts.closing.signal, now: Date.now, noted: (reply) => { this.#noted(reply) } })
    this.#plain = Object.freeze({ ...parts.defaults, signal: undefined })
  }

  /** The DID this client acts as. */
  get did(): string {
    return this.#parts.identity.did
  }

  /** The mesh's DID; `undefined` until the first session. */
  get mesh(): string | undefined {
    return this.#parts.sessions.mesh
  }

  /** The broker's URL. */
  get url(): string {
    return this.#parts.connection.url
  }

  get connection(): ConnectionStatus {
    return this.#parts.connection.status
  }

  /** Requests in flight. */
  get pending(): number {
    return this.#parts.connection.pending
  }

  /** Settled requests of this client that were sent more than once: nobody had answered them, or not for good. */
  get resent(): number {
    return this.#requester.resent
  }

  /**
   * Calls an address and resolves with its reply. A status of 400 and above rejects with its `CMeshError`, unless
   * `throwOnError` is false.
   */
  call(fqmn: string, options?: CallOptions): Promise<Reply> {
    if (this.#closed !== undefined) return Promise.reject(new CMeshError('CMESH_CLIENT_CLOSED'))
    const isPlain = options === undefined && this.#parts.trace === undefined && !isSigned(fqmn)
    return isPlain ? this.#requester.request(fqmn, undefined, this.#plain) : this.#send(fqmn, options ?? {})
  }

  /** How far the log went when a write was acknowledged, for views that have to show it. */
  #noted(reply: Reply): void {
    const seq = Reply.sequenceOf(reply)
    if (seq > this.#seen) this.#seen = seq
  }

  /** The options with the headers that say how fresh the view has to be, and which code a write is for. */
  #headed(options: CallOptions): CallOptions {
    const { read = 'local', ifMatch, headers } = options
    if (read === 'local' && ifMatch === undefined) return options
    return {
      ...options,
      headers: {
        ...headers, ...(read !== 'local' && { 'x-cmesh-read': read }), ...(read === 'session' && { 'x-cmesh-after': String(this.#seen) }),
        ...(ifMatch !== undefined && { 'if-match': `"${ifMatch}"` }),
      },
    }
  }

  /** With the headers that say which trace it belongs to, unless its own do. */
  #traced<T extends Pick<CallOptions, 'headers'>>(request: T): T {
    const { trace } = this.#parts
    if (trace === undefined || Object.keys(request.headers ?? {}).some((name) => name.toLowerCase() === 'traceparent')) return request
    return { ...request, headers: { ...trace(), ...request.headers } }
  }

  #send(fqmn: string, options: CallOptions): Promise<Reply> {
    try {
      checkOptions('a call', options, CALL_CHECKS)
      const parts = partsOf(this.#traced(this.#headed(options)), options.idempotencyKey)
      return this.#requester.request(fqmn, isSigned(fqmn) ? { ...parts, signer: this.#parts.identity } : parts, this.#ask(options))
    } catch (thrown) {
      return Promise.reject(CMeshError.from(thrown, 'the client'))
    }
  }

  /**
   * Sends 1 to 1,024 independent requests in one message and resolves with their replies, in order. An entry that fails has
   * its status and error in its reply; the batch rejects only when it fails as a whole.
   */
  async batch(entries: readonly BatchEntry[], options: BatchOptions = {}): Promise<Reply[]> {
    if (this.#closed !== undefined) throw new CMeshError('CMESH_CLIENT_CLOSED')
    checkOptions('a batch', options, BATCH_CHECKS)
    if (entries.length === 0 || entries.length > LIMITS.batchEntries) throw usage(`A batch has 1 to ${LIMITS.batchEntries} entries, not ${entries.length}.`)
    const replies = await this.#requester.batch(entries.map(entry => fieldsOf(this.#traced(entry))), this.#ask(options))
    entries.forEach(({ fqmn }, i) => { if (isWrite(fqmn)) this.#noted(replies[i] as Reply) })
    return replies
  }

  /**
   * A client under another identity on the same connection: for gateways, which act for many. It has the defaults of this one and a
   * session of its own, which it renews; its reads may leave in one frame with those of the others. Closing it ends nobody else, and
   * what it has in flight is still answered; closing the client that `connect` gave ends all. One handshake, not tried again: rejects with
   * what that fails with (`CMESH_IAM_*`, `CMESH_BUS_*`), `CMESH_CLIENT_USAGE` or `CMESH_CLIENT_CLOSED`. `onChallenge` is as for `connect`,
   * for the person behind this identity.
   */
  async as(identity: KeyPair, options: Pick<ConnectOptions, 'onChallenge'> = {}): Promise<MeshClient> {
    checkOptions('as', options, { onChallenge: anything })
    if (this.#closed !== undefined) throw new CMeshError('CMESH_CLIENT_CLOSED')
    if (!(identity instanceof KeyPair)) throw usage('The identity of another client on this connection is a KeyPair.')
    const { gateway, connection, ids, carried, onWarning } = this.#parts
    const person = options.onChallenge === undefined ? {} : { onChallenge: options.onChallenge }
    const sessions = new SessionKeeper({ connection, ids, identity, mesh: this.mesh, memory: undefined, gateway, person, onWarning, now: Date.now })
    try {
      await sessions.ensure()
      if (this.#closing()) throw new CMeshError('CMESH_CLIENT_CLOSED')
    } catch (error) {
      sessions.close()
      throw this.#closing() ? new CMeshError('CMESH_CLIENT_CLOSED', {}, { cause: error }) : error
    }
    const client = new MeshClient({ ...this.#parts, sessions, identity, closing: new AbortController() })
    carried.add(client)
    return client
  }

  /**
   * Closes, and ends the session at the mesh, where it would otherwise live until it expires; a kept one is forgotten. For who has
   * nothing in flight: that ends too. Rejects with what the mesh says, and is closed all the same. Memoised with `close`.
   */
  hangup(): Promise<void> {
    this.#closed ??= this.#close(true)
    return this.#closed
  }

  /**
   * Takes no new calls, ends subscriptions, waits up to `drainMs` for what is in flight, closes the connection. A client that `as` gave
   * leaves the connection and what is in flight on it alone. Idempotent.
   */
  close(): Promise<void> {
    this.#closed ??= this.#close(false)
    return this.#closed
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close()
  }

  async #close(hangup: boolean): Promise<void> {
    const { closing, sessions, gateway, carried, connection, drainMs } = this.#parts
    const owner = sessions === gateway
    closing.abort()
    if (owner) await Promise.all([...carried].map((client) => client.close()))
    else carried.delete(this)
    await this.endSubscriptions()
    try {
      // Once it has ended it is not to be followed by another.
      if (hangup || !owner) sessions.close()
      if (hangup) await sessions.hangup()
    } finally {
      if (owner) {
        // What was asked in this turn leaves at its end.
        await new Promise((resolve) => { setImmediate(resolve) })
        await connection.drain(drainMs)
        sessions.close()
      }
    }
  }

  #closing(): boolean {
    return this.#closed !== undefined
  }

  #ask({ timeoutMs, receipt, retry, resendMs, throwOnError, signal }: CallOptions): Ask {
    const own = timeoutMs ?? receipt ?? retry ?? resendMs ?? throwOnError ?? signal
    if (own === undefined) return this.#plain
    const { defaults } = this.#parts
    return {
      timeoutMs: timeoutMs ?? defaults.timeoutMs,
      receipt: receipt ?? defaults.receipt,
      retry: retry ?? defaults.retry,
      resendMs: resendMs ?? defaults.resendMs,
      throwOnError: throwOnError ?? defaults.throwOnError,
      signal,
    }
  }
}
