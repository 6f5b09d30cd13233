/** Parts of the contract engine that show from outside only in what they cost, or only when they are large. */
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import { describe, expect, test } from '@jest/globals'
import binaryen from 'assemblyscript/binaryen'
import fc from 'fast-check'
import { GAUGE_BYTES, GAUGE_TEXT, gaugeOf } from '../../providers/contracts/gauge.ts'
import type { ContractInstance } from '../../providers/contracts/instance.ts'
import { MemoryView } from '../../providers/contracts/memory.ts'
import { HOST_FAULT } from '../../providers/contracts/meter/index.ts'
import { Outputs } from '../../providers/contracts/outputs.ts'
import { ownGlobalsModule, puttingBack, type KeptGlobal } from '../../providers/contracts/own-globals.ts'
import { SortedKeys, type KeyCursor } from '../../providers/contracts/sorted-keys.ts'
import { stopOf } from '../../providers/contracts/traps.ts'
import { WasmEngine } from '../../providers/contracts/wasm.ts'
import { until } from '../client/support/until.ts'
import { abiText, contractModule } from '../support/contract-module.ts'
import { callOf } from '../support/engine-rig.ts'

describe('sorted keys', () => {
  const walk = (cursor: KeyCursor): string[] => {
    const keys: string[] = []
    for (; cursor.key !== undefined; cursor.advance()) keys.push(cursor.key)
    return keys
  }

  test('thousands of keys, added and deleted in any order, are walked as a sorted list is, from anywhere and in both directions', () => {
    const key = fc.integer({ min: 0, max: 3_000 }).map((n) => String.fromCharCode(n & 255, n >> 8))
    const steps = fc.array(fc.tuple(fc.boolean(), key), { minLength: 1_500, maxLength: 4_000, size: 'max' })
    fc.assert(fc.property(fc.array(key, { maxLength: 600, size: 'max' }), steps, key, (before, changes, bound) => {
      const keys = new SortedKeys(new Set(before))
      const model = new Set(before)
      for (const [add, name] of changes) {
        if (add) { keys.add(name); model.add(name) } else { keys.delete(name); model.delete(name) }
      }
      const sorted = [...model].sort((a, b) => a < b ? -1 : 1)
      expect(walk(keys.ascending(''))).toEqual(sorted)
      expect(walk(keys.descending(undefined))).toEqual(sorted.toReversed())
      expect(walk(keys.ascending(bound))).toEqual(sorted.filter((name) => name >= bound))
      expect(walk(keys.descending(bound))).toEqual(sorted.filter((name) => name < bound).reverse())
    }), { numRuns: 20, seed: 5 })
  })

  test('every key of a large set can be found, and none is left when all are deleted', () => {
    const names = Array.from({ length: 5_000 }, (_, i) => String((i * 7_919) % 5_000).padStart(4, '0'))
    const keys = new SortedKeys()
    for (const name of names) keys.add(name)
    for (const name of names) expect(keys.ascending(name).key).toBe(name)
    for (const name of names) keys.delete(name)
    expect([keys.ascending('').key, keys.descending(undefined).key]).toEqual([undefined, undefined])
  })
})

describe('the gauge', () => {
  test('is what its text says', () => {
    const module = binaryen.parseText(GAUGE_TEXT)
    module.setFeatures(binaryen.Features.MutableGlobals)
    expect(Buffer.from(module.emitBinary())).toEqual(Buffer.from(GAUGE_BYTES))
    module.dispose()
  })

  test('sets, takes and tells up to 2^53 − 1 and below 0', () => {
    const Global = WebAssembly.Global as unknown as new (type: object, value: unknown) => WebAssembly.Global
    const gas = new Global({ value: 'i64', mutable: true }, 0n)
    const slots = new Global({ value: 'i32', mutable: true }, 0)
    const reach = new Global({ value: 'i32', mutable: true }, 77)
    const gauge = gaugeOf(gas, slots, reach)
    expect(gauge.reach()).toBe(77)
    gauge.arm(Number.MAX_SAFE_INTEGER, 40_000)
    expect([gas.value, slots.value, reach.value, gauge.reach()]).toEqual([2n ** 53n - 1n, 40_000, 0, 0])
    expect([gauge.take(1), gauge.gas()]).toEqual([1, Number.MAX_SAFE_INTEGER - 1])
    expect([gauge.take(2 ** 31 - 1), gauge.gas()]).toEqual([1, Number.MAX_SAFE_INTEGER - 2 ** 31])
    expect([gauge.takeMuch(Number.MAX_SAFE_INTEGER - 2 ** 31), gauge.gas()]).toEqual([1, 0])
    expect([gauge.take(7), gauge.gas()]).toEqual([0, -7])
    expect([gauge.takeMuch(2 ** 40), gauge.gas()]).toEqual([0, -7 - 2 ** 40])
    slots.value = -3
    expect(gauge.slots()).toBe(-3)
  })
})

