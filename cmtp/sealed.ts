/**
 * What was hashed for a message, kept where the next one is likely to differ in id, times, salts and the position of state alone: asking one address
 * over and over is what a mesh is for, and putting those few bytes in costs a fraction of writing them all. It owns a copy of
 * those bytes; it hashes nothing and makes no salts.
 *
 * Invariant: after `fill`, and once the salts are in, the bytes are exactly what they would be when written afresh; `fits` says whether
 * they can be. What stands in `final` of content and layers is the sealer's to write.
 */
import { HASH_BYTES } from './frame.ts'
import { BEFORE_AT, TIME_AT, writePosition, type Layer, type StatePosition } from './layer.ts'
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
  readonly #binding: Binding
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
    this.#binding = binding
    this.#sid = binding.sid
    this.#sub = binding.sub
  }

  /** Whether a message differs from the kept one in nothing but what `fill` puts in, the caller, and salts. */
  fits(layers: readonly Layer[], binding: Binding): boolean {
    const kept = this.#binding
    if (
      binding.status !== kept.status || binding.replyHeaders !== kept.replyHeaders || binding.requestBodyHash !== kept.requestBodyHash
      || binding.replyBodyHash !== kept.replyBodyHash || layers.length !== this.#layers.length
    ) return false
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
  fill(layers: readonly Layer[], id: Uint8Array): void {
    const { final } = this
    for (let i = 0; i < MESSAGE_ID_BYTES; i++) final[ID_AT + i] = id[i] as number
    for (let i = 0; i < layers.length; i++) {
      const { startUs, durationUs, before, argumentsHash } = layers[i] as Layer
      const bytes = this.layers[i] as Buffer
      // The same object as long as nothing is ordered.
      if (before !== undefined && before !== this.#befores[i]) {
        writePosition(bytes, before, 1 + BEFORE_AT)
        this.#befores[i] = before
      }
      putTimes(bytes, startUs, Math.min(durationUs, 0xffff_ffff), 1 + TIME_AT)
      // The last field of a layer that has one.
      if (argumentsHash !== undefined) bytes.write(argumentsHash, bytes.length - argumentsHash.length, 'latin1')
    }
  }
}

function copy(bytes: Uint8Array): Buffer {
  const own = Buffer.allocUnsafeSlow(bytes.length)
  own.set(bytes)
  return own
}
/** Equal but for times, the position before the hop, and salted hashes. What moved state never comes twice. */
function isAlike(layer: Layer, kept: Layer): boolean {
  return layer.site === kept.site && layer.grant === kept.grant && layer.decision === kept.decision && layer.status === kept.status
    && (layer.before === undefined) === (kept.before === undefined) && layer.after === undefined && kept.after === undefined && layer.gas === kept.gas
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
