/**
 * The built command line, in a home of its own: no mesh, identity or setting of whoever runs the tests. The first time that a test file runs a
 * command it is a process of its own, as a user's is; further ones run in one process of the home, which stays. Closing a home looks for secrets in
 * all that its commands, its nodes and their brokers wrote.
 */
import { fork, spawn, spawnSync, type ChildProcess } from 'node:child_process'
import { existsSync } from 'node:fs'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { brokerLog, clusterLogs, nodesUnder, secretsIn, secretsOf, secretsOfPerson } from '../../support/secrets.ts'
import { ROOT } from '../../support/sources.ts'
import { until } from './until.ts'

const ENTRY = join(ROOT, 'dist', 'client', 'cli', 'main.js')
const HOST = join(ROOT, 'test', 'client', 'support', 'cli-host.mjs')

/** They own processes that end with them, or measure: each is always a process of its own. */
const ALONE: ReadonlySet<string | undefined> = new Set(['up', 'demo', 'spam'])
/** What ran as a process in this test file. */
const ran = new Set<string>()

/** Whether `startOnTerminal` can: it takes the `script` of util-linux, which other systems do not have. */
export const HAS_TERMINALS = spawnSync('script', ['--version'], { encoding: 'utf8' }).stdout?.includes('util-linux') ?? false

export interface CliResult {
  readonly code: number | null
  readonly stdout: string
  readonly stderr: string
}

export class CliHome {
  readonly directory: string
  readonly env: NodeJS.ProcessEnv
  readonly #running = new Set<CliRun>()
  /** All that was written here, by whom. */
  readonly #wrote: (readonly [who: string, text: () => string])[] = []
  #telling: readonly string[] = []
  #host: CliHost | undefined

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
    return this.#keep(args, spawn(process.execPath, [ENTRY, ...args], { cwd: ROOT, env: { ...this.env, ...env }, stdio: 'pipe' }))
  }

  /** Starts a command that can make files, and write nothing into them: as where the disk is full. */
  startWithoutRoom(args: readonly string[]): CliRun {
    const shell = 'trap "" XFSZ; ulimit -f 0; exec "$0" "$@"'
    return this.#keep(args, spawn('sh', ['-c', shell, process.execPath, ENTRY, ...args], { cwd: ROOT, env: this.env, stdio: 'pipe' }))
  }

  /** Starts a command on a terminal of its own, where a person types what its stdin is written; all that shows is its stdout. */
  startOnTerminal(args: readonly string[]): CliRun {
    const command = [process.execPath, ENTRY, ...args].map(each => `'${each.replaceAll('\'', '\'\\\'\'')}'`).join(' ')
    return this.#keep(args, spawn('script', ['--quiet', '--return', '--flush', '--command', command, '/dev/null'], {
      cwd: ROOT, env: { ...this.env, SHELL: '/bin/sh', NO_COLOR: '1' }, stdio: 'pipe',
    }))
  }

  #keep(args: readonly string[], child: ChildProcess): CliRun {
    const run = new CliRun(child)
    this.#running.add(run)
    this.#hear(args, run)
    void run.result.then(() => this.#running.delete(run))
    return run
  }

  #hear(args: readonly string[], said: Pick<CliResult, 'stdout' | 'stderr'>): void {
    const told = args.join(' ')
    if (!this.#telling.some(command => `${told} `.startsWith(`${command} `))) this.#wrote.push([`stdout of cmesh ${told}`, () => said.stdout])
    this.#wrote.push([`stderr of cmesh ${told}`, () => said.stderr])
  }

  /** Runs a command to its end. */
  async run(args: readonly string[], input = ''): Promise<CliResult> {
    const kind = args.slice(0, 2).filter(word => /^[a-z-]+$/.test(word)).join(' ')
    if (ran.has(kind) && input === '' && !args.includes('-') && !ALONE.has(args[0])) {
      this.#host ??= new CliHost(this.env)
      const result = await this.#host.run(args)
      this.#hear(args, result)
      return result
    }
    ran.add(kind)
    const run = this.start(args)
    run.child.stdin?.end(input)
    return await run.result
  }

  /** Runs a command with `--json` that must succeed, and gives its one document. */
  async json(...args: readonly string[]): Promise<unknown> {
    const { code, stdout, stderr } = await this.run([...args, '--json'])
    if (code !== 0) throw new Error(`cmesh ${args.join(' ')} ended with ${String(code)}: ${stderr}`)
    return JSON.parse(stdout)
  }

  /** From here on these commands, by how they begin, may print a secret on stdout: it is what they are for. */
  tells(...commands: readonly string[]): void {
    this.#telling = [...this.#telling, ...commands]
  }

  /** What was written here by other ways than `start`. */
  wrote(who: string, text: string): void {
    this.#wrote.push([who, () => text])
  }

  /** Rejects when a secret stands in what was written here. */
  async close(): Promise<void> {
    for (const { child } of this.#running) child.kill('SIGTERM')
    await Promise.all([...this.#running].map(({ result }) => result))
    this.wrote('the process that runs commands', await this.#host?.close() ?? '')
    const leaks = this.#leaks()
    await rm(this.directory, { recursive: true, force: true, maxRetries: 5 })
    if (leaks.length > 0) throw new Error(`secrets were written down:\n${leaks.join('\n')}`)
  }

  #leaks(): string[] {
    const nodes = nodesUnder(this.directory)
    const kept = new Map([...secretsOfPerson(join(this.directory, 'config')), ...nodes.flatMap(dir => [...secretsOf(dir)])])
    const logs = nodes.map((dir): readonly [string, () => string] => [`the broker's log in ${dir}`, () => brokerLog(dir)])
    const ofClusters = [...clusterLogs(this.directory)].map(([file, text]): readonly [string, () => string] => [`the log ${file}`, () => text])
    return [...this.#wrote.splice(0), ...logs, ...ofClusters].flatMap(([who, text]) => secretsIn(text(), kept).map(what => `${who}: ${what}`))
  }
}

/** A process that runs command lines, several at once where it is asked to. */
class CliHost {
  readonly #child: ChildProcess
  readonly #ended: Promise<string>
  readonly #asked = new Map<number, (result: CliResult) => void>()
  #said = ''
  #next = 0

  constructor(env: NodeJS.ProcessEnv) {
    this.#child = fork(HOST, { cwd: ROOT, env, execArgv: [], stdio: ['ignore', 'pipe', 'pipe', 'ipc'] })
    for (const stream of [this.#child.stdout, this.#child.stderr]) stream?.setEncoding('utf8').on('data', (text: string) => { this.#said += text })
    this.#child.on('message', ({ id, ...result }: CliResult & { readonly id: number }) => {
      this.#asked.get(id)?.(result)
      this.#asked.delete(id)
    })
    this.#ended = new Promise((resolve) => { this.#child.once('close', (code, signal) => { resolve(`ended with ${String(code ?? signal)}: ${this.#said}`) }) })
  }

  async run(args: readonly string[]): Promise<CliResult> {
    const id = this.#next++
    const result = new Promise<CliResult>((resolve) => { this.#asked.set(id, resolve) })
    const gone = this.#ended.then((how): never => { throw new Error(`the process that runs cmesh ${args.join(' ')} ${how}`) })
    this.#child.send({ id, args })
    return await Promise.race([result, gone])
  }

  /** What it said beside the commands. */
  async close(): Promise<string> {
    this.#child.kill()
    await this.#ended
    return this.#said
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
