/**
 * The files that go into a contract: the author's, found from the entry file's directory, and those of the SDK, which is found here
 * whatever lies around the contract. Remembers what was read, for diagnostics and for the hash of the sources.
 *
 *     sourceHash = SHA-256( "cmesh/contract/sources" ‖ 0x00 ‖ for each file, by the bytes of its path: length 4 · path · length 4 · bytes )
 *
 * A path is relative to the entry file's directory, with `/`; a file of a package begins with the package's name, so that where
 * packages lie makes no difference. The same sources have the same hash in any directory.
 */
import { createHash } from 'node:crypto'
import { access, readFile, stat } from 'node:fs/promises'
import { basename, dirname, join, relative, resolve } from 'node:path'
import { fileURLToPath } from 'node:url'
import { CMeshError } from '../../cmtp/errors.ts'

/** How the compiler asks for a file of the SDK: as for any package, from the contract's directory upwards. */
const SDK_FILE = /(?:^|\/)node_modules\/cmesh\/sdk\/([a-z0-9]+\.ts)$/
const PACKAGE_FILE = /(?:^|\/)node_modules\/((?!.*\/node_modules\/).+)$/
const DOMAIN = 'cmesh/contract/sources\0'

export class Sources {
  readonly #sdk: string
  readonly directory: string
  /** Name of the entry file in its directory. */
  readonly entry: string
  readonly #read = new Map<string, string>()

  private constructor(entry: string, sdk: string) {
    this.directory = dirname(entry)
    this.entry = basename(entry)
    this.#sdk = sdk
  }

  /** `entryFile`: a `.ts` file, or a directory with an `index.ts`. Rejects with `CMESH_CLIENT_COMPILE` when there is none. */
  static async at(entryFile: string): Promise<Sources> {
    const path = resolve(entryFile)
    const found = await stat(path).catch(() => undefined)
    const entry = found?.isDirectory() === true ? join(path, 'index.ts') : path
    if (found === undefined || !entry.endsWith('.ts')) {
      const reason = found === undefined ? 'there is no such file.' : 'it is not a .ts file.'
      throw new CMeshError('CMESH_CLIENT_COMPILE', { file: entryFile, reason })
    }
    return new Sources(entry, await findSdk())
  }

  /** `null` for a file that does not exist. A configuration beside the contract would change the outcome: it is not seen. */
  async read(name: string, base: string): Promise<string | null> {
    if (basename(name) === 'asconfig.json') return null
    const asked = name.replaceAll('\\', '/')
    const own = SDK_FILE.exec(asked)?.[1]
    const path = own === undefined ? resolve(base, name) : join(this.#sdk, own)
    try {
      const text = await readFile(path, 'utf8')
      const package_ = PACKAGE_FILE.exec(asked)?.[1]
      this.#read.set(package_ ?? relative(this.directory, path).replaceAll('\\', '/'), text)
      return text
    } catch (thrown) {
      const code = typeof thrown === 'object' && thrown !== null && 'code' in thrown ? thrown.code : undefined
      if (code === 'ENOENT' || code === 'ENOTDIR' || code === 'EISDIR') return null
      throw thrown
    }
  }

  /** The author's own files that were read, by their paths. */
  get authors(): ReadonlyMap<string, string> {
    return new Map([...this.#read].filter(([path]) => !path.startsWith('cmesh/sdk/')))
  }

  /** 64 lower-case hex digits. */
  get hash(): string {
    const hash = createHash('sha256').update(DOMAIN)
    const files = [...this.#read].map(([path, text]) => [Buffer.from(path), Buffer.from(text)] as const)
    for (const part of files.sort(([a], [b]) => a.compare(b)).flat()) {
      const length = Buffer.alloc(4)
      length.writeUInt32BE(part.length)
      hash.update(length).update(part)
    }
    return hash.digest('hex')
  }
}

/** The SDK lies in the package's root; this file is two levels below it in the sources and three when built. */
async function findSdk(): Promise<string> {
  for (const up of ['../../', '../../../']) {
    const directory = fileURLToPath(new URL(`${up}contracts/sdk/`, import.meta.url))
    if (await access(join(directory, 'index.ts')).then(() => true, () => false)) return directory
  }
  throw new CMeshError('CMESH_CLIENT_COMPILE', { file: 'contracts/sdk', reason: 'the contract SDK is missing from this installation.' })
}
