/**
 * The batch frames of CMTP/0: many independent requests in one message, and their replies in the same order. One deadline,
 * hop count and receipt level serve all entries, and one token, unless the frame is a gateway's and says whose each entry is;
 * each entry has its own address, headers, body and status. Entry `i` has the batch's id plus `i` (see `message-id.ts`).
 */
import { CMeshError } from './errors.ts'
import { HASH_BYTES, readUint64, writeUint64 } from './frame.ts'
import { LIMITS } from './limits.ts'
import { TOKEN_REFERENCE_BYTES } from './identity/token.ts'
import { entryId, MESSAGE_ID_BYTES } from './message-id.ts'
import {
  encodeSharedPart, ENTRY_PART_BYTES, putEntryIndex, putEntryPart, SharedPart, type EntryPart, type SharedEvidence, type SharedRoot, type SharingEntry,
} from './receipt/shared-part.ts'
import {
  asBuffer, checkPart, expectKind, KIND_BATCH_REPLY, KIND_BATCH_REQUEST, MAGIC_0, MAGIC_1, malformed, OWN_TOKENS_FLAG, receiptFlags, receiptOf, VERSION,
  type ReceiptLevel,
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
  readonly headers?: Uint8Array
  readonly body?: Uint8Array
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
  const frame = assembleBatch(fields, fields.entries.map(encodeBatchEntry))
  frame.set(fields.id, BATCH_ID_AT)
  return frame
}

/** One entry as it stands in a batch frame, to be used in as many frames as one likes. Throws like `encodeBatch`. */
export function encodeBatchEntry(fields: BatchEntryFields): Buffer {
  const headers = fields.headers ?? EMPTY
  const body = fields.body ?? EMPTY
  const fqmnBytes = Buffer.byteLength(fields.fqmn)
  if (fqmnBytes > LIMITS.fqmnBytes) throw new CMeshError('CMESH_FQMN_TOO_LONG', { bytes: fqmnBytes, limit: LIMITS.fqmnBytes })
  checkPart('header block', headers.length, LIMITS.headerBytes)
  checkPart('body', body.length, LIMITS.bodyBytes)
  const entry = Buffer.allocUnsafe(ENTRY_HEADER_BYTES + fqmnBytes + headers.length + body.length)
  entry.writeUInt16BE(fqmnBytes, 0)
  entry.writeUInt16BE(headers.length, 2)
  entry.writeUInt32BE(body.length, 4)
  entry.write(fields.fqmn, ENTRY_HEADER_BYTES, 'utf8')
  entry.set(headers, ENTRY_HEADER_BYTES + fqmnBytes)
  entry.set(body, ENTRY_HEADER_BYTES + fqmnBytes + headers.length)
  return entry
}

/**
 * A batch frame of encoded entries, its id still to be written at `BATCH_ID_AT`. `references`: of the token of each entry's own
 * session, where they are not all that of the envelope: one for each. Throws `CMESH_FRAME_TOO_LARGE`, or `_MALFORMED` without entries.
 */
