/** Arguments of a function as they are typed on a command line, by the types of its parameters. */
import type { ContractFunction, ContractParameter } from '../../contract/abi.ts'
import { usage } from '../../options.ts'
import { signature } from './report.ts'

/** The JSON values. Numbers stay text: the contract reads those too, whatever their size. Throws `CMESH_CLIENT_USAGE`. */
export function argumentsFrom(declared: ContractFunction, words: readonly string[]): unknown[] {
  const { params } = declared
  const needed = params.filter((param) => param.default === undefined).length
  if (words.length < needed || words.length > params.length) {
    const range = needed === params.length ? String(needed) : `${needed} to ${params.length}`
    throw usage(`${signature(declared)} takes ${range} argument${range === '1' ? '' : 's'}, not ${words.length}.`)
  }
  return words.map((word, i) => valueOf(declared, params[i] as ContractParameter, word))
}

function valueOf(declared: ContractFunction, { name, type }: ContractParameter, word: string): unknown {
  if (type.endsWith('[]')) return listOf(declared, name, word)
  if (type === 'string' || type === 'bytes') return word
  if (type === 'bool') {
    if (word === 'true' || word === 'false') return word === 'true'
    throw usage(`${name} of ${signature(declared)} is true or false, not ${word}.`)
  }
  if (/^-?\d+$/.test(word)) return word
  throw usage(`${name} of ${signature(declared)} is a whole number, not ${word}.`)
}

function listOf(declared: ContractFunction, name: string, word: string): unknown {
  try {
    const value: unknown = JSON.parse(word)
    if (Array.isArray(value)) return value
  } catch {
    // Said below, as for JSON that is no array.
  }
  throw usage(`${name} of ${signature(declared)} is a JSON array, not ${word}.`)
}
