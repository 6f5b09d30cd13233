/**
 * The packages of the lockfile: whether they are installed as it says, and `npm ci` when they are not. It never changes the
 * lockfile and never installs anything else.
 */
import { createHash } from 'node:crypto'
import { access, readFile, writeFile } from 'node:fs/promises'
import path from 'node:path'
import { runCommand } from './command.mjs'
import { SetupError } from './failure.mjs'

/** Written into node_modules after an install, so that the next look costs one hash. */
const STAMP = '.cmesh-stamp'

/**
 * Why `npm ci` is needed, or undefined when the packages stand as the lockfile says. Packages that npm itself put there count.
 *
 * @param {string} root
 * @returns {Promise<string | undefined>}
 */
export async function installNeeded(root) {
  const lock = await readFile(path.join(root, 'package-lock.json'), 'utf8')
  const wanted = stampOf(lock)
  const found = await readFile(path.join(root, 'node_modules', STAMP), 'utf8').catch(() => undefined)
  if (found === wanted) return undefined
  if (found !== undefined && runtimeOf(found) !== runtimeOf(wanted)) return 'Node.js has changed'
  const hidden = await readFile(path.join(root, 'node_modules', '.package-lock.json'), 'utf8').catch(() => undefined)
  if (hidden === undefined) return 'none are installed'
  if (!sameTree(lock, hidden)) return 'the lockfile has changed'
  await writeFile(path.join(root, 'node_modules', STAMP), wanted)
  return undefined
}

/**
 * Runs `npm ci`, development packages included: the build needs them.
 *
 * @param {string} root
 */
export async function install(root) {
  const { command, prefix } = await npm()
  const args = [...prefix, 'ci', '--include=dev', '--no-audit', '--no-fund', '--loglevel=error']
  const { status, output } = await runCommand(command, args, { cwd: root })
  if (status !== 0) {
    throw new SetupError(`npm ci failed (${status}).\n${firstLines(output)}\nIt needs the npm registry once: check the network `
      + '(`npm ping`), the registry (`npm config get registry`) and any proxy, then run `npm run setup` again.')
  }
  await checkNative(root)
  await writeFile(path.join(root, 'node_modules', STAMP), stampOf(await readFile(path.join(root, 'package-lock.json'), 'utf8')))
}

/**
 * Loads the one compiled package that leans on a library of the system, so that what is missing is said here and not at the
 * first boot.
 *
 * @param {string} root
 */
async function checkNative(root) {
  const { status, output } = await runCommand(process.execPath, ['-e', "require('rocksdb-native')"], { cwd: root })
  if (status === 0) return
  const advice = output.includes('libatomic')
    ? 'The state log needs libatomic, which this system lacks: `apt-get install libatomic1` (Debian, Ubuntu) or `dnf install libatomic` (Fedora).'
    : 'There may be no build of it for this platform.'
  throw new SetupError(`the package rocksdb-native, which keeps the state log, does not load.\n${firstLines(output)}\n${advice} Then run \`npm run setup\` again.`)
}

/**
 * npm says first what is wrong and then, at length, how it is used.
 *
 * @param {string} output
 */
function firstLines(output) {
  return output.split('\n').filter((line) => line.trim() !== '' && line.trim() !== 'npm error').slice(0, 12).join('\n')
}

/** The npm that belongs to this Node.js, run by it where possible: no shell, no second Node.js from the PATH. */
async function npm() {
  const candidates = [
    process.env['npm_execpath'],
    path.join(path.dirname(process.execPath), '..', 'lib', 'node_modules', 'npm', 'bin', 'npm-cli.js'),
    path.join(path.dirname(process.execPath), 'node_modules', 'npm', 'bin', 'npm-cli.js'),
  ]
  for (const script of candidates) {
    if (script && /npm-cli\.c?js$/.test(script) && await access(script).then(() => true, () => false)) {
      return { command: process.execPath, prefix: [script] }
    }
  }
  return { command: 'npm', prefix: [] }
}

/**
 * Compiled packages fit one platform and one binary interface of Node.js; its patch releases do not matter.
 *
 * @param {string} lock
 */
function stampOf(lock) {
  const runtime = `${process.platform}-${process.arch}-${process.versions.modules}`
  return `${runtime}\n${createHash('sha256').update(lock).digest('hex')}\n`
}

/** @param {string} stamp */
function runtimeOf(stamp) {
  return stamp.split('\n')[0]
}

/**
 * Whether npm's record of what it installed has every package of the lockfile, and no other version of one. Packages for other
 * platforms may be missing.
 *
 * @param {string} lock
 * @param {string} hidden
 */
function sameTree(lock, hidden) {
  /** @typedef {{ version?: string, integrity?: string, optional?: boolean, devOptional?: boolean, peer?: boolean }} Entry */
  const wanted = /** @type {Record<string, Entry>} */ (JSON.parse(lock).packages)
  const found = /** @type {Record<string, Entry>} */ (JSON.parse(hidden).packages)
  return Object.entries(wanted).every(([place, entry]) => {
    if (place === '') return true
    const there = found[place]
    if (!there) return entry.optional === true || entry.devOptional === true || entry.peer === true
    return there.version === entry.version && there.integrity === entry.integrity
  })
}
