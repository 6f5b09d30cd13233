/** What the commands that put code on a mesh share: the facts of a package, and how what was done is shown. */
import type { ContractFunction } from '../../contract/abi.ts'
import type { CodeOptions } from '../../deployment.ts'
import { fields } from '../command.ts'
import type { Terminal } from '../terminal.ts'
import type { ContractCode } from './code.ts'
import { kilobytes } from './report.ts'

/** Module and manifest as the SDK's verbs take them. */
export function packageFacts({ module, manifest }: ContractCode): CodeOptions {
  const { name, version, compiler, sdk, flags, sourceHash, meter, schedule } = manifest
  return { wasm: module, name, version, compiler, sdk, flags, sourceHash, meter, schedule }
}

export interface Placed {
  readonly address: string
  readonly codeHash: string
  readonly name: string
  readonly version?: number
}

/** Lines for a person. */
export function placedLines(terminal: Terminal, { name, version, address, codeHash }: Placed, code: Pick<ContractCode, 'module'>, functions: readonly ContractFunction[]): string[] {
  return fields(terminal, [
    ['contract', `${terminal.style('bold', name)}${version === undefined || version === 1 ? '' : `, version ${version}`}`],
    ['address', address],
    ['code hash', codeHash],
    ['size', kilobytes(code.module.length)],
    ...functions.map((each, i): [string, string] => [i === 0 ? 'functions' : '', `${each.name} (${each.mode})`]),
  ])
}
