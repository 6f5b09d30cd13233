/** What no contract may do to any engine: hostile arguments, work without end, more of everything than is allowed. */
import { describe, expect, test } from '@jest/globals'
import fc from 'fast-check'
import { contractModule } from '../support/contract-module.ts'
import { ADDRESS, GAS, OTHER, Rig, bytes, failure, i32s, output, snapshot, success } from '../support/engine-rig.ts'
import { HOST_FUNCTIONS, RAW_FQMN_AT, rawModule, relayModule } from '../support/hand-made-contracts.ts'
import type { HostFunctionName } from '../support/hand-made-contracts.ts'
import type { EngineMaker } from './contracts.ts'

/** All that a contract can fail with. */
const FAILURES = [
  'REVERT', 'OUT_OF_GAS', 'STACK', 'TRAP', 'CALL_DEPTH', 'READONLY', 'ABI', 'UTF8', 'KEY_SIZE', 'VALUE_SIZE', 'OUTPUT_SIZE', 'MEMORY_OOB',
  'ADDRESS', 'DENIED', 'NO_CONTRACT', 'NO_FUNCTION', 'LIMIT',
]
const FQMN = `0xSW:${OTHER}:put`
/** Boundaries of every range there is, and of memory of 1 and of 4 pages. */
const EDGES = [
  0, 1, 4, 16, 32, 64, 255, 256, 257, RAW_FQMN_AT, FQMN.length, 4_096, 4_097, 65_504, 65_535, 65_536, 65_537, 262_112, 262_143, 262_144,
  0x3fffff, 0x400000, 0x7fffffff, -0x80000000, -65_536, -256, -4, -1,
]
const NO_END = contractModule(`
  (func $write (call $set (i32.const 0) (i32.const 4) (i32.const 0) (i32.const 4)) (call $emit (i32.const 0) (i32.const 1) (i32.const 0) (i32.const 4)))
  (data (i32.const 0) "some")
  (type $none (func)) (table 2 funcref) (elem (i32.const 0) $deep $indirect)
  (func (export "call_spin") (call $write) (loop $l (br $l)))
  (func (export "call_allocate") (call $write) (loop $l (drop (memory.grow (i32.const 1))) (memory.fill (i32.const 0) (i32.const 1) (i32.const 65536)) (br $l)))
  (func $deep (call $deep) (call $write))
  (func (export "call_recurse") (call $write) (call $deep))
  (func $indirect (call_indirect (type $none) (i32.const 1)) (call $write))
  (func (export "call_recurse_indirectly") (call $write) (call $indirect))
  (func (export "call_keys") (local $i i32)
    (loop $l (i32.store (i32.const 8) (local.get $i)) (call $set (i32.const 8) (i32.const 4) (i32.const 0) (i32.const 4))
      (br_if $l (i32.lt_u (local.tee $i (i32.add (local.get $i) (i32.const 1))) (i32.const 10000)))))
  (func (export "call_events") (local $i i32)
    (loop $l (call $emit (i32.const 0) (i32.const 4) (i32.const 0) (i32.const 4))
      (br_if $l (i32.lt_u (local.tee $i (i32.add (local.get $i) (i32.const 1))) (i32.const 10000)))))
  (func (export "call_fill") (call $write) (memory.fill (i32.const 0) (i32.const 0) (i32.const -1)))
  (func (export "call_hash") (call $write) (loop $l (call $sha256 (i32.const 0) (i32.const 65536) (i32.const 0)) (br $l)))
  (func (export "call_scan") (call $write)
    (loop $l (drop (call $scan (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 256) (i32.const 0))) (br $l)))`)

