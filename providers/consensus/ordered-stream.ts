/**
 * The stream that is the order: how it is set up, the place where it begins, and whether it goes with the log that state holds.
 * Position = base + sequence in the stream. Epoch and base stand with the stream itself, in its description, since a
 * nats-server of 2.9 keeps no other notes; a stream without them was not made here and is left alone. A stream that begins behind a log
 * names that log by its chain value there: whoever has the log goes on in the stream's epoch, and nobody else does.
 */
import { CMeshError } from '../../cmtp/errors.ts'
import { canonicalJson, parseCanonicalJson } from '../../cmtp/identity/canonical-json.ts'
import { orderStoredSubject, orderSubject } from '../../cmtp/subject.ts'
import type { LogHead } from '../../services/consensus/provider.ts'
import type { StreamReport } from '../jetstream/stream-api.ts'
import type { WantedStream } from '../jetstream/stream.ts'

export interface Order {
  readonly epoch: number
  /** The position behind which the stream begins: its message 1 is the entry `base + 1`. */
  readonly base: number
  /** The chain value behind which it begins, 64 hex digits. Missing in streams that begin with the log, and in those of before there were epochs. */
  readonly chain?: string
}

export interface OrderedStreamOptions {
  readonly stream: string
  readonly replicas: number
  readonly maxBytes: number
}

/** Of the description. */
const FORM = 1
const CHAIN = /^[0-9a-f]{64}$/

/** How long the broker knows a proposal by its id, in ms. */
export const DUPLICATE_WINDOW_MS = 120_000

export function orderedStream({ stream, replicas, maxBytes }: OrderedStreamOptions, order: Order): WantedStream {
  return {
    name: stream,
    description: describeOrder(order),
    subjects: [orderSubject(stream)],
    storage: 'file',
    retention: 'limits',
    // What was ordered is never dropped to make room: the newcomer is refused.
    discard: 'new',
    num_replicas: replicas,
    max_bytes: maxBytes,
    deny_delete: true,
    duplicate_window: DUPLICATE_WINDOW_MS * 1e6,
    allow_direct: true,
    republish: { src: orderSubject(stream), dest: orderStoredSubject(stream) },
  }
}

export function describeOrder({ epoch, base, chain }: Order): string {
  return canonicalJson({ base, ...(chain !== undefined && { chain }), epoch, order: FORM })
}

/** The order that begins behind `from`. */
export function orderBehind({ epoch, seq, chain }: LogHead): Order {
  return { epoch, base: seq, ...(seq > 0 && chain !== undefined && { chain: Buffer.from(chain).toString('hex') }) }
}

/** `undefined` for a description that is not of this form. */
export function readOrder(description: string | undefined): Order | undefined {
  let read: unknown
  try {
    read = parseCanonicalJson(Buffer.from(description ?? ''))
  } catch {
    return undefined
  }
  if (typeof read !== 'object' || read === null || !('order' in read) || read.order !== FORM) return undefined
  if (!('epoch' in read) || !('base' in read) || !isCount(read.epoch) || !isCount(read.base)) return undefined
  const chain = 'chain' in read && typeof read.chain === 'string' && CHAIN.test(read.chain) ? read.chain : undefined
  return { epoch: read.epoch, base: read.base, ...(chain !== undefined && { chain }) }
}

function isCount(value: unknown): value is number {
  return Number.isSafeInteger(value) && (value as number) >= 0
}

/** Throws the `CMESH_CONSENSUS_STREAM_*` that says why this stream cannot go on behind `from`. */
export function checkGoesOn(stream: string, { config, state }: Pick<StreamReport, 'config' | 'state'>, from: LogHead): Order {
  const order = readOrder(config.description)
  if (order === undefined) throw otherStream(stream, 'its description does not say where its order begins')
  // A log that ends where the stream begins is of an epoch before, or is another log.
  const known = order.base === from.seq && order.chain !== undefined && from.chain !== undefined
  if (known && Buffer.from(from.chain).toString('hex') !== order.chain) throw otherStream(stream, `it begins behind another log of ${order.base} entries`)
  if (order.epoch !== from.epoch && !(known && order.epoch > from.epoch)) {
    throw otherStream(stream, `it is of epoch ${order.epoch}, the log of epoch ${from.epoch}`)
  }
  const end = order.base + state.last_seq
  if (end < from.seq) throw new CMeshError('CMESH_CONSENSUS_STREAM_SHORT', { stream, end, head: from.seq })
  // Of a stream that is empty since it was purged, the first message is the next one.
  const begin = order.base + Math.max(1, state.first_seq)
  if (order.base > from.seq || begin > from.seq + 1) {
    throw new CMeshError('CMESH_CONSENSUS_STREAM_AHEAD', { stream, begin, head: from.seq })
  }
  return order
}

export function otherStream(stream: string, reason: string): CMeshError {
  return new CMeshError('CMESH_CONSENSUS_STREAM_OTHER', { stream, reason })
}

export function lostStream(stream: string, reason: string): CMeshError {
  return new CMeshError('CMESH_CONSENSUS_STREAM_LOST', { stream, reason })
}
