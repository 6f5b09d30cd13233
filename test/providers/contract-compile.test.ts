/** Code is compiled when it is installed, and not at the first call, at the cost of whoever makes it. */
import { setFlagsFromString } from 'node:v8'
import { expect, test } from '@jest/globals'
import { CodeStore } from '../../providers/contracts/code-store.ts'
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
  const { module } = new CodeStore(IMPORTS).take(wasm)
  expect(new Set(compiled(module))).toEqual(new Set([true]))
})
