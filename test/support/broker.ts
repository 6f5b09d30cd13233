/**
 * A real nats-server for a test: a managed broker in a directory of its own under the system's temporary one, and a connection
 * to each account. `stop` closes them, stops the server and removes the directory.
 */
import { mkdtemp, rm } from 'node:fs/promises'
import os from 'node:os'
import path from 'node:path'
import { ManagedBroker, type ManagedBrokerOptions } from '../../node/broker/managed.ts'
import { BrokerAccountSessions } from '../../node/broker/sessions.ts'
import { connectNats, type NatsBus } from '../../providers/bus/nats.ts'
import { SILENT_LOG } from '../../services/log.ts'
import { connectionsAt, type BrokerConnection } from './broker-connections.ts'

/** A machine that runs many tests at once may take its time to answer. */
const CONNECT_MS = 30_000
const CONNECTION_TTL_MS = 3_600_000

export interface TestBroker {
  /** `nats://127.0.0.1:<port>`. Who connects there without a login is refused. */
  readonly url: string
  /** Connection of the services; `core.connection` is the NATS connection, with JetStream. */
  readonly core: NatsBus
  /** Connection of the router. */
  readonly mesh: NatsBus
  /** Connection among the newcomers. */
  readonly door: NatsBus
  /** Connection that changes accounts. */
  readonly sys: NatsBus
  /** Who is connected, as the server tells the system account. */
  connections(): Promise<readonly BrokerConnection[]>
  readonly sessions: BrokerAccountSessions
  readonly broker: ManagedBroker
  readonly dir: string
  /** Closes the connections; the server stays. */
  leave(): Promise<void>
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
    const open = async (name: 'core' | 'mesh' | 'door' | 'sys'): Promise<NatsBus> => {
      const bus = await connectNats({ servers: broker.url, name: `test-${name}`, ...broker[name], connectTimeoutMs: CONNECT_MS })
      undo.push(() => bus.close())
      return bus
    }
    const [core, mesh, door, sys] = [await open('core'), await open('mesh'), await open('door'), await open('sys')]
    const sessions = new BrokerAccountSessions({ accounts: broker.accounts, sys, connectionTtlMs: CONNECTION_TTL_MS, log: SILENT_LOG })
    undo.push(() => { sessions.close(); return Promise.resolve() })
    const leave = async (): Promise<void> => {
      sessions.close()
      await Promise.all([core, mesh, door, sys].map(bus => bus.close()))
    }
    return { url: broker.url, core, mesh, door, sys, sessions, broker, dir, leave, stop, connections: () => connectionsAt(broker.url, broker.accounts) }
  } catch (error) {
    await stop()
    throw error
  }
}
