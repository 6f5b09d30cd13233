/**
 * A cluster on this machine: three brokers and its nodes, from one data directory. It owns all of their processes.
 *
 *   idle → starting → running ⇄ a rolling restart → stopped
 *             └─ a part fails to start: all of them ended, `start` rejects
 *
 * Invariants: (1) brokers run before nodes and outlive them; (2) the first node begins the mesh's log alone, and only once; (3) what dies is
 * started again; (4) the data directory is this process's alone; (5) when this process dies, everything it started ends.
 */
import { symlink, unlink } from 'node:fs/promises'
import path from 'node:path'
import { CMeshError } from '../../cmtp/errors.ts'
import { awaitPrevious } from '../broker/previous.ts'
import { BROKER_FILES } from '../broker/config.ts'
import { variableOf } from '../config.ts'
import { DataLock } from '../data-lock.ts'
import { packageVersion, removeDescriptor, writeDescriptor, type MeshDescriptor } from '../descriptor.ts'
import { Brokers } from './brokers.ts'
import { NodeChild } from './child.ts'
import { clusterFiles, type ClusterFiles } from './files.ts'
import { BROKERS, clusterDir, planCluster, savePlan, checkCluster, type WantedCluster } from './plan.ts'
import { caughtUp } from './progress.ts'

export interface SupervisorParts extends WantedCluster {
  /** Arguments of every node beside its own. */
  readonly nodeArgs: readonly string[]
  readonly env: NodeJS.ProcessEnv
  /** Told what is being done. */
  readonly onStep: (step: string) => void
  /** Told what happened that nobody asked for. */
  readonly onNote: (line: string) => void
}

/** A process of the cluster, for who looks at it. */
export interface Part {
  readonly name: string
  /** Absent while it does not run. */
  readonly pid?: number
  /** Base URL of `/healthz`, of a node that is ready. */
  readonly http?: string
  readonly did?: string
}

export interface ClusterDescriptor extends MeshDescriptor {
  readonly parts: readonly Part[]
  /** Where the logs are. */
  readonly logs: string
}

export class Supervisor {
  readonly #parts: SupervisorParts
  readonly #lock: DataLock
  readonly #stopping = new AbortController()
  #files: ClusterFiles | undefined
  #brokers: Brokers | undefined
  #nodes: readonly NodeChild[] = []
  #started: Promise<ClusterDescriptor> | undefined
  #stopped: Promise<void> | undefined
  #restarting: Promise<void> | undefined
  /** Whether others are told of the cluster, and what of that is under way. */
  #told = false
  #telling: Promise<void> = Promise.resolve()

  constructor(parts: SupervisorParts) {
    this.#parts = parts
    this.#lock = new DataLock(parts.dir)
  }

  /** Resolves when every node is ready. Memoised. Rejects with what failed, everything ended by then. */
  start(): Promise<ClusterDescriptor> {
    this.#started ??= this.#start()
    return this.#started
  }

  /** Drains the nodes and stops the brokers. Memoised; ends a start under way. */
  stop(): Promise<void> {
    this.#stopped ??= this.#stop()
    return this.#stopped
  }

