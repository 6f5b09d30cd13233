/** `cluster`: contract transactions on three nodes and three servers, each acknowledged when two nodes hold it, beside a replicated log alone. */
import { NODES, startCluster, startServers, type ClusterProcesses } from './cluster-processes.ts'
import { CpuMeter } from './cpu-time.ts'
import { atLeast, interleave, median, medianRatio, Scope, type Bench, type Figure } from './harness.ts'
import { prepare, startDriver, type DriverProcess } from './processes.ts'
import { compileStore, keyOf, KEYS, valueOf } from './store-contract.ts'

const JETSTREAM_IN_FLIGHT = 256
const BASELINE = 'JetStream publish with ack'
const SUBJECT = 'mesh, 512 in flight'
const ON_DISK = 'mesh, 512 in flight, quorum-disk'
const ALONE = 400

/** What is measured: by name, who does it, how many at a time, and every process that works for it. */
interface Side {
  readonly driver: DriverProcess
  readonly inFlight: number
  readonly meter: CpuMeter
  /** In a round. */
  readonly count: number
  /** Before the first round: until a node's code is compiled for what it does often, and each of the three has a third of what one alone would be asked. */
  readonly warmUp: number
}

export const cluster: Bench = {
  name: 'cluster',
  what: 'contract transactions on three nodes and three servers, confirmed by two nodes and receipted, 64 and 512 in flight; against JetStream publish with ack on three servers',
  async run({ smoke, log, scope }) {
    const rounds = smoke ? 1 : 5
    // Of its own: what it starts ends before the cluster on disk does, which has no share in the ratio, so that neither takes the other's CPU.
    const first = new Scope()
    scope.defer(() => first.close())
    log('starting three nodes and three servers, and three servers more for the baseline')
    const [wasm, mesh, servers] = await Promise.all([compileStore(), startCluster(first), startServers(first, log)])
    const driver = await writer(first, mesh, wasm)
    const bytes = `["${keyOf(0)}","${valueOf(0)}"]`.length
    const jetstream = await startDriver(first, 'jetstream', { url: servers.urls.join(','), ...servers.core, bytes, replicas: NODES })
    const sideOf = (by: DriverProcess, pids: Readonly<Record<string, number>>, { inFlight, count, warmUp }: Omit<Side, 'driver' | 'meter'>): Side =>
      ({ driver: by, inFlight, meter: new CpuMeter({ client: by.pid, ...pids }), count: smoke ? 200 : count, warmUp: smoke ? 0 : warmUp })
    const sides: Record<string, Side> = {
      [BASELINE]: sideOf(jetstream, servers.pids, { inFlight: JETSTREAM_IN_FLIGHT, count: 30_000, warmUp: 30_000 }),
      'mesh, 64 in flight': sideOf(driver, mesh.pids, { inFlight: 64, count: 4_000, warmUp: 4_000 }),
      [SUBJECT]: sideOf(driver, mesh.pids, { inFlight: 512, count: 20_000, warmUp: 120_000 }),
    }
    const roundsOf = async (measured: Readonly<Record<string, Side>>): Promise<Record<string, number[]>> => {
      log('warming up')
      for (const { driver: by, inFlight, warmUp } of Object.values(measured)) if (warmUp > 0) await by.run({ count: warmUp, inFlight })
      return await interleave(rounds, Object.fromEntries(Object.entries(measured).map(([name, { driver: by, inFlight, meter, count }]) => [
        name, async () => (await meter.during(count, () => by.run({ count, inFlight }))).perSecond,
      ])), round => { log(`round ${round} of ${rounds}`) })
    }
    const values = await roundsOf(sides)
    const alone = await driver.run({ count: smoke ? 20 : ALONE, inFlight: 0 })
    await first.close()
    if (!smoke) {
      log('starting three nodes and three servers with quorum-disk')
      const disk = await startCluster(scope, { 'state.durability': 'quorum-disk' })
      const onDisk = { [ON_DISK]: sideOf(await writer(scope, disk, wasm), disk.pids, { inFlight: 512, count: 5_000, warmUp: 20_000 }) }
      Object.assign(values, await roundsOf(onDisk))
      Object.assign(sides, onDisk)
    }
    return {
      rounds,
      figures: [
        ...Object.entries(values).map(([name, perSecond]): Figure => ({ name, value: median(perSecond), unit: 'writes/s' })),
        { name: 'mesh, one in flight: p50', value: alone.p50Us, unit: 'µs' },
        ...Object.entries(sides).flatMap(([name, { meter }]) => cpuFigures(name, meter)),
      ],
      ratios: [atLeast('cluster/jetstream', medianRatio(values[SUBJECT] ?? [], values[BASELINE] ?? []), 0.4)],
      leftOut: [
        `the ratio is that of 512 in flight; JetStream has ${JETSTREAM_IN_FLIGHT}, R3, on disk, messages as long as a transaction's arguments`,
        'cores: seven busy processes share this machine\'s, so its rates are those of all their CPU together; on machines of their own nodes and servers work side by side',
        'the network between nodes and servers, and a disk that each of them has to itself',
        'which server leads a stream, and which node takes a frame: that is the servers\' choice, and another one in each run',
        smoke ? 'quorum-disk' : 'power cuts, but for quorum-disk: durability is quorum-os; quorum-disk is measured after the rest, and less warm',
      ],
    }
  },
}

/** A client of one connection that puts keys into a contract of its own. */
async function writer(scope: Scope, mesh: ClusterProcesses, wasm: Uint8Array): Promise<DriverProcess> {
  const { address } = await prepare(mesh, client => client.deploy({ wasm, name: 'store', version: '1.0.0' }))
  return startDriver(scope, 'writes', { ...mesh.access, contract: address, keys: KEYS })
}

/** Of the client, and of nodes and servers each together. */
function cpuFigures(name: string, meter: CpuMeter): Figure[] {
  const sums = new Map<string, number>()
  for (const [process, us] of meter.perOperation()) {
    const kind = process === 'client' ? process : `the three ${process.startsWith('node') ? 'nodes' : 'servers'}`
    sums.set(kind, (sums.get(kind) ?? 0) + us)
  }
  return [...sums].map(([kind, us]) => ({ name: `${name}: CPU of ${kind}`, value: us, unit: 'µs/write' }))
}
