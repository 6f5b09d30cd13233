/**
 * A real nats-server for a test: a managed broker in a directory of its own under the system's temporary one, and a connection
 * to each account. `stop` closes both, stops the server and removes the directory.
 */
import { mkdtemp, rm } from 'node:fs/promises'
import os from 'node:os'
import path from 'node:path'
import { ManagedBroker, type ManagedBrokerOptions } from '../../node/broker/managed.ts'
import { connectNats, type NatsBus } from '../../providers/bus/nats.ts'

/** A machine that runs many tests at once may take its time to answer. */
const CONNECT_MS = 30_000

export interface TestBroker {
  /** `nats://127.0.0.1:<port>`. Who connects there without a login is the mesh's user `client`. */
  readonly url: string
  /** Connection of the services; `core.connection` is the NATS connection, with JetStream. */
  readonly core: NatsBus
  /** Connection of the router. */
  readonly mesh: NatsBus
  readonly broker: ManagedBroker
  readonly dir: string
  stop(): Promise<void>
}

export async function startBroker(options: Partial<ManagedBrokerOptions> = {}): Promise<TestBroker> {
  const dir = options.dir ?? await mkdtemp(path.join(os.tmpdir(), 'cmesh-test-broker-'))
  const broker = new ManagedBroker({ ...options, dir })
  const undo: (() => Promise<void>)[] = [() => rm(dir, { recursive: true, force: true }), () => broker.stop()]
  const stop = async (): Promise<void> => {
    for (const step of undo.splice(0).reverse()) await step()
  }
  try {
    await broker.start()
    const core = await connectNats({ servers: broker.url, name: 'test-core', nkeySeed: broker.core.nkeySeed, connectTimeoutMs: CONNECT_MS })
    undo.push(() => core.close())
    const mesh = await connectNats({ servers: broker.url, name: 'test-mesh', nkeySeed: broker.mesh.nkeySeed, connectTimeoutMs: CONNECT_MS })
    undo.push(() => mesh.close())
    return { url: broker.url, core, mesh, broker, dir, stop }
  } catch (error) {
    await stop()
    throw error
  }
}
