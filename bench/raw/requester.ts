/**
 * The baseline of routing: request and reply by hand over the NATS client. One wildcard inbox, a map from number to promise,
 * nothing else: no deadline, no cancelling, no bound. Whatever does more is measured against it.
 */
import { connect, nuid, type NatsConnection } from '@nats-io/transport-node'

export const PAYLOAD_BYTES = 200

export class RawRequester {
  readonly #connection: NatsConnection
  readonly #inbox: string
  readonly #waiting = new Map<string, (data: Uint8Array) => void>()
  #next = 0

  private constructor(connection: NatsConnection) {
    this.#connection = connection
    this.#inbox = `_INBOX.${nuid.next()}.`
    connection.subscribe(`${this.#inbox}*`, {
      callback: (_, message) => {
        const resolve = this.#waiting.get(message.subject)
        this.#waiting.delete(message.subject)
        resolve?.(message.data)
      },
    })
  }

  static async open(url: string): Promise<RawRequester> {
    const requester = new RawRequester(await connect({ servers: url, noAsyncTraces: true }))
    await requester.#connection.flush()
    return requester
  }

  request(subject: string, payload: Uint8Array): Promise<Uint8Array> {
    return new Promise(resolve => {
      const reply = this.#inbox + this.#next++
      this.#waiting.set(reply, resolve)
      this.#connection.publish(subject, payload, { reply })
    })
  }

  close(): Promise<void> {
    return this.#connection.close()
  }
}
