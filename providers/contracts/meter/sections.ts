/**
 * Reads the sections of a module by an allow-list: core WebAssembly 1.0 with sign extension, saturating truncation and bulk memory, one
 * memory, one table of functions, imports of the host interface. Anything else is refused, also where the engine at hand accepts it.
 * It is total: any bytes give a shape or a `CMESH_DEPLOY_*` error, in time linear in their number.
 *
 * Source: WebAssembly Core Specification 2.0, section 5.5 (modules).
 */
import { ByteReader } from './bytes.ts'
import { checkBodies } from './bodies.ts'
import { METER_LIMITS } from './limits.ts'
import { FEATURES, malformed, refuse, refuseExport, refuseImport, typeFeatureOf } from './refusals.ts'
import { TYPE, VALUE_TYPES } from './opcodes.ts'
import type { ByteRange, CustomSection, ExportShape, FunctionType, GlobalShape, ImportShape, ModuleShape, SectionShape } from './shape.ts'

export const SECTION = {
  custom: 0, type: 1, import: 2, function: 3, table: 4, memory: 5, global: 6, export: 7, start: 8, element: 9, code: 10, data: 11, dataCount: 12,
} as const

/** Names that begin so are the rewriter's own. */
export const RESERVED = '__cm_'

const EXPORT_KINDS = ['function', 'table', 'memory', 'global'] as const
const IMPORT_KINDS = ['function', 'table', 'memory', 'global', 'tag'] as const

interface Draft {
  readonly types: FunctionType[]
  readonly imports: ImportShape[]
  readonly functions: number[]
  readonly globals: GlobalShape[]
  readonly exports: Map<string, ExportShape>
  readonly bodies: ByteRange[]
  readonly sections: SectionShape[]
  readonly customSections: CustomSection[]
  memory: { readonly initial: number, readonly maximum: number } | undefined
  start: number | undefined
  elements: number
}

/** `host`: name and signature of each function that may be imported. The bytes begin like WebAssembly 1. */
export function readSections(wasm: Uint8Array, host: ReadonlyMap<string, string>): ModuleShape {
  const draft: Draft = {
    types: [], imports: [], functions: [], globals: [], exports: new Map(), bodies: [], sections: [], customSections: [],
    memory: undefined, start: undefined, elements: 0,
  }
  const whole = new ByteReader(wasm, 8, wasm.length)
  while (!whole.done) {
    const at = whole.at
    const id = whole.byte()
    const section = whole.take(whole.u32())
    if (id === SECTION.custom) readCustom(section, draft)
    else {
      draft.sections.push({ id, from: section.at, to: section.end })
      readSection(id, at, section, draft, host)
    }
  }
  const { memory, ...shape } = draft
  if (memory === undefined) refuse('CMESH_DEPLOY_MEMORY', 'module', 'it has none', 'A contract exchanges its bytes through one memory, exported as `memory`.')
  if (shape.functions.length - shape.imports.length !== shape.bodies.length) malformed(wasm.length, 'the code section does not match the function section')
  const read: ModuleShape = { wasm, memory, ...shape }
  checkBodies(read)
  return read
}

function readCustom(section: ByteReader, draft: Draft): void {
  limit(draft.customSections.length + 1, 'customSections', section.at, 'custom sections')
  draft.customSections.push({ name: section.name(), from: section.at, to: section.end })
}

function readSection(id: number, at: number, section: ByteReader, draft: Draft, host: ReadonlyMap<string, string>): void {
  switch (id) {
    case SECTION.type: return vector(section, 'types', 'types', () => { draft.types.push(functionType(section)) })
    case SECTION.import: return vector(section, 'imports', 'imports', () => { readImport(section, draft, host) })
    case SECTION.function: return vector(section, 'functions', 'functions', () => { draft.functions.push(typeIndex(section, draft)) })
    case SECTION.table: return readTable(section)
    case SECTION.memory: return readMemory(section, draft)
    case SECTION.global: return vector(section, 'globals', 'globals', (index) => { readGlobal(section, index, draft) })
    case SECTION.export: return vector(section, 'exports', 'exports', () => { readExport(section, draft) })
    case SECTION.start: draft.start = section.u32(); return
    case SECTION.element: return vector(section, 'elementSegments', 'element segments', (index) => { readElements(section, index, draft) })
    case SECTION.code: return vector(section, 'functions', 'functions', () => { readBody(section, draft) })
    case SECTION.data: return vector(section, 'dataSegments', 'data segments', (index) => { readData(section, index) })
    case SECTION.dataCount: section.u32(); return
    default: {
      const hint = id === 13 ? FEATURES.exceptions.hint : ''
      refuse('CMESH_DEPLOY_SECTION', `byte ${at}`, `${id === 13 ? 'the tag section' : `section ${id}`} is not on the list`, hint)
    }
  }
}

