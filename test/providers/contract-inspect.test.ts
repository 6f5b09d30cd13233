/** What the engine checks of a module beyond what the meter does (`meter/`): its exports, its ABI, and that both together hold. */
import { describe, expect, test } from '@jest/globals'
import fc from 'fast-check'
import { parseAbi } from '../../providers/contracts/abi.ts'
import { WasmEngine } from '../../providers/contracts/wasm.ts'
import { MEMORY, abiText, contractModule } from '../support/contract-module.ts'
import { callOf } from '../support/engine-rig.ts'
import { LEFTOVERS } from '../support/hand-made-contracts.ts'
import { attempt, refusal } from '../support/refusal.ts'

const engine = new WasmEngine()
const RUN = '(func (export "call_run"))'
const bytes = (text: string): Uint8Array => new Uint8Array(Buffer.from(text))

const refusedWith = (act: () => unknown) => {
  const { code, message } = refusal(act)
  return { code, message }
}
const refused = (wasm: Uint8Array) => refusedWith(() => engine.inspect(wasm))
const refusedAbi = (reason: string) => ({ code: 'CMESH_DEPLOY_ABI', message: `The ABI of the module is not valid: ${reason}.` })
const refusedExport = (name: string, reason: string) => ({
  code: 'CMESH_DEPLOY_EXPORT', message: `The exports of the module are not right at ${name}: ${reason}.`,
})

describe('inspect', () => {
  test('reports a sound module and keeps nothing', () => {
    const abi = abiText([{ name: 'run', mode: 'view', params: [{ name: 'by', type: 'u64', default: 1, more: 'unknown' }],
      returns: 'string', more: 'unknown' }])
    const imports = '(import "cmesh" "seed" (func $seed (param i32))) (import "cmesh" "get" (func $get (param i32 i32) (result i32)))'
    const wasm = contractModule(RUN, { abi, imports })
    const report = engine.inspect(wasm)
    expect(report).toEqual({
      abi: { abi: 1, sdk: 'none', functions: [{ name: 'run', mode: 'view', params: [{ name: 'by', type: 'u64', default: 1 }],
        returns: 'string' }], events: [] },
      bytes: wasm.length, meteredBytes: expect.any(Number), functions: 1, imports: ['cmesh.seed', 'cmesh.get'],
    })
    expect([engine.has('run'), engine.held.codes]).toEqual([false, 0])
  })

  test.each([
    ['no memory', '', RUN, 'CMESH_DEPLOY_MEMORY'],
    ['a memory that is not exported', '(memory 1 64)', RUN, 'CMESH_DEPLOY_EXPORT'],
    ['a function for a memory', '(memory 1 64)', `${RUN} (func (export "memory"))`, 'CMESH_DEPLOY_EXPORT'],
  ])('refuses %s', (_what, memory, body, code) => {
    expect(refused(contractModule(body, { memory, abi: abiText([{ name: 'run' }]) })).code).toBe(code)
  })

  test('refuses a function of the ABI that is not exported, or is none', () => {
    expect(refused(contractModule(RUN, { abi: abiText([{ name: 'run' }, { name: 'walk' }]) })))
      .toEqual(refusedExport('call_walk', 'there is no such function'))
    expect(refused(contractModule('(global (export "call_run") i32 (i32.const 0))', { memory: MEMORY, abi: abiText([{ name: 'run' }]) })))
      .toEqual(refusedExport('call_run', 'there is no such function'))
  })

  test.each([
    ['a parameter', '(func (export "call_run") (param i64))', 'call_run', 'it is (i64) -> () instead of () -> ()'],
    ['a result', '(func (export "call_run") (result i32) (i32.const 0))', 'call_run', 'it is () -> (i32) instead of () -> ()'],
    ['a start export that takes something',
      `${RUN} (func (export "_start") (param f32 f64))`, '_start', 'it is (f32, f64) -> () instead of () -> ()'],
  ])('refuses an entry with %s', (_what, body, name, reason) => {
    expect(refused(contractModule(body))).toEqual(refusedExport(name, reason))
  })

  test('refuses a module without the ABI section, or with two', () => {
    expect(refused(contractModule(RUN, { abi: undefined }))).toEqual(refusedAbi('there is no section cmesh.abi'))
    const another = Uint8Array.from([...contractModule(RUN), 0, 10, 9, ...bytes('cmesh.abi')])
    expect(refused(another)).toEqual(refusedAbi('there is more than one section cmesh.abi'))
  })

  test('refuses a segment that does not fit, which only an instance shows', () => {
    const message = 'a segment does not fit into its memory or table'
    expect(refused(contractModule(`(data (i32.const 65536) "x") ${RUN}`)).message).toContain(message)
    expect(refused(contractModule(`(table 1 funcref) (elem (i32.const 1) $f) (func $f) ${RUN}`)).message).toContain(message)
  })

  test('whatever inspect takes, install takes and a call survives', () => {
    let taken = 0
    const sample = LEFTOVERS['a hidden global']?.() ?? new Uint8Array(0)
    for (let at = 8; at < sample.length; at++) {
      for (const flip of [0x01, 0x40, 0xff]) {
        const wasm = Uint8Array.from(sample)
        wasm[at] = (wasm[at] ?? 0) ^ flip
        const { refusal: refusedBy } = attempt(() => engine.inspect(wasm))
        if (refusedBy !== undefined) {
          expect(refusedBy.code).toMatch(/^CMESH_DEPLOY_/)
          continue
        }
        taken++
        const abi = engine.install('0x1', wasm, new Map())
        for (const { name } of abi.functions) {
          expect(typeof engine.call(callOf(name, { address: '0x1', gasLimit: 1_000_000 })).ok).toBe('boolean')
        }
      }
    }
    expect(taken).toBeGreaterThan(30)
  })
})

