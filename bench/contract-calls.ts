/**
 * `contract-calls`: what one call of the engine costs. `counter.increment` on a pooled instance, beside the same code on a fresh
 * instance for every call: its module with a mutable global hidden, which the engine cannot put back from outside.
 */
import { existsSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { compileContract } from '../client/contract/compile.ts'
import { WasmEngine } from '../providers/contracts/wasm.ts'
import type { ContractCall } from '../services/contracts/provider.ts'
import { interleave, median, type Bench, type Figure } from './harness.ts'

/** This file runs as `dist/bench/contract-calls.js`; the contract's source stays where it is. */
const COUNTER = ['../../contracts/counter/index.ts', '../contracts/counter/index.ts'].map(place => fileURLToPath(new URL(place, import.meta.url))).find(existsSync) ?? ''

export const contractCalls: Bench = {
  name: 'contract-calls',
  what: 'one call of the contract engine: the pooled counter; against the same on a fresh instance each time',
  async run({ smoke, scope }) {
    const rounds = smoke ? 1 : 7
    const { wasm } = await compileContract(COUNTER)
    const engine = new WasmEngine()
    scope.defer(async () => { engine.close() })
    engine.install('0xpooled', wasm, new Map())
    engine.install('0xfresh', await withHiddenGlobal(wasm), new Map())
    const timed = (call: ContractCall, count: number) => async (): Promise<number> => {
      const start = performance.now()
      for (let i = 0; i < count; i++) engine.call(call)
      return (performance.now() - start) * 1_000 / count
    }
    const many = smoke ? 2_000 : 200_000
    const subjects = {
      'pooled increment': timed(callOf('0xpooled', 'increment', false), many),
      'pooled get': timed(callOf('0xpooled', 'get', true), many),
      'fresh increment': timed(callOf('0xfresh', 'increment', false), many / 50),
    }
    await interleave(1, subjects)
    const values = await interleave(rounds, subjects)
    return {
      rounds,
      figures: Object.entries(values).map(([name, us]): Figure => ({ name, value: median(us), unit: 'µs/call' })),
      ratios: [],
      leftOut: ['metering: execution is not metered', 'the service around the engine, the log, the network'],
    }
  },
}

async function withHiddenGlobal(wasm: Uint8Array): Promise<Uint8Array> {
  const { default: binaryen } = await import('assemblyscript/binaryen')
  const module = binaryen.readBinary(wasm)
  module.removeExport('global_0')
  const hidden = module.emitBinary()
  module.dispose()
  return hidden
}

function callOf(address: string, name: string, view: boolean): ContractCall {
  const input = view ? new Uint8Array(0) : new TextEncoder().encode('[1]')
  return { address, function: name, input, view, context: { seq: 1, timeMs: 0, caller: 'did:key:z6Mk' } }
}
