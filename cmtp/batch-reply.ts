/**
 * The batch reply of CMTP/0: the replies to the requests of one batch frame, in their order, each with its own status and final hash. An entry that is
 * answered as another one says so and has nothing else of its own; at `full`, what their receipts share stands once behind them. Layouts are normative in
 * `SPEC.md`, section 7.
 */
import { HASH_BYTES } from './frame.ts'
import { encodedNumber, type StaticName } from './headers.ts'
import { LIMITS } from './limits.ts'
import { entryId, MESSAGE_ID_BYTES } from './message-id.ts'
import {
  encodeSharedPart, ENTRY_PART_BYTES, MOST_REPEATED_BYTES, putEntryPart, SharedPart, withEntryIndex, type EntryPart, type SharedEvidence, type SharedRoot,
  type SharingEntry,
} from './receipt/shared-part.ts'
import {
  asBuffer, checkPart, expectKind, KIND_BATCH_REPLY, MAGIC_0, MAGIC_1, malformed, receiptFlags, receiptOf, VERSION, type ReceiptLevel,
} from './wire.ts'

const EMPTY = Buffer.alloc(0)

/*
 * batch reply: 0 magic 2 · 2 version 1 · 3 kind 1 · 4 flags 2 · 6 count 2 · 8 id 16 · 24 entries
 * entry:       status 2 · header length 2 · layers length 4 · body length 4 · [final hash 32, unless the level is none]
 *              headers · layers · body
 * repetition:  zero 2 · entry that it repeats 2 · [final hash 32, unless the level is none] · [at full: index of its leaf 4]
 * Behind the entries, at `full`: what their layers share (receipt/shared-part.ts)
 */
