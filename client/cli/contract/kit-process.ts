/** The contract kit's engine in a process of its own: what checks, measures and takes apart a module the way a node does. */
import { extname } from 'node:path'
import { fileURLToPath } from 'node:url'
import type { ContractAbi } from '../../contract/abi.ts'
import { runOperation } from '../operation-process.ts'
import type { Terminal } from '../terminal.ts'

/** What the engine found of a module that it takes. */
export interface ModuleReport {
  readonly abi: ContractAbi
  readonly bytes: number
  readonly meteredBytes: number
  readonly functions: number
  readonly imports: readonly string[]
}

/** What one call of a function cost, with zeros and empty texts as arguments, on empty state. */
export interface GasHint {
  readonly gas: number
  /** The code of the failure it ended with; absent when it succeeded. */
  readonly failed?: string
}

export interface InspectReport extends ModuleReport {
  readonly codeHash: string
  readonly hints: Readonly<Record<string, GasHint>>
}

export interface FunctionGas {
  readonly calls: number
  readonly min: number
  readonly median: number
  readonly max: number
}

export interface GasReport {
  /** Versions of the meter and of its table of costs. */
  readonly meter: number
  readonly schedule: number
  readonly contracts: Readonly<Record<string, { readonly bytes: number, readonly functions: Readonly<Record<string, FunctionGas>> }>>
}

/** The operations, each with what it is asked and what it answers. */
export interface KitOperations {
  readonly check: { readonly ask: { readonly module: string }, readonly answer: ModuleReport }
  readonly inspect: { readonly ask: { readonly module: string }, readonly answer: InspectReport }
  readonly gas: { readonly ask: { readonly scenario: string, readonly code: string }, readonly answer: GasReport }
}

/** The kit beside this file: dist/node/kit when built, node/kit when a test runs the sources. */
export function kitEntry(name: 'main' | 'register'): string {
  return fileURLToPath(new URL(`../../../node/kit/${name}${extname(fileURLToPath(import.meta.url))}`, import.meta.url))
}

/** Runs one operation. Rejects with the error it ended with, `CMESH_CLIENT_ABORTED` when interrupted. */
export async function askKit<O extends keyof KitOperations>(
  terminal: Terminal, operation: O, ask: KitOperations[O]['ask'],
): Promise<KitOperations[O]['answer']> {
  return await runOperation(terminal, { what: 'the contract kit', entry: kitEntry('main'), operation, ask }) as KitOperations[O]['answer']
}
