/**
 * The client's side of the handshake from first call to session, and of its renewal. It owns the order of the steps and every
 * check a client owes itself; how a body reaches IAM is the caller's (`send`), and so is what a person gets to see.
 */
import { CMeshError } from '../errors.ts'
import { canonicalBytes } from './canonical-json.ts'
import type { HandshakeContext } from './handshake.ts'
import { answererOf, checkAnswer, checkGrant, checkSession, makeCall, makeConfirm, makeConsent, makeRenewal } from './handshake.ts'
import { withEpochOf, type KeyEpochs } from './key-set.ts'
import { KeyPair } from './keys.ts'
import type { AnswerMessage, GrantMessage, HandshakeAction, SessionMessage } from './messages.ts'
import { readMessage } from './messages.ts'
import type { Nkey } from './nats-keys.ts'
import type { PersonChallenge } from './paired-proof.ts'
import { makePairedProof } from './paired-proof.ts'
import { makeDidProof, makeMockProof } from './proof.ts'

/**
 * Carries one body to `0xIW:<action>` and resolves with the body of the reply; rejects with the reply's error. `node`
 * names the node that keeps the handshake, which alone can go on with it; `undefined` means that any node will do. `until`: a person
 * is acting, so that the reply may take until then, by the node's clock, ms since 1970.
 */
export type SendStep = (action: HandshakeAction, body: Uint8Array, node: string | undefined, until?: number) => Promise<Uint8Array>

/** Providers whose proof is a signature by the identity, so that the grant must be made out to it. */
const PROVES_THE_DID: ReadonlySet<string> = new Set(['did', 'mock', 'irma'])

export interface LoginOptions {
  readonly identity: KeyPair
  readonly send: SendStep
  /** Default `any`: what the mesh runs. */
  readonly provider?: string
  /** Texts of the permissions wanted. Default: all that is granted. */
  readonly want?: readonly string[]
  /** The mesh's DID, to refuse any other. Default: whatever mesh answers, to be pinned from `Session.mesh`. */
  readonly mesh?: string
  /** The session of a gateway, whose frames may carry requests of this one. Default: none. */
  readonly via?: string
  /**
   * The user nkey that the session's own connection to the broker will log in with; a fresh one, used for nothing else. Default: none,
   * for a session that has no connection of its own.
   */
  readonly nkey?: Nkey
  /** The highest epochs seen of this mesh's nodes: a session under older keys of the same node is refused. Default: none. */
  readonly keyEpochs?: KeyEpochs
  /** Shown the exact grant before it is consented to. Default: consents. */
  readonly approve?: (grant: GrantMessage) => boolean | Promise<boolean>
  /** Makes presentations of credentials for a proof by `did`: for `audience`, bound to `transcript`; at most 4. Default: none. */
  readonly present?: (context: HandshakeContext) => Promise<readonly string[]>
  /** Shows a person what a provider wants them to see, and resolves with the code that their app shows. Default: such a provider cannot be used. */
  readonly onChallenge?: (challenge: PersonChallenge) => string | Promise<string>
  /** Makes the proof for a provider other than `did`, `mock` and `irma`. */
  readonly prove?: (answer: AnswerMessage, context: HandshakeContext) => unknown
}

export interface Session {
  readonly sid: string
  readonly token: string
  /** The session key; whoever holds it renews the session. */
  readonly key: KeyPair
  /** The DID that was proven. */
  readonly sub: string
  /** The mesh's DID. */
  readonly mesh: string
  /** The node that opened the session. */
  readonly node: string
  /** Texts of permissions, or the name of a set. */
  readonly perms: readonly string[]
  /** The session of a gateway, whose frames may carry requests of this one. */
  readonly via?: string
  /** What its own connection to the broker logs in with, where it has one. */
  readonly nkey?: Nkey
  /** The login for `nkey`, where the broker has accounts; `expires` by the node's clock, ms since 1970. */
  readonly connection?: { readonly jwt: string, readonly expires: number }
  /** Epochs of the keys that were seen of the mesh's nodes, by their DIDs; absent where the mesh signs by its own key. */
  readonly keyEpochs?: KeyEpochs
  /** By the node's clock, ms since 1970. */
  readonly issued: number
  readonly expires: number
}

/**
 * Resolves with a session. Rejects with `CMESH_IAM_FORGED` (an answer, grant or token not by the mesh), `CMESH_IAM_CERTIFICATE` (by a node
 * that the mesh did not certify), `CMESH_IAM_HANDSHAKE`
 * (a step refused on either side, a gateway named that was not asked for, the grant declined) or what `send` rejects with.
 */