describe('an instance\'s own globals', () => {
  test('are put back bit for bit, whatever their types and however often', () => {
    const Global = WebAssembly.Global as unknown as new (type: object, value: unknown) => WebAssembly.Global
    const TYPES = { i32: 0x7f, i64: 0x7e, f32: 0x7d, f64: 0x7c }
    const each = fc.oneof(
      fc.tuple(fc.constant('i32' as const), fc.integer(), fc.integer()), fc.tuple(fc.constant('i64' as const), fc.bigInt(-(2n ** 63n), 2n ** 63n - 1n), fc.bigInt(0n, 9n)),
      fc.tuple(fc.constant('f32' as const), fc.float({ noNaN: true }), fc.float()), fc.tuple(fc.constant('f64' as const), fc.double({ noNaN: true }), fc.double()),
    )
    fc.assert(fc.property(fc.array(each, { maxLength: 70, size: 'max' }), (made) => {
      const globals = made.map(([type, value]) => new Global({ value: type, mutable: true }, value))
      const putBack = puttingBack(ownGlobalsModule(made.map(([type]) => TYPES[type])), globals.map((global): KeptGlobal => [global, global.value]))
      for (let round = 0; round < 2; round++) {
        globals.forEach((global, i) => { global.value = (made[i] as (typeof made)[number])[2] })
        putBack()
        globals.forEach((global, i) => { expect(Object.is(global.value, (made[i] as (typeof made)[number])[1])).toBe(true) })
      }
    }), { numRuns: 60 })
  })
})

describe('the output of a view', () => {
  test('may be empty, the first one too', () => {
    const view = new MemoryView(new WebAssembly.Memory({ initial: 1, maximum: 1 }))
    for (const at of [0, 1, 65_536]) {
      const outputs = new Outputs()
      expect([...outputs.copy(view, at, 0)]).toEqual([])
      view.bytes.fill(7, 0, 3)
      expect([...outputs.copy(view, 0, 3)]).toEqual([7, 7, 7])
    }
  })

  test('is what stands in the memory, and known to be ASCII only where it is', () => {
    const outputs = new Outputs()
    const view = new MemoryView(new WebAssembly.Memory({ initial: 1, maximum: 1 }))
    const kept: (readonly [Uint8Array, Buffer])[] = []
    const place = fc.record({ at: fc.nat(600), length: fc.oneof(fc.nat(40), fc.nat(530)), odd: fc.option(fc.nat(530)), behind: fc.boolean() })
    fc.assert(fc.property(place, ({ at, length, odd, behind }) => {
      view.bytes.fill(0x61, 0, at + length).fill(behind ? 0xff : 0x62, at + length, at + length + 8)
      if (odd !== null && odd < length) view.bytes[at + odd] = 0x80 + (odd & 0x7f)
      const output = outputs.copy(view, at, length)
      const expected = Buffer.from(view.bytes.slice(at, at + length))
      expect(Buffer.from(output).equals(expected)).toBe(true)
      if (outputs.ascii) expect(expected.every((byte) => byte < 0x80)).toBe(true)
      kept.push([output, expected])
    }), { numRuns: 500 })
    expect(kept.every(([output, expected]) => expected.equals(output))).toBe(true)
  })
})

