/**
 * A log that ends far before the stream does, or before the stream even begins: other members have the blocks of it, and taking those is
 * quicker than executing the entries again. Where the stream has everything, it does without them.
 */
import { CMeshError } from '../../cmtp/errors.ts'
import type { CatchUpLog, LogBefore, LogHead } from '../../services/consensus/provider.ts'
import type { Log } from '../../services/log.ts'
import type { StreamReport } from '../jetstream/stream-api.ts'
import { readOrder, type Order } from './ordered-stream.ts'

/** Entries that are executed sooner than others are asked for their blocks. */
const WORTH = 1_000

/** Where the log ends after what it lacked was taken from others. Rejects as `catchUp` does where the stream cannot give it either. */
export async function caughtUp(
  { config, state }: Pick<StreamReport, 'config' | 'state'>, from: LogHead, catchUp: CatchUpLog | undefined, log: Log,
): Promise<LogHead> {
  const order = readOrder(config.description)
  if (order === undefined || catchUp === undefined) return from
  const before = order.base + Math.max(1, state.first_seq) - 1
  const trimmed = before > from.seq
  if (!trimmed && order.base + state.last_seq - from.seq < WORTH) return from
  try {
    const head = await catchUp(before, before === order.base ? logBefore(order, from) : undefined)
    return head.seq === from.seq ? from : head
  } catch (thrown) {
    const error = CMeshError.from(thrown, 'catching up')
    if (trimmed || error.code !== 'CMESH_STATE_CATCH_UP') throw error
    log.info({ from: from.seq, reason: error.message }, 'no other member gives the blocks that this node lacks; it executes the entries again')
    return from
  }
}

/** The log that the stream was begun behind, where this one may be its beginning: an epoch follows on those before it. */
function logBefore({ epoch, base, chain }: Order, from: LogHead): LogBefore | undefined {
  return chain === undefined || base <= from.seq || epoch <= from.epoch ? undefined : { seq: base, chain: Buffer.from(chain, 'hex') }
}
