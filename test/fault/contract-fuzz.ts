/**
 * Runs contracts that nobody wrote, `contract-fuzz.ts <kind> <seed> <count> <file>…`, and prints one line of JSON, a `Fuzzed`. In a process of its
 * own, since what it looks for is also code that never ends: the last line on standard error names the module under way.
 */
import { readFileSync, writeSync } from 'node:fs'
import { CMeshError } from '../../cmtp/errors.ts'
import { HOST_FUNCTIONS, METERS, meterModule } from '../../providers/contracts/meter/index.ts'
import { WasmEngine } from '../../providers/contracts/wasm.ts'
import { abiText } from '../support/contract-module.ts'
import { Draw } from '../support/draw.ts'
import { custom, name, rawModule, u32 } from '../providers/support/raw-module.ts'

export interface Fuzzed {
  /** What was found wrong; nothing, when all is well. */
  readonly wrong: readonly string[]
  /** How often each outcome was met. */
  readonly met: Readonly<Record<string, number>>
}

const GAS = 300_000
const ADDRESS = '0xf00'
const DID = 'did:key:z6MkhaXgBZDvotDkL5257faiztiGiC2QtKLGpbnnEGta2doK'
const METER = METERS.at(-1) ?? { meter: 0, schedule: 0 }

const [kind = '', seed = '0', count = '0', ...files] = process.argv.slice(2)
const draw = new Draw(Number(seed))
const wrong: string[] = []
const met: Record<string, number> = {}
const KINDS: Readonly<Record<string, () => (index: number) => string>> = { endless: () => endless, flipped, hosts: () => hosts }

/** Random control flow, nearly all of it without an end of its own. Each piece of straight code ticks: so often as the gas allows. */
function endless(index: number): string {
  const code = [...Array.from({ length: 1 + draw.below(3) }, () => statement(0, 0)).flat(), 0x0b]
  const wasm = rawModule({
    imports: [[...name('cmesh'), ...name('reglen'), 0, 1]], types: [[0x60, 0, 0], [0x60, 0, 1, 0x7f]],
    bodies: [[1, 1, 0x7f, ...code]], exports: [[...name('run'), 0, 1]],
  })
  const { wasm: metered, gasExport, depthExport } = meterModule(wasm, METER)
  let ticks = 0
  const tick = (): number => ++ticks
  const exports = new WebAssembly.Instance(new WebAssembly.Module(metered), { cmesh: { reglen: tick } }).exports
  const gas = exports[gasExport] as WebAssembly.Global
  gas.value = BigInt(GAS)
  ;(exports[depthExport] as WebAssembly.Global).value = 1_000
  let outcome = 'returned'
  try {
    (exports['run'] as () => void)()
  } catch (error) {
    outcome = error instanceof WebAssembly.RuntimeError ? 'trapped' : 'threw'
    if (outcome === 'threw') wrong.push(`${index}: ${String(error)}`)
  }
  const used = GAS - Number(gas.value)
  if ((outcome === 'trapped') !== (used > GAS)) wrong.push(`${index}: ${outcome} with ${used} gas used`)
  if (ticks > used) wrong.push(`${index}: ${ticks} ticks for ${used} gas`)
  return outcome
}

const TICK = [0x10, 0x00, 0x1a]
/** The next bit of a sequence that the code draws itself. */
const COIN = [0x20, 0x00, 0x41, ...sleb(1_103_515_245), 0x6c, 0x41, ...sleb(12_345), 0x6a, 0x22, 0x00, 0x41, 0x10, 0x76, 0x41, 0x01, 0x71]

/** `labels`: how many blocks, loops and conditions stand around it. */
function statement(labels: number, depth: number): number[] {
  const inside = (): number[] => Array.from({ length: 1 + draw.below(3) }, () => statement(labels + 1, depth + 1)).flat()
  const label = (): number[] => u32(draw.below(labels + 1))
  switch (depth > 5 ? draw.below(5) : draw.below(12)) {
    case 0: return TICK
    case 1: return [...TICK, 0x0c, ...label()]
    case 2: return [...COIN, 0x0d, ...label()]
    case 3: return [...COIN, 0x0e, 0x02, ...label(), ...label(), ...label()]
    case 4: return draw.below(8) === 0 ? [0x0f] : [0x01]
    case 5: case 6: return [0x02, 0x40, ...inside(), 0x0b]
    case 7: return [...COIN, 0x04, 0x40, ...inside(), 0x05, ...inside(), 0x0b]
    case 8: return [...COIN, 0x04, 0x40, ...inside(), 0x0b]
    default: return [0x03, 0x40, ...inside(), ...(draw.below(2) === 0 ? [0x0c, 0x00] : []), 0x0b]
  }
}

