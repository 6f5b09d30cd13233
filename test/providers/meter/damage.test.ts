/**
 * Modules with flipped bits: nothing but a coded refusal ever comes of them, and what is accepted is valid WebAssembly when it is rewritten.
 * And modules made to cost their reader much: what comes of them stays in proportion.
 */
import { describe, expect, test } from '@jest/globals'
import { METER_LIMITS, meterModule, readModule } from '../../../providers/contracts/meter/index.ts'
import { attempt, refusal } from '../../support/refusal.ts'
import { contractModule } from '../../support/contract-module.ts'
import { body, custom, name, rawModule, u32, vector } from '../support/raw-module.ts'
import type { RawModule } from '../support/raw-module.ts'
import { program } from '../support/wasm-programs.ts'

const VERSIONS = { meter: 1, schedule: 1 }
const FLIPPED = 50_000

/** A multiplicative congruential generator, so that the same modules come every time. */
function* numbers(seed: number): Generator<number, never> {
  let state = seed
  for (;;) {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0
    yield state >>> 8
  }
}

function modules(): Uint8Array[] {
  const random = numbers(5)
  const tapes = Array.from({ length: 12 }, () => Uint8Array.from({ length: 120 }, () => random.next().value))
  const typical = contractModule(`(global $g (mut i32) (i32.const 1)) (table 2 funcref) (elem (i32.const 0) $f $f) (data $d "data")
    (func $f (param i32) (result i32) (if (result i32) (local.get 0) (then (call $f (i32.sub (local.get 0) (i32.const 1)))) (else (memory.grow (i32.const 1)))))
    (func (export "call_a") (local f64) (local.set 0 (f64.div (f64.load (i32.const 8)) (f64.const 3))) (memory.init $d (i32.const 0) (i32.const 0) (i32.const 4))
      (loop $l (br_if $l (call_indirect (param i32) (result i32) (i32.const 3) (global.get $g)))) (call $set (i32.const 0) (i32.const 4) (i32.const 8) (i32.const 8)))`)
  return [typical, ...tapes.map((tape) => program(tape))]
}

test('50,000 modules with flipped bits are refused with a code, or accepted and rewritten to valid WebAssembly', () => {
  const random = numbers(6)
  const next = (below: number): number => random.next().value % below
  const originals = modules()
  const outcomes = new Map<string, number>()
  for (let round = 0; round < FLIPPED; round++) {
    const wasm = originals[round % originals.length]?.slice() ?? new Uint8Array()
    for (let flips = 1 + next(3); flips > 0; flips--) {
      const at = 8 + next(wasm.length - 8)
      wasm[at] = (wasm[at] ?? 0) ^ (1 << next(8))
    }
    const { refusal: refused } = attempt(() => meterModule(wasm, VERSIONS))
    // `meterModule` validates what it made; that this fails would be the rewriter's fault.
    if (refused?.message.includes('metered form') === true) throw new Error(`round ${round}: ${refused.message}`)
    const outcome = refused?.code ?? 'accepted'
    outcomes.set(outcome, (outcomes.get(outcome) ?? 0) + 1)
  }
  expect([...outcomes.keys()].filter((outcome) => outcome !== 'accepted' && !outcome.startsWith('CMESH_DEPLOY_'))).toEqual([])
  // Enough of each kind for the test to mean something.
  expect(outcomes.get('accepted')).toBeGreaterThan(FLIPPED / 10)
  expect(outcomes.size).toBeGreaterThan(8)
})

test('a module cut off anywhere is refused with a code or is a smaller module', () => {
  for (const original of modules().slice(0, 3)) {
    for (let length = 8; length < original.length; length++) {
      const { refusal: refused } = attempt(() => meterModule(original.subarray(0, length), VERSIONS))
      if (refused !== undefined) expect(refused.code).toMatch(/^CMESH_DEPLOY_/)
    }
  }
})

