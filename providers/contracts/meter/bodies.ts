/**
 * Walks the instructions of every function by the allow-list of `opcodes.ts`. It decodes immediates and nothing else, so that it is
 * total on code that does not validate too, and names the function and the byte of what it refuses.
 *
 * Source: WebAssembly Core Specification 2.0, section 5.4.
 */
import { ByteReader } from './bytes.ts'
import { METER_LIMITS } from './limits.ts'
import { BULK, IMMEDIATE, IMMEDIATES, OP, TYPE, VALUE_TYPES } from './opcodes.ts'
import { FEATURES, featureOf, malformed, prefixedFeatureOf, refuse, typeFeatureOf } from './refusals.ts'
import type { PlacedCode } from './refusals.ts'
import type { ModuleShape } from './shape.ts'

/** Throws the `CMESH_DEPLOY_*` error of the first thing that is not allowed. */
export function checkBodies(shape: ModuleShape): void {
  shape.bodies.forEach((body, index) => { checkBody(shape, index, new ByteReader(shape.wasm, body.from, body.to)) })
}

type Place = (code: PlacedCode, offset: number, reason: string, hint?: string) => never

function checkBody(shape: ModuleShape, index: number, code: ByteReader): void {
  const at = code.at
  const place: Place = (refusal, offset, reason, hint) =>
    refuse(refusal, `${describeFunction(shape, shape.imports.length + index)}, byte ${offset}`, reason, hint)
  const size = code.end - at
  if (size > METER_LIMITS.functionBytes) {
    place('CMESH_DEPLOY_LIMIT', at, `it has ${size} bytes; at most ${METER_LIMITS.functionBytes} are allowed`, 'Split it into several functions.')
  }
  checkLocals(code, place)
  let depth = 1
  while (!code.done) {
    const opcode = code.bytes[code.at] ?? 0
    if (opcode === OP.block || opcode === OP.loop || opcode === OP.if) {
      if (++depth > METER_LIMITS.nesting) place('CMESH_DEPLOY_LIMIT', code.at, `blocks nest deeper than ${METER_LIMITS.nesting}`)
    } else if (opcode === OP.end) depth--
    checkInstruction(code, place)
  }
  if (depth !== 0) malformed(code.at, 'a function does not end where its bytes do')
}

function checkLocals(code: ByteReader, place: Place): void {
  const at = code.at
  let locals = 0
  for (let left = code.u32(); left > 0; left--) {
    locals += code.u32()
    if (locals > METER_LIMITS.locals) place('CMESH_DEPLOY_LIMIT', at, `it has more than ${METER_LIMITS.locals} locals`, 'Split it into several functions.')
    checkType(code, place)
  }
}

function checkType(code: ByteReader, place: Place): void {
  const at = code.at
  const type = code.byte()
  if (VALUE_TYPES.has(type)) return
  const feature = typeFeatureOf(type)
  place('CMESH_DEPLOY_TYPE', at, feature === undefined ? `0x${type.toString(16)} is no value type` : `it is ${feature.name}`, feature?.hint)
}

