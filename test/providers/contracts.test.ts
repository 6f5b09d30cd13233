import v8 from 'node:v8'
import vm from 'node:vm'
import { describe, expect, test } from '@jest/globals'
import { METERS } from '../../providers/contracts/meter/index.ts'
import type { Meter } from '../../providers/contracts/meter/index.ts'
import { WasmEngine } from '../../providers/contracts/wasm.ts'
import { PackedSpace } from '../../providers/state/packed-space.ts'
import { abiText, contractModule, type ModuleOptions } from '../support/contract-module.ts'
import { callOf as named, failure, output, success } from '../support/engine-rig.ts'
import { LEFTOVERS, failingModule, interpreterModule, relayModule } from '../support/hand-made-contracts.ts'
import { instancesMade } from '../support/instances.ts'
import { refusal } from '../support/refusal.ts'

const callOf = (address: string, name = 'run', input = '') => named(name, { address, input: Buffer.from(input) })
const PLAIN = contractModule('(func (export "call_run"))')
/** A module that differs from any with another number. */
const numbered = (i: number): Uint8Array => Uint8Array.from([...PLAIN, 0, 6, 1, 0x70, i & 255, (i >> 8) & 255, (i >> 16) & 255, 0])

describe('the pool of the wasm engine', () => {
  test.each([
    ['memory', 0], ['an exported global', 0], ['a hidden global', 0], ['an exported 64-bit global', 0],
    ['a NaN with a payload', 5], ['grown memory', 4], ['memory grown by nothing', 4],
  ])('five calls of a contract that changes %s take %d instances more than it was installed with', (leftover, instances) => {
    const engine = new WasmEngine()
    expect(instancesMade(() => {
      // One to see that its segments fit, one whose start runs: the first call finds it.
      engine.install('0x1', LEFTOVERS[leftover]?.() ?? new Uint8Array(0), new Map())
    })).toBe(2)
    expect(instancesMade(() => {
      for (let i = 0; i < 5; i++) engine.call(callOf('0x1', i === 2 ? 'run_and_trap' : 'run'))
    })).toBe(instances)
  })

  test('addresses with the same code share its instances, a proxy those of its target', () => {
    const engine = new WasmEngine()
    expect(instancesMade(() => { for (const address of ['0x1', '0x2']) engine.install(address, PLAIN, new Map()) })).toBe(2)
    engine.proxy('0x3', '0x1', new Map())
    expect(instancesMade(() => { for (const address of ['0x1', '0x2', '0x3']) engine.call(callOf(address)) })).toBe(0)
    expect(engine.held).toEqual({ instances: 1, codes: 1 })
  })

  test('what a call says is its own, whatever the call before it said with as many bytes, and what is no text is refused each time', () => {
    const engine = new WasmEngine()
    engine.install('0x1', contractModule(`
      (func (export "call_run") (drop (call $input)) (call $reg (i32.const 0)) (call $output (i32.const 0) (call $reglen)))
      (func (export "call_bad") (i32.store8 (i32.const 0) (i32.const 255)) (call $output (i32.const 0) (i32.const 1)))`, { abi: abiText([{ name: 'run' }, { name: 'bad' }]) }), new Map())
    const long = 'a text that is longer than what is compared byte by byte'
    const said = ['a', 'b', 'b', '', 'ab', long, 'cd', long.toUpperCase(), 'cd', 'b'].map(input => {
      for (let again = 0; again < 2; again++) expect(failure(engine.call(callOf('0x1', 'bad')))).toEqual(['UTF8', 'the output is not'])
      return [input, success(engine.call(callOf('0x1', 'run', input))).output] as const
    })
    // Those of earlier calls stay what they were.
    for (const [input, bytes] of said) expect(Buffer.from(bytes).toString()).toBe(input)
  })

  test('a contract that calls itself keeps as many instances as it stood inside itself', () => {
    const engine = new WasmEngine()
    engine.install('0x1', relayModule(), new Map())
    const deep = ['0xSW:0x001:relay', '0xSW:0x001:relay', '0xSW:0x001:look'].join(' ')
    engine.install('0x001', relayModule(), new Map())
    expect(instancesMade(() => expect(output(engine.call(callOf('0x001', 'relay', deep)))).toBe('000-'))).toBe(3)
    expect(instancesMade(() => engine.call(callOf('0x001', 'relay', deep)))).toBe(0)
    expect(engine.held.instances).toBe(4)
  })

  test('no more idle instances are kept than allowed: the one idle longest goes', () => {
    const engine = new WasmEngine({ instances: 2 })
    for (const [i, address] of ['0x1', '0x2', '0x3'].entries()) engine.install(address, numbered(i), new Map())
    const calls = (...addresses: string[]) => instancesMade(() => {
      for (const address of addresses) engine.call(callOf(address))
    })
    expect(calls('0x1', '0x2', '0x1', '0x2')).toBe(2)
    expect(calls('0x1', '0x3')).toBe(1)
    expect(calls('0x1', '0x3')).toBe(0)
    expect(calls('0x2')).toBe(1)
    expect([calls('0x3'), calls('0x1')]).toEqual([0, 1])
    expect(engine.held.instances).toBe(2)
  })

  test('no more memory is kept idle than allowed', () => {
    const engine = new WasmEngine({ instanceBytes: 10 * 65_536 })
    for (let i = 0; i < 5; i++) {
      engine.install(`0x${i}`, contractModule(`(data (i32.const 0) "${i}") (func (export "call_run"))`, { memory: '(memory (export "memory") 3 64)' }), new Map())
    }
    for (let i = 0; i < 5; i++) success(engine.call(callOf(`0x${i}`)))
    expect(engine.held).toEqual({ instances: 3, codes: 5 })
  })

  test.each([0, 10_001, 1.5])('%d idle instances are refused', (instances) => {
    const refused = refusal(() => new WasmEngine({ instances }))
    expect(refused.code).toBe('CMESH_CONFIG_INVALID')
    expect(refused.message).toBe('The setting instances is not valid: it is not a whole number from 1 to 10,000.')
  })

  test('all code of a contract runs between onEnter and onLeave, also when it fails; nested calls do not show', () => {
    const seen: string[] = []
    const engine = new WasmEngine({ onEnter: (address) => seen.push(`enter ${address}`), onLeave: () => seen.push('leave') })
    engine.install('0x1', contractModule('(func (export "_start") (unreachable)) (func (export "call_run"))'), new Map())
    engine.install('0x002', relayModule(), new Map())
    // Their starts.
    expect(seen.splice(0)).toEqual(['enter 0x1', 'leave', 'enter 0x002', 'leave'])
    engine.call(callOf('0x1'))
    engine.call(callOf('0x002', 'relay', '0xSW:0x002:look'))
    engine.call(callOf('0x002', 'missing'))
    expect(seen).toEqual(['enter 0x1', 'leave', 'enter 0x002', 'leave'])
  })
})

