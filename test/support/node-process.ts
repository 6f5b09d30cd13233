/**
 * Nodes for tests: each the built entry point in a process of its own, on a data directory under the system's temporary one.
 * A room owns the nodes and directories made in it: closing it kills what still runs, waits until the brokers of its nodes are
 * gone as well, looks for secrets in all that any of them wrote, and removes the directories.
 */
import { fork, type ChildProcess } from 'node:child_process'
import { existsSync, readFileSync } from 'node:fs'
import { mkdtemp, rm } from 'node:fs/promises'
import os from 'node:os'
import path from 'node:path'
import type { MeshDescriptor } from '../../node/descriptor.ts'
import { until } from '../client/support/until.ts'
import { metricsOf, type MetricFamilies } from './prometheus.ts'
import { brokerLog, secretsIn, secretsOf } from './secrets.ts'
import { ROOT } from './sources.ts'

const ENTRY = path.join(ROOT, 'dist', 'node', 'main.js')

export interface NodeLaunch {
  /** Data directory; one of the room's own by default. */
  readonly dir?: string
  /** Flags of the node beside `--data`. */
  readonly args?: readonly string[]
  /** Settings by `--set`. */
  readonly set?: Readonly<Record<string, string | number | boolean>>
  readonly env?: Readonly<Record<string, string>>
}

export interface NodeExit {
  readonly code: number | null
  readonly signal: NodeJS.Signals | null
}

export interface NodeFailure {
  readonly code: string
  readonly message: string
}

export class TestNode {
  readonly dir: string
  /** Steps of the boot, as reported. */
  readonly steps: string[] = []
  /** Resolves when the process is gone. */
  readonly exited: Promise<NodeExit>
  readonly #child: ChildProcess
  readonly #ready: Promise<MeshDescriptor | undefined>
  #descriptor: MeshDescriptor | undefined
  #failure: NodeFailure | undefined
  #stderr = ''
  #stdout = ''
  #gone = false