const BATCH_REPLY_HEADER_BYTES = 24
const REPLY_ENTRY_HEADER_BYTES = 12
/** What an entry of a batch reply takes beside its headers, layers and body. */
export const REPLY_ENTRY_BYTES = REPLY_ENTRY_HEADER_BYTES + HASH_BYTES
const REPETITION_HEADER_BYTES = 4
const LEAF_INDEX_BYTES = 4
/** The most that an entry takes which repeats another. */
export const REPEATED_ENTRY_BYTES = REPETITION_HEADER_BYTES + HASH_BYTES + LEAF_INDEX_BYTES

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

  /**
   * Appends an entry that repeats entry `of`, which was added before and has layers at `full`: with a final hash of its own, which stands in `finals` from
   * `from` on and is ignored when the level is `none`, and at `full` the index of its own leaf.
   */
  repeat(of: number, finals: Uint8Array, from: number, index = 0): void {
    const frame = this.#reach(this.#at + REPEATED_ENTRY_BYTES)
    let at = this.#at
    frame[at] = frame[at + 1] = 0
    frame[at + 2] = of >> 8
    frame[at + 3] = of & 0xff
    at += REPETITION_HEADER_BYTES
    if (this.#receipt !== 'none') {
      for (let i = 0; i < HASH_BYTES; i++) frame[at + i] = finals[from + i] as number
      at += HASH_BYTES
    }
    if (this.#receipt === 'full') at = frame.writeUInt32BE(index, at)
    this.#at = at
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
  readonly #frame: BatchReplyFrame
  readonly #nth: number
  readonly #hashAt: number
  readonly #headersAt: number
  readonly #layersAt: number
  readonly #bodyAt: number
  readonly #end: number
  /** Its own part, where that is not what stands before its body: it repeats another. */
  readonly #own: Buffer | undefined

  constructor(
    frame: BatchReplyFrame, nth: number, status: number, hashAt: number, headersAt: number, layersAt: number, bodyAt: number, end: number, own?: Buffer,
  ) {
    this.status = status
    this.#frame = frame
    this.#nth = nth
    this.#hashAt = hashAt
    this.#headersAt = headersAt
    this.#layersAt = layersAt
    this.#bodyAt = bodyAt
    this.#end = end
    this.#own = own
  }

  /** Entry `nth`, answered as this one, with the final hash at `hashAt`; with layers, `index` is that of its own leaf. */
  repeated(nth: number, hashAt: number, index: number | undefined): BatchReplyEntry {
    return new BatchReplyEntry(
      this.#frame, nth, this.status, hashAt, this.#headersAt, this.#layersAt, this.#bodyAt, this.#end,
      index === undefined ? undefined : withEntryIndex(this.ownPart, index),
    )
  }

  /** 32 bytes, or empty when the reply promises none. */
  get finalHash(): Buffer {
    const { bytes, hashBytes } = this.#frame
    return bytes.subarray(this.#hashAt, this.#hashAt + hashBytes)
  }

  get headers(): Buffer {
    return this.#frame.bytes.subarray(this.#headersAt, this.#layersAt)
  }

  /** See `encodedNumber`. */
  headerNumber(name: StaticName): number {
    return encodedNumber(this.#frame.bytes, this.#headersAt, this.#layersAt, name)
  }

  /** The layers part, as a reply alone has it: put together when it is asked for. Throws `CMESH_FRAME_MALFORMED` where that cannot be. */
  get layers(): Buffer {
    return this.#frame.layersOf(this.#nth)
  }

  /** What the entry says of its layers itself. */
  get ownPart(): Buffer {
    return this.#own ?? this.#frame.bytes.subarray(this.#layersAt, this.#bodyAt)
  }

  /** Bytes of its headers and its body. */
  get contentBytes(): number {
    return this.#layersAt - this.#headersAt + this.#end - this.#bodyAt
  }

  /** Whether it is answered as another one. */
  get repeats(): boolean {
    return this.#hashAt + this.#frame.hashBytes !== this.#headersAt
  }

  /** A view into the frame, or a copy where others have the same bytes: nobody sees what another one does to theirs. */
  get body(): Buffer {
    const body = this.#frame.bytes.subarray(this.#bodyAt, this.#end)
    return this.repeats ? Buffer.from(body) : body
  }
}

/** What the entries of a decoded batch reply have in common. */
class BatchReplyFrame {
  readonly bytes: Buffer
  readonly hashBytes: number
  readonly entries: BatchReplyEntry[] = []
  shared: SharedPart | undefined
  #sharing: readonly SharingEntry[] | undefined

  constructor(bytes: Buffer, hashBytes: number) {
    this.bytes = bytes
    this.hashBytes = hashBytes
  }

  get id(): Buffer {
    return this.bytes.subarray(8, 8 + MESSAGE_ID_BYTES)
  }

  layersOf(nth: number): Buffer {
    if (this.shared === undefined) return EMPTY
    this.#sharing ??= this.entries.map(({ finalHash, ownPart }, i) => ({ id: entryId(this.id, i), final: finalHash, part: ownPart }))
    return this.shared.layersPart(nth, this.#sharing)
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
  const indexBytes = receipt === 'full' ? LEAF_INDEX_BYTES : 0
  const count = bytes.readUInt16BE(6)
  checkPart('batch', count, LIMITS.batchEntries)
  const frame = new BatchReplyFrame(bytes, hashBytes)
  const { entries } = frame
  let at = BATCH_REPLY_HEADER_BYTES
  let repeatedBytes = 0
  for (let i = 0; i < count; i++) {
    if (at + REPETITION_HEADER_BYTES > bytes.length) throw malformed(at, `entry ${i} of ${count}`)
    const status = bytes.readUInt16BE(at)
    if (status === 0) {
      const before = entries[bytes.readUInt16BE(at + 2)]
      const hashAt = at + REPETITION_HEADER_BYTES
      const end = hashAt + hashBytes + indexBytes
      if (before === undefined || before.repeats) throw malformed(at + 2, 'the number of an entry before that repeats none')
      if (receipt === 'full' && before.ownPart.length === 0) throw malformed(at + 2, 'the number of an entry that has layers')
      if (end > bytes.length) throw malformed(at, `entry ${i} to lie within the frame`)
      repeatedBytes += before.contentBytes
      if (repeatedBytes > MOST_REPEATED_BYTES) throw malformed(at, `repetitions of at most ${MOST_REPEATED_BYTES} bytes`)
      entries.push(before.repeated(i, hashAt, receipt === 'full' ? bytes.readUInt32BE(hashAt + hashBytes) : undefined))
      at = end
      continue
    }
    if (at + REPLY_ENTRY_HEADER_BYTES > bytes.length) throw malformed(at, `entry ${i} of ${count}`)
    const hashAt = at + REPLY_ENTRY_HEADER_BYTES
    const headersAt = hashAt + hashBytes
    const layersBytes = bytes.readUInt32BE(at + 4)
    const layersAt = headersAt + bytes.readUInt16BE(at + 2)
    const bodyAt = layersAt + layersBytes
    const end = bodyAt + bytes.readUInt32BE(at + 8)
    if (end > bytes.length) throw malformed(at, `entry ${i} to lie within the frame`)
    if (layersBytes !== 0 && (receipt !== 'full' || layersBytes !== ENTRY_PART_BYTES)) throw malformed(at + 4, 'no layers, or those of `full`')
    entries.push(new BatchReplyEntry(frame, i, status, hashAt, headersAt, layersAt, bodyAt, end))
    at = end
  }
  if (receipt === 'full') frame.shared = new SharedPart(bytes, at, count)
  else if (at !== bytes.length) throw malformed(at, 'the end of the frame')
  for (const nth of frame.shared?.evident ?? []) {
    if (entries[nth]?.ownPart.length === 0) throw malformed(at, `evidence of entries that have layers, and not of ${nth}`)
  }
  return { id: frame.id, receipt, entries }
}
