/**
 * Sessions at a broker with accounts: a login for each, and an end to it. It owns who this node keeps out; the list in force is
 * the one in the account's JWT at the broker, which every node adds to.
 *
 * Two nodes that add at the same moment may each overwrite the other's; so each looks again a moment later, and adds what is
 * missing. The nkey of a session is never used again, so nobody is let in again here: an entry goes when every login signed before
 * it has expired by itself.
 */
import { setTimeout as delay } from 'node:timers/promises'
import { CMeshError } from '../../cmtp/errors.ts'
import { mergedRevocations, revocationsOf, type BrokerAccounts } from '../../cmtp/identity/nats-accounts.ts'
import { changedAccountJwt, decodeNatsJwt, scopedUserJwt, type NatsClaims } from '../../cmtp/identity/nats-jwt.ts'
import { readNkey } from '../../cmtp/identity/nats-keys.ts'
import type { Bus } from '../../services/bus/provider.ts'
import type { BrokerSessions } from '../../services/iam/connections.ts'
import type { Log } from '../../services/log.ts'
import { lookupSubject, UPDATE_SUBJECT } from './accounts.ts'

export interface BrokerAccountSessionsParts {
  readonly accounts: BrokerAccounts
  /** The connection inside the system account. */
  readonly sys: Pick<Bus, 'request'>
  /** Longest life of a session's login, in ms. */
  readonly connectionTtlMs: number
  readonly log: Log
  /** ms since 1970. Default `Date.now`. */
  readonly now?: () => number
}

/** What a name may be that stands in the template of every session: one token, and no wildcard, which would open the subjects of all. */
const SID = /^[A-Za-z0-9_-]{8,64}$/
/** How long the first waits for others that go with it, in ms: a change of the account costs the same for one as for many. */
const GATHER_MS = 20
/** How much later it is looked whether another node overwrote it, in ms. */
const SETTLE_MS = 1_000
/** The pause after a failure doubles from the first to the second, in ms. */
const RETRY = Object.freeze({ firstMs: 100, mostMs: 5_000 })
/** So far apart the clocks of two nodes may be, in s: a login that one signed must not be newer than its end at the other. */
const SKEW_S = 300
/** Most entries in the account; the oldest go, and are refused by IAM all the same. */
const MOST = 5_000
const REQUEST_MS = 5_000

export class BrokerAccountSessions implements BrokerSessions {
  readonly #parts: BrokerAccountSessionsParts
  readonly #nowS: () => number
  readonly #stopping = new AbortController()
  /** Kept out by this node: nkey to the second that its logins must be newer than. */
  readonly #barred = new Map<string, number>()
  /** The round that has not begun and takes what comes. */
  #next: Promise<void> | undefined
  #last: Promise<void> = Promise.resolve()
  #settling: NodeJS.Timeout | undefined

  constructor(parts: BrokerAccountSessionsParts) {
    const { now = Date.now } = parts
    this.#parts = parts
    this.#nowS = () => Math.floor(now() / 1_000)
  }