/** Modules of compiled contracts with some bits the wrong way round, deployed and called where they are accepted. */
function flipped(): (index: number) => string {
  const modules = files.map(file => readFileSync(file))
  return (index) => {
    const wasm = Uint8Array.from(draw.of(modules))
    for (let flips = 1 + draw.below(3); flips > 0; flips--) {
      const at = draw.below(wasm.length)
      wasm[at] = (wasm[at] as number) ^ (1 << draw.below(8))
    }
    return deployed(index, wasm)
  }
}

/** Host functions one after another with hard arguments. */
function hosts(index: number): string {
  const signatures = Object.entries(HOST_FUNCTIONS)
  const types = [...new Set(signatures.map(([, signature]) => signature))]
  const typeOf = (signature: string): number[] => {
    const [parameters = [], results = []] = signature.split(' -> ').map(each => [...each.matchAll(/i(32|64)/g)].map(([, bits]) => (bits === '32' ? 0x7f : 0x7e)))
    return [0x60, ...u32(parameters.length), ...parameters, ...u32(results.length), ...results]
  }
  const call = (): number[] => {
    const at = draw.below(signatures.length - 1)
    const [parameters = '', result = ''] = (signatures[at]?.[1] ?? '').split(' -> ')
    const args = [...parameters.matchAll(/i(32|64)/g)].flatMap(([, bits]) => (bits === '32' ? [0x41, ...sleb(draw.of(EDGES))] : [0x42, ...sleb(draw.of([0, 1, -1, 50_000]))]))
    return [...args, 0x10, ...u32(at), ...(result === '()' ? [] : [0x1a])]
  }
  const body = [0, ...Array.from({ length: 1 + draw.below(30) }, call).flat(), 0x0b]
  const wasm = rawModule({
    types: [...types.map(typeOf), [0x60, 0, 0]],
    imports: signatures.map(([host, signature]) => [...name('cmesh'), ...name(host), 0, ...u32(types.indexOf(signature))]),
    functions: [types.length], bodies: [body], memory: [1, 1, 1, 4],
    exports: [[...name('memory'), 2, 0], [...name('call_run'), 0, ...u32(signatures.length)]],
    data: [[0, 0x41, 0, 0x0b, ...name(`0xSW:${ADDRESS}:run`)]],
    behind: custom('cmesh.abi', [...Buffer.from(abiText([{ name: 'run' }]))]),
  })
  return deployed(index, wasm)
}

const EDGES = [0, 0, 0, 1, 2, 3, 4, 14, 32, 64, 100, 255, 256, 257, 4_096, 65_472, 65_504, 65_535, 65_536, 65_537, 262_144, 0x7fff_ffff, -0x8000_0000, -1]

/** Deploys a module and calls all it has. */
function deployed(index: number, wasm: Uint8Array): string {
  const engine = new WasmEngine()
  const space = new Map<string, Uint8Array>([['', Uint8Array.of(1)], ['0', Buffer.from('kept')]])
  let functions: readonly string[]
  try {
    functions = engine.install(ADDRESS, wasm, space).functions.map(each => each.name)
  } catch (error) {
    if (error instanceof CMeshError && error.code.startsWith('CMESH_DEPLOY_')) return 'refused'
    wrong.push(`${index}: ${String(error)}`)
    return 'threw'
  }
  let outcome = 'ok'
  for (const each of functions) {
    const before = [...space].toString()
    try {
      const context = { seq: 1, timeMs: 0, caller: DID, origin: DID, seed: new Uint8Array(32) }
      const result = engine.call({ address: ADDRESS, function: each, input: Buffer.from('[]'), view: false, gasLimit: GAS, context })
      if (!result.ok) outcome = result.failure
      if (!result.ok && [...space].toString() !== before) wrong.push(`${index}: ${each} failed and changed state`)
      if (!(result.gas >= 0 && result.gas <= GAS)) wrong.push(`${index}: ${each} took ${result.gas} gas`)
    } catch (error) {
      wrong.push(`${index}: ${each} threw ${String(error)}`)
    }
  }
  engine.close()
  return outcome
}

/** Signed, as in section 5.2.2 of the specification. */
function sleb(value: number): number[] {
  const low = value & 0x7f
  const rest = value >> 7
  const done = (rest === 0 && (low & 0x40) === 0) || (rest === -1 && (low & 0x40) !== 0)
  return done ? [low] : [low | 0x80, ...sleb(rest)]
}

const one = KINDS[kind]?.()
if (one === undefined) throw new Error(`there is no kind ${kind}`)
for (let index = 0; index < Number(count); index++) {
  if (index % 50 === 0) writeSync(2, `${kind} ${index}\n`)
  const outcome = one(index)
  met[outcome] = (met[outcome] ?? 0) + 1
}
process.stdout.write(`${JSON.stringify({ wrong: wrong.slice(0, 10), met } satisfies Fuzzed)}\n`)
