/**
 * The code of contracts, checked, metered and compiled, once for however many addresses run it. Code is compiled when it is
 * installed and when another meter comes into force, never at a call; what no address uses any more is forgotten, but for the last
 * few, so that a replacement that fails finds the old code again.
 *
 * Invariant: every code in the store is compiled under the meter in force.
 */
import { createHash } from 'node:crypto'
import { setFlagsFromString } from 'node:v8'
import { CMeshError } from '../../cmtp/errors.ts'
import type { ContractAbi, FunctionMode, MeterVersions, ModuleReport } from '../../services/contracts/provider.ts'
import { ABI_SECTION, parseAbi } from './abi.ts'
import type { ContractInstance } from './instance.ts'
import { customSections, METERS, meterModule, readModule } from './meter/index.ts'
import type { Meter, Metered, MeterOptions, ModuleShape, Schedule } from './meter/index.ts'
import type { ContractStop } from './stop.ts'

/** An author may export this: it runs before each call as if the instance were new, like a start section. */
const START_EXPORT = '_start'
const PROCEDURE = '() -> ()'

export interface CodeFunction {
  readonly mode: FunctionMode
  readonly export: string
  /** Its place in `ContractCode.functions`. */
  readonly index: number
}

/** How the start of a module ended, wherever and whenever it runs. */
export interface StartOutcome {
  readonly gas: number
  readonly failure: ContractStop | undefined
  /** Pages of memory that a call begins with. */
  readonly pages: number
  /** Whether an instance can be put back between calls; where it cannot, every call takes a new one. */
  readonly kept: boolean
}

export class ContractCode {
  readonly hash: string
  readonly wasm: Uint8Array
  readonly abi: ContractAbi
  readonly functions: readonly CodeFunction[]
  readonly entries: ReadonlyMap<string, CodeFunction>
  /** It imports `scan`: the spaces it runs on keep their keys in order. */
  readonly scans: boolean
  readonly hasStartExport: boolean
  /** Instances that wait for their next call. */
  readonly idle: ContractInstance[] = []
  /** How many addresses run it. */
  uses = 0
  metered: Metered
  module: WebAssembly.Module
  /** Gas for what an instance is made of, beyond what every call pays. */
  burden: number
  /** Known once an instance was made, which is when it is installed. */
  start: StartOutcome | undefined
  /** The memory that a call begins with, known like `start`. */
  content: WeakRef<Uint8Array> | undefined

  constructor(hash: string, { shape, abi }: Inspected, { metered, module, burden }: Compiled) {
    this.hash = hash
    this.wasm = shape.wasm
    this.abi = abi
    this.functions = abi.functions.map(({ name, mode }, index) => ({ mode, export: exportOf(name), index }))
    this.entries = new Map(abi.functions.map(({ name }, index) => [name, this.functions[index] as CodeFunction]))
    this.scans = shape.imports.some(({ name }) => name === 'scan')
    this.hasStartExport = shape.exports.has(START_EXPORT)
    this.metered = metered
    this.module = module
    this.burden = burden
  }

  /** Exports that make up the start, in the order they run in. */
  get starts(): readonly string[] {
    const { startExport } = this.metered
    return [...(startExport === undefined ? [] : [startExport]), ...(this.hasStartExport ? [START_EXPORT] : [])]
  }
}

/** Codes without an address that are kept. */
const UNUSED = 16

/** What the meter leaves out. */
export type MeterRules = Pick<MeterOptions, 'stack' | 'nan'>

export type Imports = ConstructorParameters<typeof WebAssembly.Instance>[1]

export class CodeStore {
  readonly #imports: Imports
  readonly #meters: readonly Meter[]
  readonly #rules: MeterRules
  readonly #codes = new Map<string, ContractCode>()
  /** Without an address, the one that lost its last first. */
  readonly #unused = new Set<ContractCode>()
  #meter: Meter

