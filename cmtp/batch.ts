/**
 * The batch request of CMTP/0: many independent requests in one message, answered by one (`batch-reply.ts`) in the same order. One deadline,
 * hop count and receipt level serve all entries, and one token, unless the frame is a gateway's and says whose each entry is;
 * each entry has its own address, headers, body and status. Entry `i` has the batch's id plus `i` (see `message-id.ts`).
 */
import { CMeshError } from './errors.ts'
import { readUint64, writeUint64 } from './frame.ts'
import { LIMITS } from './limits.ts'
import { TOKEN_REFERENCE_BYTES } from './identity/token.ts'
import { MESSAGE_ID_BYTES } from './message-id.ts'
import {
  asBuffer, checkPart, contentBytes, expectKind, KIND_BATCH_REQUEST, MAGIC_0, MAGIC_1, malformed, OWN_TOKENS_FLAG, putContent, receiptFlags, receiptOf,
  VERSION, type Content, type ReceiptLevel,
} from './wire.ts'

const EMPTY = Buffer.alloc(0)

/*
 * batch request: 0 magic 2 · 2 version 1 · 3 kind 1 · 4 flags 2 · 6 hops 1 · 7 zero 1 · 8 deadline ms 8 · 16 id 16
 *                · 32 count 2 · 34 token length 2 · 36 token · entries
 * entry:         [token reference 16, with own tokens] fqmn length 2 · header length 2 · body length 4 · fqmn · headers · body
 */
const BATCH_HEADER_BYTES = 36
const ENTRY_HEADER_BYTES = 8

export interface BatchEntryFields {
  readonly fqmn: string
  readonly headers?: Uint8Array | undefined
  readonly body?: Content | undefined
}

export interface BatchFields extends BatchEnvelope {
  readonly id: Uint8Array
  readonly entries: readonly BatchEntryFields[]
}

/** What holds for all entries of a batch. */
export interface BatchEnvelope {
  /** The compact session JWT in ASCII, or its reference. */
  readonly token: Uint8Array
  /** Absolute, ms since 1970. */
  readonly deadlineMs: number
  readonly receipt: ReceiptLevel
  readonly hops?: number
}

/** Where the id of a batch frame stands. */
export const BATCH_ID_AT = 16

/** Encodes a batch of 1 to `LIMITS.batchEntries` requests. Throws `CMESH_FRAME_TOO_LARGE` or `CMESH_FQMN_TOO_LONG`. */
export function encodeBatch(fields: BatchFields): Buffer {
  const frame = assembleBatch(fields, fields.entries)
  frame.set(fields.id, BATCH_ID_AT)
  return frame
}

/** One entry as it stands in a batch frame, to be used in as many frames as one likes. Throws like `encodeBatch`. */
export function encodeBatchEntry(fields: BatchEntryFields): Buffer {
  const fqmnBytes = Buffer.byteLength(fields.fqmn)
  const entry = Buffer.allocUnsafe(entryBytes(fields, fqmnBytes))
  putEntry(entry, fields, fqmnBytes, 0)
  entry.write(fields.fqmn, ENTRY_HEADER_BYTES)
  return entry
}

/** Of one entry. Throws what `encodeBatchEntry` does. */
function entryBytes({ headers = EMPTY, body = EMPTY }: BatchEntryFields, fqmnBytes: number): number {
  if (fqmnBytes > LIMITS.fqmnBytes) throw new CMeshError('CMESH_FQMN_TOO_LONG', { bytes: fqmnBytes, limit: LIMITS.fqmnBytes })
  const bodyBytes = contentBytes(body)
  checkPart('header block', headers.length, LIMITS.headerBytes)
  checkPart('body', bodyBytes, LIMITS.bodyBytes)
  return ENTRY_HEADER_BYTES + fqmnBytes + headers.length + bodyBytes
}

