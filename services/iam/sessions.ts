/**
 * The life of a session behind the handshake: its first token, each token after that, its end. A refreshed token carries what
 * the last one carried and is still granted, never more.
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
import type { AuthContext, Guard } from './guard.ts'
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
  readonly now: () => number
  readonly ttlMs: number
}

/** What a session is from its first token to its last. */
type Standing = Pick<TokenClaims, 'sub' | 'sid' | 'amr' | 'aal' | 'cnf' | 'via' | 'att' | 'atu'>

export class Sessions {
  readonly #parts: SessionsParts
  readonly #renewals: Renewals

  constructor(parts: SessionsParts) {
    this.#parts = parts
    this.#renewals = new Renewals(parts.now, REFRESH_GRACE_MS)
  }

  /** Opens a session for what was consented to. Rejects with `CMESH_IAM_HANDSHAKE` when it does not fit a token. */
  open(standing: Omit<Standing, 'sid'>, perms: readonly Permission[]): Promise<SessionMessage> {
    return this.#issue({ ...standing, sid: randomBytes(16).toString('base64url') }, perms)
  }

  /** A new token for the session. Rejects with `CMESH_IAM_NO_SESSION`, `CMESH_IAM_HANDSHAKE` or `CMESH_IAM_FORGED`. */
  async refresh(renewal: RenewalMessage): Promise<SessionMessage> {
    const { guard, grantsOf } = this.#parts
    const claims = await guard.verify(renewal.token, REFRESH_GRACE_MS)
    checkRenewal(renewal, claims)
    this.#renewals.accept(claims.sid, renewal.issued)
    const perms = withoutCovered(intersectPermissions(parsePermissions(claims.perms), grantsOf(claims.sub)))
    if (perms.length === 0) throw new CMeshError('CMESH_IAM_NO_SESSION', { reason: 'nothing it may do is granted any more' })
    return this.#issue(this.#standing(claims), perms)
  }

  /** Ends the session of a token, on the word of its session key. Rejects as `refresh` does. */
  async hangup(renewal: RenewalMessage): Promise<ByeMessage> {
    const claims = await this.#parts.guard.verify(renewal.token, REFRESH_GRACE_MS)
    checkRenewal(renewal, claims)
    return this.#end(claims.sid)
  }

  /** Ends the session that asks for it. Rejects with `CMESH_IAM_NO_SESSION`. */
  async hangupOwn(auth: AuthContext): Promise<ByeMessage> {
    this.#parts.guard.confirm(auth)
    return this.#end(auth.sid)
  }

  /** A session outlives the credentials that it began with, without what they showed and the assurance that came of it. */
  #standing({ att, atu, ...bare }: TokenClaims): Standing {
    if (atu !== undefined && atu * 1_000 <= this.#parts.now()) return { ...bare, aal: 1, amr: bare.amr.filter(method => method !== 'vc') }
    return { ...bare, ...(att !== undefined && { att }), ...(atu !== undefined && { atu }) }
  }

  async #end(sid: string): Promise<ByeMessage> {
    await this.#parts.revoke({ sid })
    return { step: 'bye', sid }
  }

  async #issue({ sub, sid, amr, aal, cnf, via, att, atu }: Standing, permissions: readonly Permission[]): Promise<SessionMessage> {
    const { mesh, keys, now, ttlMs } = this.#parts
    const { signer, keySet } = keys()
    const iat = Math.floor(now() / 1_000)
    const exp = iat + Math.floor(ttlMs / 1_000)
    const jti = randomBytes(9).toString('base64url')
    const perms = formatPermissions(permissions)
    const token = await signToken(
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
    return { step: 'session', sid, token, issued: iat * 1_000, expires: exp * 1_000, ...(keySet !== undefined && { keys: keySet }) }
  }
}
