/** What tests of contract engines share: calls, results in short, contracts that stand in spaces of their own. */
import type { ContractCall, ContractEngine, ContractResult } from '../../services/contracts/provider.ts'
import type { Space } from '../../services/state/provider.ts'

export const ADDRESS = `0x${'ab'.repeat(32)}`
export const OTHER = `0x${'cd'.repeat(32)}`
export const CALLER = 'did:key:z6MkCaller'
export const ORIGIN = 'did:key:z6MkOrigin'
export const SEED = new Uint8Array(32).fill(7)
export const GAS = 20_000_000

export const bytes = (text: string): Uint8Array => new Uint8Array(Buffer.from(text))
export const text = (value: Uint8Array): string => Buffer.from(value).toString()
export const i32s = (...values: number[]): Uint8Array => new Uint8Array(Int32Array.from(values).buffer)
/** Content and order. */
export const snapshot = (space: Space): [string, string][] => [...space].map(([key, value]) => [key, Buffer.from(value).toString('hex')])

type CallFields = Partial<ContractCall>

export function callOf(name: string, more: CallFields = {}): ContractCall {
  return {
    address: ADDRESS, function: name, input: new Uint8Array(0), view: false, gasLimit: GAS,
    context: { seq: 7, timeMs: 1_700_000_000_123, caller: CALLER, origin: ORIGIN, seed: SEED }, ...more,
  }
}

/** The code without its family, and the reason. */
export function failure(result: ContractResult): [string, string] {
  if (result.ok) throw new Error('the call succeeded')
  return [result.failure.replace('CMESH_CONTRACT_', ''), result.reason]
}

export function output(result: ContractResult): string {
  return text(success(result).output)
}

export function success(result: ContractResult): ContractResult & { readonly ok: true } {
  if (!result.ok) throw new Error(`${result.failure}: ${result.reason}`)
  return result
}

/** Most numbers that a raw host call takes. */
const RAW_ARGUMENTS = 7

/** A contract on an engine, in a space of its own. */
export class Rig {
  readonly engine: ContractEngine
  readonly space: Space

  constructor(engine: ContractEngine, wasm: Uint8Array, space: Space = new Map()) {
    this.engine = engine
    this.space = space
    engine.install(ADDRESS, wasm, space)
  }

  readonly call = (name: string, more: CallFields = {}): ContractResult => this.engine.call(callOf(name, more))

  /** A raw host call, with numbers for arguments. */
  readonly raw = (name: string, args: readonly number[], more: CallFields = {}): ContractResult => {
    this.space.set('args', i32s(...args, ...Array<number>(RAW_ARGUMENTS).fill(0)).slice(0, 4 * RAW_ARGUMENTS))
    return this.call(name, more)
  }
}
