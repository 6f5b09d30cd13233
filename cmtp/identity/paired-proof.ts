/**
 * The proof of a provider that wants a person to act: the signature of a `did` proof, and the code that the person's app showed.
 * The signature says who is being proven; the code says that the app which disclosed belongs to who is logging in here.
 */
import { CMeshError } from '../errors.ts'
import type { HandshakeContext } from './handshake.ts'
import type { KeyPair } from './keys.ts'
import { checkDidProof, makeDidProof, type DidProof } from './proof.ts'

export interface PairedProof extends DidProof {
  /** Four digits, as the app showed them. */
  readonly pairing: string
}

/** What a client shows the person, and how long there is for it. */
export interface PersonChallenge {
  /** The provider that wants to know, such as `irma`. */
  readonly provider: string
  /** The DID that is logging in. */
  readonly did: string
  /** What to show: as a QR code for another device, or as a link to open on this one. A URL either way. */
  readonly kind: 'link' | 'qr'
  readonly value: string
  /** When the handshake is over, by the node's clock, ms since 1970. */
  readonly expires: number
}

export function makePairedProof(context: HandshakeContext, identity: KeyPair, pairing: string): PairedProof {
  return { ...makeDidProof(context, identity), pairing }
}

/** The DID that was proven and the code given. Throws `CMESH_IAM_FORGED`, or `CMESH_IAM_HANDSHAKE` for anything else than a proof by a sound key. */
export function checkPairedProof(context: HandshakeContext, proof: unknown): { readonly did: string, readonly pairing: string } {
  const fields = new Map<string, unknown>(typeof proof === 'object' && proof !== null ? Object.entries(proof) : [])
  const pairing = fields.get('pairing')
  if (fields.size !== 3 || typeof pairing !== 'string' || !/^[0-9]{4}$/.test(pairing)) {
    const reason = 'the proof has exactly the text fields did, signature and pairing, which is four digits'
    throw new CMeshError('CMESH_IAM_HANDSHAKE', { step: 'confirm', reason })
  }
  return { did: checkDidProof(context, { did: fields.get('did'), signature: fields.get('signature') }), pairing }
}
