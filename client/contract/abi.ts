/**
 * What a compiled contract says of itself: the `cmesh.abi` custom section, JSON in UTF-8. The compiler writes it, a node checks
 * it when the contract is deployed, clients call by it.
 */

export const ABI_SECTION = 'cmesh.abi'

/** Version of the SDK in `contracts/sdk`: changes when what it exports or how it encodes does. */
export const SDK_VERSION = '0.2'

/** The types that cross between a caller and a contract. `source`: what an author writes. */
export const SCALAR_TYPES = Object.freeze({
  bool: { source: 'bool' },
  i32: { source: 'i32', lowest: -(2n ** 31n), highest: 2n ** 31n - 1n },
  u32: { source: 'u32', lowest: 0n, highest: 2n ** 32n - 1n },
  i64: { source: 'i64', lowest: -(2n ** 63n), highest: 2n ** 63n - 1n },
  u64: { source: 'u64', lowest: 0n, highest: 2n ** 64n - 1n },
  string: { source: 'string' },
  bytes: { source: 'Uint8Array' },
})

export type ScalarType = keyof typeof SCALAR_TYPES
export type ContractType = ScalarType | `${ScalarType}[]`

export interface ContractField {
  readonly name: string
  readonly type: ContractType
}

export interface ContractParameter extends ContractField {
  /** What it is when the caller leaves it out; a 64-bit number beyond ±(2^53 − 1) as a string. */
  readonly default?: string | number | boolean
}

export type FunctionMode = 'view' | 'write' | 'init' | 'migrate' | 'reply'

export interface ContractFunction {
  readonly name: string
  readonly mode: FunctionMode
  readonly params: readonly ContractParameter[]
  /** `void`, a `ContractType`, or the name of a record, with `[]` behind it for a list of them. */
  readonly returns: string
}

/** An event, or a record that a function gives: an object with these fields. */
export interface ContractShape {
  readonly name: string
  readonly fields: readonly ContractField[]
}

export interface ContractAbi {
  readonly abi: 1
  readonly sdk: string
  readonly functions: readonly ContractFunction[]
  readonly events: readonly ContractShape[]
  /** What the results name; absent when there is none. */
  readonly records?: readonly ContractShape[]
}

/** The type that an author's text names; `undefined` for one that does not cross. */
export function typeOf(source: string): ContractType | undefined {
  const element = /^Array<(.+)>$/.exec(source)?.[1] ?? /^(.+)\[\]$/.exec(source)?.[1]
  const scalar = scalarOf(element ?? source)
  if (scalar === undefined || element === undefined) return scalar
  return `${scalar}[]`
}

/** What an author writes for the type. */
export function sourceOf(type: ContractType): string {
  return type.endsWith('[]') ? `${SCALAR_TYPES[type.slice(0, -2) as ScalarType].source}[]` : SCALAR_TYPES[type as ScalarType].source
}

export const TYPE_NAMES = `${Object.values(SCALAR_TYPES).map(({ source }) => source).join(', ')} or an array of one of these`

function scalarOf(source: string): ScalarType | undefined {
  return (Object.keys(SCALAR_TYPES) as ScalarType[]).find((type) => SCALAR_TYPES[type].source === source)
}
