/**
 * Identity by did:key: whoever signs the handshake with an Ed25519 key is the DID of that key. Assurance 1, since a key says
 * nothing about who holds it. Keeps nothing between `begin` and `verify`: the context carries all that the proof binds.
 */
import { hash } from 'node:crypto'
import { canonicalJson } from '../../cmtp/identity/canonical-json.ts'
import { checkDidProof } from '../../cmtp/identity/proof.ts'
import type { Challenge, IdentityContext, IdentityProvider, VerifiedIdentity } from '../../services/iam/provider.ts'

export class DidIdentityProvider implements IdentityProvider {
  readonly name = 'did'

  async start(): Promise<void> {}

  /** The challenge is the transcript; a client signs what it computed itself, never a text it was given. */
  async begin(context: IdentityContext): Promise<Challenge> {
    return { challenge: context.transcript }
  }

  async verify(context: IdentityContext, proof: unknown): Promise<VerifiedIdentity> {
    const sub = checkDidProof(context, proof)
    // `swk`: proof of possession of a software-secured key (RFC 8176, 2).
    return {
      sub, attributes: [], amr: ['swk'], aal: 1,
      evidenceHash: hash('sha256', canonicalJson({ context: { ...context }, proof }), 'base64url'),
    }
  }

  async cancel(): Promise<void> {}

  async stop(): Promise<void> {}
}
