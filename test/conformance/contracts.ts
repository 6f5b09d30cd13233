/**
 * What every contract engine must do, whoever wrote the contract. Drives the interface alone, with contracts made by hand.
 */
import { afterEach, describe, expect, test } from '@jest/globals'
import fc from 'fast-check'
import type { ContractEngine, ContractResult } from '../../services/contracts/provider.ts'
import type { Space } from '../../services/state/provider.ts'
import { abiText, contractModule } from '../support/contract-module.ts'
import { ADDRESS, CALLER, ORIGIN, Rig, bytes, callOf, failure, output, snapshot, success, text } from '../support/engine-rig.ts'
import { LEFTOVERS, failingModule, interpreterModule, rawModule } from '../support/hand-made-contracts.ts'
import { refusal } from '../support/refusal.ts'
import { gasConformance } from './contracts-gas.ts'
import { hostConformance } from './contracts-host.ts'
import { hostileConformance } from './contracts-hostile.ts'
import { nestedConformance } from './contracts-nested.ts'

/** Makes engines that are closed when the test is over. */
export type EngineMaker = () => ContractEngine

export function contractsConformance(name: string, create: EngineMaker): void {
  describe(`contract engine ${name}`, () => {
    const engines: ContractEngine[] = []
    const engine = (): ContractEngine => {
      const made = create()
      engines.push(made)
      return made
    }
    const installed = (wasm: Uint8Array, space?: Space): Rig => new Rig(engine(), wasm, space)
    afterEach(() => {
      for (const made of engines.splice(0)) made.close()
    })
    gasConformance(engine)
    hostConformance(engine)
    nestedConformance(engine)
    hostileConformance(engine)

    describe('what is installed', () => {
      test('an address that is not installed is CMESH_STATE_NO_CONTRACT', () => {
        const error = refusal(() => engine().call(callOf('run')))
        expect(error.code).toBe('CMESH_STATE_NO_CONTRACT')
        expect(error.message).toBe(`There is no contract ${ADDRESS}.`)
      })

      test('a function that the ABI does not list does not exist, exported or not', () => {
        const { call } = installed(contractModule('(func (export "call_a")) (func (export "call_b"))',
          { abi: abiText([{ name: 'a' }]) }))
        expect(call('a').ok).toBe(true)
        for (const fn of ['b', 'memory', 'call_a', '__proto__', '']) {
          const result = call(fn)
          expect(failure(result)).toEqual(['NO_FUNCTION', `there is no function ${fn}`])
          expect(result.gas).toBe(10_000)
        }
      })

      test('install replaces, remove removes, close drops everything and may be repeated', () => {
        const { engine: made, call } = installed(contractModule('(func (export "call_a"))'))
        call('a')
        made.install(ADDRESS, contractModule('(func (export "call_b"))'), new Map())
        expect(failure(call('a'))[0]).toBe('NO_FUNCTION')
        expect(call('b').ok).toBe(true)
        expect(made.abi(ADDRESS)?.functions.map((entry) => entry.name)).toEqual(['b'])
        made.remove(ADDRESS)
        expect([made.has(ADDRESS), made.abi(ADDRESS)]).toEqual([false, undefined])
        made.install(ADDRESS, contractModule('(func (export "call_b"))'), new Map())
        made.close()
        made.close()
        expect(made.has(ADDRESS)).toBe(false)
      })

      test('a module that install refuses leaves what stood there', () => {
        const { engine: made, call } = installed(contractModule('(func (export "call_a"))'))
        expect(refusal(() => made.install(ADDRESS, bytes('no module'), new Map())).code).toBe('CMESH_DEPLOY_MAGIC')
        expect(call('a').ok).toBe(true)
      })
    })

    describe('the result follows from code, function, input, context and state', () => {
      test.each(Object.keys(LEFTOVERS))('no call finds what an earlier one left: %s', (leftover) => {
        const { call } = installed(LEFTOVERS[leftover]?.() ?? new Uint8Array(0))
        const first = output(call('run'))
        expect(output(call('run'))).toBe(first)
        expect(failure(call('run_and_trap'))[0]).toBe('TRAP')
        expect(output(call('run'))).toBe(first)
      })

      test('_start runs before each call, as if it were the first', () => {
        const { call } = installed(contractModule(`
          (global $runs (export "runs") (mut i32) (i32.const 48))
          (func (export "_start")
            (global.set $runs (i32.add (global.get $runs) (i32.const 1)))
            (i32.store8 (i32.const 9) (global.get $runs)))
          (func (export "call_run") (call $output (i32.const 9) (i32.const 1)) (i32.store8 (i32.const 9) (i32.const 0)))`))
        expect([output(call('run')), output(call('run'))]).toEqual(['1', '1'])
      })

      test('a start section runs before _start, both before each call', () => {
        const { call } = installed(contractModule(`
          (global $order (mut i32) (i32.const 0))
          (func $first (global.set $order (i32.const 1))) (start $first)
          (func (export "_start") (global.set $order (i32.add (i32.mul (global.get $order) (i32.const 10)) (i32.const 2))))
          (func (export "call_run") (i32.store8 (i32.const 9) (i32.add (i32.const 36) (global.get $order)))
            (global.set $order (i32.const 0)) (call $output (i32.const 9) (i32.const 1)))`))
        expect([output(call('run')), output(call('run'))]).toEqual(['0', '0'])
      })

      test.each([
        ['state', '(drop (call $get (i32.const 0) (i32.const 1)))', 'ABI', 'a host function was called while the module starts'],
        ['the context', '(drop (call $ctxs (i32.const 0)))', 'ABI', 'a host function was called while the module starts'],
        ['a trap', '(unreachable)', 'TRAP', 'unreachable code was reached'],
        ['a refusal', '(call $fail (i32.const 0) (i32.const 2))', 'REVERT', 'no'],
        ['gas without end', '(loop $l (br $l))', 'OUT_OF_GAS', 'its limit was 2000000'],
        ['stack without end', '(call $deep)', 'STACK', 'its functions nest too deeply'],
      ])('a _start that uses %s fails every call', (_what, body, kind, reason) => {
        const { call } = installed(contractModule(`
          (data (i32.const 0) "no") (func $deep (call $deep) (call $deep))
          (func (export "_start") ${body}) (func (export "call_run"))`))
        expect([failure(call('run')), failure(call('run'))]).toEqual([[kind, reason], [kind, reason]])
      })

      test('the context is what the call says, and what was looked at is observed', () => {
        const { call, raw, space } = installed(contractModule(`
          (func $text (param $field i32) (local $n i32)
            (local.set $n (call $ctxs (local.get $field)))
            (call $reg (i32.const 0))
            (call $output (i32.const 0) (local.get $n)))
          (func $number (param $field i32)
            (i64.store (i32.const 0) (call $ctx (local.get $field)))
            (call $set (i32.const 8) (i32.const 1) (i32.const 0) (i32.const 8)))
          (func (export "call_caller") (call $text (i32.const 0))) (func (export "call_self") (call $text (i32.const 1)))
          (func (export "call_origin") (call $text (i32.const 2)))
          (func (export "call_seq") (call $number (i32.const 0))) (func (export "call_time") (call $number (i32.const 1)))
          (func (export "call_gas") (call $number (i32.const 2)))
          (func (export "call_seed") (call $seed (i32.const 0)))
          (func (export "call_no_text") (call $text (i32.const 3)))
          (func (export "call_no_number") (call $number (i32.const 3)))`))
        const looked = (name: string) => {
          const { observed: { caller, clock, spaces } } = success(call(name))
          expect(spaces).toEqual([ADDRESS])
          return [caller, clock]
        }
        const number = () => new DataView(Uint8Array.from(space.get('\0') ?? []).buffer).getBigUint64(0, true)
        expect([output(call('caller')), output(call('self')), output(call('origin'))]).toEqual([CALLER, ADDRESS, ORIGIN])
        expect([looked('caller'), looked('self'), looked('origin')]).toEqual([[true, false], [false, false], [true, false]])
        expect([looked('seq'), number()]).toEqual([[false, true], 7n])
        expect([looked('time'), number()]).toEqual([[false, true], 1_700_000_000_123n])
        const { gas } = success(call('gas', { gasLimit: 100_000 }))
        const left = Number(number())
        expect([left < 100_000, left > 100_000 - gas]).toEqual([true, true])
        expect(looked('gas')).toEqual([false, false])
        expect(looked('seed')).toEqual([false, true])
        expect(failure(raw('no_text', []))).toEqual(['ABI', 'the context has no such text'])
        expect(failure(raw('no_number', []))).toEqual(['ABI', 'the context has no such number'])
      })

      test('an interpreted program gives the model\'s result, space, writes and events, whatever failed before it', () => {
        const key = fc.constantFrom(...'abcd')
        const value = fc.constantFrom(...'wxyz')
        const step = fc.oneof(
          { weight: 6, arbitrary: fc.tuple(fc.constantFrom('s', 'd', 'g', 'e'), key, value) },
          { weight: 1, arbitrary: fc.tuple(fc.constantFrom('x', 'r'), key, value) })
        fc.assert(fc.property(fc.array(fc.array(step, { maxLength: 8 }), { maxLength: 12 }), (programs) => {
          const [pooled, anew] = [installed(interpreter), installed(interpreter)]
          const model = new Map<string, string>()
          for (const program of programs) {
            const expected = modelled(model, program)
            const input = bytes(program.map((parts) => parts.join('')).join(''))
            anew.engine.close()
            anew.engine.install(ADDRESS, interpreter, anew.space)
            const result = pooled.call('run', { input })
            expect(anew.call('run', { input })).toEqual(result)
            expect(plain(result)).toEqual(expected)
            expect([...pooled.space].map(([k, v]) => [k, text(v)])).toEqual([...model])
            expect(snapshot(anew.space)).toEqual(snapshot(pooled.space))
          }
        }), { numRuns: 60, seed: 1 })
      })
      const interpreter = interpreterModule()
    })

    describe('a failure changes nothing', () => {
      test.each([
        ['trap', 'TRAP', 'unreachable code was reached'],
        ['revert', 'REVERT', 'because'],
        ['stack', 'STACK', 'its functions nest too deeply'],
        ['gas', 'OUT_OF_GAS', 'its limit was 20000000'],
        ['nest', 'TRAP', 'unreachable code was reached'],
        ['text', 'UTF8', 'the output is not'],
        ['abi', 'ABI', 'the context has no such number'],
        ['pointer', 'MEMORY_OOB', 'bytes 4294967295 to 4294967299 of 65536'],
        ['limit', 'KEY_SIZE', 'a key has 257 bytes; at most 256 are allowed'],
        ['value', 'VALUE_SIZE', 'a value has 65537 bytes; at most 65536 are allowed'],
        ['size', 'OUTPUT_SIZE', 'an output has 65537 bytes; at most 65536 are allowed'],
      ])('%s: the space is as it was, its order included', (fn, kind, reason) => {
        const { call, space } = installed(failingModule(), new Map([['kept', bytes('1')], ['gone', bytes('2')], ['last', bytes('3')]]))
        const before = snapshot(space)
        const result = call(fn, { input: bytes(`0xSW:${ADDRESS}:dirty`) })
        expect(result).toEqual({
          ok: false, failure: `CMESH_CONTRACT_${kind}`, reason, contract: ADDRESS, gas: expect.any(Number),
          observed: { caller: false, clock: false, spaces: [ADDRESS] },
        })
        expect(result.gas === 20_000_000).toBe(kind !== 'REVERT')
        expect(snapshot(space)).toEqual(before)
        const after = call('dirty')
        expect(after.ok && after.writes.map((write) => [write.space, write.key, write.value && text(write.value)])).toEqual([
          [ADDRESS, 'kept', 'new!'], [ADDRESS, 'gone', undefined], [ADDRESS, 'new!', 'new!']])
        expect(after.ok && after.events.map((event) => [event.contract, event.topic, text(event.data)])).toEqual([[ADDRESS,
          'new', 'new!']])
        expect([...space.keys()]).toEqual(['kept', 'last', 'new!'])
      })

      test.each(['set', 'del', 'emit'])('a view that calls %s is read-only', (fn) => {
        const { raw, space } = installed(rawModule())
        expect(failure(raw(fn, [0, 4, 0, 1], { view: true }))).toEqual(['READONLY', 'a view may not write state, emit events or send messages'])
        expect([...space.keys()]).toEqual(['args'])
        expect(raw('get', [0, 4], { view: true }).ok).toBe(true)
      })

      test('what is kept is a copy that owns its bytes', () => {
        const { call, space } = installed(failingModule())
        const result = call('dirty')
        const event = result.ok ? result.events[0]?.data : undefined
        for (const value of [space.get('kept'), event]) expect([value?.byteLength, value?.buffer.byteLength]).toEqual([4, 4])
      })
    })

    describe('a failure of the host is thrown, never a result', () => {
      class BrokenSpace extends Map<string, Uint8Array> {
        broken: 'get' | 'set' | undefined
        override get(key: string): Uint8Array | undefined {
          if (this.broken === 'get') throw new RangeError('the disk is on fire')
          return super.get(key)
        }
        override set(key: string, value: Uint8Array): this {
          if (this.broken === 'set' && key === 'new!') throw new Error('no room')
          return super.set(key, value)
        }
      }

      test('a space that cannot be read', () => {
        const space = new BrokenSpace([['kept', bytes('1')]])
        const { call } = installed(failingModule(), space)
        space.broken = 'get'
        const error = refusal(() => call('revert'))
        space.broken = undefined
        expect(error.code).toBe('CMESH_CONTRACT_HOST')
        expect(error.message).toBe(`The host failed while running ${ADDRESS}: the disk is on fire. Nothing was recorded.`)
        expect(snapshot(space)).toEqual([['kept', '31']])
        expect(call('dirty').ok).toBe(true)
      })

      test('a space that fails in the middle of a commit is put back', () => {
        const space = new BrokenSpace([['kept', bytes('1')], ['gone', bytes('2')]])
        const { call } = installed(failingModule(), space)
        space.broken = 'set'
        const error = refusal(() => call('dirty'))
        expect([error.code, error.detail['reason']]).toEqual(['CMESH_CONTRACT_HOST', 'no room'])
        expect(new Map(snapshot(space))).toEqual(new Map([['kept', '31'], ['gone', '32']]))
      })
    })

    describe('limits', () => {
      test.each([
        ['KEY_SIZE', 'a key', 'set', [0, 256, 0, 1], [0, 257, 0, 1], 'a key has 257 bytes; at most 256 are allowed'],
        ['KEY_SIZE', 'a key read', 'get', [0, 256], [0, 257], 'a key has 257 bytes; at most 256 are allowed'],
        ['KEY_SIZE', 'a key deleted', 'del', [0, 256], [0, -1], 'a key has 4294967295 bytes; at most 256 are allowed'],
        ['VALUE_SIZE', 'a value', 'grown_set', [0, 4, 0, 65_536], [0, 4, 0, 65_537], 'a value has 65537 bytes; at most 65536 are allowed'],
        ['VALUE_SIZE', 'a topic', 'emit', [0, 4, 0, 1], [0, 129, 0, 1], 'a topic has 129 bytes; at most 128 are allowed'],
        ['VALUE_SIZE', 'the data of an event',
          'grown_emit', [0, 4, 0, 65_536], [0, 4, 0, 65_537], 'the data of an event has 65537 bytes; at most 65536 are allowed'],
        ['OUTPUT_SIZE', 'an output', 'grown_output', [65_536, 65_536], [65_536, 65_537], 'an output has 65537 bytes; at most 65536 are allowed'],
        ['LIMIT', 'written keys', 'keys', [4_096], [4_097], 'a call writes at most 4096 keys'],
        ['LIMIT', 'events', 'events', [256], [257], 'a call emits at most 256 events'],
        ['LIMIT', 'bytes', 'values', [16], [17], 'a call hands over at most 1048576 bytes of keys, values, events, messages and output'],
      ])('%s: %s: the most is taken, one more is refused', (code, _what, fn, most, tooMuch, reason) => {
        const { raw, space } = installed(rawModule())
        expect(raw(fn, most)).toMatchObject({ ok: true })
        space.clear()
        expect(failure(raw(fn, tooMuch))).toEqual([code, reason])
        expect([...space.keys()]).toEqual(['args'])
      })
    })

    describe('text', () => {
      const wasm = contractModule(`
        (data (i32.const 0) "ok\\ff\\fe") (data (i32.const 64) "a b")
        (func (export "call_input") (drop (call $input)))
        (func (export "call_output") (call $output (i32.const 0) (i32.const 3)))
        (func (export "call_reason") (call $fail (i32.const 0) (i32.const 3)))
        (func (export "call_topic") (call $emit (i32.const 64) (i32.const 3) (i32.const 0) (i32.const 1)))
        (func (export "call_no_topic") (call $emit (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 1)))
        (func (export "call_event") (call $emit (i32.const 0) (i32.const 2) (i32.const 0) (i32.const 4)))
        (func (export "call_long") (local $i i32)
          (loop $next
            (i32.store16 (i32.add (i32.const 1025) (local.get $i)) (i32.const 0xa9c3))
            (local.set $i (i32.add (local.get $i) (i32.const 2)))
            (br_if $next (i32.lt_u (local.get $i) (i32.const 4096))))
          (i32.store8 (i32.const 1024) (i32.const 33))
          (call $fail (i32.const 1024) (i32.const 4097)))`)

      test.each([
        ['input', 'UTF8', 'the input is not'],
        ['output', 'UTF8', 'the output is not'],
        ['reason', 'UTF8', 'the reason of a refusal is not'],
        ['topic', 'ABI', 'a topic has 1 to 128 characters of A-Z a-z 0-9 . _ - ~ ^'],
        ['no_topic', 'ABI', 'a topic has 1 to 128 characters of A-Z a-z 0-9 . _ - ~ ^'],
      ])('%s must be what it is for', (fn, code, reason) => {
        expect(failure(installed(wasm).call(fn, { input: Uint8Array.of(0x5b, 0xc3) }))).toEqual([code, reason])
      })

      test('the data of an event may be any bytes', () => {
        expect(installed(wasm).call('event')).toMatchObject({ ok: true,
          events: [{ data: Uint8Array.of(0x6f, 0x6b, 0xff, 0xfe) }] })
      })

      test('a long reason is cut before the character that would be cut through', () => {
        expect(failure(installed(wasm).call('long'))).toEqual(['REVERT', `!${'é'.repeat(511)}`])
      })

      test('an empty register cannot be read', () => {
        expect(failure(installed(rawModule()).call('empty_register'))).toEqual(['ABI', 'the register is empty'])
      })
    })
  })
}

type Step = readonly string[]

/** What the interpreted program does to `model`, and its result. */
function modelled(model: Map<string, string>, program: readonly Step[]): unknown {
  const [draft, touched] = [new Map(model), new Set<string>()]
  const events: [string, string][] = []
  let shown = ''
  for (const [op, key = '', value = ''] of program) {
    if (op === 'x') return ['TRAP', 'unreachable code was reached']
    if (op === 'r') return ['REVERT', key]
    if (op === 'g') shown += draft.get(key) ?? '-'
    if (op === 'e') events.push([key, value])
    if (op === 's' || (op === 'd' && draft.has(key))) touched.add(key)
    if (op === 's') draft.set(key, value)
    if (op === 'd') draft.delete(key)
  }
  const writes = [...touched].map((key) => [key, draft.get(key)])
  for (const key of touched) {
    const value = draft.get(key)
    if (value === undefined) model.delete(key)
    else model.set(key, value)
  }
  return { output: shown, writes, events }
}

function plain(result: ContractResult): unknown {
  if (!result.ok) return failure(result)
  return {
    output: text(result.output),
    writes: result.writes.map(({ key, value }) => [key, value && text(value)]),
    events: result.events.map(({ topic, data }) => [topic, text(data)]),
  }
}
