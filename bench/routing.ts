/** `routing`, `routing --wide`, `routing --batch`: requests a second through the whole way, beside the same on raw NATS. */
import { CpuMeter } from './cpu-time.ts'
import { atLeast, interleave, median, medianRatio, type Bench, type Figure, type Ratio } from './harness.ts'
import { IN_FLIGHT } from './mix.ts'
import { obtainPeer } from './peers.ts'
import { registerMixName, startDriver, startMesh, startMoleculer, startRaw, type Asking, type MeshProcess } from './processes.ts'

const LEFT_OUT = [
  'the network: client, broker and node share one machine and its cores',
  'what raw NATS does not do: sessions, deadlines, permissions, receipts; its payloads have 200 bytes both ways',
]

/** A subject while it is measured. */
class Runner {
  readonly #asking: Asking
  readonly #cpu: CpuMeter
  readonly #count: number

  constructor(asking: Asking, count: number) {
    this.#asking = asking
    this.#cpu = new CpuMeter(asking.processes)
    this.#count = count
  }

  warmUp(): Promise<unknown> {
    return this.#asking.driver.run({ count: this.#count, inFlight: IN_FLIGHT })
  }

  /** Requests a second of one round. */
  readonly round = async (): Promise<number> => {
    const { perSecond } = await this.#cpu.during(this.#count, () => this.#asking.driver.run({ count: this.#count, inFlight: IN_FLIGHT }))
    return perSecond
  }

  figures(name: string, perSecond: readonly number[]): Figure[] {
    return [
      { name, value: median(perSecond), unit: 'requests/s' },
      ...this.#cpu.perOperation().map(([process, us]) => ({ name: `${name}: CPU of ${process}`, value: us, unit: 'µs/request' })),
    ]
  }
}

/** Warms every subject up, runs them in turn, and gives their rates and figures. */
async function measure<N extends string>(rounds: number, subjects: Readonly<Record<N, Runner>>): Promise<{ values: Record<N, number[]>, figures: Figure[] }> {
  const entries = Object.entries(subjects) as [N, Runner][]
  for (const [, runner] of entries) await runner.warmUp()
  const values = await interleave(rounds, Object.fromEntries(entries.map(([name, runner]) => [name, runner.round])) as Record<N, () => Promise<number>>)
  return { values, figures: entries.flatMap(([name, runner]) => runner.figures(name, values[name])) }
}

function processesOf(mesh: MeshProcess, client: number): Readonly<Record<string, number>> {
  return { client, broker: mesh.brokerPid, node: mesh.pid }
}

export const routing: Bench = {
  name: 'routing',
  what: `30,000 requests of the mix, ${IN_FLIGHT} in flight, session and permission checked and receipt on each; against raw NATS and Moleculer`,
  async run({ smoke, log, scope }) {
    const rounds = smoke ? 1 : 7
    const count = smoke ? 3_000 : 30_000
    const missing = await obtainPeer('moleculer', log)
    const mesh = await startMesh(scope)
    await registerMixName(mesh)
    const asking = async (coalesce: boolean): Promise<Runner> => {
      const driver = await startDriver(scope, 'mix', { ...mesh.access, coalesce })
      return new Runner({ driver, processes: processesOf(mesh, driver.pid) }, count)
    }
    const subjects = {
      'raw NATS': new Runner(await startRaw(scope), count),
      ...(missing === undefined && { 'Moleculer': new Runner(await startMoleculer(scope), count) }),
      'mesh': await asking(true),
      'mesh, one request a frame': await asking(false),
    }
    const { values, figures } = await measure<string>(rounds, subjects)
    const ratios: Ratio[] = [atLeast('routing/raw', medianRatio(values['mesh'] ?? [], values['raw NATS'] ?? []), 0.75)]
    const { Moleculer: moleculer } = values
    if (moleculer !== undefined) ratios.push(atLeast('routing/moleculer', medianRatio(values['mesh'] ?? [], moleculer), 1.2))
    return {
      rounds,
      figures: [...figures, { name: 'mesh, one request a frame / raw NATS', value: medianRatio(values['mesh, one request a frame'] ?? [], values['raw NATS'] ?? []), unit: '×' }],
      ratios,
      leftOut: [...LEFT_OUT, 'sharing frames on the other side: the client of the mesh puts reads that are asked in one turn into one frame, the others send one message a request', ...(missing === undefined ? ['what Moleculer does not do either: it has its defaults, without time-outs, metrics or a log'] : [`the comparison with Moleculer: ${missing}`])],
    }
  },
}

export const routingWide: Bench = {
  name: 'routing --wide',
  what: 'the same with 10,000 addresses, 1,000 names and 1,000 sessions, view cache off and on; against raw NATS',
  async run({ smoke, log, scope }) {
    const rounds = smoke ? 1 : 5
    const count = smoke ? 3_000 : 30_000
    const width = smoke ? { addresses: 1_000, names: 100, sessions: 100 } : { addresses: 10_000, names: 1_000, sessions: 1_000 }
    const wide = async (settings: Readonly<Record<string, number>>): Promise<Runner> => {
      const mesh = await startMesh(scope, settings)
      const { url, mesh: did } = mesh.access
      log(`opening ${width.sessions} sessions and registering ${width.names} names`)
      const driver = await startDriver(scope, 'wide', { url, mesh: did, ...width })
      return new Runner({ driver, processes: processesOf(mesh, driver.pid) }, count)
    }
    const subjects = {
      'raw NATS': new Runner(await startRaw(scope), count),
      'no view cache': await wide({ 'state.viewCache': 0 }),
      'view cache': await wide({}),
    }
    const { values, figures } = await measure(rounds, subjects)
    return {
      rounds, figures,
      ratios: [
        atLeast('wide/raw', medianRatio(values['no view cache'], values['raw NATS']), 0.45),
        atLeast('wide/rawCached', medianRatio(values['view cache'], values['raw NATS']), 0.6),
      ],
      leftOut: [...LEFT_OUT, 'connections: the sessions share one, as those of a gateway do; handshakes are made before the clock starts'],
    }
  },
}

/** Requests in one frame, and frames in flight. */
const BATCH = { size: 100, inFlight: 16 } as const

export const routingBatch: Bench = {
  name: 'routing --batch',
  what: `the mix with ${BATCH.size} requests a frame, ${BATCH.inFlight} frames in flight, receipt on each request; against raw NATS`,
  async run({ smoke, scope }) {
    const rounds = smoke ? 1 : 7
    const mesh = await startMesh(scope)
    await registerMixName(mesh)
    const driver = await startDriver(scope, 'batches', { ...mesh.access, ...BATCH })
    const subjects = {
      'raw NATS': new Runner(await startRaw(scope), smoke ? 3_000 : 30_000),
      // As long a round: a request of a batch takes a fraction of the time.
      'mesh': new Runner({ driver, processes: processesOf(mesh, driver.pid) }, smoke ? 10_000 : 150_000),
    }
    const { values, figures } = await measure(rounds, subjects)
    return { rounds, figures, ratios: [atLeast('batch/raw', medianRatio(values.mesh, values['raw NATS']), 4)], leftOut: [...LEFT_OUT, 'batching raw NATS: it sends one message a request'] }
  },
}
