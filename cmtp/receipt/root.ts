/**
 * The root record of a batch: the Merkle root over the leaves, where the batch stands in the node's audit log, and the signature of the
 * node. Each record holds the hash of the one before it, so that who has a later one sees any that was rewritten. Fixed length; layouts
 * are normative in `SPEC.md`, section 15. Nodes and meshes stand as the 32 bytes of their public keys, which their DIDs name.
 */
import { hash } from 'node:crypto'
import { HASH_BYTES, readUint64, writeUint64 } from '../frame.ts'
import type { Certificate } from '../identity/certificate.ts'
import { decodeDid, encodeDid } from '../identity/did.ts'
import { PublicKey } from '../identity/keys.ts'
import { asBuffer } from '../wire.ts'
import { bareCertificate, certificateFault, type BareCertificate } from './bare-certificate.ts'
import { invalid, malformedReceipt } from './refusal.ts'

export interface AuditRoot {
  /** DID of the mesh. */
  readonly mesh: string
  /** DID of the node whose log it is, and whose key signs. */
  readonly node: string
  /** Public key of the audit log, 32 bytes. */
  readonly log: Uint8Array
  /** Index of the batch in that log. */
  readonly batch: number
  /** How many leaves stand in the log before this batch. */
  readonly first: number
  /** Leaves of this batch, 1 to 2^32 - 1. */
  readonly count: number
  /** 32 bytes. */
  readonly merkleRoot: Uint8Array
  /** `rootRecordHash` of the record before, 32 bytes; zeros for batch 0. */
  readonly previous: Uint8Array
  /** By the node's clock, us since 1970. */
  readonly timeUs: number
  /** 64 bytes. */
  readonly signature: Uint8Array
}

/** Whether a signature is the key's; `PublicKey.verify` unless somebody remembers what it has seen. */
export type Verify = (did: string, message: Uint8Array, signature: Uint8Array) => boolean

export const verifyByKey: Verify = (did, message, signature) => PublicKey.fromDid(did).verify(message, signature)

/*
 * record: 0 version 1 · 1 mesh 32 · 33 node 32 · 65 log 32 · 97 batch 8 · 105 first 8 · 113 count 4 · 117 Merkle root 32 · 149 previous 32
 *         · 181 time us 8 · 189 signature 64
 */
export const ROOT_RECORD_BYTES = 253
const SIGNED_BYTES = 189
const ROOT_VERSION = 1
const CONTEXT = Buffer.from('CMesh/1 audit-root\n', 'utf8')
const RECORD_PREFIX = Buffer.of(0x02)

const HASHES = `log, Merkle root and previous have ${HASH_BYTES} bytes each`

/** What all records of one log have in common. */
type RootsOf = Pick<AuditRoot, 'mesh' | 'node' | 'log'>

/** Writes the records of one log. */
export class RootWriter {
  /** What is signed; its front is the same for all. */
  readonly #signed = Buffer.alloc(CONTEXT.length + SIGNED_BYTES)
  readonly #sign: (bytes: Uint8Array) => Uint8Array

  /** `sign` holds the key of `node`. */
  constructor({ mesh, node, log }: RootsOf, sign: (bytes: Uint8Array) => Uint8Array) {
    if (log.length !== HASH_BYTES) throw new RangeError(HASHES)
    this.#sign = sign
    this.#signed.set(CONTEXT)
    this.#signed[CONTEXT.length] = ROOT_VERSION
    this.#signed.set(decodeDid(mesh), CONTEXT.length + 1)
    this.#signed.set(decodeDid(node), CONTEXT.length + 33)
    this.#signed.set(log, CONTEXT.length + 65)
  }

