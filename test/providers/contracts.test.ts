import { describe, expect, test } from '@jest/globals'
import type { ContractCall } from '../../services/contracts/provider.ts'
import { WasmEngine } from '../../providers/contracts/wasm.ts'
import { contractModule } from '../support/contract-module.ts'
import { LEFTOVERS } from '../support/hand-made-contracts.ts'
import { instancesMade } from '../support/instances.ts'
import { refusal } from '../support/refusal.ts'

const callOf = (address: string, name = 'run'): ContractCall => (
  { address, function: name, input: new Uint8Array(0), view: false, context: { seq: 1, timeMs: 0, caller: 'did:key:z6Mk' } })

describe('the pool of the wasm engine', () => {
  test.each([
    ['memory', 1], ['an exported global', 1], ['an exported 64-bit global', 1], ['a hidden global', 5],
    ['a global that is a reference', 5],
    ['a NaN with a payload',
      5], ['grown memory', 5], ['a table', 5], ['a grown table', 5], ['a dropped segment', 5], ['a dropped element', 5],
  ])('five calls of a contract that changes %s take %d instances', (leftover, instances) => {
    const engine = new WasmEngine()
    engine.install('0x1', LEFTOVERS[leftover]?.() ?? new Uint8Array(0), new Map())
    expect(instancesMade(() => {
      for (let i = 0; i < 5; i++) engine.call(callOf('0x1', i === 2 ? 'run_and_trap' : 'run'))
    })).toBe(instances)
  })

  test.each([
    ['a table that no code changes',
      `(type $t (func)) (table 1 funcref) (elem (i32.const 0) $f) (func $f)
       (func (export "call_run") (call_indirect (type $t) (i32.const 0)))`],
    ['data and bulk copies',
      `(data (i32.const 0) "abc")
       (func (export "call_run")
         (memory.copy (i32.const 8) (i32.const 0) (i32.const 3)) (memory.fill (i32.const 0) (i32.const 9) (i32.const 9)))`],
    ['a segment it copies but never drops',
      '(data $d "abc") (func (export "call_run") (memory.init $d (i32.const 8) (i32.const 0) (i32.const 3)))'],
  ])('%s does not cost the pool', (_what, body) => {
    const engine = new WasmEngine()
    engine.install('0x1', contractModule(body), new Map())
    expect(instancesMade(() => {
      for (let i = 0; i < 5; i++) expect(engine.call(callOf('0x1')).ok).toBe(true)
    })).toBe(1)
  })

  test('no more idle instances are kept than allowed', () => {
    const engine = new WasmEngine({ instances: 2 })
    const wasm = contractModule('(func (export "call_run"))')
    for (const address of ['0x1', '0x2', '0x3']) engine.install(address, wasm, new Map())
    const calls = (...addresses: string[]) => instancesMade(() => {
      for (const address of addresses) engine.call(callOf(address))
    })
    expect(calls('0x1', '0x2', '0x1', '0x2')).toBe(2)
    expect(calls('0x3')).toBe(1)
    expect(calls('0x2', '0x3')).toBe(0)
    expect(calls('0x1')).toBe(1)
    engine.remove('0x1')
    expect(calls('0x2')).toBe(1)
    expect(calls('0x3', '0x2')).toBe(0)
  })

  test.each([0, 10_001, 1.5])('%d idle instances are refused', (instances) => {
    const refused = refusal(() => new WasmEngine({ instances }))
    expect(refused.code).toBe('CMESH_CONFIG_INVALID')
    expect(refused.message).toBe('The setting instances is not valid: it is not a whole number from 1 to 10,000.')
  })

  test('all code of a contract runs between onEnter and onLeave, also when it fails', () => {
    const seen: string[] = []
    const engine = new WasmEngine({ onEnter: (address) => seen.push(`enter ${address}`), onLeave: () => seen.push('leave') })
    engine.install('0x1', contractModule('(func (export "_start") (unreachable)) (func (export "call_run"))'), new Map())
    engine.install('0x2', contractModule('(func (export "call_run"))'), new Map())
    expect(seen).toEqual([])
    engine.call(callOf('0x1'))
    engine.call(callOf('0x2'))
    engine.call(callOf('0x2', 'missing'))
    expect(seen).toEqual(['enter 0x1', 'leave', 'enter 0x2', 'leave'])
  })
})
