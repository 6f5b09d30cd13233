/** The last root of an audit log, when its node takes it up again: whether it is that of this node and the end of this log. */
import { CMeshError } from '../../cmtp/errors.ts'
import type { Certificate } from '../../cmtp/identity/certificate.ts'
import { decodeRootRecord, isSigned, verifyRootRecord, type AuditRoot } from '../../cmtp/receipt/root.ts'

/** The log and who takes it up. */
export interface TakenUp {
  readonly path: string
  /** The log's public key. */
  readonly id: Uint8Array
  /** Batches on it. */
  readonly length: number
  readonly mesh: string
  readonly node: string
  readonly certificate: Certificate | undefined
}

/** The root in its last record. Throws `CMESH_AUDIT_OTHER` where another node signed it, and `CMESH_AUDIT_CORRUPT` where it does not hold. */
export function ownRoot(record: Uint8Array, { path, id, length, mesh, node, certificate }: TakenUp): AuditRoot {
  try {
    const root = verifyRootRecord(record, mesh, certificate)
    if (root.node !== node || Buffer.compare(root.log, id) !== 0 || root.batch !== length - 1) throw new RangeError('its last root is of another log')
    return root
  } catch (cause) {
    const writer = writerOf(record)
    if (writer !== undefined && writer !== node) throw new CMeshError('CMESH_AUDIT_OTHER', { path, writer, node }, { cause })
    const reason = cause instanceof Error ? cause.message.replace(/\.$/, '') : String(cause)
    throw new CMeshError('CMESH_AUDIT_CORRUPT', { path, batch: length - 1, reason }, { cause })
  }
}

/** Who signed the record; `undefined` where nobody did, or it is none. */
function writerOf(record: Uint8Array): string | undefined {
  try {
    return isSigned(record) ? decodeRootRecord(record).node : undefined
  } catch {
    return undefined
  }
}
