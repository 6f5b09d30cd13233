/** The processes a benchmark needs: a node of the mesh, and the baseline's broker and echo. All on loopback, all ended with the benchmark. */
import { fork, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { connect, KeyPair, type MeshClient } from '../client/index.ts'
import { ManagedBroker } from '../node/broker/managed.ts'
import type { MeshDescriptor } from '../node/descriptor.ts'
import { RawRequester } from './raw/requester.ts'

export interface NodeOptions {
  readonly operator: string
  readonly settings?: Readonly<Record<string, string>>
}

/** A node in a process of its own, on a fresh data directory. */
export class NodeProcess {
  readonly descriptor: MeshDescriptor
  readonly #child: ChildProcess
  readonly #dir: string

  private constructor(child: ChildProcess, dir: string, descriptor: MeshDescriptor) {
    this.#child = child
    this.#dir = dir
    this.descriptor = descriptor
  }

  static async start({ operator, settings = {} }: NodeOptions): Promise<NodeProcess> {
    const dir = await mkdtemp(path.join(tmpdir(), 'cmesh-bench-'))
    const given = Object.entries(settings).flatMap(([key, value]) => ['--set', `${key}=${value}`])
    const child = fork(new URL('../node/main.js', import.meta.url), ['--data', dir, '--operator', operator, '--log-level', 'warn', ...given], {
      stdio: ['ignore', 'ignore', 'inherit', 'ipc'],
    })
    const descriptor = await new Promise<MeshDescriptor>((resolve, reject) => {
      child.on('message', (message: { type: string, descriptor?: MeshDescriptor }) => {
        if (message.type === 'ready' && message.descriptor !== undefined) resolve(message.descriptor)
      })
      child.once('exit', code => { reject(new Error(`the node ended with ${String(code)} before it was ready`)) })
    })
    return new NodeProcess(child, dir, descriptor)
  }

  get pid(): number {
    return this.#child.pid ?? 0
  }

  async stop(): Promise<void> {
    const gone = once(this.#child, 'exit')
    this.#child.kill('SIGTERM')
    await gone
    await rm(this.#dir, { recursive: true, force: true })
  }
}

/** A client of the mesh in this process. */
export function meshClient(node: NodeProcess, identity = KeyPair.generate()): Promise<MeshClient> {
  return connect({ url: node.descriptor.url, mesh: node.descriptor.did, identity })
}

/** The baseline: a broker configured like the mesh's, an echo process, and a requester in this process. */
export class RawEcho {
  readonly requester: RawRequester
  readonly #stop: () => Promise<void>

  private constructor(requester: RawRequester, stop: () => Promise<void>) {
    this.requester = requester
    this.#stop = stop
  }

  static async start(): Promise<RawEcho> {
    const dir = await mkdtemp(path.join(tmpdir(), 'cmesh-raw-'))
    const broker = new ManagedBroker({ dir })
    await broker.start()
    const child = fork(new URL('raw/echo.js', import.meta.url), {
      env: { ...process.env, ECHO_URL: broker.url, ECHO_SEED: broker.mesh.nkeySeed }, stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
    })
    await once(child, 'message')
    const requester = await RawRequester.open(broker.url)
    return new RawEcho(requester, async () => {
      await requester.close()
      const gone = once(child, 'exit')
      child.kill('SIGTERM')
      await gone
      await broker.stop()
      await rm(dir, { recursive: true, force: true })
    })
  }

  stop(): Promise<void> {
    return this.#stop()
  }
}
