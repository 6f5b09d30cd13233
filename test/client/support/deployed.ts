/** Contracts of a test's own, compiled and installed in a real engine. */
import { afterAll, beforeAll } from '@jest/globals'
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import type { CompiledContract } from '../../../client/contract/compile.ts'
import { WasmEngine } from '../../../providers/contracts/wasm.ts'
import type { ContractAbi, ContractResult } from '../../../services/contracts/provider.ts'

export const SHIPPED = new URL('../../../contracts/', import.meta.url).pathname
export const CALLER = 'did:key:z6MkCaller'
export const ORIGIN = 'did:key:z6MkOrigin'
export const ADDRESS = `0x${'a'.repeat(64)}`
export const SEED = new Uint8Array(32).fill(7)
/** What things cost is of no matter to these tests. */
const MUCH_GAS = 1_000_000_000_000

export interface Sources {
  /** Writes a file and gives its path. */
  readonly write: (path: string, text: string) => Promise<string>
  readonly directory: () => string
}

/** A directory of its own for the sources of a test file. */
export function sourceDirectory(name: string): Sources {
  let directory = ''
  beforeAll(async () => {
    directory = await mkdtemp(join(tmpdir(), `cmesh-${name}-`))
  })
  afterAll(async () => {
    await rm(directory, { recursive: true, force: true })
  })
  return {
    directory: () => directory,
    write: async (path, text) => {
      const file = join(directory, path)
      await mkdir(dirname(file), { recursive: true })
      await writeFile(file, text)
      return file
    },
  }
}

export interface Deployed {
  readonly engine: WasmEngine
  readonly space: Map<string, Uint8Array>
  readonly abi: ContractAbi | undefined
  readonly call: (name: string, input?: string, view?: boolean) => ContractResult
  /** The JSON text of the result, or `CODE: reason`. */
  readonly say: (name: string, input?: string, view?: boolean) => string
}

/** One contract in an engine, which other contracts of a test may share. */
export function deployed({ wasm }: CompiledContract, engine = new WasmEngine(), address = ADDRESS): Deployed {
  const space = new Map<string, Uint8Array>()
  engine.install(address, wasm, space)
  const call: Deployed['call'] = (name, input = '', view = false) => engine.call({
    address, function: name, input: Buffer.from(input), view, gasLimit: MUCH_GAS,
    context: { seq: 7, timeMs: 1_700_000_000_123, caller: CALLER, origin: ORIGIN, seed: SEED },
  })
  return {
    engine, space, call, abi: engine.abi(address),
    say: (name, input, view) => {
      const result = call(name, input, view)
      return result.ok ? Buffer.from(result.output).toString() : `${result.failure}: ${result.reason}`
    },
  }
}

export function eventsOf(result: ContractResult): string[] {
  return result.ok ? result.events.map(({ topic, data }) => `${topic} ${Buffer.from(data).toString()}`) : []
}
