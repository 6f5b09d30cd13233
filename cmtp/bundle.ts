/**
 * The bundle of CMTP/0: replies to several requests of one inbox in one message. Under load a message costs more than the
 * reply in it, and requests of different sessions on one connection share nothing but their inbox. A router bundles only what
 * is ready in the same turn, and only for requests that say they take it (`BUNDLE_FLAG`); each reply keeps its own id, status
 * and final hash, byte for byte.
 *
 * A request that takes a bundle names `<inbox>.<token>` as its reply subject, the token a decimal number below 2^32 without
 * leading zeros; the bundle goes to `<inbox>.b` and names each reply by that number.
 */
import { LIMITS } from './limits.ts'
import { asBuffer, BUNDLE_FLAG, checkPart, expectKind, KIND_BUNDLE, KIND_REQUEST, MAGIC_0, MAGIC_1, malformed, VERSION } from './wire.ts'

/*
 * bundle: 0 magic 2 · 2 version 1 · 3 kind 1 · 4 zero 2 · 6 count 2 · 8 replies
 * reply:  token 4 · length 4 · reply frame
 */
export const BUNDLE_HEADER_BYTES = 8
export const BUNDLED_HEADER_BYTES = 8

/** The last token of the subject that a bundle goes to. */
export const BUNDLE_TOKEN = 'b'

export interface BundledReply {
  readonly token: number
  /** A reply frame. */
  readonly frame: Uint8Array
}

/** Whether these bytes begin like a request whose reply may be bundled. Says nothing of the rest of them. */
export function takesBundle(data: Uint8Array): boolean {
  return data.length > 5 && data[3] === KIND_REQUEST && ((data[5] as number) & BUNDLE_FLAG) !== 0
    && data[0] === MAGIC_0 && data[1] === MAGIC_1 && data[2] === VERSION
}

/** The number at the end of a reply subject, behind the dot at `dot`; `undefined` when it is none. */
export function bundleToken(subject: string, dot: number): number | undefined {
  const digits = subject.length - dot - 1
  if (digits < 1 || digits > 10) return undefined
  let token = 0
  for (let i = dot + 1; i < subject.length; i++) {
    const digit = subject.charCodeAt(i) - 0x30
    if (digit < 0 || digit > 9 || (digit === 0 && token === 0 && digits > 1)) return undefined
    token = token * 10 + digit
  }
  return token <= 0xffff_ffff ? token : undefined
}

/** Builds bundles, one after the other, in memory of its own: a reply that waits for the end of its turn is bytes and no object. */
export class BundleWriter {
  readonly #bytes: number
  #bundle: Buffer
  #at = BUNDLE_HEADER_BYTES
  #count = 0

  /** `bytes`: longest bundle. */
  constructor(bytes: number) {
    this.#bytes = bytes
    this.#bundle = Buffer.allocUnsafeSlow(Math.min(bytes, 4_096))
  }

  /** Replies in the bundle under way. */
  get count(): number {
    return this.#count
  }

  /** Whether a reply frame of this length still fits. */
  fits(length: number): boolean {
    return this.#count < LIMITS.bundleReplies && this.#at + BUNDLED_HEADER_BYTES + length <= this.#bytes
  }

  /** Appends a copy of a reply frame that fits. */
  add(token: number, frame: Uint8Array): void {
    const start = this.#at + BUNDLED_HEADER_BYTES
    const end = start + frame.length
    if (end > this.#bundle.length) {
      const grown = Buffer.allocUnsafeSlow(Math.min(Math.max(end, this.#bundle.length * 4), this.#bytes))
      grown.set(this.#bundle.subarray(0, this.#at))
      this.#bundle = grown
    }
    const bundle = this.#bundle
    putUint32(bundle, token, this.#at)
    putUint32(bundle, frame.length, this.#at + 4)
    bundle.set(frame, start)
    this.#at = end
    this.#count++
  }

  /** The bundle, a copy of its own, with at least one reply; the next one begins empty. */
  take(): Buffer {
    const bundle = Buffer.from(this.#bundle.subarray(0, this.#at))
    bundle[0] = MAGIC_0
    bundle[1] = MAGIC_1
    bundle[2] = VERSION
    bundle[3] = KIND_BUNDLE
    bundle[4] = bundle[5] = 0
    bundle[6] = this.#count >> 8
    bundle[7] = this.#count & 0xff
    this.#at = BUNDLE_HEADER_BYTES
    this.#count = 0
    return bundle
  }
}

function putUint32(target: Buffer, value: number, at: number): void {
  target[at] = value >>> 24
  target[at + 1] = value >>> 16
  target[at + 2] = value >>> 8
  target[at + 3] = value
}

/** The replies, in order; frames are views. A bundle is whole or refused: throws `CMESH_FRAME_*`. What the frames hold is not looked at. */
export function decodeBundle(data: Uint8Array): BundledReply[] {
  const bytes = asBuffer(data)
  expectKind(bytes, KIND_BUNDLE, BUNDLE_HEADER_BYTES, 'a bundle')
  if (bytes[4] !== 0 || bytes[5] !== 0) throw malformed(4, 'two zero bytes')
  const count = bytes.readUInt16BE(6)
  if (count === 0) throw malformed(6, 'at least one reply')
  checkPart('bundle', count, LIMITS.bundleReplies)
  const replies = new Array<BundledReply>(count)
  let at = BUNDLE_HEADER_BYTES
  for (let i = 0; i < count; i++) {
    const start = at + BUNDLED_HEADER_BYTES
    if (start > bytes.length) throw malformed(at, `reply ${i} of ${count}`)
    const end = start + bytes.readUInt32BE(at + 4)
    if (end > bytes.length) throw malformed(at + 4, `reply ${i} to lie within the bundle`)
    replies[i] = { token: bytes.readUInt32BE(at), frame: bytes.subarray(start, end) }
    at = end
  }
  if (at !== bytes.length) throw malformed(at, 'the end of the bundle')
  return replies
}