describe('what an instance is made of', () => {
  const gasOf = (body: string): number => {
    const engine = new WasmEngine()
    engine.install('0x1', contractModule(`${body} (func $run (export "call_run"))`), new Map())
    return success(engine.call(callOf('0x1'))).gas
  }
  const some = (count: number, text: (i: number) => string): string => Array.from({ length: count }, (_, i) => text(i)).join('')
  const { exports, globals, elements } = (METERS.at(-1) as Meter).costs.contract

  test('is paid for at every call, beyond what an ordinary contract has', () => {
    const plain = gasOf('')
    const mutable = (i: number): string => `(global (mut i32) (i32.const ${i}))`
    const more = globals.free + 3
    expect(gasOf(some(globals.free, mutable))).toBe(plain)
    expect(gasOf(some(more, mutable)) - plain).toBe(3 * globals.each)
    expect(gasOf(some(exports.free + 10, i => `(export "call_${i}" (func $run))`)) - plain).toBe((10 + 2) * exports.each)
    const table = `(table 1000 funcref) (elem (i32.const 0) ${some(elements.free + 5, () => '$run ')})`
    expect(gasOf(table) - plain).toBe(5 * elements.each)
  })

  test('is paid for as new at every call where a NaN keeps it from being put back', () => {
    const { grow } = (METERS.at(-1) as Meter).costs
    const float = (value: string): number => gasOf(`(global (mut f64) (f64.const ${value}))`)
    expect(float('nan') - float('1')).toBe(grow.base)
  })

  test('is not what nobody looks for: other exports are left out', () => {
    expect(gasOf(some(500, i => `(export "other${i}" (func $run))`))).toBe(gasOf(''))
  })

  const MARK = '\\ef\\bb\\bf'

  test.each<[string, string, ModuleOptions, string]>([
    ['an import', '(func (export "call_run"))', { imports: `(import "${MARK}cmesh" "reglen" (func (result i32)))` }, 'CMESH_DEPLOY_IMPORT'],
    ['a function', `(func (export "${MARK}call_run"))`, { abi: abiText([{ name: 'run' }]) }, 'CMESH_DEPLOY_EXPORT'],
    ['the memory', '(func (export "call_run"))', { memory: `(memory (export "${MARK}memory") 1 64)` }, 'CMESH_DEPLOY_EXPORT'],
  ])('is named as the engine names it: a byte order mark before %s is no detail', (_, body, options, code) => {
    const engine = new WasmEngine()
    expect(refusal(() => engine.install('0x1', contractModule(body, options), new Map())).code).toBe(code)
    expect(engine.has('0x1')).toBe(false)
  })
})

