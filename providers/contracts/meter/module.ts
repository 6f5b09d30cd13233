/**
 * Puts the rewritten module together: the sections of the original, with the gas, the stack slots and the marks of stores as globals, the function that grows
 * the memory, exports of all mutable globals, and the start function as an export. Custom sections are left out.
 */
import { analyse, costsOf } from './analysis.ts'
import { describeFunction } from './bodies.ts'
import { ByteReader, ByteWriter } from './bytes.ts'
import { emit, frameSlots } from './emission.ts'
import type { Additions } from './emission.ts'
import { METER_LIMITS } from './limits.ts'
import { sizeOf } from './marks.ts'
import { OP, TYPE } from './opcodes.ts'
import { refuse } from './refusals.ts'
import type { Schedule } from './schedule.ts'
import { RESERVED, SECTION } from './sections.ts'
import type { ExportShape, ModuleShape } from './shape.ts'
import type { Reach } from './stores.ts'

/** What the stack slots are set to when the host has no memory left for a contract that may grow: the host's failure, not the contract's. */
export const HOST_FAULT = -0x8000_0000

export const GAS_EXPORT = `${RESERVED}gas`
export const DEPTH_EXPORT = `${RESERVED}depth`
export const REACH_EXPORT = `${RESERVED}reach`
export const START_EXPORT = `${RESERVED}start`

export interface RewriteOptions {
  readonly schedule: Schedule
  readonly stack: boolean
  readonly nan: boolean
  readonly everyInstruction: boolean
  /** Names of the exports to keep. */
  readonly keep: (name: string) => boolean
}

export interface Rewritten {
  readonly wasm: Uint8Array
  /** Names under which the module's own mutable globals are exported. */
  readonly globals: readonly string[]
  /** Exports that it has, those of the rewriter for gas, stack and start not counted. */
  readonly exports: number
  /** Slots of the largest frame. */
  readonly frameSlots: number
  /** Of all functions. */
  readonly reach: Reach
}

/** As in section 5.5.16. */
const ORDER = [
  SECTION.type, SECTION.import, SECTION.function, SECTION.table, SECTION.memory, SECTION.global, SECTION.export,
  SECTION.element, SECTION.dataCount, SECTION.code, SECTION.data,
] as const

export function rewrite(shape: ModuleShape, options: RewriteOptions): Rewritten {
  const added: Additions = { gas: shape.globals.length, depth: shape.globals.length + 1, reach: shape.globals.length + 2, grow: shape.functions.length }
  const globals = shape.globals.flatMap(({ mutable }, index) => mutable ? [{ name: `${RESERVED}g${index}`, index }] : [])
  const code = rewriteBodies(shape, added, options)
  const kept = [...shape.exports].filter(([name]) => options.keep(name))
  const out = new ByteWriter(code.content.length + shape.wasm.length)
  out.range(shape.wasm, 0, 8)
  for (const id of ORDER) {
    const content = section(shape, id, added, globals, kept, code)
    if (content === undefined) continue
    out.byte(id)
    out.sized(content)
  }
  return {
    wasm: out.written.slice(), globals: globals.map(({ name }) => name), frameSlots: code.frameSlots, reach: code.reach,
    exports: kept.length + globals.length,
  }
}

interface Code {
  /** Of the code section, without the count. */
  readonly content: ByteWriter
  readonly grows: boolean
  readonly frameSlots: number
  readonly reach: Reach
}

function rewriteBodies(shape: ModuleShape, added: Additions, options: RewriteOptions): Code {
  const content = new ByteWriter(shape.wasm.length * 2)
  const body = new ByteWriter(1_024)
  const costs = costsOf(options.schedule)
  const found = { ...options, costs }
  const reach = { fixed: 0, beyond: 0 }
  // Bytes without those of marks: whether a module is too large must not depend on how a node puts memories back.
  let [grows, most, length] = [false, 0, 0]
  shape.bodies.forEach((range, index) => {
    const at = shape.imports.length + index
    const analysis = analyse(shape, shape.functions[at] ?? 0, range, found)
    const slots = frameSlots(analysis)
    const refuseHere = (reason: string): never =>
      refuse('CMESH_DEPLOY_LIMIT', `${describeFunction(shape, at)}, byte ${range.from}`, reason, 'Split it into several functions.')
    if (slots > METER_LIMITS.frameSlots) refuseHere(`its frame takes ${slots} stack slots; at most ${METER_LIMITS.frameSlots} are allowed`)
    body.clear()
    const marks = emit(body, shape.wasm, range.to, analysis, added, options)
    const without = body.length - marks
    content.sized(body)
    length += sizeOf(without) + without
    if (length > METER_LIMITS.meteredBytes) refuseHere(`with it the metered code has more than ${METER_LIMITS.meteredBytes} bytes`)
    grows ||= analysis.edits.some(({ kind }) => kind === 'grow')
    most = Math.max(most, slots)
    reach.fixed = Math.max(reach.fixed, analysis.reach.fixed)
    reach.beyond = Math.max(reach.beyond, analysis.reach.beyond)
  })
  if (grows) content.sized(growFunction(shape, added, options.schedule))
  return { content, grows, frameSlots: most, reach }
}