  constructor(imports: Imports, meters: readonly Meter[] = METERS, rules: MeterRules = {}) {
    // V8 would compile each function at its first call, at the cost of whoever makes that call.
    setFlagsFromString('--no-wasm-lazy-compilation')
    this.#imports = imports
    this.#meters = meters
    this.#rules = rules
    this.#meter = meters.at(-1) as Meter
  }

  get meters(): readonly MeterVersions[] {
    return this.#meters.map(versionsOf)
  }

  get meter(): MeterVersions {
    return versionsOf(this.#meter)
  }

  get costs(): Schedule {
    return this.#meter.costs
  }

  /** Compiled codes held. */
  get size(): number {
    return this.#codes.size
  }

  inspect(wasm: Uint8Array): ModuleReport {
    const inspected = inspectModule(wasm)
    const { metered } = this.#compile(inspected.shape, this.#meter)
    const { shape, abi } = inspected
    return {
      abi, bytes: wasm.length, meteredBytes: metered.wasm.length, functions: shape.bodies.length,
      imports: shape.imports.map(({ module, name }) => `${module}.${name}`),
    }
  }

  /** The code of a module, for one address more. Throws `CMESH_DEPLOY_*`. */
  take(wasm: Uint8Array): ContractCode {
    const hash = createHash('sha256').update(wasm).digest('hex')
    const code = this.#codes.get(hash) ?? this.#add(hash, wasm)
    code.uses++
    this.#unused.delete(code)
    return code
  }

  /** One address fewer runs the code. Gives what was forgotten for it. */
  release(code: ContractCode): ContractCode | undefined {
    code.uses--
    if (code.uses > 0) return undefined
    this.#unused.add(code)
    if (this.#unused.size <= UNUSED) return undefined
    const [oldest] = this.#unused as Iterable<ContractCode> as [ContractCode]
    this.#unused.delete(oldest)
    this.#codes.delete(oldest.hash)
    return oldest
  }

  /**
   * Compiles everything anew, unless these are in force already; gives which it was. Throws `CMESH_DEPLOY_METER`, and whatever the new
   * meter refuses, and changes nothing then.
   */
  use(versions: MeterVersions): boolean {
    const meter = this.#meters.find((known) => known.meter === versions.meter && known.schedule === versions.schedule)
    if (meter === undefined) throw new CMeshError('CMESH_DEPLOY_METER', { asked: named(versions), active: named(this.#meter) })
    if (meter === this.#meter) return false
    const compiled = [...this.#codes.values()].map((code) => [code, this.#compile(readModule(code.wasm), meter)] as const)
    this.#meter = meter
    for (const [code, { metered, module, burden }] of compiled) {
      code.metered = metered
      code.module = module
      code.burden = burden
      code.start = undefined
      code.content = undefined
    }
    return true
  }

  clear(): void {
    this.#codes.clear()
    this.#unused.clear()
  }

  #add(hash: string, wasm: Uint8Array): ContractCode {
    const inspected = inspectModule(wasm)
    const code = new ContractCode(hash, inspected, this.#compile(inspected.shape, this.#meter))
    this.#codes.set(hash, code)
    return code
  }

  #compile(shape: ModuleShape, meter: Meter): Compiled {
    const metered = meterModule(shape, meter, { ...this.#rules, meters: this.#meters, keep: isWanted })
    const module = new WebAssembly.Module(metered.wasm)
    try {
      // Runs no code, since there is no start section: only segments can fail.
      new WebAssembly.Instance(module, this.#imports)
    } catch (thrown) {
      if (!(thrown instanceof WebAssembly.RuntimeError)) throw thrown
      throw new CMeshError('CMESH_DEPLOY_MALFORMED', { reason: 'a segment does not fit into its memory or table' })
    }
    return { metered, module, burden: burdenOf(shape, metered, meter.costs) }
  }
}

interface Compiled {
  readonly metered: Metered
  readonly module: WebAssembly.Module
  readonly burden: number
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
function exportOf(name: string): string {
  return `call_${name}`
}

function versionsOf({ meter, schedule }: Meter): MeterVersions {
  return { meter, schedule }
}

function named({ meter, schedule }: MeterVersions): string {
  return `meter ${meter}, schedule ${schedule}`
}
