/**
 * What was hashed for a message, kept where the next one is likely to differ in id, times, salts, hashes and positions of state alone: asking one address
 * over and over is what a mesh is for, and putting those few bytes in costs a fraction of writing them all. It owns a copy of
 * those bytes; it hashes nothing and makes no salts.
 *
 * Invariant: after `fill`, and once the salts are in, the bytes are exactly what they would be when written afresh; `fits` says whether
 * they can be. What stands in `final` of content and layers is the sealer's to write.
 */
import { HASH_BYTES } from './frame.ts'
import { BEFORE_AT, GAS_AT, POSITION_BYTES, putGas, putHash, TIME_AT, writePosition, type Layer, type StatePosition } from './layer.ts'
import { MESSAGE_ID_BYTES } from './message-id.ts'
import type { Binding } from './sealer.ts'

/** What is hashed for one message: see `sealer.ts`. */
export interface Preimages {
  readonly content: Buffer
  readonly layers: readonly Buffer[]
  readonly final: Buffer
}

/** In `final`. */
export const ID_AT = 2
export const CALLER_AT = 52

/** In `content`. */
export const REQUEST_HASH_AT = 17
export const REPLY_HASH_AT = 49
export const HEADERS_AT = 81

/** Longest content kept: short headers. */
export const SEALED_BYTES = 1_024

export class Sealed implements Preimages {
  readonly content: Buffer
  readonly layers: readonly Buffer[]
  readonly final: Buffer
  /** Where the texts of its places were put down last: whoever keeps them may mark it. */
  noted: object | undefined = undefined
  readonly #callerEnd: number
  readonly #layers: readonly Layer[]
  /** As they stand in the bytes. */
  readonly #befores: (StatePosition | undefined)[]
  readonly #afters: (StatePosition | undefined)[]
  readonly #gas: bigint[]
  readonly #status: number
  #requestBodyHash: string
  #replyBodyHash: string
  #replyHeaders: Uint8Array
  #sid: string
  #sub: string

  /** Copies what was written from the layers and the binding. */
  constructor(parts: Preimages, layers: readonly Layer[], binding: Binding) {
    this.content = copy(parts.content)
    this.layers = parts.layers.map(copy)
    this.final = copy(parts.final)
    this.#callerEnd = parts.final.length - layers.length * HASH_BYTES - 1
    this.#layers = [...layers]
    this.#befores = layers.map(({ before }) => before)
    this.#afters = layers.map(({ after }) => after)
    this.#gas = layers.map(({ gas }) => gas)
    this.#status = binding.status
    this.#requestBodyHash = binding.requestBodyHash
    this.#replyBodyHash = binding.replyBodyHash
    this.#replyHeaders = binding.replyHeaders
    this.#sid = binding.sid
    this.#sub = binding.sub
  }

  /** Whether a message differs from the kept one in nothing but what `fill` puts in, the caller, and salts. */
  fits(layers: readonly Layer[], { status, replyHeaders }: Binding): boolean {
    if (status !== this.#status || replyHeaders.length !== this.#replyHeaders.length || layers.length !== this.#layers.length) return false
    for (let i = 0; i < layers.length; i++) if (!isAlike(layers[i] as Layer, this.#layers[i] as Layer)) return false
    return true
  }

  /** Whether the caller is the one whose text stands in the bytes. */
  isOf(sid: string, sub: string): boolean {
    return sid === this.#sid && sub === this.#sub
  }

  /** Puts another caller in; false when its text has another length. */
  setCaller(sid: string, sub: string, encoded: Uint8Array): boolean {
    if (encoded.length !== this.#callerEnd - CALLER_AT) return false
    this.final.set(encoded, CALLER_AT)
    this.#sid = sid
    this.#sub = sub
    return true
  }

  /** Puts in what is this message's own, but for salts. */
  fill(layers: readonly Layer[], { id, requestBodyHash, replyBodyHash, replyHeaders }: Binding): void {
    const { final, content } = this
    for (let i = 0; i < MESSAGE_ID_BYTES; i++) final[ID_AT + i] = id[i] as number
    if (requestBodyHash !== this.#requestBodyHash) putHash(content, this.#requestBodyHash = requestBodyHash, REQUEST_HASH_AT)
    if (replyBodyHash !== this.#replyBodyHash) putHash(content, this.#replyBodyHash = replyBodyHash, REPLY_HASH_AT)
    // The same object for reads; that of a write says where it stands in the log.
    if (replyHeaders !== this.#replyHeaders) content.set(this.#replyHeaders = replyHeaders, HEADERS_AT)
    for (let i = 0; i < layers.length; i++) this.#fillLayer(layers[i] as Layer, i)
  }

  #fillLayer({ startUs, durationUs, gas, before, after, argumentsHash }: Layer, nth: number): void {
    const bytes = this.layers[nth] as Buffer
    putTimes(bytes, startUs, Math.min(durationUs, 0xffff_ffff), 1 + TIME_AT)
    if (gas !== this.#gas[nth]) putGas(bytes, this.#gas[nth] = gas, 1 + GAS_AT)
    // Positions are the same objects as long as nothing is ordered, and for all of a block.
    if (before !== undefined && before !== this.#befores[nth]) writePosition(bytes, this.#befores[nth] = before, 1 + BEFORE_AT)
    if (after !== undefined && after !== this.#afters[nth]) {
      writePosition(bytes, this.#afters[nth] = after, 1 + BEFORE_AT + (before === undefined ? 0 : POSITION_BYTES))
    }
    // The last field of a layer that has one.
    if (argumentsHash !== undefined) bytes.write(argumentsHash, bytes.length - argumentsHash.length, 'latin1')
  }
}

function copy(bytes: Uint8Array): Buffer {
  const own = Buffer.allocUnsafeSlow(bytes.length)
  own.set(bytes)
  return own
}

/** Equal but for times, gas, positions of state, and salted hashes. */
function isAlike(layer: Layer, kept: Layer): boolean {
  return layer.site === kept.site && layer.grant === kept.grant && layer.decision === kept.decision && layer.status === kept.status
    && (layer.before === undefined) === (kept.before === undefined) && (layer.after === undefined) === (kept.after === undefined)
    && (layer.argumentsHash === undefined) === (kept.argumentsHash === undefined)
}

/** 8 bytes of µs and 4 of a duration, as `writeUInt32BE` three times would. */
function putTimes(b: Buffer, us: number, durationUs: number, at: number): void {
  const high = Math.floor(us / 0x1_0000_0000)
  const low = us >>> 0
  b[at] = high >>> 24
  b[at + 1] = high >>> 16
  b[at + 2] = high >>> 8
  b[at + 3] = high
  b[at + 4] = low >>> 24
  b[at + 5] = low >>> 16
  b[at + 6] = low >>> 8
  b[at + 7] = low
  b[at + 8] = durationUs >>> 24
  b[at + 9] = durationUs >>> 16
  b[at + 10] = durationUs >>> 8
  b[at + 11] = durationUs
}
