/**
 * The cluster that the drills are done to: the files that `cmesh up --nodes` makes, the same brokers and nodes as processes of their own, kept up as its
 * supervisor keeps them. Between each node and each broker, and between each two brokers, lies a link that can be cut. The ledger's clients connect to the
 * brokers themselves.
 */
import { readFile, rm } from 'node:fs/promises'
import path from 'node:path'
import { brokerConfig, BROKER_FILES } from '../../../node/broker/config.ts'
import { BrokerDirectory } from '../../../node/broker/directory.ts'
import { loginsOf } from '../../../node/broker/accounts.ts'
import { locateNatsServer } from '../../../node/broker/locate.ts'
import { ServerProcess } from '../../../node/broker/server-process.ts'
import { clusterFiles, type ClusterBroker, type ClusterFiles } from '../../../node/cluster/files.ts'
import { BROKERS, planCluster, type ClusterPlan } from '../../../node/cluster/plan.ts'
import { JetStreamApi } from '../../../node/cluster/jetstream-api.ts'
import { connectNats, type NatsBus } from '../../../providers/bus/nats.ts'
import { until } from '../../client/support/until.ts'
import { TestNode } from '../../support/node-process.ts'
import { Keeper, type Life } from './keeper.ts'
import { Link, type Cut } from './link.ts'

/** Nodes by default. */
const NODES = 3
const ORDER = 'CMESH_ORDER'
const READY_MS = 120_000

/** All that may end while nobody ended it. */
export interface Ended {
  readonly who: string
  readonly how: string
}

export class DrillCluster {
  readonly nodes: readonly Keeper[]
  readonly brokers: readonly Keeper[]
  /** What ended by itself. */
  readonly ended: Ended[] = []
  readonly #files: ClusterFiles
  readonly #plan: ClusterPlan
  readonly #nodeLinks: readonly (readonly Link[])[]
  readonly #routeLinks: readonly (readonly (Link | undefined)[])[]
  /** Where a broker says that it is reached: what learns of it from another comes by here. */
  readonly #gossipLinks: readonly Link[]
  readonly #binary: Awaited<ReturnType<typeof locateNatsServer>>
  readonly #operator: string

  /** Resolves when all of it serves. */
  static async start(dir: string, operator: string, nodes = NODES): Promise<DrillCluster> {
    const cluster = await DrillCluster.make(dir, operator, nodes)
    await cluster.startBrokers()
    await cluster.startNodes()
    return cluster
  }

  /** Its files and links; nothing runs. */
  static async make(dir: string, operator: string, nodes = NODES): Promise<DrillCluster> {
    const [plan, binary] = await Promise.all([planCluster({ dir, nodes }), locateNatsServer({ obtain: false })])
    const times = <T>(length: number, make: (index: number) => Promise<T>): Promise<T[]> => Promise.all(Array.from({ length }, (_, i) => make(i)))
    const each = <T>(make: (index: number) => Promise<T>): Promise<T[]> => times(BROKERS, make)
    const nodeLinks = await times(nodes, () => each(to => Link.open(plan.brokers[to]?.client as number)))
    const routeLinks = await each(from => each(async to => (from === to ? undefined : Link.open(plan.brokers[to]?.route as number))))
    const gossipLinks = await each(to => Link.open(plan.brokers[to]?.route as number))
    const files = await clusterFiles(dir, plan, {
      clients: plan.brokers.map(({ client }) => `127.0.0.1:${client}`),
      routes: plan.brokers.map(({ route }) => `127.0.0.1:${route}`),
      settings: i => ({
        'http.port': plan.http[i] as number, 'log.level': 'warn',
        'bus.url': (nodeLinks[i] as Link[]).map(({ port }) => `nats://127.0.0.1:${port}`).join(','),
      }),
    })
    return new DrillCluster(operator, { plan, binary, files, nodeLinks, routeLinks, gossipLinks })
  }