/** An element takes at least a byte, so that a huge count ends at the section's end. */
function vector(section: ByteReader, limited: keyof typeof METER_LIMITS, what: string, element: (index: number) => void): void {
  const at = section.at
  const count = section.u32()
  limit(count, limited, at, what)
  for (let index = 0; index < count; index++) element(index)
  if (!section.done) malformed(section.at, 'a section is longer than what it lists')
}

function limit(count: number, limited: keyof typeof METER_LIMITS, at: number, what: string): void {
  const most = METER_LIMITS[limited]
  if (count > most) refuse('CMESH_DEPLOY_LIMIT', `byte ${at}`, `${count} ${what}; at most ${most} are allowed`)
}

function valueType(section: ByteReader): number {
  const at = section.at
  const type = section.byte()
  if (VALUE_TYPES.has(type)) return type
  const feature = typeFeatureOf(type)
  return refuse('CMESH_DEPLOY_TYPE', `byte ${at}`, feature === undefined ? `0x${type.toString(16)} is no value type` : `it is ${feature.name}`, feature?.hint)
}

function functionType(section: ByteReader): FunctionType {
  const at = section.at
  const form = section.byte()
  if (form !== TYPE.function) {
    refuse('CMESH_DEPLOY_TYPE', `byte ${at}`, `0x${form.toString(16)} is no function type`, form >= 0x4d && form <= 0x5f ? FEATURES.garbage.hint : '')
  }
  const [parameters, results]: [number[], number[]] = [[], []]
  const count = section.u32()
  limit(count, 'parameters', at, 'parameters')
  for (let left = count; left > 0; left--) parameters.push(valueType(section))
  const given = section.u32()
  if (given > 1) refuse('CMESH_DEPLOY_TYPE', `byte ${at}`, `a function type gives ${given} values`, FEATURES.multiValue.hint)
  if (given === 1) results.push(valueType(section))
  const names = (types: readonly number[]): string => types.map((type) => VALUE_TYPES.get(type)).join(', ')
  return { parameters, results, signature: `(${names(parameters)}) -> (${names(results)})` }
}

function typeIndex(section: ByteReader, draft: Draft): number {
  const index = section.u32()
  return index < draft.types.length ? index : malformed(section.at, 'a type does not exist')
}

function readImport(section: ByteReader, draft: Draft, host: ReadonlyMap<string, string>): void {
  const [module, name, kind] = [section.name(), section.name(), section.byte()]
  const path = `${clipped(module)}.${clipped(name)}`
  if (kind !== 0) {
    const word = IMPORT_KINDS[kind] ?? malformed(section.at, 'an import is of no known kind')
    refuseImport(`the ${word} ${path}`, undefined, undefined)
  }
  const type = typeIndex(section, draft)
  const signature = draft.types[type]?.signature ?? ''
  const expected = module === 'cmesh' ? host.get(name) : undefined
  if (expected !== signature) refuseImport(path, signature, expected)
  draft.imports.push({ module, name, signature })
  draft.functions.push(type)
}

/** A name in a refusal is no longer than it need be. */
function clipped(name: string): string {
  return name.length > 64 ? `${name.slice(0, 64)}…` : name
}

function limits(section: ByteReader, code: 'CMESH_DEPLOY_MEMORY' | 'CMESH_DEPLOY_TABLE'): { readonly initial: number, readonly maximum: number | undefined } {
  const at = section.at
  const flags = section.byte()
  if (flags > 7) malformed(at, 'limits are of no known kind')
  if ((flags & 2) !== 0) refuse(code, `byte ${at}`, 'it is shared', FEATURES.threads.hint)
  if ((flags & 4) !== 0) refuse(code, `byte ${at}`, 'it has 64-bit addresses', FEATURES.memory64.hint)
  return { initial: section.u32(), maximum: flags === 1 ? section.u32() : undefined }
}

function readTable(section: ByteReader): void {
  const at = section.at
  const count = section.u32()
  if (count > 1) refuse('CMESH_DEPLOY_TABLE', `byte ${at}`, `there are ${count}; one is allowed`, FEATURES.references.hint)
  if (count === 0) return
  if (section.byte() !== TYPE.funcref) refuse('CMESH_DEPLOY_TABLE', `byte ${at + 1}`, 'it is no table of functions', FEATURES.references.hint)
  const { initial } = limits(section, 'CMESH_DEPLOY_TABLE')
  const most = METER_LIMITS.tableElements
  if (initial > most) refuse('CMESH_DEPLOY_TABLE', `byte ${at}`, `it has ${initial} elements; at most ${most} are allowed`)
}

