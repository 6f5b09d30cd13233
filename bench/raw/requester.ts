/**
 * The baseline of everything that asks over NATS: request and reply by hand over the NATS client. One wildcard inbox, a map
 * from subject to promise, nothing else: no deadline, no cancelling, no bound. Whatever does more is measured against it.
 */
import { connect, nuid, type NatsConnection } from '@nats-io/transport-node'
import { natsAuthenticator } from '../../cmtp/identity/nats-jwt.ts'
import { Nkey } from '../../cmtp/identity/nats-keys.ts'
import { INBOX_PREFIX } from '../../cmtp/subject.ts'

export interface RawLogin {
  /** Of one server, or of several, separated by commas. */
  readonly url: string
  /** Seed of the user's nkey (`SU…`). */
  readonly nkeySeed: string
  /** The user's JWT, which says the account and what it may do there. */
  readonly jwt: string
  /** What its inboxes must begin with, with a dot at the end. Default: anything in `_INBOX.`. */
  readonly inbox?: string
}

export class RawRequester {
  readonly connection: NatsConnection
  readonly #inbox: string
  readonly #waiting = new Map<string, (data: Uint8Array) => void>()
  #next = 0

  private constructor(connection: NatsConnection, inbox: string) {
    this.connection = connection
    this.#inbox = `${inbox}${nuid.next()}.`
    connection.subscribe(`${this.#inbox}*`, {
      callback: (_, message) => {
        const resolve = this.#waiting.get(message.subject)
        this.#waiting.delete(message.subject)
        resolve?.(message.data)
      },
    })
  }

  static async open(login: RawLogin): Promise<RawRequester> {
    const requester = new RawRequester(await connectRaw(login), login.inbox ?? INBOX_PREFIX)
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

export function connectRaw({ url, nkeySeed, jwt }: RawLogin): Promise<NatsConnection> {
  return connect({ servers: url.split(','), noAsyncTraces: true, authenticator: natsAuthenticator(Nkey.fromSeed(nkeySeed), () => jwt) })
}
