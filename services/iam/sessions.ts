/**
 * The life of a session behind the handshake: its first token, each token after that, its end. A refreshed token carries what
 * the last one carried and is still granted, never more.
 *
 * Where the broker has accounts, a session with an nkey has a login of its own there. The login is made beside the token and for the
 * nkey that the token names, here alone; whatever ends the session ends its connection.
 */
import { randomBytes } from 'node:crypto'
import { CMeshError } from '../../cmtp/errors.ts'
import { checkRenewal } from '../../cmtp/identity/handshake.ts'
import type { KeySet } from '../../cmtp/identity/key-set.ts'
import type { KeyPair } from '../../cmtp/identity/keys.ts'
import type { ByeMessage, RenewalMessage, SessionMessage } from '../../cmtp/identity/messages.ts'
import type { TokenClaims } from '../../cmtp/identity/token.ts'
import { TOKEN_AUDIENCE, TOKEN_VERSION } from '../../cmtp/identity/token.ts'
import { LIMITS } from '../../cmtp/limits.ts'
import type { Permission } from '../../cmtp/permission.ts'
import { formatPermissions, intersectPermissions, parsePermissions, withoutCovered } from '../../cmtp/permission.ts'
import type { BrokerSessions } from './connections.ts'
import type { AuthContext, Guard } from './guard.ts'
import { LiveSessions } from './live-sessions.ts'
import { Renewals } from './renewals.ts'
import type { Revocation } from './revocations.ts'
import { signToken } from './session-token.ts'

/** How long after its expiry a token can still be refreshed, and how far a client's clock may be off while it does, ms. */
export const REFRESH_GRACE_MS = 60_000

export interface SessionsParts {
  /** The mesh's DID. */
  readonly mesh: string
  /** What signs tokens now, and the set it stands in; without a set it is the mesh's own key. */
  readonly keys: () => { readonly signer: KeyPair, readonly keySet: KeySet | undefined }
  readonly guard: Guard
  /** Resolves when what was revoked survives a restart and was handed to the broker, where there is one. */
  readonly revoke: (revocation: Revocation) => Promise<void>
  readonly grantsOf: (did: string) => readonly Permission[]
  /** What keeps a DID out by name. */
  readonly barred: ((did: string) => CMeshError | undefined) | undefined
  readonly now: () => number
  readonly ttlMs: number
  /** Absent: the broker has no accounts, and sessions no login of their own. */
  readonly connections: BrokerSessions | undefined
  /** Life of a login at the broker, ms. */
  readonly connectionTtlMs: number
}

/** What a session is from its first token to its last. */
type Standing = Pick<TokenClaims, 'sub' | 'sid' | 'amr' | 'aal' | 'cnf' | 'via' | 'att' | 'atu'>

export class Sessions {
  readonly #parts: SessionsParts
  readonly #renewals: Renewals
  readonly #live: LiveSessions
  /** Sessions that are being ended at their own word: they hear of it before their connections end. */
  readonly #leaving = new Set<string>()