describe('what the wasm engine holds', () => {
  test('ten thousand contracts of 2,500 codes: no more instances than allowed, and memory within bounds', () => {
    v8.setFlagsFromString('--expose-gc')
    const gc = vm.runInNewContext('gc') as () => void
    const engine = new WasmEngine({ instances: 500 })
    const before = process.memoryUsage().rss
    const wasm = contractModule('(func (export "call_run") (call $set (i32.const 0) (i32.const 1) (i32.const 0) (i32.const 1)))')
    for (let i = 0; i < 10_000; i++) {
      const address = `0x${i.toString(16).padStart(64, '0')}`
      const kind = i % 2_500
      engine.install(address, Uint8Array.from([...wasm, 0, 6, 1, 0x70, kind & 255, kind >> 8, 0, 0]), new Map())
      success(engine.call(callOf(address)))
    }
    expect(engine.held).toEqual({ instances: 500, codes: 2_500 })
    // What is held, not what waits for the collector. Some 130 MB were measured; an instance for each contract would take more than 640 MB.
    gc()
    gc()
    expect((process.memoryUsage().rss - before) / 1_048_576).toBeLessThan(500)
    engine.close()
    expect(engine.held).toEqual({ instances: 0, codes: 0 })
  }, 120_000)

  test('the same code is compiled once, and what nobody runs is forgotten but for the last few', () => {
    const engine = new WasmEngine()
    for (let i = 0; i < 100; i++) engine.install(`0x${i}`, PLAIN, new Map())
    expect(engine.held.codes).toBe(1)
    for (let i = 0; i < 100; i++) engine.install('0x1', numbered(i), new Map())
    // The one that 99 addresses run, the one of 0x1, and 16 it had before.
    expect(engine.held.codes).toBe(18)
    engine.install('0x1', numbered(98), new Map())
    expect(engine.held.codes).toBe(18)
    for (let i = 0; i < 100; i++) engine.remove(`0x${i}`)
    expect(engine.held.codes).toBe(16)
  })

  test('a module whose segment does not fit is refused and never fails a call', () => {
    const engine = new WasmEngine()
    for (const body of ['(data (i32.const 65536) "x")', '(table 1 funcref) (elem (i32.const 1) $f) (func $f)']) {
      const refused = refusal(() => engine.install('0x1', contractModule(`${body} (func (export "call_run"))`), new Map()))
      expect(refused.code).toMatch(/^CMESH_DEPLOY_/)
      expect(engine.has('0x1')).toBe(false)
    }
  })
})

test('code in the place of other code finds the keys of the space in order, and need not look at them all again', () => {
  const space = new Map<string, Uint8Array>()
  let looks = 0
  space.keys = () => {
    looks++
    return Map.prototype.keys.call(space) as MapIterator<string>
  }
  const engine = new WasmEngine()
  for (let i = 0; i < 3; i++) engine.install('0x1', numbered(i), space)
  expect(looks).toBe(1)
})

