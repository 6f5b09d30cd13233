/**
 * Layers and the final hash: what each hop did, in the order in which the hops finished, so the router's is last, bound to the
 * message in one pass. Byte layouts are normative in `SPEC.md`.
 *
 *     place(i) = SHA-256( 0x02 ‖ node ‖ address in ‖ [address out] ‖ grant )
 *     final    = SHA-256( 0x01 ‖ binding ‖ count ‖ layer(1) ‖ … ‖ layer(n) )        layer(i) holds place(i)
 *
 * One hash covers all layers in order; a chain of hashes would prove no more and cost one for each hop. What a layer says of
 * addresses is a digest that is made once for each address, so that what is hashed for a request is short. A layer names
 * addresses without their arguments and a salted hash of those. Encoding is canonical: one layer, one byte string.
 * `LayerSealer` owns scratch memory and is for one thread and one message at a time.
 */
import { hash } from 'node:crypto'
import { CMeshError } from './errors.ts'
import type { Route } from './fqmn.ts'
import { HASH_BYTES, readUint64, writeUint64 } from './frame.ts'
import { LIMITS } from './limits.ts'
import { putEntryId } from './message-id.ts'
import { Sealed, SEALED_BYTES } from './sealed.ts'
import { TwoGenerations } from './two-generations.ts'
import { asBuffer } from './wire.ts'

/** Positions are wire format: only append. */
const HOPS = ['router', 'registrar', 'state', 'contract', 'consensus', 'events', 'iam', 'peer'] as const
export type Hop = (typeof HOPS)[number]

const DECISIONS = ['none', 'allowed', 'denied'] as const
export type Decision = (typeof DECISIONS)[number]

const HOP_CODES = Object.fromEntries(HOPS.map((hop, i) => [hop, i + 1])) as Record<Hop, number>
const DECISION_CODES = Object.fromEntries(DECISIONS.map((decision, i) => [decision, i])) as Record<Decision, number>

/** Where state stood: epoch, sequence of the last applied block, and its chain value (32 bytes). */
export interface StatePosition {
  readonly epoch: number
  readonly seq: number
  readonly chain: Uint8Array
}

/** Where a layer was added: the part of it that is the same for every request of one address at one hop. */
export interface LayerSite {
  readonly hop: Hop
  /** The node's DID. */
  readonly node: string
  /** Address in, without arguments. */
  readonly fqmn: string
  /** Address out, where the hop changed it. */
  readonly target: string | undefined
  /** The digest of the site and the grant last asked for, 32 bytes: nearly always the same grant again. */
  place: { readonly grant: string, readonly digest: Buffer } | undefined
  /** What was hashed for the last message whose last layer this is; kept from the second such message on. The sealer's own. */
  sealed: Sealed | 'asked once' | undefined
}

export interface Layer {
  readonly site: LayerSite
  readonly decision: Decision
  /** The grant that allowed, as its pattern; empty when none was asked for. */
  readonly grant: string
  readonly status: number
  /** µs since 1970. */
  readonly startUs: number
  /** µs, at most 2^32 − 1. */
  readonly durationUs: number
  readonly gas: bigint
  readonly before: StatePosition | undefined
  /** Only where the hop moved state. */
  readonly after: StatePosition | undefined
  /** SHA-256(salt ‖ arguments), 32 latin1 characters; `undefined` without arguments. */
  readonly argumentsHash: string | undefined
}

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
}

export const SALT_BYTES = 16

export function layerSite(hop: Hop, node: string, fqmn: string, target?: string): LayerSite {
  return { hop, node, fqmn, target, place: undefined, sealed: undefined }
}

/** The site of a hop at an address; `target` is the address out, where the hop changed it. Kept with the route. */
export function siteAt(route: Pick<Route, 'bare' | 'sites'>, hop: Hop, node: string, target?: string): LayerSite {
  const at = HOP_CODES[hop]
  const known = route.sites[at]
  if (known !== undefined && known.target === target && known.node === node) return known
  return route.sites[at] = layerSite(hop, node, route.bare, target)
}

/** Session and caller as they stand in the binding. */
export function callerBytes(sid: string, sub: string): Buffer {
  return Buffer.concat([text16(sid), text16(sub)])
}

/** SHA-256 as 32 latin1 characters: the form that is cheapest to make and to put into a frame. */
export function sha256(bytes: Uint8Array): string {
  // 'binary' is node's alias of latin1; a Buffer as output costs three times as much.
  return hash('sha256', bytes, 'binary')
}

export function argumentsHash(salt: Uint8Array, args: Uint8Array): string {
  const salted = Buffer.allocUnsafe(salt.length + args.length)
  salted.set(salt)
  salted.set(args, salt.length)
  return sha256(salted)
}

