/**
 * The same two programs on the Ethereum Virtual Machine in JavaScript (`@ethereumjs/evm`): a counter in state, and a loop of one
 * multiplication and one addition of 64 bits a round. Each side is called through its engine, metered, with its state in memory.
 */
import { WasmEngine } from '../../providers/contracts/wasm.ts'
import type { ContractCall } from '../../services/contracts/provider.ts'
import { median, medianRatio, type Figure } from '../harness.ts'
import { loadPeer } from '../peers.ts'
import { geometricMean } from './compute.ts'
import { compileText } from './programs.ts'

/** Rounds of the loop in one call. */
const LOOP = 2_000
const COUNTER_CALLS = 2_000

const SOURCE = `
import { state } from 'cmesh/sdk'
export function increment(): u64 {
  const next = state.getU64('n') + 1
  state.setU64('n', next)
  return next
}
export function compute(n: i32): u64 {
  let x: u64 = 1
  for (let i = n; i != 0; i--) x = x * 6364136223846793005 + 1442695040888963407
  return x
}
`

/** SLOAD 0, ADD 1, SSTORE 0, return it. */
const COUNTER_CODE = '6000546001018060005560005260206000f3'
/** x = 1, n = LOOP; x = (x * a + c) & (2^64 - 1) until n is 0; return x. */
const LOOP_CODE = `600161${LOOP.toString(16).padStart(4, '0')}5b90675851f42d4c957f2d026714057b7ef767814f0167ffffffffffffffff16906001900380600557505f5260205ff3`

/** What is used of the packages. */
interface EvmPackage {
  readonly createEVM: () => Promise<Evm>
}
interface Evm {
  readonly stateManager: { putAccount(address: object, account: object): Promise<void>, putCode(address: object, code: Uint8Array): Promise<void> }
  runCall(options: object): Promise<{ readonly execResult: { readonly returnValue: Uint8Array, readonly exceptionError?: object } }>
}
interface UtilPackage {
  readonly Address: new (bytes: Uint8Array) => object
  readonly Account: new () => object
}

export interface EvmResult {
  readonly figures: readonly Figure[]
  /** Geometric mean of how many times faster the two programs are here. */
  readonly ratio: number
}

export async function measureEvm(rounds: number, smoke: boolean): Promise<EvmResult> {
  const ours = await ownSubjects()
  const theirs = await evmSubjects()
  const [few, many] = smoke ? [2, 20] : [15, COUNTER_CALLS]
  const programs = { 'counter increment': { evm: few * 20, own: many * 5 }, [`loop of ${LOOP} rounds`]: { evm: few, own: many } } as const
  const figures: Figure[] = []
  const ratios: number[] = []
  for (const [index, [name, counts]] of Object.entries(programs).entries()) {
    const [evm, own] = [theirs[index] as Subject, ours[index] as Subject]
    if (name !== 'counter increment' && await evm() !== await own()) throw new Error('the two sides compute different numbers')
    await timed(evm, counts.evm)
    await timed(own, counts.own)
    const [evmUs, ownUs]: [number[], number[]] = [[], []]
    for (let round = 0; round < rounds; round++) {
      evmUs.push(await timed(evm, counts.evm))
      ownUs.push(await timed(own, counts.own))
    }
    figures.push({ name: `${name}, EVM`, value: median(evmUs), unit: 'µs/call' }, { name: `${name}, here`, value: median(ownUs), unit: 'µs/call' })
    ratios.push(medianRatio(evmUs, ownUs))
  }
  return { figures, ratio: geometricMean(ratios) }
}

/** One call; gives the number that came back. */
type Subject = () => bigint | Promise<bigint>

async function timed(subject: Subject, count: number): Promise<number> {
  const start = performance.now()
  for (let i = 0; i < count; i++) {
    const result = subject()
    if (result instanceof Promise) await result
  }
  return (performance.now() - start) * 1_000 / count
}

async function ownSubjects(): Promise<readonly Subject[]> {
  const engine = new WasmEngine()
  engine.install('0xc01', await compileText('evm', SOURCE), new Map())
  const context = { seq: 1, timeMs: 0, caller: 'did:key:z6Mk', origin: 'did:key:z6Mk', seed: new Uint8Array(32) }
  const subject = (name: string, input: string): Subject => {
    const call: ContractCall = { address: '0xc01', function: name, input: new TextEncoder().encode(input), view: false, gasLimit: 20_000_000, context }
    return () => {
      const result = engine.call(call)
      if (!result.ok) throw new Error(`${name}: ${result.failure} ${result.reason}`)
      return BigInt(Buffer.from(result.output).toString().replaceAll('"', ''))
    }
  }
  return [subject('increment', ''), subject('compute', `[${LOOP}]`)]
}

async function evmSubjects(): Promise<readonly Subject[]> {
  const { createEVM } = loadPeer<EvmPackage>('@ethereumjs/evm')
  const { Address, Account } = loadPeer<UtilPackage>('@ethereumjs/util')
  const evm = await createEVM()
  const caller = new Address(Buffer.alloc(20, 1))
  return Promise.all([COUNTER_CODE, LOOP_CODE].map(async (code, index): Promise<Subject> => {
    const to = new Address(Buffer.alloc(20, 7 + index))
    await evm.stateManager.putAccount(to, new Account())
    await evm.stateManager.putCode(to, Buffer.from(code, 'hex'))
    return async () => {
      const { execResult } = await evm.runCall({ to, caller, origin: caller, gasLimit: 100_000_000n })
      if (execResult.exceptionError !== undefined) throw new Error(`the EVM failed: ${JSON.stringify(execResult.exceptionError)}`)
      return BigInt(`0x${Buffer.from(execResult.returnValue).toString('hex')}`)
    }
  }))
}
