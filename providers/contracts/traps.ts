/** What ended a contract, told apart: its own doing, which is a `ContractStop`, from the host's, which is thrown on. */
import { outOfGas } from './frame.ts'
import type { ContractInstance } from './instance.ts'
import { HOST_FAULT } from './meter/index.ts'
import { ContractStop } from './stop.ts'

/** The stop behind what was thrown while `instance` ran. Throws what is not the contract's. */
export function stopOf(thrown: unknown, instance: ContractInstance, gasLimit: number): ContractStop {
  if (thrown instanceof ContractStop) return thrown
  // A RangeError is a native stack that overflowed or memory that could not be had: the engine's limits, which differ.
  if (!(thrown instanceof WebAssembly.RuntimeError)) throw thrown
  const { slots } = instance
  if (slots === HOST_FAULT) throw new Error('memory could not grow although it may', { cause: thrown })
  if (instance.gas < 0) return outOfGas(gasLimit)
  if (slots < 0) return new ContractStop('CMESH_CONTRACT_STACK', 'its functions nest too deeply')
  return new ContractStop('CMESH_CONTRACT_TRAP', TRAPS.get(thrown.message) ?? 'a WebAssembly trap')
}

/** V8's texts of traps in words of our own: a reason is recorded, so that it must not change with the engine's wording. */
const TRAPS: ReadonlyMap<string, string> = new Map([
  ['unreachable', 'unreachable code was reached'],
  ['memory access out of bounds', 'memory was accessed out of bounds'],
  ['divide by zero', 'a division by zero'],
  ['remainder by zero', 'a division by zero'],
  ['divide result unrepresentable', 'a division overflowed'],
  ['float unrepresentable in integer range', 'a number does not fit an integer'],
  ['table index is out of bounds', 'a table was accessed out of bounds'],
  ['null function or function signature mismatch', 'an indirect call met the wrong function'],
])
