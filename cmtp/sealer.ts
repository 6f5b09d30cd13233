/**
 * The final hash: layers, bound to the message, in version 1. Byte layouts are normative in `SPEC.md`, section 9.
 *
 *     content  = SHA-256( 0x03 ‖ salt ‖ SHA-256(request body) ‖ SHA-256(reply body) ‖ reply headers )
 *     layer(i) = SHA-256( 0x04 ‖ layer i )
 *     final    = SHA-256( 0x01 ‖ version, id, status, content, caller ‖ count ‖ layer(1) ‖ … ‖ layer(n) )
 *
 * Bodies and headers stand in it as one salted hash, since a short body could be guessed from its own; each layer as its hash, so that
 * one can be kept back and the rest still be checked. `LayerSealer` owns scratch memory and is for one thread and one message at a time.
 */
import { hash } from 'node:crypto'
import { HASH_BYTES } from './frame.ts'
import { EMPTY_HASH, LAYER_BYTES, placeOf, putHash, putLayer, SALT_AT, SALT_BYTES, text16, type Layer } from './layer.ts'
import { LIMITS } from './limits.ts'
import { Salts } from './salts.ts'
import { Scratch } from './scratch.ts'
import { CALLER_AT, HEADERS_AT, ID_AT, REPLY_HASH_AT, REQUEST_HASH_AT, Sealed, SEALED_BYTES, type Preimages } from './sealed.ts'
import { TwoGenerations } from './two-generations.ts'

/** What the final hash binds besides the layers. */
export interface Binding {
  readonly id: Uint8Array
  readonly status: number
  /** Session and caller; empty without a session. */
  readonly sid: string
  readonly sub: string
  /** `callerBytes` of the two, where somebody keeps them. */
  readonly caller?: Buffer | undefined
  /** 32 latin1 characters each. */
  readonly requestBodyHash: string
  readonly replyBodyHash: string
  /** The encoded header block of the reply. */
  readonly replyHeaders: Uint8Array
  /** Of bodies and headers, 16 bytes; one that nobody knows yet unless it is given. */
  readonly salt?: Uint8Array | undefined
}

const CONTENT_PREFIX = 0x03
const LAYER_PREFIX = 0x04
const FINAL_PREFIX = 0x01
const FINAL_VERSION = 1

/** In the content. */
const CONTENT_SALT_AT = 1
/** In the final hash. */
const VERSION_AT = 1
const STATUS_AT = 18
const CONTENT_AT = 20

/** Room for session and caller. */
const CALLER_BYTES = 16_384

const EMPTY_HASH_BYTES = Buffer.from(EMPTY_HASH, 'latin1')

/** Session and caller as they stand in the binding. */
export function callerBytes(sid: string, sub: string): Buffer {
  return Buffer.concat([text16(sid), text16(sub)])
}

export class LayerSealer {
  readonly #salts: Pick<Salts, 'put'>
  readonly #content = new Scratch(HEADERS_AT + LIMITS.headerBytes, CONTENT_PREFIX)
  readonly #layers: Scratch[] = []
  readonly #final = new Scratch(CALLER_AT + CALLER_BYTES + LIMITS.layers * HASH_BYTES, FINAL_PREFIX)
  readonly #callers = new TwoGenerations<string, { readonly sub: string, readonly encoded: Buffer }>({ entries: 4_096 })
  #last: Preimages | undefined

  constructor(salts: Pick<Salts, 'put'> = new Salts()) {
    this.#salts = salts
    this.#final.bytes[VERSION_AT] = FINAL_VERSION
  }

  /** The final hash as 32 latin1 characters. `encoded`, when given, receives each layer as it stands in a layers block. */
  seal(layers: readonly Layer[], binding: Binding, encoded?: Buffer[]): string {
    const { final } = this.#prepare(layers, binding, encoded)
    return hash('sha256', final, 'binary')
  }

  /** What the final hash that was made last is of, for `Repeated` to make it under other ids. The caller's to keep. */
  kept(): Buffer {
    return Buffer.from(this.last.final)
  }

  /** What the message that was sealed last was filled into: the same object for messages that differ in what `Sealed` puts in alone. */
  get template(): Sealed | undefined {
    return this.#last instanceof Sealed ? this.#last : undefined
  }

