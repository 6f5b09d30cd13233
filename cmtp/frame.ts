/**
 * The request frame and the reply frame of CMTP/0. Layouts are normative in `SPEC.md`; this file holds encoder beside
 * decoder. Decoding checks every length against the frame and against `LIMITS` before anything else is read, and copies
 * nothing. What the hot path reads (address, token, deadline) needs no other field decoded.
 */
import { CMeshError } from './errors.ts'
import { encodedNumber, type StaticName } from './headers.ts'
import { LIMITS } from './limits.ts'
import { MESSAGE_ID_BYTES } from './message-id.ts'
import {
  asBuffer, BUNDLE_FLAG, checkPart, contentBytes, expectKind, KIND_REPLY, KIND_REQUEST, MAGIC_0, MAGIC_1, malformed, putContent, receiptFlags, receiptOf,
  requestFlags, VERSION, type Content, type ReceiptLevel,
} from './wire.ts'

const EMPTY = Buffer.alloc(0)

/*
 * request: 0 magic 2 · 2 version 1 · 3 kind 1 · 4 flags 2 · 6 hops 1 · 7 zero 1 · 8 deadline ms 8 · 16 id 16
 *          · 32 fqmn length 2 · 34 token length 2 · 36 header length 2 · 38 body length 4 · 42 fqmn · token · headers · body
 */
export const REQUEST_HEADER_BYTES = 42
export const REQUEST_DEADLINE_AT = 8
export const REQUEST_ID_AT = 16

export interface RequestFields {
  /** 16 bytes. */
  readonly id: Uint8Array
  readonly fqmn: string
  /** The compact session JWT in ASCII; empty without a session. */
  readonly token: Uint8Array
  /** Absolute, ms since 1970. */
  readonly deadlineMs: number
  readonly receipt: ReceiptLevel
  /** Whether its reply may come in a bundle (`bundle.ts`). Default false. */
  readonly bundle?: boolean
  /** 0 at the client; each router that hands the message on adds one. */
  readonly hops?: number
  /** An encoded header block (`encodeHeaders`). */
  readonly headers?: Uint8Array
  readonly body?: Content
}

/** Encodes a request. Throws `CMESH_FRAME_TOO_LARGE` or `CMESH_FQMN_TOO_LONG`; the address itself is checked by the receiver. */
export function encodeRequest(fields: RequestFields): Buffer {
  const { token } = fields
  const headers = fields.headers ?? EMPTY
  const body = fields.body ?? EMPTY
  const bodyBytes = contentBytes(body)
  if (fields.id.length !== MESSAGE_ID_BYTES) throw new RangeError(`a message id has ${MESSAGE_ID_BYTES} bytes`)
  const fqmnBytes = Buffer.byteLength(fields.fqmn)
  if (fqmnBytes > LIMITS.fqmnBytes) throw new CMeshError('CMESH_FQMN_TOO_LONG', { bytes: fqmnBytes, limit: LIMITS.fqmnBytes })
  checkPart('token', token.length, LIMITS.tokenBytes)
  checkPart('header block', headers.length, LIMITS.headerBytes)
  checkPart('body', bodyBytes, LIMITS.bodyBytes)

  const frame = Buffer.allocUnsafe(REQUEST_HEADER_BYTES + fqmnBytes + token.length + headers.length + bodyBytes)
  frame[0] = MAGIC_0
  frame[1] = MAGIC_1
  frame[2] = VERSION
  frame[3] = KIND_REQUEST
  frame.writeUInt16BE(requestFlags(fields.receipt, fields.bundle === true), 4)
  frame[6] = fields.hops ?? 0
  frame[7] = 0
  writeUint64(frame, fields.deadlineMs, REQUEST_DEADLINE_AT)
  frame.set(fields.id, REQUEST_ID_AT)
  frame.writeUInt16BE(fqmnBytes, 32)
  frame.writeUInt16BE(token.length, 34)
  frame.writeUInt16BE(headers.length, 36)
  frame.writeUInt32BE(bodyBytes, 38)
  let at = REQUEST_HEADER_BYTES
  at += frame.write(fields.fqmn, at, 'utf8')
  frame.set(token, at)
  frame.set(headers, at + token.length)
  putContent(frame, body, at + token.length + headers.length)
  return frame
}

/** A decoded request: offsets into the frame, and views made when asked for. Valid as long as the frame's memory is. */
export class RequestFrame {
  readonly bytes: Buffer
  readonly receipt: ReceiptLevel
  readonly bundle: boolean
  readonly hops: number
  readonly deadlineMs: number
  readonly fqmnEnd: number
  readonly tokenEnd: number
  readonly headersEnd: number

