/**
 * Compiles a contract written in AssemblyScript to the module that is deployed. The compiler is the pinned one that comes
 * with this package; it is loaded on the first use, because that takes longer than anything else a client does at start. Nothing
 * has to be installed beside a contract: `cmesh/sdk` is found here, whatever lies around the contract's file.
 *
 * The same sources give the same bytes, on any machine and in any directory. A crash inside the compiler ends the
 * process: it calls `process.exit` itself.
 */
import { access, readFile, stat } from 'node:fs/promises'
import { basename, dirname, join, resolve } from 'node:path'
import { fileURLToPath } from 'node:url'
import type { APIOptions } from 'assemblyscript/asc'
import { CMeshError } from '../../cmtp/errors.ts'
import { codeHash } from '../../cmtp/package.ts'
import { ABI_SECTION } from './abi.ts'
import type { ContractAbi } from './abi.ts'
import { ContractTransform } from './transform.ts'

export interface CompileOptions {
  /** Also give the module as WebAssembly text. Default false. */
  readonly text?: boolean
}

export interface CompiledContract {
  readonly wasm: Uint8Array
  /** What stands in the module's `cmesh.abi` section. */
  readonly abi: ContractAbi
  /** Compiler and version, for the manifest: `assemblyscript 0.28.20`. */
  readonly compiler: string
  /** Empty, or what the compiler warned of. */
  readonly warnings: string
  readonly stats: {
    readonly bytes: number
    /** SHA-256 of the module, 64 lower-case hex digits. */
    readonly codeHash: string
    readonly durationMs: number
  }
  /** Only with the option `text`. */
  readonly text?: string
}

/**
 * What the compiler is told:
 * - `-O3 --shrinkLevel 1`: a tenth smaller than -O3 alone, and a call of the counter takes as long.
 * - `--runtime stub`: memory is only ever allocated; the engine puts it back after each call.
 * - `--exportStart`: top-level code runs when the engine says so, not when the module is instantiated.
 * - `--use abort`: `throw`, `assert` and failed checks become a revert with their message. Assertions stay in (no
 *   `--noAssert`): an author's `assert` must hold, and those of the library cost 40 bytes.
 * - `--maximumMemory`: in pages of 64 KiB, the most the engine takes.
 * - `--noColors`: what the compiler says becomes an error's text, whatever the environment thinks of colours.
 */
const FLAGS = [
  '-O3', '--shrinkLevel', '1', '--runtime', 'stub', '--exportStart', '_start', '--use', 'abort=~lib/cmesh/sdk/errors/abort',
  '--maximumMemory', '64', '--noColors',
]

const OUT_FILE = 'contract.wasm'

/** How the compiler asks for a file of the SDK: as for any package, from the contract's directory upwards. */
const SDK_FILE = /(?:^|\/)node_modules\/cmesh\/sdk\/([a-z]+\.ts)$/

/**
 * `entryFile`: a `.ts` file, or a directory with an `index.ts`. Rejects with `CMESH_CLIENT_COMPILE`, whose reason is the
 * compiler's own text with file, line and an excerpt.
 */
export async function compileContract(entryFile: string, options: CompileOptions = {}): Promise<CompiledContract> {
  const began = performance.now()
  const entry = await findEntry(entryFile)
  const [assemblyscript, asc, { default: binaryen }, sdk] = await Promise.all([
    import('assemblyscript'), import('assemblyscript/asc'), import('assemblyscript/binaryen'), findSdk(),
  ])
  const files = new Map<string, string | Uint8Array>()
  const messages = asc.createMemoryStream()
  const transform = new ContractTransform(assemblyscript)
  const api: APIOptions = {
    stdout: asc.createMemoryStream(),
    stderr: messages,
    readFile: async (name, base) => await readSource(name, base, sdk),
    writeFile: (name, contents) => { files.set(name, contents) },
    listFiles: () => [],
    // Of the compiler's class only the hooks matter to it.
    transforms: [transform as unknown as NonNullable<APIOptions['transforms']>[number]],
  }
  const { error } = await asc.main([basename(entry), '--baseDir', dirname(entry), '--outFile', OUT_FILE, ...FLAGS], api)
  const output = files.get(OUT_FILE)
  if (error !== null || !(output instanceof Uint8Array)) {
    const reason = messages.toString().replace(/\n*FAILURE [^\n]*\n?$/, '').trim()
    throw new CMeshError('CMESH_CLIENT_COMPILE', { file: entryFile, reason: reason === '' ? String(error?.message) : reason })
  }
  const { wasm, text } = finish(binaryen, output, transform.abi, options.text === true)
  return {
    wasm,
    abi: transform.abi,
    compiler: `assemblyscript ${asc.version}`,
    warnings: messages.toString().trim(),
    stats: { bytes: wasm.length, codeHash: codeHash(wasm), durationMs: performance.now() - began },
    ...(text === undefined ? {} : { text }),
  }
}

async function findEntry(given: string): Promise<string> {
  const path = resolve(given)
  const found = await stat(path).catch(() => undefined)
  const entry = found?.isDirectory() === true ? join(path, 'index.ts') : path
  if (found === undefined || !entry.endsWith('.ts')) {
    const reason = found === undefined ? 'there is no such file.' : 'it is not a .ts file.'
    throw new CMeshError('CMESH_CLIENT_COMPILE', { file: given, reason })
  }
  return entry
}

/** The SDK lies in the package's root; this file is two levels below it in the sources and three when built. */
async function findSdk(): Promise<string> {
  for (const up of ['../../', '../../../']) {
    const directory = fileURLToPath(new URL(`${up}contracts/sdk/`, import.meta.url))
    if (await access(join(directory, 'index.ts')).then(() => true, () => false)) return directory
  }
  const reason = 'the contract SDK is missing from this installation.'
  throw new CMeshError('CMESH_CLIENT_COMPILE', { file: 'contracts/sdk', reason })
}

/** `null` for a file that does not exist. A configuration beside the contract would change the outcome: it is not seen. */
async function readSource(name: string, base: string, sdk: string): Promise<string | null> {
  if (basename(name) === 'asconfig.json') return null
  const own = SDK_FILE.exec(name.replaceAll('\\', '/'))?.[1]
  const path = own === undefined ? resolve(base, name) : join(sdk, own)
  try {
    return await readFile(path, 'utf8')
  } catch (thrown) {
    const code = typeof thrown === 'object' && thrown !== null && 'code' in thrown ? thrown.code : undefined
    if (code === 'ENOENT' || code === 'ENOTDIR' || code === 'EISDIR') return null
    throw thrown
  }
}

/**
 * Adds the ABI, and exports every mutable global that is left after optimisation: an engine can put back only what it can
 * reach, and an instance that can be put back is used again for the next call.
 */
function finish(
  binaryen: typeof import('assemblyscript/binaryen').default, output: Uint8Array, abi: ContractAbi, withText: boolean,
): { readonly wasm: Uint8Array, readonly text: string | undefined } {
  const module = binaryen.readBinary(output)
  try {
    for (let index = 0, count = 0; index < module.getNumGlobals(); index++) {
      const { name, mutable } = binaryen.getGlobalInfo(module.getGlobalByIndex(index))
      if (mutable) module.addGlobalExport(name, `global_${String(count++)}`)
    }
    module.addCustomSection(ABI_SECTION, new TextEncoder().encode(JSON.stringify(abi)))
    return { wasm: module.emitBinary(), text: withText ? module.emitText() : undefined }
  } finally {
    module.dispose()
  }
}
