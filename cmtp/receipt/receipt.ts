/**
 * A receipt: what a message was bound to, what each hop did, and how its final hash leads to a root that a node of the mesh has signed.
 * Layouts are normative in `SPEC.md`, section 15. Encode stands beside decode; whether a receipt holds is `verify.ts`. One receipt has one
 * byte string. Decoding looks at form alone, so that what is wrong inside is named when it is verified; what it gives are views.
 */
import { HASH_BYTES } from '../frame.ts'
import { SALT_BYTES, text16 } from '../layer.ts'
import { LIMITS } from '../limits.ts'
import { MESSAGE_ID_BYTES } from '../message-id.ts'
import { Reader } from '../reader.ts'
import { asBuffer } from '../wire.ts'
import { decodeBareCertificate, encodeBareCertificate, type BareCertificate } from './bare-certificate.ts'
import { decodeEvidence, encodeEvidence, type LinkEvidence } from './evidence.ts'
import { MOST_PATH } from './merkle.ts'
import { decodeOutcomeEvidence, encodeOutcomeEvidence, type OutcomeEvidence } from './outcome-evidence.ts'
import { malformedReceipt } from './refusal.ts'
import { ROOT_RECORD_BYTES, decodeRootRecord, type AuditRoot } from './root.ts'

/** Of a write: what members of the mesh say of it. */
export type Evidence = LinkEvidence | OutcomeEvidence

/** One layer of a receipt. */
export interface ReceiptLayer {
  /** What the final hash holds of it, 32 bytes. */
  readonly hash: Uint8Array
  /** The layer and the texts of its place; `undefined` where it is kept back. */
  readonly shown: { readonly layer: Uint8Array, readonly texts: Uint8Array } | undefined
}

export interface Receipt {
  /** Of the final hash. */
  readonly version: 1
  readonly id: Uint8Array
  readonly status: number
  /** The salted hash of bodies and headers, 32 bytes. */
  readonly content: Uint8Array
  readonly sid: string
  readonly sub: string
  readonly layers: readonly ReceiptLayer[]
  readonly final: Uint8Array
  /** Of the leaf in its batch. */
  readonly index: number
  readonly path: readonly Uint8Array[]
  /** The root record, 253 bytes. */
  readonly root: Uint8Array
  /** Of the node; none where its key is the mesh's. */
  readonly certificate: BareCertificate | undefined
  readonly evidence: Evidence | undefined
}

export interface DecodedReceipt extends Receipt {
  readonly record: AuditRoot
}

const MAGIC = Buffer.from('CMRC', 'latin1')
const RECEIPT_VERSION = 1
const HAS_CERTIFICATE = 1
const HAS_LINKS = 2
const HAS_OUTCOME = 4
/** In a layer: its flags, and which of them says that a position after stands in it. */
const FLAGS_AT = 2
const HAS_AFTER = 2
/** Longest receipt that is looked at, in bytes. */
export const RECEIPT_BYTES = 1_048_576

/*
 * receipt: 0 magic 4 · 4 version 1 · 5 flags 1 · 6 version of the final hash 1 · id 16 · status 2 · content 32 · sid text · sub text
 *          · count 1 · layers · final 32 · index 4 · path length 1 · path · root record 253 · [certificate 72] · [evidence]
 * layer:   hash 32 · length 1, 0 where it is kept back · [layer · length 2 · texts]
 */
export function encodeReceipt(receipt: Receipt): Buffer {
  const { layers, path, certificate, evidence } = receipt
  const numbers = Buffer.alloc(5)
  numbers.writeUInt32BE(receipt.index)
  numbers[4] = path.length
  return Buffer.concat([
    MAGIC, Buffer.of(RECEIPT_VERSION, flagsOf(receipt)),
    boundBytes(receipt), ...layers.map(encodeReceiptLayer), receipt.final, numbers, ...path, receipt.root,
    ...(certificate === undefined ? [] : [encodeBareCertificate(certificate)]),
    ...(evidence === undefined ? [] : [evidenceBytes(evidence)]),
  ])
}

/** What else the receipt has. */
export function flagsOf({ certificate, evidence }: Pick<Receipt, 'certificate' | 'evidence'>): number {
  return (certificate === undefined ? 0 : HAS_CERTIFICATE) | (evidence === undefined ? 0 : evidence.version === 1 ? HAS_LINKS : HAS_OUTCOME)
}

export function evidenceBytes(evidence: Evidence): Buffer {
  return evidence.version === 1 ? encodeEvidence(evidence) : encodeOutcomeEvidence(evidence)
}

/** The binding and the number of layers, as they stand in a receipt and in what the final hash is of. */
export function boundBytes({ version, id, status, content, sid, sub, layers }: Receipt): Buffer {
  return Buffer.concat([Buffer.of(version), id, Buffer.of(status >> 8, status & 0xff), content, text16(sid), text16(sub), Buffer.of(layers.length)])
}

function encodeReceiptLayer({ hash, shown }: ReceiptLayer): Buffer {
  if (shown === undefined) return Buffer.concat([hash, Buffer.of(0)])
  const { layer, texts } = shown
  if (texts.length > 0xffff || layer.length === 0 || layer.length > 0xff) throw new RangeError('a layer has 1 to 255 bytes, and its texts 65,535 at most')
  return Buffer.concat([hash, Buffer.of(layer.length), layer, Buffer.of(texts.length >> 8, texts.length & 0xff), texts])
}

