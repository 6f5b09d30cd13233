/** Code is compiled when it is installed, and not at the first call, at the cost of whoever makes it; and once, whoever installs it again. */
import { setFlagsFromString } from 'node:v8'
import { describe, expect, test } from '@jest/globals'
import { CodeStore, type CodeStoreOptions } from '../../providers/contracts/code-store.ts'
import { Compilations } from '../../providers/contracts/compilation.ts'
import { METERS, type Meter } from '../../providers/contracts/meter/index.ts'
import { failingModule, HOST_FUNCTIONS } from '../support/hand-made-contracts.ts'

setFlagsFromString('--allow-natives-syntax')
setFlagsFromString('--wasm-lazy-compilation')
// eslint-disable-next-line @typescript-eslint/no-implied-eval -- V8 answers in its own syntax alone
const isCompiled = new Function('f', 'return %IsLiftoffFunction(f)') as (f: unknown) => boolean
const IMPORTS = { cmesh: Object.fromEntries(Object.keys(HOST_FUNCTIONS).map(name => [name, () => 0])) }

/** Whether each exported function of a new instance is compiled before anybody called one. */
function compiled(module: WebAssembly.Module): boolean[] {
  return Object.values(new WebAssembly.Instance(module, IMPORTS).exports).filter(each => typeof each === 'function').map(isCompiled)
}

test('all functions of a module are compiled at installation, where V8 by itself would wait for their calls', () => {
  const wasm = failingModule()
  expect(new Set(compiled(new WebAssembly.Module(Buffer.from(wasm))))).toEqual(new Set([false]))
  const { module } = new CodeStore({ imports: IMPORTS }).take(wasm)
  expect(new Set(compiled(module))).toEqual(new Set([true]))
})

describe('a module that was compiled', () => {
  /** How often `work` has V8 compile something. */
  function compilations(work: () => void): number {
    const { Module } = WebAssembly
    let count = 0
    WebAssembly.Module = new Proxy(Module, {
      construct(target, args: ConstructorParameters<typeof Module>) {
        count++
        return new target(...args)
      },
    })
    try {
      work()
      return count
    } finally {
      WebAssembly.Module = Module
    }
  }
  const storeOf = (options: Partial<CodeStoreOptions> = {}): CodeStore => new CodeStore({ imports: IMPORTS, ...options })

  test('is not compiled again to be installed after it was looked at', () => {
    const wasm = failingModule()
    const store = storeOf()
    expect(compilations(() => { store.inspect(wasm) })).toBe(1)
    expect(compilations(() => { store.take(Buffer.from(wasm)) })).toBe(0)
  })

  test('is compiled once for all stores that share what they compiled, and by each that does not', () => {
    const shared = new Compilations()
    expect(compilations(() => { for (let i = 0; i < 5; i++) storeOf({ compilations: shared }).take(failingModule()) })).toBe(1)
    expect(compilations(() => { for (let i = 0; i < 5; i++) storeOf().take(failingModule()) })).toBe(5)
  })

  test('is never taken for what another meter, or the same without a rule, makes of it', () => {
    const shared = new Compilations()
    const [newest] = METERS.slice(-1) as [Meter]
    // The same versions, another price: only a test has such a thing.
    const dearer: Meter = { ...newest, costs: { ...newest.costs, contract: { ...newest.costs.contract, exports: { free: 0, each: 7 } } } }
    const meters: readonly Meter[] = [{ ...newest, schedule: newest.schedule + 1 }]
    const codes = [{}, { meters: [dearer] }, { meters }, { rules: { stack: false } }, { rules: { nan: false } }]
      .map(options => storeOf({ ...options, compilations: shared }).take(failingModule()))
    expect(new Set(codes.map(({ module }) => module)).size).toBe(5)
    expect(codes.map(({ metered }) => metered.meter)).toEqual([newest, dearer, meters[0], newest, newest])
    expect(codes[1]?.burden).toBeGreaterThan(codes[0]?.burden as number)
  })

  test('is forgotten when sixteen others were compiled since', () => {
    const shared = new Compilations()
    const other = (i: number): Uint8Array => Buffer.concat([failingModule(), customSection(`other ${i}`)])
    const again = (): number => compilations(() => { storeOf({ compilations: shared }).take(failingModule()) })
    again()
    for (let i = 0; i < 15; i++) storeOf({ compilations: shared }).take(other(i))
    expect(again()).toBe(0)
    for (let i = 0; i < 16; i++) storeOf({ compilations: shared }).take(other(i))
    expect(again()).toBe(1)
  })
})

/** An empty section that says nothing to the engine. */
function customSection(name: string): Buffer {
  return Buffer.concat([Buffer.from([0, name.length + 1, name.length]), Buffer.from(name)])
}
