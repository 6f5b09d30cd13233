/**
 * What a cluster on one machine consists of: how many nodes, which ports its brokers have, the password of their routes. It is kept in
 * `<dir>/cluster/cluster.json`, mode 0600, so that the next start finds the same mesh under the same addresses. A directory that holds
 * another mesh is refused: nothing here turns one into the other.
 */
import { randomBytes, randomInt } from 'node:crypto'
import { access, chmod, mkdir, readFile, rename, writeFile } from 'node:fs/promises'
import { createServer } from 'node:net'
import path from 'node:path'
import { CMeshError } from '../../cmtp/errors.ts'

/** Servers of the NATS cluster: the fewest that go on without one of them. */
export const BROKERS = 3
/** How many nodes a cluster may have: of an even number no more may fail than of the odd one below it. */
const SIZES: readonly number[] = [1, 3, 5]
/** Below those that systems give out by themselves: nobody else's connection gets one while its server is away. */
const PORTS = Object.freeze({ least: 20_000, end: 32_000 })
/** Ports from where one process begins to look to where the next one does: clusters that start at the same time do not choose the same. */
const APART = 64
const FILE = 'cluster.json'

export interface BrokerPorts {
  /** For clients. */
  readonly client: number
  /** For the other servers. */
  readonly route: number
}

export interface ClusterPlan {
  readonly v: 1
  readonly nodes: number
  /** Whether the first node has begun the mesh's log: until then it starts alone. */
  readonly founded: boolean
  readonly password: string
  readonly brokers: readonly BrokerPorts[]
  /** Port of each node's `/healthz`: the same after a restart. */
  readonly http: readonly number[]
}

export interface WantedCluster {
  /** The data directory. */
  readonly dir: string
  readonly nodes: number
  /** First of the ports that clients connect to, one for each broker. Default: those of last time, else free ones. */
  readonly port?: number
  /** First of the ports of the nodes' `/healthz`, one for each. Default as above. */
  readonly httpPort?: number
}

export function clusterDir(dir: string): string {
  return path.join(dir, 'cluster')
}

/** Refuses what cannot be started in `dir`, with `CMESH_CONFIG_INVALID` or `CMESH_CLUSTER_DATA`; touches nothing. Resolves with what was kept. */
export async function checkCluster({ dir, nodes, port, httpPort }: WantedCluster): Promise<ClusterPlan | undefined> {
  if (!SIZES.includes(nodes)) {
    throw new CMeshError('CMESH_CONFIG_INVALID', { key: '--nodes', reason: `it is 1, 3 or 5, not ${nodes}: of an even number no more may fail than of the odd one below it` })
  }
  for (const [key, first, count] of [['--port', port, BROKERS], ['--http-port', httpPort, nodes]] as const) {
    if (first !== undefined && first > 65_536 - count) throw new CMeshError('CMESH_CONFIG_INVALID', { key, reason: `${count} ports are needed from there on` })
  }
  const kept = await readPlan(dir)
  if (kept === undefined && (await exists(path.join(dir, 'node.key')) || await exists(path.join(dir, 'state')))) {
    throw unusable(dir, 'it holds a mesh of one node. Start the cluster in another directory (--data), or let that mesh grow as docs/cluster.md says')
  }
  if (kept !== undefined && kept.nodes > nodes) {
    throw unusable(dir, `it holds a mesh of ${kept.nodes} nodes, which are members until they leave: start it with --nodes ${kept.nodes}`)
  }
  return kept
}

/** The plan of this start: that of last time, with other ports where somebody has taken them. Rejects as `checkCluster` does. */
export async function planCluster(wanted: WantedCluster): Promise<ClusterPlan> {
  const kept = await checkCluster(wanted)
  const taken = new Set<number>()
  const brokers: BrokerPorts[] = []
  for (let i = 0; i < BROKERS; i++) {
    const last = kept?.brokers[i]
    const client = wanted.port === undefined ? await portLike(last?.client, taken) : wanted.port + i
    taken.add(client)
    brokers.push({ client, route: await portLike(last?.route, taken) })
  }
  const http: number[] = []
  for (let i = 0; i < wanted.nodes; i++) http.push(wanted.httpPort === undefined ? await portLike(kept?.http[i], taken) : wanted.httpPort + i)
  const password = kept?.password ?? randomBytes(24).toString('base64url')
  const plan = { v: 1 as const, nodes: wanted.nodes, founded: kept?.founded ?? false, password, brokers, http }
  await savePlan(wanted.dir, plan)
  return plan
}

/** Whole or not at all. */
export async function savePlan(dir: string, plan: ClusterPlan): Promise<void> {
  const at = clusterDir(dir)
  await mkdir(at, { recursive: true, mode: 0o700 })
  await chmod(at, 0o700)
  const beside = path.join(at, `${FILE}.new`)
  await writeFile(beside, `${JSON.stringify(plan, undefined, 2)}\n`, { mode: 0o600, flush: true })
  await rename(beside, path.join(at, FILE))
}

async function readPlan(dir: string): Promise<ClusterPlan | undefined> {
  const file = path.join(clusterDir(dir), FILE)
  let text: string
  try {
    text = await readFile(file, 'utf8')
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code === 'ENOENT') return undefined
    throw unusable(dir, `${file} cannot be read`, cause)
  }
  const plan = parsed(text)
  if (plan === undefined) throw unusable(dir, `${file} is not one that this version wrote; restore it from a copy`)
  return plan
}

function parsed(text: string): ClusterPlan | undefined {
  let value: unknown
  try {
    value = JSON.parse(text)
  } catch {
    return undefined
  }
  const { v, nodes, password, brokers, http } = (typeof value === 'object' && value !== null ? value : {}) as Partial<ClusterPlan>
  const ports = Array.isArray(brokers) && brokers.length === BROKERS && brokers.every(({ client, route }) => isPort(client) && isPort(route))
  const word = typeof password === 'string' && /^[A-Za-z0-9_-]{16,}$/.test(password)
  return v === 1 && Number.isSafeInteger(nodes) && word && ports && Array.isArray(http) && http.every(isPort) ? value as ClusterPlan : undefined
}

function isPort(value: unknown): boolean {
  return Number.isSafeInteger(value) && (value as number) > 0 && (value as number) < 65_536
}

let looked = process.pid * APART + randomInt(APART / 2)

/** None that this process has been given before it has seen them all. */
function nextPort(): number {
  return PORTS.least + looked++ % (PORTS.end - PORTS.least)
}

/** The last one where it is free, else one that is. Noted in `taken`. */
async function portLike(last: number | undefined, taken: Set<number>): Promise<number> {
  let port = last ?? nextPort()
  while (taken.has(port) || !await isFree(port)) port = nextPort()
  taken.add(port)
  return port
}

function isFree(port: number): Promise<boolean> {
  return new Promise(resolve => {
    const probe = createServer()
    probe.once('error', () => { resolve(false) })
    probe.listen({ host: '127.0.0.1', port, exclusive: true }, () => probe.close(() => { resolve(true) }))
  })
}

function exists(file: string): Promise<boolean> {
  return access(file).then(() => true, () => false)
}

function unusable(dir: string, reason: string, cause?: unknown): CMeshError {
  return new CMeshError('CMESH_CLUSTER_DATA', { path: dir, reason }, { cause })
}
