/**
 * Requests to JetStream with their answers: publishes and their acks, gets, API calls. It adds to the bus what only
 * JetStream needs: headers on a request, and the status and headers of an answer. It never retries but what it is told may be said twice.
 *
 * Invariants: every call settles, by its answer, its time-out, the loss of the connection or `close`; nothing is sent
 * while there is no connection.
 */
import { createInbox } from '@nats-io/nats-core'
import type { Msg, MsgHdrs, NatsConnection, Subscription } from '@nats-io/nats-core'
import { Correlator } from '../../cmtp/correlate.ts'
import { CMeshError } from '../../cmtp/errors.ts'
import type { Bus } from '../../services/bus/provider.ts'

/** A bus that shows its NATS connection. The connection stays the bus's own: nobody here closes it. */
export type JetStreamBus = Bus & { readonly connection: NatsConnection }

export interface CallOptions {
  /** Wait in ms, 1 to 300,000. */
  readonly timeoutMs: number
  readonly headers?: MsgHdrs
  readonly signal?: AbortSignal
}

/** Most calls waiting at once; one more is refused with `CMESH_BUS_BUSY`. */
const MAX_PENDING = 16_384

export class JetStreamCalls {
  readonly #bus: JetStreamBus
  readonly #correlator: Correlator<Msg>
  readonly #subscription: Subscription
  readonly #stopListening: () => void
  /** The headers of the call being made: the correlator publishes within `request`, never later. */
  #headers: MsgHdrs | undefined

  constructor(bus: JetStreamBus) {
    const { connection } = bus
    const inbox = createInbox()
    this.#bus = bus
    this.#correlator = new Correlator<Msg>({
      inbox,
      maxPending: MAX_PENDING,
      publish: (subject, data, reply) => {
        connection.publish(subject, data, this.#headers === undefined ? { reply } : { reply, headers: this.#headers })
      },
    })
    this.#subscription = connection.subscribe(`${inbox}.*`, {
      callback: (failure, message) => {
        if (failure === null) this.#answered(message)
        else this.#correlator.close(denied(inbox, failure))
      },
    })
    this.#stopListening = bus.onStatus(status => {
      // Answers to what is in flight go to the connection that is gone.
      if (status === 'disconnected') this.#correlator.fail(new CMeshError('CMESH_BUS_DISCONNECTED'))
      else if (status === 'closed') this.#correlator.close()
    })
  }

  /**
   * Resolves with the answer, whatever it says. Rejects with `CMESH_BUS_TIMEOUT`, `CMESH_BUS_NO_RESPONDERS`,
   * `CMESH_BUS_DISCONNECTED`, `CMESH_BUS_BUSY`, `CMESH_BUS_CLOSED`, `CMESH_BUS_DENIED` or `CMESH_CLIENT_ABORTED`.
   */
  call(subject: string, data: Uint8Array, options: CallOptions): Promise<Msg> {
    if (this.#bus.status === 'disconnected') return Promise.reject(new CMeshError('CMESH_BUS_DISCONNECTED'))
    this.#headers = options.headers
    const answer = this.#correlator.request(subject, data, options)
    this.#headers = undefined
    return answer
  }

  /**
   * As `call`, of what may be said twice: where nothing is answered for a quarter of the time, it is asked once more and either answer counts. A broker
   * may leave a request unanswered, as while a consumer goes: one that led it knows of it no more, and one that speaks for all still does.
   */
  async ask(subject: string, data: Uint8Array, { timeoutMs }: Pick<CallOptions, 'timeoutMs'>): Promise<Msg> {
    const first = this.call(subject, data, { timeoutMs })
    let timer: NodeJS.Timeout | undefined
    const again = new Promise<Msg>((resolve, reject) => {
      const failed = (error: unknown): void => {
        // Any other failure is the first one's, too.
        if (error instanceof CMeshError && error.code === 'CMESH_BUS_NO_RESPONDERS') reject(error)
      }
      timer = setTimeout(() => { this.call(subject, data, { timeoutMs: timeoutMs * 3 / 4 }).then(resolve, failed) }, timeoutMs / 4)
    })
    return Promise.race([first, again]).finally(() => { clearTimeout(timer) })
  }

  /** Fails every call under way with `CMESH_BUS_CLOSED`. Idempotent. */
  close(): void {
    this.#stopListening()
    this.#correlator.close()
    if (!this.#subscription.isClosed()) this.#subscription.unsubscribe()
  }

  #answered(message: Msg): void {
    // "No responders" is an empty message with a status; an ack is never empty, so acks cost no look at headers.
    if (message.data.length === 0 && message.headers?.code === 503) this.#correlator.onNoResponders(message.subject)
    else this.#correlator.onReply(message.subject, message)
  }
}

/** The broker does not let this connection listen there. */
export function denied(subject: string, cause: Error): CMeshError {
  return new CMeshError('CMESH_BUS_DENIED', { operation: 'subscribe to', subject }, { cause })
}
