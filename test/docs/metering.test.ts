/** `docs/metering.md` says of costs and limits what the meter does. */
import { expect, test } from '@jest/globals'
import { COST_CLASS_MEANINGS, METERS, METER_LIMITS } from '../../providers/contracts/meter/index.ts'
import type { CostClass, Meter } from '../../providers/contracts/meter/index.ts'
import { docTable } from '../support/doc-table.ts'
import { projectFile } from '../support/sources.ts'

const { costs, schedule } = METERS.at(-1) as Meter
const grouped = (value: number): string => value.toLocaleString('en')

async function holds(name: string, head: readonly string[], rows: readonly (readonly string[])[]): Promise<void> {
  const { written, expected } = await docTable('metering.md', name, head, rows)
  expect(written).toBe(expected)
}

test('docs/metering.md is about the newest schedule', () => {
  expect(schedule).toBe(costs.version)
  expect(projectFile('docs/metering.md')).toContain(`\n## Schedule ${schedule}\n`)
})

test('docs/metering.md says what every class of instructions costs', async () => {
  await holds('instructions', ['class', 'gas', 'instructions'],
    Object.entries(COST_CLASS_MEANINGS).map(([name, meaning]) => [`\`${name}\``, grouped(costs.instruction[name as CostClass]), meaning]))
})

test('docs/metering.md says what is charged by size', async () => {
  await holds('sizes', ['what', 'gas'], [
    ['entering a function', grouped(costs.entry.base)],
    [`each ${costs.entry.localsPerGas} of its locals, parameters included, or part of them`, '1'],
    ['a memory that grows, be it by nothing', grouped(costs.grow.base)],
    ['each page by which it grows', grouped(costs.grow.page)],
    [`each ${costs.bulkBytesPerGas} whole bytes of a bulk memory instruction`, '1'],
    ['entering a contract, from outside or by a nested call', grouped(costs.contract.base)],
    ['each page of memory that its instance starts with', grouped(costs.contract.page)],
    ['an instance that cannot be put back, since a global of it is NaN', grouped(costs.grow.base)],
    [`each export of it beyond ${costs.contract.exports.free}`, grouped(costs.contract.exports.each)],
    [`each mutable global beyond ${costs.contract.globals.free}`, grouped(costs.contract.globals.each)],
    [`each function in element segments beyond ${costs.contract.elements.free}`, grouped(costs.contract.elements.each)],
  ])
})

test('docs/metering.md says what every host function costs', async () => {
  await holds('host', ['function', 'base', 'each byte', 'each entry'],
    Object.entries(costs.host).map(([name, { base, byte, entry }]) => [`\`${name}\``, grouped(base), grouped(byte), entry === undefined ? '–' : grouped(entry)]))
})

test('docs/metering.md says every limit with its meaning', async () => {
  const source = projectFile('providers/contracts/meter/limits.ts')
  const meanings = new Map([...source.matchAll(/\/\*\* (.+) \*\/\n {2}(\w+):/g)].map(([, meaning = '', name = '']) => [name, meaning]))
  await holds('limits', ['limit', 'value', 'meaning'],
    Object.entries(METER_LIMITS).map(([name, value]) => [`\`${name}\``, grouped(value), meanings.get(name) ?? 'MISSING']))
})