export function assembleBatch(envelope: BatchEnvelope, entries: readonly Uint8Array[], references?: readonly Uint8Array[]): Buffer {
  const { token } = envelope
  if (entries.length === 0) throw malformed(32, 'at least one entry')
  checkPart('batch', entries.length, LIMITS.batchEntries)
  checkPart('token', token.length, LIMITS.tokenBytes)
  let size = BATCH_HEADER_BYTES + token.length + (references === undefined ? 0 : entries.length * TOKEN_REFERENCE_BYTES)
  for (const entry of entries) size += entry.length
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
  for (let i = 0; i < entries.length; i++) {
    const entry = entries[i] as Uint8Array
    if (references !== undefined) {
      const reference = references[i]
      if (reference?.length !== TOKEN_REFERENCE_BYTES) throw new RangeError('an entry with its own token needs the 16 bytes of its reference')
      frame.set(reference, at)
      at += TOKEN_REFERENCE_BYTES
    }
    frame.set(entry, at)
    at += entry.length
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

/*
 * batch reply: 0 magic 2 · 2 version 1 · 3 kind 1 · 4 flags 2 · 6 count 2 · 8 id 16 · 24 entries
 * entry:       status 2 · header length 2 · layers length 4 · body length 4 · [final hash 32, unless the level is none]
 *              headers · layers · body
 * Behind the entries, at `full`: what their layers share (receipt/shared-part.ts)
 */
const BATCH_REPLY_HEADER_BYTES = 24
const REPLY_ENTRY_HEADER_BYTES = 12
/** What an entry of a batch reply takes beside its headers, layers and body. */
export const REPLY_ENTRY_BYTES = REPLY_ENTRY_HEADER_BYTES + HASH_BYTES

/** Builds a batch reply entry by entry into one growing buffer, so that a reply costs its own bytes and nothing more. */
export class BatchReplyWriter {
  readonly #receipt: ReceiptLevel
  #frame: Buffer
  #at = BATCH_REPLY_HEADER_BYTES

  constructor(id: Uint8Array, count: number, receipt: ReceiptLevel) {
    this.#receipt = receipt
    this.#frame = Buffer.allocUnsafe(BATCH_REPLY_HEADER_BYTES + count * 128)
    const frame = this.#frame
    frame[0] = MAGIC_0
    frame[1] = MAGIC_1
    frame[2] = VERSION
    frame[3] = KIND_BATCH_REPLY
    frame.writeUInt16BE(receiptFlags(receipt), 4)
    frame.writeUInt16BE(count, 6)
    frame.set(id, 8)
  }

  /** Bytes written so far. */
  get length(): number {
    return this.#at
  }

  /** Appends the next entry. `finalHash` is 32 latin1 characters; ignored when the level is `none`. `layers`: at `full`, of an entry that has some. */
  add(status: number, finalHash: string, headers: Uint8Array, layers: EntryPart | undefined, body: Uint8Array): void {
    const hashBytes = this.#receipt === 'none' ? 0 : HASH_BYTES
    const layersBytes = layers === undefined ? 0 : ENTRY_PART_BYTES
    const end = this.#at + REPLY_ENTRY_HEADER_BYTES + hashBytes + headers.length + layersBytes + body.length
    const frame = this.#reach(end)
    let at = this.#at
    frame[at] = status >> 8
    frame[at + 1] = status & 0xff
    frame[at + 2] = headers.length >> 8
    frame[at + 3] = headers.length & 0xff
    frame.writeUInt32BE(layersBytes, at + 4)
    frame.writeUInt32BE(body.length, at + 8)
    at += REPLY_ENTRY_HEADER_BYTES
    if (hashBytes !== 0 && frame.write(finalHash, at, hashBytes, 'latin1') !== hashBytes) {
      throw new RangeError('an entry that promises a final hash needs its 32 bytes')
    }
    at += hashBytes
    if (headers.length !== 0) frame.set(headers, at)
    at += headers.length
    if (layers !== undefined) putEntryPart(frame, at, layers)
    at += layersBytes
    if (body.length !== 0) frame.set(body, at)
    this.#at = end
  }

  /** Appends the entry in `[start, end)`, which was added before, again with another final hash; where it has layers, `index` is that of its own leaf. */
  repeat(start: number, end: number, finalHash: string, index = 0): void {
    const at = this.#at
    const next = at + end - start
    const frame = this.#reach(next)
    frame.copyWithin(at, start, end)
    if (this.#receipt !== 'none') frame.write(finalHash, at + REPLY_ENTRY_HEADER_BYTES, HASH_BYTES, 'latin1')
    if (this.#receipt === 'full') putEntryIndex(frame, at + REPLY_ENTRY_BYTES + frame.readUInt16BE(at + 2), index)
    this.#at = next
  }

  /** The frame, with room up to `end`. */
  #reach(end: number): Buffer {
    if (end > this.#frame.length) {
      const grown = Buffer.allocUnsafe(Math.max(end, this.#frame.length * 2))
      grown.set(this.#frame.subarray(0, this.#at))
      this.#frame = grown
    }
    return this.#frame
  }

  /** The frame; at `full` with what its entries share. */
  finish(roots: readonly SharedRoot[] = [], heads: readonly Uint8Array[] = [], evidence: readonly SharedEvidence[] = []): Buffer {
    if (this.#receipt === 'full') {
      const shared = encodeSharedPart(roots, heads, evidence)
      this.#reach(this.#at + shared.length).set(shared, this.#at)
      this.#at += shared.length
    }
    return this.#frame.subarray(0, this.#at)
  }
}

/** One entry of a decoded batch reply: views into the frame, made when asked for. */
export class BatchReplyEntry {
  readonly status: number
  readonly #bytes: Buffer
  readonly #hashAt: number
  readonly #headersAt: number
  readonly #layersAt: number
  readonly #bodyAt: number
  readonly #end: number
  readonly #layers: () => Buffer

  /** `layers` puts the layers part together. */
  constructor(bytes: Buffer, status: number, hashAt: number, headersAt: number, layersAt: number, bodyAt: number, end: number, layers: () => Buffer) {
    this.status = status
    this.#layers = layers
    this.#bytes = bytes
    this.#hashAt = hashAt
    this.#headersAt = headersAt
    this.#layersAt = layersAt
    this.#bodyAt = bodyAt
    this.#end = end
  }

  /** 32 bytes, or empty when the reply promises none. */
  get finalHash(): Buffer {
    return this.#bytes.subarray(this.#hashAt, this.#headersAt)
  }

  get headers(): Buffer {
    return this.#bytes.subarray(this.#headersAt, this.#layersAt)
  }

  /** The layers part, as a reply alone has it: put together when it is asked for. Throws `CMESH_FRAME_MALFORMED` where that cannot be. */
  get layers(): Buffer {
    return this.#layers()
  }

  /** What the entry says of its layers itself. */
  get ownPart(): Buffer {
    return this.#bytes.subarray(this.#layersAt, this.#bodyAt)
  }

  get body(): Buffer {
    return this.#bytes.subarray(this.#bodyAt, this.#end)
  }
}

export interface BatchReply {
  readonly id: Buffer
  readonly receipt: ReceiptLevel
  readonly entries: readonly BatchReplyEntry[]
}

/** Throws `CMESH_FRAME_*`. */
export function decodeBatchReply(data: Uint8Array): BatchReply {
  const bytes = asBuffer(data)
  expectKind(bytes, KIND_BATCH_REPLY, BATCH_REPLY_HEADER_BYTES, 'a batch reply')
  const receipt = receiptOf(bytes.readUInt16BE(4))
  const hashBytes = receipt === 'none' ? 0 : HASH_BYTES
  const count = bytes.readUInt16BE(6)
  checkPart('batch', count, LIMITS.batchEntries)
  const id = bytes.subarray(8, 8 + MESSAGE_ID_BYTES)
  const entries: BatchReplyEntry[] = []
  let shared: SharedPart | undefined
  let sharing: readonly SharingEntry[] | undefined
  const layersOf = (nth: number): Buffer => {
    if (shared === undefined) return EMPTY
    sharing ??= entries.map(({ finalHash, ownPart }, i) => ({ id: entryId(id, i), final: finalHash, part: ownPart }))
    return shared.layersPart(nth, sharing)
  }
  let at = BATCH_REPLY_HEADER_BYTES
  for (let i = 0; i < count; i++) {
    if (at + REPLY_ENTRY_HEADER_BYTES > bytes.length) throw malformed(at, `entry ${i} of ${count}`)
    const hashAt = at + REPLY_ENTRY_HEADER_BYTES
    const headersAt = hashAt + hashBytes
    const layersBytes = bytes.readUInt32BE(at + 4)
    const layersAt = headersAt + bytes.readUInt16BE(at + 2)
    const bodyAt = layersAt + layersBytes
    const end = bodyAt + bytes.readUInt32BE(at + 8)
    if (end > bytes.length) throw malformed(at, `entry ${i} to lie within the frame`)
    if (layersBytes !== 0 && (receipt !== 'full' || layersBytes !== ENTRY_PART_BYTES)) throw malformed(at + 4, 'no layers, or those of `full`')
    entries.push(new BatchReplyEntry(bytes, bytes.readUInt16BE(at), hashAt, headersAt, layersAt, bodyAt, end, () => layersOf(i)))
    at = end
  }
  if (receipt === 'full') shared = new SharedPart(bytes, at, count)
  else if (at !== bytes.length) throw malformed(at, 'the end of the frame')
  return { id, receipt, entries }
}
