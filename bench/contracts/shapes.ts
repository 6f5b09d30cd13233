/**
 * Modules as large as a module may be, each of one shape that a reader, a rewriter or a compiler might take long for. Made byte by byte, since
 * no assembler would take them in a moment.
 */
import { LIMITS } from '../../cmtp/limits.ts'

/** Most bytes of one function (`providers/contracts/meter/limits.ts`), less its locals. */
const FUNCTION_BYTES = 65_000
const FUNCTIONS = 4_096
/** Left for the sections around the code. */
const AROUND = 16_384

const END = 0x0b
const F64 = 0x7c

interface Shape {
  /** Bytes repeated to fill a function, between `before` and `after`. */
  readonly unit: readonly number[]
  readonly before?: readonly number[]
  readonly after?: readonly number[]
  /** Bytes of code in one function. Default: as many as are allowed. */
  readonly bytes?: number
  /** Locals of type f64. */
  readonly locals?: number
}

const I32_ZERO = [0x41, 0x00]
const block = (...body: number[]): number[] => [0x02, 0x40, ...body, END]

const SHAPES: Readonly<Record<string, Shape>> = {
  'instructions that do nothing': { unit: [0x01] },
  'constants and drops': { unit: [...I32_ZERO, 0x1a] },
  'small blocks': { unit: block(0x01) },
  'small loops': { unit: [0x03, 0x40, END] },
  'branches': { unit: block(...I32_ZERO, 0x0d, 0x00) },
  'conditions': { unit: [...I32_ZERO, 0x04, 0x40, 0x05, END] },
  'branch tables of 1,000 targets': { unit: block(...I32_ZERO, 0x0e, ...leb(1_000), ...new Array<number>(1_001).fill(0)) },
  'branch tables of no target': { unit: block(...I32_ZERO, 0x0e, 0x00, 0x00) },
  'calls': { unit: [0x10, 0x00] },
  'additions of floats': { unit: [0x20, 0x00, 0xa0], before: [0x20, 0x00], after: [0x1a], locals: 1, bytes: 16_000 },
  'roots of floats': { unit: [0x9f], before: [0x20, 0x00], after: [0x1a], locals: 1, bytes: 6_000 },
  'blocks in blocks': { unit: [...new Array<number[]>(200).fill([0x02, 0x40]).flat(), ...new Array<number>(200).fill(END)] },
  'dead code': { unit: [0x00], after: [0x00] },
  'returns': { unit: block(0x0f) },
  'memory grown': { unit: [...I32_ZERO, 0x40, 0x00, 0x1a] },
  'memory filled': { unit: [...I32_ZERO, ...I32_ZERO, ...I32_ZERO, 0xfc, 0x0b, 0x00] },
  'small functions': { unit: [0x01], bytes: 40 },
  'functions of 1,000 locals': { unit: [0x20, 0x01, 0x1a], bytes: 40, locals: 1_000 },
}

export const SHAPE_NAMES: readonly string[] = Object.keys(SHAPES)

export function shapeOf(name: string): Uint8Array<ArrayBuffer> {
  const { unit, before = [], after = [], bytes = FUNCTION_BYTES, locals = 0 } = SHAPES[name] as Shape
  const room = LIMITS.contractBytes - AROUND
  const times = Math.floor((Math.min(bytes, room) - before.length - after.length) / unit.length)
  const code = Buffer.concat([
    Buffer.from(locals === 0 ? [0x00] : [0x01, ...leb(locals), F64]), Buffer.from(before),
    Buffer.alloc(times * unit.length, Buffer.from(unit)), Buffer.from(after), Buffer.from([END]),
  ])
  const count = Math.min(FUNCTIONS, Math.floor(room / (code.length + 3)))
  const body = Buffer.concat([Buffer.from(leb(code.length)), code])
  return Uint8Array.from(Buffer.concat([
    Buffer.from([0x00, 0x61, 0x73, 0x6d, 0x01, 0x00, 0x00, 0x00]),
    section(1, Buffer.from([0x01, 0x60, 0x00, 0x00])),
    section(3, Buffer.from([...leb(count), ...new Array<number>(count).fill(0)])),
    section(5, Buffer.from([0x01, 0x01, 0x01, 0x40])),
    section(7, Buffer.from([0x01, 0x06, ...Buffer.from('memory'), 0x02, 0x00])),
    section(10, Buffer.concat([Buffer.from(leb(count)), ...new Array<Buffer>(count).fill(body)])),
  ]))
}

function section(id: number, content: Buffer): Buffer {
  return Buffer.concat([Buffer.from([id, ...leb(content.length)]), content])
}

/** Unsigned, as in section 5.2.2 of the specification. */
function leb(value: number): number[] {
  const bytes: number[] = []
  let rest = value
  do {
    bytes.push((rest & 0x7f) | (rest > 0x7f ? 0x80 : 0))
    rest >>>= 7
  } while (rest > 0)
  return bytes
}
