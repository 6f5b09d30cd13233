/** A new contract's project: the files of `contracts/template` under a name. It makes files and never changes one. */
import { access, mkdir, readdir, readFile, stat, writeFile } from 'node:fs/promises'
import { dirname, join, relative, resolve, sep } from 'node:path'
import { fileURLToPath } from 'node:url'
import { usage } from '../../options.ts'

/** A package's name, and part of a file's. */
const NAME = /^[a-z][a-z0-9-]{0,63}$/

/** Files whose name in a package is another, since npm takes them for its own. */
const RENAMED: Readonly<Record<string, string>> = { gitignore: '.gitignore' }

/** The relative paths of what was made, in alphabetical order. Throws `CMESH_CLIENT_USAGE` for a directory with something in it. */
export async function scaffold(name: string, directory: string): Promise<string[]> {
  if (!NAME.test(name)) throw usage(`${name} is no name for a contract: it has 1 to 64 lower-case letters, digits and -, and begins with a letter.`)
  const target = resolve(directory)
  const there = await readdir(target).catch((error: unknown) => {
    const { code, message } = error as NodeJS.ErrnoException
    if (code === 'ENOENT') return []
    throw usage(`${directory} cannot be used: ${message}.`)
  })
  if (there.length > 0) throw usage(`${directory} has something in it already; give a new directory by --dir.`)
  const root = await packageRoot()
  const template = join(root, 'contracts', 'template')
  const dependency = await dependencyOn(root, target)
  const files = (await filesIn(template)).map((file) => [file, file.split(sep).map((part) => RENAMED[part] ?? part).join('/')] as const)
  for (const [source, file] of files) {
    const text = await readFile(join(template, source), 'utf8')
    const place = join(target, file)
    await mkdir(dirname(place), { recursive: true })
    await writeFile(place, text.replaceAll('__NAME__', name).replaceAll('__CMESH__', dependency), { flag: 'wx' })
  }
  return files.map(([, file]) => file).sort()
}

async function filesIn(directory: string): Promise<string[]> {
  const entries = await readdir(directory, { recursive: true })
  const isFile = await Promise.all(entries.map(async (entry) => (await stat(join(directory, entry))).isFile()))
  return entries.filter((_, i) => isFile[i])
}

/** This file is two levels below `client` in the sources, and one more when built. */
async function packageRoot(): Promise<string> {
  for (const up of ['../../../', '../../../../']) {
    const root = fileURLToPath(new URL(up, import.meta.url))
    if (await access(join(root, 'contracts', 'template', 'index.ts')).then(() => true, () => false)) return root
  }
  throw usage('The template of contracts is missing from this installation.')
}

/** What a project says to get this package: its version where it was installed, its place where it is a clone. */
async function dependencyOn(root: string, target: string): Promise<string> {
  if (!root.split(sep).includes('node_modules')) return `file:${relative(target, root).split(sep).join('/')}`
  const { version } = JSON.parse(await readFile(join(root, 'package.json'), 'utf8')) as { readonly version: string }
  return `^${version}`
}
