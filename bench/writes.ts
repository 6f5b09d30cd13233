/** `writes`: contract transactions from a client process, beside what the log underneath and a replicated log can do. */
import { CpuMeter } from './cpu-time.ts'
import { atLeast, interleave, median, medianRatio, type Bench, type Figure, type Ratio } from './harness.ts'
import { obtainPeer } from './peers.ts'
import { prepare, scratch, startBroker, startDriver, startMesh } from './processes.ts'
import { compileStore, keyOf, KEYS, valueOf } from './store-contract.ts'

const IN_FLIGHT = [64, 512] as const
const JETSTREAM_IN_FLIGHT = 256

export const writes: Bench = {
  name: 'writes',
  what: 'contract transactions, committed and receipted, 64 and 512 in flight; against Hyperbee puts of the same keys, and JetStream publish with ack',
  async run({ smoke, log, scope }) {
    const rounds = smoke ? 1 : 5
    const count = smoke ? 1_000 : 20_000
    // Rounds of two seconds, and a warm-up of as many writes again, before a node's code is compiled for what it does often.
    const written = smoke ? 1_000 : 60_000
    const missing = await obtainPeer('hyperbee', log)
    const mesh = await startMesh(scope)
    const wasm = await compileStore()
    const { address } = await prepare(mesh, client => client.deploy({ wasm, name: 'store', version: '1.0.0' }))

    const driver = await startDriver(scope, 'writes', { ...mesh.access, contract: address, keys: KEYS })
    const broker = await startBroker(scope)
    const bytes = `["${keyOf(0)}","${valueOf(0)}"]`.length
    const jetstream = await startDriver(scope, 'jetstream', { url: broker.url, ...broker.core, bytes, replicas: 1 })
    const bee = missing === undefined ? await startDriver(scope, 'hyperbee', { dir: await scratch(scope), does: 'put', keys: KEYS }) : undefined

    const meters = new Map(IN_FLIGHT.map(inFlight => [inFlight, new CpuMeter({ client: driver.pid, broker: mesh.brokerPid, node: mesh.pid })]))
    const subjects: Record<string, () => Promise<number>> = {
      'JetStream publish with ack': async () => (await jetstream.run({ count: written, inFlight: JETSTREAM_IN_FLIGHT })).perSecond,
    }
    if (bee !== undefined) subjects['Hyperbee put, 100 a batch'] = async () => (await bee.run({ count, inFlight: 1 })).perSecond
    for (const [inFlight, meter] of meters) {
      subjects[nameOf(inFlight)] = async () => (await meter.during(written, () => driver.run({ count: written, inFlight }))).perSecond
    }
    for (const warmUp of Object.values(subjects)) await warmUp()
    const values = await interleave(rounds, subjects)
    const alone = await driver.run({ count: smoke ? 50 : 1_000, inFlight: 0 })

    const most = values[nameOf(512)] ?? []
    const ratios: Ratio[] = [atLeast('writes/jetstream', medianRatio(most, values['JetStream publish with ack'] ?? []), 0.4)]
    const puts = values['Hyperbee put, 100 a batch']
    if (puts !== undefined) ratios.unshift(atLeast('writes/hyperbee', medianRatio(most, puts), 3))
    return {
      rounds,
      figures: [
        ...Object.entries(values).map(([name, perSecond]): Figure => ({ name, value: median(perSecond), unit: 'writes/s' })),
        { name: 'mesh, one in flight: p50', value: alone.p50Us, unit: 'µs' },
        { name: 'mesh, one in flight: p99', value: alone.p99Us, unit: 'µs' },
        ...[...meters].flatMap(([inFlight, meter]) => meter.perOperation().map(([process, us]): Figure => ({ name: `${nameOf(inFlight)}: CPU of ${process}`, value: us, unit: 'µs/write' }))),
      ],
      ratios,
      leftOut: [
        `the ratios are those of 512 in flight; JetStream has ${JETSTREAM_IN_FLIGHT}, R1, on disk, messages as long as a transaction's arguments`,
        'consensus over the network: the members of the mock Raft are in the node', 'events of contracts', 'power cuts: durability is os',
        ...(missing === undefined ? [] : [`the comparison with Hyperbee: ${missing}`]),
      ],
    }
  },
}

function nameOf(inFlight: number): string {
  return `mesh, ${inFlight} in flight`
}
