/**
 * Brings a log up to the place behind which an order begins, where no quorum says how the log goes on. The order names that place by its chain
 * value, on the word of whoever began it. So nothing is taken for true but what the order could say by itself: which batches, signed by
 * members, come in which sequence. They are executed, as if they came from the order, and what comes of each has to be the block that was sent.
 *
 * Invariants: nothing is executed before all blocks up to that place are held and lead down to this log's own head; what gets into the log is
 * what this node made of a batch.
 */
import { CMeshError } from '../../../cmtp/errors.ts'
import type { LogBefore, LogEntry } from '../../consensus/provider.ts'
import { chainAfter, decodeBlock } from '../block.ts'
import { receive, type CatchUpParts } from './catch-up.ts'

/** The log that an order begins behind, and how an entry of it is applied. */
export interface OrderBegun {
  readonly before: LogBefore
  /** As an entry of the order. Throws where it cannot be applied. */
  readonly execute: (entry: LogEntry) => void
}

/** Who is named where the log is another one. */
const NAMED = 'whose log the order goes on behind'

/**
 * Resolves once the log ends at `before` and is durable. Rejects with `CMESH_STATE_CATCH_UP` when no other replica could give what is missing,
 * with `CMESH_STATE_DIVERGED` where this log, or what this node makes of an entry, is not what the order names, and with what `execute` throws.
 * Nobody is believed who says that this log is wrong: it is kept.
 */
export async function executeUpTo(parts: CatchUpParts, { before, execute }: OrderBegun): Promise<void> {
  const { store, log } = parts
  if (store.replica === undefined) throw new CMeshError('CMESH_STATE_CATCH_UP', { reason: 'the state of this node keeps no blocks' })
  const differs = (seq: number): CMeshError => new CMeshError('CMESH_STATE_DIVERGED', { seq, members: NAMED })
  const held = await store.replica.hold()
  try {
    const { low, parts: received } = await receive(parts, { trusted: before }, held)
    if (!same(low.chain, store.head.chain)) throw differs(low.seq)
    for await (const group of held.read(received)) {
      for (const bytes of group) {
        const { chain } = store.head
        const { epoch, seq, message } = decodeBlock(bytes)
        // What is kept of the message must not keep all that was read with it.
        execute({ epoch, seq, id: '', data: new Uint8Array(message) })
        if (!same(store.head.chain, chainAfter(chain, bytes))) {
          log.error({ seq }, 'what this node makes of an entry is not the block that the order names')
          throw differs(seq)
        }
      }
      await store.flush()
    }
  } finally {
    await held.discard()
  }
}

function same(one: Uint8Array, other: Uint8Array): boolean {
  return Buffer.compare(one, other) === 0
}
