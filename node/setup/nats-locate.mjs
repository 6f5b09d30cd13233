/**
 * Finds a usable nats-server on this machine. It starts each candidate once to ask its version, changes nothing, and never
 * falls back when NATS_SERVER_BIN names a binary. Plain JavaScript: it also runs before anything is installed or built.
 */
import { execFile } from 'node:child_process'
import { constants } from 'node:fs'
import { access, readdir } from 'node:fs/promises'
import os from 'node:os'
import path from 'node:path'

/**
 * @typedef {readonly [number, number, number]} Version
 *
 * @typedef {object} NatsServer
 * @property {string} path Absolute path of the binary.
 * @property {Version} version
 * @property {'NATS_SERVER_BIN' | 'PATH' | 'cache' | 'release' | 'apt'} source
 *
 * @typedef {{ readonly [name: string]: string | undefined }} Environment
 *
 * @typedef {object} Located
 * @property {NatsServer} [found]
 * @property {string} [invalid] Why the binary that NATS_SERVER_BIN names cannot be used.
 * @property {string[]} tried What was looked at and why it would not do.
 */

/** The oldest nats-server that CMesh runs on. @type {Version} */
export const MIN_VERSION = [2, 9, 0]

/** Where packages put servers although an ordinary user's PATH does not go there. */
const EXTRA_DIRECTORIES = ['/usr/sbin', '/usr/local/sbin', '/usr/local/bin', '/opt/homebrew/bin']

/**
 * Looks at NATS_SERVER_BIN, then the PATH and the usual directories, then CMesh's own cache.
 *
 * @param {{ env?: Environment, extraDirectories?: readonly string[] }} [options]
 * @returns {Promise<Located>}
 */
export async function locate({ env = process.env, extraDirectories = EXTRA_DIRECTORIES } = {}) {
  const explicit = env['NATS_SERVER_BIN']
  if (explicit) {
    const probe = await probeBinary(path.resolve(explicit))
    if (typeof probe === 'string') return { invalid: probe, tried: [`NATS_SERVER_BIN: ${probe}`] }
    return { found: { path: path.resolve(explicit), version: probe, source: 'NATS_SERVER_BIN' }, tried: [] }
  }
  /** @type {string[]} */
  const tried = []
  // A relative entry would run whatever lies in the working directory.
  const directories = (env['PATH'] ?? '').split(path.delimiter).filter((entry) => path.isAbsolute(entry))
  const candidates = [...directories, ...extraDirectories].map((directory) => path.join(directory, 'nats-server'))
  for (const candidate of new Set(candidates)) {
    const found = await consider(candidate, 'PATH', tried)
    if (found) return { found, tried }
  }
  if (tried.length === 0) tried.push('none on the PATH')
  for (const candidate of await cached(env)) {
    const found = await consider(candidate, 'cache', tried)
    if (found) return { found, tried }
  }
  return { tried }
}

/**
 * Directory of the binaries CMesh obtained itself: `$XDG_CACHE_HOME/cmesh/nats`, by default under `~/.cache`. It lies outside
 * the project because `npm ci` empties node_modules.
 *
 * @param {Environment} [env]
 */
export function cacheDirectory(env = process.env) {
  const base = env['XDG_CACHE_HOME']
  return path.join(base && path.isAbsolute(base) ? base : path.join(env['HOME'] || os.homedir(), '.cache'), 'cmesh', 'nats')
}

/**
 * The text of CMESH_BROKER_NOT_FOUND, for when the catalogue is not built yet. A test holds the two equal.
 *
 * @param {readonly string[]} tried
 */
export function notFoundText(tried) {
  return `No usable nats-server was found: ${tried.join('; ')}. Four ways to get one: (1) set NATS_SERVER_BIN to its path; `
    + '(2) put nats-server on the PATH; (3) run `npm run setup` where the official release can be downloaded; '
    + '(4) on Debian or Ubuntu, run `npm run setup`, which uses apt-get download without root. '
    + 'Or give an existing cluster by CMESH_NATS_URL.'
}

/**
 * The version of a binary, or the reason why it cannot be used.
 *
 * @param {string} binary
 * @returns {Promise<Version | string>}
 */
export async function probeBinary(binary) {
  /** @type {{ error: Error | null, output: string }} */
  const { error, output } = await new Promise((resolve) => {
    execFile(binary, ['-v'], { timeout: 5_000, killSignal: 'SIGKILL' }, (failure, stdout, stderr) => {
      resolve({ error: failure, output: stdout + stderr })
    })
  })
  if (error) return `${binary} does not run (${/** @type {NodeJS.ErrnoException} */ (error).code ?? error.message})`
  const match = /nats-server: v(\d+)\.(\d+)\.(\d+)/.exec(output)
  if (!match) return `${binary} does not print the version of a nats-server`
  const version = /** @type {Version} */ (/** @type {unknown} */ (match.slice(1, 4).map(Number)))
  if (compareVersions(version, MIN_VERSION) >= 0) return version
  return `${binary} is ${version.join('.')}, at least ${MIN_VERSION.join('.')} is needed`
}

/**
 * @param {Version} a
 * @param {Version} b
 */
export function compareVersions(a, b) {
  return a[0] - b[0] || a[1] - b[1] || a[2] - b[2]
}

/**
 * @param {string} candidate
 * @param {NatsServer['source']} source
 * @param {string[]} tried
 * @returns {Promise<NatsServer | undefined>}
 */
async function consider(candidate, source, tried) {
  if (!await access(candidate, constants.X_OK).then(() => true, () => false)) return undefined
  const probe = await probeBinary(candidate)
  if (typeof probe !== 'string') return { path: candidate, version: probe, source }
  tried.push(probe)
  return undefined
}

/**
 * Binaries in the cache, the newest version first.
 *
 * @param {Environment} env
 */
async function cached(env) {
  const directory = cacheDirectory(env)
  const versions = (await readdir(directory).catch(() => [])).filter((name) => /^\d+\.\d+\.\d+$/.test(name))
  const numbers = versions.map((name) => /** @type {Version} */ (/** @type {unknown} */ (name.split('.').map(Number))))
  return numbers.sort((a, b) => compareVersions(b, a)).map((version) => path.join(directory, version.join('.'), 'nats-server'))
}
