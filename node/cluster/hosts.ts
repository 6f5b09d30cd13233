/**
 * The files of a cluster whose parts others start, as containers are: the same as those of a supervised one, and for each broker the whole
 * configuration of its server. Written once more at every call, with the keys that are there.
 */
import path from 'node:path'
import { CMeshError } from '../../cmtp/errors.ts'
import { BROKER_FILES, brokerConfig } from '../broker/config.ts'
import { BrokerDirectory } from '../broker/directory.ts'
import { clusterFiles } from './files.ts'
import { BROKERS, planCluster } from './plan.ts'

export interface HostsWanted {
  readonly dir: string
  readonly nodes: number
  /** One for each broker, as the nodes and the other brokers reach it. */
  readonly hosts: readonly string[]
}

/** The usual ports of NATS: each server has a host of its own. */
const PORTS = Object.freeze({ client: 4_222, route: 6_222, monitor: 8_222 })
const HTTP_PORT = 8_080
const HOST = /^[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?$/

/** Resolves with the mesh's DID. Rejects with `CMESH_CONFIG_INVALID` or `CMESH_CLUSTER_DATA`. */
export async function writeForHosts({ dir, nodes, hosts }: HostsWanted): Promise<string> {
  if (hosts.length !== BROKERS || !hosts.every(host => HOST.test(host)) || new Set(hosts).size !== BROKERS) {
    throw new CMeshError('CMESH_CONFIG_INVALID', { key: '--hosts', reason: `it is ${BROKERS} names of hosts, separated by commas` })
  }
  const plan = await planCluster({ dir, nodes, port: PORTS.client })
  const files = await clusterFiles(dir, plan, {
    clients: hosts.map(host => `${host}:${PORTS.client}`),
    routes: hosts.map(host => `${host}:${PORTS.route}`),
    settings: () => ({ 'http.host': '0.0.0.0', 'http.port': HTTP_PORT }),
  })
  for (const { name, dir: at, routes } of files.brokers) {
    const text = brokerConfig({
      serverName: name, host: '0.0.0.0', port: PORTS.client, dir: at, accounts: files.accounts, version: [2, 9, 0],
      routes: { ...routes, listen: `0.0.0.0:${PORTS.route}`, advertise: false },
      // Inside a container nobody else is on its loopback.
      monitor: `127.0.0.1:${PORTS.monitor}`,
    })
    await new BrokerDirectory(path.resolve(at)).write(BROKER_FILES.config, text)
  }
  return files.mesh
}
