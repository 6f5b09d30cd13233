/**
 * IAM: runs the handshake and gives out sessions. It owns the handshakes under way and the mesh's signature; who somebody is,
 * its provider says; what they may do, `grantsOf` says; whether a token is good, the guard says.
 *
 * 1. No token without a proof that the provider accepted, a session key its sender holds, and a signed consent to the exact
 *    grant. A token never carries more than that grant, and a refreshed one never more than the one before it.
 * 2. A step that fails burns its handshake; nothing can be tried twice on one.
 * 3. At most `maxHandshakes` are open, for 60 s each, and longer where a person must act (`patienceMs`). A handshake by a stateless provider is none of them until its confirm: the
 *    client holds it, sealed, and the confirm that brings it back burns it.
 */
import { randomBytes } from 'node:crypto'
import { CMeshError } from '../../cmtp/errors.ts'
import { canonicalBytes } from '../../cmtp/identity/canonical-json.ts'
import { callHash, checkConfirm, checkConsent, handshakeContext, sign } from '../../cmtp/identity/handshake.ts'
import type { Certificate } from '../../cmtp/identity/certificate.ts'
import { signKeySet, type KeySet } from '../../cmtp/identity/key-set.ts'
import { PublicKey } from '../../cmtp/identity/keys.ts'
import { readNkey } from '../../cmtp/identity/nats-keys.ts'
import type { KeyPair } from '../../cmtp/identity/keys.ts'
import type { AnswerMessage, ConfirmMessage, GrantMessage, HandshakeAction, SessionMessage } from '../../cmtp/identity/messages.ts'
import { CHALLENGE_CHARACTERS, HANDSHAKE_BODY_BYTES, readMessage } from '../../cmtp/identity/messages.ts'
import { TOKEN_ALGORITHM } from '../../cmtp/identity/token.ts'
import type { Permission } from '../../cmtp/permission.ts'
import { formatPermission, intersectPermissions, normalPermissions, parsePermissions, withoutCovered } from '../../cmtp/permission.ts'
import type { BrokerSessions } from './connections.ts'
import type { AuthContext, Guard } from './guard.ts'
import type { KeyRing, TokenKeys } from './key-ring.ts'
import { Burned, Cookies } from './cookie.ts'
import type { Answered, Granted, Pending } from './pending-handshakes.ts'
import { HANDSHAKE_MS, NO_HANDSHAKE, PendingHandshakes } from './pending-handshakes.ts'
import type { IdentityProvider } from './provider.ts'
import type { Revocation } from './revocations.ts'
import { checkCallNkey, checkSubjectNkey } from './session-nkey.ts'
import { REFRESH_GRACE_MS, Sessions } from './sessions.ts'

export interface IamParts {
  readonly provider: IdentityProvider
  /** The node's key pair: signs answers and grants, and tokens where there is no ring. */
  readonly signer: KeyPair
  /** What says that the node speaks for the mesh. Default: none, and its key is the mesh's. */
  readonly certificate?: Certificate | undefined
  /** The keys that sign this node's tokens. The guard trusts the same. Default: the node's own key and no other. */
  readonly ring?: KeyRing
  /** The keys of every node of the mesh. Default: those of this one. */
  readonly keys?: TokenKeys
  /** Tells the other nodes what was revoked, and keeps it. Default: it is in force on this node until it stops. */
  readonly revoke?: (revocation: Revocation) => Promise<void>
  /** Built on the mesh's key and the same grants. */
  readonly guard: Guard
  /** What a DID may do right now; a DID nobody granted anything to is a newcomer. */
  readonly grantsOf: (did: string) => readonly Permission[]
  /** What keeps a DID out by name, whatever it asks for, where something does. Told to nobody but that DID. Default: nothing does. */
  readonly barred?: (did: string) => CMeshError | undefined
  /** The node that answers, as its own subject names it. */
  readonly node: string
  /** ms since 1970. Default `Date.now`. */
  readonly now?: () => number
  /** Life of a token in ms, 1,000 and up. Default 300,000. */
  readonly sessionTtlMs?: number
  /** Most handshakes open at once. Default 10,000. */
  readonly maxHandshakes?: number
  /** Logins of sessions at the broker, for those that name an nkey. Default: the broker has no accounts, and enforces nothing. */
  readonly connections?: BrokerSessions
  /** Life of such a login in ms; each refresh gives a new one. Default 3,600,000. */
  readonly connectionTtlMs?: number
}

const SWEEP_MS = 10_000
/** Most handshakes whose cookie was used and has not expired yet. */
const MAX_BURNED = 65_536
/** What a session may be used for, as the grant puts it. */
const PURPOSE = 'a session with this mesh'

type State = 'idle' | 'running' | 'stopped'

