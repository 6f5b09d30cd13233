/**
 * The build: TypeScript into dist, then the programs of a mesh in one file each, then the contracts that ship. It knows from the content of the sources whether dist is up
 * to date, so that a fresh checkout, a touched file or a copied tree builds only when something differs.
 */
import { createHash } from 'node:crypto'
import { access, readdir, readFile, rename, rm, writeFile } from 'node:fs/promises'
import path from 'node:path'
import { runCommand } from './command.mjs'
import { SetupError } from './failure.mjs'

/** What dist is made of: these directories and files. */
const SOURCES = ['cmtp', 'services', 'providers', 'node', 'client', 'bench', 'contracts', 'tsconfig.json', 'package-lock.json']
const SKIPPED = new Set(['node_modules', 'dist', 'build', 'peers'])
const KINDS = /\.(?:ts|mjs|json)$/

/** Lies in dist, so that removing dist removes it too. */
const STAMP = path.join('dist', '.cmesh-build')
/** The compiler's memory of what it wrote. Without dist it must go, or the compiler takes missing files for written ones. */
const COMPILER_STATE = path.join('node_modules', '.cache', 'tsc', 'build.tsbuildinfo')
const BUNDLE = path.join('node', 'setup', 'bundle.mjs')
const GENESIS = path.join('dist', 'client', 'contract', 'build-genesis.js')

/**
 * Why a build is needed, or undefined when dist was made from these sources.
 *
 * @param {string} root
 * @returns {Promise<string | undefined>}
 */
export async function buildNeeded(root) {
  const stamp = await readFile(path.join(root, STAMP), 'utf8').catch(() => undefined)
  if (stamp === undefined) return 'nothing is built yet'
  return stamp === stampOf(await sources(root)) ? undefined : 'sources have changed'
}

/**
 * Builds, and leaves the stamp only when every step succeeded.
 *
 * @param {string} root
 */
export async function build(root) {
  const files = await sources(root)
  const before = await readFile(path.join(root, STAMP), 'utf8').catch(() => undefined)
  if (before === undefined) await rm(path.join(root, COMPILER_STATE), { force: true })
  else await removeOrphans(root, before, files)
  await runNode(root, 'The TypeScript build', [path.join('node_modules', 'typescript', 'bin', 'tsc'), '-p', 'tsconfig.json'])
  if (await access(path.join(root, BUNDLE)).then(() => true, () => false)) await runNode(root, 'The build of the programs', [BUNDLE])
  if (await access(path.join(root, GENESIS)).then(() => true, () => false)) {
    await runNode(root, 'The build of the shipped contracts', [GENESIS])
  }
  const part = path.join(root, `${STAMP}.${process.pid}`)
  await writeFile(part, stampOf(files))
  await rename(part, path.join(root, STAMP))
}

/**
 * Paths of all sources, relative to the root, each with the hash of its content.
 *
 * @param {string} root
 * @returns {Promise<Map<string, string>>}
 */
async function sources(root) {
  const entries = await Promise.all(SOURCES.map((name) => walk(root, name)))
  return new Map(entries.flat().sort(([a], [b]) => (a < b ? -1 : 1)))
}

/**
 * @param {string} root
 * @param {string} name
 * @returns {Promise<[string, string][]>}
 */
async function walk(root, name) {
  const found = await readdir(path.join(root, name), { withFileTypes: true }).catch((error) => error.code)
  if (found === 'ENOENT') return []
  if (found === 'ENOTDIR') return KINDS.test(name) ? [[name, await hash(path.join(root, name))]] : []
  if (!Array.isArray(found)) throw new SetupError(`${path.join(root, name)} cannot be read (${found}).`)
  const wanted = found.filter((entry) => (entry.isDirectory() ? !SKIPPED.has(entry.name) : KINDS.test(entry.name)))
  const inside = await Promise.all(wanted.map(async (entry) => {
    const place = `${name}/${entry.name}`
    if (entry.isDirectory()) return walk(root, place)
    return /** @type {[string, string][]} */ ([[place, await hash(path.join(root, place))]])
  }))
  return inside.flat()
}

/** @param {string} file */
async function hash(file) {
  return createHash('sha256').update(await readFile(file)).digest('hex')
}

/**
 * One line a file, so that the next build knows which were there.
 *
 * @param {Map<string, string>} files
 */
function stampOf(files) {
  return [...files].map(([file, sum]) => `${sum} ${file}\n`).join('')
}

/**
 * What the compiler wrote for sources that are gone would still be found by imports.
 *
 * @param {string} root
 * @param {string} stamp
 * @param {Map<string, string>} files
 */
async function removeOrphans(root, stamp, files) {
  const before = stamp.split('\n').map((line) => line.slice(65))
  const gone = before.filter((file) => /\.(?:ts|mjs)$/.test(file) && !files.has(file))
  await Promise.all(gone.flatMap((file) => {
    const base = path.join(root, 'dist', file.replace(/\.(?:ts|mjs)$/, ''))
    return ['.js', '.js.map', '.d.ts', '.mjs', '.mjs.map', '.d.mts'].map((kind) => rm(base + kind, { force: true }))
  }))
}

/**
 * @param {string} root
 * @param {string} what
 * @param {readonly string[]} args
 */
async function runNode(root, what, args) {
  const { status, output } = await runCommand(process.execPath, args, { cwd: root })
  if (status === 0) return
  const said = output.trim().slice(-8_000)
  throw new SetupError(`${what} failed (${status}):\n${said}\nMend the sources and run \`npm run setup\` again.`)
}
