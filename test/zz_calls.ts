/**
 * What one call of the engine costs: `counter.increment` on a pooled instance beside the same code on a fresh instance for every
 * call (its module with a hidden mutable global), the bare export beside both. Interleaved, medians of 7 rounds. Leaves out: the
 * service around the engine, the log, the network; execution is not metered.
 */
import { fileURLToPath } from 'node:url'
import binaryen from 'assemblyscript/binaryen'
import { compileContract } from '../client/contract/compile.ts'
import { WasmEngine } from '../providers/contracts/wasm.ts'
import type { ContractCall } from '../services/contracts/provider.ts'

const ROUNDS = 7
const { wasm } = await compileContract(fileURLToPath(new URL('../contracts/counter/index.ts', import.meta.url)))
const module = binaryen.readBinary(wasm)
module.removeExport('global_0')
const hidden = module.emitBinary()
module.dispose()

const engine = new WasmEngine()
engine.install('0xpooled', wasm, new Map())
engine.install('0xfresh', hidden, new Map())
const context = { seq: 1, timeMs: 0, caller: 'did:key:z6Mk' }
const input = new TextEncoder().encode('[1]')
const call = (address: string, name: string, view: boolean): ContractCall => ({ address, function: name, input, view, context })
const nothing = { ...call('0xpooled', 'get', true), input: new Uint8Array(0) }

const cases: readonly (readonly [string, number, () => unknown])[] = [
  ['pooled increment', 200_000, () => engine.call(call('0xpooled', 'increment', false))],
  ['pooled get', 200_000, () => engine.call(nothing)],
  ['fresh increment', 4_000, () => engine.call(call('0xfresh', 'increment', false))],
]
const figures = cases.map((): number[] => [])
for (let round = 0; round <= ROUNDS; round++) {
  for (const [index, [, count, run]] of cases.entries()) {
    const began = performance.now()
    for (let i = 0; i < count; i++) run()
    if (round > 0) figures[index]?.push((performance.now() - began) * 1000 / count)
  }
}
for (const [index, [name]] of cases.entries()) {
  const sorted = (figures[index] ?? []).sort((a, b) => a - b)
  const [lowest = 0, median = 0, highest = 0] = [sorted[0], sorted[ROUNDS >> 1], sorted.at(-1)]
  console.log(`${name.padEnd(18)} ${median.toFixed(2).padStart(7)} µs a call  (${lowest.toFixed(2)} to ${highest.toFixed(2)})`)
}
engine.close()
