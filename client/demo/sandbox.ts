/**
 * A mesh of its own for the demo: a temporary directory with the data of one node and the identity of its operator, the node
 * itself, and the client. It owns all of it; `close` leaves nothing behind, whatever happened before.
 */
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { CMeshError } from '../../cmtp/errors.ts'
import { connect } from '../connect.ts'
import { IdentityStore } from '../identity-store.ts'
import type { MeshClient } from '../mesh-client.ts'
import type { MeshDescriptor } from '../descriptor.ts'
import { NodeProcess } from '../cli/node-process.ts'

export interface SandboxOptions {
  readonly env: NodeJS.ProcessEnv
  readonly interrupted: AbortSignal
  /** Told what the node logs, and what the client warns of. */
  readonly onNote: (line: string) => void
}

export class Sandbox {
  readonly directory: string
  /** The surroundings of a `cmesh` that means this mesh. */
  readonly env: NodeJS.ProcessEnv
  readonly #options: SandboxOptions
  #node: NodeProcess | undefined
  #client: MeshClient | undefined
  #closed: Promise<void> | undefined

  static async create(options: SandboxOptions): Promise<Sandbox> {
    return new Sandbox(await mkdtemp(join(tmpdir(), 'cmesh-demo-')), options)
  }

  private constructor(directory: string, options: SandboxOptions) {
    this.directory = directory
    this.#options = options
    const { CMESH_URL: _, ...env } = options.env
    this.env = { ...env, CMESH_DATA_DIR: join(directory, 'mesh'), CMESH_CONFIG_DIR: join(directory, 'config') }
  }

  get client(): MeshClient {
    if (this.#client === undefined) throw new CMeshError('CMESH_CLIENT_CLOSED')
    return this.#client
  }

  /** Starts the node, with this sandbox's identity as operator. The data of an earlier start is taken up. */
  async startNode(onStep: (step: string) => void): Promise<MeshDescriptor> {
    const operator = await new IdentityStore(this.env['CMESH_CONFIG_DIR']).loadOrCreateIdentity()
    const { env, interrupted, onNote } = { ...this.#options, env: this.env }
    const args = ['--data', this.env['CMESH_DATA_DIR'] as string, '--operator', operator.did, '--log-level', 'error']
    const { node, descriptor } = await NodeProcess.start({ args, env, interrupted, onStep, onLog: onNote })
    this.#node = node
    return descriptor
  }

  /** Drains and stops the node; gives its exit code. */
  async stopNode(): Promise<number | null> {
    const exit = await this.#node?.stop()
    this.#node = undefined
    return exit?.code ?? null
  }

  /** Connects the client, handshake included. */
  async connect(): Promise<MeshClient> {
    this.#client = await connect({
      dataDir: this.env['CMESH_DATA_DIR'], configDir: this.env['CMESH_CONFIG_DIR'], name: 'cmesh demo', throwOnError: false, timeoutMs: 20_000,
      signal: this.#options.interrupted,
      onWarning: (warning) => this.#options.onNote(`warning ${warning.code}: ${warning.message}`),
    })
    return this.#client
  }

  close(): Promise<void> {
    this.#closed ??= this.#close()
    return this.#closed
  }

  async #close(): Promise<void> {
    try {
      await this.#client?.close()
      await this.#node?.stop()
    } finally {
      this.#node?.kill()
      await rm(this.directory, { recursive: true, force: true, maxRetries: 5 })
    }
  }
}