/** SHA-256 of no bytes. */
export const EMPTY_HASH = sha256(Buffer.alloc(0))
const EMPTY_HASH_BYTES = Buffer.from(EMPTY_HASH, 'latin1')

const MOST_PLAIN = BigInt(Number.MAX_SAFE_INTEGER)

/** In a layer; see below. */
const FIXED_BYTES = 58
const TIME_AT = 6
/** In the binding; see below. */
const ID_AT = 2
const HEADERS_AT = 86
const POSITION_BYTES = 44
const HAS_BEFORE = 1
const HAS_AFTER = 2
const HAS_ARGUMENTS = 4
const HAS_TARGET = 8

/*
 * layer: 0 version 1 · 1 hop 1 · 2 flags 1 · 3 decision 1 · 4 status 2 · 6 start µs 8 · 14 duration µs 4 · 18 gas 8
 *        · 26 place 32 · 58 [before 44] [after 44] [arguments hash 32]
 * position: epoch 4 · sequence 8 · chain 32
 */
export class LayerSealer {
  /** What was hashed last, binding and layers: a view that the next call writes over. */
  sealed: Buffer = Buffer.alloc(0)
  /** What is kept of messages like that one; `undefined` where nothing is. */
  template: Sealed | undefined = undefined
  readonly #scratch = Buffer.allocUnsafeSlow(LIMITS.headerBytes + 16_384)
  /** Views of the scratch memory by length: a fresh view costs more than a small hash. */
  readonly #views: (Buffer | undefined)[] = []
  readonly #callers = new TwoGenerations<string, { readonly sub: string, readonly encoded: Buffer }>({ entries: 4_096 })

  /** The final hash as 32 latin1 characters. `encoded`, when given, receives each layer as it stands in a layers block. */
  seal(layers: readonly Layer[], binding: Binding, encoded?: Buffer[]): string {
    if (layers.length === 0 || layers.length > LIMITS.layers) throw new RangeError(`a message has 1 to ${LIMITS.layers} layers`)
    const { site } = layers[layers.length - 1] as Layer
    const { sealed } = site
    if (encoded === undefined && sealed instanceof Sealed && this.#fill(sealed, layers, binding)) {
      this.sealed = sealed.bytes
      this.template = sealed
      return hash('sha256', sealed.bytes, 'binary')
    }
    const bound = this.#bind(binding)
    const starts: number[] = []
    const bytes = this.sealed = this.#view(this.#lay(layers, bound, starts, encoded))
    this.template = undefined
    // Kept from the second message on, since most addresses of a flood are asked once, and not when what was kept did not fit, as it
    // never does where state was moved.
    if (sealed !== 'asked once' || bytes.length > SEALED_BYTES || layers[0]?.after !== undefined) site.sealed = 'asked once'
    else {
      const caller = HEADERS_AT + binding.replyHeaders.length
      site.sealed = new Sealed(bytes, layers, binding, { id: ID_AT, caller, callerEnd: bound, layers: starts, time: TIME_AT })
    }
    return hash('sha256', bytes, 'binary')
  }

  /** What `seal` hashes, for `sealAs` to hash it under other ids. */
  preimage(layers: readonly Layer[], binding: Binding): Buffer {
    return Buffer.from(this.#scratch.subarray(0, this.#lay(layers, this.#bind(binding), [], undefined)))
  }

  /** The final hash of the message in `preimage` as entry `index` of the batch with id `batch`. */
  sealAs(preimage: Buffer, batch: Uint8Array, index: number): string {
    putEntryId(preimage, batch, index, ID_AT)
    return hash('sha256', preimage, 'binary')
  }

  /** Writes the layers behind the binding, which ends at `bound`; gives where they end. */
  #lay(layers: readonly Layer[], bound: number, starts: number[], encoded: Buffer[] | undefined): number {
    const scratch = this.#scratch
    let at = bound
    scratch[at++] = layers.length
    for (const layer of layers) {
      const end = encodeHead(scratch, layer, at)
      encoded?.push(Buffer.concat([scratch.subarray(at, end), placeTexts(layer.site, layer.grant)]))
      starts.push(at)
      at = end
    }
    return at
  }

