/**
 * Why a module is refused: the coded errors of the meter, and the hints that say what the author can write instead. Texts depend on the
 * module alone, never on the engine at hand, since a refusal is recorded in the log like any other outcome.
 */
import { CMeshError } from '../../../cmtp/errors.ts'
import { importHint } from './imports.ts'

/** Codes whose refusal says where, why and what to do. */
export type PlacedCode = `CMESH_DEPLOY_${'SECTION' | 'TYPE' | 'MEMORY' | 'TABLE' | 'GLOBAL' | 'OPCODE' | 'LIMIT'}`

export function malformed(offset: number, reason: string): never {
  throw new CMeshError('CMESH_DEPLOY_MALFORMED', { reason: `the module cannot be read at byte ${offset}: ${reason}` })
}

/** `where`: such as `function 3 (call_add), byte 412`. */
export function refuse(code: PlacedCode, where: string, reason: string, hint = ''): never {
  throw new CMeshError(code, { where, reason, hint: hint === '' ? '' : ` ${hint}` })
}

export function refuseImport(path: string, signature: string | undefined, expected: string | undefined): never {
  const shown = expected !== undefined && signature !== undefined ? `${path} ${signature}` : path
  throw new CMeshError('CMESH_DEPLOY_IMPORT', { import: shown, hint: ` ${importHint(path, expected)}` })
}

export function refuseExport(name: string, reason: string): never {
  throw new CMeshError('CMESH_DEPLOY_EXPORT', { export: name, reason })
}

export interface Feature {
  readonly name: string
  readonly hint: string
}

export const FEATURES = {
  exceptions: {
    name: 'exception handling', hint: 'There are no exceptions: `revert` ends the call, a result type reports a failure (no `try`, `catch` or `throw`).',
  },
  tailCalls: { name: 'a tail call', hint: 'Compile without tail calls (`-mno-tail-call`); a loop does the same.' },
  references: {
    name: 'a reference type', hint: 'Compile without reference types (`-mno-reference-types`); a function is called through its index in the table.',
  },
  tables: { name: 'an instruction on tables', hint: 'The table keeps what the module puts there at the start; choose among functions by their index.' },
  garbage: { name: 'garbage-collected types', hint: 'Compile for linear memory (in AssemblyScript `--runtime stub`).' },
  simd: {
    name: 'SIMD', hint: 'Compile without SIMD (AssemblyScript: `--disable simd`; clang and Rust: `-mno-simd128`, `-C target-feature=-simd128`).',
  },
  threads: { name: 'threads', hint: 'A contract runs alone: compile without threads and atomics (no `--enable threads`, no shared memory).' },
  typedSelect: { name: 'a typed select', hint: 'Compile without reference types (`-mno-reference-types`).' },
  multiValue: { name: 'multiple values', hint: 'A block or function gives at most one value: compile without multi-value (`-mno-multivalue`).' },
  dataDrop: { name: '`data.drop`', hint: 'A dropped segment could not be put back for the next call: leave it in place, or use an active segment.' },
  multiMemory: { name: 'more than one memory', hint: 'A contract has one memory.' },
  memory64: { name: '64-bit memory', hint: 'Compile for wasm32.' },
  extendedConstants: { name: 'a computed initialiser', hint: 'Initialise with a constant, and compute in the start function.' },
} as const satisfies Record<string, Feature>

/** The language feature behind an opcode that is not on the list; undefined for a byte that no feature uses. */
export function featureOf(opcode: number): Feature | undefined {
  if ((opcode >= 0x06 && opcode <= 0x0a) || opcode === 0x18 || opcode === 0x19 || opcode === 0x1f) return FEATURES.exceptions
  if (opcode === 0x12 || opcode === 0x13 || opcode === 0x15) return FEATURES.tailCalls
  if (opcode === 0x14 || (opcode >= 0xd0 && opcode <= 0xd6)) return FEATURES.references
  if (opcode === 0x1c) return FEATURES.typedSelect
  if (opcode === 0x25 || opcode === 0x26) return FEATURES.tables
  if (opcode === 0xfb) return FEATURES.garbage
  if (opcode === 0xfd) return FEATURES.simd
  if (opcode === 0xfe) return FEATURES.threads
  return undefined
}

/** The same for an opcode after the prefix 0xfc. */
export function prefixedFeatureOf(opcode: number): Feature | undefined {
  if (opcode === 9) return FEATURES.dataDrop
  if (opcode >= 12 && opcode <= 17) return FEATURES.tables
  return undefined
}

/** The same for the byte of a value type. */
export function typeFeatureOf(type: number): Feature | undefined {
  if (type === 0x7b) return FEATURES.simd
  if (type === 0x70 || type === 0x6f || type === 0x63 || type === 0x64) return FEATURES.references
  if (type === 0x69) return FEATURES.exceptions
  if (type >= 0x5d && type <= 0x78) return FEATURES.garbage
  return undefined
}
