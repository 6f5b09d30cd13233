/**
 * `contracts`: what metering costs, what a call costs, how far gas is time, and how long anybody can hold the thread with it. The parts
 * stand in `contracts/`; this file puts their figures together.
 */
import { METERS, meterModule } from '../providers/contracts/meter/index.ts'
import { calibrate } from './contracts/calibration.ts'
import { measureCalls } from './contracts/calls.ts'
import { measureCompute } from './contracts/compute.ts'
import { measureEvm } from './contracts/evm.ts'
import { prepareAttacks, TRANSACTION_GAS } from './contracts/hostile.ts'
import { compilePrograms } from './contracts/programs.ts'
import { SHAPE_NAMES, shapeOf } from './contracts/shapes.ts'
import { atLeast, atMost, median, type Bench, type Figure } from './harness.ts'
import { obtainPeer } from './peers.ts'

export const contracts: Bench = {
  name: 'contracts',
  what: 'metered contracts: programs, a pooled increment, ns per gas, hostile ones; against the same WebAssembly unmetered and @ethereumjs/evm',
  async run({ smoke, log }) {
    const rounds = smoke ? 1 : 7
    const missing = await obtainPeer('@ethereumjs/evm', log)
    const programs = await compilePrograms()
    log('programs, metered and not')
    const compute = measureCompute(programs, rounds, smoke)
    log('calls')
    const calls = await measureCalls(rounds, smoke)
    const evm = missing === undefined ? await measureEvm(rounds, smoke) : undefined
    log('gas against time')
    const calibration = await calibrate(smoke ? 1 : 5, smoke ? 20_000 : 1_000_000)
    log('rewriting')
    const rewriting = measureRewriting(programs, smoke ? 1 : 5)
    log('hostile contracts')
    const hostile = await measureAttacks(smoke ? 1 : 5)
    return {
      rounds,
      figures: [
        ...compute.figures, ...calls.figures, ...evm?.figures ?? [],
        { name: `gas, median of ${calibration.groups} groups of instructions`, value: calibration.medianNs, unit: 'ns/gas' },
        { name: `gas, dearest: ${calibration.worst.name}`, value: calibration.worst.ns, unit: 'ns/gas' },
        { name: `gas, cheapest: ${calibration.best.name}`, value: calibration.best.ns, unit: 'ns/gas' },
        ...rewriting, ...hostile.slice(0, 5),
      ],
      ratios: [
        atMost('contracts/unmetered', compute.ratio, 1.4),
        ...(evm === undefined ? [] : [atLeast('contracts/evm', evm.ratio, 80)]),
        atMost('contracts/incrementUs', calls.incrementUs, 2.5),
        atMost('contracts/gasSpread', calibration.worst.ns / calibration.medianNs, 10),
        atMost('contracts/holdMs', hostile[0]?.value ?? Number.NaN, 20),
      ],
      leftOut: [
        'the service around the engine, the log, the network',
        `hostile contracts: the five that held the thread longest under ${TRANSACTION_GAS.toLocaleString('en-US')} gas, of ${hostile.length}; a deployment, which reads, rewrites and compiles`,
        ...(missing === undefined ? [] : [`the comparison with the EVM: ${missing}`]),
      ],
    }
  },
}

/** Reading, rewriting and validating: of ordinary code, and of the hostile module that takes longest. */
function measureRewriting(programs: Uint8Array, rounds: number): Figure[] {
  const once = (wasm: Uint8Array): number => {
    const start = performance.now()
    try {
      meterModule(wasm, METERS.at(-1) ?? { meter: 0, schedule: 0 })
    } catch {
      // Refused, for what it would grow to: that took its time as well.
    }
    return performance.now() - start
  }
  const timed = (wasm: Uint8Array): number => median(Array.from({ length: rounds }, () => once(wasm)))
  once(programs)
  const [worst] = SHAPE_NAMES.map(name => ({ name, ms: timed(shapeOf(name)) })).sort((a, b) => b.ms - a.ms) as [{ readonly name: string, readonly ms: number }]
  return [
    { name: 'rewriting compiled programs', value: timed(programs) * 1_000 / (programs.length / 1_024), unit: 'µs/KB' },
    { name: `rewriting 256 KB of the worst shape (${worst.name})`, value: worst.ms, unit: 'ms' },
    { name: `the same, each KB (${worst.name})`, value: worst.ms * 1_000 / (shapeOf(worst.name).length / 1_024), unit: 'µs/KB' },
  ]
}

/** How long each attack holds the thread, the longest first. */
async function measureAttacks(rounds: number): Promise<Figure[]> {
  const { attacks, close } = await prepareAttacks()
  const figures = attacks.map(({ name, prepare, run }): Figure => {
    const times = Array.from({ length: rounds }, () => {
      prepare()
      const start = performance.now()
      run()
      return performance.now() - start
    })
    return { name: `hostile: ${name}`, value: median(times), unit: 'ms' }
  })
  close()
  return figures.sort((a, b) => b.value - a.value)
}