type NamedExport = readonly [name: string, shape: ExportShape]

interface ExportedGlobal {
  readonly name: string
  readonly index: number
}

function section(
  shape: ModuleShape, id: number, added: Additions, globals: readonly ExportedGlobal[], exports: readonly NamedExport[], code: Code,
): ByteWriter | undefined {
  const more = code.grows ? 1 : 0
  switch (id) {
    case SECTION.type: return extended(shape, id, more, (out) => { if (code.grows) out.bytes(TYPE.function, 1, TYPE.i32, 1, TYPE.i32) })
    case SECTION.function: return extended(shape, id, more, (out) => { if (code.grows) out.u32(shape.types.length) })
    case SECTION.memory: {
      const out = new ByteWriter(16)
      out.bytes(1, 1)
      out.u32(shape.memory.initial)
      out.u32(shape.memory.maximum)
      return out
    }
    case SECTION.global: return extended(shape, id, 3, (out) => {
      out.bytes(TYPE.i64, 1, OP.i64Const, 0, OP.end)
      out.bytes(TYPE.i32, 1, OP.i32Const, 0, OP.end)
      out.bytes(TYPE.i32, 1, OP.i32Const, 0, OP.end)
    })
    case SECTION.export: {
      const kind = { function: 0, table: 1, memory: 2, global: 3 } as const
      const kept = exports.map(([name, { kind: word, index }]) => ({ name, kind: kind[word], index }))
      const start = shape.start === undefined ? [] : [{ name: START_EXPORT, kind: kind.function, index: shape.start }]
      const all = [
        ...kept, { name: GAS_EXPORT, kind: kind.global, index: added.gas }, { name: DEPTH_EXPORT, kind: kind.global, index: added.depth },
        { name: REACH_EXPORT, kind: kind.global, index: added.reach },
        ...globals.map((entry) => ({ ...entry, kind: kind.global })), ...start,
      ]
      const out = new ByteWriter(64)
      out.u32(all.length)
      for (const entry of all) {
        out.name(entry.name)
        out.byte(entry.kind)
        out.u32(entry.index)
      }
      return out
    }
    case SECTION.code: {
      if (shape.bodies.length === 0) return undefined
      const out = new ByteWriter(code.content.length + 8)
      out.u32(shape.bodies.length + more)
      out.range(code.content.written, 0, code.content.length)
      return out
    }
    default: return extended(shape, id, 0, () => undefined)
  }
}

/** The section of the original with `count` more entries; undefined when there is nothing to write. */
function extended(shape: ModuleShape, id: number, count: number, append: (out: ByteWriter) => void): ByteWriter | undefined {
  const found = shape.sections.find((entry) => entry.id === id)
  if (found === undefined && count === 0) return undefined
  const out = new ByteWriter((found === undefined ? 0 : found.to - found.from) + 64)
  if (found === undefined) {
    out.u32(count)
  } else if (count === 0) {
    out.range(shape.wasm, found.from, found.to)
  } else {
    const entries = new ByteReader(shape.wasm, found.from, found.to)
    out.u32(entries.u32() + count)
    out.range(shape.wasm, entries.at, found.to)
  }
  append(out)
  return out
}

/**
 * Grows the memory like the instruction, for a price per page. Asking for more than the maximum gives −1 for the price of the instruction
 * alone. −1 within the maximum means that the host has no memory left.
 */
function growFunction({ memory }: ModuleShape, added: Additions, schedule: Schedule): ByteWriter {
  const out = new ByteWriter(128)
  const pages = 0
  out.byte(0)
  // More than the maximum: -1.
  out.bytes(OP.memorySize, 0, OP.i64ExtendU, OP.localGet, pages, OP.i64ExtendU, OP.i64Add, OP.i64Const)
  out.signed(memory.maximum)
  out.bytes(OP.i64GtU, OP.if, TYPE.empty, OP.i32Const, 0x7f, OP.return, OP.end)
  // Charge.
  out.op(OP.globalGet, added.gas)
  out.bytes(OP.localGet, pages, OP.i64ExtendU, OP.i64Const)
  out.signed(schedule.grow.page)
  out.bytes(OP.i64Mul, OP.i64Const)
  out.signed(schedule.grow.base)
  out.bytes(OP.i64Add, OP.i64Sub)
  out.op(OP.globalSet, added.gas)
  out.op(OP.globalGet, added.gas)
  out.bytes(OP.i64Const, 0, OP.i64LtS, OP.if, TYPE.empty, OP.unreachable, OP.end)
  // Grow; -1 here is the host's failure.
  out.bytes(OP.localGet, pages, OP.memoryGrow, 0, OP.localTee, pages, OP.i32Const, 0x7f, OP.i32Eq, OP.if, TYPE.empty)
  out.byte(OP.i32Const); out.signed(HOST_FAULT)
  out.op(OP.globalSet, added.depth)
  out.bytes(OP.unreachable, OP.end, OP.localGet, pages, OP.end)
  return out
}