  /** Rejects, and ends all of it, where they do not serve in time. */
  startBrokers(): Promise<void> {
    return this.#starting(async () => {
      for (const broker of this.brokers) broker.release()
      await until('the brokers serve', () => this.brokers.every(({ isUp }) => isUp), READY_MS)
      await this.asking(api => api.ready(READY_MS))
    })
  }

  /** The same of the nodes. */
  startNodes(): Promise<void> {
    return this.#starting(async () => {
      // Whoever comes second finds a log, and joins it.
      for (const wave of [this.nodes.slice(0, 1), this.nodes.slice(1)]) {
        for (const node of wave) node.release()
        await until('the nodes serve', () => wave.every(({ isUp }) => isUp), READY_MS)
      }
    })
  }

  async #starting(start: () => Promise<void>): Promise<void> {
    try {
      await start()
    } catch (error) {
      const said = JSON.stringify(this.ended)
      await this.stop()
      throw new Error(`the cluster did not start: ${said}`, { cause: error })
    }
  }

  private constructor(operator: string, { plan, binary, files, nodeLinks, routeLinks, gossipLinks }: {
    readonly plan: ClusterPlan, readonly binary: Awaited<ReturnType<typeof locateNatsServer>>, readonly files: ClusterFiles
    readonly nodeLinks: readonly (readonly Link[])[], readonly routeLinks: readonly (readonly (Link | undefined)[])[], readonly gossipLinks: readonly Link[]
  }) {
    this.#operator = operator
    this.#plan = plan
    this.#binary = binary
    this.#files = files
    this.#nodeLinks = nodeLinks
    this.#routeLinks = routeLinks
    this.#gossipLinks = gossipLinks
    const kept = (name: string, spawn: () => Promise<Life>): Keeper => new Keeper(name, spawn, how => { this.ended.push({ who: name, how }) })
    this.nodes = files.nodes.map(({ name }, i) => kept(name, () => this.#spawnNode(i)))
    this.brokers = files.brokers.map((broker, i) => kept(broker.name, () => this.#spawnBroker(broker, i)))
  }

  /** For clients. */
  get url(): string {
    return this.#files.urls.join(',')
  }

  /** DID of the mesh. */
  get mesh(): string {
    return this.#files.mesh
  }

  /** Of each node, as `--config` has them. */
  settingsOf(node: number): string {
    return this.#files.nodes[node]?.settings ?? ''
  }

  get dirs(): readonly string[] {
    return this.#files.nodes.map(({ dir }) => dir)
  }

  get all(): readonly Keeper[] {
    return [...this.brokers, ...this.nodes]
  }

  /** Which broker leads the stream of the order; `undefined` while none is known to. */
  async leader(): Promise<number | undefined> {
    const answer = await this.#onBus(bus => bus.request(`$JS.API.STREAM.INFO.${ORDER}`, new Uint8Array(), { timeoutMs: 500 })).catch(() => undefined)
    if (answer === undefined) return undefined
    const { cluster } = JSON.parse(Buffer.from(answer).toString('utf8')) as { readonly cluster?: { readonly leader?: string } }
    const at = this.brokers.findIndex(({ name }) => name === cluster?.leader)
    return at < 0 ? undefined : at
  }

  /** Asks the stream's leader to let another lead. Resolves with whether there was one to ask. */
  async stepDown(): Promise<boolean> {
    const asked = await this.#onBus(bus => bus.request(`$JS.API.STREAM.LEADER.STEPDOWN.${ORDER}`, new Uint8Array(), { timeoutMs: 1_000 })).catch(() => undefined)
    return asked !== undefined && Buffer.from(asked).includes('"success":true')
  }

  /** The order is gone, as with a broker's disk. */
  async loseOrder(): Promise<void> {
    await this.#onBus(bus => bus.request(`$JS.API.STREAM.DELETE.${ORDER}`, new Uint8Array(), { timeoutMs: 10_000 }))
  }

  asking<T>(use: (api: JetStreamApi) => Promise<T>): Promise<T> {
    return this.#onBus(bus => use(new JetStreamApi(bus)))
  }

  /** The links of one node to all brokers. */
  nodeCut(node: number, kind: Cut): () => void {
    return cut(this.#nodeLinks[node] as readonly Link[], kind)
  }

  /** All ways between two brokers; what others tell of either leads nowhere meanwhile. */
  routeCut(one: number, other: number, kind: Cut): () => void {
    const between = [this.#routeLinks[one]?.[other], this.#routeLinks[other]?.[one], this.#gossipLinks[one], this.#gossipLinks[other]]
    return cut(between.filter(link => link !== undefined), kind)
  }

  /** Where a node's log stands, as it says itself; `undefined` while it does not serve. */
  async sequenceOf(node: number): Promise<number | undefined> {
    try {
      const answer = await fetch(`http://127.0.0.1:${this.#plan.http[node] as number}/healthz`, { signal: AbortSignal.timeout(2_000) })
      const { sequence } = await answer.json() as { readonly sequence?: number }
      return answer.ok ? sequence : undefined
    } catch {
      return undefined
    }
  }

  /** Everything runs and nothing is paused. Links are mended by who cut them. */
  async heal(): Promise<void> {
    for (const each of this.all) {
      each.resume()
      each.release()
    }
    await until('all of it serves', () => this.all.every(({ isUp }) => isUp), READY_MS)
  }

  async stop(): Promise<void> {
    await Promise.all(this.nodes.map(node => node.hold()))
    await Promise.all(this.brokers.map(broker => broker.hold()))
    for (const link of [...this.#nodeLinks.flat(), ...this.#routeLinks.flat(), ...this.#gossipLinks]) link?.close()
  }

  /** Last lines of what a broker wrote, for a failure. */
  async logOf(broker: number): Promise<string> {
    const text = await readFile(path.join(this.#files.brokers[broker]?.dir ?? '', BROKER_FILES.log), 'utf8').catch(() => '')
    return text.split('\n').slice(-20).join('\n')
  }

  async #spawnNode(index: number): Promise<Life> {
    const { dir, settings } = this.#files.nodes[index] as ClusterFiles['nodes'][number]
    const node = new TestNode({ dir, args: ['--config', settings, '--operator', this.#operator] })
    const gone = node.exited.then(({ code, signal }) => `${signal ?? `code ${String(code)}`} ${node.failure?.code ?? ''} ${node.failure?.message ?? ''}`.trim())
    return { pid: node.pid, ready: node.ready().catch(() => undefined), gone }
  }

  async #spawnBroker({ name, dir, routes }: ClusterBroker, index: number): Promise<Life> {
    const servers = (this.#routeLinks[index] ?? []).flatMap(link => (link === undefined ? [] : [`127.0.0.1:${link.port}`]))
    const { port: gossip } = this.#gossipLinks[index] as Link
    const text = brokerConfig({
      serverName: name, port: this.#plan.brokers[index]?.client as number, dir, accounts: this.#files.accounts, version: this.#binary.version,
      // Who connects through a link must not be told of the ways around it.
      routes: { ...routes, servers, address: `127.0.0.1:${gossip}`, advertise: false },
    })
    await new BrokerDirectory(dir).write(BROKER_FILES.config, text)
    await rm(path.join(dir, BROKER_FILES.pid), { force: true })
    const server = await ServerProcess.launch({ binary: this.#binary.path, dir, readyMs: READY_MS })
    return { pid: server.pid, ready: Promise.resolve(true), gone: server.exited.then(({ code, signal }) => signal ?? `code ${String(code)}`) }
  }

  async #onBus<T>(use: (bus: NatsBus) => Promise<T>): Promise<T> {
    const bus = await connectNats({
      servers: this.#files.urls, name: 'drills', ...loginsOf(this.#files.accounts, Math.floor(Date.now() / 1_000)).core, connectTimeoutMs: 1_000, onError: () => undefined,
    })
    try {
      return await use(bus)
    } finally {
      await bus.close()
    }
  }
}

function cut(links: readonly Link[], kind: Cut): () => void {
  for (const link of links) link.cut(kind)
  return () => { for (const link of links) link.mend(kind) }
}
