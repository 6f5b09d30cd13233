/**
 * The files of a cluster: the mesh's key, the accounts at the brokers, and for each node its key, its certificate and its settings. All of it
 * is made once and kept; what follows from it, settings and `node.json`, is written at every start. Directories are 0700, secrets 0600.
 */
import { access, chmod, mkdir, readFile, rename, writeFile } from 'node:fs/promises'
import path from 'node:path'
import { CMeshError } from '../../cmtp/errors.ts'
import { formatCertificate, issueCertificate, parseCertificate } from '../../cmtp/identity/certificate.ts'
import type { KeyPair } from '../../cmtp/identity/keys.ts'
import { nodeText, type BrokerAccounts } from '../../cmtp/identity/nats-accounts.ts'
import { keptAccounts } from '../broker/accounts.ts'
import { BROKER_FILES, type BrokerRoutes } from '../broker/config.ts'
import { keptKey, nodeIdentity } from '../identity.ts'
import { BROKERS, clusterDir, type ClusterPlan } from './plan.ts'

export interface ClusterBroker {
  readonly name: string
  readonly dir: string
  readonly routes: BrokerRoutes
}

export interface ClusterNode {
  readonly name: string
  readonly dir: string
  readonly did: string
  /** JSON of its settings, for `--config`. */
  readonly settings: string
}

export interface ClusterFiles {
  /** DID of the mesh. */
  readonly mesh: string
  /** Where the brokers keep the accounts. */
  readonly accountsDir: string
  readonly accounts: BrokerAccounts
  readonly brokers: readonly ClusterBroker[]
  readonly nodes: readonly ClusterNode[]
  /** Where clients connect, one for each broker. */
  readonly urls: readonly string[]
  readonly logs: string
}

export interface ClusterAddresses {
  /** `host:port` of each broker, for clients. */
  readonly clients: readonly string[]
  /** The same for the other brokers. */
  readonly routes: readonly string[]
  /** Settings of each node beside those that make it a member, by its index. */
  readonly settings: (index: number) => Readonly<Record<string, string | number>>
}

/** Makes what is missing. Rejects with `CMESH_IAM_KEY`, `CMESH_BROKER_ACCOUNTS` or what the disk says. */
export async function clusterFiles(dir: string, plan: ClusterPlan, { clients, routes, settings }: ClusterAddresses): Promise<ClusterFiles> {
  const at = clusterDir(dir)
  const inside = (...names: readonly string[]): string => path.join(at, ...names)
  const logs = inside('logs')
  await mkdir(logs, { recursive: true, mode: 0o700 })
  // Once every node has its certificate the key may be kept elsewhere; another one made in its place would be another mesh's.
  const isKeyAway = !await exists(inside('mesh', 'mesh.key')) && await exists(inside('node-1', 'certificate'))
  const meshKey = isKeyAway ? undefined : await keptKey(inside('mesh'), 'mesh.key')
  let mesh = meshKey?.did
  const accountsDir = inside('operator')
  const urls = clients.map(address => `nats://${address}`)

  const brokers: ClusterBroker[] = []
  let accounts: BrokerAccounts | undefined
  for (let i = 0; i < BROKERS; i++) {
    const name = `broker-${i + 1}`
    await mkdir(inside(name), { recursive: true, mode: 0o700 })
    // One after the other: the first makes them, or makes them anew for another version, and the rest find them so.
    accounts = await keptAccounts(accountsDir, inside(name, BROKER_FILES.resolver), Math.floor(Date.now() / 1_000))
    const address = routes[i] as string
    brokers.push({ name, dir: inside(name), routes: { cluster: 'cmesh', listen: address, address, servers: routes, password: plan.password } })
  }
  if (accounts === undefined) throw new TypeError('a cluster has brokers')
  await place(inside('operator', 'node.json'), nodeText(accounts), 0o600)

  const nodes: ClusterNode[] = []
  for (let i = 0; i < plan.nodes; i++) {
    const name = `node-${i + 1}`
    const { did } = await nodeIdentity(inside(name))
    const certificate = inside(name, 'certificate')
    const held = await meshOf(certificate, did)
    if (held === undefined || (mesh !== undefined && held !== mesh)) {
      if (meshKey === undefined) throw new CMeshError('CMESH_CLUSTER_DATA', { path: dir, reason: `${name} has no certificate, and the mesh's key is not in ${inside('mesh')}: put it there for this start` })
      await place(certificate, certificateText(did, meshKey), 0o644)
    }
    mesh ??= held
    const file = inside(name, 'settings.json')
    const values = {
      'data.dir': inside(name), 'mesh.certificate': certificate, 'bus.url': urls.join(','), 'bus.accounts': inside('operator', 'node.json'),
      'consensus.provider': 'jetstream', 'consensus.replicas': BROKERS, 'events.replicas': BROKERS, ...settings(i),
    }
    await place(file, `${JSON.stringify(values, undefined, 2)}\n`, 0o600)
    nodes.push({ name, dir: inside(name), did, settings: file })
  }
  return { mesh: mesh ?? '', accountsDir, accounts, brokers, nodes, urls, logs }
}

function certificateText(node: string, mesh: KeyPair): string {
  return `${formatCertificate(issueCertificate(node, mesh, Date.now()))}\n`
}

/** The mesh that a node's certificate is of; `undefined` where there is none for this node. */
async function meshOf(file: string, node: string): Promise<string | undefined> {
  try {
    const found = parseCertificate(await readFile(file, 'utf8'))
    return found.node === node ? found.mesh : undefined
  } catch (error) {
    if (error instanceof CMeshError || (error as NodeJS.ErrnoException).code === 'ENOENT') return undefined
    throw error
  }
}

function exists(file: string): Promise<boolean> {
  return access(file).then(() => true, () => false)
}

async function place(file: string, text: string, mode: number): Promise<void> {
  const beside = `${file}.new`
  await writeFile(beside, text, { mode, flush: true })
  await chmod(beside, mode)
  await rename(beside, file)
}
