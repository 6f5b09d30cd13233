/**
 * The baseline of everything that asks over NATS: request and reply by hand over the NATS client. One wildcard inbox, a map
 * from subject to promise, nothing else: no deadline, no cancelling, no bound. Whatever does more is measured against it.
 */
import { connect, nkeyAuthenticator, nuid, type NatsConnection } from '@nats-io/transport-node'

export interface RawLogin {
  readonly url: string
  /** Seed of an nkey; without one the broker's user for clients. */
  readonly nkeySeed?: string
}

export class RawRequester {
  readonly connection: NatsConnection
  readonly #inbox: string
  readonly #waiting = new Map<string, (data: Uint8Array) => void>()
  #next = 0

  private constructor(connection: NatsConnection) {
    this.connection = connection
    this.#inbox = `_INBOX.${nuid.next()}.`
    connection.subscribe(`${this.#inbox}*`, {
      callback: (_, message) => {
        const resolve = this.#waiting.get(message.subject)
        this.#waiting.delete(message.subject)
        resolve?.(message.data)
      },
    })
  }

  static async open(login: RawLogin): Promise<RawRequester> {
    const requester = new RawRequester(await connectRaw(login))
    await requester.connection.flush()
    return requester
  }

  request(subject: string, payload: Uint8Array): Promise<Uint8Array> {
    return new Promise(resolve => {
      const reply = this.#inbox + this.#next++
      this.#waiting.set(reply, resolve)
      this.connection.publish(subject, payload, { reply })
    })
  }

  close(): Promise<void> {
    return this.connection.close()
  }
}

export function connectRaw({ url, nkeySeed }: RawLogin): Promise<NatsConnection> {
  const authenticator = nkeySeed === undefined ? undefined : nkeyAuthenticator(new TextEncoder().encode(nkeySeed))
  return connect({ servers: url, noAsyncTraces: true, ...(authenticator && { authenticator }) })
}
