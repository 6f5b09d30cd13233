/**
 * Entry point: compiles the contracts that ship into `dist/contracts/<name>.wasm`, for the node to deploy and the demo to use.
 * Prints one line for each. The outcome follows from the sources alone.
 */
import { mkdir, rename, writeFile } from 'node:fs/promises'
import { fileURLToPath } from 'node:url'
import { stayOnBaseline } from './baseline.ts'
import { compileContract } from './compile.ts'

const CONTRACTS = ['hello', 'counter', 'guestbook', 'token', 'escrow', 'auction']

/** This file is run as `dist/client/contract/build-genesis.js`. */
const packageRoot = new URL('../../../', import.meta.url)
const target = new URL('dist/contracts/', packageRoot)

stayOnBaseline()
await mkdir(target, { recursive: true })
for (const name of CONTRACTS) {
  const { wasm, stats } = await compileContract(fileURLToPath(new URL(`contracts/${name}/index.ts`, packageRoot)))
  // Renamed into place, so that a set-up that is interrupted leaves no half a module.
  const file = new URL(`${name}.wasm`, target)
  const draft = new URL(`${name}.wasm.draft`, target)
  await writeFile(draft, wasm)
  await rename(draft, file)
  console.log(`${name.padEnd(10)} ${String(stats.bytes).padStart(6)} bytes  ${stats.codeHash}`)
}
