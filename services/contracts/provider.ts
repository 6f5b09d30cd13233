/**
 * The engine that runs contracts. Synchronous and on the caller's thread: state is a map beside it, and a hop to a
 * worker costs more than a call. It changes the spaces it is given only through a journal, so that a failed call leaves
 * them exactly as they were.
 *
 * Invariants, proven by `test/conformance/contracts.ts`:
 * 1. The result follows from (code, function, input, context, state) alone.
 * 2. Trap, revert, limit or read-only violation: spaces unchanged, no events, no writes in the result.
 * 3. A failure of the host itself throws `CMESH_CONTRACT_HOST` and is never turned into a result.
 * 4. A hostile pointer or length from a contract gives that contract an error and nothing else.
 */
import type { EmittedEvent, Space, Write } from '../state/provider.ts'

export interface ContractContext {
  /** Sequence of the block this runs in; for a view, of the last applied block. */
  readonly seq: number
  /** Log time, ms since 1970. */
  readonly timeMs: number
  /** Who calls: a DID, or a contract's address. */
  readonly caller: string
}

export interface ContractCall {
  readonly address: string
  readonly function: string
  /** JSON array text in UTF-8; empty means no arguments. */
  readonly input: Uint8Array
  /** A view may not change state. */
  readonly view: boolean
  readonly context: ContractContext
}

/** What a view looked at beyond the contract's own keys: decides what its result may be cached by. */
export interface Observed {
  readonly caller: boolean
  /** Sequence or time. */
  readonly clock: boolean
}

export type ContractFailure = 'revert' | 'trap' | 'readonly' | 'limit' | 'no-function'

export type ContractResult =
  | {
    readonly ok: true, readonly output: Uint8Array, readonly gas: bigint,
    readonly writes: readonly Write[], readonly events: readonly EmittedEvent[], readonly observed: Observed,
  }
  | { readonly ok: false, readonly failure: ContractFailure, readonly reason: string, readonly gas: bigint }

export interface FunctionAbi {
  readonly name: string
  readonly mode: 'view' | 'write' | 'init'
  readonly params: readonly { readonly name: string, readonly type: string, readonly default?: string | number | boolean }[]
  readonly returns: string
}

/** The `cmesh.abi` custom section of a module: JSON. */
export interface ContractAbi {
  readonly abi: 1
  readonly sdk: string
  readonly functions: readonly FunctionAbi[]
  readonly events: readonly { readonly name: string, readonly fields: readonly { readonly name: string, readonly type: string }[] }[]
}

export interface ContractEngine {
  /**
   * Checks a module without installing it: size, `WebAssembly.validate`, imports by name, exports, ABI. Throws the
   * `CMESH_DEPLOY_*` error that says what to mend. Resolves nothing and keeps nothing.
   */
  inspect(wasm: Uint8Array): ContractAbi
  /** Compiles and keeps the module under the address; replaces what stood there. The space is the contract's own. */
  install(address: string, wasm: Uint8Array, space: Space): ContractAbi
  remove(address: string): void
  has(address: string): boolean
  abi(address: string): ContractAbi | undefined
  /** Throws `CMESH_STATE_NO_CONTRACT` for an address not installed and `CMESH_CONTRACT_HOST` when the host fails. */
  call(call: ContractCall): ContractResult
  /** Drops every instance. Idempotent. */
  close(): void
}
