/**
 * Whether gas is time: nanoseconds a gas takes in a loop of each group of instructions. Taken twice for each: in a loop that was entered cold,
 * which V8 leaves in its first tier until it ends, and in one whose code is optimised. Of the rounds the fastest counts, since what
 * interrupts a loop is no cost of its instruction; of the two tiers the slower.
 */
import { METERS, meterModule } from '../../providers/contracts/meter/index.ts'
import { median } from '../harness.ts'
import { GROUP_NAMES, GROUPS_TEXT } from './groups.ts'
import { assemble } from './wat.ts'

export interface Calibration {
  readonly groups: number
  /** Over all groups. */
  readonly medianNs: number
  readonly worst: { readonly name: string, readonly ns: number }
  readonly best: { readonly name: string, readonly ns: number }
}

export async function calibrate(rounds: number, gas: number): Promise<Calibration> {
  const times = GROUP_NAMES.map((): { readonly cold: number[], readonly hot: number[] } => ({ cold: [], hot: [] }))
  for (let round = 0; round < rounds; round++) {
    // V8 knows a module again by its bytes, and its compiled code with it: another data segment makes another module.
    const wasm = await assemble(`${GROUPS_TEXT} (data (i32.const 5008) "${String(round).padStart(4, '0')}")`, { host: false })
    const module = new WebAssembly.Module(meterModule(wasm, METERS.at(-1) ?? { meter: 0, schedule: 0 }).wasm)
    GROUP_NAMES.forEach((_, index) => {
      times[index]?.cold.push(nsPerGas(module, index, gas))
      // A short call has the code compiled by both tiers.
      for (let i = 0; i < 3; i++) nsPerGas(module, index, gas / 20)
      times[index]?.hot.push(nsPerGas(module, index, gas))
    })
  }
  const ranked = times.map(({ cold, hot }, index) => ({ name: GROUP_NAMES[index] ?? '', ns: Math.max(Math.min(...cold), Math.min(...hot)) })).sort((a, b) => a.ns - b.ns)
  const [best, worst] = [ranked[0], ranked.at(-1)]
  if (best === undefined || worst === undefined) throw new Error('there is no group of instructions')
  return { groups: ranked.length, medianNs: median(ranked.map(({ ns }) => ns)), worst, best }
}

function nsPerGas(module: WebAssembly.Module, index: number, gas: number): number {
  const exports = new WebAssembly.Instance(module).exports as unknown as {
    readonly __cm_gas: WebAssembly.Global, readonly __cm_depth: WebAssembly.Global, readonly [name: `call_${string}`]: () => void
  }
  exports.__cm_gas.value = BigInt(Math.round(gas))
  exports.__cm_depth.value = 40_000
  const start = performance.now()
  try {
    exports[`call_group_${index}`]?.()
  } catch (error) {
    if (!(error instanceof WebAssembly.RuntimeError) || exports.__cm_gas.value >= 0n) throw error
  }
  return (performance.now() - start) * 1e6 / gas
}
