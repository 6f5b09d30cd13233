/**
 * The courier: carries messages of contracts from the outbox to whom they are for, and brings the answers back into the log. What
 * it has to do stands in the system space, so a courier that was killed is followed by one that goes on where the log says.
 *
 * Invariants:
 * 1. A message that is under way is carried until its answer is ordered; how often it takes does not show, since deliveries
 *    have one id and the first answer takes the message out.
 * 2. At most `inFlight` are carried at once; the others wait in the log, and contracts may not have more than so many there.
 * 3. An addressee that fails is an answer, and so is one that says nothing for `patienceMs`. That this node can ask nobody is none.
 */
import { CMeshError } from '../../cmtp/errors.ts'
import { LIMITS } from '../../cmtp/limits.ts'
import type { Clock } from '../clock.ts'
import type { Log } from '../log.ts'
import { wasNotAsked } from '../not-asked.ts'
import type { Delivered, OutboxMessage } from './messages.ts'

export interface CourierParts {
  /** The message as it stands in the log; `undefined` once it is answered. */
  readonly read: (id: string) => OutboxMessage | undefined
  /** Asks the addressee. Rejects with an error of class `retry`, or an unknown outcome, when asking again may help. */
  readonly deliver: (message: OutboxMessage) => Promise<Delivered>
  /** Orders the answer; resolves when it is durable. */
  readonly answer: (id: string, delivered: Delivered) => Promise<void>
  readonly clock: Clock
  readonly log: Log
  /** Most messages carried at once. Default 32. */
  readonly inFlight?: number
  /** First pause before trying again, in ms; doubled up to 5 s. Default 100. */
  readonly retryMs?: number
  /** How long an addressee is asked again, in ms. Default 30,000. */
  readonly patienceMs?: number
  /** Whether this node carries for all members: the others wait until it has, or they must. Default: it does. */
  readonly onDuty?: () => boolean
}

const RETRY_MAX_MS = 5_000
/** How often who is not on duty looks whether a message was answered, in ms. */
const LOOK_MS = 200
/** How long a stop waits for what is being carried, in ms. */
const STOP_MS = 2_000

export class Courier {
  /** Messages answered, by whether their addressee did what it was asked. */
  readonly stats = { delivered: 0, failed: 0 }
  readonly #parts: CourierParts
  /** Ids that wait or are carried. */
  readonly #known = new Set<string>()
  #queue: string[] = []
  #carried = 0
  #started = false
  #stopping = false
  #stopped = false
  readonly #wakes = new Set<() => void>()
  #idle: (() => void)[] = []

  constructor(parts: CourierParts) {
    this.#parts = parts
  }

  /** Messages that are not answered yet, as far as this courier was told. */
  get pending(): number {
    return this.#known.size
  }

  /** Takes up a message whose block is durable. One that is known already, or came after the stop, is left. */
  add(id: string): void {
    if (this.#stopping || this.#known.has(id)) return
    this.#known.add(id)
    this.#queue.push(id)
    this.#pump()
  }

  /** From now on messages are carried: whom they are for can be reached. */
  start(): void {
    this.#started = true
    this.#pump()
  }

  /** Resolves when nothing waits any more. */
  flush(): Promise<void> {
    return this.#known.size === 0 || this.#stopped ? Promise.resolve() : new Promise(resolve => { this.#idle.push(resolve) })
  }

  /** Takes nothing new, waits a little for what is being carried, then lets it be: the next courier goes on. Idempotent. */
  async stop(): Promise<void> {
    if (this.#stopping) return
    this.#stopping = true
    for (const id of this.#queue.splice(0)) this.#known.delete(id)
    for (const wake of this.#wakes) wake()
    const enough = setTimeout(() => { this.halt() }, STOP_MS)
    await this.flush()
    clearTimeout(enough)
    this.halt()
  }

  /** Stops at once. */
  halt(): void {
    this.#stopping = true
    this.#stopped = true
    for (const wake of this.#wakes) wake()
    this.#settle()
  }

  #pump(): void {
    const most = this.#parts.inFlight ?? 32
    while (this.#started && !this.#stopping && this.#carried < most) {
      const id = this.#queue.shift()
      if (id === undefined) return
      this.#carried++
      void this.#carry(id).finally(() => {
        this.#carried--
        this.#known.delete(id)
        if (this.#known.size === 0) this.#settle()
        this.#pump()
      })
    }
  }

  /** Never rejects. */
  async #carry(id: string): Promise<void> {
    const { clock, retryMs = 100, patienceMs = 30_000, onDuty = () => true } = this.#parts
    while (!onDuty() && !this.#stopping && this.#parts.read(id) !== undefined) await this.#pause(LOOK_MS)
    if (this.#stopping) return
    let sinceMs = clock.nowMs()
    let delivered: Delivered | undefined
    for (let delayMs = retryMs; !this.#stopped; delayMs = Math.min(delayMs * 2, RETRY_MAX_MS)) {
      try {
        const message = this.#parts.read(id)
        if (message === undefined) return
        delivered ??= message.delivered ?? bounded(await this.#parts.deliver(message))
        if (this.#stopped) return
        await this.#parts.answer(id, delivered)
        this.stats[delivered.status < 400 ? 'delivered' : 'failed']++
        return
      } catch (thrown) {
        const error = CMeshError.from(thrown, 'the courier', id)
        if (this.#stopping) return
        // Nobody's patience is used up while nobody can be asked.
        if (wasNotAsked(error)) sinceMs = clock.nowMs()
        // Whether a write was done is in the log; it is asked for until the log says.
        const unknown = error.code === 'CMESH_ROUTER_UNKNOWN_OUTCOME'
        if (delivered === undefined && !unknown && clock.nowMs() - sinceMs >= patienceMs) delivered = failure(error)
        this.#parts.log.warn({ err: error, code: error.code, message: id }, 'a message of a contract could not be carried; trying again')
        await this.#pause(delayMs)
        if (this.#stopping) return
      }
    }
  }

  #settle(): void {
    for (const resolve of this.#idle.splice(0)) resolve()
  }

  #pause(ms: number): Promise<void> {
    return new Promise(resolve => {
      const done = (): void => {
        clearTimeout(timer)
        this.#wakes.delete(done)
        resolve()
      }
      const timer = setTimeout(done, ms)
      this.#wakes.add(done)
    })
  }
}

/** The answer that an error is. */
export function failure(error: CMeshError, gas = 0): Delivered {
  return { status: error.status, gas, body: JSON.stringify(error.toWire()) }
}

/** The answer, or the refusal of one that is larger than any function may take. */
function bounded(delivered: Delivered): Delivered {
  const bytes = Buffer.byteLength(delivered.body)
  if (bytes <= LIMITS.stateValueBytes) return delivered
  return failure(new CMeshError('CMESH_FRAME_TOO_LARGE', { part: 'answer to a contract', bytes, limit: LIMITS.stateValueBytes }), delivered.gas)
}
