/**
 * The processes of the benchmarks of several servers: a cluster as `cmesh up --nodes 3` starts it, and three servers alone for its baseline,
 * with the same configuration and the same routes. All on loopback, each ended with the scope it was started in.
 */
import { NODE_FLAGS } from '../client/cli/node-process.ts'
import { KeyPair } from '../client/index.ts'
import { loginsOf, type BrokerLogin } from '../node/broker/accounts.ts'
import { Brokers } from '../node/cluster/brokers.ts'
import { clusterFiles } from '../node/cluster/files.ts'
import { planCluster } from '../node/cluster/plan.ts'
import type { ClusterDescriptor } from '../node/cluster/supervisor.ts'
import { Child } from './child.ts'
import type { MeshAccess } from './drivers/mesh.ts'
import type { Scope } from './harness.ts'
import { scratch } from './processes.ts'

export const NODES = 3

/** A cluster on a fresh directory, with an operator's key for the benchmark. */
export interface ClusterProcesses {
  /** How its operator reaches it; the URL names every server. */
  readonly access: MeshAccess
  /** Process ids by name: `node-1`, `broker-1` and so on. */
  readonly pids: Readonly<Record<string, number>>
}

export async function startCluster(scope: Scope, settings: Readonly<Record<string, string | number>> = {}): Promise<ClusterProcesses> {
  const operator = KeyPair.generate()
  const given = Object.entries(settings).flatMap(([key, value]) => ['--set', `${key}=${value}`])
  const child = await Child.start<{ readonly descriptor: ClusterDescriptor }>(scope, {
    entry: new URL('../node/cluster/main.js', import.meta.url),
    args: ['--data', await scratch(scope), '--nodes', String(NODES), '--operator', operator.did, '--log-level', 'error', ...given],
    flags: NODE_FLAGS,
    isReady: message => 'descriptor' in message,
  })
  const { url, did, parts } = child.ready.descriptor
  return { access: { url, mesh: did, seed: operator.exportSeed() }, pids: Object.fromEntries(parts.map(({ name, pid = 0 }) => [name, pid])) }
}

/** Three servers of one JetStream cluster, and the login of the services there. */
export interface ServerProcesses {
  readonly urls: readonly string[]
  readonly core: BrokerLogin
  readonly pids: Readonly<Record<string, number>>
}

export async function startServers(scope: Scope, log: (line: string) => void): Promise<ServerProcesses> {
  const dir = await scratch(scope)
  const plan = await planCluster({ dir, nodes: 1 })
  const addressOf = (port: number): string => `127.0.0.1:${port}`
  const files = await clusterFiles(dir, plan, {
    clients: plan.brokers.map(({ client }) => addressOf(client)), routes: plan.brokers.map(({ route }) => addressOf(route)), settings: () => ({}),
  })
  const brokers = new Brokers({ files, ports: plan.brokers, onNote: log })
  scope.defer(() => brokers.stop())
  await brokers.start()
  return {
    urls: files.urls, core: loginsOf(files.accounts, Math.floor(Date.now() / 1_000)).core,
    pids: Object.fromEntries(brokers.names.map(name => [name, brokers.pidOf(name) ?? 0])),
  }
}
