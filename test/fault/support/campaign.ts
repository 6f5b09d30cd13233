/**
 * Rounds of drills on one cluster. A round: clients begin, drills are drawn and done, everything is made whole, every client is served again; then the
 * histories are checked, and each replica's log is read and held against the ledger and against the others. What follows from a seed is which drills a round
 * does, in which order and for how long; when a process is hit by them does not.
 */
import { setTimeout as delay } from 'node:timers/promises'
import { KeyPair } from '../../../cmtp/identity/keys.ts'
import { verifyLog } from '../../../node/archive/verify.ts'
import { until } from '../../client/support/until.ts'
import { Draw } from '../../support/draw.ts'
import { DrillCluster } from './drill-cluster.ts'
import { drawDrill, drillOf, rollingRestart, TALLIES, type Drill, type Tally } from './drills.ts'
import { Ledger, ReplicaBook, type Fault } from './ledger.ts'
import { checkHistory, COUNTER, REGISTER, type Verdict } from './linearizability.ts'
import { ReplicaLog } from './replica-log.ts'
import { tallyModule, writesOf } from './tally.ts'
import { Workload, type Histories } from './workload.ts'

export interface RoundResult {
  readonly round: number
  readonly seed: number
  readonly drills: Readonly<Record<string, number>>
  readonly tally: Tally
  readonly asked: number
  readonly acknowledged: number
  readonly refused: number
  readonly unknown: number
  readonly faults: readonly Fault[]
  /** Operations of the histories that were checked, and what came out. */
  readonly operations: number
  readonly verdicts: readonly Verdict[]
  readonly stale: readonly string[]
  /** Processes that ended by themselves, and how. */
  readonly ended: readonly string[]
  readonly seconds: number
}

const LANES = 3
const GAP_MS = 350
const CATCH_UP_MS = 90_000
/** Every so many rounds all parts are restarted in turn as well. */
const ROLLING = 12

export class Campaign {
  readonly #cluster: DrillCluster
  readonly #workload: Workload
  readonly #ledger: Ledger
  readonly #replicas: readonly { readonly log: ReplicaLog, readonly book: ReplicaBook }[]

  static async start(dir: string, nodes?: number): Promise<Campaign> {
    const operator = KeyPair.generate()
    return Campaign.on(await DrillCluster.start(dir, operator.did, nodes), operator)
  }

  /** On a cluster that runs, and that ends with it. */
  static async on(cluster: DrillCluster, operator: KeyPair): Promise<Campaign> {
    try {
      const wasm = await tallyModule()
      const ledger = new Ledger()
      const { url, mesh } = cluster
      return new Campaign(cluster, await Workload.open({ url, mesh, identity: operator, ledger, wasm }), ledger)
    } catch (error) {
      await cluster.stop()
      throw error
    }
  }

  private constructor(cluster: DrillCluster, workload: Workload, ledger: Ledger) {
    this.#cluster = cluster
    this.#workload = workload
    this.#ledger = ledger
    this.#replicas = cluster.dirs.map((dir, i) => ({ log: new ReplicaLog(dir), book: new ReplicaBook(ledger, `node-${i + 1}`) }))
  }

  get cluster(): DrillCluster {
    return this.#cluster
  }

  get errors(): ReadonlyMap<string, number> {
    return this.#workload.errors
  }

