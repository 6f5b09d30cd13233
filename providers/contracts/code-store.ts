/**
 * The code of contracts, checked, metered and compiled, once for however many addresses run it. Code is compiled when it is
 * installed and when another meter comes into force, never at a call; what no address uses any more is forgotten, but for the last
 * few, so that a replacement that fails finds the old code again.
 *
 * Invariant: every code in the store is compiled under the meter in force.
 */
import { createHash } from 'node:crypto'
import { CMeshError } from '../../cmtp/errors.ts'
import type { ContractAbi, FunctionMode, MeterVersions, ModuleReport } from '../../services/contracts/provider.ts'
import { Compilations, exportOf, START_EXPORT, type Compiled, type Imports, type MeterRules } from './compilation.ts'
import type { ContractInstance } from './instance.ts'
import { METERS } from './meter/index.ts'
import type { Meter, Metered, Schedule } from './meter/index.ts'
import type { ContractStop } from './stop.ts'

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
  /** What puts the mutable globals of an instance back, where there are some: it follows from their types, and so from the code alone. */
  readonly ownGlobals: WebAssembly.Module | undefined

  constructor(hash: string, { shape, abi, metered, module, ownGlobals, burden }: Compiled) {
    this.hash = hash
    this.wasm = shape.wasm
    this.abi = abi
    this.functions = abi.functions.map(({ name, mode }, index) => ({ mode, export: exportOf(name), index }))
    this.entries = new Map(abi.functions.map(({ name }, index) => [name, this.functions[index] as CodeFunction]))
    this.scans = shape.imports.some(({ name }) => name === 'scan')
    this.hasStartExport = shape.exports.has(START_EXPORT)
    this.ownGlobals = ownGlobals
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

export interface CodeStoreOptions {
  readonly imports: Imports
  /** What can be run, the newest last. Default: all that this build knows. */
  readonly meters?: readonly Meter[] | undefined
  readonly rules?: MeterRules | undefined
  /** Default: the store's own. */
  readonly compilations?: Compilations | undefined
}

export class CodeStore {
  readonly #options: { readonly imports: Imports, readonly meters: readonly Meter[], readonly rules: MeterRules }
  readonly #compilations: Compilations
  readonly #codes = new Map<string, ContractCode>()
  /** Without an address, the one that lost its last first. */
  readonly #unused = new Set<ContractCode>()
  #meter: Meter

  constructor({ imports, meters = METERS, rules = {}, compilations = new Compilations() }: CodeStoreOptions) {
    this.#options = { imports, meters, rules }
    this.#compilations = compilations
    this.#meter = meters.at(-1) as Meter
  }

  get meters(): readonly MeterVersions[] {
    return this.#options.meters.map(versionsOf)
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
    const { shape, abi, metered } = this.#compile(hashOf(wasm), wasm, this.#meter)
    return {
      abi, bytes: wasm.length, meteredBytes: metered.wasm.length, functions: shape.bodies.length,
      imports: shape.imports.map(({ module, name }) => `${module}.${name}`),
    }
  }

  /** The code of a module, for one address more. Throws `CMESH_DEPLOY_*`. */
  take(wasm: Uint8Array): ContractCode {
    const hash = hashOf(wasm)
    let code = this.#codes.get(hash)
    if (code === undefined) this.#codes.set(hash, code = new ContractCode(hash, this.#compile(hash, wasm, this.#meter)))
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
    const meter = this.#options.meters.find((known) => known.meter === versions.meter && known.schedule === versions.schedule)
    if (meter === undefined) throw new CMeshError('CMESH_DEPLOY_METER', { asked: named(versions), active: named(this.#meter) })
    if (meter === this.#meter) return false
    const compiled = [...this.#codes.values()].map((code) => [code, this.#compile(code.hash, code.wasm, meter)] as const)
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

  #compile(hash: string, wasm: Uint8Array, meter: Meter): Compiled {
    return this.#compilations.of(hash, wasm, meter, this.#options)
  }
}

function hashOf(wasm: Uint8Array): string {
  return createHash('sha256').update(wasm).digest('hex')
}

function versionsOf({ meter, schedule }: Meter): MeterVersions {
  return { meter, schedule }
}

function named({ meter, schedule }: MeterVersions): string {
  return `meter ${meter}, schedule ${schedule}`
}