  /** Ends the nodes at once; the brokers end with this process. */
  kill(): void {
    for (const node of this.#nodes) node.kill()
  }

  /**
   * One node after the other, each drained and waited for until it is where the others are; then one broker after the other, each of which
   * hands over first. One restart at a time: who asks while one is under way gets that one. Rejects with `CMESH_CLUSTER_RESTART`.
   */
  restart(onStep: (step: string) => void): Promise<void> {
    this.#restarting ??= this.#restart(onStep).finally(() => { this.#restarting = undefined })
    return this.#restarting
  }

  get parts(): readonly Part[] {
    const brokers = this.#brokers?.names.map(name => part(name, this.#brokers?.pidOf(name))) ?? []
    return [...brokers, ...this.#nodes.map(({ name, pid, descriptor }) => part(name, pid, descriptor))]
  }

  async #start(): Promise<ClusterDescriptor> {
    const { dir, onStep } = this.#parts
    // Before anything is made: a directory of another mesh stays as it is.
    await checkCluster(this.#parts)
    await this.#lock.acquire()
    try {
      onStep('brokers')
      await this.#startBrokers()
      onStep('nodes')
      await this.#startNodes()
      const descriptor = this.#describe()
      await writeDescriptor(dir, descriptor)
      this.#told = true
      return descriptor
    } catch (error) {
      await this.#end()
      throw this.#stopping.signal.aborted ? new CMeshError('CMESH_BOOT_FAILED', { step: 'cluster', reason: 'it was stopped' }, { cause: error }) : error
    }
  }

  async #startBrokers(): Promise<void> {
    const { dir, nodeArgs, env, onNote } = this.#parts
    for (let i = 1; i <= BROKERS; i++) await awaitPrevious(path.join(clusterDir(dir), `broker-${i}`))
    const plan = await planCluster(this.#parts)
    const files = this.#files = await clusterFiles(dir, plan, {
      clients: plan.brokers.map(({ client }) => `127.0.0.1:${client}`),
      routes: plan.brokers.map(({ route }) => `127.0.0.1:${route}`),
      settings: i => ({ 'http.port': plan.http[i] as number }),
    })
    for (const { name, dir: of } of files.brokers) await linkTo(path.join(of, BROKER_FILES.log), path.join(files.logs, `${name}.log`))
    const tell = (): void => { this.#tell() }
    this.#brokers = new Brokers({ files, ports: plan.brokers, onNote, onRestart: tell })
    this.#nodes = files.nodes.map(({ name, settings }) => new NodeChild({
      name, onNote, onReady: tell, env: withoutSettings(env), logFile: path.join(files.logs, `${name}.log`), args: ['--config', settings, ...nodeArgs],
    }))
    this.#refuseWhenStopping()
    await this.#brokers.start()
    if (plan.founded) return
    // Whoever comes second finds a log, and joins it.
    this.#parts.onStep('node-1, which begins the mesh')
    this.#refuseWhenStopping()
    await this.#nodes[0]?.start()
    await savePlan(dir, { ...plan, founded: true })
  }

  /** Together: of a mesh that was founded no node may be ready before a majority is there. */
  async #startNodes(): Promise<void> {
    this.#refuseWhenStopping()
    await Promise.all(this.#nodes.filter(({ descriptor }) => descriptor === undefined).map(node => node.start()))
  }

  async #stop(): Promise<void> {
    this.#stopping.abort()
    // A start under way ends with its children.
    const nodes = Promise.all(this.#nodes.map(node => node.stop()))
    if (this.#started !== undefined && this.#nodes.every(({ descriptor }) => descriptor === undefined)) await this.#brokers?.stop()
    await nodes
    await this.#started?.catch(() => undefined)
    await this.#restarting?.catch(() => undefined)
    await this.#end()
  }

  /** Nodes before brokers: what is in flight is answered. */
  async #end(): Promise<void> {
    this.#told = false
    await this.#telling
    await removeDescriptor(this.#parts.dir)
    await Promise.all(this.#nodes.map(node => node.stop()))
    await this.#brokers?.stop()
    await this.#lock.release()
  }

  async #restart(onStep: (step: string) => void): Promise<void> {
    const brokers = this.#brokers
    let at = ''
    const step = (text: string): void => { onStep(text) }
    try {
      for (const node of this.#nodes) {
        at = node.name
        this.#refuseWhenStopping()
        step(`${at} restarts`)
        await node.restart()
        step(`${at} catches up`)
        await caughtUp(node, this.#nodes, this.#stopping.signal)
      }
      for (const name of brokers?.names ?? []) {
        at = name
        this.#refuseWhenStopping()
        await brokers?.restart(name, step)
        for (const node of this.#nodes) await caughtUp(node, this.#nodes, this.#stopping.signal)
      }
    } catch (error) {
      const { code, message } = CMeshError.from(error, at)
      throw new CMeshError('CMESH_CLUSTER_RESTART', { part: at, reason: `${code}: ${message}` }, { cause: error })
    }
  }

  /** Tells anew who the parts are. While the node that speaks for the mesh is away that waits until it is back. */
  #tell(): void {
    this.#telling = this.#telling.then(async () => {
      if (this.#told && this.#nodes[0]?.descriptor !== undefined) await writeDescriptor(this.#parts.dir, this.#describe())
    }).catch((error: unknown) => { this.#parts.onNote(`${this.#parts.dir} does not say which processes run now: ${CMeshError.from(error, 'the cluster').message}`) })
  }

  #describe(): ClusterDescriptor {
    const [first] = this.#nodes
    const { files, descriptor } = { files: this.#files, descriptor: first?.descriptor }
    if (files === undefined || descriptor === undefined) throw new TypeError('the cluster is not ready')
    const { did, node, operator, http } = descriptor
    return { url: files.urls.join(','), did, node, operator, http, version: packageVersion(), pid: process.pid, parts: this.parts, logs: files.logs }
  }

  #refuseWhenStopping(): void {
    if (this.#stopping.signal.aborted) throw new CMeshError('CMESH_BOOT_FAILED', { step: 'cluster', reason: 'it was stopped' })
  }
}

function part(name: string, pid: number | undefined, descriptor?: MeshDescriptor): Part {
  return { name, ...(pid !== undefined && { pid }), ...(descriptor && { http: descriptor.http, did: descriptor.node }) }
}

/** Of the log that the server rotates by itself. */
async function linkTo(target: string, link: string): Promise<void> {
  await unlink(link).catch(() => undefined)
  await symlink(path.relative(path.dirname(link), target), link)
}

/** What the environment says of a setting that makes a node one of this cluster holds for no node of it. */
function withoutSettings(env: NodeJS.ProcessEnv): NodeJS.ProcessEnv {
  const own = ['data.dir', 'mesh.certificate', 'bus.url', 'bus.accounts', 'bus.nkeySeed', 'bus.port', 'http.port', 'consensus.provider', 'consensus.replicas', 'events.replicas']
  const names = new Set([...own.map(variableOf), 'CMESH_NATS_URL', 'CMESH_CONFIG'])
  return Object.fromEntries(Object.entries(env).filter(([name]) => !names.has(name)))
}
