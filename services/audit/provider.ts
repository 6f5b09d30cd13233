/**
 * Where a node keeps what it answers for: one block a batch of requests on an append-only log that the node signs, and beside it, for as
 * long as it is worth its room, what a receipt needs besides. It neither hashes nor signs nor knows what a request is: the Audit service does.
 *
 * Invariants a provider keeps, proven by `test/conformance/audit.ts`:
 * 1. Batches are numbered from 0, densely: `append` takes `length` only.
 * 2. An `append` that resolved survives what `durability` says, with its notes, and `read` and `find` see it. One that failed fails the log for
 *    good, and so does what is done for it afterwards: every later one rejects with the same error.
 * 3. After `open`, the log is exactly what was appended, or a prefix of it where the machine itself went down; notes without a block are gone.
 * 4. Blocks are kept for ever. Notes go, the oldest first, a whole segment at a time, by age and by bytes. The newest segment always stays.
 * 5. `find` of an id that is not there costs a few reads of each segment, however much is kept.
 */
import type { CMeshError } from '../../cmtp/errors.ts'

/** One batch as it goes onto the log. Its buffers are the provider's until `append` settles, the caller's again after that. */
export interface AuditBatch {
  /** Which batch it is, from 0. */
  readonly number: number
  /** The block: the signed root record, and behind it 48 bytes for each request. The provider's to keep. */
  readonly block: Uint8Array
  /** Notes (`messages.ts`), one behind the other. */
  readonly notes: Uint8Array
  /** Its notes need none of an earlier batch: what is kept may be cut before it. */
  readonly apart: boolean
}

export interface AuditHead {
  /** Batches on the log. */
  readonly length: number
  /** The last block; `undefined` where there is none. */
  readonly last: Uint8Array | undefined
}

/** What is kept of one request. */
export interface AuditEntry {
  readonly batch: number
  /** Which request of the batch, from 0. */
  readonly index: number
  /** The payload of its note. */
  readonly sealed: Uint8Array
  /** The payload of another note of its segment, by its key; `undefined` where there is none. */
  readonly textOf: (key: Uint8Array) => Promise<Uint8Array | undefined>
}

export interface AuditLog {
  readonly durability: 'memory' | 'os' | 'disk'
  /** Where it is, for errors. */
  readonly path: string
  /** 32 bytes that name the log: the public key that it is signed with. There once it is open. */
  readonly id: Uint8Array
  /** Memoised. Rejects with `CMESH_AUDIT_CORRUPT` (path and reason), `CMESH_AUDIT_FULL` or `CMESH_BOOT_DATA_IN_USE`, and holds nothing then. */
  open(): Promise<AuditHead>
  /** Resolves when notes and block are durable. Rejects with `CMESH_AUDIT_FULL` where they cannot be written, and once the log is closed. */
  append(batch: AuditBatch): Promise<void>
  /** Why every later `append` will reject, once that is known; `undefined` before. */
  readonly failure: CMeshError | undefined
  /** The block of a batch. Rejects with `CMESH_AUDIT_CORRUPT` for one that cannot be read, and with a `RangeError` for one that is not there. */
  read(number: number): Promise<Uint8Array>
  /** What is kept of the requests with this id, the newest first, at most 4. */
  find(id: Uint8Array): Promise<readonly AuditEntry[]>
  /** Bytes of the notes that are kept. */
  readonly noteBytes: number
  /** Settles what is under way, then lets go. Idempotent. */
  close(): Promise<void>
}
