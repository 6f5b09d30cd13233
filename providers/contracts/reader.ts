/**
 * Reads the sections of a WebAssembly module that say what it asks for and what it offers. It interprets no code and
 * changes nothing. It is total: any bytes give a shape or `CMESH_DEPLOY_MALFORMED` with the offset.
 *
 * Source: WebAssembly Core Specification 2.0, chapter 5 (binary format). Types, limits and initialisers beyond core
 * WebAssembly (64-bit or shared memory, garbage-collected types, tags) are refused, also where the engine at hand accepts them.
 */
import { CMeshError } from '../../cmtp/errors.ts'

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

export interface MemoryShape {
  readonly initialPages: number
  readonly maximumPages: number | undefined
}

export interface ModuleShape {
  readonly imports: readonly ImportShape[]
  readonly exports: ReadonlyMap<string, ExportShape>
  readonly memories: readonly MemoryShape[]
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
const NUMBER_TYPES: ReadonlyMap<number, string> = new Map([[0x7f, 'i32'], [0x7e, 'i64'], [0x7d, 'f32'], [0x7c, 'f64']])
const OTHER_TYPES = [[0x7b, 'v128'], [0x70, 'funcref'], [0x6f, 'externref']] as const
const VALUE_TYPES: ReadonlyMap<number, string> = new Map([...NUMBER_TYPES, ...OTHER_TYPES])
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
  const memories: MemoryShape[] = []
  const globals: { readonly mutable: boolean, readonly number: boolean }[] = []
  const exported: { readonly name: string, readonly kind: number, readonly index: number }[] = []
  const custom: Uint8Array[] = []
  let tables = 0
  let code = { onTables: false, onSegments: false }
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
      case SECTION.code: code = effects(section.rest()); break
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

/**
 * What code could change in an instance that is neither memory nor a global: `table.set` is 0x26 and an index, `data.drop` is
 * 0xFC 9, the other instructions on tables are 0xFC 12 to 17. Looks for the bytes, not for instructions: a constant may look
 * like one, an instruction is never missed. A byte of 0x80 and above begins a longer form of the number.
 */
function effects(code: Uint8Array): { readonly onTables: boolean, readonly onSegments: boolean } {
  let [onTables, onSegments] = [false, false]
  for (let i = 0; i + 1 < code.length; i++) {
    const [byte, next] = [code[i], code[i + 1] ?? 0]
    if (byte === 0x26 && (next === 0 || next >= 0x80)) onTables = true
    if (byte === 0xfc && ((next >= 12 && next <= 17) || next >= 0x80)) onTables = true
    if (byte === 0xfc && (next === 9 || next >= 0x80)) onSegments = true
  }
  return { onTables, onSegments }
}

class Cursor {
  readonly #bytes: Uint8Array
  readonly #end: number
  #at: number

  constructor(bytes: Uint8Array, at: number, end: number) {
    this.#bytes = bytes
    this.#at = at
    this.#end = end
  }

  get done(): boolean {
    return this.#at >= this.#end
  }

  refuse(reason: string): never {
    throw new CMeshError('CMESH_DEPLOY_MALFORMED', { reason: `the module cannot be read at byte ${this.#at}: ${reason}` })
  }

  byte(): number {
    if (this.#at >= this.#end) this.refuse('it ends early')
    return this.#bytes[this.#at++] ?? 0
  }

  /** LEB128, at most 5 bytes and 32 bits. */
  u32(): number {
    let value = 0
    for (let shift = 0; shift < 35; shift += 7) {
      const byte = this.byte()
      value += (byte & 0x7f) * 2 ** shift
      if (byte < 0x80) return value <= 0xffffffff ? value : this.refuse('a number has more than 32 bits')
    }
    return this.refuse('a number has more than 32 bits')
  }

  /** The next `length` bytes as a cursor of their own. */
  take(length: number): Cursor {
    if (length > this.#end - this.#at) this.refuse('it ends early')
    const part = new Cursor(this.#bytes, this.#at, this.#at + length)
    this.#at += length
    return part
  }

  rest(): Uint8Array {
    return this.#bytes.slice(this.#at, this.#end)
  }

  name(): string {
    return new TextDecoder().decode(this.take(this.u32()).rest())
  }

  /** An element takes at least a byte, so that a huge count ends at the section's end. */
  vector(element: () => unknown): void {
    for (let left = this.u32(); left > 0; left--) element()
  }

  valueType(): number {
    const type = this.byte()
    return VALUE_TYPES.has(type) ? type : this.refuse('a type is not part of core WebAssembly')
  }

  functionType(): string {
    if (this.byte() !== 0x60) this.refuse('a type is not part of core WebAssembly')
    const [parameters, results]: [string[], string[]] = [[], []]
    for (const list of [parameters, results]) this.vector(() => list.push(VALUE_TYPES.get(this.valueType()) ?? ''))
    return `(${parameters.join(', ')}) -> (${results.join(', ')})`
  }

  limits(): MemoryShape {
    const flags = this.byte()
    if (flags > 1) this.refuse('a memory or table is shared or has 64-bit addresses')
    return { initialPages: this.u32(), maximumPages: flags === 1 ? this.u32() : undefined }
  }

  table(): void {
    this.valueType()
    this.limits()
  }

  /** The description of an import that is no function; it is refused elsewhere, by name. */
  importedThing(kind: number): void {
    if (kind === 1) this.table()
    else if (kind === 2) this.limits()
    else if (kind === 3) { this.valueType(); this.byte() }
    else this.refuse('an import is of no known kind')
  }

  /** A constant expression: steps over it. */
  initialiser(): void {
    for (;;) {
      const opcode = this.byte()
      if (opcode === 0x0b) return
      if (opcode === 0x41 || opcode === 0x42) while (this.byte() >= 0x80);
      else if (opcode === 0x43) this.take(4)
      else if (opcode === 0x44) this.take(8)
      else if (opcode === 0x23 || opcode === 0xd2) this.u32()
      else if (opcode === 0xd0) this.valueType()
      else if (!EXTENDED_CONSTANTS.has(opcode)) this.refuse('an initialiser is not part of core WebAssembly')
    }
  }
}

/** Addition, subtraction and multiplication of i32 and i64. */
const EXTENDED_CONSTANTS: ReadonlySet<number> = new Set([0x6a, 0x6b, 0x6c, 0x7c, 0x7d, 0x7e])
