/**
 * Which nkey a session's own connection may have: a key for nothing else. A broker picks what it signs when it logs in, so it must be
 * no key whose signature counts elsewhere: not the session's, not the identity's, none of the mesh's.
 */
import { CMeshError } from '../../cmtp/errors.ts'
import { isDid } from '../../cmtp/identity/did.ts'
import { PublicKey } from '../../cmtp/identity/keys.ts'
import type { CallMessage } from '../../cmtp/identity/messages.ts'
import { readNkey } from '../../cmtp/identity/nats-keys.ts'
import type { TokenKeys } from './key-ring.ts'

export interface OwnKeys {
  /** Of the mesh, and of the node that answers. */
  readonly names: readonly string[]
  /** The keys that sign tokens, where the mesh's own does not. */
  readonly ring: TokenKeys | undefined
}

/** Throws `CMESH_IAM_KEY` for an nkey that is none, and `CMESH_IAM_HANDSHAKE` for one whose key is another of the call's or the mesh's own. */
export function checkCallNkey({ nkey, key }: CallMessage, own: OwnKeys): void {
  if (nkey === undefined) return
  const { text, thumbprint } = readNkey('user', nkey)
  if (text === key) throw refused('call', 'its nkey is the key of the session')
  if (own.ring?.verifierOf(thumbprint) !== undefined || own.names.some(name => isKeyOf(name, text))) throw refused('call', 'its nkey is a key of the mesh')
}

/** Throws `CMESH_IAM_HANDSHAKE` for an nkey that is the key of the DID it came with. */
export function checkSubjectNkey(nkey: PublicKey | undefined, sub: string): void {
  if (nkey !== undefined && isKeyOf(sub, nkey.text)) throw refused('confirm', 'its nkey is the key of the identity')
}

function isKeyOf(did: string, text: string): boolean {
  return isDid(did) && PublicKey.fromDid(did).text === text
}

function refused(step: string, reason: string): CMeshError {
  return new CMeshError('CMESH_IAM_HANDSHAKE', { step, reason })
}
