/**
 * Request correlation: gives every request a reply subject of its own and hands the answer, or the reason why none will come,
 * to whoever waits for it. It owns the requests in flight and their time-outs; it does no I/O: publishing is a function it is
 * given, and what arrives on the inbox is brought to it by `onReply`.
 *
 * Invariants: (1) a request settles exactly once; (2) never more than `maxPending` are in flight; (3) what settled leaves
 * nothing behind, neither a timer nor a listener; (4) once closed it takes nothing and holds nothing; (5) a request that is sent
 * again still takes the answer to what was sent before, and at most `RESENT` wait at once that were.
 */
import { AbortGroups } from './abort-groups.ts'
import { CMeshError } from './errors.ts'
import { InFlight } from './in-flight.ts'
import { TimerNode, TimerWheel } from './timer-wheel.ts'

/** Bounds and defaults of requests, in ms and requests. */
export const REQUEST = Object.freeze({ timeoutMs: 5_000, timeoutMaxMs: 300_000, maxPending: 65_536 })
/** Where whoever answers is slow for want of time, more of the same makes it slower: this bounds how much more there is. */
const RESENT = 512
/** When one that may not be sent again now is looked at next, in ms. */
const FULL_MS = 100

export interface CorrelatorOptions {
  /** Sends `data` to `subject` and names `replySubject` for the answer. May throw: the request then rejects with that error. */
  readonly publish: (subject: string, data: Uint8Array, replySubject: string) => void
  /** What every reply subject begins with, without a trailing dot; the owner subscribes to `<inbox>.*`. Not guessable. */
  readonly inbox: string
  /** Most requests in flight; one more is refused with `CMESH_BUS_BUSY`. 1 to 1,048,576. Default 65,536. */
  readonly maxPending?: number
  /** Monotonic clock in ms. Default `performance.now`. */
  readonly now?: () => number
  /** Resolution of time-outs in ms, 1 to 1,000. Default 20. */
  readonly tickMs?: number
}

export interface CorrelatedRequestOptions {
  /** How long to wait in ms, 1 to 300,000; up to two ticks more pass before the request gives up. Default 5,000. */
  readonly timeoutMs?: number
  /** Gives the request up. One signal may serve any number of requests. */
  readonly signal?: AbortSignal | undefined
  /**
   * After so long without an answer, in ms from 1 on, the same message is sent again, then after twice as long, and so on while the
   * time-out lasts. For what may be done twice. `data` must not change until the request settles then. Default: it is sent once.
   */
  readonly resendMs?: number | undefined
  /** Told before each time it is sent again. Must not throw. */
  onResend?(): void
}

class Pending<T> extends TimerNode {
  readonly id: number
  readonly subject: string
  readonly timeoutMs: number
  readonly options: CorrelatedRequestOptions | undefined
  readonly resolve: (value: T) => void
  readonly reject: (error: CMeshError) => void
  /** What is sent again; `undefined` where nothing is. */
  readonly data: Uint8Array | undefined
  /** How long it waits before it is sent again, and how much of its time is left then, in ms. */
  waitMs: number
  leftMs: number
  resent = false

  constructor(
    id: number, subject: string, data: Uint8Array, timeoutMs: number, options: CorrelatedRequestOptions | undefined,
    resolve: (value: T) => void, reject: (error: CMeshError) => void,
  ) {
    super()
    const resendMs = options?.resendMs ?? timeoutMs
    this.id = id
    this.subject = subject
    this.timeoutMs = timeoutMs
    this.options = options
    this.resolve = resolve
    this.reject = reject
    this.data = resendMs < timeoutMs ? data : undefined
    this.waitMs = Math.min(resendMs, timeoutMs)
    this.leftMs = timeoutMs - this.waitMs
  }
}

/** Ids wrap so that they stay small integers. No request lives through the 2^30 requests it takes to meet its own id again. */
const ID_MASK = 0x3fff_ffff

