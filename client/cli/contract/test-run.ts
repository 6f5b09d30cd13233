/**
 * A project's tests, run by Node's own test runner in a process of its own. What they say goes where results go, and the
 * runner's summary is read for the counts.
 */
import { spawn } from 'node:child_process'
import { readdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { CMeshError } from '../../../cmtp/errors.ts'
import type { Terminal } from '../terminal.ts'
import { kitEntry } from './kit-process.ts'
import { withFile } from './report.ts'

export interface TestRun {
  readonly tests: number
  readonly passed: number
  readonly failed: number
  readonly skipped: number
  readonly durationMs: number
  /** Exit code of the runner. */
  readonly exit: number
}

interface TestRunOptions {
  readonly directory: string
  readonly files: readonly string[]
  /** The module under test, made ready before each file's first test. */
  readonly module: string
  /** Only tests whose name fits this expression. */
  readonly pattern: string | undefined
  /** What the tests say goes to stderr: results are a document. */
  readonly quiet: boolean
}

const TEST_FILE = /\.test\.(?:js|mjs)$/

/** Absolute paths of the tests in `test/`, in alphabetical order. */
export async function findTests(directory: string): Promise<string[]> {
  const root = join(directory, 'test')
  const entries = await readdir(root, { recursive: true }).catch(() => [])
  return entries.filter((entry) => TEST_FILE.test(entry) && !entry.includes('node_modules')).sort().map((entry) => join(root, entry))
}

/** Resolves with the counts, whether tests failed or not. */
export async function runTests(terminal: Terminal, { directory, files, module, pattern, quiet }: TestRunOptions): Promise<TestRun> {
  return await withFile('tests.tap', Buffer.alloc(0), async (summary) => {
    const register = pathToFileURL(kitEntry('register'))
    register.searchParams.set('module', module)
    const args = [
      '--test', '--import', register.href,
      '--test-reporter=spec', '--test-reporter-destination=stdout', '--test-reporter=tap', `--test-reporter-destination=${summary}`,
      ...(pattern === undefined ? [] : [`--test-name-pattern=${pattern}`]),
      ...files,
    ]
    const seen = quiet ? terminal.messagesAreSeen : terminal.resultsAreSeen
    const child = spawn(process.execPath, args, {
      cwd: directory, stdio: ['ignore', 'pipe', 'pipe'],
      env: { ...withoutRunner(terminal.env), ...(seen ? { FORCE_COLOR: '1' } : { NO_COLOR: '1' }) },
    })
    const stop = (): void => void child.kill('SIGTERM')
    terminal.interrupted.addEventListener('abort', stop, { once: true })
    child.stdout.on('data', (chunk: Buffer) => { if (quiet) terminal.scribble(chunk.toString('utf8')); else terminal.relay(chunk) })
    child.stderr.on('data', (chunk: Buffer) => { terminal.scribble(chunk.toString('utf8')) })
    try {
      const exit = await new Promise<number>((resolve, reject) => {
        child.once('error', reject)
        child.once('close', (code) => { resolve(code ?? 1) })
      })
      if (terminal.interrupted.aborted) throw new CMeshError('CMESH_CLIENT_ABORTED')
      return { ...countsIn(await readFile(summary, 'utf8'), files), exit }
    } finally {
      terminal.interrupted.removeEventListener('abort', stop)
    }
  })
}

/** A runner started by a test of another runner must not take itself for a part of that. */
function withoutRunner(env: NodeJS.ProcessEnv): NodeJS.ProcessEnv {
  return Object.fromEntries(Object.entries(env).filter(([name]) => name !== 'NODE_TEST_CONTEXT' && name !== 'NODE_OPTIONS'))
}

/** From the last lines of a TAP report: `# pass 3`. Runners of some versions count a file as a test that passed where none of its own ran. */
function countsIn(tap: string, files: readonly string[]): Omit<TestRun, 'exit'> {
  const count = (name: string): number => Number(new RegExp(`^# ${name} ([\\d.]+)$`, 'm').exec(tap)?.[1] ?? 0)
  const alone = [...tap.matchAll(/^ok \d+ - (.*)$/gm)].filter(([, name = '']) => files.some((file) => name === file || file.endsWith(`/${name}`))).length
  return { tests: count('tests') - alone, passed: count('pass') - alone, failed: count('fail') + count('cancelled'), skipped: count('skipped') + count('todo'), durationMs: count('duration_ms') }
}
