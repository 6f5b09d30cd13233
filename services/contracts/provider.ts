/**
 * The engine that runs contracts. Synchronous and on the caller's thread: state is a map beside it, and a hop to a
 * worker costs more than a call. It changes the spaces it is given only through a journal, so that a failed call leaves
 * them exactly as they were.
 *
 * Invariants, proven by `test/conformance/contracts.ts`:
 * 1. The result, its gas included, follows from (code, schedule, function, input, context, gas limit, state) alone.
 * 2. Trap, revert, out of gas, limit or read-only violation: spaces unchanged, no events, no messages, no writes in the result.
 * 3. A failure of the host itself throws `CMESH_CONTRACT_HOST` and is never turned into a result.
 * 4. A hostile pointer or length from a contract gives that contract an error and nothing else.
 * 5. A call that needs exactly G gas succeeds under the limit G with none left, and fails under G − 1.
 */
import type { ErrorCode } from '../../cmtp/errors.ts'
import type { EmittedEvent, Space, Write } from '../state/provider.ts'

export interface ContractContext {
  /** Sequence of the block this runs in; for a view, of the last applied block. */
  readonly seq: number
  /** Log time, ms since 1970. */
  readonly timeMs: number
  /** Who calls: a DID, or a contract's address. */
  readonly caller: string
  /** Whose request began it: the caller of the outermost call. Context, never a right. */
  readonly origin: string
  /** 32 bytes that `seed` derives its numbers from; the same on every replica. */
  readonly seed: Uint8Array
}

export interface ContractCall {
  readonly address: string
  readonly function: string
  /** JSON array text in UTF-8; empty means no arguments. */
  readonly input: Uint8Array
  /** A view may not change state. */
  readonly view: boolean
  readonly context: ContractContext
  /** Most gas the call may use, nested calls included; 1 to 2^53 − 1. */
  readonly gasLimit: number
  /**
   * Asked once for each message that a contract sends, in the order of the sends, after the engine's own checks: a refusal fails
   * the `send`. Follows from ordered state alone. Default: every message may be sent.
   */
  readonly admit?: (message: SentMessage) => SendRefusal | undefined
}

/** What a result was made from beyond the code and the input: decides what a view may be cached by. */
export interface Observed {
  readonly caller: boolean
  /** Sequence, time or seed. */
  readonly clock: boolean
  /** Every space that was read or whose code ran, the called contract's first. */
  readonly spaces: readonly string[]
}

/** A message that a contract sends to any address, delivered after the block and answered by a later entry of the log. */
export interface SentMessage {
  /** The contract that sends it, under whose grants it goes. */
  readonly from: string
  /** In canonical form. */
  readonly fqmn: string
  readonly body: Uint8Array
  /** The function of `from`, of mode `reply`, that is called with the answer; empty for none. */
  readonly reply: string
  /** Set aside from the call's gas: what its delivery to a contract, and then that function, may use. */
  readonly gas: number
}

/** Why a message may not be sent. */
export interface SendRefusal {
  readonly failure: ContractFailure
  readonly reason: string
}

/** The code of a failure that is the contract's own. */
export type ContractFailure = Extract<ErrorCode, `CMESH_CONTRACT_${string}`>

export type ContractResult =
  | {
    /** `output`: never written again. That of a call asked for as a view may lie in larger memory, so that whoever keeps it for long keeps a copy. */
    readonly ok: true, readonly output: Uint8Array, readonly gas: number,
    readonly writes: readonly Write[], readonly events: readonly EmittedEvent[], readonly sends: readonly SentMessage[],
    readonly observed: Observed,
  }
  /** `contract`: where it failed, which is another than the called one only when a nested call's failure was passed on by the host. */
  | {
    readonly ok: false, readonly failure: ContractFailure, readonly reason: string, readonly contract: string, readonly gas: number,
    readonly observed: Observed,
  }

export type FunctionMode = 'view' | 'write' | 'init' | 'migrate' | 'reply'

export interface FunctionAbi {
  readonly name: string
  /**
   * `view` changes nothing; `init` runs at deployment, `migrate(from: string)` when the code is replaced (at most one each); `reply`
   * takes the answer of a message, from the mesh alone.
   */
  readonly mode: FunctionMode
  readonly params: readonly { readonly name: string, readonly type: string, readonly default?: string | number | boolean }[]
  readonly returns: string
}

/** The `cmesh.abi` custom section of a module: JSON. */
export interface ContractAbi {
  readonly abi: 1
  readonly sdk: string
  readonly functions: readonly FunctionAbi[]
  readonly events: readonly { readonly name: string, readonly fields: readonly { readonly name: string, readonly type: string }[] }[]
  /** Objects that results are made of, by the names that `returns` has; absent when there is none. */
  readonly records?: ContractAbi['events']
}

/** What decides how gas is counted. A change takes effect at one sequence of the log, for every contract at once. */
export interface MeterVersions {
  /** Version of the rewriter. */
  readonly meter: number
  /** Version of the table of costs. */
  readonly schedule: number
}

/** What a check of a module found. */
export interface ModuleReport {
  readonly abi: ContractAbi
  /** Bytes of the module as it was given, and as it runs. */
  readonly bytes: number
  readonly meteredBytes: number
  readonly functions: number
  readonly imports: readonly string[]
}

export interface ContractEngine {
  /** Versions that this engine can run, the newest last. */
  readonly meters: readonly MeterVersions[]
  /** What is in force; that of the newest before `useMeter`. */
  readonly meter: MeterVersions
  /** Puts other versions in force for every later call. Throws `CMESH_DEPLOY_METER` for versions it does not know. */
  useMeter(versions: MeterVersions): void
  /**
   * Checks a module without installing it: size, `WebAssembly.validate`, its own reading with an allow-list, imports, exports,
   * ABI, rewrite, validate again. Throws the `CMESH_DEPLOY_*` error that says what to mend. Keeps nothing.
   */
  inspect(wasm: Uint8Array): ModuleReport
  /**
   * Compiles and keeps the module under the address; replaces what stood there, for its proxies too. The space is the contract's own,
   * which from then on only the engine changes, or it is told (`changed`); the bytes are kept and must not change.
   */
  install(address: string, wasm: Uint8Array, space: Space): ContractAbi
  /** Makes `address` run whatever code stands under `target`, on its own space. Throws `CMESH_STATE_NO_CONTRACT`. */
  proxy(address: string, target: string, space: Space): ContractAbi
  remove(address: string): void
  has(address: string): boolean
  abi(address: string): ContractAbi | undefined
  /** Throws `CMESH_STATE_NO_CONTRACT` for an address not installed and `CMESH_CONTRACT_HOST` when the host fails. */
  call(call: ContractCall): ContractResult
  /** The same without a trace: nothing is kept in the spaces. What the result says would have been written. */
  dryRun(call: ContractCall): ContractResult
  /** To be told when somebody else than the engine has set or deleted a key of a contract's space: what it knows of the keys' order is put right. */
  changed(address: string, key: string): void
  /** Drops every instance. Idempotent. */
  close(): void
}
