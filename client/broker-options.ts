/** Where a connection to the broker leads and who it is, apart from the NATS client: the package's types are not to need that one's. */
import type { Nkey } from '../cmtp/identity/nats-keys.ts'

export interface LinkLogin {
  readonly nkey: Nkey
  readonly jwt: string
}

export interface BrokerOptions {
  /** One or several, with commas. */
  readonly url: string
  readonly name: string
  readonly connectTimeoutMs: number
  /** Default: none, for a broker that has no accounts. */
  readonly login: LinkLogin | undefined
  /** Whether it is made anew whenever it is lost. */
  readonly reconnect: boolean
}
