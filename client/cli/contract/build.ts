/**
 * A project's build: what is written to its directory, and what is said of it. The same source gives the same files, byte for
 * byte.
 */
import { mkdir, writeFile } from 'node:fs/promises'
import { join, resolve } from 'node:path'
import { codeHash, encodePackage, PACKAGE_SALT_BYTES } from '../../../cmtp/package.ts'
import type { ContractAbi, ContractFunction } from '../../contract/abi.ts'
import { generateClient } from '../../contract/client-source.ts'
import type { Terminal } from '../terminal.ts'
import { compiled } from './code.ts'
import type { Project } from './project.ts'

export interface Build {
  readonly name: string
  readonly version: string
  /** Size of the module. */
  readonly bytes: number
  readonly codeHash: string
  readonly sourceHash: string
  readonly functions: readonly ContractFunction[]
  /** Absolute paths of what was written: the module, the package, the ABI and the client. */
  readonly files: readonly string[]
}

/** Whoever deploys it chooses a salt, and may choose arguments and strategy; in the file they are the defaults. */
const NO_SALT = Buffer.alloc(PACKAGE_SALT_BYTES)

/** `out`: where to write; by default the project's own `build`. */
export async function buildProject(terminal: Terminal, project: Project, out = project.build): Promise<Build> {
  const { module, manifest, abi } = await compiled(terminal, project)
  const { name, version, sourceHash } = manifest
  const contents: readonly (readonly [extension: string, content: Uint8Array | string])[] = [
    ['wasm', module],
    ['cmpk', encodePackage({ salt: NO_SALT, strategy: 'immutable', manifest, init: Buffer.alloc(0), module })],
    ['abi.json', `${JSON.stringify(abi, null, 2)}\n`],
    ['client.ts', clientOf(name, abi)],
  ]
  const directory = resolve(out)
  await mkdir(directory, { recursive: true })
  const files = contents.map(([extension]) => join(directory, `${name}.${extension}`))
  await Promise.all(contents.map(([, content], i) => writeFile(files[i] as string, content)))
  return { name, version, bytes: module.length, codeHash: codeHash(module), sourceHash, functions: abi.functions, files }
}

/** The typed client's source. */
export function clientOf(name: string, abi: ContractAbi): string {
  return generateClient(abi, { name })
}
