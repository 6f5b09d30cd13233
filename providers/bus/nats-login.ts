/**
 * How a bus logs in to NATS, and how the login is kept out of addresses. It opens nothing and remembers nothing.
 */
import { nkeyAuthenticator, usernamePasswordAuthenticator } from '@nats-io/transport-node'
import type { Authenticator } from '@nats-io/transport-node'
import { natsAuthenticator } from '../../cmtp/identity/nats-jwt.ts'
import { Nkey } from '../../cmtp/identity/nats-keys.ts'

export interface NatsLogin {
  /** Seed of an nkey (`SU…`). Excludes `user`. */
  readonly nkeySeed?: string
  /** What an account says of that nkey, where the broker has accounts. Needs `nkeySeed`. */
  readonly jwt?: string
  /** A user and `password`. Excludes `nkeySeed`. */
  readonly user?: string
  readonly password?: string
}

/** The explicit login, else the one in the first URL that has one, else none, which the broker may give a user of its own. */
export function authenticatorOf(login: NatsLogin, servers: readonly string[]): Authenticator | undefined {
  const { nkeySeed, jwt } = login
  if (nkeySeed !== undefined && jwt !== undefined) return natsAuthenticator(Nkey.fromSeed(nkeySeed), () => jwt)
  if (nkeySeed !== undefined) return nkeyAuthenticator(new TextEncoder().encode(nkeySeed))
  if (login.user !== undefined) return usernamePasswordAuthenticator(login.user, login.password)
  const url = servers.map(parsed).find((candidate) => candidate !== null && candidate.username !== '')
  return url ? usernamePasswordAuthenticator(decodeURIComponent(url.username), decodeURIComponent(url.password)) : undefined
}

/** The library does not read logins from URLs, and they must not reach a log line or an error. */
export function withoutCredentials(server: string): string {
  return server.replace(/^([a-z]+:\/\/)?.*@/, '$1')
}

function parsed(server: string): URL | null {
  const text = server.includes('://') ? server : `nats://${server}`
  return URL.canParse(text) ? new URL(text) : null
}
