/**
 * The layers part of a reply at `full`: the layers block (`layer.ts`), and behind it the receipt (`receipt.ts`). All but its end is known when the
 * message is sealed, and is the same for messages that repeat it, but for id and final hash; the end, once the root is on the log. So it is written
 * in two steps, the second straight into the frame that leaves. Layouts are normative in `SPEC.md`, sections 8 and 15.
 */
import type { WrittenPart } from '../batch.ts'
import { HASH_BYTES } from '../frame.ts'
import { putHash, SALT_BYTES } from '../layer.ts'
import { MESSAGE_ID_BYTES } from '../message-id.ts'
import type { Preimages } from '../sealed.ts'
import type { MerkleTree } from './merkle.ts'
import { putEnd, RECEIPT_HEAD } from './recorded.ts'
import { ROOT_RECORD_BYTES } from './root.ts'

/** What is known of a layers part when its message is sealed. */
export interface PartHead {
  readonly bytes: Buffer
  /** Where the receipt begins. */
  readonly receiptAt: number
}

/** What is known once the root is on the log. */
export interface PartEnd {
  readonly index: number
  readonly tree: MerkleTree
  /** The root record. */
  readonly record: Uint8Array
  /** What else the receipt has (`flagsOf`). */
  readonly flags: number
  /** As they stand in a receipt; empty where there is none. */
  readonly certificate: Uint8Array
  readonly evidence: Uint8Array
}

const FLAGS_AT = RECEIPT_HEAD.length
/** In what the final hash is of: behind its prefix, as it stands in a receipt. */
const BOUND_AT = 1
/** Behind flags and version of the final hash. */
const ID_AT = FLAGS_AT + 2
const SALT_AT = 1

/** What was sealed, and the texts of its layers' places. */
export function partHead({ content, layers, final }: Preimages, texts: readonly Uint8Array[]): PartHead {
  const bound = final.length - layers.length * HASH_BYTES
  let shown = 0
  for (let i = 0; i < layers.length; i++) shown += (layers[i] as Buffer).length - 1 + (texts[i] as Uint8Array).length
  const receiptAt = SALT_BYTES + 1 + 4 * layers.length + shown
  const bytes = Buffer.allocUnsafe(receiptAt + FLAGS_AT + 1 + bound - BOUND_AT + (HASH_BYTES + 3) * layers.length + shown)
  content.copy(bytes, 0, SALT_AT, SALT_AT + SALT_BYTES)
  bytes[SALT_BYTES] = layers.length
  let at = SALT_BYTES + 1
  bytes.set(RECEIPT_HEAD, receiptAt)
  let to = receiptAt + FLAGS_AT + 1
  to += final.copy(bytes, to, BOUND_AT, bound)
  for (let i = 0; i < layers.length; i++) {
    const layer = layers[i] as Buffer
    const own = texts[i] as Uint8Array
    const length = layer.length - 1
    at = bytes.writeUInt32BE(length + own.length, at)
    at += layer.copy(bytes, at, 1)
    bytes.set(own, at)
    at += own.length
    to += final.copy(bytes, to, bound + i * HASH_BYTES, bound + (i + 1) * HASH_BYTES)
    bytes[to++] = length
    to += layer.copy(bytes, to, 1)
    to = bytes.writeUInt16BE(own.length, to)
    bytes.set(own, to)
    to += own.length
  }
  return { bytes, receiptAt }
}

/** All that there is of it where nothing is recorded. */
export function layersBlock({ bytes, receiptAt }: PartHead): Buffer {
  return bytes.subarray(0, receiptAt)
}

/** The whole part, written when its reply is. */
export class FullPart implements WrittenPart {
  readonly length: number
  readonly #head: PartHead
  readonly #id: Uint8Array
  readonly #final: string
  readonly #end: PartEnd

  /** Of the message with this id and final hash, 32 latin1 characters: the one that was sealed, or one that repeats it. */
  constructor(head: PartHead, id: Uint8Array, final: string, end: PartEnd) {
    this.#head = head
    this.#id = id
    this.#final = final
    this.#end = end
    const { tree, index, certificate, evidence } = end
    this.length = head.bytes.length + HASH_BYTES + 5 + tree.pathBytes(index) + ROOT_RECORD_BYTES + certificate.length + evidence.length
  }

  put(target: Buffer, start: number): void {
    const { bytes, receiptAt } = this.#head
    const { index, tree, record, flags, certificate, evidence } = this.#end
    target.set(bytes, start)
    const receipt = start + receiptAt
    target[receipt + FLAGS_AT] = flags
    for (let i = 0; i < MESSAGE_ID_BYTES; i++) target[receipt + ID_AT + i] = this.#id[i] as number
    putHash(target, this.#final, start + bytes.length)
    const at = target.writeUInt32BE(index, start + bytes.length + HASH_BYTES)
    const end = tree.putPath(index, target, at + 1)
    target[at] = (end - at - 1) / HASH_BYTES
    putEnd(target, end, record, certificate, evidence)
  }
}
