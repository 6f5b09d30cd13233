/**
 * Obtains a nats-server without root: the official release, checked against a pinned SHA-256, then Debian's package, checked by
 * apt. It writes only into CMesh's cache, and there only whole binaries that ran once. Each way gives a binary or a reason.
 */
import { createHash } from 'node:crypto'
import { chmod, copyFile, mkdir, mkdtemp, readdir, rename, rm, writeFile } from 'node:fs/promises'
import os from 'node:os'
import path from 'node:path'
import { runCommand } from './command.mjs'
import { cacheDirectory, probeBinary } from './nats-locate.mjs'

/** @import { Environment, Located, NatsServer } from './nats-locate.mjs' */

/**
 * @typedef {object} Release
 * @property {string} version
 * @property {Readonly<Record<string, { readonly name: string, readonly sha256: string } | undefined>>} archives
 */

/**
 * The official release and the SHA-256 of its archives, by `<platform>-<architecture>` as Node.js names them. Only checksums
 * that were compared with those the NATS maintainers publish in github.com/nats-io/nats-docker (2.11.x/alpine3.22/Dockerfile)
 * stand here; a platform without one uses the other ways.
 *
 * @type {Readonly<Release>}
 */
export const RELEASE = Object.freeze({
  version: '2.11.17',
  archives: Object.freeze({
    'linux-x64': { name: 'linux-amd64', sha256: 'ad608dd0ea8bbfa58c40e3b8f58ed67478eec26166ec49c502db8d17589b51b5' },
    'linux-arm64': { name: 'linux-arm64', sha256: 'd21df24f262f34f8bf6d1f0bca557c08429e433fd9f60f6983105539ae517feb' },
  }),
})

/** Longest wait for the release's server to answer, and for the whole archive, in ms. */
const ANSWER_MS = 15_000
const DOWNLOAD_MS = 180_000
/** Longest run of one apt or dpkg command in ms. */
const COMMAND_MS = 180_000

/**
 * @typedef {object} ObtainOptions
 * @property {Environment} [env]
 * @property {readonly ('release' | 'apt')[]} [ways] Which ways to try, in this order. Default: the release, then apt.
 * @property {Release} [release] Default: the pinned one.
 * @property {(line: string) => void} [log] Told what is being done, one line each.
 */

/**
 * Tries each way until one gives a usable binary.
 *
 * @param {ObtainOptions} [options]
 * @returns {Promise<Located>}
 */
export async function obtain({ env = process.env, ways = ['release', 'apt'], release = RELEASE, log = () => undefined } = {}) {
  /** @type {string[]} */
  const tried = []
  for (const way of ways) {
    const directory = await mkdtemp(path.join(os.tmpdir(), 'cmesh-nats-'))
    try {
      const unpacked = way === 'release' ? await fromRelease(directory, release, log) : await fromApt(directory, env, log)
      return { found: await store(unpacked, way, env), tried }
    } catch (error) {
      const why = `${way === 'apt' ? 'apt-get' : 'the official release'}: ${firstLine(error)}`
      log(`no nats-server from ${why}`)
      tried.push(why)
    } finally {
      await rm(directory, { recursive: true, force: true })
    }
  }
  return { tried }
}

/**
 * @param {string} directory
 * @param {Release} release
 * @param {(line: string) => void} log
 */
async function fromRelease(directory, release, log) {
  const archive = release.archives[`${process.platform}-${process.arch}`]
  if (!archive) throw new Error(`no checksum is pinned for ${process.platform}-${process.arch}`)
  const name = `nats-server-v${release.version}-${archive.name}`
  const url = `https://github.com/nats-io/nats-server/releases/download/v${release.version}/${name}.tar.gz`
  log(`downloading nats-server ${release.version} from github.com`)
  const bytes = await download(url)
  const sha256 = createHash('sha256').update(bytes).digest('hex')
  if (sha256 !== archive.sha256) throw new Error(`its checksum is ${sha256}, not the pinned one; nothing was installed`)
  const file = path.join(directory, 'archive.tar.gz')
  await writeFile(file, bytes)
  await run('tar', ['-xzf', file, '-C', directory, `${name}/nats-server`], directory)
  return path.join(directory, name, 'nats-server')
}

