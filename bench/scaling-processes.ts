/**
 * The processes of `scaling`: a mesh of one or several nodes that share one server and its queue group, and a server that reaches it as a
 * leaf. All on loopback, each ended with the scope it was started in.
 */
import { mkdir, writeFile } from 'node:fs/promises'
import path from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { NODE_FLAGS } from '../client/cli/node-process.ts'
import { KeyPair } from '../client/index.ts'
import { serverConfig, type BrokerAccounts } from '../cmtp/identity/nats-accounts.ts'
import { changedAccountJwt, decodeNatsJwt } from '../cmtp/identity/nats-jwt.ts'
import { loginsOf } from '../node/broker/accounts.ts'
import { BROKER_FILES, BROKER_LIMITS, brokerConfig } from '../node/broker/config.ts'
import { locateNatsServer } from '../node/broker/locate.ts'
import { ServerProcess } from '../node/broker/server-process.ts'
import { clusterFiles } from '../node/cluster/files.ts'
import { planCluster } from '../node/cluster/plan.ts'
import type { MeshDescriptor } from '../node/descriptor.ts'
import { Child } from './child.ts'
import { meshClient, type MeshAccess } from './drivers/mesh.ts'
import type { Scope } from './harness.ts'
import { scratch } from './processes.ts'

const READY_MS = 15_000

/** Nodes of one mesh at one server. */
export interface RoutersMesh {
  readonly access: MeshAccess
  readonly accounts: BrokerAccounts
  readonly serverPid: number
  readonly nodePids: readonly number[]
  /** Where leaf nodes connect. */
  readonly leafUrl: string
}

/** Of 1 to 3 nodes. They order by a stream of one copy, and acknowledge at a quorum. */
export async function startRouters(scope: Scope, nodes: number): Promise<RoutersMesh> {
  const dir = await scratch(scope)
  const plan = await planCluster({ dir, nodes: 3 })
  const [{ client, route }] = plan.brokers as [{ client: number, route: number }]
  const url = `nats://127.0.0.1:${client}`
  const files = await clusterFiles(dir, plan, {
    clients: plan.brokers.map(() => ''), routes: plan.brokers.map(() => ''),
    settings: () => ({ 'bus.url': url, 'consensus.replicas': 1, 'events.replicas': 1 }),
  })
  const home = files.brokers[0]?.dir ?? ''
  const { version } = await locateNatsServer()
  const accounts = withLeaves(files.accounts)
  const text = brokerConfig({ serverName: 'hub', port: client, dir: home, accounts, version })
  const server = await launch(scope, home, `${text}leafnodes { listen: "127.0.0.1:${route}" }\n`)

  const operator = KeyPair.generate()
  const start = ({ settings }: { readonly settings: string }): Promise<Child<{ readonly descriptor: MeshDescriptor }>> => Child.start(scope, {
    entry: new URL('../node/main.js', import.meta.url), args: ['--config', settings, '--operator', operator.did, '--log-level', 'error'], flags: NODE_FLAGS,
    isReady: message => 'descriptor' in message,
  })
  const [first, ...others] = files.nodes.slice(0, nodes)
  // It begins the mesh, which the others join.
  const founder = await start(first as { readonly settings: string })
  const joined = await Promise.all(others.map(start))
  return {
    access: { url, mesh: founder.ready.descriptor.did, seed: operator.exportSeed() }, accounts, serverPid: server.pid,
    nodePids: [founder, ...joined].map(({ pid }) => pid), leafUrl: `nats-leaf://127.0.0.1:${route}`,
  }
}

/** The accounts of sessions and newcomers let no leaf in as a mesh makes them. */
function withLeaves(kept: BrokerAccounts): BrokerAccounts {
  const open = (name: 'GUEST' | 'MESH'): BrokerAccounts['accounts'][typeof name] => {
    const claims = decodeNatsJwt(kept.accounts[name].jwt)
    const limits = { ...claims.nats['limits'] as object, leaf: 1 }
    return { ...kept.accounts[name], jwt: changedAccountJwt(kept.signing, { ...claims, nats: { ...claims.nats, limits } }, { revocations: {} }, claims.iat) }
  }
  return { ...kept, accounts: { ...kept.accounts, MESH: open('MESH'), GUEST: open('GUEST') } }
}

/** A server with the same accounts and no streams, that carries sessions and newcomers to the hub. Resolves when it does. */
export async function startLeaf(scope: Scope, { access, accounts, leafUrl }: RoutersMesh): Promise<{ readonly url: string, readonly pid: number }> {
  const dir = await scratch(scope)
  const resolver = path.join(dir, BROKER_FILES.resolver)
  await mkdir(resolver, { mode: 0o700 })
  const logins = loginsOf(accounts, Math.floor(Date.now() / 1_000))
  const remotes = await Promise.all(([['MESH', logins.mesh], ['GUEST', logins.door]] as const).map(async ([account, { jwt, nkeySeed }]) => {
    const credentials = path.join(dir, `${account}.creds`)
    const block = (name: string, end: string, content: string): string => `-----BEGIN ${name}-----\n${content}\n------END ${end}------\n`
    await writeFile(credentials, block('NATS USER JWT', 'NATS USER JWT', jwt) + block('USER NKEY SEED', 'USER NKEY SEED', nkeySeed), { mode: 0o600 })
    return `  { url: "${leafUrl}", account: ${accounts.accounts[account].id}, credentials: ${JSON.stringify(credentials)} }\n`
  }))
  const server = await launch(scope, dir, `server_name: "leaf"
host: "127.0.0.1"
port: -1
ports_file_dir: ${JSON.stringify(dir)}
log_file: ${JSON.stringify(path.join(dir, BROKER_FILES.log))}
max_payload: ${BROKER_LIMITS.payloadBytes}
leafnodes { remotes: [
${remotes.join('')}] }
${serverConfig(accounts, resolver)}`)
  const url = `nats://127.0.0.1:${server.port}`
  await reached({ ...access, url })
  return { url, pid: server.pid }
}

/** Resolves when a mesh answers there: a leaf takes clients before it has its hub. */
async function reached(access: MeshAccess): Promise<void> {
  const endMs = performance.now() + READY_MS
  for (;;) {
    try {
      return await (await meshClient(access)).close()
    } catch (error) {
      if (performance.now() > endMs) throw error
      await delay(50)
    }
  }
}

async function launch(scope: Scope, dir: string, config: string): Promise<ServerProcess> {
  await writeFile(path.join(dir, BROKER_FILES.config), config, { mode: 0o600 })
  const { path: binary } = await locateNatsServer()
  const server = await ServerProcess.launch({ binary, dir, readyMs: READY_MS })
  scope.defer(() => server.stop())
  return server
}
