/**
 * The source of the wrappers: for each exported function a `call_<function>` that decodes the arguments, calls it and encodes
 * the result. The readers and writers it names are those of `contracts/sdk/arguments.ts` and `results.ts`.
 */
import { sourceOf } from './abi.ts'
import type { ContractFunction, ContractParameter } from './abi.ts'

/** Beside the entry file; no author's file is called so. */
export const WRAPPERS_PATH = '__cmesh_wrappers.ts'

/** `literal`: the source text of the default. */
export type WrappedParameter = ContractParameter & { readonly literal: string | undefined }
export type WrappedFunction = Omit<ContractFunction, 'params'> & { readonly params: readonly WrappedParameter[] }

/** `entry`: the compiler's path of the entry file, without its extension. */
export function wrappers(entry: string, functions: readonly WrappedFunction[]): string {
  return [
    `import * as contract from './${entry}'`,
    'import { argument, begin, end, more } from \'cmesh/sdk/arguments\'',
    'import { nothing, result } from \'cmesh/sdk/results\'',
    // Nothing calls these by name: the compiler does, by the alias it is given, and so do the methods it writes for events.
    'import { abort } from \'cmesh/sdk/errors\'',
    'import { __cmesh_emit } from \'cmesh/sdk/events\'',
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
    returns === 'void' ? `  ${call}\n  nothing()` : `  result(${call})`,
    '}',
  ].join('\n')
}

function reading({ name, type, literal }: WrappedParameter, index: number): string[] {
  const source = sourceOf(type)
  const read = `argument<${source}>('${name}')`
  if (literal === undefined) return [`  const ${variable(index)} = ${read}`]
  return [`  let ${variable(index)}: ${source} = ${literal}`, `  if (more()) ${variable(index)} = ${read}`]
}

function variable(index: number): string {
  return `a${index}`
}
