/**
 * The layers part of a reply at `full`: the layers block (`layer.ts`), and behind it the receipt (`receipt.ts`). All but the receipt's end is
 * known when the message is sealed: its head. The end is known once the root is on the log. Messages that repeat another have its head and
 * ends of their own. Layouts are normative in `SPEC.md`, sections 7, 8 and 15.
 *
 *     head = salt ‖ binding of the final hash, without the id ‖ count ‖ layers, as they stand in a receipt
 */
import { HASH_BYTES } from '../frame.ts'
import { SALT_BYTES } from '../layer.ts'
import { LIMITS } from '../limits.ts'
import { MESSAGE_ID_BYTES } from '../message-id.ts'
import { Reader } from '../reader.ts'
import { ID_AT, type Preimages } from '../sealed.ts'
import { malformed } from '../wire.ts'
import { RECEIPT_HEAD } from './recorded.ts'

/** What is known once the root is on the log. */
export interface PartEnd {
  readonly id: Uint8Array
  /** 32 bytes. */
  readonly final: Uint8Array
  readonly index: number
  /** 32 bytes for each step. */
  readonly path: Uint8Array
  /** The root record. */
  readonly root: Uint8Array
  /** What else the receipt has (`flagsOf`). */
  readonly flags: number
  /** As they stand in a receipt; empty where there is none. */
  readonly certificate: Uint8Array
  readonly evidence: Uint8Array
}

/** In what the content is of: behind its prefix. */
const SALT_AT = 1
/** In what the final hash is of: behind its prefix. */
const VERSION_AT = 1
/** Status and content of the binding. */
const STATUS_BYTES = 2

/** What was sealed, and the texts of its layers' places. */
export function partHead({ content, layers, final }: Preimages, texts: readonly Uint8Array[]): Buffer {
  const bound = final.length - layers.length * HASH_BYTES
  const idEnd = ID_AT + MESSAGE_ID_BYTES
  let size = SALT_BYTES + 1 + bound - idEnd
  for (let i = 0; i < layers.length; i++) size += HASH_BYTES + (layers[i] as Buffer).length + 2 + (texts[i] as Uint8Array).length
  const head = Buffer.allocUnsafe(size)
  content.copy(head, 0, SALT_AT, SALT_AT + SALT_BYTES)
  head[SALT_BYTES] = final[VERSION_AT] as number
  let at = SALT_BYTES + 1
  at += final.copy(head, at, idEnd, bound)
  for (let i = 0; i < layers.length; i++) {
    const layer = layers[i] as Buffer
    const own = texts[i] as Uint8Array
    at += final.copy(head, at, bound + i * HASH_BYTES, bound + (i + 1) * HASH_BYTES)
    // Its length stands where its prefix does in what is hashed.
    layer.copy(head, at)
    head[at] = layer.length - 1
    at = head.writeUInt16BE(own.length, at + layer.length)
    head.set(own, at)
    at += own.length
  }
  return head
}

/** The whole part; without an end the layers block alone, where nothing is recorded. Throws `CMESH_FRAME_MALFORMED` for a head that is none. */
export function layersPart(head: Buffer, end?: PartEnd): Buffer {
  const reader = new Reader(head, 0, malformed)
  const parts: Uint8Array[] = [reader.take(SALT_BYTES, 'a salt')]
  reader.take(1 + STATUS_BYTES + HASH_BYTES, 'version, status and content')
  reader.text()
  reader.text()
  const count = reader.byte('a count')
  if (count === 0 || count > LIMITS.layers) throw reader.fault(`1 to ${LIMITS.layers} layers`, 1)
  parts.push(Buffer.of(count))
  for (let i = 0; i < count; i++) {
    reader.take(HASH_BYTES, 'a hash')
    const layer = reader.take(reader.byte('a length of a layer'), 'a layer')
    const texts = reader.take(reader.take(2, 'a length of texts').readUInt16BE(0), 'texts')
    const length = Buffer.allocUnsafe(4)
    length.writeUInt32BE(layer.length + texts.length)
    parts.push(length, layer, texts)
  }
  reader.end()
  if (end === undefined) return Buffer.concat(parts)
  const numbers = Buffer.allocUnsafe(5)
  numbers.writeUInt32BE(end.index)
  numbers[4] = end.path.length / HASH_BYTES
  return Buffer.concat([
    ...parts, RECEIPT_HEAD, Buffer.of(end.flags), head.subarray(SALT_BYTES, SALT_BYTES + 1), end.id, head.subarray(SALT_BYTES + 1),
    end.final, numbers, end.path, end.root, end.certificate, end.evidence,
  ])
}
