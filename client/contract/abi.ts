/**
 * What a compiled contract says of itself: the `cmesh.abi` custom section, JSON in UTF-8. The compiler writes it, a node checks
 * it when the contract is deployed, clients call by it.
 */

export const ABI_SECTION = 'cmesh.abi'

/** Version of the SDK in `contracts/sdk`: changes when what it exports or how it encodes does. */
export const SDK_VERSION = '0.1'

/** The types that cross between a caller and a contract. `suffix`: of the SDK's functions that read and write one. */
export const CONTRACT_TYPES = Object.freeze({
  bool: { suffix: 'Bool' },
  i32: { suffix: 'I32', lowest: -(2n ** 31n), highest: 2n ** 31n - 1n },
  u32: { suffix: 'U32', lowest: 0n, highest: 2n ** 32n - 1n },
  i64: { suffix: 'I64', lowest: -(2n ** 63n), highest: 2n ** 63n - 1n },
  u64: { suffix: 'U64', lowest: 0n, highest: 2n ** 64n - 1n },
  string: { suffix: 'String' },
})

export type ContractType = keyof typeof CONTRACT_TYPES

export interface ContractParameter {
  readonly name: string
  readonly type: ContractType
  /** What it is when the caller leaves it out; a 64-bit number beyond ±(2^53 − 1) as a string. */
  readonly default?: string | number | boolean
}

export interface ContractFunction {
  readonly name: string
  readonly mode: 'view' | 'write' | 'init'
  readonly params: readonly ContractParameter[]
  readonly returns: ContractType | 'void'
}

export interface ContractAbi {
  readonly abi: 1
  readonly sdk: string
  readonly functions: readonly ContractFunction[]
  readonly events: readonly { readonly name: string, readonly fields: readonly ContractParameter[] }[]
}
