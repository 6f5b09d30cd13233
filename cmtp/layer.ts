/**
 * Layers: what each hop did, in the order in which the hops finished, so the router's is last. Byte layouts are normative in `SPEC.md`,
 * section 8; `sealer.ts` makes the final hash of them.
 *
 *     place = SHA-256( 0x02 ‖ node ‖ address in ‖ [address out] ‖ grant )        a layer holds its place, the texts stand behind it
 *
 * What a layer says of addresses is a digest that is made once for each address, so that what is hashed for a request is short. A layer
 * names addresses without their arguments and a salted hash of those. Encoding is canonical: one layer, one byte string. In version 1 a
 * layer has a salt of its own, so that its hash tells nothing of it to who is shown that alone; version 0, without one, is what nodes
 * tell each other before the router seals.
 */
import { hash } from 'node:crypto'
import { CMeshError } from './errors.ts'
import type { Route } from './fqmn.ts'
import { HASH_BYTES, readUint64, writeUint64 } from './frame.ts'
import { LIMITS } from './limits.ts'
import { Reader } from './reader.ts'
import { Scratch } from './scratch.ts'
import type { Sealed } from './sealed.ts'
import { asBuffer, malformed } from './wire.ts'

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

export interface Place {
  readonly grant: string
  /** 32 bytes. */
  readonly digest: Buffer
  /** What the digest is of, as it stands behind a layer: node, addresses and grant. */
  readonly texts: Buffer
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
  /** Of the site and the grant last asked for: nearly always the same grant again. */
  place: Place | undefined
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

/** SHA-256 as 32 latin1 characters: the form that is cheapest to make and to put into a frame. */
export function sha256(bytes: Uint8Array): string {
  // 'binary' is node's alias of latin1; a Buffer as output costs three times as much.
  return hash('sha256', bytes, 'binary')
}

/** Longest arguments that are put together in memory kept for it. */
const SALTED_BYTES = 2_048
const salted = new Scratch(SALT_BYTES + SALTED_BYTES)

export function argumentsHash(salt: Uint8Array, args: Uint8Array): string {
  if (args.length > SALTED_BYTES || salt.length !== SALT_BYTES) return sha256(Buffer.concat([salt, args]))
  const { bytes } = salted
  for (let i = 0; i < SALT_BYTES; i++) bytes[i] = salt[i] as number
  bytes.set(args, SALT_BYTES)
  return sha256(salted.view(SALT_BYTES + args.length))
}

/** SHA-256 of no bytes. */
export const EMPTY_HASH = sha256(Buffer.alloc(0))

const MOST_PLAIN = BigInt(Number.MAX_SAFE_INTEGER)

const FIXED_BYTES = 58
export const POSITION_BYTES = 44
const HAS_BEFORE = 1
const HAS_AFTER = 2
const HAS_ARGUMENTS = 4
const HAS_TARGET = 8

/** Where the times stand in a layer, where its gas, where its salt, and where, in version 1, the position of state before the hop. */
export const TIME_AT = 6
export const GAS_AT = 18
export const SALT_AT = FIXED_BYTES
export const BEFORE_AT = FIXED_BYTES + SALT_BYTES
/** The longest layer, without its texts. */
export const LAYER_BYTES = FIXED_BYTES + SALT_BYTES + 2 * POSITION_BYTES + HASH_BYTES

/** One layer of version 0 as it stands in a layers block. */
export function encodeLayer(layer: Layer): Buffer {
  const bytes = Buffer.allocUnsafe(LAYER_BYTES)
  return Buffer.concat([bytes.subarray(0, putLayer(bytes, layer, 0, 0)), placeOf(layer.site, layer.grant).texts])
}

/*
 * layer: 0 version 1 · 1 hop 1 · 2 flags 1 · 3 decision 1 · 4 status 2 · 6 start µs 8 · 14 duration µs 4 · 18 gas 8
 *        · 26 place 32 · 58 [salt 16, in version 1] [before 44] [after 44] [arguments hash 32]
 * position: epoch 4 · sequence 8 · chain 32
 */
/** Writes a layer at `start`, but for the salt of one of version 1; gives where it ends. */
export function putLayer(b: Buffer, layer: Layer, version: 0 | 1, start: number): number {
  const { site, before, after, argumentsHash, gas } = layer
  b[start] = version
  b[start + 1] = HOP_CODES[site.hop]
  b[start + 2] = (before === undefined ? 0 : HAS_BEFORE) | (after === undefined ? 0 : HAS_AFTER)
    | (argumentsHash === undefined ? 0 : HAS_ARGUMENTS) | (site.target === undefined ? 0 : HAS_TARGET)
  b[start + 3] = DECISION_CODES[layer.decision]
  b[start + 4] = layer.status >> 8
  b[start + 5] = layer.status & 0xff
  writeUint64(b, layer.startUs, start + 6)
  b.writeUInt32BE(Math.min(layer.durationUs, 0xffff_ffff), start + 14)
  putGas(b, gas, start + GAS_AT)
  b.set(placeOf(site, layer.grant).digest, start + 26)
  let at = start + FIXED_BYTES + version * SALT_BYTES
  if (before !== undefined) at = writePosition(b, before, at)
  if (after !== undefined) at = writePosition(b, after, at)
  if (argumentsHash === undefined) return at
  putHash(b, argumentsHash, at)
  return at + HASH_BYTES
}

export function putGas(b: Buffer, gas: bigint, at: number): void {
  if (gas === 0n) writeUint64(b, 0, at)
  // A number is written several times as fast, and no call has used more than one holds.
  else if (gas <= MOST_PLAIN) writeUint64(b, Number(gas), at)
  else b.writeBigUInt64BE(gas, at)
}

export function placeOf(site: LayerSite, grant: string): Place {
  if (site.place?.grant !== grant) {
    const texts = placeTexts(site, grant)
    site.place = { grant, digest: Buffer.from(placeDigest(texts), 'latin1'), texts }
  }
  return site.place
}

/** The place that the texts of a layer are of, 32 latin1 characters. */
export function placeDigest(texts: Uint8Array): string {
  return sha256(Buffer.concat([PLACE_DOMAIN, texts]))
}

const PLACE_DOMAIN = Buffer.of(2)

/** What the place digest covers, as it stands behind the layer in a layers block: node text · fqmn text · [target text] · grant text. */
function placeTexts({ node, fqmn, target }: Pick<LayerSite, 'node' | 'fqmn' | 'target'>, grant: string): Buffer {
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
  readonly version: 0 | 1
  readonly hop: Hop
  readonly node: string
  readonly fqmn: string
  readonly target: string | undefined
  /** The digest of node, addresses and grant, 32 latin1 characters; checked against them. */
  readonly place: string
  /** The layer itself, without the texts behind it. */
  readonly bytes: Buffer
}

/** What a receipt begins with. */
const RECEIPT_MAGIC = 'CMRC'

/**
 * Total: any bytes give the salt and layers of a block, and the receipt behind them, which nodes among each other leave out; or
 * `CMESH_FRAME_MALFORMED` with its offset. The receipt is not looked at.
 */
export function decodeLayers(block: Uint8Array): { readonly salt: Buffer, readonly layers: readonly DecodedLayer[], readonly receipt: Buffer } {
  const reader = new Reader(asBuffer(block), 0, malformed)
  const salt = reader.take(SALT_BYTES, 'a salt')
  const count = reader.take(1, 'a count').readUInt8(0)
  if (count > LIMITS.layers) throw reader.fault(`at most ${LIMITS.layers} layers`)
  const layers: DecodedLayer[] = []
  for (let i = 0; i < count; i++) {
    const length = reader.take(4, 'a length of a layer').readUInt32BE(0)
    const base = reader.at
    layers.push(decodeLayer(reader.take(length, 'a layer'), base))
  }
  const receipt = asBuffer(block).subarray(reader.at)
  if (receipt.length > 0 && receipt.toString('latin1', 0, RECEIPT_MAGIC.length) !== RECEIPT_MAGIC) throw reader.fault('the end')
  return { salt, layers, receipt }
}

/** Total, like `decodeLayers`. `base` is the layer's offset in its block. */
export function decodeLayer(bytes: Buffer, base = 0): DecodedLayer {
  const reader = new Reader(bytes, base, malformed)
  const fixed = reader.take(FIXED_BYTES, `${FIXED_BYTES} bytes of a layer`)
  const version = fixed[0]
  if (version !== 0 && version !== 1) throw new CMeshError('CMESH_FRAME_VERSION', { version: version ?? 0, supported: 0 })
  const hop = HOPS[(fixed[1] ?? 0) - 1]
  const flags = fixed[2] ?? 0
  const decision = DECISIONS[fixed[3] ?? 0]
  if (hop === undefined || decision === undefined || flags > 15) throw malformed(base + 1, 'a known hop, flags and decision')
  const place = fixed.toString('latin1', 26, FIXED_BYTES)
  if (version === 1) reader.take(SALT_BYTES, 'a salt')
  const before = (flags & HAS_BEFORE) === 0 ? undefined : readPosition(reader)
  const after = (flags & HAS_AFTER) === 0 ? undefined : readPosition(reader)
  const argumentsHash = (flags & HAS_ARGUMENTS) === 0 ? undefined : reader.take(HASH_BYTES, 'a hash').toString('latin1')
  const textsAt = reader.at
  const node = reader.text()
  const fqmn = reader.text()
  const target = (flags & HAS_TARGET) === 0 ? undefined : reader.text()
  const grant = reader.end(reader.text())
  if (placeDigest(bytes.subarray(textsAt)) !== place) throw malformed(base + 26, 'the digest of the layer\'s own texts')
  return {
    version, hop, decision, place, before, after, argumentsHash, node, fqmn, target, grant,
    status: fixed.readUInt16BE(4),
    startUs: readUint64(fixed, 6),
    durationUs: fixed.readUInt32BE(14),
    gas: fixed.readBigUInt64BE(18),
    bytes: bytes.subarray(0, textsAt),
  }
}

/** Writes a position and gives where it ends. */
export function writePosition(target: Buffer, position: StatePosition, at: number): number {
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

/** A text behind the length of its UTF-8, a u16. */
export function text16(text: string): Buffer {
  const bytes = Buffer.from(text, 'utf8')
  return Buffer.concat([Buffer.of(bytes.length >> 8, bytes.length & 0xff), bytes])
}