/** Writes an entry, all but its address. Gives where it ends. */
function putEntry(frame: Buffer, { headers = EMPTY, body = EMPTY }: BatchEntryFields, fqmnBytes: number, at: number): number {
  const headersAt = at + ENTRY_HEADER_BYTES + fqmnBytes
  const bodyAt = headersAt + headers.length
  const bodyBytes = putContent(frame, body, bodyAt)
  if (headers.length !== 0) frame.set(headers, headersAt)
  frame[at] = fqmnBytes >> 8
  frame[at + 1] = fqmnBytes
  frame[at + 2] = headers.length >> 8
  frame[at + 3] = headers.length
  frame[at + 4] = bodyBytes >> 24
  frame[at + 5] = bodyBytes >> 16
  frame[at + 6] = bodyBytes >> 8
  frame[at + 7] = bodyBytes
  return bodyAt + bodyBytes
}

/**
 * A batch frame of entries, encoded or not, its id still to be written at `BATCH_ID_AT`. `references`: of the token of each entry's own
 * session, where they are not all that of the envelope: one for each. Throws `CMESH_FRAME_TOO_LARGE`, `CMESH_FQMN_TOO_LONG`, or `_MALFORMED` without entries.
 */
export function assembleBatch(envelope: BatchEnvelope, entries: readonly (Uint8Array | BatchEntryFields)[], references?: readonly Uint8Array[]): Buffer {
  const { token } = envelope
  if (entries.length === 0) throw malformed(32, 'at least one entry')
  checkPart('batch', entries.length, LIMITS.batchEntries)
  checkPart('token', token.length, LIMITS.tokenBytes)
  let size = BATCH_HEADER_BYTES + token.length + (references === undefined ? 0 : entries.length * TOKEN_REFERENCE_BYTES)
  // Neighbours often have one address, which is measured and encoded once then.
  let fqmn: string | undefined
  let fqmnBytes = 0
  for (const entry of entries) {
    if (entry instanceof Uint8Array) {
      size += entry.length
      continue
    }
    if (entry.fqmn !== fqmn) {
      fqmn = entry.fqmn
      fqmnBytes = Buffer.byteLength(fqmn)
    }
    size += entryBytes(entry, fqmnBytes)
  }
  checkPart('frame', size, LIMITS.frameBytes)

  const frame = Buffer.allocUnsafe(size)
  frame[0] = MAGIC_0
  frame[1] = MAGIC_1
  frame[2] = VERSION
  frame[3] = KIND_BATCH_REQUEST
  frame.writeUInt16BE(receiptFlags(envelope.receipt) | (references === undefined ? 0 : OWN_TOKENS_FLAG), 4)
  frame[6] = envelope.hops ?? 0
  frame[7] = 0
  writeUint64(frame, envelope.deadlineMs, 8)
  frame.fill(0, BATCH_ID_AT, BATCH_ID_AT + MESSAGE_ID_BYTES)
  frame.writeUInt16BE(entries.length, 32)
  frame.writeUInt16BE(token.length, 34)
  frame.set(token, BATCH_HEADER_BYTES)
  let at = BATCH_HEADER_BYTES + token.length
  let fqmnAt = 0
  fqmn = undefined
  for (let i = 0; i < entries.length; i++) {
    const entry = entries[i] as Uint8Array | BatchEntryFields
    if (references !== undefined) {
      const reference = references[i]
      if (reference?.length !== TOKEN_REFERENCE_BYTES) throw new RangeError('an entry with its own token needs the 16 bytes of its reference')
      frame.set(reference, at)
      at += TOKEN_REFERENCE_BYTES
    }
    if (entry instanceof Uint8Array) {
      frame.set(entry, at)
      at += entry.length
      continue
    }
    const ownFqmnAt = at + ENTRY_HEADER_BYTES
    if (entry.fqmn === fqmn) {
      frame.copyWithin(ownFqmnAt, fqmnAt, fqmnAt + fqmnBytes)
    } else {
      fqmn = entry.fqmn
      fqmnBytes = frame.write(fqmn, ownFqmnAt)
    }
    fqmnAt = ownFqmnAt
    at = putEntry(frame, entry, fqmnBytes, at)
  }
  return frame
}

