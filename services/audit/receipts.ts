/**
 * Receipts: made of what the audit log and the notes beside it hold, for a reply at `full` at once and for whoever fetches one later.
 *
 * Who may have whose: everybody those of requests that it made itself, which is the caller's DID in what the final hash covers, or the session
 * where nobody looked who it was; whoever may read
 * `0xE:audit:receipts`, which no wildcard grants, anybody's. To all others a receipt is not there. The salt, by which guesses at bodies could be
 * tried, goes to the caller alone.
 */
import { CMeshError } from '../../cmtp/errors.ts'
import { parseFqmn } from '../../cmtp/fqmn.ts'
import { encodeHeaders } from '../../cmtp/headers.ts'
import type { Certificate } from '../../cmtp/identity/certificate.ts'
import { ACTIONS } from '../../cmtp/permission.ts'
import { bareCertificate, encodeBareCertificate, type BareCertificate } from '../../cmtp/receipt/bare-certificate.ts'
import { layersPart } from '../../cmtp/receipt/full-part.ts'
import { LEAF_BYTES, leafHashes, MerkleTree } from '../../cmtp/receipt/merkle.ts'
import { decodeSealing, evidenceBytes, flagsOf, type Evidence, type Sealing } from '../../cmtp/receipt/receipt.ts'
import { encodeRecorded } from '../../cmtp/receipt/recorded.ts'
import { ROOT_RECORD_BYTES } from '../../cmtp/receipt/root.ts'
import type { Reply } from '../call.ts'
import type { AuthContext, Guard } from '../iam/guard.ts'
import type { Rooted } from './batcher.ts'
import type { EvidenceMaker } from './evidence.ts'
import { NOTE_KEY_BYTES } from './messages.ts'
import type { AuditEntry, AuditLog } from './provider.ts'

/** A request as it was recorded, and where it stands on the log. */
interface Recorded {
  /** 32 bytes. */
  readonly final: Uint8Array
  /** What the sealer keeps of it. */
  readonly record: Buffer
  /** Of each layer's place; `undefined` where they are not kept. */
  readonly texts: readonly (Uint8Array | undefined)[]
  readonly rooted: Pick<Rooted, 'record'> & { readonly index: number, readonly path: readonly Buffer[] }
  readonly evidence: Evidence | undefined
}

export interface ReceiptWriterParts {
  readonly log: Pick<AuditLog, 'find' | 'read'>
  readonly certificate: Certificate | undefined
  readonly guard: Pick<Guard, 'authorise'>
  readonly evidence: Pick<EvidenceMaker, 'of' | 'bytes'>
}

/** Who asks is told to show its session, and asks again under the same id. */
export const UNAUTHENTICATED = 401
const NOTHING = Buffer.alloc(0)
const ANYBODYS = parseFqmn('0xE:audit:receipts')
const ID = /^[0-9a-f]{32}$/
/** Where the place stands in a layer. */
const PLACE_AT = 26

export class ReceiptWriter {
  readonly #parts: ReceiptWriterParts
  readonly #bare: BareCertificate | undefined
  /** The node's certificate, as it stands in a receipt; empty where its key is the mesh's. */
  readonly certificate: Buffer

  constructor(parts: ReceiptWriterParts) {
    this.#parts = parts
    this.#bare = parts.certificate && bareCertificate(parts.certificate)
    this.certificate = this.#bare === undefined ? NOTHING : encodeBareCertificate(this.#bare)
  }

  /** What goes into the receipt of a write beside its record; `undefined` for anything else. Never rejects. */
  evidence(record: Buffer): Promise<Evidence | undefined> | undefined {
    return this.#parts.evidence.of(record)
  }

  /** The most that it takes there, in bytes. */
  get evidenceBytes(): number {
    return this.#parts.evidence.bytes
  }

  /** The layers part of a reply that waited for its root; `final`: 32 latin1 characters. */
  part(head: Buffer, id: Uint8Array, final: string, index: number, { tree, record }: Rooted, evidence: Evidence | undefined): Buffer {
    return layersPart(head, {
      id, final: Buffer.from(final, 'latin1'), index, path: tree.pathBytes(index), root: record,
      flags: flagsOf({ certificate: this.#bare, evidence }), certificate: this.certificate,
      evidence: evidence === undefined ? NOTHING : evidenceBytes(evidence),
    })
  }

  #write({ final, record, texts, rooted, evidence }: Recorded): Buffer {
    return encodeRecorded({ record, texts, final, index: rooted.index, path: rooted.path, root: rooted.record, certificate: this.#bare, evidence })
  }

  /**
   * `0xC:receipt:<id>`: the receipt of the newest request with this id that the caller may have; one that was answered by asking for the session
   * again, and then sent again under the same id, only where there is no other. Rejects with `CMESH_AUDIT_NO_RECEIPT`.
   */
  async fetch(id: string, auth: AuthContext): Promise<Reply> {
    if (!ID.test(id)) throw new CMeshError('CMESH_FQMN_SYNTAX', { offset: '0xC:receipt:'.length, expected: 'a message id of 32 lower-case hex digits' })
    const found = (await this.#parts.log.find(Buffer.from(id, 'hex'))).flatMap(entry => {
      const record = Buffer.from(entry.sealed)
      const sealing = decodeSealing(record)
      const own = sealing.sub === auth.sub || (sealing.sub === '' && sealing.sid !== '' && sealing.sid === auth.sid)
      return own || this.#mayHaveAnybodys(auth) ? [{ entry, record, sealing, own }] : []
    })
    const [newest] = found
    if (newest === undefined) throw new CMeshError('CMESH_AUDIT_NO_RECEIPT', { id })
    const { entry, record, sealing, own } = found.find(each => each.sealing.status !== UNAUTHENTICATED) ?? newest
    const body = await this.#receiptOf(entry, record, sealing)
    const headers = encodeHeaders([
      ['content-type', 'application/cmesh-receipt'], ...(own ? [['x-cmesh-salt', Buffer.from(sealing.salt).toString('hex')] as const] : []),
    ])
    return { status: 200, headers, body }
  }

  async #receiptOf({ batch, index, textOf }: AuditEntry, record: Buffer, { layers }: Sealing): Promise<Buffer> {
    const block = Buffer.from(await this.#parts.log.read(batch))
    const leaves = block.subarray(ROOT_RECORD_BYTES)
    const end = (index + 1) * LEAF_BYTES
    const texts = await Promise.all(layers.map(layer => textOf(layer.subarray(PLACE_AT, PLACE_AT + NOTE_KEY_BYTES))))
    const evidence = await this.evidence(record)
    return this.#write({
      evidence,
      final: leaves.subarray(end - 32, end), record, texts,
      rooted: { index, path: new MerkleTree(leafHashes(leaves)).path(index), record: block.subarray(0, ROOT_RECORD_BYTES) },
    })
  }

  #mayHaveAnybodys(auth: AuthContext): boolean {
    try {
      this.#parts.guard.authorise(auth, ANYBODYS, ACTIONS.read)
      return true
    } catch (error) {
      if (error instanceof CMeshError && error.code === 'CMESH_IAM_DENIED') return false
      throw error
    }
  }
}
