/** What every contract engine must charge, and what it must do when that is too much. */
import { describe, expect, test } from '@jest/globals'
import { contractModule } from '../support/contract-module.ts'
import { ADDRESS, OTHER, Rig, bytes, callOf, failure, success } from '../support/engine-rig.ts'
import { failingModule, relayModule } from '../support/hand-made-contracts.ts'
import { refusal } from '../support/refusal.ts'
import type { EngineMaker } from './contracts.ts'

const STARTING = `
  (global $g (mut i32) (i32.const 0))
  (func (export "_start") (loop $l (global.set $g (i32.add (global.get $g) (i32.const 1))) (br_if $l (i32.lt_u (global.get $g) (i32.const 500)))))
  (func (export "call_run") (call $output (i32.const 0) (i32.const 3)))`
const GROWING = '(func (export "call_run") (drop (memory.grow (i32.const 3))) (memory.fill (i32.const 0) (i32.const 0) (i32.const 200000)))'

export function gasConformance(engine: EngineMaker): void {
  describe('gas', () => {
    test.each([
      ['host functions', failingModule(), 'dirty', ''],
      ['a start', contractModule(STARTING), 'run', ''],
      ['memory that grows', contractModule(GROWING), 'run', ''],
      ['nested calls', relayModule(), 'relay', `0xSW:${ADDRESS}:relay 0xSW:${ADDRESS}:put`],
      ['a nested call that fails', relayModule(), 'relay', `0xSW:${ADDRESS}:limited 0xSW:${ADDRESS}:put_and_trap`],
    ])('%s: a call that needs G succeeds under G with none left and fails under G − 1, again and again', (_what, wasm, name, input) => {
      const { engine: made } = new Rig(engine(), wasm)
      const run = (gasLimit: number) => made.dryRun(callOf(name, { gasLimit, input: bytes(input) }))
      const { gas } = success(run(20_000_000))
      expect(gas).toBeGreaterThan(1_000)
      // A nested call gets 63/64 of what is left, so that less than that is needed only where nothing nests.
      const enough = input === '' ? gas : smallest(gas, 40 * gas, (limit) => run(limit).ok && success(run(limit)).gas === gas)
      for (let times = 0; times < 2; times++) {
        expect(success(run(enough))).toMatchObject({ gas })
        if (input === '') expect(run(gas - 1)).toMatchObject({ ok: false, gas: gas - 1 })
        if (input === '') expect(failure(run(gas - 1))).toEqual(['OUT_OF_GAS', `its limit was ${gas - 1}`])
        expect([failure(run(1)), run(1).gas]).toEqual([['OUT_OF_GAS', 'its limit was 1'], 1])
      }
    })

    test('a start that ran once is charged to every call as if it ran', () => {
      const [made, again] = [new Rig(engine(), contractModule(STARTING)), new Rig(engine(), contractModule(STARTING))]
      const first = success(made.call('run')).gas
      expect([success(made.call('run')).gas, success(again.call('run')).gas]).toEqual([first, first])
      const plain = new Rig(engine(), contractModule(STARTING.replace('_start', 'begin')))
      expect(first - success(plain.call('run')).gas).toBeGreaterThan(2_000)
    })

    test('a refusal costs what was done, any other failure the whole limit, a function that does not exist what entering does', () => {
      const { call } = new Rig(engine(), failingModule())
      const gasOf = (name: string) => call(name, { gasLimit: 1_000_000 }).gas
      expect(gasOf('revert')).toBeGreaterThan(success(call('dirty')).gas)
      expect(gasOf('revert')).toBeLessThan(success(call('dirty')).gas + 1_000)
      for (const name of ['trap', 'stack', 'gas', 'pointer', 'limit', 'text', 'abi']) expect([name, gasOf(name)]).toEqual([name, 1_000_000])
      expect(gasOf('missing')).toBe(10_000)
      expect(call('missing', { gasLimit: 7 }).gas).toBe(7)
    })

    test('an instance costs by the memory it starts with', () => {
      const gasOf = (pages: number) => success(new Rig(engine(),
        contractModule('(func (export "call_run"))', { memory: `(memory (export "memory") ${pages} 64)` })).call('run')).gas
      expect(gasOf(64) - gasOf(32)).toBe(32 * (gasOf(2) - gasOf(1)))
      expect(gasOf(2)).toBeGreaterThan(gasOf(1))
    })

    test('ctx(2) is what is left', () => {
      const { call, space } = new Rig(engine(), contractModule(`
        (func (export "call_run") (i64.store (i32.const 0) (call $ctx (i32.const 2))) (call $set (i32.const 8) (i32.const 1) (i32.const 0) (i32.const 8)))`))
      const left = (gasLimit: number) => {
        success(call('run', { gasLimit }))
        return Number(new DataView(Uint8Array.from(space.get('\0') ?? []).buffer).getBigUint64(0, true))
      }
      expect(left(200_000) - left(100_000)).toBe(100_000)
      expect(left(Number.MAX_SAFE_INTEGER)).toBe(Number.MAX_SAFE_INTEGER - 100_000 + left(100_000))
    })

    test.each([0, -1, 1.5, 2 ** 53, NaN, Infinity])('a limit of %d is the host\'s mistake', (gasLimit) => {
      const { call } = new Rig(engine(), failingModule())
      const refused = refusal(() => call('dirty', { gasLimit }))
      expect([refused.code, refused.detail['reason']]).toEqual(['CMESH_CONTRACT_HOST', `${gasLimit} is no limit of gas`])
    })

    test('the newest meter is in force, and no other than a known one can be put in force', () => {
      const made = engine()
      expect(made.meter).toEqual(made.meters.at(-1))
      const refused = refusal(() => { made.useMeter({ meter: 99, schedule: 1 }) })
      const { meter, schedule } = made.meter
      expect([refused.code, refused.message]).toEqual(['CMESH_DEPLOY_METER',
        `Gas is asked to be counted by meter 99, schedule 1; here it is counted by meter ${meter}, schedule ${schedule}.`])
      expect(made.meter).toEqual({ meter, schedule })
      made.useMeter(made.meter)
    })
  })

  describe('a run without a trace', () => {
    test('dryRun says what a call would do and keeps none of it', () => {
      const { engine: made, space, call } = new Rig(engine(), failingModule(), new Map([['kept', bytes('1')]]))
      const dry = made.dryRun(callOf('dirty'))
      expect([...space.keys()]).toEqual(['kept'])
      expect(call('dirty')).toEqual(dry)
      expect([...space.keys()]).toEqual(['kept', 'new!'])
      expect(refusal(() => made.dryRun(callOf('dirty', { address: OTHER }))).code).toBe('CMESH_STATE_NO_CONTRACT')
    })
  })
}

/** The smallest number from `low` to `high` that holds, when all above it do. */
function smallest(low: number, high: number, holds: (value: number) => boolean): number {
  while (low < high) {
    const middle = Math.floor((low + high) / 2)
    if (holds(middle)) high = middle
    else low = middle + 1
  }
  return low
}
