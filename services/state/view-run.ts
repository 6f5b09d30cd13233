/**
 * One view, run: the code of a contract on state as it is at a head, with the context that follows from the head and the caller alone. Every
 * view goes through here, those that are run again later too.
 */
import { createHash } from 'node:crypto'
import { wireErrorReply, type Reply } from '../call.ts'
import { contractError } from '../contracts/execution.ts'
import type { Metering } from '../contracts/metering.ts'
import type { ContractCall, ContractEngine, ContractResult } from '../contracts/provider.ts'
import { checkedView } from './checked-view.ts'
import type { StateHead } from './provider.ts'

/** Most gas one view may use, unless the node says otherwise. */
export const VIEW_GAS = 2_000_000

export interface ViewRun {
  readonly contract: string
  readonly function: string
  /** JSON array text; empty for no arguments. */
  readonly input: () => Uint8Array
  /** DID of who asks. */
  readonly caller: string
  readonly gasLimit: number
}

/** Throws `CMESH_STATE_NO_CONTRACT`, `_NO_FUNCTION` or `_NOT_A_VIEW` before any code runs, and what `input` throws. */
export function runView(engine: ContractEngine, metering: Metering, head: StateHead, seed: Uint8Array, run: ViewRun): ContractResult {
  const { contract, function: name, caller, gasLimit } = run
  checkedView(engine, contract, name)
  return callView(engine, metering, {
    address: contract, function: name, input: run.input(), gasLimit, context: { seq: head.seq, timeMs: head.timeMs, caller, origin: caller, seed },
  })
}

/** Runs a view that was found. Whoever calls this has confirmed its caller. */
export function callView(
  engine: ContractEngine, metering: Metering, call: Pick<ContractCall, 'address' | 'function' | 'input' | 'gasLimit' | 'context'>,
): ContractResult {
  const { address, function: name, input, gasLimit, context } = call
  metering.at(context.seq + 1)
  return engine.call({ address, function: name, input, view: true, gasLimit, context })
}

/** The seed of every view on a head, by its chain value. */
export function viewSeed(chain: Uint8Array): Uint8Array {
  return createHash('sha256').update(chain).digest()
}

/** What the caller of a view is told that the contract ended otherwise than with a result. */
export function failedView(result: Extract<ContractResult, { readonly ok: false }>): Reply {
  const error = contractError(result)
  return wireErrorReply(error.status, error.toWire(), [['x-cmesh-gas', String(result.gas)]])
}
