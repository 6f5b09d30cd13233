/** The entries of one batch at `full`: they wait for their roots, in whatever order those come, and leave together in their own. */
import type { BatchReplyWriter } from '../../cmtp/batch.ts'
import { CMeshError } from '../../cmtp/errors.ts'
import { errorReply, type Reply } from '../call.ts'
import type { SealedReply } from './sealing.ts'

const EMPTY = Buffer.alloc(0)
const NO_HASH = '\0'.repeat(32)

export class FullEntries {
  /** What they take, reckoned high. */
  bytes = 0
  readonly #writer: BatchReplyWriter
  readonly #answer: (frame: Buffer) => void
  readonly #writes: ((() => void) | undefined)[]
  #left: number

  constructor(writer: BatchReplyWriter, count: number, answer: (frame: Buffer) => void) {
    this.#writer = writer
    this.#answer = answer
    this.#writes = new Array<undefined>(count)
    this.#left = count
    this.bytes = writer.length
  }

  /** An entry and its receipt, or why it has none: then it says that instead. */
  add(index: number, reply: Reply, { finalHash, layers }: SealedReply, receipt: Buffer | CMeshError): void {
    this.#writes[index] = () => {
      if (receipt instanceof CMeshError) {
        const { status, headers, body } = errorReply(receipt)
        this.#writer.add(status, NO_HASH, headers, EMPTY, body)
      } else {
        const part = layers.length === 0 || receipt.length === 0 ? layers : Buffer.concat([layers, receipt])
        this.#writer.add(reply.status, finalHash, reply.headers, part, reply.body)
      }
    }
    if (--this.#left > 0) return
    for (const write of this.#writes) write?.()
    this.#answer(this.#writer.finish())
  }
}