describe('texts of a memory', () => {
  test('are what stands there now, whatever stood there when they were read before', () => {
    const place = fc.record({ at: fc.nat(40), length: fc.oneof(fc.nat(12), fc.integer({ min: 28, max: 36 })) })
    const step = fc.tuple(place, fc.nat(255), fc.boolean())
    fc.assert(fc.property(fc.array(step, { minLength: 1, maxLength: 300, size: 'max' }), (steps) => {
      const memory = new WebAssembly.Memory({ initial: 1, maximum: 2 })
      const view = new MemoryView(memory)
      for (const [{ at, length }, byte, grow] of steps) {
        // Few places and few bytes, so that most are read again, some of them changed.
        if (byte < 40) view.bytes[at + (byte % 8)] = byte * 6
        if (grow && byte === 255 && memory.buffer.byteLength === 65_536) (memory as unknown as { grow: (pages: number) => void }).grow(1)
        expect(view.bytes.length).toBe(memory.buffer.byteLength)
        expect(view.latin1(at, length)).toBe(Buffer.from(memory.buffer).toString('latin1', at, at + length))
      }
    }), { numRuns: 200 })
  })
})

describe('what ended a contract', () => {
  const stopped = (thrown: unknown, gas: number, slots: number) => stopOf(thrown, { gas, slots } as ContractInstance, 1_000)
  const trap = new WebAssembly.RuntimeError('unreachable')

  test.each([
    [5, 5, 'CMESH_CONTRACT_TRAP', 'unreachable code was reached'],
    [-1, 5, 'CMESH_CONTRACT_OUT_OF_GAS', 'its limit was 1000'],
    [5, -1, 'CMESH_CONTRACT_STACK', 'its functions nest too deeply'],
  ])('a trap with %d gas and %d slots left is %s', (gas, slots, failure, reason) => {
    expect(stopped(trap, gas, slots)).toMatchObject({ failure, reason })
  })

  test('a trap whose text nobody knows is told in one way, whatever the engine says', () => {
    expect(stopped(new WebAssembly.RuntimeError('something new'), 5, 5)).toMatchObject({ failure: 'CMESH_CONTRACT_TRAP', reason: 'a WebAssembly trap' })
  })

  test.each([
    ['memory that could not be had for growing', trap, HOST_FAULT, 'memory could not grow although it may'],
    ['a native stack that overflowed', new RangeError('Maximum call stack size exceeded'), 5, 'Maximum call stack size exceeded'],
    ['memory that could not be had for an instance', new RangeError('Out of memory'), 5, 'Out of memory'],
    ['an error of the host', new TypeError('x is not a function'), 5, 'x is not a function'],
  ])('%s is the host\'s and thrown on', (_what, thrown, slots, message) => {
    expect(() => stopped(thrown, 5, slots)).toThrow(message)
  })
})

test('an idle instance keeps no long output: only a short one is compared with the next', async () => {
  const collect = (setFlagsFromString('--expose-gc'), runInNewContext('gc') as () => void)
  const engine = new WasmEngine()
  const addresses = Array.from({ length: 64 }, (_, n) => `0x${n.toString(16).padStart(3, '0')}`)
  for (const [n, address] of addresses.entries()) {
    const said = `(func (export "call_run") (memory.fill (i32.const 0) (i32.const ${97 + n % 26}) (i32.const 65536)) (call $output (i32.const 0) (i32.const ${65_536 - n})))`
    engine.install(address, contractModule(said, { abi: abiText([{ name: 'run' }]) }), new Map())
  }
  collect()
  const before = process.memoryUsage().arrayBuffers
  for (const address of addresses) expect(engine.call(callOf('run', { address, gasLimit: 50_000_000 }))).toMatchObject({ ok: true })
  expect(engine.held.instances).toBe(addresses.length)
  // They would be 4 MiB; what else a process takes meanwhile is a hundredth of that. Memory that was let go is given back a little later.
  await until('they are let go', () => {
    collect()
    return process.memoryUsage().arrayBuffers - before < addresses.length * 16_384
  })
})