/** `T` is what an answer resolves to: the bytes, or whatever its owner makes of them before it calls `onReply`. */
export class Correlator<T = Uint8Array> {
  readonly #publish: (subject: string, data: Uint8Array, replySubject: string) => void
  readonly #prefix: string
  readonly #maxPending: number
  readonly #wheel: TimerWheel<Pending<T>>
  readonly #pending = new InFlight<number, Pending<T>>()
  readonly #aborts = new AbortGroups<Pending<T>>((pending, error) => {
    this.#release(pending)
    pending.reject(error)
  })
  #resent = 0
  #sequence = 0
  #late = 0
  #state: 'open' | 'draining' | 'closed' = 'open'
  #drained: Promise<void> | undefined
  #onEmpty: (() => void) | undefined

  constructor(options: CorrelatorOptions) {
    this.#publish = options.publish
    this.#prefix = `${options.inbox}.`
    this.#maxPending = options.maxPending ?? REQUEST.maxPending
    this.#wheel = new TimerWheel<Pending<T>>({
      onExpire: (pending) => this.#expire(pending),
      ...(options.now && { now: options.now }),
      ...(options.tickMs !== undefined && { tickMs: options.tickMs }),
    })
  }

  /** Requests in flight. */
  get pending(): number {
    return this.#pending.size
  }

  /** Answers that came for nobody: too late, twice, or never asked for. */
  get late(): number {
    return this.#late
  }

  /**
   * Sends a request and resolves with its answer. `data` belongs to the callee until the request has left, which is the end of
   * the current turn. Rejects with `CMESH_BUS_TIMEOUT`, `CMESH_BUS_NO_RESPONDERS`, `CMESH_BUS_BUSY`, `CMESH_BUS_CLOSED`,
   * `CMESH_CLIENT_ABORTED`, `CMESH_CLIENT_USAGE` (a time-out out of range), what `publish` threw, or what `fail` was given.
   */
  request(subject: string, data: Uint8Array, options?: CorrelatedRequestOptions): Promise<T> {
    return new Promise<T>((resolve, reject) => { this.ask(subject, data, options, resolve, reject) })
  }

  /** `request` with callbacks, of which exactly one is called, once; it must not throw. For paths on which a promise counts. */
  ask(
    subject: string, data: Uint8Array, options: CorrelatedRequestOptions | undefined,
    resolve: (value: T) => void, reject: (error: CMeshError) => void,
  ): void {
    const timeoutMs = options?.timeoutMs ?? REQUEST.timeoutMs
    const signal = options?.signal
    const refusal = this.#refusal(timeoutMs, signal)
    if (refusal !== undefined) {
      reject(refusal)
      return
    }
    const id = this.#sequence = (this.#sequence + 1) & ID_MASK
    const pending = new Pending<T>(id, subject, data, timeoutMs, options, resolve, reject)
    this.#pending.add(id, pending)
    this.#wheel.add(pending, pending.waitMs)
    if (signal !== undefined) this.#aborts.watch(signal, pending)
    try {
      this.#publish(subject, data, this.#prefix + id)
    } catch (thrown) {
      this.#release(pending)
      reject(CMeshError.from(thrown, 'bus'))
    }
  }

  /** Brings an answer. Returns whether somebody waited for it; a late or second one is counted and dropped. */
  onReply(replySubject: string, value: T): boolean {
    const pending = this.#take(replySubject)
    if (pending === undefined) return false
    pending.resolve(value)
    return true
  }

  /** The same by the last token of the reply subject, a number. */
  onReplyTo(id: number, value: T): boolean {
    const pending = this.#pending.get(id)
    if (pending === undefined) {
      this.#late++
      return false
    }
    this.#release(pending)
    pending.resolve(value)
    return true
  }

  /** Brings the broker's word that nobody listens on the request's subject. Where it was sent before, whoever took it then may still answer. */
  onNoResponders(replySubject: string): boolean {
    const pending = this.#find(replySubject)
    if (pending === undefined) return false
    if (pending.resent) return true
    this.#release(pending)
    pending.reject(new CMeshError('CMESH_BUS_NO_RESPONDERS', { subject: pending.subject }))
    return true
  }

  /** Rejects every request in flight with this one error; new requests are taken as before. */
  fail(error: CMeshError): void {
    this.#failThose(() => true, error)
  }

  /** Rejects the requests in flight to one subject, as when the broker forbids it. Looks at all that are in flight. */
  failSubject(subject: string, error: CMeshError): void {
    this.#failThose(pending => pending.subject === subject, error)
  }

  #failThose(isMeant: (pending: Pending<T>) => boolean, error: CMeshError): void {
    for (const pending of this.#pending.values()) {
      // One that was told may have given another one up.
      if (!isMeant(pending) || this.#pending.get(pending.id) !== pending) continue
      this.#release(pending)
      pending.reject(error)
    }
  }

  /** Takes no new requests, waits for those in flight (their time-outs bound the wait), then closes. Memoised. */
  drain(): Promise<void> {
    this.#drained ??= this.#drain()
    return this.#drained
  }

  /** Closes at once; requests in flight reject with `error`, by default `CMESH_BUS_CLOSED`. Idempotent. */
  close(error: CMeshError = new CMeshError('CMESH_BUS_CLOSED')): void {
    this.#state = 'closed'
    this.fail(error)
    this.#wheel.stop()
  }

  /** Times out what is due. Its own timer calls this; a test with its own clock calls it after moving that clock. */
  turn(): void {
    this.#wheel.turn()
  }

  async #drain(): Promise<void> {
    if (this.#state === 'open') this.#state = 'draining'
    if (this.#pending.size > 0) await new Promise<void>((resolve) => { this.#onEmpty = resolve })
    this.close()
  }

  #refusal(timeoutMs: number, signal: AbortSignal | undefined): CMeshError | undefined {
    if (this.#state !== 'open') return new CMeshError('CMESH_BUS_CLOSED')
    if (this.#pending.size >= this.#maxPending) return new CMeshError('CMESH_BUS_BUSY', { limit: this.#maxPending })
    if (signal?.aborted === true) return new CMeshError('CMESH_CLIENT_ABORTED', {}, { cause: signal.reason })
    if (timeoutMs >= 1 && timeoutMs <= REQUEST.timeoutMaxMs) return undefined
    return new CMeshError('CMESH_CLIENT_USAGE', { reason: `timeoutMs must be 1 to ${REQUEST.timeoutMaxMs}, not ${timeoutMs}.` })
  }

  #take(replySubject: string): Pending<T> | undefined {
    const pending = this.#find(replySubject)
    if (pending !== undefined) this.#release(pending)
    return pending
  }

  #find(replySubject: string): Pending<T> | undefined {
    const ours = replySubject.startsWith(this.#prefix)
    const pending = ours ? this.#pending.get(+replySubject.slice(this.#prefix.length)) : undefined
    if (pending === undefined) this.#late++
    return pending
  }

  #expire(pending: Pending<T>): void {
    if (pending.data !== undefined && pending.leftMs > 0) return this.#resend(pending, pending.data)
    this.#forget(pending)
    pending.reject(new CMeshError('CMESH_BUS_TIMEOUT', { subject: pending.subject, timeoutMs: pending.timeoutMs }))
  }

  #resend(pending: Pending<T>, data: Uint8Array): void {
    const may = pending.resent || this.#resent < RESENT
    if (may) pending.waitMs *= 2
    const waitMs = Math.min(may ? pending.waitMs : FULL_MS, pending.leftMs)
    pending.leftMs -= waitMs
    // Less than a tick of the wheel: nobody could have answered what was sent again.
    if (!this.#wheel.addAgain(pending, pending.timeoutMs - pending.leftMs)) return this.#expire(pending)
    if (!may) return
    if (!pending.resent) this.#resent++
    pending.resent = true
    pending.options?.onResend?.()
    try {
      this.#publish(pending.subject, data, this.#prefix + pending.id)
    } catch (thrown) {
      this.#release(pending)
      pending.reject(CMeshError.from(thrown, 'bus'))
    }
  }

  #release(pending: Pending<T>): void {
    this.#wheel.remove(pending)
    this.#forget(pending)
  }

  #forget(pending: Pending<T>): void {
    this.#pending.delete(pending.id)
    if (pending.resent) this.#resent--
    const signal = pending.options?.signal
    if (signal !== undefined) this.#aborts.unwatch(signal, pending)
    if (this.#onEmpty !== undefined && this.#pending.size === 0) this.#onEmpty()
  }
}