describe('the ABI section', () => {
  const run = { name: 'run', mode: 'write', params: [], returns: 'void' }
  const whole = { abi: 1, sdk: '0.1', functions: [run], events: [{ name: 'signed', fields: [{ name: 'by', type: 'string' }] }] }

  test('is given back without what is unknown', () => {
    expect(parseAbi(bytes(JSON.stringify({ ...whole, more: 1 })))).toEqual(whole)
  })

  test.each<[string, unknown, string]>([
    ['a number', 1, 'it is not an object'],
    ['a list', [], 'it is not an object'],
    ['another version', { ...whole, abi: 2 }, 'its version is not 1'],
    ['no sdk', { ...whole, sdk: undefined }, 'sdk is not a text of 1 to 64 characters'],
    ['no functions', { ...whole, functions: [] }, 'it lists no function'],
    ['too many functions', { ...whole, functions: Array(257).fill(run) }, 'functions is not a list of at most 256'],
    ['no events', { ...whole, events: undefined }, 'events is not a list of at most 256'],
    ['a function that is null', { ...whole, functions: [null] }, 'a function is not an object'],
    ['a name with a colon',
      { ...whole, functions: [{ ...run, name: 'a:b' }] },
        'a name is not a letter or _ followed by at most 63 letters, digits or _'],
    ['a long name',
      { ...whole, functions: [{ ...run, name: 'a'.repeat(65) }] },
        'a name is not a letter or _ followed by at most 63 letters, digits or _'],
    ['an unknown mode', { ...whole, functions: [{ ...run, mode: 'admin' }] }, 'the mode of run is not one of view, write, init, migrate, reply'],
    ['two init functions',
      { ...whole, functions: [{ ...run, mode: 'init' }, { ...run, name: 'b', mode: 'init' }] },
        'it lists more than one init function'],
    ['two migrate functions',
      { ...whole, functions: [{ ...run, mode: 'migrate' }, { ...run, name: 'b', mode: 'migrate' }] },
        'it lists more than one migrate function'],
    ['a name twice', { ...whole, functions: [run, run] }, 'run stands twice'],
    ['a parameter twice',
      { ...whole, functions: [{ ...run, params: [{ name: 'a', type: 'u32' }, { name: 'a', type: 'u32' }] }] }, 'a stands twice'],
    ['a default that is an object',
      { ...whole, functions: [{ ...run, params: [{ name: 'a', type: 'u32', default: {} }] }] },
        'the default of a is not a scalar'],
    ['no result', { ...whole, functions: [{ ...run, returns: '' }] }, 'the result of run is not a text of 1 to 64 characters'],
  ])('is refused with %s', (_what, value, reason) => {
    expect(refusedWith(() => parseAbi(bytes(JSON.stringify(value))))).toEqual(refusedAbi(reason))
  })

  test('is refused when it is not JSON in UTF-8', () => {
    for (const content of [new Uint8Array(0), bytes('{'), Uint8Array.of(0x22, 0xff, 0x22)]) {
      expect(refusedWith(() => parseAbi(content))).toEqual(refusedAbi('the text is not JSON in UTF-8'))
    }
  })

  test('any JSON gives an ABI or CMESH_DEPLOY_ABI', () => {
    const orAnything = <T>(...values: T[]) => fc.oneof(fc.constantFrom(...values), fc.anything())
    const entry = fc.record({
      name: orAnything('run', '__proto__'), mode: orAnything('view'), params: orAnything([]), returns: orAnything('void'),
    }, { requiredKeys: [] })
    const abi = fc.oneof(fc.anything(), fc.record({
      abi: fc.constant(1), sdk: fc.constant('x'), functions: fc.oneof(fc.array(entry), fc.anything()), events: orAnything([]),
    }))
    fc.assert(fc.property(abi, (value) => {
      let text: string | undefined
      try { text = JSON.stringify(value) } catch { fc.pre(false) }
      const { refusal: refusedBy } = attempt(() => parseAbi(bytes(text ?? '')))
      if (refusedBy !== undefined) expect(refusedBy.code).toBe('CMESH_DEPLOY_ABI')
    }), { numRuns: 1_000 })
  })
})