  private constructor(bytes: Buffer, receipt: ReceiptLevel, fqmnEnd: number, tokenEnd: number, headersEnd: number) {
    this.bytes = bytes
    this.receipt = receipt
    this.bundle = ((bytes[5] as number) & BUNDLE_FLAG) !== 0
    this.hops = bytes[6] ?? 0
    this.deadlineMs = readUint64(bytes, REQUEST_DEADLINE_AT)
    this.fqmnEnd = fqmnEnd
    this.tokenEnd = tokenEnd
    this.headersEnd = headersEnd
  }

  /** Throws `CMESH_FRAME_*`. */
  static decode(data: Uint8Array): RequestFrame {
    const bytes = asBuffer(data)
    expectKind(bytes, KIND_REQUEST, REQUEST_HEADER_BYTES, 'a request')
    const receipt = receiptOf(bytes.readUInt16BE(4) & ~BUNDLE_FLAG)
    if (bytes[7] !== 0) throw malformed(7, 'a zero byte')
    const fqmnEnd = REQUEST_HEADER_BYTES + bytes.readUInt16BE(32)
    const tokenEnd = fqmnEnd + bytes.readUInt16BE(34)
    const headersEnd = tokenEnd + bytes.readUInt16BE(36)
    const bodyBytes = bytes.readUInt32BE(38)
    checkPart('FQMN', fqmnEnd - REQUEST_HEADER_BYTES, LIMITS.fqmnBytes)
    checkPart('token', tokenEnd - fqmnEnd, LIMITS.tokenBytes)
    checkPart('header block', headersEnd - tokenEnd, LIMITS.headerBytes)
    checkPart('body', bodyBytes, LIMITS.bodyBytes)
    if (headersEnd + bodyBytes !== bytes.length) throw malformed(38, `lengths that add up to the ${bytes.length} bytes of the frame`)
    return new RequestFrame(bytes, receipt, fqmnEnd, tokenEnd, headersEnd)
  }

  get id(): Buffer {
    return this.bytes.subarray(REQUEST_ID_AT, REQUEST_ID_AT + MESSAGE_ID_BYTES)
  }

  get token(): Buffer {
    return this.bytes.subarray(this.fqmnEnd, this.tokenEnd)
  }

  get headers(): Buffer {
    return this.tokenEnd === this.headersEnd ? EMPTY : this.bytes.subarray(this.tokenEnd, this.headersEnd)
  }

  get body(): Buffer {
    return this.headersEnd === this.bytes.length ? EMPTY : this.bytes.subarray(this.headersEnd)
  }

  get fqmn(): string {
    return this.bytes.toString('utf8', REQUEST_HEADER_BYTES, this.fqmnEnd)
  }
}

/** The id of whatever bytes arrived, when they are long enough to carry one: lets a reply to a malformed frame find its request. */
export function salvageMessageId(data: Uint8Array): Buffer | undefined {
  const looksLikeRequest = data.length >= REQUEST_ID_AT + MESSAGE_ID_BYTES && data[0] === MAGIC_0 && data[1] === MAGIC_1
  return looksLikeRequest ? Buffer.from(data.subarray(REQUEST_ID_AT, REQUEST_ID_AT + MESSAGE_ID_BYTES)) : undefined
}

/*
 * reply: 0 magic 2 · 2 version 1 · 3 kind 1 · 4 flags 2 · 6 status 2 · 8 id 16 · 24 header length 2 · 26 zero 2
 *        · 28 layers length 4 · 32 body length 4 · 36 [final hash 32, unless the level is none] headers · layers · body
 */
export const REPLY_HEADER_BYTES = 36
export const HASH_BYTES = 32

export interface ReplyFields {
  readonly id: Uint8Array
  readonly status: number
  /** The level promised; `finalHash` must be given unless it is `none`, `layers` only when it is `full`. */
  readonly receipt: ReceiptLevel
  /** 32 bytes, one per character (latin1). */
  readonly finalHash?: string
  readonly headers?: Uint8Array
  readonly layers?: Uint8Array
  readonly body?: Uint8Array
}

