/** What calls cost, by contract and function: collected while a sandbox runs, summed up in a report that can be kept and compared. */
import type { MeterVersions } from '../../services/contracts/provider.ts'

export interface FunctionGas {
  /** Calls that succeeded: what a failure costs says little about the function. */
  readonly calls: number
  readonly min: number
  readonly median: number
  readonly max: number
}

export interface ContractGas {
  /** Of the module as it was deployed last. */
  readonly bytes: number
  /** By the name of the function, in alphabetical order. */
  readonly functions: Readonly<Record<string, FunctionGas>>
}

export interface GasReport extends MeterVersions {
  /** By the name in the contract's manifest, in alphabetical order. */
  readonly contracts: Readonly<Record<string, ContractGas>>
}

/** Under which a deployment stands among the functions: no function is called so. */
export const DEPLOYMENT = '(deployment)'

export class GasLedger {
  readonly #bytes = new Map<string, number>()
  readonly #calls = new Map<string, Map<string, number[]>>()

  deployed(contract: string, bytes: number): void {
    this.#bytes.set(contract, bytes)
  }

  called(contract: string, name: string, gas: number): void {
    const functions = this.#calls.get(contract) ?? new Map<string, number[]>()
    this.#calls.set(contract, functions)
    functions.set(name, [...functions.get(name) ?? [], gas])
  }

  report({ meter, schedule }: MeterVersions): GasReport {
    const contracts = [...this.#bytes].map(([contract, bytes]): [string, ContractGas] => {
      const functions = [...this.#calls.get(contract) ?? []].map(([name, gas]): [string, FunctionGas] => [name, summary(gas)])
      return [contract, { bytes, functions: Object.fromEntries(sorted(functions)) }]
    })
    return { meter, schedule, contracts: Object.fromEntries(sorted(contracts)) }
  }
}

/** The median of an even number of calls is the lower of the two in the middle: gas is a whole number. */
function summary(gas: readonly number[]): FunctionGas {
  const ordered = gas.toSorted((a, b) => a - b)
  const at = (index: number): number => ordered[index] as number
  return { calls: ordered.length, min: at(0), median: at(Math.floor((ordered.length - 1) / 2)), max: at(ordered.length - 1) }
}

function sorted<T>(entries: readonly (readonly [string, T])[]): (readonly [string, T])[] {
  return entries.toSorted(([a], [b]) => (a < b ? -1 : 1))
}
