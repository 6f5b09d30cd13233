/** Contracts compiled for a test file: those that ship, from their sources, and some of a test's own. */
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { fileURLToPath } from 'node:url'
import { compileContract } from '../../../client/contract/compile.ts'

const ROOT = fileURLToPath(new URL('../../../', import.meta.url))

/** The contracts that ship, in the order in which a reader meets them. */
export const SHIPPED = ['hello', 'counter', 'guestbook', 'token', 'escrow', 'auction'] as const

export type Shipped = typeof SHIPPED[number]

/** Path of a file beside a shipped contract's source. */
export function beside(name: Shipped, file: string): string {
  return path.join(ROOT, 'contracts', name, file)
}

/** The module of a shipped contract. Whatever the compiler warns of fails: people copy these. */
export async function shipped(name: Shipped): Promise<Uint8Array> {
  const { wasm, warnings } = await compileContract(beside(name, 'index.ts'))
  if (warnings !== '') throw new Error(warnings)
  return wasm
}

/** The module of a test's own contract. */
export async function compiled(source: string): Promise<Uint8Array> {
  const directory = await mkdtemp(path.join(tmpdir(), 'cmesh-contracts-'))
  try {
    const file = path.join(directory, 'index.ts')
    await writeFile(file, source)
    return (await compileContract(file)).wasm
  } finally {
    await rm(directory, { recursive: true, force: true })
  }
}
