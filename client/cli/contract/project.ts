/**
 * A contract's project on disk: where its source is, what it is called and where its build goes. A project is a directory with
 * an `index.ts`, or one AssemblyScript file; a `package.json` beside it gives name and version. Nothing else is needed.
 */
import { readFile, stat } from 'node:fs/promises'
import { basename, dirname, extname, join, resolve } from 'node:path'
import { usage } from '../../options.ts'

export interface Project {
  /** Absolute. */
  readonly directory: string
  /** Absolute path of the `.ts` file that is compiled. */
  readonly entry: string
  readonly name: string
  readonly version: string
  /** Where its build goes: `<directory>/build`. */
  readonly build: string
}

export const DEFAULT_VERSION = '0.1.0'

/** Of a directory, or of a `.ts` file. Throws `CMESH_CLIENT_USAGE`. */
export async function findProject(path: string): Promise<Project> {
  const given = resolve(path)
  const found = await stat(given).catch(() => undefined)
  if (found === undefined) throw usage(`There is no ${path}. \`cmesh contract new NAME\` makes a contract.`)
  const entry = found.isDirectory() ? join(given, 'index.ts') : given
  if (!entry.endsWith('.ts')) throw usage(`${path} is neither a directory nor a .ts file.`)
  if (found.isDirectory() && !await isFile(entry)) {
    throw usage(`There is no contract in ${path === '.' ? 'this directory' : path}: it has no index.ts. \`cmesh contract new NAME\` makes one.`)
  }
  const directory = dirname(entry)
  const { name, version } = await describe(directory)
  return {
    directory, entry, build: join(directory, 'build'), version: version ?? DEFAULT_VERSION,
    name: (basename(entry) === 'index.ts' ? name : undefined) ?? nameOf(entry),
  }
}

/** `contracts/guestbook/index.ts` is "guestbook", `token.wasm` and `token.ts` are "token". */
export function nameOf(file: string): string {
  const path = resolve(file)
  const name = basename(path, extname(path))
  return name === 'index' ? basename(dirname(path)) : name
}

export async function isFile(path: string): Promise<boolean> {
  return await stat(path).then((found) => found.isFile(), () => false)
}

/** Name, without its scope, and version of the package in a directory, if it is one. */
async function describe(directory: string): Promise<{ readonly name?: string, readonly version?: string }> {
  const file = join(directory, 'package.json')
  const text = await readFile(file, 'utf8').catch(() => undefined)
  if (text === undefined) return {}
  try {
    const { name, version } = JSON.parse(text) as Record<string, unknown>
    return {
      ...(typeof name === 'string' && name !== '' && { name: name.replace(/^@[^/]*\//, '') }),
      ...(typeof version === 'string' && version !== '' && { version }),
    }
  } catch {
    throw usage(`${file} is not JSON.`)
  }
}
