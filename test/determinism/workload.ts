/**
 * What every engine is given to run: contracts and a list of calls, drawn from one seed and shuffled, so that code is met cold and
 * hot. It is made once, by the engine that runs the tests, and handed to the others as a file: nothing in it is worked out twice.
 */
import { METERS } from '../../providers/contracts/meter/index.ts'
import { Draw } from '../support/draw.ts'
import { LIBRARY, MACHINE, MACHINE_NAMES, NEIGHBOUR, PROXY, RECURSION_NAMES, TRAP_NAMES } from './programs.ts'

export interface WorkloadCall {
  readonly address: string
  readonly function: string
  readonly input: string
  readonly view: boolean
  readonly gasLimit: number
}

/** As it stands in the file; modules in base64. */
export interface Workload {
  readonly contracts: readonly { readonly address: string, readonly module: string }[]
  readonly proxies: readonly { readonly address: string, readonly target: string }[]
  readonly calls: readonly WorkloadCall[]
}

export type Modules = Readonly<Record<'machine' | 'neighbour' | 'library', Uint8Array>>

/** Gas of a transaction under the default limits. */
const PLENTY = 20_000_000
const FOR_EVER = 0xffff_ffffn
/** What entering a contract of one page costs: below it, nothing of the contract runs. */
const ENTRY = METERS.map(({ costs: { contract } }) => contract.base + contract.page).at(-1) ?? 0

/** Bits that are hard as integers, as doubles, or as singles in the lower half. */
const HARD: readonly bigint[] = [
  0n, 1n, 2n, 31n, 63n, 64n, 0x7fn, 0x80n,
  0x8000n, 0x7fff_ffffn, 0x8000_0000n, 0xffff_ffffn, 0x7fff_ffff_ffff_ffffn, 0x8000_0000_0000_0000n, 0xffff_ffff_ffff_ffffn,
  // Infinities and NaNs: quiet, signalling, of either sign, with payloads; doubles, then singles.
  0x7ff0_0000_0000_0000n, 0xfff0_0000_0000_0000n, 0x7ff8_0000_0000_0000n, 0xfff8_0000_0000_0000n,
  0x7ff8_0000_0000_0bb1n, 0xfff8_0000_0000_0cc2n, 0x7ff0_0000_0000_0001n,
  0xfff4_0000_0000_0dd3n, 0x7f80_0000n, 0xff80_0000n, 0x7fc0_0000n, 0xffc0_0000n, 0x7fc0_0aa1n, 0xffc0_0bb2n, 0x7f80_0001n, 0xffa0_0cc3n,
  // Ordinary numbers, the smallest, and those around the ends of the integers.
  0x3ff0_0000_0000_0000n, 0xbff8_0000_0000_0000n, 0x0000_0000_0000_0001n, 0x000f_ffff_ffff_ffffn,
  0x41df_ffff_ffc0_0000n, 0x41e0_0000_0000_0000n, 0xc1e0_0000_0020_0000n,
  0x43df_ffff_ffff_ffffn, 0x43e0_0000_0000_0000n, 0xc3e0_0000_0000_0000n, 0x3f80_0000n, 0xbf40_0000n, 0x4f00_0000n, 0xcf00_0000n, 0x5f00_0000n,
]

/** Bits, hard ones mostly. */
function bits(draw: Draw): bigint {
  return draw.below(3) > 0 ? draw.of(HARD) : (BigInt(draw.below(0x1_0000_0000)) << 32n) | BigInt(draw.below(0x1_0000_0000))
}

/** Everything at once. `scale`: 1 takes an engine about a second. */
export function workload(modules: Modules, seed: number, scale: number): Workload {
  return workloadOf(modules, callsOf(new Draw(seed), scale))
}

/** Recursions of which it is the engine's native stack that says whether they end, where nothing else does. */
export function deepWorkload(modules: Modules): Workload {
  const levels = Array.from({ length: 10 }, (_, i) => 100 * 2 ** i)
  return workloadOf(modules, RECURSION_NAMES.flatMap(name => levels.map(each => machineCall(`recurse_${name}`, [each], 100_000_000))))
}

/** Arithmetic that makes NaNs, of constants and of operands that are NaNs themselves. */
export function nanWorkload(modules: Modules, seed: number): Workload {
  const draw = new Draw(seed)
  const calls = Array.from({ length: 40 }, () => ['floats', 'constants', 'mix'].map(name => machineCall(name, [bits(draw), bits(draw), 2_000], PLENTY)))
  return workloadOf(modules, calls.flat())
}

