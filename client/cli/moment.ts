/** Points in time, as they are typed. */
import { InvalidArgumentError } from 'commander'

const UNIT_MS: Readonly<Record<string, number>> = { s: 1_000, m: 60_000, h: 3_600_000, d: 86_400_000 }

/** ms since 1970 of an ISO 8601 time, or of ms since 1970. */
export function moment(text: string): number {
  const ms = /^\d+$/.test(text) ? Number(text) : Date.parse(text)
  if (!Number.isSafeInteger(ms)) throw new InvalidArgumentError('It must be an ISO 8601 time or ms since 1970.')
  return ms
}

/** The same, and also how long ago: 90s, 15m, 2h, 7d. */
export function pastMoment(text: string): number {
  const [, count, unit] = /^(\d{1,9})([smhd])$/.exec(text) ?? []
  if (count !== undefined && unit !== undefined) return Math.max(0, Date.now() - Number(count) * (UNIT_MS[unit] ?? 0))
  const ms = /^(\d+|\d{4}-\d\d-\d\d.*)$/.test(text) ? moment(text) : -1
  if (ms < 0) throw new InvalidArgumentError('It must be an ISO 8601 time like 2030-01-31T12:00:00Z, ms since 1970, or how long ago: 90s, 15m, 2h, 7d.')
  return ms
}
