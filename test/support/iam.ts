/** IAM and its guard in this process, with a clock that stands still until it is moved. */
import type { CMeshError } from '../../cmtp/errors.ts'
import { KeyPair } from '../../cmtp/identity/keys.ts'
import type { LoginOptions, SendStep, Session } from '../../cmtp/identity/login.ts'
import { login } from '../../cmtp/identity/login.ts'
import type { Permission } from '../../cmtp/permission.ts'
import { NEWCOMER_READ_SET } from '../../cmtp/permission.ts'
import { DidIdentityProvider } from '../../providers/iam/did.ts'
import type { AuthContext, GuardParts } from '../../services/iam/guard.ts'
import { Guard } from '../../services/iam/guard.ts'
import type { IamParts } from '../../services/iam/service.ts'
import { IamService } from '../../services/iam/service.ts'

export interface IamFixture {
  readonly mesh: KeyPair
  readonly guard: Guard
  readonly iam: IamService
  readonly send: SendStep
  /** ms since 1970; move it by hand. */
  readonly clock: { ms: number }
  /** Grants by DID; a DID not in it is a newcomer. */
  readonly grants: Map<string, readonly Permission[]>
  /** A session of a fresh identity, or of the one given. */
  open(options?: Partial<LoginOptions>): Promise<Session>
  /** The context of a session. */
  enter(session: Session): Promise<AuthContext>
}

export async function startIam(parts: Partial<IamParts & GuardParts> = {}): Promise<IamFixture> {
  const mesh = parts.signer ?? KeyPair.generate()
  const clock = { ms: 1_800_000_000_000 }
  const now = (): number => clock.ms
  const grants = new Map<string, readonly Permission[]>()
  const grantsOf = (did: string): readonly Permission[] => grants.get(did) ?? NEWCOMER_READ_SET
  const guard = new Guard({ key: mesh.publicKey, grantsOf, now, ...parts })
  const iam = new IamService({
    provider: new DidIdentityProvider(), signer: mesh, guard, grantsOf, node: 'node-1', now, ...parts,
  })
  await iam.start()
  const send: SendStep = (action, body) => iam.handle(action, body)
  return {
    mesh, guard, iam, send, clock, grants,
    open: options => login({ identity: KeyPair.generate(), send, ...options }),
    enter: async session => guard.check(Buffer.from(session.token), session.sid),
  }
}

/** What work threw or rejected with. */
export async function failureOf(work: () => unknown): Promise<CMeshError> {
  try {
    await work()
  } catch (error) {
    return error as CMeshError
  }
  throw new Error('nothing was thrown')
}
