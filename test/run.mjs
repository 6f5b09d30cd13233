/**
 * Runs the tests: `node test/run.mjs [--faults] [--long] [what jest takes]`. It starts jest as the tests need it, keeps jest's own
 * result file, and ends with the counts in that file. It judges nothing itself: the exit status is jest's.
 *
 * Without a flag every test runs, those of `test/fault` and `test/determinism` in their short form; `--faults` runs those alone; `--long` in their
 * long form, which they take from TEST_LONG=1. TEST_RESULTS names the result file.
 */
import { spawn } from 'node:child_process'
import { mkdir, readFile, rm } from 'node:fs/promises'
import { availableParallelism } from 'node:os'
import path from 'node:path'
import { fileURLToPath } from 'node:url'
import { countsLine } from './results.mjs'

/** @import { Results } from './results.mjs' */

/** One test file more than there are cores: most of them wait for a server, a child process or a clock half of their time. Each has a few processes of its own. */
const WORKERS = Math.min(availableParallelism() + 1, 6)
/** Room for young objects, MB, in jest and each of its workers: those that compute take a sixth to a fifth longer with what Node.js gives them. */
const YOUNG_MB = 64
const SLOWEST = 5
/** Whose tests have a long form. */
const LONG_FORMS = ['fault', 'determinism']

const root = fileURLToPath(new URL('..', import.meta.url))
const resultFile = path.resolve(root, process.env['TEST_RESULTS'] ?? 'node_modules/.cache/cmesh/test-results.json')
const given = process.argv.slice(2)
const faults = given.includes('--faults')
const long = given.includes('--long')
const passed = given.filter((argument) => argument !== '--faults' && argument !== '--long')

await mkdir(path.dirname(resultFile), { recursive: true })
await rm(resultFile, { force: true })
const status = await runJest()
process.exitCode = status
await summarise(status)

/** @returns {Promise<number>} */
function runJest() {
  const chosen = passed.some((argument) => argument.startsWith('test'))
  const args = [
    '--experimental-vm-modules', '--disable-warning=ExperimentalWarning', `--max-semi-space-size=${YOUNG_MB}`,
    path.join(root, 'node_modules', 'jest', 'bin', 'jest.js'),
    '--config', path.join(root, 'test', 'jest.config.mjs'),
    '--json', '--outputFile', resultFile,
    '--maxWorkers', String(WORKERS),
    ...passed,
    ...(faults && !chosen ? LONG_FORMS.map((directory) => path.join('test', directory) + path.sep) : []),
  ]
  const child = spawn(process.execPath, args, { cwd: root, env: environment(), stdio: ['ignore', 'ignore', 'inherit'] })
  for (const signal of /** @type {const} */ (['SIGINT', 'SIGTERM'])) process.on(signal, () => child.kill(signal))
  return new Promise((resolve) => {
    child.once('error', (error) => {
      process.stderr.write(`jest did not start: ${error.message}\n`)
      resolve(1)
    })
    child.once('close', (code) => { resolve(code ?? 1) })
  })
}

/** What a user set for a mesh of their own must not reach the tests' meshes. */
function environment() {
  const env = Object.fromEntries(Object.entries(process.env).filter(([name]) => !name.startsWith('CMESH_')))
  return { ...env, ...(long && { TEST_LONG: '1' }) }
}

/** @param {number} status */
async function summarise(status) {
  const text = await readFile(resultFile, 'utf8').catch(() => undefined)
  if (text === undefined) {
    process.stdout.write(`no test ran to its end (jest ended with ${status})\n`)
    process.exitCode = status === 0 ? 1 : status
    return
  }
  const results = /** @type {Results} */ (JSON.parse(text))
  const files = results.testResults.map(({ name, status: outcome, startTime, endTime, assertionResults }) => ({
    name: path.relative(root, name), outcome, seconds: (endTime - startTime) / 1_000,
    failed: assertionResults.filter((test) => test.status === 'failed').map((test) => test.fullName),
  }))
  const lines = []
  const slow = files.toSorted((a, b) => b.seconds - a.seconds).slice(0, SLOWEST).map(({ name, seconds }) => `${name} ${seconds.toFixed(1)} s`)
  if (files.length > SLOWEST) lines.push(`slowest: ${slow.join(', ')}`)
  for (const { name, outcome, failed } of files) {
    if (outcome === 'failed' && failed.length === 0) lines.push(`FAILED ${name}: it did not load, or failed outside a test`)
    for (const test of failed) lines.push(`FAILED ${name}: ${test}`)
  }
  lines.push(countsLine(results))
  process.stdout.write(`${lines.join('\n')}\n`)
}
