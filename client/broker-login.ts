/**
 * How a connection to the broker is made, and what its refusals mean. The NATS client goes on trying only where it may reconnect, also when the broker
 * said that the login has ended; so it is tried without at first, each server in its turn. What they tell is passed on; a session's link, which comes back by
 * itself, waits for servers of which all take nobody just now.
 */
import { connect as connectNats, errors } from '@nats-io/transport-node'
import type { Authenticator, NatsConnection } from '@nats-io/transport-node'
import { natsAuthenticator } from '../cmtp/identity/nats-jwt.ts'
import { EARLY_SENDING } from '../cmtp/nats.ts'
import type { BrokerOptions } from './broker-options.ts'

/** Between two attempts to reconnect, in ms: half fixed, half random, so that clients do not return in step. */
const RECONNECT_MS = 200
/** A silent broker is given up after two unanswered pings: 4 to 6 s. */
const PING_MS = 2_000
/** An attempt with one of several servers lasts no shorter, in ms: one that is frozen must not take up the time of all. */
const LEAST_ATTEMPT_MS = 1_000
/** Servers that are tried beside those of the URL before the first login counts as refused. */
const MORE_SERVERS = 2
/** How the broker says that it ends a login before its time. */
const REVOKED = /authentication revoked/i

/** Connects, at first with the `jwt` of now, later with that of then. Rejects with what the NATS client says. */
export async function openNats(options: BrokerOptions, login: { readonly jwt: string }): Promise<NatsConnection> {
  // In an order of its own, so that clients do not all come to one; the NATS client tries the next itself only where nobody listens.
  const servers = shuffled(options.url.split(','))
  let told: unknown
  for (let first = 0; first < servers.length; first++) {
    try {
      return await attempt(options, [...servers.slice(first), ...servers.slice(0, first)], login, false)
    } catch (thrown) {
      // Of a login that was ended they all say the same.
      if (isRevoked(thrown)) throw thrown
      // What one says of the login counts for more than that another takes nobody.
      if (told === undefined || takesNobody(told)) told = thrown
    }
  }
  if (!options.reconnect || !takesNobody(told)) throw told
  return await attempt(options, servers, login, true)
}

/** `waits`: for a server that hangs up, as long as an attempt may take. It would tell of a time-out where the login has ended. */
async function attempt(options: BrokerOptions, servers: string[], login: { readonly jwt: string }, waits: boolean): Promise<NatsConnection> {
  const answer: Authenticator = options.login === undefined ? () => undefined : natsAuthenticator(options.login.nkey, () => login.jwt)
  let triesLeft = servers.length + MORE_SERVERS
  const nats = await connectNats({
    servers,
    noRandomize: true,
    name: options.name,
    timeout: Math.min(options.connectTimeoutMs, Math.max(LEAST_ATTEMPT_MS, options.connectTimeoutMs / servers.length)),
    reconnect: waits,
    maxReconnectAttempts: -1,
    reconnectDelayHandler: () => RECONNECT_MS / 2 + Math.random() * (RECONNECT_MS / 2),
    // The broker's answer to a login may change, as with the next login; giving up is for the owner to decide.
    ignoreAuthErrorAbort: true,
    pingInterval: PING_MS,
    maxPingOut: 2,
    // Capturing a stack for each request would cost more than the request.
    noAsyncTraces: true,
    authenticator: (nonce) => {
      // A cluster names its servers also to those it refuses, and the NATS client would go from one to the next for ever.
      if (triesLeft-- <= 0) throw new errors.AuthorizationError('Authorization Violation')
      return answer(nonce)
    },
    ...EARLY_SENDING,
  })
  triesLeft = Infinity
  if (options.reconnect) comeBack(nats, options.connectTimeoutMs)
  return nats
}

function shuffled<T>(all: readonly T[]): T[] {
  return all.map(one => ({ one, at: Math.random() })).sort((a, b) => a.at - b.at).map(({ one }) => one)
}

/** From now on the connection is made anew whenever it is lost, each attempt with all of its time: the NATS client looks at its options each time. */
function comeBack(nats: NatsConnection, timeout: number): void {
  Object.assign((nats as NatsConnection & { readonly options: object }).options, { reconnect: true, timeout })
}

/** Whether a connection was not made for a reason that is the server's, not the login's: of one that was revoked it says so in words alone. */
function takesNobody(error: unknown): boolean {
  if (error instanceof errors.ProtocolError) return !/authentication|authorization/i.test(error.message)
  return error instanceof errors.ConnectionError
}

/** Whether the broker does not take the login, or takes it no more before its time. */
export function isRefusal(error: unknown): boolean {
  return error instanceof errors.AuthorizationError || isRevoked(error)
}

function isRevoked(error: unknown): boolean {
  return error instanceof Error && REVOKED.test(error.message)
}

/** The same, or that its time is over. */
export function isRefusedLogin(error: unknown): boolean {
  return isRefusal(error) || error instanceof errors.UserAuthenticationExpiredError
}
