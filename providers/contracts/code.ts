/**
 * Walks the instructions of a module to learn whether they can change in an instance what nobody can put back from outside:
 * tables and segments. It decodes immediates and nothing else. An instruction that it does not know ends the walk with the
 * answer yes, so that the answer no is always true of valid code.
 *
 * Source: WebAssembly Core Specification 2.0, section 5.4, and the encoding of `try` and `catch` that preceded 3.0.
 */
import type { Cursor } from './cursor.ts'

export interface CodeEffects {
  readonly onTables: boolean
  /** Drops a data segment, so that copying from it traps from then on. */
  readonly onSegments: boolean
}

const UNKNOWN: CodeEffects = { onTables: true, onSegments: true }

/** `section`: the code section, from its count on. */
export function effectsOf(section: Cursor): CodeEffects {
  let effects: CodeEffects = { onTables: false, onSegments: false }
  section.vector(() => {
    const body = section.take(section.u32())
    body.vector(() => { body.u32(); body.valueType() })
    while (!body.done) {
      const effect = instruction(body)
      if (effect === 'unknown') {
        effects = UNKNOWN
        return
      }
      effects = { onTables: effects.onTables || effect === 'table', onSegments: effects.onSegments || effect === 'segment' }
    }
  })
  return effects
}

type Effect = 'none' | 'table' | 'segment' | 'unknown'

const TABLE_SET = 0x26

function instruction(code: Cursor): Effect {
  const opcode = code.byte()
  if (opcode >= 0x45 && opcode <= 0xc4) return 'none' // numeric
  if (opcode >= 0x28 && opcode <= 0x3e) return memoryArgument(code) // loads and stores
  if (opcode >= 0x20 && opcode <= TABLE_SET) { // variables and tables
    code.u32()
    return opcode === TABLE_SET ? 'table' : 'none'
  }
  switch (opcode) {
    case 0x00: case 0x01: case 0x05: case 0x0b: case 0x0f: case 0x19: case 0x1a: case 0x1b: case 0xd1: return 'none'
    case 0x02: case 0x03: case 0x04: case 0x06: return blockType(code)
    case 0x07: case 0x08: case 0x09: case 0x0c: case 0x0d: case 0x10: case 0x12: case 0x18: case 0xd2: code.u32(); return 'none'
    case 0x0e: code.vector(() => code.u32()); code.u32(); return 'none'
    case 0x11: case 0x13: code.u32(); code.u32(); return 'none'
    case 0x1c: code.vector(() => code.valueType()); return 'none'
    case 0x3f: case 0x40: code.byte(); return 'none'
    case 0x41: case 0x42: code.skipNumber(); return 'none'
    case 0x43: code.take(4); return 'none'
    case 0x44: code.take(8); return 'none'
    case 0xd0: code.valueType(); return 'none'
    case 0xfc: return bulk(code)
    case 0xfd: return vector(code)
    default: return 'unknown'
  }
}

/** Saturating conversions, and instructions on memories, segments and tables. */
function bulk(code: Cursor): Effect {
  const opcode = code.u32()
  if (opcode > 17) return 'unknown'
  if (opcode >= 8) code.u32()
  if (opcode === 8 || opcode === 10 || opcode === 12 || opcode === 14) code.u32()
  if (opcode === 9) return 'segment'
  return opcode >= 12 && opcode !== 16 ? 'table' : 'none' // 16 is table.size
}

/** Instructions on 128-bit vectors. */
function vector(code: Cursor): Effect {
  const opcode = code.u32()
  if (opcode > 255) return 'unknown'
  if (opcode === 12 || opcode === 13) code.take(16)
  if (opcode >= 21 && opcode <= 34) code.byte()
  if (opcode <= 11 || (opcode >= 84 && opcode <= 93)) {
    const effect = memoryArgument(code)
    if (opcode >= 84 && opcode <= 91) code.byte()
    return effect
  }
  return 'none'
}

/** An alignment of 64 and above would announce the index of another memory. */
function memoryArgument(code: Cursor): Effect {
  const alignment = code.u32()
  code.u32()
  return alignment < 64 ? 'none' : 'unknown'
}

/** Nothing, a type, or the index of one. A typed reference would take more bytes. */
function blockType(code: Cursor): Effect {
  const first = code.byte()
  if (first === 0x63 || first === 0x64) return 'unknown'
  if (first >= 0x80) code.skipNumber()
  return 'none'
}