describe('a module made to be costly', () => {
  const many = (count: number, item: readonly number[]): number[] => new Array<readonly number[]>(count).fill(item).flat()
  const KIB = 1_024

  const ROWS: readonly (readonly [title: string, raw: RawModule])[] = [
    ['thousands of empty functions', { bodies: Array.from({ length: METER_LIMITS.functions }, () => body()) }],
    ['thousands of exports', { exports: Array.from({ length: METER_LIMITS.exports }, (_, index) => [...name(`export${index}`), 2, 0]) }],
    ['thousands of groups of locals', { bodies: [[...u32(30_000), ...many(30_000, [0, 0x7f]), 0x0b]] }],
    ['all locals in every function', { bodies: Array.from({ length: 4_000 }, () => [1, ...u32(METER_LIMITS.locals), 0x7e, 0x0b]) }],
    ['the deepest nesting', { bodies: Array.from({ length: 80 }, () => body(...many(255, [0x02, 0x40]), ...many(255, [0x0b]))) }],
    ['the largest tables of branches', { bodies: Array.from({ length: 3 }, () => body(...many(50, [0x02, 0x40, 0x41, 0, 0x0e, ...u32(1_024), ...many(1_025, [0]), 0x0b]))) }],
    ['the largest types', { types: Array.from({ length: METER_LIMITS.types }, () => [0x60, 64, ...many(64, [0x7e]), 1, 0x7e]) }],
    ['a chain of branches', { bodies: [body(...many(16_000, [0x41, 0, 0x0d, 0]))] }],
    ['nothing but loops', { bodies: Array.from({ length: 3 }, () => body(...many(20_000, [0x03, 0x40, 0x0b]))) }],
    ['nothing but turning loops', { bodies: Array.from({ length: 3 }, () => body(...many(9_000, [0x03, 0x40, 0x41, 0, 0x0d, 0, 0x0b]))) }],
    ['nothing but square roots', { bodies: Array.from({ length: 4 }, () => [1, 1, 0x7c, ...many(10_000, [0x20, 0, 0x9f, 0x21, 0]), 0x0b]) }],
    ['square roots that need no canonical form', { bodies: Array.from({ length: 4 }, () => [1, 1, 0x7c, 0x20, 0, ...many(60_000, [0x9f]), 0x1a, 0x0b]) }],
    ['many custom sections', { behind: many(METER_LIMITS.customSections, custom('x'.repeat(200), many(3 * KIB, [0]))) }],
    ['a name section of its own size', { behind: custom('name', [1, ...sized(vector(Array.from({ length: 20_000 }, (_, index) => [...u32(index), ...name('f')])))]) }],
  ]

  test.each(ROWS)('by %s stays in proportion', (_, raw) => {
    const wasm = rawModule(raw)
    expect(wasm.length).toBeLessThanOrEqual(METER_LIMITS.moduleBytes)
    expect(WebAssembly.validate(wasm)).toBe(true)
    const metered = meterModule(wasm, VERSIONS)
    expect(metered.wasm.length).toBeLessThanOrEqual(METER_LIMITS.meteredBytes + METER_LIMITS.moduleBytes)
  })

  test('beyond a frame of 4,096 slots or a megabyte of output is refused, with the function', () => {
    const deep = rawModule({ bodies: [body(...many(5_000, [0x41, 0]), ...many(5_000, [0x1a]))] })
    const wide = refusal(() => meterModule(deep, VERSIONS))
    expect(wide.code).toBe('CMESH_DEPLOY_LIMIT')
    expect(wide.message).toBe('The module goes over a limit (function 0, byte 29): its frame takes 5016 stack slots; at most 4096 are allowed. Split it into several functions.')
    const large = rawModule({ bodies: Array.from({ length: 4 }, () => [1, 1, 0x7c, ...many(12_000, [0x20, 0, 0x9f, 0x21, 0]), 0x0b]) })
    const grown = refusal(() => meterModule(large, VERSIONS))
    expect(grown.code).toBe('CMESH_DEPLOY_LIMIT')
    expect(grown.message).toContain('with it the metered code has more than 1048576 bytes')
  })

  test('by vectors that announce more than they hold is refused at once', () => {
    for (const section of [1, 2, 3, 6, 7, 9, 10, 11]) {
      const wasm = Uint8Array.from([0, 0x61, 0x73, 0x6d, 1, 0, 0, 0, section, 5, ...u32(0xffffffff)])
      expect(refusal(() => readModule(wasm)).code).toBe('CMESH_DEPLOY_LIMIT')
    }
  })
})

function sized(content: readonly number[]): number[] {
  return [...u32(content.length), ...content]
}