/** @param {string} url */
async function download(url) {
  const whole = AbortSignal.timeout(DOWNLOAD_MS)
  const answer = new AbortController()
  const silent = new Error(`github.com did not answer within ${ANSWER_MS / 1_000} s`)
  const timer = setTimeout(() => answer.abort(silent), ANSWER_MS)
  try {
    const response = await fetch(url, { signal: AbortSignal.any([whole, answer.signal]) })
    clearTimeout(timer)
    if (!response.ok) throw new Error(`github.com answered ${response.status}`)
    return Buffer.from(await response.arrayBuffer())
  } catch (error) {
    const cause = error instanceof Error ? error.cause : undefined
    throw cause instanceof Error ? new Error(`github.com cannot be reached (${cause.message})`, { cause }) : error
  } finally {
    clearTimeout(timer)
  }
}

/**
 * `apt-get download` takes no root and verifies the archive's signatures. Where the package lists are missing, as in a fresh
 * container, lists of our own are fetched into the cache; the system's are left alone.
 *
 * @param {string} directory
 * @param {Environment} env
 * @param {(line: string) => void} log
 */
async function fromApt(directory, env, log) {
  if (process.platform !== 'linux') throw new Error('this is not a Debian system')
  log('downloading nats-server with apt-get, without root')
  const download = ['download', 'nats-server']
  const first = await runCommand('apt-get', download, { cwd: directory, timeoutMs: COMMAND_MS })
  if (first.missing) throw new Error('apt-get is not installed')
  if (first.status !== 0) {
    const apt = path.join(cacheDirectory(env), 'apt')
    await mkdir(path.join(apt, 'lists', 'partial'), { recursive: true, mode: 0o755 })
    await mkdir(path.join(apt, 'archives', 'partial'), { recursive: true, mode: 0o755 })
    const own = ['-o', `Dir::State::Lists=${apt}/lists`, '-o', `Dir::Cache=${apt}`]
    log('fetching package lists of our own')
    await run('apt-get', [...own, 'update'], directory)
    await run('apt-get', [...own, ...download], directory)
    await rm(apt, { recursive: true, force: true })
  }
  const archive = (await readdir(directory)).find((name) => name.endsWith('.deb'))
  if (!archive) throw new Error('apt-get downloaded nothing')
  await run('dpkg', ['-x', archive, 'unpacked'], directory)
  return path.join(directory, 'unpacked', 'usr', 'sbin', 'nats-server')
}

/**
 * Puts a binary that was seen running into the cache, under its own version, by a rename: whoever looks sees all or nothing.
 *
 * @param {string} binary
 * @param {'release' | 'apt'} source
 * @param {Environment} env
 * @returns {Promise<NatsServer>}
 */
async function store(binary, source, env) {
  const version = await probeBinary(binary)
  if (typeof version === 'string') throw new Error(version)
  const directory = path.join(cacheDirectory(env), version.join('.'))
  await mkdir(directory, { recursive: true })
  const target = path.join(directory, 'nats-server')
  const part = `${target}.${process.pid}.${Date.now()}.part`
  try {
    await copyFile(binary, part)
    await chmod(part, 0o755)
    await rename(part, target)
  } finally {
    await rm(part, { force: true })
  }
  return { path: target, version, source }
}

/**
 * @param {string} command
 * @param {readonly string[]} args
 * @param {string} cwd
 */
async function run(command, args, cwd) {
  const { status, missing, output } = await runCommand(command, args, { cwd, timeoutMs: COMMAND_MS })
  if (missing) throw new Error(`${command} is not installed`)
  if (status === 0) return
  const said = output.split('\n').find((line) => /^E: |error/i.test(line)) ?? ''
  throw new Error(`${command} failed (${status}) ${said.replace(/^E: /, '')}`.trim())
}

/** @param {unknown} error */
function firstLine(error) {
  return (error instanceof Error ? error.message : String(error)).split('\n')[0] ?? ''
}
