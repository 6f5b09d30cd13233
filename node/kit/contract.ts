/**
 * A contract in a sandbox, as a test holds it: calls, views, and what is expected to fail. Every call is a transaction in a block
 * of its own, executed as on a node; a view reads state as it is.
 */
import { AssertionError } from 'node:assert'
import type { CMeshError, ErrorCode } from '../../cmtp/errors.ts'
import type { ContractAbi, SentMessage } from '../../services/contracts/provider.ts'
import type { Identity } from './identity.ts'
import type { Argument } from './values.ts'

/** Who calls: an identity, a contract, or a DID or address as text. */
export type Caller = Identity | SandboxContract | string

export interface CallOptions {
  /** Who calls. Default: the identity `anyone`. */
  readonly as?: Caller
  /** Most gas the call may use, 1 to 2^53 − 1. Default: the sandbox's. */
  readonly gas?: number
}

export interface SandboxEvent {
  /** Address of the contract that emitted it. */
  readonly contract: string
  readonly topic: string
  /** The JSON value of its data; the text where it is none. */
  readonly data: unknown
}

export interface SandboxWrite {
  /** Address of the contract whose key it is. */
  readonly contract: string
  /** Bytes of the key as latin1. */
  readonly key: string
  /** `undefined`: the key was deleted. */
  readonly value: Uint8Array | undefined
}

/** A call that succeeded. */
export interface CallSuccess<T = unknown> {
  readonly ok: true
  /** The result as JSON has it: `null` for nothing, a text for a number beyond ±(2^53 − 1). */
  readonly value: T
  readonly gas: number
  /** Sequence of its block; for a view, of the last one. */
  readonly seq: number
  readonly events: readonly SandboxEvent[]
  readonly writes: readonly SandboxWrite[]
  /** Messages it left to be delivered; see `Sandbox.deliver`. */
  readonly sends: readonly SentMessage[]
}

/** A call that failed: nothing was changed. */
export interface CallFailure {
  readonly ok: false
  readonly code: ErrorCode
  /** What the contract said, or what it did wrong. */
  readonly reason: string
  readonly error: CMeshError
  readonly gas: number
  readonly seq: number
}

export type CallResult<T = unknown> = CallSuccess<T> | CallFailure

/** What a handle asks of its sandbox. */
export interface ContractHost {
  abiOf(address: string): ContractAbi
  call(address: string, name: string, args: readonly Argument[], options: CallOptions): CallResult
  replace(address: string, code: string | URL | Uint8Array, as: Identity | undefined): CallSuccess
}

export class SandboxContract {
  /** `0x` and 64 hex digits. */
  readonly address: string
  readonly #host: ContractHost

  /** Use `Sandbox.deploy` or `Sandbox.at`. */
  constructor(address: string, host: ContractHost) {
    this.address = address
    this.#host = host
  }

  get abi(): ContractAbi {
    return this.#host.abiOf(this.address)
  }

  /** Calls a function and gives its result, whatever its mode; throws the `CMeshError` of a call that failed. */
  call<T = unknown>(name: string, args: readonly Argument[] = [], options: CallOptions = {}): CallSuccess<T> {
    const result = this.attempt<T>(name, args, options)
    if (!result.ok) throw result.error
    return result
  }

  /** Calls a view and gives the value alone; throws the `CMeshError` of one that failed. */
  view<T = unknown>(name: string, args: readonly Argument[] = [], options: CallOptions = {}): T {
    return this.call<T>(name, args, options).value
  }

  /** Calls a function; a failure is a result too. */
  attempt<T = unknown>(name: string, args: readonly Argument[] = [], options: CallOptions = {}): CallResult<T> {
    return this.#host.call(this.address, name, args, options) as CallResult<T>
  }

  /** Asserts that the call reverts for this reason, a part of it or a pattern, and gives the failure. */
  expectRevert(reason: string | RegExp, name: string, args: readonly Argument[] = [], options: CallOptions = {}): CallFailure {
    const failure = this.expectFailure('CMESH_CONTRACT_REVERT', name, args, options)
    const fits = typeof reason === 'string' ? failure.reason.includes(reason) : reason.test(failure.reason)
    if (!fits) throw mismatch(`${name} reverts for another reason`, failure.reason, reason)
    return failure
  }

  /** Asserts that the call fails with this code, such as `CMESH_CONTRACT_OUT_OF_GAS`, and gives the failure. */
  expectFailure(code: ErrorCode, name: string, args: readonly Argument[] = [], options: CallOptions = {}): CallFailure {
    const result = this.attempt(name, args, options)
    if (result.ok) throw mismatch(`${name} succeeds`, result.value, code)
    if (result.code !== code) throw mismatch(`${name} fails otherwise: ${result.error.message}`, result.code, code)
    return result
  }

  /** Puts other code in place of this contract's, as `as`, by default its deployer; runs `migrate` where there is one. Throws the `CMeshError` of a refusal. */
  replace(code: string | URL | Uint8Array, { as }: { readonly as?: Identity } = {}): CallSuccess {
    return this.#host.replace(this.address, code, as)
  }

  /** As an argument of a call it is its address. */
  toJSON(): string {
    return this.address
  }

  toString(): string {
    return this.address
  }
}

function mismatch(message: string, actual: unknown, expected: unknown): AssertionError {
  return new AssertionError({ message, actual, expected, operator: 'fails' })
}
