/** What one call of the engine costs: the shipped counter on a pooled instance, beside a call of WebAssembly that does hardly more than call
 * the host, without an engine and unmetered. */
import { existsSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { compileContract } from '../../client/contract/compile.ts'
import { WasmEngine } from '../../providers/contracts/wasm.ts'
import type { ContractCall } from '../../services/contracts/provider.ts'
import type { Figure } from '../harness.ts'
import { interleave, median } from '../harness.ts'
import { Bare } from './bare.ts'
import { TRANSACTION_GAS } from './hostile.ts'
import { assemble } from './wat.ts'

/** This file runs as `dist/bench/contracts/calls.js`; the contract's source stays where it is. */
const COUNTER = ['../../../contracts/counter/index.ts', '../../contracts/counter/index.ts'].map(place => fileURLToPath(new URL(place, import.meta.url))).find(existsSync) ?? ''

export interface CallsResult {
  readonly figures: readonly Figure[]
  readonly incrementUs: number
}

export async function measureCalls(rounds: number, smoke: boolean): Promise<CallsResult> {
  const { wasm } = await compileContract(COUNTER)
  // The same code, which the engine cannot put back: memory that grew.
  const growing = await assemble('(func (export "call_run") (drop (memory.grow (i32.const 1))))', { host: false })
  const two = await assemble('(func (export "call_run") (drop (call $get (i32.const 0) (i32.const 4))) (call $set (i32.const 0) (i32.const 4) (i32.const 0) (i32.const 8)))')
  const engine = new WasmEngine()
  engine.install('0xc01', wasm, new Map())
  engine.install('0xc02', growing, new Map())
  const bare = new Bare(new WebAssembly.Module(two)).procedure('call_run')
  const many = smoke ? 1_000 : 60_000
  const timed = (count: number, run: () => void) => async (): Promise<number> => {
    const start = performance.now()
    for (let i = 0; i < count; i++) run()
    return (performance.now() - start) * 1_000 / count
  }
  const called = (address: string, name: string, view: boolean, input: string): (() => void) => {
    const call = callOf(address, name, view, input)
    if (!engine.call(call).ok) throw new Error(`${name} of ${address} fails`)
    return () => { engine.call(call) }
  }
  const subjects = {
    'unmetered call with two calls of the host, no engine': timed(many * 10, bare),
    'increment, pooled': timed(many, called('0xc01', 'increment', false, '[1]')),
    'view, pooled': timed(many, called('0xc01', 'get', true, '')),
    'new instance for a call': timed(many / 50, called('0xc02', 'run', false, '')),
  }
  await interleave(1, subjects)
  const values = await interleave(rounds, subjects)
  engine.close()
  return {
    figures: Object.entries(values).map(([name, us]): Figure => ({ name, value: median(us), unit: 'µs/call' })),
    incrementUs: median(values['increment, pooled']),
  }
}

function callOf(address: string, name: string, view: boolean, input: string): ContractCall {
  const did = 'did:key:z6MkhaXgBZDvotDkL5257faiztiGiC2QtKLGpbnnEGta2doK'
  const context = { seq: 1, timeMs: 0, caller: did, origin: did, seed: new Uint8Array(32) }
  return { address, function: name, input: new TextEncoder().encode(input), view, gasLimit: TRANSACTION_GAS, context }
}
