/**
 * The guard: the one place where a session token becomes an `AuthContext`, and where that context meets an address. Every
 * service asks it before each read and before each proposal. It owns the table of verified tokens and the revocations; it
 * grants nothing and talks to nobody.
 *
 * 1. Nobody else can make an `AuthContext`: the class is exported as a type alone, its constructor wants a seal that never
 *    leaves this file, and a look-alike fails the brand check. A context of another guard is refused like a forged one.
 * 2. A context handed out stays under control: expiry, revocation and current grants are looked at on every use of it.
 * 3. Rights are the token's permissions ∩ the subject's current grants; never more than either.
 * 4. A hit (the bytes of the session's last good token, on that session's subject) is synchronous and verifies nothing; it
 *    lasts 60 s at most and never past the token's expiry.
 * 5. A contract's context is made for one address that a contract may ask for, and holds no other right; a delayed call's has what its DID
 *    may do at that moment without a session.
 * 6. Memory is bounded by `maxSessions`, and for revocations by the sessions that can be revoked within one token life.
 * 7. A frame of another session speaks for a token only where the mesh wrote that session into the token (`via`), by a reference,
 *    and only with the last token that was verified of its session. So does a gateway's connection (`check` with `via`).
 * 8. A bad token costs the connection that sent it, and changes nothing of the session that it was sent for.
 * 9. While the feed of revocations is silent nobody passes: `CMESH_IAM_STALE`, and never a 401, since nobody's session is at fault.
 */
import { hash } from 'node:crypto'
import { CMeshError } from '../../cmtp/errors.ts'
import { isContractAddress, type Route } from '../../cmtp/fqmn.ts'
import type { PublicKey } from '../../cmtp/identity/keys.ts'
import { TOKEN_AUDIENCE, TOKEN_REFERENCE_BYTES, TOKEN_VERSION, type TokenAttribute, type TokenClaims } from '../../cmtp/identity/token.ts'
import { callerBytes } from '../../cmtp/sealer.ts'
import { LIMITS } from '../../cmtp/limits.ts'
import type { Action, CompiledPermissions, Permission } from '../../cmtp/permission.ts'
import { actionName, actionOf, allowedBy, compilePermissions } from '../../cmtp/permission.ts'
import { TwoGenerations } from '../../cmtp/two-generations.ts'
import { asBuffer } from '../../cmtp/wire.ts'
import { contractRefusal } from './contract-principal.ts'
import type { TokenKeys } from './key-ring.ts'
import type { Facts } from './provider.ts'
import type { Revocation } from './revocations.ts'
import { Revocations } from './revocations.ts'
import { Rules } from './rules.ts'
import { TokenVerifier } from './session-token.ts'
import { Throttle } from './throttle.ts'

export interface GuardParts {
  /** The mesh's public key, whose DID stands in tokens as their issuer. */
  readonly key: PublicKey
  /** The keys that tokens are signed with. Default: the mesh's own and no other. */
  readonly keys?: TokenKeys
  /**
   * What a DID may do right now. Synchronous, and cheap enough to be asked once a session and minute. An array is never changed
   * once it was returned, and is best the same one for the same grants: what was compiled from it is then shared.
   */
  readonly grantsOf: (did: string, facts?: Facts) => readonly Permission[]
  /** When time alone changes that answer the next time, ms since 1970. Default: never. */
  readonly changesAt?: (did: string, nowMs: number) => number
  /** When the feed of revocations was last heard, ms since 1970. Default: always now. */
  readonly heardMs?: () => number
  /** ms since 1970. Default `Date.now`. */
  readonly now?: () => number
  /** Most sessions whose token is remembered, at least the half of them last seen. Default 10,000. */
  readonly maxSessions?: number
  /** Most tokens that may be under verification at once. Default 1,024. */
  readonly maxVerifying?: number
  /** Longest life of a token in ms, refresh grace included: how long a revocation is remembered. Default 360,000. */
  readonly tokenLifeMs?: number
}

