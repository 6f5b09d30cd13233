/**
 * What all CMTP/0 frames share: the first four bytes, the kinds, the flag bits and the bounds checks. Integers are in
 * network byte order. A decoder reads in place and never copies; what it hands out are views into the frame.
 */
import { CMeshError } from './errors.ts'
import { LIMITS } from './limits.ts'

export const VERSION = 0
export const MAGIC_0 = 0x43 // "C"
export const MAGIC_1 = 0x4d // "M"

export const KIND_REQUEST = 1
export const KIND_REPLY = 2
export const KIND_BATCH_REQUEST = 3
export const KIND_BATCH_REPLY = 4
export const KIND_BUNDLE = 5
export type FrameKind = 1 | 2 | 3 | 4 | 5

/** What a caller asks for, and a reply promises: the final hash, nothing, or the layers as well. */
export type ReceiptLevel = 'hash' | 'none' | 'full'
const LEVELS = ['hash', 'none', 'full'] as const
export const RECEIPT_MASK = 0b11

/** In the flags of a request: its reply may come in a bundle with others. */
export const BUNDLE_FLAG = 0b100

/** In the flags of a batch request: each entry carries the reference of its own session's token. */
export const OWN_TOKENS_FLAG = 0b1000

export function receiptFlags(level: ReceiptLevel): number {
  return LEVELS.indexOf(level)
}

export function requestFlags(level: ReceiptLevel, bundle: boolean): number {
  return LEVELS.indexOf(level) | (bundle ? BUNDLE_FLAG : 0)
}

/** The level in a frame's flags. Throws `CMESH_FRAME_FLAGS` when any other bit is set or the level is unknown. */
export function receiptOf(flags: number): ReceiptLevel {
  const level = LEVELS[flags & RECEIPT_MASK]
  if (level === undefined || (flags & ~RECEIPT_MASK) !== 0) throw new CMeshError('CMESH_FRAME_FLAGS', { flags: `0x${flags.toString(16)}` })
  return level
}

/** The kind of a frame, after its magic and version. Throws `CMESH_FRAME_MALFORMED`, `_VERSION`, `_TOO_LARGE`. */
export function frameKind(frame: Uint8Array): FrameKind {
  if (frame.length < 4 || frame[0] !== MAGIC_0 || frame[1] !== MAGIC_1) throw malformed(0, '"CM", the version and the kind')
  if (frame[2] !== VERSION) throw new CMeshError('CMESH_FRAME_VERSION', { version: frame[2] ?? 0, supported: VERSION })
  if (frame.length > LIMITS.frameBytes) throw tooLarge('frame', frame.length, LIMITS.frameBytes)
  const kind = frame[3]
  if (kind !== 1 && kind !== 2 && kind !== 3 && kind !== 4 && kind !== 5) throw malformed(3, 'a frame kind from 1 to 5')
  return kind
}

export function expectKind(frame: Uint8Array, kind: FrameKind, headerBytes: number, what: string): void {
  if (frameKind(frame) !== kind) throw malformed(3, `${what} (kind ${kind})`)
  if (frame.length < headerBytes) throw malformed(frame.length, `${headerBytes} bytes of header`)
}

/** The bytes as a Buffer over the same memory. */
export function asBuffer(bytes: Uint8Array): Buffer {
  return Buffer.isBuffer(bytes) ? bytes : Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength)
}

/** Bytes, or text that stands in the frame as UTF-8: what is written straight into its frame needs no memory of its own. */
export type Content = Uint8Array | string

export function contentBytes(content: Content): number {
  return typeof content === 'string' ? Buffer.byteLength(content) : content.length
}

/** Writes all of `content` into the frame at `at`, where there is room for it, and gives how many bytes that were. */
export function putContent(frame: Buffer, content: Content, at: number): number {
  if (typeof content === 'string') return frame.write(content, at)
  if (content.length !== 0) frame.set(content, at)
  return content.length
}

export function checkPart(part: string, bytes: number, limit: number): void {
  if (bytes > limit) throw tooLarge(part, bytes, limit)
}

export function malformed(offset: number, expected: string, cause?: unknown): CMeshError {
  return new CMeshError('CMESH_FRAME_MALFORMED', { offset, expected }, cause === undefined ? undefined : { cause })
}

function tooLarge(part: string, bytes: number, limit: number): CMeshError {
  return new CMeshError('CMESH_FRAME_TOO_LARGE', { part, bytes, limit })
}
