/** What a command is given to work on: a contract's source, which it compiles, a module or a package. */
import { extname } from 'node:path'
import { InvalidArgumentError } from 'commander'
import { decodePackage, packageManifest, type ContractManifest } from '../../../cmtp/package.ts'
import { SDK_VERSION, type ContractAbi } from '../../contract/abi.ts'
import { compileContract, type CompiledContract } from '../../contract/compile.ts'
import { usage } from '../../options.ts'
import { readInput } from '../input.ts'
import { withProgress } from '../progress.ts'
import type { Terminal } from '../terminal.ts'
import { DEFAULT_VERSION, findProject, nameOf, type Project } from './project.ts'

export interface ContractCode {
  readonly module: Uint8Array
  readonly manifest: ContractManifest
  /** Of a package: whether it says that its code may be replaced. */
  readonly replaceable?: boolean
  /** Arguments of `init` in a package, JSON array text. */
  readonly init?: string
  /** Of what was compiled here. */
  readonly abi?: ContractAbi
}

/** Of a `.wasm` module, a `.cmpk` package, an AssemblyScript file or a project's directory. */
export async function codeOf(terminal: Terminal, path: string): Promise<ContractCode> {
  switch (extname(path)) {
    case '.cmpk': {
      const { module, manifest, strategy, init } = decodePackage(await readInput(path))
      return { module, manifest, replaceable: strategy === 'replaceable', ...(init.length > 0 && { init: Buffer.from(init).toString('utf8') }) }
    }
    case '.wasm':
      return { module: await readInput(path), manifest: packageManifest({ name: nameOf(path), version: DEFAULT_VERSION }) }
    default:
      return await compiled(terminal, await findProject(path))
  }
}

/** Code with all that its source says of it. */
export type CompiledCode = Required<Pick<ContractCode, 'module' | 'manifest' | 'abi'>>

/** Compiles a project; what there is to warn of is noted. */
export async function compiled(terminal: Terminal, project: Project): Promise<CompiledCode> {
  const contract = await withProgress(terminal, `compiling ${project.name}`, () => compileContract(project.entry))
  if (contract.warnings !== '') terminal.note(contract.warnings)
  return ofCompiled(project, contract)
}

export function ofCompiled({ name, version }: Project, { wasm, abi, compiler, flags, sourceHash }: CompiledContract): CompiledCode {
  return { module: wasm, abi, manifest: packageManifest({ name, version, compiler, sdk: SDK_VERSION, flags, sourceHash }) }
}

/** Semantic Versioning 2.0.0, item 2, 9 and 10. */
const SEMANTIC_VERSION = /^(?:0|[1-9]\d*)\.(?:0|[1-9]\d*)\.(?:0|[1-9]\d*)(?:-[\dA-Za-z-]+(?:\.[\dA-Za-z-]+)*)?(?:\+[\dA-Za-z-]+(?:\.[\dA-Za-z-]+)*)?$/
const VERSION_CHARACTERS = 64

/** How a command that puts code in a place is told its version: for `Command.option`. */
export const VERSION_OPTION = ['--version <version>', 'version of the contract, as 1.2.3 (default: its package.json, else 0.1.0)', versionFrom] as const

function versionFrom(text: string): string {
  if (text.length > VERSION_CHARACTERS || !SEMANTIC_VERSION.test(text)) throw new InvalidArgumentError(`It must be a semantic version like 1.2.3 or 2.0.0-rc.1, of at most ${VERSION_CHARACTERS} characters.`)
  return text
}

/** The manifest with what the user says of it. */
export function named<T extends ContractCode>(code: T, { name, version }: { readonly name?: string | undefined, readonly version?: string | undefined }): T {
  return { ...code, manifest: { ...code.manifest, ...(name !== undefined && { name }), ...(version !== undefined && { version }) } }
}

/** A JSON array of arguments as an option gives it. Throws `CMESH_CLIENT_USAGE`. */
export function jsonArguments(option: string, json: string | undefined): readonly unknown[] | undefined {
  if (json === undefined) return undefined
  try {
    const value: unknown = JSON.parse(json)
    if (Array.isArray(value)) return value as readonly unknown[]
  } catch {
    // Said below, as for JSON that is no array.
  }
  throw usage(`${option} takes a JSON array, such as '["MTK", 1000]'.`)
}
