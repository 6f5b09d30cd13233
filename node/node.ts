/**
 * A CMesh node: boots in the order of the design, proves itself before it opens its door, and stops by drain.
 *
 *   idle → starting → running → draining → stopped
 *             └─ a step fails: everything before it undone, `start` rejects with the step's name
 *
 * Order: data → bus → iam (handshake with itself) → audit → state with consensus and contracts → registrar and events → router → self-test
 * through the front door → miner → http → door. Sessions are the mesh's: from the router's step on this node gets its share of everybody's requests, so
 * that comes when it can answer them. Stopping is the reverse: the door closes first, what is in flight is answered, and the broker goes last.
 */
import { CMeshError } from '../cmtp/errors.ts'
import type { Certificate } from '../cmtp/identity/certificate.ts'
import type { KeyPair } from '../cmtp/identity/keys.ts'
import { formatPermissions } from '../cmtp/permission.ts'
import { Patience } from '../providers/bus/patience.ts'
import { NODE_SET } from '../services/iam/grants.ts'
import type { Log } from '../services/log.ts'
import { selfTestIam } from '../services/iam/self-test.ts'
import { within } from '../services/within.ts'
import { closeBuses, openBuses, type Buses } from './bus.ts'
import { DataLock } from './data-lock.ts'
import { packageVersion, removeDescriptor, writeDescriptor, type MeshDescriptor } from './descriptor.ts'
import { genesisOf } from './genesis.ts'
import { HttpFace, type Health } from './http.ts'
import { nodeCertificate, startingIdentity } from './identity.ts'
import { buildMesh, type Mesh } from './mesh.ts'
import { meshMetrics } from './mesh-metrics.ts'
import type { Metrics } from './metrics.ts'
import { Mining } from './mining.ts'
import { OwnSession } from './own-session.ts'
import { orderSeeds } from './seeds.ts'
import { selfTest } from './self-test.ts'
import type { Config } from './settings.ts'
import { Steps, type Step } from './steps.ts'

export interface NodeParts {
  readonly config: Config
  readonly log: Log
  /** Told when a part failed for good; the node is then to be stopped. Called once. */
  readonly onHalt: (error: CMeshError) => void
  /** Told each step of the boot as it begins. */
  readonly onStep?: (name: string) => void
}

/** How long one request of the self-test may take, in ms: a mesh at work has others to answer, and a node that is merely late is no failure. */
const SELF_TEST_MS = 30_000
/** How long the self-test waits for its own events to be out, in ms; where they are not it fails for want of them. */
const EVENTS_OUT_MS = 10_000

type Phase = 'idle' | 'starting' | 'running' | 'draining' | 'stopped'

export class MeshNode {
  readonly #parts: NodeParts
  readonly #steps: Steps
  readonly #bootedAt = Date.now()
  #phase: Phase = 'idle'
  #halt: CMeshError | undefined
  #started: Promise<MeshDescriptor> | undefined
  #stopped: Promise<void> | undefined
  #mesh: Mesh | undefined
  #buses: Buses | undefined
  /** Fires when a start under way is no longer wanted. */
  readonly #unwanted = new AbortController()

  constructor(parts: NodeParts) {
    this.#parts = parts
    this.#steps = new Steps(parts.log)
  }

  get phase(): Phase {
    return this.#phase
  }

  /** Resolves when the node is ready. Memoised. Rejects with the code of what failed, else with `CMESH_BOOT_FAILED`, everything undone. */
  start(): Promise<MeshDescriptor> {
    this.#started ??= this.#start()
    return this.#started
  }

  /** Drains and stops. Memoised; ends a start under way where it waits for its broker, and else waits for it. */
  stop(): Promise<void> {
    this.#stopped ??= this.#stop()
    return this.#stopped
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.stop()
  }