/** One entry of a decoded batch: offsets into the frame. */
export interface BatchEntry {
  readonly fqmnStart: number
  readonly fqmnEnd: number
  readonly headersEnd: number
  readonly end: number
}

export class BatchFrame {
  readonly bytes: Buffer
  readonly receipt: ReceiptLevel
  /** Each entry carries the reference of its own session's token (`referenceOf`). */
  readonly ownTokens: boolean
  readonly hops: number
  readonly deadlineMs: number
  readonly token: Buffer
  readonly entries: readonly BatchEntry[]

  private constructor(bytes: Buffer, receipt: ReceiptLevel, token: Buffer, entries: readonly BatchEntry[]) {
    this.bytes = bytes
    this.receipt = receipt
    this.ownTokens = ((bytes[5] as number) & OWN_TOKENS_FLAG) !== 0
    this.hops = bytes[6] ?? 0
    this.deadlineMs = readUint64(bytes, 8)
    this.token = token
    this.entries = entries
  }

  /** Decodes the frame and the bounds of every entry. Throws `CMESH_FRAME_*`: a batch is whole or refused. */
  static decode(data: Uint8Array): BatchFrame {
    const bytes = asBuffer(data)
    expectKind(bytes, KIND_BATCH_REQUEST, BATCH_HEADER_BYTES, 'a batch request')
    const flags = bytes.readUInt16BE(4)
    const receipt = receiptOf(flags & ~OWN_TOKENS_FLAG)
    const lead = (flags & OWN_TOKENS_FLAG) === 0 ? 0 : TOKEN_REFERENCE_BYTES
    if (bytes[7] !== 0) throw malformed(7, 'a zero byte')
    const count = bytes.readUInt16BE(32)
    const tokenBytes = bytes.readUInt16BE(34)
    if (count === 0) throw malformed(32, 'at least one entry')
    checkPart('batch', count, LIMITS.batchEntries)
    checkPart('token', tokenBytes, LIMITS.tokenBytes)
    let at = BATCH_HEADER_BYTES + tokenBytes
    if (at > bytes.length) throw malformed(34, 'a token that lies within the frame')
    const entries = new Array<BatchEntry>(count)
    for (let i = 0; i < count; i++) {
      const fqmnStart = at + lead + ENTRY_HEADER_BYTES
      if (fqmnStart > bytes.length) throw malformed(at, `entry ${i} of ${count}`)
      at += lead
      const fqmnEnd = fqmnStart + bytes.readUInt16BE(at)
      const headersEnd = fqmnEnd + bytes.readUInt16BE(at + 2)
      const bodyBytes = bytes.readUInt32BE(at + 4)
      checkPart('FQMN', fqmnEnd - fqmnStart, LIMITS.fqmnBytes)
      checkPart('header block', headersEnd - fqmnEnd, LIMITS.headerBytes)
      checkPart('body', bodyBytes, LIMITS.bodyBytes)
      const end = headersEnd + bodyBytes
      if (end > bytes.length) throw malformed(at, `entry ${i} to lie within the frame`)
      entries[i] = { fqmnStart, fqmnEnd, headersEnd, end }
      at = end
    }
    if (at !== bytes.length) throw malformed(at, 'the end of the frame')
    return new BatchFrame(bytes, receipt, bytes.subarray(BATCH_HEADER_BYTES, BATCH_HEADER_BYTES + tokenBytes), entries)
  }

  get id(): Buffer {
    return this.bytes.subarray(16, 16 + MESSAGE_ID_BYTES)
  }

  /** The reference of an entry's token, in a frame with own tokens. */
  referenceOf({ fqmnStart }: BatchEntry): Buffer {
    const end = fqmnStart - ENTRY_HEADER_BYTES
    return this.bytes.subarray(end - TOKEN_REFERENCE_BYTES, end)
  }
}
