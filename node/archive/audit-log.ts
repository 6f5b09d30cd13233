/**
 * Verifies audit logs, whether a node runs there or not: every leaf is under its root, every root is signed by the one node and holds the hash
 * of the one before it, no batch and no request is left out. Held to copies of the log, and to roots that others have seen of it, the first
 * batch that differs is named, and the first that the log has no more. In memory is a stretch of a log at a time.
 */
import { CMeshError } from '../../cmtp/errors.ts'
import { parseCertificate, type Certificate } from '../../cmtp/identity/certificate.ts'
import { LEAF_BYTES, leafHashes, merkleRoot } from '../../cmtp/receipt/merkle.ts'
import { decodeRootRecord, isSigned, ROOT_RECORD_BYTES, rootRecordHash, verifyRootRecord, type AuditRoot } from '../../cmtp/receipt/root.ts'
import { withAuditLog, type AuditCopy } from './audit-copy.ts'
import { SeenRoots, type SeenFacts } from './seen-roots.ts'
import type { OnProgress } from './source.ts'

export interface AuditAsk {
  /** Data directories: the first is verified, the others are copies of its log. */
  readonly dirs: readonly string[]
  /** DID of the mesh that has to stand behind it. Default: that which it names. */
  readonly mesh?: string
  /** Text of the node's certificate. Default: none, and only a node whose key is the mesh's is known to speak for it. */
  readonly certificate?: string
  /** A file of root records that others hold, and who that is. Default: none. */
  readonly seen?: { readonly file: string, readonly from: string }
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
  /** What others hold of it; `null` where nobody was asked. */
  readonly seen: SeenFacts | null
}

const PROGRESS_BATCHES = 1_024
/** Batches of two logs that are compared at a time. */
const STEP = 1_024

/**
 * Rejects with `CMESH_STATE_NO_LOG`, with `CMESH_AUDIT_CORRUPT` (path and batch) and, where copies or what was seen differ, with
 * `CMESH_AUDIT_FORKED` or `CMESH_AUDIT_LOST`.
 */
export function verifyAuditLogs({ dirs, mesh, certificate, seen }: AuditAsk, onProgress: OnProgress): Promise<AuditFacts> {
  const [dir = '', ...copies] = dirs
  const known = certificate === undefined ? undefined : parseCertificate(certificate)
  return withAuditLog(dir, async log => {
    const own = new Walk(dir, mesh, known)
    const rounds = 1 + copies.length
    const facts = await walk(log, own, seen, done => { onProgress(done, log.length * rounds) })
    const lengths: number[] = []
    for (const [i, copy] of copies.entries()) {
      const other = new Walk(copy, mesh, known)
      lengths.push(await withAuditLog(copy, held => compare(log, dir, held, other, done => { onProgress(log.length * (i + 1) + done, log.length * rounds) })))
    }
    return { ...own.facts, copies: lengths, seen: facts ?? null }
  })
}

async function walk(log: AuditCopy, own: Walk, seen: AuditAsk['seen'], onProgress: (done: number) => void): Promise<SeenFacts | undefined> {
  const roots = seen && new SeenRoots(seen.file, seen.from, log.key)
  try {
    await log.read((bytes, index) => {
      own.take(bytes, log.key)
      roots?.check(own.path, index, own.record, own.head)
      if (index % PROGRESS_BATCHES === 0) onProgress(index)
    })
    own.end(log)
    return roots?.end(own.path, log.length, log.length === 0 ? undefined : own.record)
  } finally {
    roots?.close()
  }
}

/** Both logs in step, as far as the copy goes; gives how far that is. */
async function compare(log: AuditCopy, path: string, copy: AuditCopy, other: Walk, onProgress: (done: number) => void): Promise<number> {
  for (let from = 0; from < copy.length; from += STEP) {
    const to = Math.min(from + STEP, copy.length)
    const heads: Buffer[] = []
    await log.read(bytes => { heads.push(rootRecordHash(bytes.subarray(0, ROOT_RECORD_BYTES))) }, from, Math.min(to, log.length))
    await copy.read((bytes, batch) => {
      other.take(bytes, copy.key)
      const head = heads[batch - from]
      if (head === undefined) throw new CMeshError('CMESH_AUDIT_LOST', { path, length: log.length, other: other.path, batch })
      if (!head.equals(other.head)) throw new CMeshError('CMESH_AUDIT_FORKED', { path, other: other.path, batch })
    }, from, to)
    onProgress(from)
  }
  other.end(copy)
  return copy.length
}

class Walk {
  readonly path: string
  /** The last root record, and its hash: zeros before the first. */
  record: Buffer = Buffer.alloc(0)
  head: Buffer = Buffer.alloc(32)
  readonly #mesh: string | undefined
  readonly #certificate: Certificate | undefined
  #last: AuditRoot | undefined
  #batches = 0
  #requests = 0

  constructor(path: string, mesh: string | undefined, certificate: Certificate | undefined) {
    this.path = path
    this.#mesh = mesh
    this.#certificate = certificate
  }

  take(block: Buffer, log: Uint8Array): void {
    const number = this.#batches
    const record = block.subarray(0, ROOT_RECORD_BYTES)
    const leaves = block.subarray(ROOT_RECORD_BYTES)
    const root = this.#rootOf(record, number)
    const last = this.#last
    const wrong = (
      root.batch !== number ? `it says that it is batch ${root.batch}`
        : Buffer.compare(root.log, log) !== 0 ? 'its root is of a log with another key'
          : last !== undefined && last.node !== root.node ? 'its root is another node\'s'
            : Buffer.compare(root.previous, this.head) !== 0 ? 'its root does not follow on the one before'
              : root.first !== this.#requests ? `it begins at request ${root.first}, where ${this.#requests} stand before it`
                : leaves.length !== root.count * LEAF_BYTES ? `it has ${leaves.length} bytes of leaves for ${root.count} requests`
                  : !merkleRoot(leafHashes(leaves)).equals(root.merkleRoot) ? 'its leaves are not those under its root'
                    : undefined)
    if (wrong !== undefined) throw this.#corrupt(number, wrong)
    this.#last = root
    this.#requests += root.count
    this.#batches++
    this.record = record
    this.head = rootRecordHash(record)
  }

  /** The whole log was taken. */
  end({ log }: AuditCopy): void {
    if (!log.signed()) throw this.#corrupt(log.length - 1, 'the key of the log did not sign its tree')
  }

  #corrupt(batch: number, reason: string): CMeshError {
    return new CMeshError('CMESH_AUDIT_CORRUPT', { path: this.path, batch, reason })
  }

  get facts(): Omit<AuditFacts, 'copies' | 'seen'> {
    const { mesh = '', node = '', log, timeUs = 0 } = this.#last ?? {}
    return {
      mesh, node, log: Buffer.from(log ?? []).toString('hex'), batches: this.#batches, requests: this.#requests, timeUs,
      head: this.#batches === 0 ? '' : this.head.toString('hex'),
      certified: node === mesh || this.#certificate !== undefined,
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
      throw new CMeshError('CMESH_AUDIT_CORRUPT', { path: this.path, batch: number, reason: cause instanceof Error ? cause.message.replace(/\.$/, '') : String(cause) }, { cause })
    }
  }
}