/** The receipt in the bytes. Throws `CMESH_RECEIPT_FORMAT` with the offset for anything else. Total. */
export function decodeReceipt(data: Uint8Array): DecodedReceipt {
  const reader = new Reader(asBuffer(data), 0, malformedReceipt)
  if (!reader.take(MAGIC.length, '"CMRC"').equals(MAGIC)) throw reader.fault('"CMRC"', MAGIC.length)
  if (data.length > RECEIPT_BYTES) throw malformedReceipt(RECEIPT_BYTES, 'the end')
  if (reader.byte('a version') !== RECEIPT_VERSION) throw reader.fault(`version ${RECEIPT_VERSION} of a receipt`, 1)
  const flags = reader.byte('flags')
  if (flags >= (HAS_LINKS | HAS_OUTCOME)) throw reader.fault('known flags', 1)
  const version = reader.byte('a version of the final hash')
  if (version !== 1) throw reader.fault('version 1 of the final hash', 1)
  const id = reader.take(MESSAGE_ID_BYTES, 'a message id')
  const status = reader.take(2, 'a status').readUInt16BE(0)
  const content = reader.take(HASH_BYTES, 'a hash')
  const sid = reader.text()
  const sub = reader.text()
  const count = reader.byte('a count')
  if (count === 0 || count > LIMITS.layers) throw reader.fault(`1 to ${LIMITS.layers} layers`, 1)
  const layers = Array.from({ length: count }, () => decodeReceiptLayer(reader))
  const final = reader.take(HASH_BYTES, 'a hash')
  const index = reader.take(4, 'an index').readUInt32BE(0)
  const steps = reader.byte('a length of a path')
  if (steps > MOST_PATH) throw reader.fault(`at most ${MOST_PATH} hashes of a path`, 1)
  const path = Array.from({ length: steps }, () => reader.take(HASH_BYTES, 'a hash'))
  const rootAt = reader.at
  const root = reader.take(ROOT_RECORD_BYTES, 'a root record')
  const record = decodeRootRecord(root, rootAt)
  const certificate = (flags & HAS_CERTIFICATE) === 0 ? undefined : decodeBareCertificate(reader)
  const evidence = (flags & HAS_LINKS) !== 0 ? decodeEvidence(reader) : (flags & HAS_OUTCOME) !== 0 ? decodeOutcomeEvidence(reader) : undefined
  reader.end()
  return { version, id, status, content, sid, sub, layers, final, index, path, root, record, certificate, evidence }
}

function decodeReceiptLayer(reader: Reader): ReceiptLayer {
  const hash = reader.take(HASH_BYTES, 'a hash')
  const length = reader.byte('a length of a layer')
  if (length === 0) return { hash, shown: undefined }
  const layer = reader.take(length, 'a layer')
  return { hash, shown: { layer, texts: reader.take(reader.take(2, 'a length of texts').readUInt16BE(0), 'texts') } }
}

/**
 * The receipt with some layers kept back: their hashes stand in their place, and it holds as before. Evidence goes with the layer that shows
 * what it is of. Throws `CMESH_RECEIPT_FORMAT`.
 */
export function redactReceipt(data: Uint8Array, keptBack: (index: number) => boolean): Buffer {
  const receipt = decodeReceipt(data)
  const layers = receipt.layers.map((layer, i) => keptBack(i) ? { ...layer, shown: undefined } : layer)
  return encodeReceipt({ ...receipt, layers, evidence: lastMoved(layers) === lastMoved(receipt.layers) ? receipt.evidence : undefined })
}

/** The last layer that shows a position after, which evidence is of. */
function lastMoved(layers: readonly ReceiptLayer[]): number {
  return layers.findLastIndex(({ shown }) => ((shown?.layer[FLAGS_AT] ?? 0) & HAS_AFTER) !== 0)
}

/** What a receipt says of the message itself. */
export type Sealing = Pick<Receipt, 'version' | 'id' | 'status' | 'content' | 'sid' | 'sub'> & {
  readonly salt: Uint8Array
  /** Without their texts. */
  readonly layers: readonly Uint8Array[]
}

/** What a sealer's `record` holds. Throws `CMESH_RECEIPT_FORMAT`. Total. */
export function decodeSealing(record: Uint8Array): Sealing {
  const reader = new Reader(asBuffer(record), 0, malformedReceipt)
  const salt = reader.take(SALT_BYTES, 'a salt')
  if (reader.byte('a version of the final hash') !== 1) throw reader.fault('version 1 of the final hash', 1)
  const id = reader.take(MESSAGE_ID_BYTES, 'a message id')
  const status = reader.take(2, 'a status').readUInt16BE(0)
  const content = reader.take(HASH_BYTES, 'a hash')
  const sid = reader.text()
  const sub = reader.text()
  const layers = Array.from({ length: reader.byte('a count') }, () => reader.take(reader.byte('a length of a layer'), 'a layer'))
  reader.end()
  return { version: 1, salt, id, status, content, sid, sub, layers }
}
