/**
 * What every events provider checks of a call before it acts on it, so that all refuse the same things with the same
 * codes. It does not know which channels a caller may use; the Events service does.
 */
import { CMeshError } from '../../cmtp/errors.ts'
import { LIMITS } from '../../cmtp/limits.ts'
import type { EventRange } from '../../services/events/provider.ts'

const RANGE_LIMIT_DEFAULT = 100

export interface ResolvedRange {
  readonly from: number
  /** `Infinity` for the newest. */
  readonly to: number
  readonly limit: number
}

/** Throws `CMESH_EVENTS_CHANNEL` (400) for a name out of bounds, `CMESH_EVENTS_PAYLOAD` (413) for data over its limit. */
export function checkPublish(channel: string, data: Uint8Array): void {
  checkChannelBytes(channel)
  const limit = LIMITS.eventBytes
  if (data.length > limit) throw new CMeshError('CMESH_EVENTS_PAYLOAD', { bytes: data.length, limit })
}

/** The bounds that keep a subject within what a broker takes; the grammar is the service's to check. */
export function checkChannelBytes(channel: string): void {
  const bytes = Buffer.byteLength(channel)
  if (bytes > 0 && bytes <= LIMITS.channelBytes) return
  const reason = bytes === 0 ? 'it is empty' : `it is longer than ${LIMITS.channelBytes} bytes`
  throw new CMeshError('CMESH_EVENTS_CHANNEL', { channel: channel.slice(0, 64), reason })
}

/** A range with its defaults. Throws `CMESH_EVENTS_RANGE` (400). */
export function resolveRange(range: EventRange): ResolvedRange {
  const { from = 1, to = Infinity, limit = RANGE_LIMIT_DEFAULT } = range
  if (!isSequence(from)) throw invalid(`from is ${from}, not a whole number from 1`)
  if (to !== Infinity && !isSequence(to)) throw invalid(`to is ${to}, not a whole number from 1`)
  if (from > to) throw invalid(`from (${from}) lies behind to (${to})`)
  if (!Number.isInteger(limit) || limit < 1 || limit > LIMITS.eventRange) {
    throw invalid(`limit is ${limit}, not a whole number from 1 to ${LIMITS.eventRange}`)
  }
  return { from, to, limit }
}

function isSequence(value: number): boolean {
  return Number.isSafeInteger(value) && value >= 1
}

function invalid(reason: string): CMeshError {
  return new CMeshError('CMESH_EVENTS_RANGE', { reason })
}
