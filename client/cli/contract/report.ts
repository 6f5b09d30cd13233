/** What the commands say of a module: what the engine found, sizes, functions. */
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { ContractFunction } from '../../contract/abi.ts'
import { withProgress } from '../progress.ts'
import type { Terminal } from '../terminal.ts'
import type { ContractCode } from './code.ts'
import { askKit, type KitOperations } from './kit-process.ts'

/** What the engine says of a module. Rejects with the `CMESH_DEPLOY_*` error that says what to mend. */
export async function reportOf<O extends 'check' | 'inspect'>(
  terminal: Terminal, operation: O, { module, manifest }: ContractCode,
): Promise<KitOperations[O]['answer']> {
  return await withProgress(terminal, `checking ${manifest.name}`, () =>
    withFile(`${operation}.wasm`, module, (file) => askKit(terminal, operation, { module: file })))
}

/** Lends a file with this content to `use`. */
export async function withFile<T>(name: string, content: Uint8Array, use: (file: string) => Promise<T>): Promise<T> {
  const directory = await mkdtemp(join(tmpdir(), 'cmesh-contract-'))
  try {
    const file = join(directory, name)
    await writeFile(file, content)
    return await use(file)
  } finally {
    await rm(directory, { recursive: true, force: true })
  }
}

/** `increment(by: u64 = 1): u64`. */
export function signature({ name, params, returns }: Pick<ContractFunction, 'name' | 'params' | 'returns'>): string {
  const list = params.map((param) => `${param.name}: ${param.type}${param.default === undefined ? '' : ` = ${JSON.stringify(param.default)}`}`)
  return `${name}(${list.join(', ')}): ${returns}`
}

/** Rows for `fields`: each function with its mode. */
export function functionRows(functions: readonly ContractFunction[]): [string, string][] {
  return functions.map((each, i) => [i === 0 ? 'functions' : '', `${signature(each)}  ${each.mode}`])
}

export function kilobytes(bytes: number): string {
  return bytes < 1_024 ? `${bytes} bytes` : `${(bytes / 1_024).toFixed(1)} KiB`
}
