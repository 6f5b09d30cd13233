/** The entries of one batch at `full`: they wait for their roots, in whatever order those come, and leave together in their own. */
import { REPLY_ENTRY_BYTES, type BatchReplyWriter, type WrittenPart } from '../../cmtp/batch.ts'
import { CMeshError } from '../../cmtp/errors.ts'
import { errorReply, type Reply } from '../call.ts'

const EMPTY = Buffer.alloc(0)
const NO_HASH = '\0'.repeat(32)

interface Entry {
  readonly reply: Reply
  readonly finalHash: string
  readonly layers: Uint8Array | WrittenPart
}

export class FullEntries {
  /** What they take, reckoned high. */
  bytes = 0
  readonly #writer: BatchReplyWriter
  readonly #answer: (frame: Buffer) => void
  readonly #entries: Entry[]
  #left: number

  constructor(writer: BatchReplyWriter, count: number, answer: (frame: Buffer) => void) {
    this.#writer = writer
    this.#answer = answer
    this.#entries = new Array<Entry>(count)
    this.#left = count
    this.bytes = writer.length
  }

  /** An entry and its layers part, or why it has no receipt: then it says that instead. */
  add(index: number, reply: Reply, finalHash: string, layers: Uint8Array | WrittenPart | CMeshError): void {
    this.#entries[index] = layers instanceof CMeshError ? { reply: errorReply(layers), finalHash: NO_HASH, layers: EMPTY } : { reply, finalHash, layers }
    if (--this.#left > 0) return
    let bytes = 0
    for (const { reply: { headers, body }, layers: part } of this.#entries) bytes += REPLY_ENTRY_BYTES + headers.length + part.length + body.length
    this.#writer.reserve(bytes)
    for (const { reply: { status, headers, body }, finalHash: hash, layers: part } of this.#entries) this.#writer.add(status, hash, headers, part, body)
    this.#answer(this.#writer.finish())
  }
}
