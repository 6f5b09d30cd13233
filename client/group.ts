/**
 * A member of a group: takes events of a channel that several share, hands them to a handler, and tells the mesh what became of each.
 *
 *   opening → taking ⇄ waiting → closed
 *
 * Invariants: (1) at most `concurrency` events are with the handler; no more are taken than it can begin with at once, so that nothing waits
 * here while its time runs; (2) a handler that resolved is an ack, one that throws is a nack with its error; (3) after `close` resolved the
 * handler is not called, and what was taken and not begun with is let go.
 */
import { CMeshError } from '../cmtp/errors.ts'
import type { Connection } from './connection.ts'
import { anything, checkOptions, integer, usage } from './options.ts'
import type { ChannelEvent } from './subscription.ts'
import type { VerbCall, VerbOptions } from './verbs.ts'

export interface GroupEvent extends ChannelEvent {
  /** 1 and up: how often the event was handed out, this time included. */
  readonly attempt: number
}

export type GroupHandler = (event: GroupEvent) => unknown

/** What became of an event whose handler threw, once the mesh knows: it is handed out again after `retryMs`, or has used up its attempts. */
export type FailedEvent = {
  readonly event: GroupEvent
  /** What the handler threw, as the mesh was told. */
  readonly error: { readonly code: string, readonly message: string }
} & (
  | { readonly retryMs: number }
  /** The id of its dead letter; null where the channel kept the event no more, so that there is none. */
  | { readonly dead: string | null }
)

/** What holds for all members of a group. */
export interface GroupTerms {
  readonly from: 'new' | 'first' | number
  readonly ackWaitMs: number
  readonly attempts: number
  readonly backoffMs: number
}

/** The first four hold when the group is made; one that is there stays as it is. */
export interface GroupOptions extends VerbOptions {
  /** Events to come, all there are, or from a sequence. Default `new`. */
  readonly from?: 'new' | 'first' | number | undefined
  /** How long a handler may take until the event goes to another member, in ms, 100 to 3,600,000. Default 30,000. */
  readonly ackWaitMs?: number | undefined
  /** How often an event is handed out before it is a dead letter, 1 to 100. Default 5. */
  readonly attempts?: number | undefined
  /** Pause after the first attempt that failed, in ms, 0 to 60,000; doubled each time, up to five minutes. Default 1,000. */
  readonly backoffMs?: number | undefined
  /** Most events that are with the handler at once, 1 to 64. Default 1. */
  readonly concurrency?: number | undefined
  /** Told of each event that the handler did not get done, before the member takes another in its place. One that throws is a warning. */
  readonly onFailed?: ((failed: FailedEvent) => void) | undefined
}

/** A membership that is running. */
export interface GroupMember {
  readonly channel: string
  readonly group: string
  /** As the mesh has them: of a group that was there before, not those that were asked for. */
  readonly terms: GroupTerms
  /** Ends it; resolves once the handlers that run have finished and the mesh knows. Idempotent. */
  close(): Promise<void>
  [Symbol.asyncDispose](): Promise<void>
}

export interface MemberParts {
  readonly call: VerbCall
  readonly connection: Connection
  readonly channel: string
  readonly group: string
  readonly handler: GroupHandler
  readonly options: GroupOptions
  readonly onWarning: (error: CMeshError) => void
  readonly onEnd: () => void
}

type Taken = GroupEvent & { readonly token: string }

/** How long one pull waits for a first event, in ms, and what its answer may take beyond. */
const WAIT_MS = 1_000
const ANSWER_MS = 5_000
/** Pause after a pull that failed, in ms. */
const AGAIN_MS = 500
const SEQUENCE = integer(1, Number.MAX_SAFE_INTEGER)
const CHECKS: Parameters<typeof checkOptions>[2] = {
  from: (value) => (value === 'new' || value === 'first' ? undefined : SEQUENCE(value)),
  ackWaitMs: integer(100, 3_600_000), attempts: integer(1, 100), backoffMs: integer(0, 60_000), concurrency: integer(1, 64),
  onFailed: anything, timeoutMs: anything, signal: anything,
}

export class Member implements GroupMember {
  readonly channel: string
  readonly group: string
  readonly #parts: MemberParts
  readonly #closing = new AbortController()
  readonly #handling = new Set<Promise<void>>()
  #taking: Promise<void> | undefined
  #closed: Promise<void> | undefined
  #terms: GroupTerms | undefined

  /** Throws `CMESH_CLIENT_USAGE`. */
  constructor(parts: MemberParts) {
    checkOptions('a group', parts.options, CHECKS)
    this.#parts = parts
    this.channel = parts.channel
    this.group = parts.group
  }

