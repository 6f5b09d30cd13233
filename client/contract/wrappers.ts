/**
 * The source of the wrappers: for each exported function a `call_<function>` that decodes the arguments, calls it and encodes
 * the result. The readers and writers it names are those of `contracts/sdk/arguments.ts` and `results.ts`.
 */
import { CONTRACT_TYPES } from './abi.ts'
import type { ContractFunction, ContractParameter, ContractType } from './abi.ts'

/** Beside the entry file; no author's file is called so. */
export const WRAPPERS_PATH = '__cmesh_wrappers.ts'

/** `literal`: the source text of the default. */
export type WrappedParameter = ContractParameter & { readonly literal: string | undefined }
export type WrappedFunction = Omit<ContractFunction, 'params'> & { readonly params: readonly WrappedParameter[] }

/** `entry`: the compiler's path of the entry file, without its extension. */
export function wrappers(entry: string, functions: readonly WrappedFunction[]): string {
  const suffixes = Object.values(CONTRACT_TYPES).map(({ suffix }) => suffix)
  const names = (prefix: string): string => suffixes.map((suffix) => prefix + suffix).join(', ')
  return [
    `import * as contract from './${entry}'`,
    `import { begin, end, more, ${names('argument')} } from 'cmesh/sdk/arguments'`,
    `import { resultVoid, ${names('result')} } from 'cmesh/sdk/results'`,
    // Nothing calls it by name: the compiler does, by the alias it is given.
    'import { abort } from \'cmesh/sdk/errors\'',
    ...functions.map(wrapper),
  ].join('\n')
}

function wrapper({ name, params, returns }: WrappedFunction): string {
  const call = `contract.${name}(${params.map((_, index) => variable(index)).join(', ')})`
  return [
    `export function call_${name}(): void {`,
    '  begin()',
    ...params.flatMap(reading),
    `  end(${params.length})`,
    returns === 'void' ? `  ${call}\n  resultVoid()` : `  result${suffixOf(returns)}(${call})`,
    '}',
  ].join('\n')
}

function reading({ name, type, literal }: WrappedParameter, index: number): string[] {
  const read = `argument${suffixOf(type)}('${name}')`
  if (literal === undefined) return [`  const ${variable(index)} = ${read}`]
  return [`  let ${variable(index)}: ${type} = ${literal}`, `  if (more()) ${variable(index)} = ${read}`]
}

function variable(index: number): string {
  return `a${index}`
}

function suffixOf(type: ContractType): string {
  return CONTRACT_TYPES[type].suffix
}
