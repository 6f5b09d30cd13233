/**
 * Reads the sections of a WebAssembly module that say what it asks for and what it offers. It interprets no code and
 * changes nothing. It is total: any bytes give a shape or `CMESH_DEPLOY_MALFORMED` with the offset.
 *
 * Source: WebAssembly Core Specification 2.0, chapter 5 (binary format). Types, limits and initialisers beyond core
 * WebAssembly (64-bit or shared memory, garbage-collected types, tags) are refused, also where the engine at hand accepts them.
 */
import { Cursor, NUMBER_TYPES } from './cursor.ts'
import type { LimitsShape } from './cursor.ts'
import { effectsOf } from './code.ts'
import type { CodeEffects } from './code.ts'

export interface ImportShape {
  readonly module: string
  readonly name: string
  /** `(i32, i32) -> (i32)`; undefined for anything but a function. */
  readonly signature: string | undefined
}

export interface ExportShape {
  readonly kind: 'function' | 'table' | 'memory' | 'global'
  readonly signature: string | undefined
}

export interface ModuleShape {
  readonly imports: readonly ImportShape[]
  readonly exports: ReadonlyMap<string, ExportShape>
  readonly memories: readonly LimitsShape[]
  readonly hasStart: boolean
  /** The contents of the custom sections of the name that was asked for. */
  readonly custom: readonly Uint8Array[]
  /**
   * Names under which every mutable global is exported; undefined when the state of an instance cannot be put back from outside:
   * a hidden mutable global, one that is no number, a table the code may change, segments it may drop.
   */
  readonly mutableGlobals: readonly string[] | undefined
}

const EXPORT_KINDS = ['function', 'table', 'memory', 'global'] as const
const HEADER = [0x00, 0x61, 0x73, 0x6d, 0x01, 0x00, 0x00, 0x00]

const SECTION = {
  custom: 0, type: 1, import: 2, function: 3, table: 4, memory: 5, global: 6, export: 7, start: 8, code: 10, dataCount: 12,
} as const

/** The shape of a module, with the custom sections named `customName`. */
export function readModule(bytes: Uint8Array, customName: string): ModuleShape {
  const whole = new Cursor(bytes, 0, bytes.length)
  if (HEADER.some((byte) => whole.byte() !== byte)) whole.refuse('it does not begin like WebAssembly 1')
  const types: string[] = []
  const functions: (string | undefined)[] = []
  const imports: ImportShape[] = []
  const memories: LimitsShape[] = []
  const globals: { readonly mutable: boolean, readonly number: boolean }[] = []
  const exported: { readonly name: string, readonly kind: number, readonly index: number }[] = []
  const custom: Uint8Array[] = []
  let tables = 0
  let code: CodeEffects = { onTables: false, onSegments: false }
  let hasStart = false

  while (!whole.done) {
    const id = whole.byte()
    const section = whole.take(whole.u32())
    switch (id) {
      case SECTION.custom: if (section.name() === customName) custom.push(section.rest()); break
      case SECTION.type: section.vector(() => types.push(section.functionType())); break
      case SECTION.import: section.vector(() => {
        const [module, name, kind] = [section.name(), section.name(), section.byte()]
        if (kind === 0) functions.push(types[section.u32()])
        else section.importedThing(kind)
        imports.push({ module, name, signature: kind === 0 ? functions.at(-1) : undefined })
      }); break
      case SECTION.function: section.vector(() => functions.push(types[section.u32()])); break
      case SECTION.table: section.vector(() => { section.table(); tables++ }); break
      case SECTION.memory: section.vector(() => memories.push(section.limits())); break
      case SECTION.global: section.vector(() => {
        const number = NUMBER_TYPES.has(section.valueType())
        const mutable = section.byte() === 1
        section.initialiser()
        globals.push({ mutable, number })
      }); break
      case SECTION.export: section.vector(() => {
        exported.push({ name: section.name(), kind: section.byte(), index: section.u32() })
      }); break
      case SECTION.start: hasStart = true; break
      case SECTION.code: code = effectsOf(section); break
      default: if (id > SECTION.dataCount) whole.refuse(`its section ${id} is not part of core WebAssembly`)
    }
  }

  const exports = new Map(exported.map(({ name, kind, index }) => {
    const word = EXPORT_KINDS[kind] ?? whole.refuse(`the export ${name} is of no known kind`)
    return [name, { kind: word, signature: kind === 0 ? functions[index] : undefined }]
  }))
  const names = new Map(exported.filter(({ kind }) => kind === 3).map(({ name, index }) => [index, name]))
  const mutable = [...globals.keys()].filter((index) => globals[index]?.mutable)
  const resettable = !code.onSegments && tables <= 1 && !(tables === 1 && code.onTables)
    && globals.every(({ number }) => number) && mutable.every((index) => names.has(index))
  return {
    imports, exports, memories, hasStart, custom,
    mutableGlobals: resettable ? mutable.flatMap((index) => names.get(index) ?? []) : undefined,
  }
}
