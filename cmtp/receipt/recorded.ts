/**
 * A receipt out of what a sealer recorded: the bytes that `encodeReceipt` gives for it, written without taking the record apart first, since a
 * node makes one for every request that asks for it. Layouts are normative in `SPEC.md`, section 15.
 */
import { hash } from 'node:crypto'
import { HASH_BYTES } from '../frame.ts'
import { LAYER_BYTES, SALT_BYTES } from '../layer.ts'
import { MESSAGE_ID_BYTES } from '../message-id.ts'
import { encodeBareCertificate } from './bare-certificate.ts'
import { evidenceBytes, flagsOf, type Receipt } from './receipt.ts'
import { ROOT_RECORD_BYTES } from './root.ts'

export interface Recorded extends Pick<Receipt, 'final' | 'index' | 'path' | 'root' | 'certificate' | 'evidence'> {
  /** Of a sealer, whole and sound. */
  readonly record: Buffer
  /** Of the place of each layer; a layer without them is kept back. */
  readonly texts: readonly (Uint8Array | undefined)[]
}

/** Magic and version. */
export const RECEIPT_HEAD = Buffer.from('CMRC\x01', 'latin1')
/** Behind magic, version, flags, version of the final hash and id. */
const STATUS_AT = RECEIPT_HEAD.length + 1 + 1 + MESSAGE_ID_BYTES
/** Behind the salt, in a record: version, id, status, content. */
const SID_AT = SALT_BYTES + 51
const LAYER_PREFIX = 0x04
const NOTHING = Buffer.alloc(0)

const scratch = Buffer.alloc(1 + LAYER_BYTES)
scratch[0] = LAYER_PREFIX

/** The status of the reply that a receipt is of; for one that was not checked. */
export function statusOfReceipt(receipt: Uint8Array): number {
  return ((receipt[STATUS_AT] ?? 0) << 8) | (receipt[STATUS_AT + 1] ?? 0)
}

/** The receipt, the caller's to keep. */
export function encodeRecorded({ record, texts, final, index, path, root, certificate, evidence }: Recorded): Buffer {
  const certified = certificate === undefined ? NOTHING : encodeBareCertificate(certificate)
  const claimed = evidence === undefined ? NOTHING : evidenceBytes(evidence)
  const subAt = SID_AT + 2 + record.readUInt16BE(SID_AT)
  const layersAt = subAt + 2 + record.readUInt16BE(subAt) + 1
  let size = RECEIPT_HEAD.length + 1 + layersAt - SALT_BYTES + HASH_BYTES + 5 + path.length * HASH_BYTES + ROOT_RECORD_BYTES + certified.length + claimed.length
  for (let at = layersAt, i = 0; at < record.length; at += 1 + (record[at] as number), i++) {
    const own = texts[i]
    size += HASH_BYTES + 1 + (own === undefined ? 0 : (record[at] as number) + 2 + own.length)
  }
  const bytes = Buffer.allocUnsafe(size)
  bytes.set(RECEIPT_HEAD)
  bytes[RECEIPT_HEAD.length] = flagsOf({ certificate, evidence })
  let to = RECEIPT_HEAD.length + 1
  to += record.copy(bytes, to, SALT_BYTES, layersAt)
  for (let at = layersAt, i = 0; at < record.length; i++) {
    const end = at + 1 + (record[at] as number)
    record.copy(scratch, 1, at + 1, end)
    to += bytes.write(hash('sha256', scratch.subarray(0, end - at), 'binary'), to, 'latin1')
    const own = texts[i]
    if (own === undefined) bytes[to++] = 0
    else {
      to += record.copy(bytes, to, at, end)
      to = bytes.writeUInt16BE(own.length, to)
      bytes.set(own, to)
      to += own.length
    }
    at = end
  }
  bytes.set(final, to)
  to = bytes.writeUInt32BE(index, to + HASH_BYTES)
  bytes[to++] = path.length
  for (const beside of path) {
    bytes.set(beside, to)
    to += HASH_BYTES
  }
  putEnd(bytes, to, root, certified, claimed)
  return bytes
}

/** Writes what stands behind the path, and gives where it ends. */
export function putEnd(target: Buffer, at: number, root: Uint8Array, certificate: Uint8Array, evidence: Uint8Array): number {
  target.set(root, at)
  target.set(certificate, at + ROOT_RECORD_BYTES)
  target.set(evidence, at + ROOT_RECORD_BYTES + certificate.length)
  return at + ROOT_RECORD_BYTES + certificate.length + evidence.length
}