  /** The record, signed. */
  write({ batch, first, count, merkleRoot, previous, timeUs }: Omit<AuditRoot, keyof RootsOf | 'signature'>): Buffer {
    if (merkleRoot.length !== HASH_BYTES || previous.length !== HASH_BYTES) throw new RangeError(HASHES)
    if (![batch, first, timeUs].every(each => Number.isSafeInteger(each) && each >= 0) || !(count >= 1)) throw new RangeError('batch, first and time are counts, and count is one')
    const signed = this.#signed
    const bytes = signed.subarray(CONTEXT.length)
    writeUint64(bytes, batch, 97)
    writeUint64(bytes, first, 105)
    bytes.writeUInt32BE(count, 113)
    bytes.set(merkleRoot, 117)
    bytes.set(previous, 149)
    writeUint64(bytes, timeUs, 181)
    return Buffer.concat([bytes, this.#sign(signed)])
  }
}

/** One record, signed. */
export function encodeRootRecord(root: Omit<AuditRoot, 'signature'>, sign: (bytes: Uint8Array) => Uint8Array): Buffer {
  return new RootWriter(root, sign).write(root)
}

/** The record in the bytes, its signature not looked at; byte fields are views. Throws `CMESH_RECEIPT_FORMAT` for anything else. Total. */
export function decodeRootRecord(data: Uint8Array, base = 0): AuditRoot {
  const bytes = asBuffer(data)
  return { ...rootNumbers(bytes, base), mesh: didAt(bytes, 1, base), node: didAt(bytes, 33, base) }
}

/** The same without the names of mesh and node, which take longer than all else. */
export function rootNumbers(data: Uint8Array, base = 0): Omit<AuditRoot, 'mesh' | 'node'> {
  const bytes = asBuffer(data)
  if (bytes.length !== ROOT_RECORD_BYTES) throw malformedReceipt(base, `a root record of ${ROOT_RECORD_BYTES} bytes`)
  if (bytes[0] !== ROOT_VERSION) throw malformedReceipt(base, `version ${ROOT_VERSION} of a root record`)
  const [batch, first, timeUs] = [97, 105, 181].map(at => {
    const value = readUint64(bytes, at)
    if (!Number.isSafeInteger(value)) throw malformedReceipt(base + at, 'a number below 2^53')
    return value
  }) as [number, number, number]
  const count = bytes.readUInt32BE(113)
  if (count === 0) throw malformedReceipt(base + 113, 'one leaf or more')
  const previous = bytes.subarray(149, 181)
  if ((batch === 0) !== previous.every(byte => byte === 0)) throw malformedReceipt(base + 149, 'a hash of the record before, and zeros in the first one')
  return {
    log: bytes.subarray(65, 97), batch, first, count, merkleRoot: bytes.subarray(117, 149),
    previous, timeUs, signature: bytes.subarray(SIGNED_BYTES),
  }
}

/** What the next record holds of this one: SHA-256( 0x02 ‖ record ). */
export function rootRecordHash(record: Uint8Array): Buffer {
  return hash('sha256', Buffer.concat([RECORD_PREFIX, record]), 'buffer')
}

/**
 * The record, once a node of the mesh has signed it. `certificate`: of the node; none where its key is the mesh's. Throws
 * `CMESH_RECEIPT_FORMAT`, and `CMESH_RECEIPT_INVALID` at `key`, `certificate` or `signature`.
 */
export function verifyRootRecord(record: Uint8Array, mesh: string, certificate: Certificate | undefined, verify: Verify = verifyByKey): AuditRoot {
  const root = decodeRootRecord(record)
  const another = certificate !== undefined && (certificate.mesh !== mesh || certificate.node !== root.node)
  if (another && root.mesh === mesh && root.node !== mesh) throw invalid('certificate', 'the certificate is not that of the node')
  return verifyBareRecord(record, mesh, certificate && bareCertificate(certificate), verify)
}

/** The same with the certificate as it stands in a receipt. */
export function verifyBareRecord(record: Uint8Array, mesh: string, certificate: BareCertificate | undefined, verify: Verify): AuditRoot {
  const root = decodeRootRecord(record)
  if (root.mesh !== mesh) throw invalid('key', 'it is of another mesh')
  const fault = certificateFault(certificate, root.node, mesh, 'node')
  if (fault !== undefined) throw invalid('certificate', fault)
  if (!verify(root.node, signedBytes(record), root.signature)) throw invalid('signature', 'the node did not sign the root')
  return root
}

/** Whether the node that a record names signed it; whom it speaks for is not asked. Throws `CMESH_RECEIPT_FORMAT`. */
export function isSigned(record: Uint8Array, verify: Verify = verifyByKey): boolean {
  const { node, signature } = decodeRootRecord(record)
  return verify(node, signedBytes(record), signature)
}

function signedBytes(record: Uint8Array): Buffer {
  return Buffer.concat([CONTEXT, record.subarray(0, SIGNED_BYTES)])
}

function didAt(bytes: Buffer, at: number, base: number): string {
  try {
    return encodeDid(bytes.subarray(at, at + HASH_BYTES))
  } catch (cause) {
    throw malformedReceipt(base + at, 'a public key', cause)
  }
}
