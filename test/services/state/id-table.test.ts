import { describe, expect, test } from '@jest/globals'
import fc from 'fast-check'
import { formatMessageId, MessageIds } from '../../../cmtp/message-id.ts'
import { TwoGenerations } from '../../../cmtp/two-generations.ts'
import { IdTable } from '../../../services/state/id-table.ts'

interface Value {
  readonly id: string
  readonly said: number
}

const digits = fc.stringMatching(/^[0-9a-f]{32}$/)
/** Alike but for one digit, in any place. */
const alike = fc.tuple(fc.nat(31), fc.constantFrom(...'0123456789abcdef')).map(([at, digit]) => `${'0'.repeat(at)}${digit}${'0'.repeat(31 - at)}`)
const anyId = fc.oneof(alike, digits, fc.string(), fc.constantFrom('', '\u0100'.repeat(40)))
/** Where all ids meet in one cell, where they do so by chance, and where the upper bits, or the lower, say nothing. */
const secrets = fc.oneof(
  fc.constantFrom(0, 1, -0x8000_0000).map(each => new Int32Array(16).fill(each)),
  fc.array(fc.integer({ min: -0x8000_0000, max: 0x7fff_ffff }), { minLength: 16, maxLength: 16 }).map(each => Int32Array.from(each)),
)

describe('a table of ids', () => {
  test('keeps and forgets what two generations do, wherever ids meet in it', () => {
    const steps = fc.array(fc.record({ id: anyId, weight: fc.nat(5) }), { maxLength: 80 })
    fc.assert(fc.property(steps, secrets, fc.integer({ min: 1, max: 20 }), fc.integer({ min: 5, max: 60 }), (sets, secret, entries, weight) => {
      const table = new IdTable<Value>({ entries, weight }, secret)
      const model = new TwoGenerations<string, Value>({ entries, weight })
      for (const [said, step] of sets.entries()) {
        const { turns } = model
        const value = { id: step.id, said }
        model.set(step.id, value, step.weight)
        expect(table.set(value, step.weight)).toBe(model.turns !== turns)
        expect(table.size).toBe(model.size)
        for (const { id } of sets) expect(table.get(id)).toBe(model.peek(id))
      }
    }), { numRuns: 300 })
  })

  test('finds each of two full generations of a node\'s size, and none that is not there', () => {
    const ids = new MessageIds(() => 1_700_000_000_000)
    const next = (): Value => ({ id: formatMessageId(ids.next()), said: 0 })
    const table = new IdTable<Value>({ entries: 65_536, weight: 1 })
    const values = Array.from({ length: 3 * 65_536 }, next)
    expect(values.filter(value => table.set(value, 0)).map(value => values.indexOf(value))).toEqual([65_536, 131_072])
    const [gone, there] = [values.slice(0, 65_536), values.slice(65_536)]
    expect(there.every(value => table.get(value.id) === value)).toBe(true)
    expect([...gone, ...Array.from({ length: 1_000 }, next)].every(({ id }) => table.get(id) === undefined)).toBe(true)
  })

  test('is made for as many as a place can name', () => {
    for (const entries of [0, 65_537, Number.NaN]) expect(() => new IdTable({ entries, weight: 1 })).toThrow(new RangeError(`a generation has 1 to 65536 entries, not ${entries}`))
  })
})
