/**
 * The handshake's cryptography: builds and checks each step, for client and node alike. Pure: no clock, no I/O, no memory.
 *
 * 1. Every signature is over `CMesh/1 <step>\n` and the canonical message without its signature, so none passes for another. The one of
 *    an nkey is over `CMesh/1 nkey\n` and the transcript.
 * 2. The transcript binds the call (with the session key) and everything of the answer that exists before the provider is
 *    asked; the proof binds the transcript; the confirm binds the proof; the consent binds the grant.
 * 3. A check throws `CMESH_IAM_FORGED` when a signature fails and `CMESH_IAM_HANDSHAKE` when a value is not the expected one.
 */
import { hash, randomBytes } from 'node:crypto'
import { CMeshError } from '../errors.ts'
import { canonicalJson } from './canonical-json.ts'
import { speakerOf } from './certificate.ts'
import { checkKeySet, signerOf, type KeyEpochs } from './key-set.ts'
import type { KeyPair } from './keys.ts'
import { PublicKey } from './keys.ts'
import type { Nkey } from './nats-keys.ts'
import type {
  AnswerMessage, CallMessage, ConfirmMessage, ConsentMessage, GrantMessage, RenewalMessage, SessionMessage, Step,
} from './messages.ts'
import type { TokenClaims } from './token.ts'
import { decodeToken, tokenKeyId } from './token.ts'

/** What a proof is made for, and bound to. Shaped like the `IdentityContext` of `services/iam/provider.ts`. */
export interface HandshakeContext {
  readonly handshake: string
  readonly nonce: string
  readonly audience: string
  readonly transcript: string
}

export type Unsigned<T> = Omit<T, 'signature'>

// --- call and answer

export interface CallOptions {
  /** Default `any`: what the mesh runs. */
  readonly provider?: string
  readonly sessionKey: PublicKey
  /** Default: all that is granted. */
  readonly want?: readonly string[]
  readonly audience?: string
  readonly via?: string
  /** Text of the user nkey of the session's own connection: a key for nothing else. Default: it has none. */
  readonly nkey?: string
}

export function makeCall({ provider = 'any', sessionKey, want = [], audience, via, nkey }: CallOptions): CallMessage {
  const call: CallMessage = {
    step: 'call', version: 1, provider, key: sessionKey.text, want, nonce: randomBytes(16).toString('base64url'),
  }
  return { ...call, ...(audience !== undefined && { audience }), ...(via !== undefined && { via }), ...(nkey !== undefined && { nkey }) }
}

export function callHash(call: CallMessage): string {
  return digest(call)
}

/** The context of the handshake an answer opens: the same on both sides, and known before the provider's challenge is. */
export function handshakeContext(
  answer: Pick<AnswerMessage, 'handshake' | 'call' | 'nonce' | 'audience' | 'node' | 'provider' | 'expires'>,
): HandshakeContext {
  const { handshake, call, nonce, audience, node, provider, expires } = answer
  return { handshake, nonce, audience, transcript: digest({ handshake, call, nonce, audience, node, provider, expires }) }
}

/**
 * The client's check of an answer to its own call; resolves whom it talks to. Throws `CMESH_IAM_FORGED` when neither the mesh that
 * the answer names nor the node it certified signed it, `CMESH_IAM_CERTIFICATE` for a certificate that is none of that mesh for that node,
 * `CMESH_IAM_HANDSHAKE` for another call's answer, another mesh's or another provider's.
 */
export function checkAnswer(call: CallMessage, answer: AnswerMessage): HandshakeContext {
  if (call.audience !== undefined && answer.audience !== call.audience) {
    throw refused('answer', `it comes from the mesh ${answer.audience}`)
  }
  if (answer.call !== callHash(call)) throw refused('answer', 'it answers another call')
  if (call.provider !== 'any' && answer.provider !== call.provider) {
    throw refused('answer', `it wants a proof by ${answer.provider}`)
  }
  checkSignature(answer, answererOf(answer), 'answer')
  return handshakeContext(answer)
}

/**
 * The key that an answer and the grant after it are signed with: the mesh's own, or that of the node which answers, where the mesh certified it.
 * Throws `CMESH_IAM_CERTIFICATE`.
 */
export function answererOf({ audience, node, certificate }: Pick<AnswerMessage, 'audience' | 'node' | 'certificate'>): PublicKey {
  if (certificate !== undefined && certificate.node !== node) throw new CMeshError('CMESH_IAM_CERTIFICATE', { reason: 'it is of another node than the one that answers' })
  return speakerOf(audience, certificate)
}

// --- confirm and grant

/** `cookie`: the answer's, where it had one. `nkey`: the one that the call named, where it named one. */
export function makeConfirm(
  context: HandshakeContext, proof: unknown, sessionKey: KeyPair, cookie?: string, nkey?: Pick<Nkey, 'sign'>,
): ConfirmMessage {
  const possession = nkey?.sign(possessionBytes(context)).toString('base64url')
  return sign({ step: 'confirm', ...context, proof, ...(cookie !== undefined && { cookie }), ...(possession !== undefined && { possession }) }, sessionKey)
}