function checkInstruction(code: ByteReader, place: Place): void {
  const at = code.at
  const opcode = code.byte()
  switch (IMMEDIATES[opcode]) {
    case IMMEDIATE.none: return
    case IMMEDIATE.index: code.u32(); return
    case IMMEDIATE.memory: {
      // An alignment of 64 and above announces the index of another memory.
      if (code.u32() >= 64) place('CMESH_DEPLOY_MEMORY', at, 'it names a memory', FEATURES.multiMemory.hint)
      code.u32()
      return
    }
    case IMMEDIATE.block: checkBlockType(code, at, place); return
    case IMMEDIATE.branchTable: {
      const targets = code.u32()
      const most = METER_LIMITS.branchTargets
      if (targets > most) place('CMESH_DEPLOY_LIMIT', at, `a br_table has ${targets} targets; at most ${most} are allowed`, 'Split the `switch`.')
      for (let left = targets; left >= 0; left--) code.u32()
      return
    }
    case IMMEDIATE.indirect: code.u32(); zero(code, at, place, 'CMESH_DEPLOY_TABLE', 'a table'); return
    case IMMEDIATE.zero: zero(code, at, place, 'CMESH_DEPLOY_MEMORY', 'a memory'); return
    case IMMEDIATE.i32: code.skipNumber(5); return
    case IMMEDIATE.i64: code.skipNumber(10); return
    case IMMEDIATE.f32: code.skip(4); return
    case IMMEDIATE.f64: code.skip(8); return
    case IMMEDIATE.prefixed: checkPrefixed(code, at, place); return
    default: {
      const feature = featureOf(opcode)
      place('CMESH_DEPLOY_OPCODE', at, feature === undefined ? `0x${hex(opcode)} is not on the list` : `0x${hex(opcode)} is ${feature.name}`, feature?.hint)
    }
  }
}

function checkPrefixed(code: ByteReader, at: number, place: Place): void {
  const opcode = code.u32()
  const feature = prefixedFeatureOf(opcode)
  if (feature !== undefined || opcode > BULK.memoryFill) {
    place('CMESH_DEPLOY_OPCODE', at, feature === undefined ? `0xfc ${opcode} is not on the list` : `0xfc ${opcode} is ${feature.name}`, feature?.hint)
  }
  if (opcode === BULK.memoryInit) code.u32()
  if (opcode >= BULK.memoryInit) zero(code, at, place, 'CMESH_DEPLOY_MEMORY', 'a memory')
  if (opcode === BULK.memoryCopy) zero(code, at, place, 'CMESH_DEPLOY_MEMORY', 'a memory')
}

function hex(opcode: number): string {
  return opcode.toString(16).padStart(2, '0')
}

function zero(code: ByteReader, at: number, place: Place, refusal: PlacedCode, what: string): void {
  if (code.byte() !== 0) place(refusal, at, `it names ${what}`, what === 'a table' ? FEATURES.references.hint : FEATURES.multiMemory.hint)
}

/** Nothing or one number; a reference to a type stands for parameters or several results. */
function checkBlockType(code: ByteReader, at: number, place: Place): void {
  const type = code.byte()
  if (type === TYPE.empty || VALUE_TYPES.has(type)) return
  const feature = typeFeatureOf(type) ?? FEATURES.multiValue
  place('CMESH_DEPLOY_TYPE', at, `a block needs ${feature.name}`, feature.hint)
}

/** Such as `function 3 (call_add)`: by the name it is exported under, else by the name section. */
export function describeFunction(shape: ModuleShape, index: number): string {
  for (const [name, { kind, index: exported }] of shape.exports) if (kind === 'function' && exported === index) return `function ${index} (${printable(name)})`
  const name = nameOf(shape, index)
  return name === undefined ? `function ${index}` : `function ${index} (${printable(name)})`
}

/** Names are the deployer's and end up in logs and receipts. */
function printable(name: string): string {
  return name.replace(/[\u0000-\u001f\u007f-\u009f\u2028\u2029]/g, '?').slice(0, 64)
}

/** Source: section 7.4.2 (name section), subsection 1. Whatever is wrong with it means that there is no name. */
function nameOf(shape: ModuleShape, index: number): string | undefined {
  const section = shape.customSections.find(({ name }) => name === 'name')
  if (section === undefined) return undefined
  try {
    const names = new ByteReader(shape.wasm, section.from, section.to)
    while (!names.done) {
      const id = names.byte()
      const map = names.take(names.u32())
      if (id !== 1) continue
      for (let left = map.u32(); left > 0; left--) {
        const named = map.u32()
        const name = map.name()
        if (named === index) return name
      }
    }
  } catch {
    return undefined
  }
  return undefined
}
