/** How what an identity has committed to, and a rotation that was begun, lie in their files: always what was made on a machine of its owner's. */
import { isCommitment } from '../cmtp/identity/rotation.ts'
import { readIdentityFile, type IdentityFile } from './identity-file.ts'
import { fieldsOf, unusable } from './private-files.ts'

export interface NextFile {
  readonly version: 1
  /** DID that has committed. */
  readonly of: string
  readonly commitment: string
  /** base64url of the next root: a secret. Absent where it was carried away, or is kept with the root of today. */
  readonly entropy?: string
}

/** A rotation that was begun. It holds the secrets of the new identity: not to be shown. */
export interface PendingRotation {
  readonly version: 1
  /** DID that is to be rotated. */
  readonly old: string
  readonly file: IdentityFile
  readonly next: NextFile
}

/** The next of an identity, read from `path`. Throws `CMESH_CLIENT_CREDENTIALS`. */
export function readNext(path: string, value: unknown): NextFile {
  const { version, of, commitment, entropy } = fieldsOf(value)
  if (version !== 1 || typeof of !== 'string' || !isCommitment(commitment) || (entropy !== undefined && rootIn(entropy) === undefined)) {
    throw unusable(path, 'it does not hold what an identity committed to')
  }
  return { version, of, commitment, ...(typeof entropy === 'string' && { entropy }) }
}

/** The rotation that was begun, read from `path`. Throws `CMESH_CLIENT_CREDENTIALS`. */
export function readPending(path: string, value: unknown): PendingRotation {
  const { version, old, file, next } = fieldsOf(value)
  if (version !== 1 || typeof old !== 'string') throw unusable(path, 'it does not hold a rotation')
  return { version, old, file: readIdentityFile(path, file).file, next: readNext(path, next) }
}

/** The root that stands in a file as base64url; `undefined` for anything else. */
export function rootIn(entropy: unknown): Buffer | undefined {
  const bytes = typeof entropy === 'string' ? Buffer.from(entropy, 'base64url') : undefined
  return bytes?.length === 32 ? bytes : undefined
}
