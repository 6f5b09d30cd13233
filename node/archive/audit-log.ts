/**
 * Verifies audit logs, whether a node runs there or not: every leaf is under its root, every root is signed by the one node and holds the hash
 * of the one before it, no batch and no request is left out. Of several copies of one log the first batch that differs is named.
 */
import { CMeshError } from '../../cmtp/errors.ts'
import { parseCertificate, type Certificate } from '../../cmtp/identity/certificate.ts'
import { LEAF_BYTES, leafHashes, merkleRoot } from '../../cmtp/receipt/merkle.ts'
import { decodeRootRecord, isSigned, ROOT_RECORD_BYTES, rootRecordHash, verifyRootRecord, type AuditRoot } from '../../cmtp/receipt/root.ts'
import type { LogCopy } from '../../providers/registry.ts'
import { withLog, type OnProgress } from './source.ts'

export interface AuditAsk {
  /** Data directories: the first is verified, the others are copies of its log. */
  readonly dirs: readonly string[]
  /** DID of the mesh that has to stand behind it. Default: that which it names. */
  readonly mesh?: string
  /** Text of the node's certificate. Default: none, and only a node whose key is the mesh's is known to speak for it. */
  readonly certificate?: string
}

export interface AuditFacts {
  readonly mesh: string
  readonly node: string
  /** Hex of the log's key. */
  readonly log: string
  readonly batches: number
  readonly requests: number
  /** Of the last root, µs since 1970; 0 for an empty log. */
  readonly timeUs: number
  /** Hex of the hash of the last root record. */
  readonly head: string
  /** Whether the node is known to speak for the mesh. */
  readonly certified: boolean
  /** How many batches each of the copies has. */
  readonly copies: readonly number[]
}

const PROGRESS_BATCHES = 1_024

/** Rejects with `CMESH_STATE_NO_LOG`, with `CMESH_AUDIT_CORRUPT` (path and batch) and, of copies, with `CMESH_AUDIT_FORKED`. */
export async function verifyAuditLogs({ dirs, mesh, certificate }: AuditAsk, onProgress: OnProgress): Promise<AuditFacts> {
  const [dir = '', ...copies] = dirs
  const known = certificate === undefined ? undefined : parseCertificate(certificate)
  const own = new Walk(dir, mesh, known)
  await walk(dir, own, onProgress)
  for (const copy of copies) {
    const other = new Walk(copy, mesh, known)
    await walk(copy, other, onProgress)
    const at = own.heads.findIndex((head, i) => other.heads[i] !== undefined && other.heads[i] !== head)
    if (at !== -1) throw new CMeshError('CMESH_AUDIT_FORKED', { path: dir, other: copy, batch: at })
    own.copies.push(other.heads.length)
  }
  return own.facts
}

function walk(dir: string, into: Walk, onProgress: OnProgress): Promise<void> {
  return withLog(dir, async (log: LogCopy) => {
    await log.read((bytes, index) => {
      into.take(Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length), log.key)
      if (index % PROGRESS_BATCHES === 0) onProgress(index, log.length)
    })
    if (!log.signed()) throw into.corrupt(log.length - 1, 'the key of the log did not sign its tree')
  }, 'audit')
}

class Walk {
  /** Hex of the hash of each root record. */
  readonly heads: string[] = []
  readonly copies: number[] = []
  readonly #path: string
  readonly #mesh: string | undefined
  readonly #certificate: Certificate | undefined
  #last: AuditRoot | undefined
  #requests = 0

  constructor(path: string, mesh: string | undefined, certificate: Certificate | undefined) {
    this.#path = path
    this.#mesh = mesh
    this.#certificate = certificate
  }

  take(block: Buffer, log: Uint8Array): void {
    const number = this.heads.length
    const record = block.subarray(0, ROOT_RECORD_BYTES)
    const leaves = block.subarray(ROOT_RECORD_BYTES)
    const root = this.#rootOf(record, number)
    const last = this.#last
    const wrong = (
      root.batch !== number ? `it says that it is batch ${root.batch}`
        : Buffer.compare(root.log, log) !== 0 ? 'its root is of a log with another key'
          : last !== undefined && last.node !== root.node ? 'its root is another node\'s'
            : Buffer.from(root.previous).toString('hex') !== (this.heads.at(-1) ?? '00'.repeat(32)) ? 'its root does not follow on the one before'
              : root.first !== this.#requests ? `it begins at request ${root.first}, where ${this.#requests} stand before it`
                : leaves.length !== root.count * LEAF_BYTES ? `it has ${leaves.length} bytes of leaves for ${root.count} requests`
                  : !merkleRoot(leafHashes(leaves)).equals(root.merkleRoot) ? 'its leaves are not those under its root'
                    : undefined)
    if (wrong !== undefined) throw this.corrupt(number, wrong)
    this.#last = root
    this.#requests += root.count
    this.heads.push(rootRecordHash(record).toString('hex'))
  }

  corrupt(batch: number, reason: string): CMeshError {
    return new CMeshError('CMESH_AUDIT_CORRUPT', { path: this.#path, batch, reason })
  }

  get facts(): AuditFacts {
    const { mesh = '', node = '', log, timeUs = 0 } = this.#last ?? {}
    return {
      mesh, node, log: Buffer.from(log ?? []).toString('hex'), batches: this.heads.length, requests: this.#requests, timeUs, head: this.heads.at(-1) ?? '',
      certified: node === mesh || this.#certificate !== undefined, copies: this.copies,
    }
  }

  #rootOf(record: Buffer, number: number): AuditRoot {
    try {
      const { mesh, node } = decodeRootRecord(record)
      // Without a certificate it is checked that the node signed it; that it speaks for the mesh is not said then.
      if (this.#certificate !== undefined || node === mesh || this.#mesh !== undefined) {
        return verifyRootRecord(record, this.#mesh ?? mesh, node === mesh ? undefined : this.#certificate)
      }
      if (!isSigned(record)) throw new RangeError('the node did not sign the root')
      return decodeRootRecord(record)
    } catch (cause) {
      throw new CMeshError('CMESH_AUDIT_CORRUPT', { path: this.#path, batch: number, reason: cause instanceof Error ? cause.message.replace(/\.$/, '') : String(cause) }, { cause })
    }
  }
}