  async #start(): Promise<MeshDescriptor> {
    this.#phase = 'starting'
    const boot = new Boot(this.#parts, error => { this.#halted(error) }, () => this.#health(), this.#unwanted.signal)
    try {
      await this.#steps.start(boot.steps(), name => {
        this.#parts.log.debug({ step: name }, 'boot')
        this.#parts.onStep?.(name)
      })
    } catch (error) {
      this.#phase = 'stopped'
      throw error
    }
    this.#mesh = boot.mesh
    this.#buses = boot.buses
    if (this.#halt === undefined) this.#phase = 'running'
    return boot.descriptor
  }

  async #stop(): Promise<void> {
    this.#unwanted.abort()
    await this.#started?.catch(() => undefined)
    this.#phase = 'draining'
    try {
      await this.#steps.stop()
    } finally {
      this.#phase = 'stopped'
    }
  }

  #halted(error: CMeshError): void {
    if (this.#halt !== undefined) return
    this.#halt = error
    this.#parts.onHalt(error)
  }

  #health(): Health {
    const base = { node: this.#mesh?.node, uptimeMs: Date.now() - this.#bootedAt }
    if (this.#halt !== undefined) return { status: 'failing', reason: this.#halt.code, ...base }
    if (this.#phase === 'draining' || this.#phase === 'stopped') return { status: 'draining', ...base }
    if (this.#mesh === undefined) return { status: 'starting', ...base }
    const { core, mesh, door } = this.#buses ?? {}
    const bus = [core, mesh].every(one => one?.status === 'connected')
    // Sessions are served without it, and renew themselves; only newcomers are not.
    const shut = door?.status === 'connected' ? {} : { status: 'degraded' as const, reason: 'newcomers cannot come in: the node has no connection among them' }
    const { state, consensus, router } = this.#mesh
    // It reads, and what it is asked to write its clients take to another node: an operator has to look at it, and to end it would mend nothing.
    const unable = this.#phase === 'running' ? state.unableToOrder : undefined
    const short = unable === undefined ? shut : { status: 'degraded' as const, reason: unable.message }
    return {
      ...(bus ? { status: 'ok', ...short } : { status: 'failing' }), ...base, bus: bus ? 'connected' : 'disconnected',
      sequence: state.head.seq, durability: state.durability, leader: consensus.status().leader, inFlight: router.inFlight, writesPending: state.pendingWrites,
    }
  }
}

/** The steps of one boot and what they make of each other's work. */
class Boot {
  readonly #parts: NodeParts
  readonly #onHalt: (error: CMeshError) => void
  readonly #health: () => Health
  readonly #unwanted: AbortSignal
  readonly #lock: DataLock
  /** For what a step asks of the broker and may ask again. */
  readonly #patience: Patience
  #identity: KeyPair | undefined
  #certificate: Certificate | undefined
  #buses: Buses | undefined
  #mesh: Mesh | undefined
  #mining: Mining | undefined
  #http: HttpFace | undefined
  #metrics: Metrics | undefined
  #session: OwnSession | undefined
  #draining: Promise<void> | undefined

  constructor(parts: NodeParts, onHalt: (error: CMeshError) => void, health: () => Health, unwanted: AbortSignal) {
    this.#parts = parts
    this.#onHalt = onHalt
    this.#health = health
    this.#unwanted = unwanted
    this.#lock = new DataLock(parts.config['data.dir'])
    this.#patience = new Patience({ readyMs: parts.config['bus.readyMs'], log: parts.log, signal: unwanted })
  }

  get mesh(): Mesh {
    return made(this.#mesh)
  }

  get buses(): Buses {
    return made(this.#buses)
  }

  get descriptor(): MeshDescriptor {
    const { node, mesh, book } = this.mesh
    return { url: this.buses.url, did: mesh, node, operator: book.operator, http: made(this.#http).url, version: packageVersion(), pid: process.pid }
  }

  steps(): readonly Step[] {
    return [
      this.#data(), this.#bus(), this.#iam(), this.#audit(), this.#state(), this.#services(), this.#router(), this.#prove(),
      this.#miner(), this.#face(), this.#door(),
    ]
  }

  #data(): Step {
    return {
      name: 'data',
      start: async () => {
        await this.#lock.acquire()
        const { config } = this.#parts
        this.#identity = await startingIdentity(config['data.dir'])
        this.#certificate = await nodeCertificate(config['mesh.certificate'], this.#identity.did)
      },
      stop: () => this.#lock.release(),
    }
  }

  #bus(): Step {
    const { config, log } = this.#parts
    return {
      name: 'bus',
      start: async () => { this.#buses = await openBuses(config, log, this.#unwanted) },
      stop: async () => { if (this.#buses !== undefined) await closeBuses(this.#buses) },
    }
  }

  #iam(): Step {
    const { config, log } = this.#parts
    return {
      name: 'iam',
      start: async () => {
        const identity = made(this.#identity)
        this.#mesh = buildMesh({ config, identity, certificate: this.#certificate, buses: this.buses, log, onHalt: this.#onHalt })
        const { ring, feed, iam, ownIam, guard, mesh, dispatcher, endpoints } = this.#mesh
        // The guard lets nobody pass before it is known who was revoked.
        await feed.start()
        await iam.start()
        await ownIam.start()
        await selfTestIam({ iam: ownIam, guard, identity, mesh })
        dispatcher.attach('iam', endpoints.iam.call)
        // No more than it needs, so that the refusals it expects are refused also where the node is its own operator.
        this.#session = new OwnSession({
          iam: ownIam, identity, mesh, want: formatPermissions(NODE_SET), now: Date.now, keys: ring, patienceMs: SELF_TEST_MS,
        })
      },
      stop: async () => {
        await this.#mesh?.iam.stop()
        await this.#mesh?.ownIam.stop()
        this.#mesh?.feed.stop()
      },
    }
  }

  /** Before the first request is taken, and until the last is answered. */
  #audit(): Step {
    return {
      name: 'audit',
      start: async () => {
        await this.mesh.tracer?.start()
        await this.mesh.batcher.start()
      },
      stop: async () => {
        await this.mesh.batcher.stop()
        await this.mesh.tracer?.stop()
      },
    }
  }

  #state(): Step {
    const { config, log } = this.#parts
    return {
      name: 'state',
      start: async () => {
        const { state, engine, events, roots, watchdog, dispatcher, endpoints, book, guard, node } = this.mesh
        watchdog.start()
        await events.start()
        roots.start()
        const report = await state.start(() => genesisOf({
          operator: book.operator, node, certificate: this.#certificate, meter: { ...engine.meter, transactionGas: config['contracts.transactionGas'] },
        }))
        this.mesh.answerer?.start()
        log.info({ sequence: report.head.seq, replayed: report.replayed, openMs: Math.round(report.openMs) }, 'state is open')
        const { operator: recorded } = book
        if (config.operator !== undefined && config.operator !== recorded) {
          const { code, message } = new CMeshError('CMESH_BOOT_OPERATOR', { recorded, given: config.operator })
          log.warn({ code, configured: config.operator, recorded }, message)
        }
        for (const sid of book.revokedSessions) guard.revoke({ sid })
        guard.grantsChanged()
        dispatcher.attach('consensus', endpoints.consensus.call)
        dispatcher.attach('state', endpoints.state.call)
      },
      stop: async () => {
        const { state, events, batcher, roots, watchdog, watermark, lastClaim, blocks, asker, answerer } = this.mesh
        asker.stop()
        await answerer?.stop()
        await blocks?.stop()
        await state.stop()
        await lastClaim.close()
        // What was answered is on the log, and its roots on the channel, while there is one.
        await batcher.flush()
        await roots.stop()
        await events.stop()
        watermark.close()
        await watchdog.stop()
      },
    }
  }

  #services(): Step {
    return {
      name: 'services',
      start: async () => {
        const { state, dispatcher, endpoints, listeners, book, granted, node, finder } = this.mesh
        await orderSeeds({ book, state, node, granted, log: this.#parts.log })
        dispatcher.attach('registrar', endpoints.registrar.call)
        dispatcher.attach('events', endpoints.events.call)
        for (const listener of listeners) listener.start()
        finder.start()
        state.courier.start()
        state.later.start()
      },
      stop: async () => {
        await Promise.all([...this.mesh.listeners.map(listener => listener.drain()), this.mesh.finder.stop()])
        this.mesh.tails.stop()
      },
    }
  }

  #router(): Step {
    return {
      name: 'router',
      start: () => this.#patience.with('the broker', () => this.mesh.router.start()),
      // Where the door was open it has drained the router already.
      stop: () => this.#drained(),
    }
  }

  #prove(): Step {
    const { config, log } = this.#parts
    return {
      name: 'self-test',
      start: () => {
        const { frontDoor, outbox } = this.mesh
        const eventsOut = (): Promise<void> => within(outbox.flush(), EVENTS_OUT_MS)
        return selfTest({
          frontDoor, session: made(this.#session), identity: made(this.#identity), mesh: this.buses.mesh, eventsOut, eventsWaiting: () => outbox.pending, log,
          patienceMs: config['bus.readyMs'],
        })
      },
    }
  }

  #miner(): Step {
    const { config, log } = this.#parts
    return {
      name: 'miner',
      start: async () => {
        this.#mining = new Mining({ config, buses: this.buses, log, mesh: this.mesh, identity: made(this.#identity) })
        await this.#mining.start()
      },
      stop: () => this.#mining?.stop(),
    }
  }

  #face(): Step {
    const { config } = this.#parts
    return {
      name: 'http',
      start: async () => {
        const metrics = this.#metrics = meshMetrics(this.mesh, made(this.#mining))
        this.#http = new HttpFace({ host: config['http.host'], port: config['http.port'], health: this.#health, metrics: () => metrics.text() })
        await this.#http.start()
      },
      stop: async () => {
        await this.#http?.stop()
        this.#metrics?.close()
      },
    }
  }

  /** From here on newcomers are let in. Closing it first is what makes a stop a drain. */
  #door(): Step {
    const { config } = this.#parts
    return {
      name: 'door',
      start: async () => {
        await this.mesh.feed.catchUp()
        await this.#patience.with('the broker', () => this.mesh.hello.start())
        await writeDescriptor(config['data.dir'], this.descriptor)
      },
      stop: async () => {
        await removeDescriptor(config['data.dir'])
        await this.#drained()
      },
    }
  }

  /** What was taken is answered, or the time for that is over. Memoised. */
  #drained(): Promise<void> {
    const { hello, router, groups, state } = this.mesh
    groups.drain()
    // What they wait for may be far off, and another node has it sooner than a drain would end.
    state.drainViews()
    this.#draining ??= within(Promise.all([hello.drain(), router.drain()]), this.#parts.config['router.drainMs'])
    return this.#draining
  }
}

/** What an earlier step made. A missing value is a mistake in the order of the steps. */
function made<T>(value: T | undefined): T {
  if (value === undefined) throw new TypeError('a step of the boot ran before what it needs')
  return value
}
