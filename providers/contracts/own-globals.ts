/**
 * Puts the mutable globals of an instance back to what they were after the start, all at once: to JavaScript each of them is an object whose value
 * takes a call into the engine. A second, tiny instance shares them and has the values as constants; its module follows from their types alone.
 */
import { ByteWriter } from './meter/bytes.ts'
import { OP, TYPE } from './meter/opcodes.ts'

/** A global and what it is put back to, which is no NaN: that may change its bits on the way through JavaScript. */
export type KeptGlobal = readonly [global: WebAssembly.Global, value: number | bigint]

const FUNCTION_KIND = 0
const GLOBAL_KIND = 3
const SECTIONS = { type: 1, import: 2, function: 3, export: 7, code: 10 } as const

/** The module for globals of these types, in their order. */
export function ownGlobalsModule(types: readonly number[]): WebAssembly.Module {
  const imports = new ByteWriter(64)
  const code = new ByteWriter(64)
  imports.u32(2 * types.length)
  code.u32(0)
  types.forEach((type, index) => {
    // The global, and its value behind it.
    for (const mutable of [1, 0]) {
      imports.name(mutable === 1 ? 'g' : 'v')
      imports.name(String(index))
      imports.bytes(GLOBAL_KIND, type, mutable)
    }
    code.op(OP.globalGet, 2 * index + 1)
    code.op(OP.globalSet, 2 * index)
  })
  code.byte(OP.end)
  const module = new ByteWriter(256)
  module.bytes(0x00, 0x61, 0x73, 0x6d, 0x01, 0x00, 0x00, 0x00)
  const section = (id: number, write: (content: ByteWriter) => void): void => {
    const content = new ByteWriter(64)
    write(content)
    module.byte(id)
    module.sized(content)
  }
  section(SECTIONS.type, content => { content.bytes(1, TYPE.function, 0, 0) })
  section(SECTIONS.import, content => { content.range(imports.written, 0, imports.length) })
  section(SECTIONS.function, content => { content.bytes(1, 0) })
  section(SECTIONS.export, content => {
    content.u32(1)
    content.name('putBack')
    content.bytes(FUNCTION_KIND, 0)
  })
  section(SECTIONS.code, content => {
    content.u32(1)
    content.sized(code)
  })
  return new WebAssembly.Module(module.written.slice())
}

/** Gives what puts these back. `module`: that of their types. */
export function puttingBack(module: WebAssembly.Module, globals: readonly KeptGlobal[]): () => void {
  const named = (of: 0 | 1): Record<string, unknown> => Object.fromEntries(globals.map((kept, index) => [String(index), kept[of]]))
  const { exports } = new WebAssembly.Instance(module, { g: named(0), v: named(1) } as never)
  return exports.putBack as () => void
}
