/**
 * What a module may ask for, in one record; `docs/metering.md` documents it and a test holds the two equal. Each bound keeps the
 * work of checking, rewriting and compiling a hostile module linear in its size, or an instance within what a node can afford.
 */
import { LIMITS } from '../../../cmtp/limits.ts'

export const METER_LIMITS = Object.freeze({
  /** Largest module in bytes. */
  moduleBytes: LIMITS.contractBytes,
  /** Largest rewritten module in bytes (1 MiB), what notes how far its stores reach left out. Ordinary code grows to about twice its size. */
  meteredBytes: 1_048_576,
  /** Most function types. */
  types: 1_024,
  /** Most parameters of one function. */
  parameters: 64,
  /** Most imported functions. */
  imports: 64,
  /** Most functions of the module itself. */
  functions: 4_096,
  /** Largest function in bytes, its locals included (64 KiB): bounds how far code runs between two checks of the gas. */
  functionBytes: 65_536,
  /** Most locals of one function, its parameters not counted. */
  locals: 1_024,
  /** Deepest nesting of blocks in one function. */
  nesting: 256,
  /** Most targets of one `br_table`, the default not counted. */
  branchTargets: 1_024,
  /** Most stack slots one frame may take: parameters, locals and operands of 8 bytes. */
  frameSlots: 4_096,
  /** Most globals. */
  globals: 512,
  /** Most exports. */
  exports: 1_024,
  /** Longest name of an export or import in bytes. */
  nameBytes: 256,
  /** Most elements of the table. */
  tableElements: 4_096,
  /** Most element segments. */
  elementSegments: 256,
  /** Most functions named by element segments together. */
  elements: 16_384,
  /** Most data segments. */
  dataSegments: 1_024,
  /** Most memory of an instance, in pages of 64 KiB (4 MiB). */
  memoryPages: 64,
  /** Most custom sections. */
  customSections: 64,
})