test('a contract on packed keys reads what is there, and what it wrote and deleted itself in the same call', () => {
  const space = new PackedSpace()
  const engine = new WasmEngine()
  engine.install('0x1', interpreterModule(), space)
  space.set('b', Uint8Array.of(0x39))
  const run = (steps: string): string => output(engine.call(callOf('0x1', 'run', steps)))
  expect(run('ga_gb_sa1ga_gb_da_ga_db_gb_')).toBe('-919--')
  expect(run('ga_gb_sb2')).toBe('--')
  expect(run('ga_gb_')).toBe('-2')
})

describe('meters', () => {
  const [first] = METERS as readonly [Meter]
  const { contract } = first.costs
  const dearer: Meter = { meter: 1, schedule: 2, costs: { ...first.costs, version: 2, contract: { ...contract, base: contract.base + 1 } } }

  test('another schedule counts for every contract at once, pooled or not, and can be taken back', () => {
    const engine = new WasmEngine({ meters: [first, dearer] })
    expect(engine.meter).toEqual({ meter: 1, schedule: 2 })
    for (const [i, address] of ['0x1', '0x2'].entries()) engine.install(address, numbered(i), new Map())
    engine.proxy('0x3', '0x1', new Map())
    const gas = () => ['0x1', '0x2', '0x3'].map((address) => success(engine.call(callOf(address))).gas)
    const [dear = 0] = gas()
    engine.useMeter({ meter: 1, schedule: 1 })
    expect(gas()).toEqual([dear - 1, dear - 1, dear - 1])
    engine.install('0x2', numbered(9), new Map())
    expect(gas()).toEqual([dear - 1, dear - 1, dear - 1])
    engine.useMeter({ meter: 1, schedule: 2 })
    expect(gas()).toEqual([dear, dear, dear])
  })

  test('the same meter again keeps the instances', () => {
    const engine = new WasmEngine()
    engine.install('0x1', PLAIN, new Map())
    engine.call(callOf('0x1'))
    engine.useMeter(engine.meter)
    expect(instancesMade(() => engine.call(callOf('0x1')))).toBe(0)
  })
})

describe('failures of the host', () => {
  test('a call inside a call, or an address that is gone, is the host\'s mistake', () => {
    const space = new Map<string, Uint8Array>()
    const engine = new WasmEngine()
    engine.install('0x1', failingModule(), space)
    const get = space.get.bind(space)
    space.get = (key) => { engine.call(callOf('0x1', 'dirty')); return get(key) }
    const refused = refusal(() => engine.call(callOf('0x1', 'dirty')))
    expect([refused.code, refused.detail['reason']]).toEqual(['CMESH_CONTRACT_HOST',
      'The host failed while running 0x1: a call was made inside a call. Nothing was recorded.'])
    space.get = get
    expect(engine.call(callOf('0x1', 'dirty')).ok).toBe(true)
  })

  test('a native stack that overflows is never a result', () => {
    const engine = new WasmEngine()
    engine.install('0x1', failingModule(), new Map())
    const outcomes = new Set<string>()
    const descend = (depth: number): void => {
      try {
        outcomes.add(refusalOr(() => failure(engine.call(callOf('0x1', 'stack')))[0]))
      } catch (thrown) {
        if (!(thrown instanceof RangeError)) throw thrown
      }
      if (depth < 100_000) descend(depth + 1)
    }
    expect(() => { descend(0) }).toThrow(RangeError)
    for (const outcome of outcomes) expect(['STACK', 'CMESH_CONTRACT_HOST']).toContain(outcome)
    expect(outcomes.has('STACK')).toBe(true)
    expect(failure(engine.call(callOf('0x1', 'stack')))[0]).toBe('STACK')
  })
})

function refusalOr(act: () => string): string {
  let shown = ''
  try {
    return act()
  } catch (thrown) {
    if (thrown instanceof RangeError) throw thrown
    shown = (thrown as { readonly code: string }).code
  }
  return shown
}
