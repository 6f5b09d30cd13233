/**
 * Compiles a contract written in AssemblyScript to the module that is deployed. The compiler is the pinned one that comes
 * with this package; it is loaded on the first use, because that takes longer than anything else a client does at start. Nothing
 * has to be installed beside a contract: `cmesh/sdk` is found here, whatever lies around the contract's file.
 *
 * The same sources give the same bytes, on any machine and in any directory. A crash inside the compiler ends the
 * process: it calls `process.exit` itself.
 */
import type { APIOptions } from 'assemblyscript/asc'
import { CMeshError } from '../../cmtp/errors.ts'
import { codeHash } from '../../cmtp/package.ts'
import { ABI_SECTION } from './abi.ts'
import type { ContractAbi } from './abi.ts'
import { formatDiagnostics } from './diagnostics.ts'
import type { CompilerMessage, ContractDiagnostic } from './diagnostics.ts'
import { diagnose } from './lint.ts'
import { Sources } from './sources.ts'
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
  /** What the compiler was told, for the manifest: the same flags, compiler and sources give the same module. */
  readonly flags: string
  /** SHA-256 over all files that went in, those of the SDK included (`sources.ts`): 64 lower-case hex digits. */
  readonly sourceHash: string
  /** Empty, or what compiles and is rarely meant. */
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

export interface LintReport {
  /** In the order of the files and of their lines, errors and warnings. */
  readonly diagnostics: readonly ContractDiagnostic[]
  /** The contract, when there are no errors. */
  readonly contract: CompiledContract | undefined
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
 *
 * There is no `--debug`: the names of functions would be a sixth of the module, and a node names the exported function that failed.
 */
const FLAGS = [
  '-O3', '--shrinkLevel', '1', '--runtime', 'stub', '--exportStart', '_start', '--use', 'abort=~lib/cmesh/sdk/errors/abort',
  '--maximumMemory', '64', '--noColors',
]

const OUT_FILE = 'contract.wasm'
const TEXT_FILE = 'contract.wat'

/**
 * `entryFile`: a `.ts` file, or a directory with an `index.ts`. Rejects with `CMESH_CLIENT_COMPILE`, whose reason says what is wrong,
 * with file, line and an excerpt, and where it is known what to write instead.
 */
export async function compileContract(entryFile: string, options: CompileOptions = {}): Promise<CompiledContract> {
  const { contract, diagnostics } = await build(entryFile, options)
  if (contract !== undefined) return contract
  const errors = diagnostics.filter(({ severity }) => severity === 'error')
  throw new CMeshError('CMESH_CLIENT_COMPILE', { file: entryFile, reason: formatDiagnostics(errors) })
}

/**
 * The same, with all there is to say of the source instead of an error. Rejects with `CMESH_CLIENT_COMPILE` only when there is no
 * such file.
 */
export async function lintContract(entryFile: string): Promise<LintReport> {
  return await build(entryFile, {})
}

async function build(entryFile: string, options: CompileOptions): Promise<LintReport> {
  const began = performance.now()
  const sources = await Sources.at(entryFile)
  const [assemblyscript, asc] = await Promise.all([import('assemblyscript'), import('assemblyscript/asc')])
  const files = new Map<string, string | Uint8Array>()
  const messages: CompilerMessage[] = []
  const transform = new ContractTransform(assemblyscript)
  const api: APIOptions = {
    stdout: asc.createMemoryStream(),
    stderr: asc.createMemoryStream(),
    readFile: async (name, base) => await sources.read(name, base),
    writeFile: (name, contents) => { files.set(name, contents) },
    listFiles: () => [],
    reportDiagnostic: (message) => { messages.push(message) },
    // Of the compiler's class only the hooks matter to it.
    transforms: [transform as unknown as NonNullable<APIOptions['transforms']>[number]],
  }
  const text = options.text === true ? ['--textFile', TEXT_FILE] : []
  const { error } = await asc.main([sources.entry, '--baseDir', sources.directory, '--outFile', OUT_FILE, ...text, ...FLAGS], api)
  const output = files.get(OUT_FILE)
  const module = error === null && output instanceof Uint8Array ? output : undefined
  const textOf = (path: string): string | undefined => sources.authors.get(path) ?? transform.textOf(path)
  const diagnostics = diagnose({ messages, module, sources, textOf, failure: error?.message ?? '' })
  if (module === undefined || diagnostics.some(({ severity }) => severity === 'error')) return { diagnostics, contract: undefined }
  const wasm = withSection(module, ABI_SECTION, new TextEncoder().encode(JSON.stringify(transform.abi)))
  const written = files.get(TEXT_FILE)
  const contract = {
    wasm,
    abi: transform.abi,
    compiler: `assemblyscript ${asc.version}`,
    flags: FLAGS.join(' '),
    sourceHash: sources.hash,
    warnings: formatDiagnostics(diagnostics),
    stats: { bytes: wasm.length, codeHash: codeHash(wasm), durationMs: performance.now() - began },
    ...(typeof written === 'string' ? { text: written } : {}),
  }
  return { diagnostics, contract }
}

const CUSTOM_SECTION = 0

/** The module with a custom section behind all others: identifier, size, and what it is called before what it holds. */
function withSection(module: Uint8Array, name: string, content: Uint8Array): Uint8Array {
  const title = new TextEncoder().encode(name)
  const head = leb128(title.length)
  return Buffer.concat([module, Uint8Array.of(CUSTOM_SECTION), leb128(head.length + title.length + content.length), head, title, content])
}

/** An unsigned number as WebAssembly writes it. */
function leb128(value: number): Uint8Array {
  const bytes: number[] = []
  for (let rest = value; ; rest >>>= 7) {
    if (rest < 0x80) return Uint8Array.of(...bytes, rest)
    bytes.push((rest & 0x7f) | 0x80)
  }
}
