/**
 * What a request came back with. A reply is read when it is asked for: constructing one costs a few field writes, its
 * headers, text and layers are decoded on first use. It never changes.
 *
 * Invariant: a `Reply` exists only for bytes that are one well-formed frame and carry the id of their request; everything
 * else is `CMESH_CLIENT_REPLY`.
 */
import { decodeBatchReply, type BatchReply } from '../cmtp/batch-reply.ts'
import { CMeshError } from '../cmtp/errors.ts'
import { ReplyFrame, REQUEST_ID_AT } from '../cmtp/frame.ts'
import { decodeHeaders, headerValue, type HeaderList } from '../cmtp/headers.ts'
import { decodeLayers, type DecodedLayer } from '../cmtp/layer.ts'
import { entryId, formatMessageId, MESSAGE_ID_BYTES } from '../cmtp/message-id.ts'
import { encodeWitness } from '../cmtp/receipt/witness.ts'
import { frameKind, KIND_REPLY, type ReceiptLevel } from '../cmtp/wire.ts'
import { askedFor } from './witness.ts'

/** The parts of a reply frame, or of one entry of a batch reply. */
type ReplyParts = Pick<ReplyFrame, 'status' | 'headers' | 'headerNumber' | 'layers' | 'body' | 'finalHash'>

const UTF8 = new TextDecoder('utf-8', { fatal: true })

export class Reply {
  /** HTTP's meaning: below 400 it went well. */
  readonly status: number
  /** The level the reply carries. */
  readonly receipt: ReceiptLevel
  readonly #parts: ReplyParts
  readonly #frame: Buffer
  readonly #index: number
  readonly #asked: Buffer | undefined
  #headers: HeaderList | undefined

  /** `frame`: the frame that `parts` lie in. `index`: the entry's, in a batch. `asked`: the frame that asked, kept where it is part of what is proven. */
  constructor(parts: ReplyParts, receipt: ReceiptLevel, frame: Buffer, asked: Buffer, index = 0) {
    this.status = parts.status
    this.receipt = receipt
    this.#parts = parts
    this.#frame = frame
    this.#index = index
    this.#asked = receipt === 'full' ? asked : undefined
  }

  /** How far the log had come, as the reply of a write says: 0 where it does not. Asked of each, so no other header is read for it. */
  static sequenceOf(reply: Reply): number {
    return reply.#parts.headerNumber('x-cmesh-sequence')
  }

  get ok(): boolean {
    return this.status < 400
  }