export class IamService {
  readonly #parts: IamParts
  readonly #now: () => number
  readonly #ttlMs: number
  readonly #handshakes: PendingHandshakes
  readonly #cookies = new Cookies()
  readonly #burned: Burned
  readonly #sessions: Sessions
  readonly #revoke: (revocation: Revocation) => Promise<void>
  /** The mesh's DID. */
  readonly #mesh: string
  #state: State = 'idle'
  #started: Promise<void> | undefined
  #stopped: Promise<void> | undefined
  #sweeper: NodeJS.Timeout | undefined

  /** Throws `CMESH_CONFIG_INVALID` for a token life that the guard's memory of revocations does not cover. */
  constructor(parts: IamParts) {
    const { signer, certificate, ring, guard, grantsOf, now = Date.now, sessionTtlMs = 300_000, maxHandshakes = 10_000 } = parts
    if (!Number.isSafeInteger(sessionTtlMs) || sessionTtlMs < 1_000 || sessionTtlMs + REFRESH_GRACE_MS > guard.tokenLifeMs) {
      const most = guard.tokenLifeMs - REFRESH_GRACE_MS
      const reason = `it must lie between 1000 and ${most}, which the guard's tokenLifeMs allows`
      throw new CMeshError('CMESH_CONFIG_INVALID', { key: 'sessionTtlMs', reason })
    }
    this.#parts = parts
    this.#mesh = certificate?.mesh ?? signer.did
    this.#now = now
    this.#ttlMs = sessionTtlMs
    this.#handshakes = new PendingHandshakes({ now, max: maxHandshakes, onExpired: pending => { void this.#cancel(pending) } })
    this.#burned = new Burned(now, MAX_BURNED)
    this.#revoke = parts.revoke ?? (async revocation => { guard.revoke(revocation) })
    this.#sessions = new Sessions({
      mesh: this.#mesh, guard,
      keys: () => ({ signer: ring?.current ?? signer, keySet: ring === undefined && certificate === undefined ? undefined : this.#keySet() }),
      revoke: this.#revoke, grantsOf, barred: parts.barred, now,
      ttlMs: sessionTtlMs, connections: parts.connections, connectionTtlMs: parts.connectionTtlMs ?? 3_600_000,
    })
    ring?.onDrop(() => { guard.keysChanged() })
  }

  /** Handshakes open right now. */
  get open(): number {
    return this.#handshakes.size
  }

  /** Resolves when the provider is up. Memoised; rejects with what the provider's `start` rejects with. */
  start(): Promise<void> {
    this.#started ??= this.#start()
    return this.#started
  }

  async #start(): Promise<void> {
    await this.#parts.provider.start()
    if (this.#state !== 'idle') return
    this.#state = 'running'
    this.#sweeper = setInterval(() => { this.#handshakes.sweep() }, SWEEP_MS)
    this.#sweeper.unref()
  }

  /** Takes no more steps, cancels the handshakes under way, stops the provider. Idempotent. */
  stop(): Promise<void> {
    this.#stopped ??= this.#stop()
    return this.#stopped
  }

