/**
 * Identity for tests: a session begins with a call string, the right answer to it opens the door, and a wrong answer gives
 * nothing. Deterministic: the same context has the same call string. Proves nothing about anybody (assurance 0), so it does
 * not start unless it was enabled on purpose.
 */
import { hash } from 'node:crypto'
import { CMeshError } from '../../cmtp/errors.ts'
import { canonicalJson } from '../../cmtp/identity/canonical-json.ts'
import { checkMockProof, mockChallenge } from '../../cmtp/identity/proof.ts'
import type { Challenge, IdentityContext, IdentityProvider, VerifiedIdentity } from '../../services/iam/provider.ts'

export interface MockIdentityOptions {
  /** Default false: `start` rejects. */
  readonly enabled?: boolean
}

export class MockIdentityProvider implements IdentityProvider {
  readonly name = 'mock'
  readonly stateless = true
  readonly #enabled: boolean

  constructor({ enabled = false }: MockIdentityOptions = {}) {
    this.#enabled = enabled
  }

  /** Rejects with `CMESH_IAM_PROVIDER` unless enabled. */
  async start(): Promise<void> {
    if (this.#enabled) return
    const reason = 'it lets anybody be anybody; enable it explicitly, for tests only'
    throw new CMeshError('CMESH_IAM_PROVIDER', { provider: this.name, reason })
  }

  async begin(context: IdentityContext): Promise<Challenge> {
    return { challenge: mockChallenge(context) }
  }

  async verify(context: IdentityContext, proof: unknown): Promise<VerifiedIdentity> {
    const sub = checkMockProof(context, proof)
    return {
      sub, attributes: [], amr: [], aal: 0,
      evidenceHash: hash('sha256', canonicalJson({ context: { ...context }, proof }), 'base64url'),
    }
  }

  async cancel(): Promise<void> {}

  async stop(): Promise<void> {}
}
