/**
 * The meter: makes of a module that anybody wrote one whose every run ends, costs the same on every replica and can be put back. This
 * file is the folder's table of contents; `docs/metering.md` is its prose.
 *
 * - `readModule` refuses what is not on the list (`sections.ts`, `bodies.ts`, `opcodes.ts`, `imports.ts`, `limits.ts`, `refusals.ts`).
 * - `meterModule` rewrites (`analysis.ts`, `emission.ts`, `module.ts`) by a table of costs (`schedule.ts`).
 *
 * Invariants:
 * 1. Both are total: any bytes give a result or a `CMESH_DEPLOY_*` error, in time linear in their number; which of the two follows
 *    from the bytes alone, not from the engine at hand.
 * 2. A rewritten module does what the original does, as long as gas and stack last, NaNs in canonical form and memory within its limit.
 * 3. A call that uses exactly G gas ends with 0 left under the limit G, and fails under G − 1.
 */
import { CMeshError } from '../../../cmtp/errors.ts'
import type { MeterVersions } from '../../../services/contracts/provider.ts'
import { HOST_SIGNATURES } from './imports.ts'
import { METER_LIMITS } from './limits.ts'
import { DEPTH_EXPORT, GAS_EXPORT, REACH_EXPORT, START_EXPORT, rewrite } from './module.ts'
import { METERS } from './schedule.ts'
import type { Meter } from './schedule.ts'
import { readSections } from './sections.ts'
import type { ModuleShape } from './shape.ts'
import type { Reach } from './stores.ts'

export { HOST_FUNCTIONS, HOST_SIGNATURES } from './imports.ts'
export type { HostFunctionName } from './imports.ts'
export { METER_LIMITS } from './limits.ts'
export { HOST_FAULT } from './module.ts'
export { COST_CLASS_MEANINGS } from './opcodes.ts'
export type { CostClass } from './opcodes.ts'
export { METERS } from './schedule.ts'
export type { HostCost, Meter, Schedule } from './schedule.ts'
export { customSections } from './shape.ts'
export type { Reach } from './stores.ts'
export type { ExportShape, GlobalShape, ImportShape, ModuleShape } from './shape.ts'

/** A rewritten module. The host sets gas and stack slots before each call. */
export interface Metered {
  readonly wasm: Uint8Array
  /** A mutable i64: the gas left. Negative after a call that ran out of it; host functions take their costs from it. */
  readonly gasExport: typeof GAS_EXPORT
  /**
   * A mutable i32: the stack slots left. Negative after a call that ran out of them, `HOST_FAULT` after one that failed
   * because the host had no memory left.
   */
  readonly depthExport: typeof DEPTH_EXPORT
  /**
   * A mutable i32: all addresses OR-ed that stores wrote to since it was set to 0, and the ends of what bulk instructions wrote. Says nothing
   * after a call that did not return.
   */
  readonly reachExport: typeof REACH_EXPORT
  /** What stores are not marked for, or reach beyond their marks. */
  readonly reach: Reach
  /** The start function, to be called once on each new instance, before anything else. */
  readonly startExport: typeof START_EXPORT | undefined
  /** Names of the module's own mutable globals: with the memory all that an instance keeps between calls. */
  readonly globals: readonly string[]
  /** Exports that the host looks for, and the mutable globals. */
  readonly exports: number
  /** Functions of the module itself. */
  readonly functions: number
  /** Names of imported functions of `cmesh`. */
  readonly imports: readonly string[]
  /** In pages. */
  readonly memory: { readonly initial: number, readonly maximum: number }
  /** Slots of the largest frame: functions that call nothing use as many without counting them. */
  readonly frameSlots: number
  readonly meter: Meter
}

export interface MeterOptions {
  /** Known meters; default `METERS`. */
  readonly meters?: readonly Meter[]
  /** For tests that show what each rule is for. `false` leaves stack slots uncounted. */
  readonly stack?: boolean
  /** `false` leaves NaNs as the engine makes them. */
  readonly nan?: boolean
  /** `instruction` charges and checks at every instruction instead of every basic block, and marks every store. */
  readonly gas?: 'block' | 'instruction'
  /** Which exports stay, by name: each makes an instance dearer. Default: all. */
  readonly keep?: (name: string) => boolean
}

const MAGIC = [0x00, 0x61, 0x73, 0x6d, 0x01, 0x00, 0x00, 0x00] as const

/**
 * Checks a module against everything that needs no code to run. Throws the `CMESH_DEPLOY_*` error of the first thing that is not
 * allowed, with the function and the byte where it stands. The shape refers to `wasm`, which must not change.
 *
 * The engine's own validation comes first, but a module that fails it is still read: the list knows a better reason than "not valid"
 * for most of them, and the reason must not depend on what the engine at hand happens to know.
 */
export function readModule(wasm: Uint8Array, host: ReadonlyMap<string, string> = HOST_SIGNATURES): ModuleShape {
  if (wasm.length > METER_LIMITS.moduleBytes) {
    throw new CMeshError('CMESH_DEPLOY_SIZE', { bytes: wasm.length, limit: METER_LIMITS.moduleBytes })
  }
  if (MAGIC.some((byte, index) => wasm[index] !== byte)) {
    throw new CMeshError('CMESH_DEPLOY_MAGIC', { reason: 'it does not begin with the eight bytes 00 61 73 6d 01 00 00 00' })
  }
  const valid = WebAssembly.validate(wasm)
  const shape = readSections(wasm, host)
  if (!valid) throw new CMeshError('CMESH_DEPLOY_MALFORMED', { reason: 'the module is read without fault but its code or its types do not validate' })
  return shape
}

/** Rewrites a module. Throws `CMESH_DEPLOY_METER` for versions that are not known, and what `readModule` throws. */
export function meterModule(module: ModuleShape | Uint8Array, versions: MeterVersions, options: MeterOptions = {}): Metered {
  const known = options.meters ?? METERS
  const meter = known.find((entry) => entry.meter === versions.meter && entry.schedule === versions.schedule)
  if (meter === undefined) throw new CMeshError('CMESH_DEPLOY_METER', { asked: named(versions), active: known.map(named).join(', ') })
  const shape = module instanceof Uint8Array ? readModule(module) : module
  const { wasm, globals, exports, frameSlots, reach } = rewrite(shape, {
    schedule: meter.costs, stack: options.stack ?? true, nan: options.nan ?? true, everyInstruction: options.gas === 'instruction',
    keep: options.keep ?? (() => true),
  })
  if (!WebAssembly.validate(wasm)) throw new CMeshError('CMESH_DEPLOY_MALFORMED', { reason: 'its metered form does not validate' })
  return {
    wasm, gasExport: GAS_EXPORT, depthExport: DEPTH_EXPORT, reachExport: REACH_EXPORT, reach, startExport: shape.start === undefined ? undefined : START_EXPORT,
    globals, exports, functions: shape.bodies.length, imports: shape.imports.map(({ name }) => name), memory: shape.memory, frameSlots, meter,
  }
}

function named({ meter, schedule }: MeterVersions): string {
  return `meter ${meter} with schedule ${schedule}`
}