  async #stop(): Promise<void> {
    this.#state = 'stopped'
    clearInterval(this.#sweeper)
    await Promise.all(this.#handshakes.clear().map(pending => this.#cancel(pending)))
    await this.#parts.provider.stop()
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop()
  }

  /**
   * Takes one step: the body of `0xIW:<action>` in, the body of the reply out, both canonical JSON. `auth`: the caller, where
   * the step came over a session; `hangup` with an empty body ends that session. Rejects with `CMESH_IAM_*`, among them
   * `CMESH_IAM_STALE` while it is not known who was revoked, and with
   * `CMESH_ROUTER_DRAINING` outside of start and stop.
   */
  async handle(action: HandshakeAction, body: Uint8Array, auth?: AuthContext): Promise<Uint8Array> {
    this.#checkRunning()
    this.#parts.guard.checkFresh()
    if (body.length > HANDSHAKE_BODY_BYTES) {
      const detail = { part: 'handshake message', bytes: body.length, limit: HANDSHAKE_BODY_BYTES }
      throw new CMeshError('CMESH_FRAME_TOO_LARGE', detail)
    }
    switch (action) {
      case 'call': return canonicalBytes(await this.#call(body))
      case 'confirm': return canonicalBytes(await this.#confirm(body))
      case 'consent': return canonicalBytes(await this.#consent(body))
      case 'refresh': return canonicalBytes(await this.#sessions.refresh(readMessage('refresh', body)))
      case 'hangup': {
        const own = body.length === 0 && auth !== undefined
        return canonicalBytes(own ? await this.#sessions.hangupOwn(auth) : await this.#sessions.hangup(readMessage('hangup', body)))
      }
      default: throw noAction(String(action), 'writing')
    }
  }

  /**
   * The answer to `0xI:<action>` for an authenticated caller: `whoami`, `session`, `keys` or `jwks`, as a JSON value. Throws
   * `CMESH_ROUTER_ACTION` for any other.
   */
  describe(action: string, auth: AuthContext): Readonly<Record<string, unknown>> {
    const { provider } = this.#parts
    switch (action) {
      case 'whoami': return {
        did: auth.sub, aal: auth.aal, amr: auth.amr, sid: auth.sid, mesh: this.#mesh, provider: provider.name,
        ...(auth.attributes.length > 0 && { attributes: auth.attributes }),
      }
      case 'session': return {
        sid: auth.sid, jti: auth.jti, did: auth.sub, issued: auth.issuedMs, expires: auth.expiresMs, jkt: auth.jkt,
        perms: auth.permissions.map(formatPermission),
      }
      case 'keys': return { ...this.#keySet() }
      case 'jwks': return {
        keys: this.#keySet().keys.map(({ kid, x }) => ({ ...PublicKey.fromText(x).jwk, kid, alg: TOKEN_ALGORITHM, use: 'sig' })),
      }
      default: throw noAction(action, 'reading')
    }
  }

  /**
   * Puts another key in the place of the one that signs this node's tokens, or lets none by the key `kid` count from now on, whichever node's
   * it is. Resolves with this node's keys after that. Who may ask for it is the caller's to check. Rejects with `CMESH_IAM_KEY` for a key that no node of the mesh signs by, and
   * `CMESH_ROUTER_ACTION` where tokens are signed by the mesh's root, which nothing replaces.
   */
  async changeKeys(change: 'rotate' | { readonly drop: string }): Promise<KeySet> {
    const { ring, keys } = this.#parts
    this.#checkRunning()
    if (ring === undefined) throw noAction('keys', 'writing')
    if (change === 'rotate') {
      ring.rotate()
    } else {
      // Another node's is dropped by that node, which hears of it.
      if (ring.has(change.drop) || keys?.verifierOf(change.drop) === undefined) ring.drop(change.drop)
      await this.#revoke({ kid: change.drop })
    }
    return ring.keySet
  }

  #keySet(): KeySet {
    const { ring, signer, certificate } = this.#parts
    if (ring !== undefined) return ring.keySet
    const { thumbprint: kid, text: x } = signer.publicKey
    const by = { mesh: this.#mesh, ...(certificate !== undefined && { certificate }) }
    return signKeySet({ version: 1, ...by, epoch: 0, issued: this.#now(), keys: [{ kid, x, notAfter: 0 }] }, signer)
  }

  async #call(body: Uint8Array): Promise<AnswerMessage> {
    const { provider, signer, certificate, node, ring, keys } = this.#parts
    const call = readMessage('call', body)
    if (call.audience !== undefined && call.audience !== this.#mesh) {
      throw refused('call', `it is meant for the mesh ${call.audience}`)
    }
    if (call.provider !== 'any' && call.provider !== provider.name) {
      throw refused('call', `this mesh proves identities by ${provider.name}`)
    }
    const sessionKey = PublicKey.fromText(call.key)
    parsePermissions(call.want)
    checkCallNkey(call, { names: [this.#mesh, signer.did, node], ring: keys ?? ring })
    this.#sessions.checkFree(call.nkey, 'call')

    this.#handshakes.reserve()
    try {
      const opening = {
        step: 'answer' as const,
        handshake: randomBytes(16).toString('base64url'),
        call: callHash(call),
        nonce: randomBytes(32).toString('base64url'),
        audience: this.#mesh,
        node,
        provider: provider.name,
        expires: this.#now() + HANDSHAKE_MS + (provider.patienceMs ?? 0),
      }
      const context = handshakeContext(opening)
      const { challenge, ui } = await this.#ask(() => provider.begin(context))
      if (challenge.length === 0 || challenge.length > CHALLENGE_CHARACTERS) {
        throw new CMeshError('CMESH_INTERNAL', { component: `the identity provider ${provider.name}`, id: opening.handshake })
      }
      this.#checkRunning()
      const { want, via, nkey } = call
      const answered: Answered = { awaits: 'confirm', context, sessionKey, want, via, nkey, expiresMs: opening.expires }
      const answer = { ...opening, challenge, ...(ui !== undefined && { ui }), ...(certificate !== undefined && { certificate }) }
      if (provider.stateless === true) return sign({ ...answer, cookie: this.#cookies.seal(answered) }, signer)
      this.#handshakes.put(answered)
      return sign(answer, signer)
    } finally {
      this.#handshakes.release()
    }
  }

  async #confirm(body: Uint8Array): Promise<GrantMessage> {
    const { provider, signer, grantsOf } = this.#parts
    const confirm = readMessage('confirm', body)
    const pending = this.#answered(confirm)
    const { context, sessionKey, want, via, nkey, expiresMs } = pending
    try {
      const nkeyKey = nkey === undefined ? undefined : readNkey('user', nkey)
      checkConfirm(context, sessionKey, confirm, nkeyKey)
      const identity = await this.#ask(() => provider.verify(context, confirm.proof))
      checkSubjectNkey(nkeyKey, identity.sub)
      const held = grantsOf(identity.sub)
      const perms = withoutCovered(want.length === 0 ? normalPermissions(held) : intersectPermissions(parsePermissions(want), held))
      if (perms.length === 0) throw this.#parts.barred?.(identity.sub) ?? refused('confirm', 'nothing of what it wants is granted to this identity')
      const grant = sign({
        step: 'grant' as const,
        handshake: context.handshake,
        audience: context.audience,
        sub: identity.sub,
        perms: perms.map(formatPermission),
        claims: identity.attributes.map(({ id, value, issuer }) => ({ id, value, issuer })),
        purpose: PURPOSE,
        ...(via !== undefined && { via }),
        lifetimeMs: this.#ttlMs,
        amr: identity.amr,
        aal: identity.aal,
      }, signer)
      this.#checkRunning()
      this.#handshakes.put({ awaits: 'consent', context, sessionKey, identity, grant, nkey, expiresMs })
      return grant
    } catch (error) {
      await this.#cancel(pending)
      throw error
    } finally {
      this.#handshakes.release()
    }
  }

  /**
   * The handshake that a confirm belongs to, burned, and its room reserved. One and the same refusal for every confirm whose handshake
   * this node does not know, whatever is wrong with its cookie.
   */
  #answered({ handshake, cookie }: ConfirmMessage): Answered {
    const take = (): Answered => this.#handshakes.take(handshake, 'confirm', burned => { void this.#cancel(burned) })
    if (this.#parts.provider.stateless !== true) return take()
    const answered = cookie === undefined ? undefined : this.#cookies.open(cookie)
    if (answered === undefined || answered.context.handshake !== handshake) throw refused('confirm', NO_HANDSHAKE)
    // A second confirm takes down with it what the first one was granted.
    if (this.#burned.has(handshake)) return take()
    if (answered.expiresMs <= this.#now()) throw refused('confirm', 'the call has expired')
    this.#handshakes.reserve()
    try {
      this.#burned.add(handshake, answered.expiresMs)
    } catch (error) {
      this.#handshakes.release()
      throw error
    }
    return answered
  }

  async #consent(body: Uint8Array): Promise<SessionMessage> {
    const consent = readMessage('consent', body)
    const pending: Granted = this.#handshakes.take(consent.handshake, 'consent', burned => { void this.#cancel(burned) })
    try {
      const { sessionKey, nkey, grant, identity: { attributesUntilMs } } = pending
      checkConsent(grant, sessionKey, consent)
      this.#sessions.checkFree(nkey, 'consent')
      const { sub, amr, aal, via, claims } = grant
      const perms = parsePermissions(grant.perms)
      // Since the grant was shown the subject may have been banned: it gets no token, and no connection.
      if (intersectPermissions(perms, this.#parts.grantsOf(sub)).length === 0) {
        throw this.#parts.barred?.(sub) ?? refused('consent', 'nothing of it is granted to this identity any more')
      }
      const cnf = { jkt: sessionKey.thumbprint, ...(nkey !== undefined && { nkey }) }
      const more = {
        ...(via !== undefined && { via }), ...(claims.length > 0 && { att: claims }),
        ...(attributesUntilMs !== undefined && { atu: Math.floor(attributesUntilMs / 1_000) }),
      }
      return await this.#sessions.open({ sub, amr, aal, cnf, ...more }, perms)
    } finally {
      this.#handshakes.release()
    }
  }

  #checkRunning(): void {
    if (this.#state !== 'running') throw new CMeshError('CMESH_ROUTER_DRAINING')
  }

  /** A provider's failure that has no code of ours is a bug, and says nothing of itself to the caller. */
  async #ask<T>(work: () => Promise<T>): Promise<T> {
    try {
      return await work()
    } catch (error) {
      throw CMeshError.from(error, `the identity provider ${this.#parts.provider.name}`)
    }
  }

  /** Lets the provider forget a handshake. What goes wrong there changes nothing here. */
  async #cancel({ context }: Pending): Promise<void> {
    try {
      await this.#parts.provider.cancel(context)
    } catch (error) {
      process.emitWarning(`identity provider ${this.#parts.provider.name} failed to cancel a handshake: ${String(error)}`)
    }
  }
}

function refused(step: string, reason: string): CMeshError {
  return new CMeshError('CMESH_IAM_HANDSHAKE', { step, reason })
}

function noAction(action: string, access: string): CMeshError {
  return new CMeshError('CMESH_ROUTER_ACTION', { service: 'IAM', action: action.slice(0, 64), access })
}
