/** Points in time, as they are typed, and durations, as they are read. */
import { InvalidArgumentError } from 'commander'

const UNIT_MS = { s: 1_000, m: 60_000, h: 3_600_000, d: 86_400_000 } as const
const READ = [{ unit: 'days', size: UNIT_MS.d }, { unit: 'h', size: UNIT_MS.h }, { unit: 'min', size: UNIT_MS.m }, { unit: 's', size: UNIT_MS.s }] as const

/** ms since 1970 of an ISO 8601 time, or of ms since 1970. */
export function moment(text: string): number {
  const ms = /^\d+$/.test(text) ? Number(text) : Date.parse(text)
  if (!Number.isSafeInteger(ms)) throw new InvalidArgumentError('It must be an ISO 8601 time or ms since 1970.')
  return ms
}

/** The same, and also how long ago: 90s, 15m, 2h, 7d. */
export function pastMoment(text: string): number {
  const [, count, unit] = /^(\d{1,9})([smhd])$/.exec(text) ?? []
  if (count !== undefined && unit !== undefined) return Math.max(0, Date.now() - Number(count) * UNIT_MS[unit as keyof typeof UNIT_MS])
  const ms = /^(\d+|\d{4}-\d\d-\d\d.*)$/.test(text) ? moment(text) : -1
  if (ms < 0) throw new InvalidArgumentError('It must be an ISO 8601 time like 2030-01-31T12:00:00Z, ms since 1970, or how long ago: 90s, 15m, 2h, 7d.')
  return ms
}

/** A duration in the largest unit that it fills, to a tenth: 366 days, 1.5 h, 15 min, 90 ms. */
export function durationText(ms: number): string {
  const { unit, size } = READ.find(each => ms >= each.size) ?? { unit: 'ms', size: 1 }
  const count = Math.round(10 * ms / size) / 10
  return `${count} ${unit === 'days' && count === 1 ? 'day' : unit}`
}