  /** All that was hashed for the message that was sealed last: good until the next one is. */
  get last(): Preimages {
    if (this.#last === undefined) throw new RangeError('nothing was sealed yet')
    return this.#last
  }

  /** Length of the record of the message that was sealed last. */
  get recordBytes(): number {
    const { layers, final } = this.last
    let size = SALT_BYTES + final.length - layers.length * HASH_BYTES - VERSION_AT
    for (const layer of layers) size += layer.length
    return size
  }

  /*
   * record: salt 16 · version 1 · id 16 · status 2 · content 32 · sid text · sub text · count 1 · ( length 1 · layer )*
   */
  /** Writes what a receipt holds of the message that was sealed last, but for the texts of its layers; gives where it ends. */
  recordTo(target: Uint8Array, start: number): number {
    const { content, layers, final } = this.last
    // Whole, for a copy of a part makes a view first: the salt goes over its first byte, the layers go over their hashes at its end.
    const from = start + SALT_BYTES - VERSION_AT
    target.set(final, from)
    for (let i = 0; i < SALT_BYTES; i++) target[start + i] = content[CONTENT_SALT_AT + i] as number
    let at = from + final.length - layers.length * HASH_BYTES
    for (const layer of layers) {
      // Its length stands where its prefix does in what is hashed.
      target.set(layer, at)
      target[at] = layer.length - 1
      at += layer.length
    }
    return at
  }

  /** The record as bytes of their own. */
  record(): Buffer {
    const record = Buffer.allocUnsafe(this.recordBytes)
    this.recordTo(record, 0)
    return record
  }

  /** All that is hashed for the message, hashes of content and layers in their place. */
  #prepare(layers: readonly Layer[], binding: Binding, encoded: Buffer[] | undefined): Preimages {
    if (layers.length === 0 || layers.length > LIMITS.layers) throw new RangeError(`a message has 1 to ${LIMITS.layers} layers`)
    const { site } = layers[layers.length - 1] as Layer
    const { sealed } = site
    const kept = sealed instanceof Sealed && this.#fill(sealed, layers, binding)
    const parts = kept ? sealed : this.#lay(layers, binding)
    const { content, final } = parts
    putHash(final, hash('sha256', content, 'binary'), CONTENT_AT)
    let at = final.length - layers.length * HASH_BYTES
    for (const layer of parts.layers) {
      putHash(final, hash('sha256', layer, 'binary'), at)
      at += HASH_BYTES
    }
    this.#last = parts
    if (encoded !== undefined) {
      for (let i = 0; i < layers.length; i++) {
        const { site: where, grant } = layers[i] as Layer
        encoded.push(Buffer.concat([(parts.layers[i] as Buffer).subarray(1), placeOf(where, grant).texts]))
      }
    }
    // Kept from the second message on, since most addresses of a flood are asked once, and not when what was kept did not fit.
    if (!kept) {
      const fresh = sealed === 'asked once' && content.length <= SEALED_BYTES
      site.sealed = fresh ? new Sealed(parts, layers, binding) : 'asked once'
    }
    return parts
  }

  /** Whether the bytes kept are those of this message, once what is its own was put in. */
  #fill(sealed: Sealed, layers: readonly Layer[], binding: Binding): boolean {
    if (!sealed.fits(layers, binding)) return false
    const { sid, sub, salt } = binding
    if (!sealed.isOf(sid, sub) && !sealed.setCaller(sid, sub, this.#caller(binding))) return false
    sealed.fill(layers, binding)
    this.#salt(sealed.content, salt)
    for (const layer of sealed.layers) this.#salts.put(layer, 1 + SALT_AT)
    return true
  }

  #lay(layers: readonly Layer[], binding: Binding): Preimages {
    const content = this.#layContent(binding)
    const encoded = layers.map((layer, i) => {
      const scratch = (this.#layers[i] ??= new Scratch(1 + LAYER_BYTES, LAYER_PREFIX))
      const view = scratch.view(putLayer(scratch.bytes, layer, 1, 1))
      this.#salts.put(view, 1 + SALT_AT)
      return view
    })
    const final = this.#final.bytes
    const caller = this.#caller(binding)
    final.set(binding.id, ID_AT)
    final[STATUS_AT] = binding.status >> 8
    final[STATUS_AT + 1] = binding.status & 0xff
    final.set(caller, CALLER_AT)
    const end = CALLER_AT + caller.length
    final[end] = layers.length
    return { content, layers: encoded, final: this.#final.view(end + 1 + layers.length * HASH_BYTES) }
  }

  #layContent({ requestBodyHash, replyBodyHash, replyHeaders, salt }: Binding): Buffer {
    const { bytes } = this.#content
    this.#salt(bytes, salt)
    if (requestBodyHash === EMPTY_HASH) bytes.set(EMPTY_HASH_BYTES, REQUEST_HASH_AT)
    else putHash(bytes, requestBodyHash, REQUEST_HASH_AT)
    putHash(bytes, replyBodyHash, REPLY_HASH_AT)
    bytes.set(replyHeaders, HEADERS_AT)
    return this.#content.view(HEADERS_AT + replyHeaders.length)
  }

  #salt(content: Buffer, salt: Uint8Array | undefined): void {
    if (salt === undefined) this.#salts.put(content, CONTENT_SALT_AT)
    else for (let i = 0; i < SALT_BYTES; i++) content[CONTENT_SALT_AT + i] = salt[i] as number
  }

  #caller({ caller, sid, sub }: Binding): Buffer {
    if (caller !== undefined) return caller
    const known = this.#callers.get(sid)
    if (known?.sub === sub) return known.encoded
    const encoded = callerBytes(sid, sub)
    this.#callers.set(sid, { sub, encoded })
    return encoded
  }
}