  constructor({ dir, args = [], set = {}, env = {} }: NodeLaunch & { readonly dir: string }) {
    if (!existsSync(ENTRY)) throw new Error(`${ENTRY} is missing; run npm run build`)
    this.dir = dir
    const settings = Object.entries(set).flatMap(([key, value]) => ['--set', `${key}=${String(value)}`])
    this.#child = fork(ENTRY, ['--data', dir, ...settings, ...args], {
      env: { ...inherited(), ...env }, execArgv: [], stdio: ['ignore', 'pipe', 'pipe', 'ipc'],
    })
    this.#child.stderr?.setEncoding('utf8').on('data', (text: string) => { this.#stderr += text })
    this.#child.stdout?.setEncoding('utf8').on('data', (text: string) => { this.#stdout += text })
    // Not `exit`: what it wrote last is wanted too.
    this.exited = new Promise(resolve => {
      this.#child.once('close', (code, signal) => {
        this.#gone = true
        resolve({ code, signal })
      })
    })
    this.#ready = new Promise(resolve => {
      this.#child.on('message', (message: { type: string, step: string, descriptor: MeshDescriptor } & NodeFailure) => {
        if (message.type === 'step') this.steps.push(message.step)
        if (message.type === 'failed') this.#failure = { code: message.code, message: message.message }
        if (message.type === 'ready') resolve(this.#descriptor = message.descriptor)
      })
      void this.exited.then(() => { resolve(undefined) })
    })
  }

  /** Resolves when the node is ready; rejects with what it said when it ends before. */
  async ready(): Promise<this> {
    if (await this.#ready === undefined) throw new Error(`the node did not become ready:\n${this.#stderr}`)
    return this
  }

  get descriptor(): MeshDescriptor {
    if (this.#descriptor === undefined) throw new Error('the node is not ready')
    return this.#descriptor
  }

  get url(): string {
    return this.descriptor.url
  }

  get pid(): number {
    return this.#child.pid as number
  }

  get running(): boolean {
    return !this.#gone
  }

  /** What it said it failed with. */
  get failure(): NodeFailure | undefined {
    return this.#failure
  }

  get stderr(): string {
    return this.#stderr
  }

  get stdout(): string {
    return this.#stdout
  }

  /** Process id of the nats-server of its own; `undefined` when there is none, or one is just writing it down. */
  get brokerPid(): number | undefined {
    try {
      return Number(/^\d+$/.exec(readFileSync(path.join(this.dir, 'broker', 'nats.pid'), 'utf8').trim())?.[0]) || undefined
    } catch {
      return undefined
    }
  }

  signal(signal: NodeJS.Signals): void {
    if (!this.#gone) this.#child.kill(signal)
  }

  /** SIGTERM; resolves when it is gone. */
  stop(): Promise<NodeExit> {
    this.signal('SIGTERM')
    return this.exited
  }

  /** SIGKILL; resolves when it is gone. */
  kill(): Promise<NodeExit> {
    this.signal('SIGKILL')
    return this.exited
  }

  /** Secrets in all that it and its broker wrote, by where and what. */
  get leaks(): readonly string[] {
    const kept = secretsOf(this.dir)
    const written = { stderr: this.#stderr, stdout: this.#stdout, failure: JSON.stringify(this.#failure ?? null), 'broker\'s log': brokerLog(this.dir) }
    return Object.entries(written).flatMap(([where, text]) => secretsIn(text, kept).map(what => `${where} of the node in ${this.dir}: ${what}`))
  }

  async health(): Promise<{ readonly code: number, readonly body: Readonly<Record<string, unknown>> }> {
    const response = await fetch(`${this.descriptor.http}/healthz`)
    return { code: response.status, body: await response.json() as Record<string, unknown> }
  }

  async metrics(): Promise<MetricFamilies> {
    return metricsOf(await (await fetch(`${this.descriptor.http}/metrics`)).text())
  }

  /** Resident memory in bytes. */
  get rss(): number {
    const kib = /^VmRSS:\s+(\d+) kB/m.exec(readFileSync(`/proc/${this.pid}/status`, 'utf8'))?.[1]
    return Number(kib) * 1_024
  }
}

export class NodeRoom {
  readonly #nodes: TestNode[] = []
  readonly #dirs: string[] = []

  async dir(): Promise<string> {
    const dir = await mkdtemp(path.join(os.tmpdir(), 'cmesh-test-node-'))
    this.#dirs.push(dir)
    return dir
  }

  /** Starts a node and does not wait for it. */
  async launch(options: NodeLaunch = {}): Promise<TestNode> {
    const node = new TestNode({ ...options, dir: options.dir ?? await this.dir() })
    this.#nodes.push(node)
    return node
  }

  /** Starts a node and waits until it is ready. */
  async start(options: NodeLaunch = {}): Promise<TestNode> {
    return await (await this.launch(options)).ready()
  }

  /** Rejects when a broker outlived its node, after ending it, and when a secret stands in what a node or its broker wrote. */
  async close(): Promise<void> {
    const nodes = this.#nodes.splice(0)
    await Promise.all(nodes.map(node => node.kill()))
    const leaks = nodes.flatMap(node => node.leaks)
    const brokers = nodes.flatMap(({ brokerPid }) => (brokerPid === undefined ? [] : [brokerPid]))
    try {
      await until('the brokers are gone', () => !brokers.some(isAlive))
    } finally {
      for (const broker of brokers.filter(isAlive)) {
        try {
          process.kill(broker, 'SIGKILL')
        } catch {
          // It went since it was looked at.
        }
      }
      await Promise.all(this.#dirs.splice(0).map(dir => rm(dir, { recursive: true, force: true })))
    }
    if (leaks.length > 0) throw new Error(`secrets were written down:\n${leaks.join('\n')}`)
  }
}

/** A process that ended and that nobody waited for yet is not alive, though a signal still finds it. */
export function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0)
    return process.platform !== 'linux' || !/\) Z /.test(readFileSync(`/proc/${pid}/stat`, 'utf8'))
  } catch {
    return false
  }
}

/** What a user set for a mesh of their own must not reach a test's. */
function inherited(): NodeJS.ProcessEnv {
  return Object.fromEntries(Object.entries(process.env).filter(([name]) => !name.startsWith('CMESH_')))
}