  /** `count` drills drawn from the seed; or those named, one after the other. Rejects when the mesh does not come back, or a log does not hold. */
  async round(seed: number, round: number, what: number | readonly string[]): Promise<RoundResult> {
    const startMs = performance.now()
    const before = this.#ledger.counts
    const ended = this.#cluster.ended.length
    const draw = new Draw(seed * 100_003 + round)
    const tally = Object.fromEntries(TALLIES.map(each => [each, 0])) as Tally
    const done: Record<string, number> = {}
    const note = (name: string, did: Partial<Tally>): void => {
      if (Object.values(did).some(times => times > 0)) done[name] = (done[name] ?? 0) + 1
      for (const each of TALLIES) tally[each] += did[each] ?? 0
    }
    // Before the clients draw: what is done to the mesh does not follow from how many of them there are.
    const lanes = Array.from({ length: LANES }, () => draw.fork())
    this.#workload.begin(round, draw)
    await this.#workload.served()
    if (typeof what === 'number') {
      await Promise.all(lanes.map(lane => this.#lane(lane, Array.from({ length: Math.ceil(what / LANES) }), note)))
      if (round % ROLLING === 0) note('rolling-restart', await this.#cluster.heal().then(() => rollingRestart(this.#cluster)))
    } else {
      await this.#lane(lanes[0] as Draw, what.map(drillOf), note)
    }
    await this.#cluster.heal()
    await this.#workload.served()
    const histories = await this.#workload.end()
    const faults = await this.#compare()
    const counts = this.#ledger.counts
    return {
      round, seed, drills: done, tally, faults,
      asked: counts.asked - before.asked, acknowledged: counts.acknowledged - before.acknowledged,
      refused: counts.refused - before.refused, unknown: counts.unknown - before.unknown,
      ...judged(histories), ended: this.#cluster.ended.slice(ended).map(({ who, how }) => `${who}: ${how}`),
      seconds: Math.round((performance.now() - startMs) / 100) / 10,
    }
  }

  /** Ends all of it, reads what was added to each log since, and verifies each whole as `cmesh verify` does. Rejects where one differs. */
  async finish(): Promise<readonly Fault[]> {
    await this.#workload.close()
    await Promise.all(this.#cluster.nodes.map(node => node.hold('SIGTERM')))
    await this.#cluster.stop()
    const faults = await this.#read()
    for (const dir of this.#cluster.dirs) await verifyLog(dir, () => undefined)
    return faults
  }

  /** Of every process, and what ended by itself, for a failure. */
  state(): string {
    const parts = this.#cluster.all.map(({ name, pid, isUp, isPaused }) => `${name} ${pid ?? 'down'}${isUp ? ' up' : ''}${isPaused ? ' paused' : ''}`)
    return `${parts.join(', ')}; ended: ${this.#cluster.ended.slice(-10).map(({ who, how }) => `${who}: ${how}`).join(' | ')}`
  }

  async stop(): Promise<void> {
    await this.#cluster.stop()
    await this.#workload.close()
  }

  async #lane(draw: Draw, drills: readonly (Drill | undefined)[], note: (name: string, did: Partial<Tally>) => void): Promise<void> {
    for (const each of drills) {
      const drill = each ?? drawDrill(draw)
      // Drawn before, so that what one does changes nothing for the next.
      const own = draw.fork()
      note(drill.name, await drill.run(this.#cluster, own))
      await delay(draw.below(GAP_MS))
    }
  }

  /** Nothing is asked for any more: every replica gets to what was acknowledged, then its log is read. */
  async #compare(): Promise<readonly Fault[]> {
    const last = this.#ledger.acknowledged.reduce((most, number) => Math.max(most, this.#ledger.entry(number)?.seq ?? 0), 0)
    await until(`every replica has block ${last}`, async () => {
      const heads = await Promise.all(Array.from({ length: this.#cluster.nodes.length }, (_, i) => this.#cluster.sequenceOf(i)))
      return heads.every(head => head !== undefined && head >= last)
    }, CATCH_UP_MS)
    return await this.#read()
  }

  async #read(): Promise<readonly Fault[]> {
    const faults: Fault[] = []
    for (const { log, book } of this.#replicas) {
      await log.read(block => { for (const write of writesOf(block, this.#workload.address)) faults.push(...book.take(write)) })
      faults.push(...book.level())
    }
    const least = Math.min(...this.#replicas.map(({ log }) => log.seq))
    const chains = new Set(this.#replicas.map(({ log }) => log.chainAt(least)))
    if (chains.size !== 1) throw new Error(`the replicas differ at block ${least}: ${[...chains].join(' ')}`)
    return faults
  }
}

function judged({ register, counter, stale }: Histories): Pick<RoundResult, 'operations' | 'verdicts' | 'stale'> {
  return { operations: register.length + counter.length, verdicts: [checkHistory(register, REGISTER), checkHistory(counter, COUNTER)], stale }
}
