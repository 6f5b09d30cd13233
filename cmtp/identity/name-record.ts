/**
 * What the owner of a name signs: {name, target, owner, sequence}, behind a prefix of its own so that no other signature of
 * the same key can pass for it. It neither normalises names nor knows who owns one: the Registrar does.
 */
import { CMeshError } from '../errors.ts'
import { canonicalJson } from './canonical-json.ts'
import type { KeyPair } from './keys.ts'
import { PublicKey } from './keys.ts'

export interface SignableNameRecord {
  /** In normal form. */
  readonly name: string
  /** The FQMN it maps to. */
  readonly target: string
  /** The owner's DID; after a transfer the new owner's, whose record this then is. */
  readonly owner: string
  /** 1 for the first record of a name, one more for each that follows. */
  readonly sequence: number
}

const DOMAIN = 'CMesh/1 name-record\n'

/** The exact bytes under the signature. Throws `CMESH_FRAME_JSON` for text that has no UTF-8 form. */
export function nameRecordBytes({ name, target, owner, sequence }: SignableNameRecord): Buffer {
  return Buffer.from(DOMAIN + canonicalJson({ name, target, owner, sequence }), 'utf8')
}

/** base64url of the signature, 86 characters. */
export function signNameRecord(record: SignableNameRecord, key: KeyPair): string {
  return key.sign(nameRecordBytes(record)).toString('base64url')
}

/**
 * Whether `signature` is `signer`'s over the record; `signer` is the owner unless the record is a transfer, which the former
 * owner signs. Any input: never throws.
 */
export function verifyNameRecord(record: SignableNameRecord, signature: string, signer: string = record.owner): boolean {
  if (!Number.isSafeInteger(record.sequence) || record.sequence < 1) return false
  const bytes = Buffer.from(signature, 'base64url')
  if (bytes.toString('base64url') !== signature) return false
  try {
    return PublicKey.fromDid(signer).verify(nameRecordBytes(record), bytes)
  } catch (error) {
    if (error instanceof CMeshError) return false
    throw error
  }
}
