/**
 * What was hashed for a message, kept where the next one is likely to differ in id, times and salt alone: asking one address
 * over and over is what a mesh is for, and putting those few bytes in costs a fraction of writing them all. It owns a copy of
 * those bytes; it hashes nothing.
 *
 * Invariant: after `fill` the bytes are exactly what they would be when written afresh; `fits` says whether they can be.
 */
import type { Binding, Layer } from './layer.ts'
import { MESSAGE_ID_BYTES } from './message-id.ts'

/** Where things stand in the hashed bytes; see `layer.ts`. */
export interface SealedOffsets {
  readonly id: number
  readonly caller: number
  readonly callerEnd: number
  /** Where each layer begins. */
  readonly layers: readonly number[]
  /** Where the time stands in a layer, and behind it the duration. */
  readonly time: number
}

/** Longest bytes kept: a few layers and short headers. */
export const SEALED_BYTES = 1_024

export class Sealed {
  readonly bytes: Buffer
  /** Where the texts of its places were put down last: whoever keeps them may mark it. */
  noted: object | undefined = undefined
  readonly #at: SealedOffsets
  readonly #layers: readonly Layer[]
  readonly #binding: Binding
  #sid: string
  #sub: string

  /** Copies `bytes`, which were written from the layers and the binding. */
  constructor(bytes: Uint8Array, layers: readonly Layer[], binding: Binding, at: SealedOffsets) {
    this.bytes = Buffer.allocUnsafeSlow(bytes.length)
    this.bytes.set(bytes)
    this.#at = at
    this.#layers = [...layers]
    this.#binding = binding
    this.#sid = binding.sid
    this.#sub = binding.sub
  }

  /** Whether a message differs from the kept one in nothing but what `fill` puts in. */
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
    if (encoded.length !== this.#at.callerEnd - this.#at.caller) return false
    this.bytes.set(encoded, this.#at.caller)
    this.#sid = sid
    this.#sub = sub
    return true
  }

  /** Puts in what is this message's own. */
  fill(layers: readonly Layer[], id: Uint8Array): void {
    const { bytes } = this
    const at = this.#at
    for (let i = 0; i < MESSAGE_ID_BYTES; i++) bytes[at.id + i] = id[i] as number
    for (let i = 0; i < layers.length; i++) {
      const { startUs, durationUs, argumentsHash } = layers[i] as Layer
      const start = at.layers[i] as number
      putTimes(bytes, startUs, Math.min(durationUs, 0xffff_ffff), start + at.time)
      // The last field of a layer that has one.
      if (argumentsHash !== undefined) bytes.write(argumentsHash, (at.layers[i + 1] ?? bytes.length) - argumentsHash.length, 'latin1')
    }
  }
}

/** Equal but for times and salted hashes. What moved state never comes twice. */
function isAlike(layer: Layer, kept: Layer): boolean {
  return layer.site === kept.site && layer.grant === kept.grant && layer.decision === kept.decision && layer.status === kept.status
    && layer.before === kept.before && layer.after === undefined && kept.after === undefined && layer.gas === kept.gas
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
