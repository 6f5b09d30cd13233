/** What a client says of contracts and is told of them: options and records, as types alone. */
import type { ContractRecord, DryOutcome } from '../cmtp/contract-info.ts'
import type { ContractStrategy } from '../cmtp/package.ts'
import type { VerbOptions } from './verbs.ts'

export type { ContractVersion, DryOutcome } from '../cmtp/contract-info.ts'

/** A module and what is told of it. */
export interface CodeOptions extends VerbOptions {
  /** The module's bytes, at most 256 KiB. Excludes `file`. */
  readonly wasm?: Uint8Array | undefined
  /** Path of a `.wasm` file. Excludes `wasm`. */
  readonly file?: string | undefined
  /** What the contract is called, 1 to 64 characters. */
  readonly name: string
  /** Semantic version of the contract. */
  readonly version: string
  /** Whether the code may be replaced later. Default `immutable`. */
  readonly strategy?: ContractStrategy | undefined
  /** 16 bytes. Default random; the same salt, module and arguments by the same DID give the same address. */
  readonly salt?: Uint8Array | undefined
  /** Compiler and version, for the manifest. Default `unknown`. */
  readonly compiler?: string | undefined
  /** Version of the contract SDK, for the manifest. Default `unknown`. */
  readonly sdk?: string | undefined
  /** What the compiler was told, for the manifest: at most 512 characters. Default `none`. */
  readonly flags?: string | undefined
  /** SHA-256 of the source, 64 hex digits, for the manifest. Default `none`. */
  readonly sourceHash?: string | undefined
  /** Versions of meter and schedule that the mesh must run, else it refuses the code. Default 0: any. */
  readonly meter?: number | undefined
  readonly schedule?: number | undefined
}

export interface DeployOptions extends CodeOptions {
  /** Arguments of the contract's `init` function. Default: none. */
  readonly init?: readonly unknown[] | undefined
}

export interface Deployment {
  /** `0x` and 64 hex digits. */
  readonly address: string
  /** SHA-256 of the module, 64 hex digits. */
  readonly codeHash: string
  readonly name: string
  /** 1. */
  readonly version: number
}

export interface Replacement extends Deployment {
  /** Hash of the module that ran there before. */
  readonly replaced: string
}

export interface ProxyOptions extends VerbOptions {
  /** Arguments of the code's `init` function, which begins the new state. Default: none. */
  readonly init?: readonly unknown[] | undefined
  /** 16 bytes. Default random. */
  readonly salt?: Uint8Array | undefined
}

export interface ProxyContract {
  readonly address: string
  /** Whose code it runs, replacements included. */
  readonly target: string
  readonly codeHash: string
  readonly name: string
}

export interface NamedType {
  readonly name: string
  readonly type: string
}

export interface FunctionInfo {
  readonly name: string
  /** `view`, `write`, or what the mesh alone calls: `init`, `migrate`, `reply`. */
  readonly mode: string
  /** Those with a default, and all behind them, may be left out. */
  readonly params: readonly (NamedType & { readonly default?: string | number | boolean })[]
  readonly returns: string
}

/** What stands at an address. */
export interface ContractInfo extends ContractRecord {
  readonly abi: {
    readonly abi: 1
    readonly sdk: string
    readonly functions: readonly FunctionInfo[]
    readonly events: readonly { readonly name: string, readonly fields: readonly NamedType[] }[]
  }
}

/** A call that a dry run makes on the old code and on the new. */
export interface RecordedCall {
  readonly function: string
  readonly args?: readonly unknown[] | undefined
  /** Who calls. Default: this client. */
  readonly caller?: string | undefined
}

export interface DryRunOptions extends CodeOptions {
  /** At most 64; what one writes is there for those after it. Default: none. */
  readonly calls?: readonly RecordedCall[] | undefined
}

export interface DryDeployment {
  readonly address: string
  readonly codeHash: string
  /** Gas that the package's bytes cost. */
  readonly deployGas: number
  readonly report: { readonly bytes: number, readonly meteredBytes: number, readonly functions: number, readonly imports: readonly string[] }
  /** What `init` would do; null without one. */
  readonly init: DryOutcome | null
}

/** A recorded call on the old code and on the new. */
export interface ComparedCall {
  readonly function: string
  readonly args: readonly unknown[]
  /** Whether both ended the same, gas aside. */
  readonly same: boolean
  readonly before: DryOutcome
  readonly after: DryOutcome
}

export interface DryReplacement extends Omit<DryDeployment, 'init'> {
  /** The number the version would have. */
  readonly version: number
  /** What `migrate` would do; null without one. */
  readonly migrate: DryOutcome | null
  readonly calls: readonly ComparedCall[]
  /** Where old and new part first, gas aside; null where they never do. */
  readonly firstDifference: {
    readonly call: number
    readonly function: string
    readonly args: readonly unknown[]
    readonly part: 'status' | 'output' | 'writes' | 'events' | 'messages'
    readonly before: unknown
    readonly after: unknown
  } | null
}
