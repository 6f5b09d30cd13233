/**
 * The witness of a receipt: what was asked and answered, and the salt under which the receipt covers it. It is the caller's alone; who is
 * shown it beside the receipt sees bodies, headers and arguments, and that they are those of the message. Layouts are normative in
 * `SPEC.md`, section 15.
 */
import { writeUint64 } from '../frame.ts'
import { argumentsHash, EMPTY_HASH, SALT_BYTES, sha256, text16, type DecodedLayer } from '../layer.ts'
import { LIMITS } from '../limits.ts'
import { MESSAGE_ID_BYTES } from '../message-id.ts'
import { Reader } from '../reader.ts'
import { asBuffer } from '../wire.ts'
import type { Receipt } from './receipt.ts'
import { invalid, malformedReceipt } from './refusal.ts'

export interface Witness {
  readonly id: Uint8Array
  /** 16 bytes: of the layers block of the reply. */
  readonly salt: Uint8Array
  /** As asked for, arguments included. */
  readonly fqmn: string
  /** Absolute, ms since 1970. */
  readonly deadlineMs: number
  readonly requestHeaders: Uint8Array
  readonly requestBody: Uint8Array
  readonly replyHeaders: Uint8Array
  readonly replyBody: Uint8Array
}

const MAGIC = Buffer.from('CMRW', 'latin1')
const WITNESS_VERSION = 1
const CONTENT_PREFIX = Buffer.of(0x03)

/*
 * witness: 0 magic 4 · 4 version 1 · 5 id 16 · 21 salt 16 · 37 deadline ms 8 · FQMN text · headers length 2 · headers · body length 4 · body
 *          · headers length 2 · headers · body length 4 · body
 */
export function encodeWitness({ id, salt, fqmn, deadlineMs, requestHeaders, requestBody, replyHeaders, replyBody }: Witness): Buffer {
  const deadline = Buffer.alloc(8)
  writeUint64(deadline, deadlineMs, 0)
  const part = (bytes: Uint8Array, width: 2 | 4): Buffer => {
    const length = Buffer.alloc(width)
    length.writeUIntBE(bytes.length, 0, width)
    return Buffer.concat([length, bytes])
  }
  return Buffer.concat([
    MAGIC, Buffer.of(WITNESS_VERSION), id, salt, deadline, text16(fqmn),
    part(requestHeaders, 2), part(requestBody, 4), part(replyHeaders, 2), part(replyBody, 4),
  ])
}

/** The witness in the bytes; byte fields are views. Throws `CMESH_RECEIPT_FORMAT` for anything else. Total. */
export function decodeWitness(data: Uint8Array): Witness {
  const reader = new Reader(asBuffer(data), 0, malformedReceipt)
  if (!reader.take(MAGIC.length, '"CMRW"').equals(MAGIC)) throw reader.fault('"CMRW"', MAGIC.length)
  if (reader.byte('a version') !== WITNESS_VERSION) throw reader.fault(`version ${WITNESS_VERSION} of a witness`, 1)
  const id = reader.take(MESSAGE_ID_BYTES, 'a message id')
  const salt = reader.take(SALT_BYTES, 'a salt')
  const deadlineMs = reader.count('a deadline')
  const fqmn = reader.text()
  const headers = (): Buffer => reader.take(reader.take(2, 'a length of headers').readUInt16BE(0), 'headers')
  const body = (): Buffer => {
    const bytes = reader.take(4, 'a length of a body').readUInt32BE(0)
    if (bytes > LIMITS.bodyBytes) throw reader.fault(`a body of at most ${LIMITS.bodyBytes} bytes`, 4)
    return reader.take(bytes, 'a body')
  }
  const witness = { id, salt, deadlineMs, fqmn, requestHeaders: headers(), requestBody: body(), replyHeaders: headers(), replyBody: body() }
  return reader.end(witness)
}

/** Throws `CMESH_RECEIPT_INVALID` at `body` unless the receipt, whose layers are checked, is of what the witness says. */
export function checkWitness(witness: Witness, receipt: Receipt, layers: readonly (DecodedLayer | undefined)[]): void {
  const { id, salt, fqmn, requestBody, replyHeaders, replyBody } = witness
  if (!Buffer.from(id).equals(receipt.id)) throw invalid('body', 'the witness is of another message')
  const asked = layers.at(-1)?.fqmn
  // What could not be read as a message has no address, and neither arguments nor a body that anybody looked at.
  const unread = asked === ''
  const argsAt = fqmn.indexOf(':[')
  const bare = argsAt < 0 ? fqmn : fqmn.slice(0, argsAt)
  if (asked !== undefined && !unread && asked !== bare) throw invalid('body', 'another address was asked for')
  const bodyHash = unread ? EMPTY_HASH : sha256(requestBody)
  const content = Buffer.concat([CONTENT_PREFIX, salt, Buffer.from(bodyHash + sha256(replyBody), 'latin1'), replyHeaders])
  if (sha256(content) !== Buffer.from(receipt.content).toString('latin1')) throw invalid('body', 'bodies, headers and salt are not those of the message')
  const args = argsAt < 0 ? requestBody : Buffer.from(fqmn.slice(argsAt + 1), 'utf8')
  const expected = unread || args.length === 0 ? undefined : argumentsHash(salt, args)
  layers.forEach((layer, index) => {
    if (layer === undefined) return
    // The router's layer covers all that was asked: arguments that it does not have were not asked with.
    const covers = layer.argumentsHash !== undefined || index === layers.length - 1
    if (covers && layer.argumentsHash !== expected) throw invalid('body', 'its arguments are others', index)
  })
}
