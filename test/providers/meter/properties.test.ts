/** What the rewriter promises, on random programs: the same results, the same gas however it is counted, an exact limit. */
import { expect, test } from '@jest/globals'
import fc from 'fast-check'
import { METERS, meterModule } from '../../../providers/contracts/meter/index.ts'
import { program } from '../support/wasm-programs.ts'
import { fencedRun, run } from '../support/wasm-runs.ts'
import type { Outcome } from '../support/wasm-runs.ts'

const VERSIONS = { meter: 1, schedule: 1 }
/** More than nearly all programs use; those that use more are left out. */
const AMPLE = 3_000_000n
const RUNS = 400
/** A failure is not shrunk: that takes minutes, in which nothing can stop the test. */
const SETUP = { numRuns: RUNS, endOnFailure: true }
const [{ costs }] = METERS as readonly [(typeof METERS)[number]]
const tape = fc.uint8Array({ minLength: 100, maxLength: 700, size: 'max' })

/** All that does not depend on metering. */
function seen({ left: _, reach: __, notes, ...rest }: Outcome): object {
  return { ...rest, notes: notes.map(([name, value]) => [name, value]) }
}

test('a metered program gives the results, memory, globals, traps and host calls of the unmetered one', () => {
  const ends = new Map<string, number>()
  fc.assert(fc.property(tape, (bytes) => {
    const wasm = program(bytes)
    const metered = meterModule(wasm, VERSIONS, { nan: false })
    const actual = run(metered.wasm, metered, { gas: AMPLE })
    fc.pre(actual.end !== 'gas')
    const expected = run(wasm, undefined)
    expect(seen(actual)).toEqual(seen(expected))
    ends.set(expected.end, (ends.get(expected.end) ?? 0) + 1)
  }), { ...SETUP, seed: 11 })
  // The programs are worth running: they finish and trap in several ways.
  expect(ends.get('done')).toBeGreaterThan(RUNS / 2)
  expect(ends.size).toBeGreaterThan(3)
})

test('a metered program handles NaNs as one that makes them canonical behind every instruction', () => {
  fc.assert(fc.property(tape, (bytes) => {
    const metered = meterModule(program(bytes), VERSIONS)
    const actual = run(metered.wasm, metered, { gas: AMPLE })
    fc.pre(actual.end !== 'gas')
    expect(seen(actual)).toEqual(seen(run(program(bytes, { canonical: true }), undefined)))
  }), { ...SETUP, seed: 12 })
})

test('charging by basic blocks comes to the gas of charging by instructions, also at every host call in between', () => {
  let most = 0n
  fc.assert(fc.property(tape, (bytes) => {
    const wasm = program(bytes)
    const byBlock = meterModule(wasm, VERSIONS)
    const byInstruction = meterModule(wasm, VERSIONS, { gas: 'instruction' })
    const [block, instruction] = [run(byBlock.wasm, byBlock, { gas: AMPLE }), run(byInstruction.wasm, byInstruction, { gas: AMPLE })]
    fc.pre(block.end !== 'gas')
    // What is left behind a trap was charged ahead and is void: a trap costs the limit.
    const left = (outcome: Outcome): bigint => outcome.end === 'done' || outcome.end === 'revert' ? outcome.left : 0n
    expect({ ...block, left: left(block) }).toEqual({ ...instruction, left: left(instruction) })
    if (block.end === 'done' && AMPLE - block.left > most) most = AMPLE - block.left
  }), { ...SETUP, seed: 13 })
  expect(most).toBeGreaterThan(10_000n)
})

test('a run that uses G gas ends with none left under the limit G and fails under G - 1, twice the same', () => {
  fc.assert(fc.property(tape, fc.double({ min: 0, max: 1, noNaN: true }), (bytes, part) => {
    const metered = meterModule(program(bytes), VERSIONS)
    const ample = run(metered.wasm, metered, { gas: AMPLE })
    fc.pre(ample.end === 'done')
    const used = AMPLE - ample.left
    for (let round = 0; round < 2; round++) {
      const exact = run(metered.wasm, metered, { gas: used })
      expect(exact).toEqual({ ...ample, left: 0n, notes: exact.notes })
      expect(run(metered.wasm, metered, { gas: used - 1n }).end).toBe('gas')
      expect(run(metered.wasm, metered, { gas: BigInt(Math.floor(Number(used - 1n) * part)) }).end).toBe('gas')
    }
  }), { ...SETUP, seed: 14 })
})

test('a program that would never end ends, and finishes under a limit exactly if charging by instructions lets it', () => {
  const ends = new Map<string, number>()
  fc.assert(fc.property(tape, fc.integer({ min: 0, max: 30_000 }), (bytes, limit) => {
    const wasm = program(bytes, { endless: true })
    const [byBlock, byInstruction] = [meterModule(wasm, VERSIONS), meterModule(wasm, VERSIONS, { gas: 'instruction' })]
    const options = { gas: BigInt(limit), slots: 3_000 }
    const block = fencedRun(byBlock.wasm, byBlock, options)
    const instruction = fencedRun(byInstruction.wasm, byInstruction, options)
    expect(block.end === 'done').toBe(instruction.end === 'done')
    if (block.end === 'done') expect(block).toEqual(instruction)
    // Between two checks lies at most a function's length; pages are charged before they are there.
    if (block.end === 'gas') expect(block.left).toBeGreaterThan(BigInt(-140 * wasm.length - 4 * (costs.grow.base + costs.grow.page)))
    ends.set(block.end, (ends.get(block.end) ?? 0) + 1)
  }), { ...SETUP, seed: 15 })
  for (const end of ['done', 'gas', 'stack']) expect(ends.get(end)).toBeGreaterThan(0)
})

test('a program that returned has written to no byte behind what it marked, and marked what it would with a mark for every store', () => {
  const ends = { tight: 0, far: 0 }
  fc.assert(fc.property(tape, (bytes) => {
    const wasm = program(bytes, { stores: true })
    const [metered, plain] = [meterModule(wasm, VERSIONS), meterModule(wasm, VERSIONS, { gas: 'instruction' })]
    const outcome = run(metered.wasm, metered, { gas: AMPLE })
    fc.pre(outcome.end === 'done' && outcome.written > 0)
    const { fixed, beyond } = metered.reach
    const bound = Math.max(fixed, 2 ** (32 - Math.clz32(outcome.reach)) - 1 + beyond)
    expect(outcome.written).toBeLessThanOrEqual(bound)
    expect(run(plain.wasm, plain, { gas: AMPLE })).toEqual(outcome)
    ends[bound < 65_536 ? 'tight' : 'far']++
  }), { ...SETUP, seed: 16 })
  // Programs that mark everything would show nothing.
  expect(ends.tight).toBeGreaterThan(RUNS / 10)
})
