/**
 * The sessions that have a connection of their own: which nkey each has. Owns two answers that hang on it: an nkey serves one session,
 * and none after that was ended, and whose connections end when something was revoked. It lets nobody in: what a session may do, the
 * guard says.
 *
 * Bounded: past `max` the session least recently renewed is forgotten. It goes on as before; only its connection outlives its
 * revocation then, until its login ends, and can do nothing. As many nkeys are remembered of sessions that were ended.
 */
import { LRUCache } from 'lru-cache'
import type { TokenClaims } from '../../cmtp/identity/token.ts'
import type { Revocation } from './revocations.ts'

/** Most sessions remembered, unless told otherwise. */
export const MAX_LIVE_SESSIONS = 65_536

interface Live {
  readonly sub: string
  readonly nkey: string
  /** When its last token was issued, in seconds since 1970. */
  readonly iat: number
  /** Until when its connection can last, ms since 1970. */
  readonly untilMs: number
}

export class LiveSessions {
  readonly #now: () => number
  readonly #max: number
  /** Made with the first that it is to remember, as the other is: it takes the room for all of them at once. */
  #bySid: LRUCache<string, Live> | undefined
  readonly #sidOf = new Map<string, string>()
  /** The broker keeps these out; a session opened for one would have no connection, or have it once the broker forgets. */
  #ended: LRUCache<string, true> | undefined

  /** `now`: ms since 1970. */
  constructor(now: () => number, max = MAX_LIVE_SESSIONS) {
    this.#now = now
    this.#max = max
  }

  /** Nkeys that are taken. */
  get size(): number {
    return this.#sidOf.size
  }

  /** The nkey of a session; `undefined` for one that has none, is over or is not remembered. */
  nkeyOf(sid: string): string | undefined {
    return this.#live(sid)?.nkey
  }

  /** Whether a session lives whose connection has this nkey. */
  serves(nkey: string): boolean {
    const sid = this.#sidOf.get(nkey)
    return sid !== undefined && this.#live(sid) !== undefined
  }

  /** Whether a session was ended before its time whose connection had this nkey. */
  wasEnded(nkey: string): boolean {
    return this.#ended?.has(nkey) ?? false
  }

  /** Remembers the session of a token that names an nkey. `untilMs`: until when a login with it can last. */
  note({ sid, sub, iat, cnf: { nkey } }: Pick<TokenClaims, 'sid' | 'sub' | 'iat' | 'cnf'>, untilMs: number): void {
    if (nkey === undefined) return
    this.#bySid ??= new LRUCache({ max: this.#max, dispose: ({ nkey: its }, of) => { if (this.#sidOf.get(its) === of) this.#sidOf.delete(its) } })
    this.#bySid.set(sid, { sub, nkey, iat, untilMs })
    this.#sidOf.set(nkey, sid)
  }

  /** Forgets the sessions that a revocation ends, and gives their nkeys. `atMs`: when it was revoked. One token or one key is no session. */
  take({ sid, sub, nkey }: Revocation, atMs: number): readonly string[] {
    const ended = new Set<string>(nkey === undefined ? [] : [nkey])
    if (sid !== undefined) this.#end(sid, ended)
    if (sub !== undefined) {
      const atS = Math.floor(atMs / 1_000)
      // A session of a later second is one that began after it.
      for (const [each, live] of [...this.#bySid?.entries() ?? []]) if (live.sub === sub && live.iat <= atS) this.#end(each, ended)
    }
    if (ended.size > 0) this.#ended ??= new LRUCache({ max: this.#max })
    for (const each of ended) this.#ended?.set(each, true)
    return [...ended]
  }

  #end(sid: string, ended: Set<string>): void {
    const live = this.#bySid?.peek(sid)
    if (live === undefined) return
    ended.add(live.nkey)
    this.#bySid?.delete(sid)
  }

  #live(sid: string): Live | undefined {
    const live = this.#bySid?.peek(sid)
    return live !== undefined && live.untilMs > this.#now() ? live : undefined
  }
}
