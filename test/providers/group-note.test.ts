/** What is noted of groups: times of the broker, whose order decides whether a note is of the events that are there. */
import { expect, test } from '@jest/globals'
import fc from 'fast-check'
import { instant } from '../../providers/events/group-note.ts'

/** As Go writes it: without zeros at the end of the fraction, and without a fraction where there is none. */
function written(seconds: number, ns: number): string {
  const whole = new Date(seconds * 1_000).toISOString().replace('.000Z', '')
  const fraction = String(ns).padStart(9, '0').replace(/0+$/, '')
  return `${whole}${fraction === '' ? '' : `.${fraction}`}Z`
}

test('times sort as they came, to the nanosecond', () => {
  const ns = fc.oneof(fc.constantFrom(0, 1, 100_000_000, 42_000_000), fc.nat(999_999_999))
  const time = fc.record({ seconds: fc.integer({ min: 1_700_000_000, max: 1_700_000_003 }), ns })
  fc.assert(fc.property(time, time, (one, other) => {
    const order = Math.sign(one.seconds - other.seconds || one.ns - other.ns)
    const [a, b] = [instant(written(one.seconds, one.ns)), instant(written(other.seconds, other.ns))]
    expect(a < b ? -1 : Number(a > b)).toBe(order)
  }))
  expect(instant('2026-11-23T09:25:42.8583Z') < instant('2026-11-23T09:25:42.858300969Z')).toBe(true)
  expect(instant('2026-11-23T09:25:42Z') < instant('2026-11-23T09:25:42.000000001Z')).toBe(true)
})