function workloadOf(modules: Modules, calls: readonly WorkloadCall[]): Workload {
  const base64 = (bytes: Uint8Array): string => Buffer.from(bytes).toString('base64')
  return {
    contracts: [
      { address: MACHINE, module: base64(modules.machine) },
      { address: NEIGHBOUR, module: base64(modules.neighbour) },
      { address: LIBRARY, module: base64(modules.library) },
    ],
    proxies: [{ address: PROXY, target: MACHINE }],
    calls,
  }
}

/** Every function has arguments enough to read, whatever it reads. */
function machineCall(name: string, args: readonly (bigint | number)[], gasLimit: number, address = MACHINE): WorkloadCall {
  const texts = Array.from({ length: 6 }, (_, i) => BigInt.asUintN(64, BigInt(args[i] ?? 0)).toString(16).padStart(16, '0'))
  return { address, function: name, input: JSON.stringify(texts), view: name === 'read' || name === 'write_in_view', gasLimit }
}

function callsOf(draw: Draw, scale: number): WorkloadCall[] {
  const calls: WorkloadCall[] = []
  const machine = (name: string, args: readonly (bigint | number)[], gasLimit = PLENTY): void => {
    calls.push(machineCall(name, args, gasLimit, draw.below(4) === 0 ? PROXY : MACHINE))
  }
  const times = (count: number, make: (index: number) => void): void => {
    for (let i = 0; i < Math.ceil(count * scale); i++) make(i)
  }

  for (const name of RECURSION_NAMES) {
    for (const levels of [0, 1, 50, 400, FOR_EVER]) machine(`recurse_${name}`, [levels])
    times(3, () => { machine(`recurse_${name}`, [draw.below(2_000)], ENTRY + draw.below(200_000)) })
    times(2, () => { machine(`recurse_${name}`, [FOR_EVER], ENTRY + draw.below(2_000_000)) })
  }
  for (const name of TRAP_NAMES) times(6, () => { machine(name, [bits(draw), bits(draw)]) })
  for (const name of ['integers', 'floats', 'constants']) times(40, () => { machine(name, [bits(draw), bits(draw)]) })
  times(10, () => { machine('mix', [bits(draw), bits(draw), 1 + draw.below(20_000)]) })
  // Gas that runs out at every place of a loop, then at any of a long one.
  times(600, (i) => { machine('spin', [12], ENTRY - 20 + i * 7) })
  times(6, () => { machine('spin', [FOR_EVER], ENTRY + draw.below(PLENTY / 4)) })
  times(10, () => { machine('spin', [draw.below(20_000)], ENTRY + draw.below(400_000)) })
  times(14, () => { machine('grow', [1 + draw.below(20), draw.of([0, 1, 3, 40, 64, 65_536, FOR_EVER])]) })
  times(30, () => { machine('bulk', [draw.below(70_000), draw.below(draw.of([200, 70_000])), draw.below(70_000)]) })
  times(20, () => { machine('peek', [draw.of([0, 3_000, 65_520, 65_528, 65_536, FOR_EVER, 0x8000_0000]), bits(draw)]) })
  times(8, () => { machine('indirect', [draw.below(6)]) })
  times(20, () => { machine('host', [draw.below(70_000), draw.below(300), draw.below(70_000), draw.below(70_000)]) })
  for (const name of ['dead', 'refuse', 'read', 'write_in_view', 'context', 'crypto', 'post', 'no_such_function']) times(8, () => { machine(name, [draw.below(20), bits(draw)]) })
  times(40, () => { machine('fill_keys', [draw.below(60), bits(draw)]) })
  times(1, () => { machine('fill_keys', [8_000, bits(draw)]) })
  times(40, () => { machine('scan_keys', [bits(draw), bits(draw), draw.below(4), draw.below(4), draw.below(300), draw.below(5)]) })
  times(20, () => { machine('nest', [draw.below(4), bits(draw)], draw.of([PLENTY, 1_000_000, 300_000, 100_000])) })
  times(40, () => { machine('ask', [draw.below(6), draw.of([0n, 1n, 5_000n, 100_000n, -1n])], draw.of([2_000_000, 200_000, 80_000])) })
  // Every function, out of gas anywhere.
  times(300, () => { machine(draw.of(MACHINE_NAMES), [draw.below(100), bits(draw), draw.below(100)], ENTRY + draw.below(draw.of([300, 3_000, 30_000]))) })
  times(6, () => { calls.push(library('collect', `[${1 + draw.below(400)},"${bits(draw)}"]`)) })
  times(6, () => { calls.push(library('curve', `[${1 + draw.below(300)},"${bits(draw)}"]`)) })
  return draw.shuffle(calls)
}

function library(name: string, input: string): WorkloadCall {
  return { address: LIBRARY, function: name, input, view: false, gasLimit: PLENTY }
}