  constructor(parts: SessionsParts) {
    const { now, guard, connections, connectionTtlMs } = parts
    this.#parts = parts
    this.#renewals = new Renewals(now, REFRESH_GRACE_MS)
    this.#live = new LiveSessions(now)
    if (connections === undefined) return
    guard.watch(
      // Of a session that began before this node did: its login cannot last longer than one made now.
      claims => { if (this.#live.nkeyOf(claims.sid) === undefined) this.#live.note(claims, now() + connectionTtlMs) },
      (revocation, atMs) => {
        const { sid } = revocation
        if (sid === undefined || !this.#leaving.has(sid)) this.#bar(this.#live.take(revocation, atMs))
      },
    )
  }

  /** Throws `CMESH_IAM_HANDSHAKE` for the nkey of a session that lives, or that was ended. */
  checkFree(nkey: string | undefined, step: 'call' | 'consent'): void {
    if (nkey === undefined) return
    const refused = (reason: string): CMeshError => new CMeshError('CMESH_IAM_HANDSHAKE', { step, reason })
    if (this.#live.serves(nkey)) throw refused('its nkey is the one of a session that lives')
    if (this.#live.wasEnded(nkey)) throw refused('its nkey is the one of a session that was ended; make another')
  }

  /** Opens a session for what was consented to. Rejects with `CMESH_IAM_HANDSHAKE` when it does not fit a token. */
  open(standing: Omit<Standing, 'sid'>, perms: readonly Permission[]): Promise<SessionMessage> {
    return this.#issue({ ...standing, sid: randomBytes(16).toString('base64url') }, perms)
  }

  /** A new token for the session. Rejects with `CMESH_IAM_NO_SESSION`, `CMESH_IAM_HANDSHAKE` or `CMESH_IAM_FORGED`. */
  async refresh(renewal: RenewalMessage): Promise<SessionMessage> {
    const { guard, grantsOf, barred } = this.#parts
    const claims = await guard.verify(renewal.token, REFRESH_GRACE_MS)
    checkRenewal(renewal, claims)
    const nkey = this.#live.nkeyOf(claims.sid)
    if (nkey !== undefined && nkey !== claims.cnf.nkey) throw new CMeshError('CMESH_IAM_NO_SESSION', { reason: 'the token is for another connection' })
    this.#renewals.accept(claims.sid, renewal.issued)
    const perms = withoutCovered(intersectPermissions(parsePermissions(claims.perms), grantsOf(claims.sub)))
    if (perms.length === 0) throw barred?.(claims.sub) ?? new CMeshError('CMESH_IAM_NO_SESSION', { reason: 'nothing it may do is granted any more' })
    return this.#issue(this.#standing(claims), perms)
  }

  /** Ends the session of a token, on the word of its session key. Rejects as `refresh` does. */
  async hangup(renewal: RenewalMessage): Promise<ByeMessage> {
    const claims = await this.#parts.guard.verify(renewal.token, REFRESH_GRACE_MS)
    checkRenewal(renewal, claims)
    return this.#end(claims.sid, claims.cnf.nkey)
  }

  /** Ends the session that asks for it. Rejects with `CMESH_IAM_NO_SESSION`. */
  async hangupOwn(auth: AuthContext): Promise<ByeMessage> {
    this.#parts.guard.confirm(auth)
    return this.#end(auth.sid, this.#live.nkeyOf(auth.sid))
  }

  /** A session outlives the credentials that it began with, without what they showed and the assurance that came of it. */
  #standing({ att, atu, ...bare }: TokenClaims): Standing {
    if (atu !== undefined && atu * 1_000 <= this.#parts.now()) return { ...bare, aal: 1, amr: bare.amr.filter(method => method !== 'vc') }
    return { ...bare, ...(att !== undefined && { att }), ...(atu !== undefined && { atu }) }
  }

  async #end(sid: string, nkey: string | undefined): Promise<ByeMessage> {
    this.#leaving.add(sid)
    try {
      await this.#parts.revoke({ sid, ...(nkey !== undefined && { nkey }) })
    } finally {
      this.#leaving.delete(sid)
      this.#bar(this.#live.take({ sid, ...(nkey !== undefined && { nkey }) }, this.#parts.now()))
    }
    return { step: 'bye', sid }
  }

  #bar(nkeys: readonly string[]): void {
    // Not waited for: it never rejects, and the guard refuses them already.
    if (nkeys.length > 0) void this.#parts.connections?.bar(nkeys)
  }

  /** The login of a session's own connection; `undefined` where it has none. */
  #login(sid: string, nkey: string | undefined, nowMs: number): SessionMessage['connection'] {
    const { connections, connectionTtlMs } = this.#parts
    if (connections === undefined || nkey === undefined) return undefined
    const expires = Math.floor((nowMs + connectionTtlMs) / 1_000) * 1_000
    return { jwt: connections.mint({ nkey, sid, expiresMs: expires }), expires }
  }

  async #issue({ sub, sid, amr, aal, cnf, via, att, atu }: Standing, permissions: readonly Permission[]): Promise<SessionMessage> {
    const { mesh, keys, now, ttlMs } = this.#parts
    const { signer, keySet } = keys()
    const nowMs = now()
    const iat = Math.floor(nowMs / 1_000)
    const exp = iat + Math.floor(ttlMs / 1_000)
    const jti = randomBytes(9).toString('base64url')
    const perms = formatPermissions(permissions)
    const token = signToken(
      {
        iss: mesh, aud: TOKEN_AUDIENCE, sub, sid, jti, iat, exp, ver: TOKEN_VERSION, cnf, perms, amr, aal,
        ...(via !== undefined && { via }), ...(att !== undefined && { att }), ...(atu !== undefined && { atu }),
      },
      signer,
    )
    if (token.length > LIMITS.tokenBytes) {
      const reason = `a token for ${perms.length} permissions is longer than ${LIMITS.tokenBytes} bytes; ask for fewer`
      throw new CMeshError('CMESH_IAM_HANDSHAKE', { step: 'consent', reason })
    }
    const connection = this.#login(sid, cnf.nkey, nowMs)
    this.#live.note({ sid, sub, iat, cnf }, Math.max(exp * 1_000 + REFRESH_GRACE_MS, connection?.expires ?? 0))
    return {
      step: 'session', sid, token, issued: iat * 1_000, expires: exp * 1_000,
      ...(connection !== undefined && { connection }), ...(keySet !== undefined && { keys: keySet }),
    }
  }
}
