/**
 * The node proves itself to itself before it serves anybody: one whole handshake in process, an answer forged on the way in,
 * a consent forged on the way out, and a forged token at the guard. Leaves one session behind, the caller's to use.
 */
import { CMeshError } from '../../cmtp/errors.ts'
import type { ErrorCode } from '../../cmtp/errors.ts'
import { canonicalBytes } from '../../cmtp/identity/canonical-json.ts'
import { sign } from '../../cmtp/identity/handshake.ts'
import { KeyPair } from '../../cmtp/identity/keys.ts'
import type { Session, SendStep } from '../../cmtp/identity/login.ts'
import { login } from '../../cmtp/identity/login.ts'
import type { HandshakeAction } from '../../cmtp/identity/messages.ts'
import { readMessage } from '../../cmtp/identity/messages.ts'
import type { Guard } from './guard.ts'
import type { IamService } from './service.ts'

export interface IamSelfTestParts {
  readonly iam: IamService
  readonly guard: Guard
  /** Who logs in: the node. */
  readonly identity: KeyPair
  /** The mesh's DID. */
  readonly mesh: string
  /** Texts of the permissions the session is for. Default: all that is granted. */
  readonly want?: readonly string[]
}

/** Resolves with the session of `identity`. Rejects with `CMESH_BOOT_FAILED` naming what did not hold. */
export async function selfTestIam({ iam, guard, identity, mesh, want = [] }: IamSelfTestParts): Promise<Session> {
  const send: SendStep = (action, body) => iam.handle(action, body)
  const attempt = (altered: SendStep): Promise<Session> => login({ identity, mesh, want, send: altered })

  await refuses('a forged answer', 'CMESH_IAM_FORGED', () => attempt(altering(send, 'call', 'reply', forgeAnswer)))
  await refuses('a forged consent', 'CMESH_IAM_FORGED', () => attempt(altering(send, 'consent', 'request', forgeConsent)))

  const session = await holds('the handshake', () => attempt(send))
  const token = Buffer.from(session.token)
  await refuses('a forged token', 'CMESH_IAM_NO_SESSION', async () => guard.check(forgeToken(token), session.sid))
  const auth = await holds('the session', async () => guard.check(token, session.sid))
  if (auth.sub !== identity.did || auth.sid !== session.sid) throw failed('the session belongs to somebody else')
  return session
}

/** `send` with one action's body, on its way in or out, put through `change`. */
function altering(
  send: SendStep, which: HandshakeAction, way: 'request' | 'reply', change: (body: Uint8Array) => Uint8Array,
): SendStep {
  return async (action, body, node) => {
    const sent = action === which && way === 'request' ? change(body) : body
    const reply = await send(action, sent, node)
    return action === which && way === 'reply' ? change(reply) : reply
  }
}

/** The same answer, signed by a key that is not the mesh's. */
function forgeAnswer(body: Uint8Array): Uint8Array {
  const { signature: _, ...answer } = readMessage('answer', body)
  return canonicalBytes(sign(answer, KeyPair.generate()))
}

/** The same consent, signed by a key that is not the session's. */
function forgeConsent(body: Uint8Array): Uint8Array {
  const { signature: _, ...consent } = readMessage('consent', body)
  return canonicalBytes(sign(consent, KeyPair.generate()))
}

/** The same token with one bit of its signature turned. */
function forgeToken(token: Buffer): Buffer {
  const cut = token.lastIndexOf('.') + 1
  const signature = Buffer.from(token.toString('latin1', cut), 'base64url')
  signature[0] = (signature[0] as number) ^ 1
  return Buffer.concat([token.subarray(0, cut), Buffer.from(signature.toString('base64url'))])
}

async function holds<T>(what: string, work: () => Promise<T>): Promise<T> {
  try {
    return await work()
  } catch (cause) {
    throw failed(`${what} failed: ${messageOf(cause)}`, cause)
  }
}

async function refuses(what: string, code: ErrorCode, work: () => Promise<unknown>): Promise<void> {
  try {
    await work()
  } catch (error) {
    if (error instanceof CMeshError && error.code === code) return
    throw failed(`${what} was refused for another reason: ${messageOf(error)}`, error)
  }
  throw failed(`${what} was accepted`)
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error)
}

function failed(reason: string, cause?: unknown): CMeshError {
  return new CMeshError('CMESH_BOOT_FAILED', { step: 'iam', reason }, { cause })
}