/** The node's check that a confirm belongs to the handshake and that its sender holds the session key of the call, and the nkey it named. */
export function checkConfirm(context: HandshakeContext, sessionKey: PublicKey, confirm: ConfirmMessage, nkey?: PublicKey): void {
  if (confirm.audience !== context.audience) throw refused('confirm', 'it is meant for another mesh')
  if (confirm.nonce !== context.nonce) throw refused('confirm', 'its nonce is not the one of this handshake')
  if (confirm.transcript !== context.transcript) throw refused('confirm', 'its transcript is not the one of this handshake')
  checkSignature(confirm, sessionKey, 'confirm')
  if (nkey === undefined) {
    if (confirm.possession !== undefined) throw refused('confirm', 'it proves an nkey that the call did not name')
    return
  }
  if (confirm.possession === undefined) throw refused('confirm', 'it does not prove the nkey of the call')
  if (!nkey.verify(possessionBytes(context), Buffer.from(confirm.possession, 'base64url'))) throw forged('proof of the nkey')
}

/**
 * The client's check of the grant it is asked to consent to. `subject`: the DID it proved, when it knows. `answerer`: the key that signed
 * the answer; default the mesh's own.
 */
export function checkGrant(context: HandshakeContext, grant: GrantMessage, subject?: string, answerer = PublicKey.fromDid(context.audience)): void {
  if (grant.handshake !== context.handshake || grant.audience !== context.audience) {
    throw refused('grant', 'it belongs to another handshake')
  }
  if (subject !== undefined && grant.sub !== subject) throw refused('grant', `it is made out to ${grant.sub}`)
  checkSignature(grant, answerer, 'grant')
}

// --- consent and session

export function makeConsent(grant: GrantMessage, sessionKey: KeyPair): ConsentMessage {
  return sign({ step: 'consent', handshake: grant.handshake, grant: digest(grant) }, sessionKey)
}

/** The node's check that the holder of the session key agreed to exactly this grant. */
export function checkConsent(grant: GrantMessage, sessionKey: PublicKey, consent: ConsentMessage): void {
  checkSignature(consent, sessionKey, 'consent')
  if (consent.grant !== digest(grant)) throw refused('consent', 'it agrees to another grant than the one that was shown')
}

/**
 * The client's check of what it got: a token by this mesh, for this session, this key and this subject. What the token may
 * do is the node's word and is checked there. The mesh signs by its own key or by one of the set that came with the session, which must
 * not be older than what was `seen` of the same signer. `nkey`: the one of the call, where it named one; the token names no other.
 * Throws `CMESH_IAM_FORGED`, `CMESH_IAM_CERTIFICATE`, `CMESH_IAM_HANDSHAKE` or `CMESH_IAM_NO_SESSION`.
 */
export function checkSession(
  session: SessionMessage, audience: string, subject: string, sessionKey: PublicKey, seen: KeyEpochs = {}, nkey?: string,
): TokenClaims {
  const claims = decodeToken(session.token)
  const kid = tokenKeyId(session.token)
  const root = PublicKey.fromDid(audience)
  const keys = session.keys === undefined ? undefined : checkKeySet(session.keys, audience, seen[signerOf(session.keys)])
  // Whoever was shown a set once is not led back to a time before it.
  if (keys === undefined && Object.keys(seen).length > 0) throw refused('session', 'its keys are older than those seen before')
  const key = keys?.get(kid) ?? (kid === root.thumbprint ? root : undefined)
  const cut = session.token.lastIndexOf('.')
  const signature = Buffer.from(session.token.slice(cut + 1), 'base64url')
  if (key === undefined || !key.verify(Buffer.from(session.token.slice(0, cut)), signature)) throw forged('session token')
  const ours = claims.iss === audience && claims.sub === subject && claims.sid === session.sid
  if (!ours || claims.cnf.jkt !== sessionKey.thumbprint) throw refused('session', 'its token belongs to another session')
  if (claims.cnf.nkey !== nkey) throw refused('session', 'its token is for another connection')
  return claims
}

// --- refresh and hangup

/** `issued`: ms since 1970; at most 60 s off the node's clock, and later than the session's last one. */
export function makeRenewal(step: 'refresh' | 'hangup', token: string, sessionKey: KeyPair, issued: number): RenewalMessage {
  return sign({ step, token, key: sessionKey.publicKey.text, issued }, sessionKey)
}

/** The node's check that a renewal is signed by the key its token names. The token's own signature is not looked at. */
export function checkRenewal(renewal: RenewalMessage, claims: TokenClaims): void {
  const key = PublicKey.fromText(renewal.key)
  if (key.thumbprint !== claims.cnf.jkt) throw refused(renewal.step, 'its key is not the one of the session')
  checkSignature(renewal, key, renewal.step)
}

// --- signatures

/** The message with its signature, base64url. */
export function sign<T extends { readonly step: Step }>(message: T, key: KeyPair): T & { readonly signature: string } {
  return { ...message, signature: key.sign(signedBytes(message)).toString('base64url') }
}

function checkSignature(message: { readonly step: Step, readonly signature: string }, key: PublicKey, what: string): void {
  const { signature, ...unsigned } = message
  if (!key.verify(signedBytes(unsigned), Buffer.from(signature, 'base64url'))) throw forged(what)
}

/** What an nkey signs for a handshake. A broker that picks such a nonce gets a proof for this one handshake, and nothing that counts elsewhere. */
function possessionBytes({ transcript }: HandshakeContext): Buffer {
  return Buffer.from(`CMesh/1 nkey\n${transcript}`, 'utf8')
}

function signedBytes(message: { readonly step: Step }): Buffer {
  return Buffer.from(`CMesh/1 ${message.step}\n${canonicalJson(message)}`, 'utf8')
}

function digest(value: unknown): string {
  return hash('sha256', canonicalJson(value), 'base64url')
}

function refused(step: Step, reason: string): CMeshError {
  return new CMeshError('CMESH_IAM_HANDSHAKE', { step, reason })
}

function forged(what: string): CMeshError {
  return new CMeshError('CMESH_IAM_FORGED', { what })
}