export async function login(
  { identity, send, provider, want, mesh, via, nkey, keyEpochs, approve, present, onChallenge, prove }: LoginOptions,
): Promise<Session> {
  const key = KeyPair.generate()
  const call = makeCall({
    sessionKey: key.publicKey,
    ...(provider !== undefined && { provider }),
    ...(want !== undefined && { want }),
    ...(mesh !== undefined && { audience: mesh }),
    ...(via !== undefined && { via }),
    ...(nkey !== undefined && { nkey: nkey.text }),
  })
  const answer = readMessage('answer', await send('call', canonicalBytes(call), undefined))
  const context = checkAnswer(call, answer)
  const { node } = answer

  const proof = await makeProof(answer, context, identity, { present, onChallenge, prove })
  const until = answer.ui === undefined ? undefined : answer.expires
  const grant = readMessage('grant', await send('confirm', canonicalBytes(makeConfirm(context, proof, key, answer.cookie, nkey)), node, until))
  const provesItself = PROVES_THE_DID.has(answer.provider)
  checkGrant(context, grant, provesItself ? identity.did : undefined, answererOf(answer))
  if (grant.via !== via) throw new CMeshError('CMESH_IAM_HANDSHAKE', { step: 'grant', reason: 'it names another gateway' })
  if (approve !== undefined && !await approve(grant)) {
    throw new CMeshError('CMESH_IAM_HANDSHAKE', { step: 'consent', reason: 'the grant was declined' })
  }

  const session = readMessage('session', await send('consent', canonicalBytes(makeConsent(grant, key)), node))
  return opened(session, {
    key, sub: grant.sub, mesh: context.audience, node,
    ...(via !== undefined && { via }), ...(nkey !== undefined && { nkey }), ...(keyEpochs !== undefined && { keyEpochs }),
  })
}

/** Resolves with the same session under a new token. `now`: ms since 1970. Rejects like `login`. */
export async function refresh(session: Session, send: SendStep, now: number): Promise<Session> {
  const renewal = makeRenewal('refresh', session.token, session.key, now)
  const renewed = readMessage('session', await send('refresh', canonicalBytes(renewal), undefined))
  if (renewed.sid !== session.sid) {
    throw new CMeshError('CMESH_IAM_HANDSHAKE', { step: 'session', reason: 'its token belongs to another session' })
  }
  return opened(renewed, session)
}

/** Ends a session. `now`: ms since 1970. Rejects with what `send` rejects with. */
export async function hangup(session: Session, send: SendStep, now: number): Promise<void> {
  const renewal = makeRenewal('hangup', session.token, session.key, now)
  readMessage('bye', await send('hangup', canonicalBytes(renewal), undefined))
}

type Opener = Pick<Session, 'key' | 'sub' | 'mesh' | 'node' | 'via' | 'nkey' | 'keyEpochs'>

function opened(message: SessionMessage, { key, sub, mesh, node, via, nkey, keyEpochs }: Opener): Session {
  const claims = checkSession(message, mesh, sub, key.publicKey, keyEpochs, nkey?.text)
  // Whose frames may carry the session's requests is what was consented to, in every token of it.
  if (claims.via !== via) throw new CMeshError('CMESH_IAM_HANDSHAKE', { step: 'session', reason: 'its token names another gateway' })
  const { perms } = claims
  const { sid, token, issued, expires, connection, keys } = message
  return {
    sid, token, key, sub, mesh, node, perms,
    ...(via !== undefined && { via }), ...(nkey !== undefined && { nkey }), ...(nkey !== undefined && connection !== undefined && { connection }),
    ...(keys !== undefined && { keyEpochs: withEpochOf(keys, keyEpochs ?? {}) }), issued, expires,
  }
}

async function makeProof(
  answer: AnswerMessage, context: HandshakeContext, identity: KeyPair,
  { present, onChallenge, prove }: { readonly [K in 'present' | 'onChallenge' | 'prove']: LoginOptions[K] | undefined },
): Promise<unknown> {
  if (answer.provider === 'did') return makeDidProof(context, identity, await present?.(context))
  if (answer.provider === 'mock') return makeMockProof(answer.challenge, identity.did)
  if (answer.provider === 'irma' && answer.ui !== undefined && onChallenge !== undefined) {
    const { provider, ui, expires } = answer
    return makePairedProof(context, identity, await onChallenge({ provider, did: identity.did, ...ui, expires }))
  }
  if (prove !== undefined) return await prove(answer, context)
  const reason = `it wants a proof by ${answer.provider}, which this client cannot make`
  throw new CMeshError('CMESH_IAM_HANDSHAKE', { step: 'answer', reason })
}
