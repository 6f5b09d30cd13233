/**
 * The steps of the set-up in their order: packages, broker, build. It decides which are needed, runs those, says in a line each
 * what it does, and turns a failure into what to do about it. Two runs at once share the work: the second waits, then looks anew.
 */
import { build, buildNeeded } from './build.mjs'
import { SetupError } from './failure.mjs'
import { install, installNeeded } from './install.mjs'
import { withLock } from './lock.mjs'
import { locate, MIN_VERSION, notFoundText } from './nats-locate.mjs'
import { obtain } from './nats-obtain.mjs'

/** @import { Environment, NatsServer } from './nats-locate.mjs' */

/**
 * @typedef {object} SetupOptions
 * @property {string} root Directory of the project.
 * @property {Environment} [env]
 * @property {(line: string) => void} [print] Takes the lines of progress. Default: standard output.
 * @property {(line: string) => void} [complain] Takes the failure. Default: standard error.
 */

/**
 * Resolves with the exit status: 0 when the project is ready, 1 when a step failed.
 *
 * @param {SetupOptions} options
 */
export async function setUp({ root, env = process.env, print = toStdout, complain = toStderr }) {
  try {
    if (await isReady(root, env, print)) return 0
    const onWait = (/** @type {number} */ pid) => print(`waiting for another set-up of this project (process ${pid})`)
    await withLock(root, async () => await isReady(root, env, print) || runSteps(root, env, print), onWait)
    return 0
  } catch (error) {
    complain(`set-up failed: ${error instanceof SetupError ? error.message : error instanceof Error ? error.stack : error}`)
    return 1
  }
}

/**
 * Whether nothing is left to do; says so.
 *
 * @param {string} root
 * @param {Environment} env
 * @param {(line: string) => void} print
 */
async function isReady(root, env, print) {
  const { name } = await findBroker(env)
  if (name === undefined || await installNeeded(root) !== undefined || await buildNeeded(root) !== undefined) return false
  print(`set up already (node ${process.versions.node}, ${name})`)
  return true
}

/**
 * @param {string} root
 * @param {Environment} env
 * @param {(line: string) => void} print
 */
async function runSteps(root, env, print) {
  const stalePackages = await installNeeded(root)
  if (stalePackages !== undefined) {
    print(`installing packages with npm ci (${stalePackages}); this takes a minute`)
    await install(root)
  }
  const { name, tried } = await findBroker(env)
  print(`broker: ${name ?? await obtainBroker(env, tried, print)}`)
  const staleBuild = await buildNeeded(root)
  if (staleBuild !== undefined) {
    print(`building (${staleBuild})`)
    await build(root)
  }
  print(`set up (node ${process.versions.node})`)
}

/**
 * @param {Environment} env
 * @returns {Promise<{ name?: string, tried: readonly string[] }>}
 */
async function findBroker(env) {
  const cluster = env['CMESH_NATS_URL']
  if (cluster) return { name: `NATS at ${cluster.replace(/\/\/[^/@]*@/, '//')}`, tried: [] }
  const located = await locate({ env })
  if (located.invalid) {
    const oldest = MIN_VERSION.join('.')
    const remedy = `Set it to a nats-server of ${oldest} or newer, or unset it.`
    throw new SetupError(`NATS_SERVER_BIN cannot be used: ${located.invalid}. ${remedy}`)
  }
  return located.found ? { name: describe(located.found), tried: located.tried } : { tried: located.tried }
}

/**
 * @param {Environment} env
 * @param {readonly string[]} tried
 * @param {(line: string) => void} log
 */
async function obtainBroker(env, tried, log) {
  const obtained = await obtain({ env, log })
  if (!obtained.found) throw new SetupError(notFoundText([...tried, ...obtained.tried]))
  return `${describe(obtained.found)}, now in ${obtained.found.path}`
}

/** @param {NatsServer} server */
function describe(server) {
  return `nats-server ${server.version.join('.')}`
}

/** @param {string} line */
function toStdout(line) {
  process.stdout.write(`${line}\n`)
}

/** @param {string} line */
function toStderr(line) {
  process.stderr.write(`${line}\n`)
}
