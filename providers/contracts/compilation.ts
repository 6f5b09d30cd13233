/**
 * A module on its way to being run: checked, metered, compiled. What that comes to follows from the bytes, the meter and its rules alone,
 * so the last few are kept by these: a deployment looks at a module and then installs it, and in tests every sandbox installs the same.
 */
import { setFlagsFromString } from 'node:v8'
import { LRUCache } from 'lru-cache'
import { CMeshError } from '../../cmtp/errors.ts'
import type { ContractAbi } from '../../services/contracts/provider.ts'
import { ABI_SECTION, parseAbi } from './abi.ts'
import { customSections, meterModule, readModule } from './meter/index.ts'
import type { Meter, Metered, MeterOptions, ModuleShape, Schedule } from './meter/index.ts'
import { ownGlobalsModule } from './own-globals.ts'

/** An author may export this: it runs before each call as if the instance were new, like a start section. */
export const START_EXPORT = '_start'
const PROCEDURE = '() -> ()'

/** What the meter leaves out. */
export type MeterRules = Pick<MeterOptions, 'stack' | 'nan'>

export type Imports = ConstructorParameters<typeof WebAssembly.Instance>[1]

export interface Compiled extends Inspected {
  readonly metered: Metered
  readonly module: WebAssembly.Module
  /** What puts the mutable globals of its instances back, where it has some. */
  readonly ownGlobals: WebAssembly.Module | undefined
  /** Gas for what an instance is made of, beyond what every call pays. */
  readonly burden: number
}

/** Modules kept. */
const KEPT = 16

export class Compilations {
  readonly #kept = new LRUCache<string, Compiled>({ max: KEPT })

  constructor() {
    // V8 would compile each function at its first call, at the cost of whoever makes that call.
    setFlagsFromString('--no-wasm-lazy-compilation')
  }

  /** `hash`: SHA-256 of `wasm`, whose bytes must not change. Throws the `CMESH_DEPLOY_*` error that says what to mend. */
  of(hash: string, wasm: Uint8Array, meter: Meter, options: CompileOptions): Compiled {
    const key = [hash, meter.meter, meter.schedule, options.rules.stack, options.rules.nan].join(' ')
    const kept = this.#kept.get(key)
    // A test may make up a meter of its own: there the versions do not name it.
    if (kept?.metered.meter === meter) return kept
    const compiled = compile(wasm, meter, options)
    this.#kept.set(key, compiled)
    return compiled
  }
}

export interface CompileOptions {
  /** What modules may ask of the host. */
  readonly imports: Imports
  /** All that the engine knows. */
  readonly meters: readonly Meter[]
  readonly rules: MeterRules
}

function compile(wasm: Uint8Array, meter: Meter, { imports, meters, rules }: CompileOptions): Compiled {
  const { shape, abi } = inspectModule(wasm)
  const metered = meterModule(shape, meter, { ...rules, meters, keep: isWanted })
  const module = new WebAssembly.Module(metered.wasm)
  try {
    // Runs no code, since there is no start section: only segments can fail.
    new WebAssembly.Instance(module, imports)
  } catch (thrown) {
    if (!(thrown instanceof WebAssembly.RuntimeError)) throw thrown
    throw new CMeshError('CMESH_DEPLOY_MALFORMED', { reason: 'a segment does not fit into its memory or table' })
  }
  const globals = shape.globals.filter(({ mutable }) => mutable).map(({ type }) => type)
  const ownGlobals = globals.length === 0 ? undefined : ownGlobalsModule(globals)
  return { shape, abi, metered, module, ownGlobals, burden: burdenOf(shape, metered, meter.costs) }
}

/** What making and putting back an instance takes beyond an ordinary one, whichever of the two a call comes to. */
function burdenOf({ elements }: ModuleShape, { exports, globals }: Metered, { contract }: Schedule): number {
  const beyond = (count: number, { free, each }: { readonly free: number, readonly each: number }): number => Math.max(0, count - free) * each
  return beyond(exports, contract.exports) + beyond(globals.length, contract.globals) + beyond(elements, contract.elements)
}

interface Inspected {
  readonly shape: ModuleShape
  readonly abi: ContractAbi
}

/** Throws the `CMESH_DEPLOY_*` error that says what to mend. */
function inspectModule(wasm: Uint8Array): Inspected {
  const shape = readModule(wasm)
  const [section, another] = customSections(shape, ABI_SECTION)
  if (section === undefined || another !== undefined) {
    throw new CMeshError('CMESH_DEPLOY_ABI', { reason: `there is ${section ? 'more than one' : 'no'} section ${ABI_SECTION}` })
  }
  if (shape.exports.get('memory')?.kind !== 'memory') throw missing('memory', 'the memory is not exported under this name')
  const abi = parseAbi(section)
  for (const { name } of abi.functions) checkProcedure(shape, exportOf(name))
  if (shape.exports.has(START_EXPORT)) checkProcedure(shape, START_EXPORT)
  return { shape, abi }
}

function checkProcedure({ exports }: ModuleShape, name: string): void {
  const found = exports.get(name)
  if (found?.kind !== 'function') throw missing(name, 'there is no such function')
  if (found.signature !== PROCEDURE) throw missing(name, `it is ${found.signature} instead of ${PROCEDURE}`)
}

function missing(name: string, reason: string): CMeshError {
  return new CMeshError('CMESH_DEPLOY_EXPORT', { export: name, reason })
}

/** What the host looks for. */
function isWanted(name: string): boolean {
  return name === 'memory' || name === START_EXPORT || name.startsWith(exportOf(''))
}

/** The export behind a function of the ABI. */
export function exportOf(name: string): string {
  return `call_${name}`
}