  /** The message id, 32 hex digits. It is the transaction id of a write. */
  get id(): string {
    return formatMessageId(entryId(idOf(this.#frame), this.#index))
  }

  /** The final hash, 64 hex digits; `undefined` when the request asked for none. */
  get finalHash(): string | undefined {
    return this.receipt === 'none' ? undefined : asBuffer(this.#parts.finalHash).toString('hex')
  }

  /** In order, names in lower case. Throws `CMESH_CLIENT_REPLY` when the header block is malformed. */
  get headers(): HeaderList {
    return this.#headers ??= this.#read(() => decodeHeaders(this.#parts.headers))
  }

  /** The first value of a header; `undefined` without it. */
  header(name: string): string | undefined {
    return headerValue(this.headers, name.toLowerCase())
  }

  /** The transaction's id when the request changed state, 32 hex digits. */
  get transaction(): string | undefined {
    return this.header('x-cmesh-transaction')
  }

  /** The body's bytes: a view into what arrived. Copy it to keep it for long, or it keeps its neighbours in memory. */
  get body(): Uint8Array {
    return this.#parts.body
  }

  /** The body as text. Throws `CMESH_CLIENT_REPLY` when it is no UTF-8. */
  text(): string {
    return this.#read(() => UTF8.decode(this.#parts.body), 'its body is not UTF-8')
  }

  /** The body as a JSON value of a type the caller vouches for. Throws `CMESH_CLIENT_REPLY` when it is no JSON. */
  json<T = unknown>(): T {
    const text = this.text()
    return this.#read(() => JSON.parse(text) as T, 'its body is not JSON')
  }

  /** What each hop did, the router last; empty unless the receipt level is `full`. Throws `CMESH_CLIENT_REPLY`. */
  layers(): readonly DecodedLayer[] {
    return this.#decodedLayers()?.layers ?? []
  }

  /**
   * By what bodies, headers and arguments can be shown to be those of the receipt, 16 bytes; `undefined` unless the receipt level is `full`.
   * For the caller alone: whoever has it can try guesses. Throws `CMESH_CLIENT_REPLY`.
   */
  salt(): Uint8Array | undefined {
    return this.#decodedLayers()?.salt
  }

  /** The receipt at `full`, to be kept; `undefined` at any other level, and where the node keeps none. Throws `CMESH_CLIENT_REPLY`. */
  receiptBytes(): Uint8Array | undefined {
    const { receipt } = this.#decodedLayers() ?? {}
    return receipt === undefined || receipt.length === 0 ? undefined : receipt
  }

  /**
   * The witness of the receipt, to be kept beside it: what was asked and answered, and the salt. With it a read can be replayed, and bodies and
   * arguments be shown to be those of the receipt. For the caller alone. `undefined` where there is no receipt. Throws `CMESH_CLIENT_REPLY`.
   */
  witnessBytes(): Uint8Array | undefined {
    const salt = this.receiptBytes() === undefined ? undefined : this.salt()
    const asked = this.#asked
    if (salt === undefined || asked === undefined) return undefined
    const { headers, body } = this.#parts
    const id = entryId(idOf(this.#frame), this.#index)
    return encodeWitness({ id, salt, ...askedFor(asked, this.#index), replyHeaders: headers, replyBody: body })
  }

  /** The error that a status of 400 and above carries; `undefined` below. An unreadable error body is `CMESH_INTERNAL`. */
  error(): CMeshError | undefined {
    if (this.ok) return undefined
    let wire: unknown
    try {
      wire = JSON.parse(asBuffer(this.#parts.body).toString('utf8'))
    } catch (cause) {
      wire = cause
    }
    return CMeshError.fromWire(wire)
  }

  #decodedLayers(): ReturnType<typeof decodeLayers> | undefined {
    return this.#read(() => {
      const { layers } = this.#parts
      return layers.length === 0 ? undefined : decodeLayers(layers)
    })
  }

  #read<T>(decode: () => T, reason?: string): T {
    try {
      return decode()
    } catch (cause) {
      throw unusable(this.id, reason ?? reasonOf(cause), cause)
    }
  }
}

/** The reply to the request in `asked`. Throws `CMESH_CLIENT_REPLY` for any other bytes. */
export function readReply(data: Uint8Array, asked: Buffer, receipt: ReceiptLevel): Reply {
  let frame: ReplyFrame
  try {
    frame = ReplyFrame.decode(data)
  } catch (cause) {
    throw unusable(requestId(asked), reasonOf(cause), cause)
  }
  checkId(frame.bytes, asked)
  checkLevel(frame.status < 400, frame.receipt, receipt, asked)
  return new Reply(frame, frame.receipt, frame.bytes, asked)
}

/**
 * The replies to the `count` requests of the batch in `asked`, in their order; or the one reply by which the batch was
 * refused as a whole. Throws `CMESH_CLIENT_REPLY`.
 */
export function readBatchReply(data: Uint8Array, asked: Buffer, count: number, receipt: ReceiptLevel): Reply[] | Reply {
  let batch: BatchReply
  try {
    if (frameKind(data) === KIND_REPLY) return refusalOf(readReply(data, asked, receipt), asked)
    batch = decodeBatchReply(data)
  } catch (cause) {
    if (cause instanceof CMeshError && cause.code === 'CMESH_CLIENT_REPLY') throw cause
    throw unusable(requestId(asked), reasonOf(cause), cause)
  }
  const frame = asBuffer(data)
  checkId(frame, asked)
  const { entries } = batch
  if (entries.length !== count) throw unusable(requestId(asked), `it has ${entries.length} entries where ${count} were asked`)
  checkLevel(entries.some((entry) => entry.status < 400), batch.receipt, receipt, asked)
  return entries.map((entry, i) => new Reply(entry, batch.receipt, frame, asked, i))
}

function refusalOf(reply: Reply, asked: Buffer): Reply {
  if (reply.ok) throw unusable(requestId(asked), 'it is one reply where a batch of them was asked')
  return reply
}

/** Both kinds of reply keep the id at the same place, and both kinds of request. */
const ID_AT = 8

function checkId(reply: Buffer, asked: Buffer): void {
  // The counter, last, is where two ids of one client differ.
  for (let i = MESSAGE_ID_BYTES - 1; i >= 0; i--) {
    if (reply[ID_AT + i] !== asked[REQUEST_ID_AT + i]) throw unusable(requestId(asked), `it answers ${formatMessageId(idOf(reply))}`)
  }
}

/** A result without the final hash it was asked for would be a request without a receipt. */
function checkLevel(ok: boolean, given: ReceiptLevel, wanted: ReceiptLevel, asked: Buffer): void {
  if (ok && given === 'none' && wanted !== 'none') throw unusable(requestId(asked), 'it carries no final hash, which was asked for')
}

function idOf(reply: Buffer): Buffer {
  return reply.subarray(ID_AT, ID_AT + MESSAGE_ID_BYTES)
}

/** The message id of a request or batch frame, 32 hex digits. */
export function requestId(frame: Buffer): string {
  return formatMessageId(frame.subarray(REQUEST_ID_AT, REQUEST_ID_AT + MESSAGE_ID_BYTES))
}

function unusable(id: string, reason: string, cause?: unknown): CMeshError {
  return new CMeshError('CMESH_CLIENT_REPLY', { id, reason: reason.replace(/\.$/, '') }, cause === undefined ? undefined : { cause })
}

function reasonOf(thrown: unknown): string {
  return thrown instanceof Error ? thrown.message : String(thrown)
}

function asBuffer(bytes: Uint8Array): Buffer {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength)
}
