/** What metering costs a program: each program's module as it is and metered, in turns, on instances of their own. */
import { METERS, meterModule } from '../../providers/contracts/meter/index.ts'
import { median, medianRatio, type Figure } from '../harness.ts'
import { Bare } from './bare.ts'
import { PROGRAMS, type ProgramName } from './programs.ts'

export interface ComputeResult {
  readonly figures: readonly Figure[]
  /** Geometric mean over the programs. */
  readonly ratio: number
}

export function measureCompute(wasm: Uint8Array, rounds: number, smoke: boolean): ComputeResult {
  const plain = new WebAssembly.Module(wasm)
  const metered = new WebAssembly.Module(meterModule(wasm, METERS.at(-1) ?? { meter: 0, schedule: 0 }).wasm)
  const ratios: number[] = []
  const figures = (Object.keys(PROGRAMS) as ProgramName[]).map((name): Figure => {
    const size = smoke ? Math.min(PROGRAMS[name], 12) : PROGRAMS[name]
    const timed = (module: WebAssembly.Module): { readonly ms: number, readonly output: string } => {
      const instance = new Bare(module)
      const start = performance.now()
      const output = instance.run(name, size)
      return { ms: performance.now() - start, output }
    }
    // Enough for the optimising compiler to have taken over.
    for (let i = 0; i < (smoke ? 1 : 8); i++) {
      if (timed(plain).output !== timed(metered).output) throw new Error(`${name} gives something else when it is metered`)
    }
    const [without, with_]: [number[], number[]] = [[], []]
    for (let round = 0; round < rounds; round++) {
      without.push(timed(plain).ms)
      with_.push(timed(metered).ms)
    }
    const ratio = medianRatio(with_, without)
    ratios.push(ratio)
    return { name: `${name}, metered`, value: ratio, unit: `× of ${median(without).toFixed(2)} ms` }
  })
  return { figures, ratio: geometricMean(ratios) }
}

export function geometricMean(values: readonly number[]): number {
  return Math.exp(values.reduce((sum, value) => sum + Math.log(value), 0) / values.length)
}