  get terms(): GroupTerms {
    if (this.#terms === undefined) throw usage('The mesh has not said yet what holds for the group.')
    return this.#terms
  }

  /** Resolves once the mesh has the group; rejects when it refuses, and leaves nothing behind then. */
  async start(): Promise<void> {
    const { options, onEnd } = this.#parts
    try {
      await this.#open(options)
    } catch (error) {
      onEnd()
      throw error
    }
    options.signal?.addEventListener('abort', () => void this.close(), { once: true, signal: this.#closing.signal })
    this.#taking = this.#take()
  }

  close(): Promise<void> {
    this.#closed ??= this.#close()
    return this.#closed
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close()
  }

  async #close(): Promise<void> {
    this.#closing.abort()
    await this.#taking
    await Promise.all(this.#handling)
    this.#parts.onEnd()
  }

  async #open({ timeoutMs, signal }: VerbOptions): Promise<void> {
    const { from, ackWaitMs, attempts, backoffMs } = this.#parts.options
    this.#terms = (await this.#ask('open', { from, ackWaitMs, attempts, backoffMs }, { timeoutMs, signal })).json<GroupTerms>()
  }

  /** Never rejects. */
  async #take(): Promise<void> {
    const { options, onWarning, connection } = this.#parts
    const { signal } = this.#closing
    const concurrency = options.concurrency ?? 1
    while (!signal.aborted) {
      if (this.#handling.size >= concurrency) await Promise.race(this.#handling)
      if (signal.aborted) return
      try {
        const max = concurrency - this.#handling.size
        for (const taken of await this.#pull(max)) this.#begin(taken)
      } catch (thrown) {
        if (signal.aborted) return
        const error = CMeshError.from(thrown, 'a member of a group')
        if (error.code === 'CMESH_EVENTS_NO_GROUP') await this.#open({ signal }).catch(onWarning)
        else if (connection.status === 'connected') onWarning(error)
        await pause(AGAIN_MS, signal)
      }
    }
  }

  async #pull(max: number): Promise<readonly Taken[]> {
    // Not given up when it closes: what it takes meanwhile would be held back from the others.
    // Sent once: what two pulls of one member take, one of them takes in vain.
    const timeoutMs = WAIT_MS + ANSWER_MS
    const reply = this.#ask('pull', { max, waitMs: WAIT_MS }, { timeoutMs, resendMs: timeoutMs })
    return (await reply).json<readonly Taken[]>()
  }

  #begin(taken: Taken): void {
    const handling = this.#handle(taken).finally(() => { this.#handling.delete(handling) })
    this.#handling.add(handling)
  }

  /** Never rejects. */
  async #handle({ token, ...event }: Taken): Promise<void> {
    const { handler, onWarning, options: { onFailed } } = this.#parts
    try {
      if (this.#closing.signal.aborted) {
        await this.#ask('nack', { token, delayMs: 0, error: { code: 'CMESH_CLIENT_CLOSED', message: 'The member has closed.' } })
        return
      }
      const error = await outcomeOf(handler, event)
      if (error === undefined) {
        await this.#ask('ack', { tokens: [token] })
        return
      }
      const became = (await this.#ask('nack', { token, error })).json<{ readonly retryMs: number } | { readonly dead: string | null }>()
      this.#tell(onFailed, { event, error, ...became })
    } catch (thrown) {
      // The mesh hands the event out again when its time is over.
      onWarning(CMeshError.from(thrown, 'a member of a group'))
    }
  }

  #tell(onFailed: GroupOptions['onFailed'], failed: FailedEvent): void {
    try {
      onFailed?.(failed)
    } catch (thrown) {
      this.#parts.onWarning(CMeshError.from(thrown, 'onFailed of a member'))
    }
  }

  #ask(action: string, body: object, options: VerbOptions & { readonly resendMs?: number } = {}): ReturnType<VerbCall> {
    return this.#parts.call(`0xEW:${this.channel}:${this.group}:${action}`, { ...options, body: JSON.stringify(body) })
  }
}

/** What the handler failed with; `undefined` where it did not. */
async function outcomeOf(handler: GroupHandler, event: GroupEvent): Promise<{ readonly code: string, readonly message: string } | undefined> {
  try {
    await handler(event)
    return undefined
  } catch (thrown) {
    if (thrown instanceof CMeshError) return { code: thrown.code, message: thrown.message }
    return thrown instanceof Error ? { code: thrown.name, message: thrown.message } : { code: 'thrown', message: String(thrown) }
  }
}

function pause(ms: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const done = (): void => {
      clearTimeout(timer)
      signal.removeEventListener('abort', done)
      resolve()
    }
    const timer = setTimeout(done, ms)
    signal.addEventListener('abort', done)
  })
}