export function encodeReply(fields: ReplyFields): Buffer {
  const headers = fields.headers ?? EMPTY
  const layers = fields.layers ?? EMPTY
  const body = fields.body ?? EMPTY
  const hashBytes = fields.receipt === 'none' ? 0 : HASH_BYTES
  const frame = Buffer.allocUnsafe(REPLY_HEADER_BYTES + hashBytes + headers.length + layers.length + body.length)
  frame[0] = MAGIC_0
  frame[1] = MAGIC_1
  frame[2] = VERSION
  frame[3] = KIND_REPLY
  frame[4] = 0
  frame[5] = receiptFlags(fields.receipt)
  frame[6] = fields.status >> 8
  frame[7] = fields.status & 0xff
  frame.set(fields.id, 8)
  frame[24] = headers.length >> 8
  frame[25] = headers.length & 0xff
  frame[26] = 0
  frame[27] = 0
  frame.writeUInt32BE(layers.length, 28)
  frame.writeUInt32BE(body.length, 32)
  let at = REPLY_HEADER_BYTES
  if (hashBytes !== 0) {
    const { finalHash } = fields
    if (finalHash?.length !== HASH_BYTES) throw new RangeError('a reply that promises a final hash needs its 32 bytes')
    for (let i = 0; i < HASH_BYTES; i++) frame[at + i] = finalHash.charCodeAt(i)
    at += HASH_BYTES
  }
  if (headers.length !== 0) frame.set(headers, at)
  at += headers.length
  if (layers.length !== 0) frame.set(layers, at)
  at += layers.length
  if (body.length !== 0) frame.set(body, at)
  return frame
}

/** A decoded reply. Same rules as `RequestFrame`. */
export class ReplyFrame {
  readonly bytes: Buffer
  readonly receipt: ReceiptLevel
  readonly status: number
  readonly #headersAt: number
  readonly #layersAt: number
  readonly #bodyAt: number

  private constructor(bytes: Buffer, receipt: ReceiptLevel, headersAt: number, layersAt: number, bodyAt: number) {
    this.bytes = bytes
    this.receipt = receipt
    this.status = bytes.readUInt16BE(6)
    this.#headersAt = headersAt
    this.#layersAt = layersAt
    this.#bodyAt = bodyAt
  }

  /** Throws `CMESH_FRAME_*`. */
  static decode(data: Uint8Array): ReplyFrame {
    const bytes = asBuffer(data)
    expectKind(bytes, KIND_REPLY, REPLY_HEADER_BYTES, 'a reply')
    const receipt = receiptOf(bytes.readUInt16BE(4))
    if (bytes[26] !== 0 || bytes[27] !== 0) throw malformed(26, 'two zero bytes')
    const headersAt = REPLY_HEADER_BYTES + (receipt === 'none' ? 0 : HASH_BYTES)
    const layersAt = headersAt + bytes.readUInt16BE(24)
    const bodyAt = layersAt + bytes.readUInt32BE(28)
    const bodyBytes = bytes.readUInt32BE(32)
    checkPart('body', bodyBytes, LIMITS.bodyBytes)
    if (bodyAt + bodyBytes !== bytes.length) throw malformed(24, `lengths that add up to the ${bytes.length} bytes of the frame`)
    return new ReplyFrame(bytes, receipt, headersAt, layersAt, bodyAt)
  }

  get id(): Buffer {
    return this.bytes.subarray(8, 8 + MESSAGE_ID_BYTES)
  }

  /** 32 bytes, or empty when the reply promises none. */
  get finalHash(): Buffer {
    return this.bytes.subarray(REPLY_HEADER_BYTES, this.#headersAt)
  }

  get headers(): Buffer {
    return this.bytes.subarray(this.#headersAt, this.#layersAt)
  }

  /** See `encodedNumber`. */
  headerNumber(name: StaticName): number {
    return encodedNumber(this.bytes, this.#headersAt, this.#layersAt, name)
  }

  get layers(): Buffer {
    return this.bytes.subarray(this.#layersAt, this.#bodyAt)
  }

  get body(): Buffer {
    return this.bytes.subarray(this.#bodyAt)
  }
}

/** A time in ms as 8 bytes; exact up to 2^53. */
export function writeUint64(target: Buffer, value: number, at: number): void {
  // By hand: a third of the cost of two checked writes, and it is done several times for each request.
  const high = Math.floor(value / 0x1_0000_0000)
  target[at] = high >>> 24
  target[at + 1] = high >>> 16
  target[at + 2] = high >>> 8
  target[at + 3] = high
  const low = value >>> 0
  target[at + 4] = low >>> 24
  target[at + 5] = low >>> 16
  target[at + 6] = low >>> 8
  target[at + 7] = low
}

/** Values past 2^53 lose their last bits; every one of them is far past any deadline that is accepted. */
export function readUint64(source: Buffer, at: number): number {
  return source.readUInt32BE(at) * 0x1_0000_0000 + source.readUInt32BE(at + 4)
}
