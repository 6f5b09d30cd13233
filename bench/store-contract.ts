/**
 * The contract that the benchmarks of state write to and read from: text under keys, and no events. Its text is compiled when
 * a benchmark needs it. Keys and values are the same wherever something is compared with it.
 */
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { compileContract } from '../client/contract/compile.ts'

const SOURCE = `
import { state } from 'cmesh/sdk'

export function put(key: string, value: string): void {
  state.setString(key, value)
}

@view
export function get(key: string): string {
  return state.getString(key)
}
`

/** Keys in use at once. */
export const KEYS = 10_000

export function keyOf(index: number): string {
  return `key/${String(index).padStart(8, '0')}`
}

/** 100 characters. */
export function valueOf(index: number): string {
  return String(index).padStart(100, '0')
}

export async function compileStore(): Promise<Uint8Array> {
  const dir = await mkdtemp(path.join(tmpdir(), 'cmesh-bench-'))
  try {
    const file = path.join(dir, 'store.ts')
    await writeFile(file, SOURCE)
    return (await compileContract(file)).wasm
  } finally {
    await rm(dir, { recursive: true, force: true })
  }
}
