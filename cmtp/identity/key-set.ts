/**
 * The keys that a node of a mesh signs session tokens with, signed by the mesh's root DID or by a node that it certified, so that a
 * client and another node know which `kid` counts. This file owns their form, their signature and its check.
 */
import { CMeshError } from '../errors.ts'
import { canonicalJson } from './canonical-json.ts'
import { speakerOf, type Certificate } from './certificate.ts'
import { PublicKey, type KeyPair } from './keys.ts'

export interface VerificationKey {
  /** RFC 7638 thumbprint of the key, 43 characters. */
  readonly kid: string
  /** The Ed25519 public key, base64url. */
  readonly x: string
  /** From then on no token by this key counts, ms since 1970; 0 for the key that signs now, whose end is not planned. */
  readonly notAfter: number
}

export interface KeySet {
  readonly version: 1
  /** The mesh's DID, whose key signs this set where no certificate is in it. */
  readonly mesh: string
  /** Of the node whose key signs this set. */
  readonly certificate?: Certificate
  /** Rises whenever this signer drops a key: an older set of it is refused. */
  readonly epoch: number
  /** ms since 1970. */
  readonly issued: number
  readonly keys: readonly VerificationKey[]
  /** By the root or the certified node over `CMesh/1 keys\n` and the canonical JSON of the rest, base64url. */
  readonly signature: string
}

/** The highest epoch seen of each signer, by its DID. */
export type KeyEpochs = Readonly<Record<string, number>>

/** Most signers of one mesh whose epoch is remembered; past it the one seen first is forgotten. */
const MOST_SIGNERS = 64

export function signKeySet(set: Omit<KeySet, 'signature'>, root: KeyPair): KeySet {
  return { ...set, signature: root.sign(signedBytes(set)).toString('base64url') }
}

/** Whose keys a set names: the node of its certificate, or the mesh itself. */
export function signerOf({ mesh, certificate }: Pick<KeySet, 'mesh' | 'certificate'>): string {
  return certificate?.node ?? mesh
}

/** The epochs seen, that of a set among them. */
export function withEpochOf(set: KeySet, { [signerOf(set)]: _, ...seen }: KeyEpochs): KeyEpochs {
  return Object.fromEntries([...Object.entries(seen).slice(1 - MOST_SIGNERS), [signerOf(set), set.epoch]])
}

/**
 * The keys of a set by `kid`, once it is shown to be the mesh's own. `epoch`: the highest seen before of its signer. Throws
 * `CMESH_IAM_FORGED` for a set that neither the root of `mesh` nor the node it names signed, `CMESH_IAM_CERTIFICATE` for a node that `mesh`
 * did not certify, `CMESH_IAM_HANDSHAKE` for another mesh's, an older one's, or a key under another's `kid`.
 */
export function checkKeySet(set: KeySet, mesh: string, epoch = 0): ReadonlyMap<string, PublicKey> {
  const { signature, ...signed } = set
  if (set.mesh !== mesh) throw refused('its keys are those of another mesh')
  if (!speakerOf(mesh, set.certificate).verify(signedBytes(signed), Buffer.from(signature, 'base64url'))) throw new CMeshError('CMESH_IAM_FORGED', { what: 'set of keys' })
  if (set.epoch < epoch) throw refused('its keys are older than those seen before')
  return new Map(set.keys.map(({ kid, x }) => {
    const key = PublicKey.fromText(x)
    if (key.thumbprint !== kid) throw refused('a key of its set stands under another key\'s id')
    return [kid, key]
  }))
}

function signedBytes(set: Omit<KeySet, 'signature'>): Buffer {
  return Buffer.from(`CMesh/1 keys\n${canonicalJson(set)}`, 'utf8')
}

function refused(reason: string): CMeshError {
  return new CMeshError('CMESH_IAM_HANDSHAKE', { step: 'session', reason })
}
