/**
 * What each thing costs in gas. A schedule never changes once it was in force anywhere: a new cost is a new version, which takes
 * effect at one sequence of the log. `docs/metering.md` shows the newest and is held equal by a test.
 *
 * The unit is about one simple instruction, some 0.5 ns on the reference machine; a host function costs about what it takes.
 */
import type { MeterVersions } from '../../../services/contracts/provider.ts'
import type { CostClass } from './opcodes.ts'
import type { HostFunctionName } from './imports.ts'

/** Cost of one call of a host function. */
export interface HostCost {
  readonly base: number
  /** For each byte that it takes from or hands to the contract. */
  readonly byte: number
  /** For each entry of a list that it hands over. */
  readonly entry?: number
}

/** What costs `each`, beyond the first `free`. */
export interface Share {
  readonly free: number
  readonly each: number
}

export interface Schedule {
  readonly version: number
  /** By class of instruction; `opcodes.ts` says which instruction is of which class. */
  readonly instruction: Readonly<Record<CostClass, number>>
  /** On entering a function: `base`, and 1 for each `localsPerGas` locals, parameters included. */
  readonly entry: { readonly base: number, readonly localsPerGas: number }
  /** A memory that grows, be it by nothing: `base`, and `page` for each page of 64 KiB, beside the instruction. */
  readonly grow: { readonly base: number, readonly page: number }
  /** Bytes of a bulk memory instruction that cost 1, beside the instruction; a power of two. */
  readonly bulkBytesPerGas: number
  /**
   * On entering a contract, from outside or by a nested call: `base`, `page` for each page of memory that its instance starts with, and for
   * each export, mutable global and table element beyond what is `free`.
   */
  readonly contract: {
    readonly base: number, readonly page: number,
    readonly exports: Share, readonly globals: Share, readonly elements: Share,
  }
  readonly host: Readonly<Record<HostFunctionName, HostCost>>
}

const SCHEDULE_1: Schedule = {
  version: 1,
  // Filling nothing in a page that nobody touched takes a processor hundreds of nanoseconds: hence `bulk`.
  instruction: {
    free: 0, loop: 1, branch: 1, branchTable: 4, call: 5, callIndirect: 12,
    constant: 1, local: 1, global: 2, select: 2, load: 10, store: 4, memorySize: 3, memoryGrow: 400, bulk: 400,
    integer: 1, multiply: 2, divide: 12, count: 2,
    float: 3, floatMove: 2, floatCompare: 2, floatRound: 4, floatDivide: 8, floatRoot: 10, convert: 4, truncate: 5,
  },
  entry: { base: 2, localsPerGas: 4 },
  // An instance whose memory grew is not used again.
  grow: { base: 200_000, page: 32_768 },
  bulkBytesPerGas: 8,
  // Each may need a new instance, of which every page costs the system a fault, whatever the pool holds at the moment.
  contract: {
    base: 10_000, page: 20_000,
    exports: { free: 64, each: 4_000 }, globals: { free: 32, each: 4_000 }, elements: { free: 256, each: 100 },
  },
  host: {
    input: { base: 100, byte: 1 }, reg: { base: 100, byte: 1 }, reglen: { base: 100, byte: 0 }, output: { base: 100, byte: 1 },
    get: { base: 800, byte: 4 }, set: { base: 1_000, byte: 4 }, del: { base: 1_000, byte: 4 },
    scan: { base: 4_000, byte: 2, entry: 500 }, emit: { base: 1_000, byte: 4 },
    // An address of 4,096 bytes is parsed to its end before it is refused, and whoever calls many contracts by turns makes instances of all.
    call: { base: 100_000, byte: 32 }, send: { base: 10_000, byte: 8 },
    ctx: { base: 100, byte: 0 }, ctxs: { base: 250, byte: 1 },
    sha256: { base: 4_000, byte: 8 }, verify: { base: 400_000, byte: 8 }, seed: { base: 4_000, byte: 0 },
    fail: { base: 100, byte: 1 },
  },
}

/** What this build can run: a version of the rewriter with a table of costs. The newest last. */
export interface Meter extends MeterVersions {
  readonly costs: Schedule
}

export const METERS: readonly Meter[] = [{ meter: 1, schedule: 1, costs: SCHEDULE_1 }]
