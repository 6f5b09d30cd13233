/**
 * Publishing into a stream with an ack, tried again while that cannot store a message twice: always when the message
 * certainly was not stored, and after an unknown outcome only when it carries an id by which the broker knows it again.
 * It bounds neither the number of messages in flight nor their size.
 */
import { setTimeout as delay } from 'node:timers/promises'
import { headers as newHeaders } from '@nats-io/nats-core'
import type { MsgHdrs } from '@nats-io/nats-core'
import { CMeshError } from '../../cmtp/errors.ts'
import type { JetStreamBus, JetStreamCalls } from './calls.ts'
import { passesByCode } from './refusal.ts'

export interface PublishAck {
  readonly seq: number
  /** The stream had a message with this id. After a retry that may be the message's own first try. */
  readonly duplicate: boolean
}

export interface StreamPublish {
  readonly subject: string
  readonly data: Uint8Array
  /** What the broker recognises a second try by, at most 128 printable ASCII characters. Costs a header: half the rate. */
  readonly id?: string
  /** Other headers of the message, by name. */
  readonly headers?: Readonly<Record<string, string>>
  /** How long to go on trying, in ms. */
  readonly timeoutMs: number
  /** Ends the trying: the attempt under way is waited for, no other is made. */
  readonly signal: AbortSignal
  /** Told when an attempt ends without saying whether it stored the message. */
  readonly onUnknown?: () => void
}

/** How long one attempt waits for its ack, in ms. */
const TRY_MS = 2_000
const BACKOFF_FIRST_MS = 20
const BACKOFF_LAST_MS = 500

/**
 * `err_code` of refusals for want of room: the account's limits, the server's disk, the stream's own bound or a write that
 * failed. They pass only when somebody makes room.
 */
const WITHOUT_ROOM: ReadonlySet<number> = new Set([10002, 10047, 10077])

export interface StreamPublisherOptions {
  /** Makes the error for a stream without room, which is then not tried again. Default: `CMESH_BUS_STORE`, tried again where it may pass. */
  readonly full?: (reason: string) => CMeshError
}

export class StreamPublisher {
  readonly #bus: JetStreamBus
  readonly #calls: JetStreamCalls
  readonly #stream: string
  readonly #options: StreamPublisherOptions

  constructor(bus: JetStreamBus, calls: JetStreamCalls, stream: string, options: StreamPublisherOptions = {}) {
    this.#bus = bus
    this.#calls = calls
    this.#stream = stream
    this.#options = options
  }

  /**
   * Resolves when the stream has stored the message. `data` must not change until then. Rejects with `CMESH_BUS_STORE`
   * when the stream refuses it, or with the last attempt's `CMESH_BUS_*` when the time is over: then it may be stored.
   */
  async publish(message: StreamPublish): Promise<PublishAck> {
    const endMs = performance.now() + message.timeoutMs
    if (!(message.timeoutMs > 0)) throw new CMeshError('CMESH_BUS_TIMEOUT', { subject: message.subject, timeoutMs: 0 })
    const headers = headersOf(message)
    for (let attempt = 0; ; attempt++) {
      const leftMs = Math.max(1, endMs - performance.now())
      const outcome = await this.#try(message, headers, Math.min(TRY_MS, leftMs))
      if (!(outcome instanceof Failure)) return outcome
      if (!outcome.again) throw outcome.error
      const waitMs = Math.min(BACKOFF_LAST_MS, BACKOFF_FIRST_MS * 2 ** attempt) * (0.5 + Math.random())
      if (message.signal.aborted || performance.now() + waitMs >= endMs) throw outcome.error
      await pause(waitMs, message.signal)
    }
  }

  async #try(message: StreamPublish, headers: MsgHdrs | undefined, timeoutMs: number): Promise<PublishAck | Failure> {
    const sent = this.#bus.status === 'connected'
    try {
      const options = headers === undefined ? { timeoutMs } : { timeoutMs, headers }
      const answer = await this.#calls.call(message.subject, message.data, options)
      return this.#ackOf(answer.data)
    } catch (thrown) {
      const error = CMeshError.from(thrown, 'jetstream')
      const notStored = !sent || error.code === 'CMESH_BUS_NO_RESPONDERS' || error.code === 'CMESH_BUS_BUSY'
      if (!notStored) message.onUnknown?.()
      return new Failure(error, error.retry === 'retry' && (notStored || message.id !== undefined))
    }
  }

  #ackOf(data: Uint8Array): PublishAck | Failure {
    const ack: unknown = JSON.parse(Buffer.from(data.buffer, data.byteOffset, data.byteLength).toString())
    if (typeof ack === 'object' && ack !== null) {
      if ('seq' in ack && typeof ack.seq === 'number' && ack.seq > 0) {
        return { seq: ack.seq, duplicate: 'duplicate' in ack && ack.duplicate === true }
      }
      if ('error' in ack && typeof ack.error === 'object' && ack.error !== null) return this.#refusal(ack.error)
    }
    return new Failure(new CMeshError('CMESH_BUS_STORE', { stream: this.#stream, reason: 'its answer is no ack' }), false)
  }

  #refusal(error: object): Failure {
    const code = 'err_code' in error ? Number(error.err_code) : 0
    const reason = 'description' in error ? String(error.description) : 'it gave no reason'
    const full = WITHOUT_ROOM.has(code) ? this.#options.full?.(reason) : undefined
    if (full !== undefined) return new Failure(full, false)
    const passing = passesByCode({ code: 'code' in error ? Number(error.code) : 0, err_code: code })
    return new Failure(new CMeshError('CMESH_BUS_STORE', { stream: this.#stream, reason: `${reason} (${code})` }), passing)
  }
}

class Failure {
  readonly error: CMeshError
  /** Another attempt may succeed and cannot store the message twice. */
  readonly again: boolean

  constructor(error: CMeshError, again: boolean) {
    this.error = error
    this.again = again
  }
}

function headersOf({ id, headers: others }: Pick<StreamPublish, 'id' | 'headers'>): MsgHdrs | undefined {
  if (id === undefined && others === undefined) return undefined
  const headers = newHeaders()
  if (id !== undefined) headers.set('Nats-Msg-Id', id)
  for (const [name, value] of Object.entries(others ?? {})) headers.set(name, value)
  return headers
}

/** Resolves after the time, or at once when the signal is or gets aborted. */
export function pause(ms: number, signal: AbortSignal): Promise<void> {
  // Rejects only by the signal, which ends the wait.
  return delay(ms, undefined, { signal }).catch(() => undefined)
}