export function hostileConformance(engine: EngineMaker): void {
  describe('hostile contracts', () => {
    test('20,000 host calls with hostile arguments: no escape, and a failed one changes nothing', () => {
      const rig = new Rig(engine(), rawModule(FQMN), new Map([['other', bytes('1')]]))
      const inner = new Map<string, Uint8Array>()
      rig.engine.install(OTHER, relayModule(), inner)
      const names = Object.keys(HOST_FUNCTIONS) as HostFunctionName[]
      const number = fc.oneof({ weight: 3, arbitrary: fc.constantFrom(...EDGES) }, { weight: 2, arbitrary: fc.nat(3) }, { weight: 1, arbitrary: fc.integer() })
      // Every third call is given a good address or key to begin with, or it would never come to one.
      const numbers = fc.array(number, { minLength: 7, maxLength: 7 })
      const good = fc.tuple(fc.constantFrom([RAW_FQMN_AT, FQMN.length], [0, 4]), numbers).map(([begin, [, , ...rest]]) => [...begin, ...rest])
      const some = fc.oneof({ weight: 2, arbitrary: numbers }, { weight: 1, arbitrary: good })
      const hostile = fc.tuple(fc.constantFrom(...names), fc.nat(7).map((n) => n === 0), fc.boolean(), some)
      const seen = new Map<string, number>()
      const escapes: string[] = []
      fc.assert(fc.property(hostile, ([fn, grown, view, args]) => {
        rig.space.set('args', i32s(...args))
        const before = JSON.stringify([snapshot(rig.space), snapshot(inner)])
        const result = rig.raw(grown ? `grown_${fn}` : fn, args, { view, input: bytes('["x"]') })
        const outcome = result.ok ? `${fn} ok` : failure(result)[0]
        seen.set(outcome, (seen.get(outcome) ?? 0) + 1)
        const escape = (what: string): void => { escapes.push(`${what} by ${fn} of ${args.join(' ')}`) }
        if (!(result.gas > 0 && result.gas <= GAS)) escape(`${result.gas} gas`)
        if (!result.ok && !FAILURES.includes(outcome)) escape(outcome)
        for (const { key, value } of result.ok ? result.writes : []) {
          if (key.length > 256 || (value?.length ?? 0) > 65_536) escape('a size')
        }
        const changes = result.ok && result.writes.length > 0
        if (!changes && JSON.stringify([snapshot(rig.space), snapshot(inner)]) !== before) escape('a change')
        for (const key of [...rig.space.keys()]) if (key !== 'other' && key !== 'args') rig.space.delete(key)
        rig.space.set('other', bytes('1'))
        inner.clear()
      }), { numRuns: 20_000, seed: 20 })
      expect(escapes).toEqual([])
      // Neither all was refused nor all let through: each function was seen to succeed, and most ways to fail were met.
      for (const name of names) if (name !== 'fail') expect([name, (seen.get(`${name} ok`) ?? 0) > 0]).toEqual([name, true])
      const met = FAILURES.filter((kind) => (seen.get(kind) ?? 0) > 0)
      expect(met).toEqual(expect.arrayContaining(['REVERT', 'READONLY', 'ABI', 'UTF8', 'KEY_SIZE', 'VALUE_SIZE', 'OUTPUT_SIZE', 'MEMORY_OOB', 'ADDRESS', 'OUT_OF_GAS']))
      expect(rig.call('reglen').ok).toBe(true)
    })

    test.each([
      ['spin', 'OUT_OF_GAS', 'its limit was 20000000'],
      ['allocate', 'OUT_OF_GAS', 'its limit was 20000000'],
      ['recurse', 'STACK', 'its functions nest too deeply'],
      ['recurse_indirectly', 'STACK', 'its functions nest too deeply'],
      ['keys', 'LIMIT', 'a call writes at most 4096 keys'],
      ['events', 'LIMIT', 'a call emits at most 256 events'],
      ['fill', 'OUT_OF_GAS', 'its limit was 20000000'],
      ['hash', 'OUT_OF_GAS', 'its limit was 20000000'],
      ['scan', 'OUT_OF_GAS', 'its limit was 20000000'],
    ])('%s without end is %s, charged in full, and nothing else is disturbed', (name, code, reason) => {
      const rig = new Rig(engine(), NO_END)
      const other = new Map<string, Uint8Array>()
      rig.engine.install(OTHER, relayModule(), other)
      const result = rig.call(name)
      expect([failure(result), result.gas, rig.space.size]).toEqual([[code, reason], GAS, 0])
      const after = success(rig.call('put', { address: OTHER }))
      expect([after.writes.length, after.events.length, other.size]).toEqual([1, 1, 1])
    })

    test('a contract that sends to itself sends once a call', () => {
      const rig = new Rig(engine(), relayModule())
      const { sends } = success(rig.call('put'))
      expect(sends.map(({ from, fqmn }) => [from, fqmn])).toEqual([[ADDRESS, `0xSW:${ADDRESS}:again`]])
    })

    test('failing inner calls without end are paid for by the outer contract', () => {
      const looping = contractModule(`
        (data (i32.const 0) "0xSW:${OTHER}:put_and_trap")
        (func (export "call_loop") (loop $l
          (drop (call $call (i32.const 0) (i32.const 84) (i32.const 0) (i32.const 0) (i64.const 20000))) (br $l)))`)
      const rig = new Rig(engine(), looping)
      const inner = new Map<string, Uint8Array>()
      rig.engine.install(OTHER, relayModule(), inner)
      const result = rig.call('loop')
      expect([failure(result), result.gas, inner.size]).toEqual([['OUT_OF_GAS', 'its limit was 20000000'], GAS, 0])
      expect(output(rig.call('look', { address: OTHER }))).toBe('-')
    })
  })
}