/** How long a verified token is believed without being verified again. */
const REVERIFY_MS = 60_000
/** Verifications that may fail in a row on one session, and how long until another may. */
const BAD_TOKEN_BURST = 10
const BAD_TOKEN_REFILL_MS = 1_000
/** The same for all that one gateway carries, those under verification among them: it may hold a part of the places of `maxVerifying`, and no more. */
const GATEWAY_TOKENS = { burst: 256, refillMs: 100 }
/** How long the feed of revocations may be silent, ms. */
const FEED_SILENCE_MS = 5_000
/** What a caller that came while it was is told to wait, ms. */
const STALE_RETRY_MS = 500
/** How long a contract's context lasts, in seconds: longer than any delivery. */
const CONTRACT_SECONDS = 60
const NO_TOKEN = Buffer.alloc(0)
const NO_ATTRIBUTES: readonly TokenAttribute[] = Object.freeze([])
/** Longest session id, in characters: a bound for what is remembered of a subject nobody owns. */
const MAX_SID = 64

interface Inside {
  readonly guard: Guard
  readonly claims: TokenClaims
  readonly token: Buffer
  /** The key the token was signed with. */
  readonly kid: string
  rules: CompiledPermissions
  /** The rules are all there is: no grants narrow them, and no session is behind them that could be revoked. */
  readonly fixed: boolean
  /** When time alone changes what is granted the next time, ms since 1970. */
  changesMs: number
  /** The guard's revision at which revocations and grants were last looked at. */
  revision: number
}

const SEAL = Symbol('guard')
let mint: (claims: TokenClaims, caller: Buffer, inside: Inside) => AuthContext
let inspect: (value: unknown) => Inside | undefined

/** Who asks: proof that a guard verified a session token. Immutable. */
class AuthContext {
  /** The proven DID. */
  readonly sub: string
  readonly sid: string
  readonly jti: string
  /** Expiry of the token, ms since 1970. */
  readonly expiresMs: number
  readonly issuedMs: number
  readonly amr: readonly string[]
  readonly aal: 0 | 1 | 2
  /** What was consented to that the mesh keeps. */
  readonly attributes: readonly TokenAttribute[]
  /** Thumbprint of the session key. */
  readonly jkt: string
  /** Session and DID as final hashes bind them. Nobody's to change. */
  readonly caller: Buffer
  readonly #inside: Inside

  private constructor(seal: symbol, claims: TokenClaims, caller: Buffer, inside: Inside) {
    if (seal !== SEAL) throw new CMeshError('CMESH_IAM_NO_SESSION', { reason: 'only the guard can authenticate a caller' })
    this.sub = claims.sub
    this.sid = claims.sid
    this.jti = claims.jti
    this.expiresMs = claims.exp * 1_000
    this.issuedMs = claims.iat * 1_000
    this.amr = Object.freeze(claims.amr)
    this.aal = claims.aal
    this.attributes = claims.att === undefined ? NO_ATTRIBUTES : Object.freeze(claims.att.map(attribute => Object.freeze({ ...attribute })))
    this.jkt = claims.cnf.jkt
    this.caller = caller
    this.#inside = inside
    Object.freeze(this)
  }

  static {
    mint = (claims, caller, inside) => new AuthContext(SEAL, claims, caller, inside)
    inspect = value => (typeof value === 'object' && value !== null && #inside in value ? value.#inside : undefined)
  }

  /** What the session may do: its permissions, narrowed to the subject's grants. */
  get permissions(): readonly Permission[] {
    return this.#inside.rules.permissions
  }
}
export type { AuthContext }

interface Entry {
  readonly token: Buffer
  readonly reference: Buffer
  readonly auth: AuthContext
  readonly inside: Inside
  /** Verified again from here on, ms since 1970. */
  readonly untilMs: number
}

export class Guard {
  /** How long a revocation is remembered, ms. */
  readonly tokenLifeMs: number
  readonly #now: () => number
  readonly #grantsOf: (did: string, facts?: Facts) => readonly Permission[]
  readonly #changesAt: (did: string, nowMs: number) => number
  readonly #heardMs: () => number
  readonly #sessions: TwoGenerations<string, Entry>
  /** Those that a gateway's frames may carry, by the reference of their token: one for each session. */
  readonly #carried: TwoGenerations<string, Entry>
  readonly #verifying = new Map<string, Promise<AuthContext>>()
  readonly #maxVerifying: number
  readonly #rules = new Rules()
  readonly #revocations: Revocations
  readonly #throttle: Throttle
  readonly #onAdmit: ((claims: TokenClaims) => void)[] = []
  readonly #onRevoke: ((revocation: Revocation, atMs: number) => void)[] = []
  #verifier: TokenVerifier
  /** Rises with every revocation and every change of grants. */
  #revision = 0
  /** Rises with every change of the trusted keys. */
  #keyEpoch = 0

