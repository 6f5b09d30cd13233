/** The built command line as a process of its own, in a home of its own: no mesh, identity or setting of whoever runs the tests. */
import { spawn, type ChildProcess } from 'node:child_process'
import { existsSync } from 'node:fs'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { ROOT } from '../../support/sources.ts'
import { until } from './until.ts'

const ENTRY = join(ROOT, 'dist', 'client', 'cli', 'main.js')

export interface CliResult {
  readonly code: number | null
  readonly stdout: string
  readonly stderr: string
}

export class CliHome {
  readonly directory: string
  readonly env: NodeJS.ProcessEnv
  readonly #running = new Set<CliRun>()

  static async make(): Promise<CliHome> {
    if (!existsSync(ENTRY)) throw new Error(`${ENTRY} is missing; run npm run build`)
    return new CliHome(await mkdtemp(join(tmpdir(), 'cmesh-test-cli-')))
  }

  private constructor(directory: string) {
    this.directory = directory
    const inherited = Object.entries(process.env).filter(([name]) => !name.startsWith('CMESH_') && name !== 'NO_COLOR')
    this.env = {
      ...Object.fromEntries(inherited), CMESH_DATA_DIR: join(directory, 'mesh'), CMESH_CONFIG_DIR: join(directory, 'config'), TMPDIR: directory,
    }
  }

  /** Starts a command and does not wait for it. */
  start(args: readonly string[], env: NodeJS.ProcessEnv = {}): CliRun {
    const run = new CliRun(spawn(process.execPath, [ENTRY, ...args], { cwd: ROOT, env: { ...this.env, ...env }, stdio: 'pipe' }))
    this.#running.add(run)
    void run.result.then(() => this.#running.delete(run))
    return run
  }

  /** Runs a command to its end. */
  run(args: readonly string[], input = ''): Promise<CliResult> {
    const run = this.start(args)
    run.child.stdin?.end(input)
    return run.result
  }

  /** Runs a command with `--json` that must succeed, and gives its one document. */
  async json(...args: readonly string[]): Promise<unknown> {
    const { code, stdout, stderr } = await this.run([...args, '--json'])
    if (code !== 0) throw new Error(`cmesh ${args.join(' ')} ended with ${String(code)}: ${stderr}`)
    return JSON.parse(stdout)
  }

  async close(): Promise<void> {
    for (const { child } of this.#running) child.kill('SIGTERM')
    await Promise.all([...this.#running].map(({ result }) => result))
    await rm(this.directory, { recursive: true, force: true, maxRetries: 5 })
  }
}

export class CliRun {
  readonly child: ChildProcess
  readonly result: Promise<CliResult>
  stdout = ''
  stderr = ''
  /** Its output is complete. */
  #closed = false

  constructor(child: ChildProcess) {
    this.child = child
    child.stdout?.setEncoding('utf8').on('data', (text: string) => { this.stdout += text })
    child.stderr?.setEncoding('utf8').on('data', (text: string) => { this.stderr += text })
    this.result = new Promise((resolve) => {
      child.once('close', (code) => {
        this.#closed = true
        resolve({ code, stdout: this.stdout, stderr: this.stderr })
      })
    })
  }

  /** Resolves when the text has been printed; rejects with what was said when the command ends before. */
  async printed(text: string): Promise<void> {
    await until(`printed ${text}: ${this.stderr}`, () => {
      if (this.stdout.includes(text)) return true
      if (this.#closed) throw new Error(`it ended with ${String(this.child.exitCode ?? this.child.signalCode)}: ${this.stderr}`)
      return false
    }, 40_000)
  }
}
