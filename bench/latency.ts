/** `latency`: how long one request takes when nothing else is under way, beside a round trip on raw NATS. */
import { CpuMeter } from './cpu-time.ts'
import { atMost, interleave, median, medianRatio, type Bench } from './harness.ts'
import { registerMixName, startDriver, startMesh, startRaw } from './processes.ts'

export const latency: Bench = {
  name: 'latency',
  what: 'the mix with one request in flight, p50 and p99; against a raw NATS round trip',
  async run({ smoke, scope }) {
    const rounds = smoke ? 1 : 15
    const count = smoke ? 600 : 3_000
    const mesh = await startMesh(scope)
    await registerMixName(mesh)
    const raw = await startRaw(scope)
    const subject = await startDriver(scope, 'mix', { ...mesh.access, coalesce: true })
    const meters = { raw: new CpuMeter(raw.processes), mesh: new CpuMeter({ client: subject.pid, broker: mesh.brokerPid, node: mesh.pid }) }
    const oneByOne = { count, inFlight: 0 }
    for (const driver of [raw.driver, subject]) await driver.run(oneByOne)
    const values = await interleave(rounds, {
      raw: () => meters.raw.during(count, () => raw.driver.run(oneByOne)),
      mesh: () => meters.mesh.during(count, () => subject.run(oneByOne)),
    })
    const times = (of: 'raw' | 'mesh', which: 'p50Us' | 'p99Us'): number[] => values[of].map(run => run[which])
    return {
      rounds,
      figures: ([['raw', 'raw NATS'], ['mesh', 'mesh']] as const).flatMap(([of, name]) => [
        ...(['p50Us', 'p99Us'] as const).map(which => ({ name: `${name} ${which.slice(0, 3)}`, value: median(times(of, which)), unit: 'µs' })),
        ...meters[of].perOperation().map(([process, us]) => ({ name: `${name}: CPU of ${process}`, value: us, unit: 'µs/request' })),
      ]),
      ratios: [
        atMost('latency/p50', medianRatio(times('mesh', 'p50Us'), times('raw', 'p50Us')), 1.3),
        atMost('latency/p99', medianRatio(times('mesh', 'p99Us'), times('raw', 'p99Us')), 2),
      ],
      leftOut: ['load: how latency grows with requests in flight', `rarer delays than 1 in 100: a round has ${count} requests`],
    }
  },
}