  constructor({
    key, keys = only(key), grantsOf, changesAt = () => Infinity, heardMs = () => Infinity, now = Date.now, maxSessions = 10_000,
    maxVerifying = 1_024, tokenLifeMs = 360_000,
  }: GuardParts) {
    this.tokenLifeMs = tokenLifeMs
    this.#now = now
    this.#grantsOf = grantsOf
    this.#changesAt = changesAt
    this.#heardMs = heardMs
    this.#sessions = new TwoGenerations({ entries: Math.ceil(maxSessions / 2) })
    this.#carried = new TwoGenerations({ entries: Math.ceil(maxSessions / 2) })
    this.#maxVerifying = maxVerifying
    this.#revocations = new Revocations(now, tokenLifeMs)
    this.#throttle = new Throttle({ now, burst: BAD_TOKEN_BURST, refillMs: BAD_TOKEN_REFILL_MS, max: maxSessions, gateway: GATEWAY_TOKENS })
    this.#verifier = new TokenVerifier(key.did, keys, now)
  }

  /** Sessions whose token is remembered. */
  get size(): number {
    return this.#sessions.size
  }

  /** Those among them that a gateway's frames may carry. */
  get carried(): number {
    return this.#carried.size
  }

  /**
   * Who sends a token on the subject of session `sid`. Answers synchronously for the session's last good token, else with a
   * promise. In place of a token that was verified here before, its reference (`tokenReference`) will do. Throws or rejects
   * with `CMESH_IAM_NO_SESSION` and the reason, `CMESH_IAM_TOKEN` for a reference to a token that is not remembered,
   * `CMESH_ROUTER_BUSY` when too many tokens are being verified, `CMESH_IAM_BUSY` when another node's keys are not known yet, or `CMESH_IAM_STALE`. Keeps a copy of `token`, which stays the caller's.
   * `via`: the session whose connection it came over, where that is another's; the token must say that this gateway carries it. A bad
   * token is the fault of that connection, and costs the session it was sent for nothing.
   */
  check(token: Uint8Array, sid: string, via?: string): AuthContext | Promise<AuthContext> {
    const nowMs = this.#now()
    if (nowMs - this.#heardMs() > FEED_SILENCE_MS) throw this.#stale(nowMs)
    const entry = this.#sessions.get(sid)
    if (entry !== undefined && nowMs < entry.untilMs && isTokenOf(entry, token)) {
      const { inside } = entry
      if (via !== undefined && inside.claims.via !== via) throw elsewhere()
      if (inside.revision !== this.#revision || nowMs >= inside.changesMs) this.#review(inside, nowMs)
      return entry.auth
    }
    return token.length === TOKEN_REFERENCE_BYTES ? this.#recall(token, sid, via, entry) : this.#miss(token, sid, via)
  }

  /**
   * Who is meant by the reference of a token in a frame of the gateway whose session is `via`; whether the gateway itself is good is
   * for the caller to ask first. The token was verified here before, on its own session's subject, and says that this gateway carries
   * it; a newer token of its session takes its place. Answers and throws like `check`; a reference that does not count is `CMESH_IAM_TOKEN`.
   */
  checkCarried(reference: Uint8Array, via: string): AuthContext | Promise<AuthContext> {
    const nowMs = this.#now()
    if (nowMs - this.#heardMs() > FEED_SILENCE_MS) throw this.#stale(nowMs)
    const entry = this.#carried.get(asBuffer(reference).toString('latin1'))
    if (entry === undefined || entry.inside.claims.via !== via) throw new CMeshError('CMESH_IAM_TOKEN')
    if (nowMs >= entry.untilMs) return this.#miss(entry.token, entry.auth.sid, via)
    const { inside } = entry
    if (inside.revision !== this.#revision || nowMs >= inside.changesMs) this.#review(inside, nowMs)
    return entry.auth
  }

  /** The whole token of a caller, for another node of the mesh that has to check it too. Throws what `confirm` throws. */
  tokenOf(auth: AuthContext): Uint8Array {
    return this.#open(auth).token
  }

  /**
   * Confirms that this guard made the context and that it still holds. Throws `CMESH_IAM_NO_SESSION` for one that was forged,
   * made by another guard, revoked or expired, and `CMESH_IAM_STALE`.
   */
  confirm(auth: AuthContext): void {
    this.#open(auth)
  }

  /**
   * The pattern of the grant that lets the caller do what the address asks for (`actionOf`), or the action given. Throws `CMESH_IAM_DENIED` naming
   * permission and address, and what `confirm` throws.
   */
  authorise(auth: AuthContext, route: Route, action: Action = actionOf(route)): string {
    const inside = this.#open(auth)
    const grant = allowedBy(inside.rules, action, route)
    if (grant === undefined) throw new CMeshError('CMESH_IAM_DENIED', { permission: actionName(action), fqmn: route.bare })
    return grant
  }

  /**
   * A contract, to ask for one address in its own name: no session, no token, and no right but this one. Good for a minute. Throws
   * `CMESH_IAM_DENIED` for an address that no contract may ask for.
   */
  contractPrincipal(contract: string, message: string, route: Route): AuthContext {
    const action = actionOf(route)
    if (!isContractAddress(contract) || contractRefusal(contract, route) !== undefined) {
      throw new CMeshError('CMESH_IAM_DENIED', { permission: actionName(action), fqmn: route.bare })
    }
    const iat = Math.floor(this.#now() / 1_000)
    const claims: TokenClaims = {
      iss: '', aud: TOKEN_AUDIENCE, sub: contract, sid: '', jti: message, iat, exp: iat + CONTRACT_SECONDS, ver: TOKEN_VERSION, cnf: { jkt: '' },
      perms: [], amr: ['contract'], aal: 0,
    }
    const rules = compilePermissions([{ actions: action, pattern: route.bare }])
    return mint(claims, callerBytes('', contract), { guard: this, claims, token: NO_TOKEN, kid: '', rules, fixed: true, changesMs: Infinity, revision: this.#revision })
  }

  /**
   * A DID, to make a call that it asked for before: no session and no token, and of its rights those that it has now and that ask nothing
   * of a session. Good for a minute. `jti` stands for the token.
   */
  delayedPrincipal(did: string, jti: string): AuthContext {
    const iat = Math.floor(this.#now() / 1_000)
    const claims: TokenClaims = {
      iss: '', aud: TOKEN_AUDIENCE, sub: did, sid: '', jti, iat, exp: iat + CONTRACT_SECONDS, ver: TOKEN_VERSION, cnf: { jkt: '' },
      perms: [], amr: ['later'], aal: 0,
    }
    const rules = compilePermissions(this.#grantsOf(did))
    return mint(claims, callerBytes('', did), { guard: this, claims, token: NO_TOKEN, kid: '', rules, fixed: true, changesMs: Infinity, revision: this.#revision })
  }

  /**
   * Refuses from now on what matches any one of the given: a session, a token, every token by a key, or every token a subject got until
   * `atMs` (ms since 1970; default now). Bites contexts already handed out too.
   */
  revoke(revocation: Revocation, atMs = this.#now()): void {
    this.#revocations.add(revocation, atMs)
    this.#revision++
    for (const listener of this.#onRevoke) listener(revocation, atMs)
  }

  /** Calls back with the claims of each token that was verified and counts, and with each revocation once it is in force. */
  watch(onAdmit: (claims: TokenClaims) => void, onRevoke: (revocation: Revocation, atMs: number) => void): void {
    this.#onAdmit.push(onAdmit)
    this.#onRevoke.push(onRevoke)
  }

  /** Whether a context's session or token was revoked. An old token that has merely expired says nothing of its session. */
  isRevoked(auth: AuthContext): boolean {
    const inside = inspect(auth)
    return inside === undefined || !this.#verifier.knows(inside.kid) || this.#revocations.has(inside.claims, inside.kid)
  }

  /** Throws `CMESH_IAM_STALE` while nothing was heard of revocations for too long to say who is still good. */
  checkFresh(): void {
    const nowMs = this.#now()
    if (nowMs - this.#heardMs() > FEED_SILENCE_MS) throw this.#stale(nowMs)
  }

  /**
   * The claims of a token by this mesh that is not revoked; `graceMs` after its expiry it still counts. Remembers nothing and
   * makes no context: for IAM, which renews and ends sessions. Rejects with `CMESH_IAM_NO_SESSION`.
   */
  async verify(token: string, graceMs: number): Promise<TokenClaims> {
    const { claims, kid } = await this.#verifier.verify(token, graceMs)
    if (this.#revocations.has(claims, kid)) throw noSession('the session was revoked')
    return claims
  }

  /** To be called after any DID's grants changed: every context is narrowed anew on its next use. */
  grantsChanged(): void {
    this.#revision++
  }

  /** Trusts this mesh key and no other; every token is verified again. */
  trust(key: PublicKey): void {
    this.#verifier = new TokenVerifier(key.did, only(key), this.#now)
    this.keysChanged()
  }

  /** To be called after a key stopped to count: every token is verified again, and no context made before holds any more. */
  keysChanged(): void {
    this.#keyEpoch++
    this.#revision++
    this.#sessions.clear()
    this.#carried.clear()
    this.#throttle.clear()
  }

  /** To be called after a key began to count: a token by it may have been refused before, which is no answer any more. */
  keysAdded(): void {
    this.#throttle.clear()
  }

  #open(auth: unknown): Inside {
    const inside = inspect(auth)
    if (inside === undefined || inside.guard !== this) throw noSession('this node did not authenticate the caller')
    const nowMs = this.#now()
    if (nowMs >= inside.claims.exp * 1_000) throw noSession('the token has expired')
    if (inside.fixed) return inside
    if (nowMs - this.#heardMs() > FEED_SILENCE_MS) throw this.#stale(nowMs)
    if (inside.revision !== this.#revision || nowMs >= inside.changesMs) this.#review(inside, nowMs)
    return inside
  }

  /** Looks at keys, revocations and grants again, once a revision and whenever time alone changed what is granted. */
  #review(inside: Inside, nowMs: number): void {
    const { claims, kid } = inside
    if (!this.#verifier.knows(kid)) throw noSession('the token is not valid')
    if (this.#revocations.has(claims, kid)) throw noSession('the session was revoked')
    inside.rules = this.#rulesOf(claims, nowMs)
    inside.changesMs = this.#changesAt(claims.sub, nowMs)
    inside.revision = this.#revision
  }

  #stale(nowMs: number): CMeshError {
    return new CMeshError('CMESH_IAM_STALE', { silentMs: nowMs - this.#heardMs(), retryAfterMs: STALE_RETRY_MS })
  }

  /** A reference whose token has to be verified again, or is not known. */
  #recall(reference: Uint8Array, sid: string, via: string | undefined, entry: Entry | undefined): Promise<AuthContext> {
    if (entry === undefined || !isTokenOf(entry, reference)) throw new CMeshError('CMESH_IAM_TOKEN')
    return this.#miss(entry.token, sid, via)
  }

  #miss(token: Uint8Array, sid: string, via: string | undefined): Promise<AuthContext> {
    if (token.length === 0) throw noSession('the request carries no token')
    if (token.length > LIMITS.tokenBytes || sid.length > MAX_SID || (via !== undefined && via.length > MAX_SID)) {
      throw noSession('the token or the session id is too long')
    }
    const digest = hash('sha256', token, 'base64url')
    // Not shared between connections: what comes over one is no answer to, and no fault of, another.
    const key = via === undefined ? `${sid} ${digest}` : `${via} ${sid} ${digest}`
    const underWay = this.#verifying.get(key)
    if (underWay !== undefined) return underWay

    if (this.#verifying.size >= this.#maxVerifying) {
      throw new CMeshError('CMESH_ROUTER_BUSY', { what: 'The guard', limit: this.#maxVerifying, retryAfterMs: 100 })
    }
    this.#throttle.enter(sid, via, digest)
    // The bytes belong to a frame that is gone when the verification ends.
    const verification = this.#admit(Buffer.from(token), sid, via, digest).then(
      auth => {
        this.#throttle.succeeded(sid, via)
        return auth
      },
      (error: unknown) => {
        if (error instanceof CMeshError && error.code === 'CMESH_IAM_NO_SESSION') this.#throttle.failed(sid, via, digest, error)
        throw error
      },
    ).finally(() => this.#verifying.delete(key))
    this.#verifying.set(key, verification)
    return verification
  }

  /** `digest`: SHA-256 of the token, base64url. */
  async #admit(bytes: Buffer, sid: string, via: string | undefined, digest: string): Promise<AuthContext> {
    const keyEpoch = this.#keyEpoch
    const { claims, kid } = await this.#verifier.verify(bytes)
    // The trusted keys changed meanwhile: the word of one that was dropped counts for nothing.
    if (keyEpoch !== this.#keyEpoch) return this.#admit(bytes, sid, via, digest)
    if (claims.sid !== sid || (via !== undefined && claims.via !== via)) throw elsewhere()
    if (this.#revocations.has(claims, kid)) throw noSession('the session was revoked')

    const nowMs = this.#now()
    const rules = this.#rulesOf(claims, nowMs)
    // The first bytes of its hash: `tokenReference`.
    const [token, reference, caller] = apart(bytes, Buffer.from(digest, 'base64url').subarray(0, TOKEN_REFERENCE_BYTES), callerBytes(claims.sid, claims.sub))
    const inside: Inside = { guard: this, claims, token, kid, rules, fixed: false, changesMs: this.#changesAt(claims.sub, nowMs), revision: this.#revision }
    const auth = mint(claims, caller, inside)
    const untilMs = Math.min(claims.exp * 1_000, nowMs + REVERIFY_MS)
    const entry = { token, reference, auth, inside, untilMs }
    const before = this.#sessions.peek(sid)
    // As on the session's own subject: the token verified last is the one that is known by its reference.
    if (before !== undefined) this.#carried.delete(before.reference.toString('latin1'))
    // Not by the text that came in, which may be cut from a longer one and would keep it.
    this.#sessions.set(claims.sid, entry)
    if (claims.via !== undefined) this.#carried.set(entry.reference.toString('latin1'), entry)
    for (const listener of this.#onAdmit) listener(claims)
    return auth
  }

  #rulesOf({ perms, sub, aal, att = [] }: TokenClaims, nowMs: number): CompiledPermissions {
    return this.#rules.of(perms, this.#grantsOf(sub, { aal, attributes: att, nowMs }))
  }
}

/** A key that signs tokens alone. */
function only(key: PublicKey): TokenKeys {
  return { verifierOf: kid => (kid === key.thumbprint ? key : undefined) }
}

/**
 * Copies in memory of their own, of one piece: a small Buffer is cut from a slab of 8 KiB that many share, and one that is kept for long
 * keeps all of it.
 */
function apart(...parts: readonly [Uint8Array, Uint8Array, Uint8Array]): readonly [Buffer, Buffer, Buffer] {
  const all = Buffer.allocUnsafeSlow(parts.reduce((bytes, { length }) => bytes + length, 0))
  let at = 0
  const [first, second, third] = parts.map(part => {
    all.set(part, at)
    return all.subarray(at, at += part.length)
  }) as [Buffer, Buffer, Buffer]
  return [first, second, third]
}

/** Whether the bytes are the entry's token, or its reference. */
function isTokenOf(entry: Entry, bytes: Uint8Array): boolean {
  if (bytes.length !== TOKEN_REFERENCE_BYTES) return entry.token.equals(bytes)
  for (let i = 0; i < TOKEN_REFERENCE_BYTES; i++) if (bytes[i] !== entry.reference[i]) return false
  return true
}

function elsewhere(): CMeshError {
  return noSession('the token belongs to another session')
}

function noSession(reason: string): CMeshError {
  return new CMeshError('CMESH_IAM_NO_SESSION', { reason })
}