  mint({ nkey, sid, expiresMs }: { readonly nkey: string, readonly sid: string, readonly expiresMs: number }): string {
    readNkey('user', nkey)
    if (!SID.test(sid)) throw new CMeshError('CMESH_IAM_KEY', { reason: 'a session\'s name at the broker is 8 to 64 letters, digits, _ and -' })
    const { session, accounts } = this.#parts.accounts
    return scopedUserJwt(session, { nkey, name: sid, account: accounts.MESH.id, nowS: this.#nowS(), expiresS: Math.floor(expiresMs / 1_000) })
  }

  bar(nkeys: readonly string[]): Promise<void> {
    const until = this.#nowS() + SKEW_S
    const wanted = nkeys.filter(isUser)
    if (wanted.length < nkeys.length) this.#parts.log.warn({ left: nkeys.length - wanted.length }, 'what is no nkey cannot be kept out at the broker')
    if (wanted.length === 0) return Promise.resolve()
    for (const nkey of wanted) {
      const second = Math.max(until, this.#barred.get(nkey) ?? 0)
      // Last in the order of the map, which is the order of the seconds: the first go where there are too many.
      this.#barred.delete(nkey)
      this.#barred.set(nkey, second)
    }
    return this.#round()
  }

  /** Nothing is tried again after this; what is under way is given up. */
  close(): void {
    this.#stopping.abort()
    clearTimeout(this.#settling)
  }

  #round(): Promise<void> {
    if (this.#stopping.signal.aborted) return Promise.resolve()
    this.#next ??= this.#last = this.#last.then(() => this.#pause(GATHER_MS)).then(() => {
      this.#next = undefined
      return this.#untilDone()
    })
    return this.#next
  }

  async #untilDone(): Promise<void> {
    for (let failures = 0; !this.#stopping.signal.aborted; failures++) {
      try {
        await this.#push()
        return
      } catch (thrown) {
        const error = CMeshError.from(thrown, 'the broker\'s accounts')
        if (this.#stopping.signal.aborted) return
        this.#parts.log.warn({ err: error, code: error.code }, 'sessions that ended could not be kept out at the broker; it is tried again')
        await this.#pause(Math.min(RETRY.mostMs, RETRY.firstMs * 2 ** failures))
      }
    }
  }

  /** Adds what is missing to what the broker has, and looks again later. */
  async #push(): Promise<void> {
    this.#forgetExpired()
    const { accounts, sys } = this.#parts
    const claims = await this.#lookup()
    const own = Object.fromEntries(this.#barred)
    const held = revocationsOf(claims)
    const merged = Object.entries(mergedRevocations([held, own])).filter(([, second]) => !this.#isOver(second))
    // What is held comes first among equals: two nodes that have more than fits between them would else push out each other's for ever.
    const fits = merged.sort(([, one], [, other]) => other - one).slice(0, MOST)
    if (fits.every(([nkey, second]) => (held[nkey] ?? 0) >= second)) return
    const jwt = changedAccountJwt(accounts.signing, claims, { revocations: Object.fromEntries(fits) }, this.#nowS())
    const answer = Buffer.from(await sys.request(UPDATE_SUBJECT, Buffer.from(jwt), { timeoutMs: REQUEST_MS, signal: this.#stopping.signal })).toString('utf8')
    if (!isUpdated(answer)) throw new CMeshError('CMESH_BROKER_ACCOUNTS', { reason: `the broker did not take a change: ${answer.slice(0, 200)}` })
    this.#settle()
  }

  /** What the broker holds of the sessions' account; what was kept of it where the broker has none that is ours. */
  async #lookup(): Promise<NatsClaims> {
    const { accounts: { accounts: { MESH }, signing }, sys } = this.#parts
    const text = Buffer.from(await sys.request(lookupSubject(MESH.id), new Uint8Array(), { timeoutMs: REQUEST_MS, signal: this.#stopping.signal })).toString('utf8')
    const claims = text === '' ? undefined : decodeNatsJwt(text)
    return claims !== undefined && claims.sub === MESH.id && claims.iss === signing.text ? claims : decodeNatsJwt(MESH.jwt)
  }

  #settle(): void {
    clearTimeout(this.#settling)
    if (this.#stopping.signal.aborted) return
    this.#settling = setTimeout(() => { void this.#round() }, SETTLE_MS)
    this.#settling.unref()
  }

  #forgetExpired(): void {
    for (const [nkey, second] of this.#barred) {
      if (!this.#isOver(second) && this.#barred.size <= MOST) break
      this.#barred.delete(nkey)
    }
  }

  /** Every login that this second keeps out has expired, and its node's clock may have been behind. */
  #isOver(second: number): boolean {
    return second + SKEW_S + Math.ceil(this.#parts.connectionTtlMs / 1_000) < this.#nowS()
  }

  /** Resolves early when it is closed. */
  async #pause(ms: number): Promise<void> {
    await delay(ms, undefined, { signal: this.#stopping.signal }).catch(() => undefined)
  }
}

function isUser(nkey: string): boolean {
  try {
    readNkey('user', nkey)
    return true
  } catch (error) {
    if (error instanceof CMeshError) return false
    throw error
  }
}

function isUpdated(answer: string): boolean {
  try {
    return (JSON.parse(answer) as { data?: { code?: unknown } } | null)?.data?.code === 200
  } catch {
    return false
  }
}
