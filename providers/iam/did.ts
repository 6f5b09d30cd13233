/**
 * Identity by did:key: whoever signs the handshake with an Ed25519 key is the DID of that key. Assurance 1, since a key says
 * nothing about who holds it; 2 where presentations of credentials by trusted issuers come along. Keeps nothing of a handshake between
 * `begin` and `verify`: the context carries all that the proof binds. What it does keep, for a minute, is which presentations it took.
 */
import { hash } from 'node:crypto'
import { CMeshError } from '../../cmtp/errors.ts'
import { canonicalJson } from '../../cmtp/identity/canonical-json.ts'
import { SeenPresentations, verifyPresentation, type Attribute } from '../../cmtp/identity/credential.ts'
import { checkDidProof, MAX_PRESENTATIONS } from '../../cmtp/identity/proof.ts'
import type { Challenge, IdentityContext, IdentityProvider, VerifiedIdentity } from '../../services/iam/provider.ts'

export interface DidIdentityOptions {
  /** DIDs whose credentials count. Default: none, and presentations are refused. */
  readonly issuers?: readonly string[]
  /** ms since 1970. Default `Date.now`. */
  readonly now?: () => number
}

interface Shown {
  readonly attributes: readonly Attribute[]
  /** When the first credential ends, ms since 1970; `Infinity` without one. */
  readonly untilMs: number
}

export class DidIdentityProvider implements IdentityProvider {
  readonly name = 'did'
  readonly stateless = true
  readonly #trusted: ReadonlySet<string>
  readonly #now: () => number
  readonly #seen = new SeenPresentations()

  constructor({ issuers = [], now = Date.now }: DidIdentityOptions = {}) {
    this.#trusted = new Set(issuers)
    this.#now = now
  }

  async start(): Promise<void> {}

  /** The challenge is the transcript; a client signs what it computed itself, never a text it was given. */
  async begin(context: IdentityContext): Promise<Challenge> {
    return { challenge: context.transcript }
  }

  async verify(context: IdentityContext, proof: unknown): Promise<VerifiedIdentity> {
    const { signed, presentations } = split(proof)
    const sub = checkDidProof(context, signed)
    const { attributes, untilMs } = await this.#attributes(context, presentations)
    const evidenceHash = hash('sha256', canonicalJson({ context: { ...context }, proof }), 'base64url')
    // `swk`: proof of possession of a software-secured key (RFC 8176, 2). `vc`: our own, for a credential beside it.
    if (presentations.length === 0) return { sub, attributes, amr: ['swk'], aal: 1, evidenceHash }
    return { sub, attributes, attributesUntilMs: untilMs, amr: ['swk', 'vc'], aal: 2, evidenceHash }
  }

  async #attributes({ audience, transcript }: IdentityContext, presentations: readonly unknown[]): Promise<Shown> {
    const nowS = Math.floor(this.#now() / 1_000)
    const attributes = new Map<string, Attribute>()
    let untilMs = Infinity
    for (const text of presentations) {
      const shown = await verifyPresentation(text, { audience, nonce: transcript, nowS, trusted: this.#trusted, seen: this.#seen })
      untilMs = Math.min(untilMs, shown.expires * 1_000)
      for (const attribute of shown.attributes) {
        const key = canonicalJson({ id: attribute.id, issuer: attribute.issuer })
        if (attributes.has(key)) throw refused('the proof presents one attribute twice')
        attributes.set(key, attribute)
      }
    }
    return { attributes: [...attributes.values()], untilMs }
  }

  async cancel(): Promise<void> {}

  async stop(): Promise<void> {}
}

/** The signed part of a proof, which may be no proof at all, and what is presented beside it. Throws `CMESH_IAM_HANDSHAKE`. */
function split(proof: unknown): { readonly signed: unknown, readonly presentations: readonly unknown[] } {
  if (typeof proof !== 'object' || proof === null || !('presentations' in proof)) return { signed: proof, presentations: [] }
  const { presentations, ...signed } = proof
  if (!Array.isArray(presentations) || presentations.length === 0 || presentations.length > MAX_PRESENTATIONS) {
    throw refused(`the presentations of a proof are a list of 1 to ${MAX_PRESENTATIONS}`)
  }
  return { signed, presentations }
}

function refused(reason: string): CMeshError {
  return new CMeshError('CMESH_IAM_HANDSHAKE', { step: 'confirm', reason })
}