  /** Whether the bytes kept are those of this message, once what is its own was put in. */
  #fill(sealed: Sealed, layers: readonly Layer[], binding: Binding): boolean {
    if (!sealed.fits(layers, binding)) return false
    const { id, sid, sub } = binding
    if (!sealed.isOf(sid, sub) && !sealed.setCaller(sid, sub, this.#caller(binding))) return false
    sealed.fill(layers, id)
    return true
  }

  /** One layer as it stands in a layers block. */
  encode(layer: Layer): Buffer {
    return Buffer.concat([this.#scratch.subarray(0, encodeHead(this.#scratch, layer, 0)), placeTexts(layer.site, layer.grant)])
  }

  /*
   * binding: 0 0x01 · 1 version 1 · 2 id 16 · 18 status 2 · 20 request body hash 32 · 52 reply body hash 32
   *          · 84 header length 2 · headers · sid text · sub text
   */
  #bind(binding: Binding): number {
    const scratch = this.#scratch
    const headers = binding.replyHeaders
    scratch[0] = 1
    scratch[1] = 0
    scratch.set(binding.id, 2)
    scratch[18] = binding.status >> 8
    scratch[19] = binding.status & 0xff
    if (binding.requestBodyHash === EMPTY_HASH) scratch.set(EMPTY_HASH_BYTES, 20)
    else putHash(scratch, binding.requestBodyHash, 20)
    putHash(scratch, binding.replyBodyHash, 52)
    scratch[84] = headers.length >> 8
    scratch[85] = headers.length & 0xff
    scratch.set(headers, 86)
    const caller = this.#caller(binding)
    scratch.set(caller, 86 + headers.length)
    return 86 + headers.length + caller.length
  }

  #caller({ caller, sid, sub }: Binding): Buffer {
    if (caller !== undefined) return caller
    const known = this.#callers.get(sid)
    if (known?.sub === sub) return known.encoded
    const encoded = callerBytes(sid, sub)
    this.#callers.set(sid, { sub, encoded })
    return encoded
  }

  #view(length: number): Buffer {
    if (length >= 4096) return this.#scratch.subarray(0, length)
    return (this.#views[length] ??= this.#scratch.subarray(0, length))
  }
}

function encodeHead(b: Buffer, layer: Layer, start: number): number {
  const { site, before, after, argumentsHash, gas } = layer
  b[start] = 0
  b[start + 1] = HOP_CODES[site.hop]
  b[start + 2] = (before === undefined ? 0 : HAS_BEFORE) | (after === undefined ? 0 : HAS_AFTER)
    | (argumentsHash === undefined ? 0 : HAS_ARGUMENTS) | (site.target === undefined ? 0 : HAS_TARGET)
  b[start + 3] = DECISION_CODES[layer.decision]
  b[start + 4] = layer.status >> 8
  b[start + 5] = layer.status & 0xff
  writeUint64(b, layer.startUs, start + 6)
  b.writeUInt32BE(Math.min(layer.durationUs, 0xffff_ffff), start + 14)
  if (gas === 0n) writeUint64(b, 0, start + 18)
  // A number is written several times as fast, and no call has used more than one holds.
  else if (gas <= MOST_PLAIN) writeUint64(b, Number(gas), start + 18)
  else b.writeBigUInt64BE(gas, start + 18)
  b.set(placeOf(site, layer.grant), start + 26)
  let at = start + FIXED_BYTES
  if (before !== undefined) at = writePosition(b, before, at)
  if (after !== undefined) at = writePosition(b, after, at)
  if (argumentsHash === undefined) return at
  putHash(b, argumentsHash, at)
  return at + HASH_BYTES
}

/** The digest of a layer's site and grant, 32 bytes. */
export function placeOf(site: LayerSite, grant: string): Buffer {
  if (site.place?.grant !== grant) {
    site.place = { grant, digest: Buffer.from(sha256(Buffer.concat([PLACE_DOMAIN, placeTexts(site, grant)])), 'latin1') }
  }
  return site.place.digest
}

const PLACE_DOMAIN = Buffer.of(2)

/** What the place digest covers, as it stands behind the layer in a layers block: node text · fqmn text · [target text] · grant text. */
export function placeTexts({ node, fqmn, target }: Pick<LayerSite, 'node' | 'fqmn' | 'target'>, grant: string): Buffer {
  return Buffer.concat([text16(node), text16(fqmn), ...(target === undefined ? [] : [text16(target)]), text16(grant)])
}

/*
 * layers block of a reply: salt 16 · count 1 · ( length 4 · layer · texts of its place )*
 */
export function encodeLayers(salt: Uint8Array, layers: readonly Uint8Array[]): Buffer {
  const parts: Uint8Array[] = [salt, Buffer.of(layers.length)]
  for (const layer of layers) {
    const length = Buffer.allocUnsafe(4)
    length.writeUInt32BE(layer.length)
    parts.push(length, layer)
  }
  return Buffer.concat(parts)
}

export interface DecodedLayer extends Omit<Layer, 'site'> {
  readonly hop: Hop
  readonly node: string
  readonly fqmn: string
  readonly target: string | undefined
  /** The digest of node, addresses and grant, 32 latin1 characters; checked against them. */
  readonly place: string
  /** The layer as the final hash covers it, without the texts behind it. */
  readonly bytes: Buffer
}

/** Total: any bytes give the salt and layers of a block, or `CMESH_FRAME_MALFORMED` with its offset. */
export function decodeLayers(block: Uint8Array): { readonly salt: Buffer, readonly layers: readonly DecodedLayer[] } {
  const reader = new Reader(asBuffer(block), 0)
  const salt = reader.take(SALT_BYTES, 'a salt')
  const count = reader.take(1, 'a count').readUInt8(0)
  if (count > LIMITS.layers) throw reader.fault(`at most ${LIMITS.layers} layers`)
  const layers: DecodedLayer[] = []
  for (let i = 0; i < count; i++) {
    const length = reader.take(4, 'a length of a layer').readUInt32BE(0)
    const base = reader.at
    layers.push(decodeLayer(reader.take(length, 'a layer'), base))
  }
  reader.end()
  return { salt, layers }
}

/** Total, like `decodeLayers`. `base` is the layer's offset in its block. */
export function decodeLayer(bytes: Buffer, base = 0): DecodedLayer {
  const reader = new Reader(bytes, base)
  const fixed = reader.take(FIXED_BYTES, `${FIXED_BYTES} bytes of a layer`)
  if (fixed[0] !== 0) throw new CMeshError('CMESH_FRAME_VERSION', { version: fixed[0] ?? 0, supported: 0 })
  const hop = HOPS[(fixed[1] ?? 0) - 1]
  const flags = fixed[2] ?? 0
  const decision = DECISIONS[fixed[3] ?? 0]
  if (hop === undefined || decision === undefined || flags > 15) throw new CMeshError('CMESH_FRAME_MALFORMED', { offset: base + 1, expected: 'a known hop, flags and decision' })
  const place = fixed.toString('latin1', 26, FIXED_BYTES)
  const before = (flags & HAS_BEFORE) === 0 ? undefined : readPosition(reader)
  const after = (flags & HAS_AFTER) === 0 ? undefined : readPosition(reader)
  const argumentsHash = (flags & HAS_ARGUMENTS) === 0 ? undefined : reader.take(HASH_BYTES, 'a hash').toString('latin1')
  const textsAt = reader.at
  const node = reader.text()
  const fqmn = reader.text()
  const target = (flags & HAS_TARGET) === 0 ? undefined : reader.text()
  const grant = reader.end(reader.text())
  if (sha256(Buffer.concat([PLACE_DOMAIN, bytes.subarray(textsAt)])) !== place) {
    throw new CMeshError('CMESH_FRAME_MALFORMED', { offset: base + 26, expected: 'the digest of the layer\'s own texts' })
  }
  return {
    hop, decision, place, before, after, argumentsHash, node, fqmn, target, grant,
    status: fixed.readUInt16BE(4),
    startUs: readUint64(fixed, 6),
    durationUs: fixed.readUInt32BE(14),
    gas: fixed.readBigUInt64BE(18),
    bytes: bytes.subarray(0, textsAt),
  }
}

function writePosition(target: Buffer, position: StatePosition, at: number): number {
  target.writeUInt32BE(position.epoch, at)
  writeUint64(target, position.seq, at + 4)
  target.set(position.chain, at + 12)
  return at + POSITION_BYTES
}

function readPosition(reader: Reader): StatePosition {
  const bytes = reader.take(POSITION_BYTES, 'a state position')
  return { epoch: bytes.readUInt32BE(0), seq: readUint64(bytes, 4), chain: bytes.subarray(12) }
}

/** Writes a hash kept as 32 latin1 characters. */
export function putHash(target: Uint8Array, hash: string, at: number): void {
  for (let i = 0; i < HASH_BYTES; i++) target[at + i] = hash.charCodeAt(i)
}

function text16(text: string): Buffer {
  const bytes = Buffer.from(text, 'utf8')
  return Buffer.concat([Buffer.of(bytes.length >> 8, bytes.length & 0xff), bytes])
}

const UTF8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true })

class Reader {
  readonly #bytes: Buffer
  readonly #base: number
  at: number

  constructor(bytes: Buffer, base: number) {
    this.#bytes = bytes
    this.#base = base
    this.at = 0
  }

  take(length: number, expected: string): Buffer {
    if (this.at + length > this.#bytes.length) throw this.fault(expected)
    this.at += length
    return this.#bytes.subarray(this.at - length, this.at)
  }

  text(): string {
    const length = this.take(2, 'a length of a text').readUInt16BE(0)
    const start = this.at
    const bytes = this.take(length, 'a text')
    try {
      return UTF8.decode(bytes)
    } catch (cause) {
      throw new CMeshError('CMESH_FRAME_MALFORMED', { offset: this.#base + start, expected: 'UTF-8' }, { cause })
    }
  }

  /** Checks that nothing follows; hands `value` through. */
  end<T>(value?: T): T {
    if (this.at !== this.#bytes.length) throw this.fault('the end')
    return value as T
  }

  fault(expected: string): CMeshError {
    return new CMeshError('CMESH_FRAME_MALFORMED', { offset: this.#base + this.at, expected })
  }
}