function readMemory(section: ByteReader, draft: Draft): void {
  const at = section.at
  const count = section.u32()
  if (count !== 1) refuse('CMESH_DEPLOY_MEMORY', `byte ${at}`, `there are ${count}; one is needed`, FEATURES.multiMemory.hint)
  const { initial, maximum } = limits(section, 'CMESH_DEPLOY_MEMORY')
  const most = METER_LIMITS.memoryPages
  if (initial > most) {
    refuse('CMESH_DEPLOY_MEMORY', `byte ${at}`, `it starts with ${initial} pages; at most ${most} are allowed`,
      'Make the static data smaller (AssemblyScript: `--initialMemory`, `--memoryBase`).')
  }
  draft.memory = { initial, maximum: Math.min(maximum ?? most, most) }
}

function readGlobal(section: ByteReader, index: number, draft: Draft): void {
  const at = section.at
  const where = `global ${index}, byte ${at}`
  const type = section.byte()
  if (!VALUE_TYPES.has(type)) {
    const feature = typeFeatureOf(type)
    refuse('CMESH_DEPLOY_GLOBAL', where, feature === undefined ? 'its type is no number' : `it is ${feature.name}`, feature?.hint)
  }
  const mutable = section.byte()
  if (mutable > 1) refuse('CMESH_DEPLOY_GLOBAL', where, 'it is shared', FEATURES.threads.hint)
  constant(section, 'CMESH_DEPLOY_GLOBAL', where)
  draft.globals.push({ type, mutable: mutable === 1 })
}

/** One constant and `end`. */
function constant(section: ByteReader, code: 'CMESH_DEPLOY_GLOBAL' | 'CMESH_DEPLOY_LIMIT' | 'CMESH_DEPLOY_TABLE', where: string): void {
  const opcode = section.byte()
  if (opcode === 0x41) section.skipNumber(5)
  else if (opcode === 0x42) section.skipNumber(10)
  else if (opcode === 0x43) section.skip(4)
  else if (opcode === 0x44) section.skip(8)
  else refuse(code, where, 'its initialiser is no constant', FEATURES.extendedConstants.hint)
  if (section.byte() !== 0x0b) refuse(code, where, 'its initialiser is no constant', FEATURES.extendedConstants.hint)
}

function readExport(section: ByteReader, draft: Draft): void {
  const name = section.name()
  const kind = section.byte()
  const index = section.u32()
  const shown = clipped(name)
  if (name.startsWith(RESERVED)) refuseExport(shown, `names that begin with ${RESERVED} belong to the meter`)
  if (Buffer.byteLength(name) > METER_LIMITS.nameBytes) refuseExport(shown, `a name has at most ${METER_LIMITS.nameBytes} bytes`)
  const word = EXPORT_KINDS[kind] ?? refuseExport(shown, 'it is neither function, table, memory nor global')
  const type = kind === 0 ? draft.types[draft.functions[index] ?? -1] : undefined
  if (kind === 0 && type === undefined) malformed(section.at, 'an exported function does not exist')
  draft.exports.set(name, { kind: word, index, signature: type?.signature })
}

function readElements(section: ByteReader, index: number, draft: Draft): void {
  const at = section.at
  const where = `element segment ${index}, byte ${at}`
  if (section.u32() !== 0) {
    refuse('CMESH_DEPLOY_TABLE', where, 'it does not put functions into the table at the start', FEATURES.references.hint)
  }
  constant(section, 'CMESH_DEPLOY_TABLE', where)
  const count = section.u32()
  draft.elements += count
  limit(draft.elements, 'elements', at, 'functions in element segments')
  for (let left = count; left > 0; left--) section.u32()
}

function readBody(section: ByteReader, draft: Draft): void {
  const size = section.u32()
  const from = section.at
  section.skip(size)
  draft.bodies.push({ from, to: section.at })
}

function readData(section: ByteReader, index: number): void {
  const where = `data segment ${index}, byte ${section.at}`
  const kind = section.u32()
  if (kind > 1) refuse('CMESH_DEPLOY_MEMORY', where, 'it names a memory', FEATURES.multiMemory.hint)
  if (kind === 0) constant(section, 'CMESH_DEPLOY_LIMIT', where)
  section.skip(section.u32())
}
