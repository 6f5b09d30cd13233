/**
 * The instructions a contract may use, and nothing else: for each its immediates, what it pops and pushes, its class of cost, and what
 * it does with the bits of a NaN. An opcode that is missing here is refused, also where the engine at hand knows it.
 *
 * Source: WebAssembly Core Specification 2.0, section 5.4 (binary format of instructions) and appendix A.6.
 */

/** Groups of instructions of one cost, and what is in each; a schedule gives each a number. */
export const COST_CLASS_MEANINGS = {
  free: '`nop`, `block`, `else`, `end`, `drop`, `unreachable`',
  loop: '`loop`, each turn',
  branch: '`if`, `br`, `br_if`, `return`',
  branchTable: '`br_table`',
  call: '`call`',
  callIndirect: '`call_indirect`',
  constant: '`i32.const`, `i64.const`, `f32.const`, `f64.const`',
  local: '`local.get`, `local.set`, `local.tee`',
  global: '`global.get`, `global.set`',
  select: '`select`',
  load: 'loads of all types and widths',
  store: 'stores of all types and widths',
  memorySize: '`memory.size`',
  memoryGrow: '`memory.grow`, beside what growing costs',
  bulk: '`memory.copy`, `memory.fill`, `memory.init`, beside their bytes',
  integer: 'integer addition, subtraction, logic, shifts, rotations, comparisons, extension, wrapping',
  multiply: '`i32.mul`, `i64.mul`',
  divide: 'integer division and remainder',
  count: '`clz`, `ctz`, `popcnt`',
  float: 'float addition, subtraction, multiplication, `min`, `max`',
  floatMove: '`abs`, `neg`, `copysign`, reinterpretation',
  floatCompare: 'float comparisons',
  floatRound: '`ceil`, `floor`, `trunc`, `nearest`',
  floatDivide: 'float division',
  floatRoot: '`sqrt`',
  convert: 'integer to float, `f32.demote_f64`, `f64.promote_f32`',
  truncate: 'float to integer, trapping or saturating',
} as const

export type CostClass = keyof typeof COST_CLASS_MEANINGS

/** In the order of `CLASSES`. */
export const COST_CLASSES = Object.keys(COST_CLASS_MEANINGS) as readonly CostClass[]

/** How the bytes after an opcode are read. */
export const IMMEDIATE = {
  none: 0, index: 1, memory: 2, block: 3, branchTable: 4, indirect: 5, zero: 6, i32: 7, i64: 8, f32: 9, f64: 10, prefixed: 11, refused: 255,
} as const

/**
 * `makes32`, `makes64`: gives a float whose NaN bits the engine may choose. `ignores`: gives the same whatever the bits of a NaN among its
 * operands. Everything else passes the bits on.
 */
export const NAN = { passes: 0, ignores: 1, makes32: 2, makes64: 3 } as const

export const OP = {
  unreachable: 0x00, nop: 0x01, block: 0x02, loop: 0x03, if: 0x04, else: 0x05, end: 0x0b, br: 0x0c, brIf: 0x0d, brTable: 0x0e, return: 0x0f,
  call: 0x10, callIndirect: 0x11, drop: 0x1a, select: 0x1b, localGet: 0x20, localSet: 0x21, localTee: 0x22, globalGet: 0x23, globalSet: 0x24,
  i32Store: 0x36, i64Store: 0x37, f32Store: 0x38, f64Store: 0x39, i32Store8: 0x3a, i32Store16: 0x3b, i64Store8: 0x3c, i64Store16: 0x3d, i64Store32: 0x3e,
  memorySize: 0x3f, memoryGrow: 0x40, i32Const: 0x41, i64Const: 0x42, f32Const: 0x43, f64Const: 0x44,
  i32Eq: 0x46, i32LtS: 0x48, i64LtS: 0x53, i64GtU: 0x56, f32Eq: 0x5b, f64Eq: 0x61, i32Add: 0x6a, i32Sub: 0x6b, i32Or: 0x72,
  i64Add: 0x7c, i64Sub: 0x7d, i64Mul: 0x7e, i64ShrU: 0x88, i64ExtendU: 0xad, prefix: 0xfc,
} as const

/** After the prefix 0xfc. */
export const BULK = { memoryInit: 8, dataDrop: 9, memoryCopy: 10, memoryFill: 11 } as const

export const VALUE_TYPES: ReadonlyMap<number, string> = new Map([[0x7f, 'i32'], [0x7e, 'i64'], [0x7d, 'f32'], [0x7c, 'f64']])
export const TYPE = { i32: 0x7f, i64: 0x7e, f32: 0x7d, f64: 0x7c, funcref: 0x70, function: 0x60, empty: 0x40 } as const

export const IMMEDIATES = new Uint8Array(256).fill(IMMEDIATE.refused)
export const POPS = new Uint8Array(256)
export const PUSHES = new Uint8Array(256)
export const NANS = new Uint8Array(256)
/** Index into `COST_CLASSES`. */
export const CLASSES = new Uint8Array(256)

function define(from: number, to: number, cost: CostClass, pops: number, pushes: number, immediate: number = IMMEDIATE.none, nan: number = NAN.passes): void {
  for (let opcode = from; opcode <= to; opcode++) {
    IMMEDIATES[opcode] = immediate
    POPS[opcode] = pops
    PUSHES[opcode] = pushes
    NANS[opcode] = nan
    CLASSES[opcode] = COST_CLASSES.indexOf(cost)
  }
}

// Control; blocks, calls and branches pop and push by their types.
define(0x00, 0x01, 'free', 0, 0)
define(0x02, 0x02, 'free', 0, 0, IMMEDIATE.block)
define(0x03, 0x03, 'loop', 0, 0, IMMEDIATE.block)
define(0x04, 0x04, 'branch', 1, 0, IMMEDIATE.block)
define(0x05, 0x05, 'free', 0, 0)
define(0x0b, 0x0b, 'free', 0, 0)
define(0x0c, 0x0c, 'branch', 0, 0, IMMEDIATE.index)
define(0x0d, 0x0d, 'branch', 1, 0, IMMEDIATE.index)
define(0x0e, 0x0e, 'branchTable', 1, 0, IMMEDIATE.branchTable)
define(0x0f, 0x0f, 'branch', 0, 0)
define(0x10, 0x10, 'call', 0, 0, IMMEDIATE.index)
define(0x11, 0x11, 'callIndirect', 1, 0, IMMEDIATE.indirect)
// Operands and variables.
define(0x1a, 0x1a, 'free', 1, 0, IMMEDIATE.none, NAN.ignores)
define(0x1b, 0x1b, 'select', 3, 1)
define(0x20, 0x20, 'local', 0, 1, IMMEDIATE.index)
define(0x21, 0x21, 'local', 1, 0, IMMEDIATE.index)
define(0x22, 0x22, 'local', 1, 1, IMMEDIATE.index)
define(0x23, 0x23, 'global', 0, 1, IMMEDIATE.index)
define(0x24, 0x24, 'global', 1, 0, IMMEDIATE.index)
// Memory.
define(0x28, 0x35, 'load', 1, 1, IMMEDIATE.memory)
define(0x36, 0x3e, 'store', 2, 0, IMMEDIATE.memory)
define(0x3f, 0x3f, 'memorySize', 0, 1, IMMEDIATE.zero)
define(0x40, 0x40, 'memoryGrow', 1, 1, IMMEDIATE.zero)
// Constants.
define(0x41, 0x41, 'constant', 0, 1, IMMEDIATE.i32)
define(0x42, 0x42, 'constant', 0, 1, IMMEDIATE.i64)
define(0x43, 0x43, 'constant', 0, 1, IMMEDIATE.f32)
define(0x44, 0x44, 'constant', 0, 1, IMMEDIATE.f64)
// Comparisons.
define(0x45, 0x45, 'integer', 1, 1)
define(0x46, 0x4f, 'integer', 2, 1)
define(0x50, 0x50, 'integer', 1, 1)
define(0x51, 0x5a, 'integer', 2, 1)
define(0x5b, 0x66, 'floatCompare', 2, 1, IMMEDIATE.none, NAN.ignores)
// i32 and i64.
for (const base of [0x67, 0x79]) {
  define(base, base + 2, 'count', 1, 1) // clz ctz popcnt
  define(base + 3, base + 4, 'integer', 2, 1) // add sub
  define(base + 5, base + 5, 'multiply', 2, 1)
  define(base + 6, base + 9, 'divide', 2, 1) // div_s div_u rem_s rem_u
  define(base + 10, base + 17, 'integer', 2, 1) // and or xor shl shr_s shr_u rotl rotr
}
// f32 and f64.
for (const [base, makes] of [[0x8b, NAN.makes32], [0x99, NAN.makes64]] as const) {
  define(base, base + 1, 'floatMove', 1, 1) // abs neg
  define(base + 2, base + 5, 'floatRound', 1, 1, IMMEDIATE.none, makes) // ceil floor trunc nearest
  define(base + 6, base + 6, 'floatRoot', 1, 1, IMMEDIATE.none, makes)
  define(base + 7, base + 9, 'float', 2, 1, IMMEDIATE.none, makes) // add sub mul
  define(base + 10, base + 10, 'floatDivide', 2, 1, IMMEDIATE.none, makes)
  define(base + 11, base + 12, 'float', 2, 1, IMMEDIATE.none, makes) // min max
  define(base + 13, base + 13, 'floatMove', 2, 1) // copysign
}
// Conversions.
define(0xa7, 0xa7, 'integer', 1, 1) // i32.wrap_i64
define(0xa8, 0xab, 'truncate', 1, 1, IMMEDIATE.none, NAN.ignores)
define(0xac, 0xad, 'integer', 1, 1) // i64.extend_i32
define(0xae, 0xb1, 'truncate', 1, 1, IMMEDIATE.none, NAN.ignores)
define(0xb2, 0xb5, 'convert', 1, 1)
define(0xb6, 0xb6, 'convert', 1, 1, IMMEDIATE.none, NAN.makes32) // f32.demote_f64
define(0xb7, 0xba, 'convert', 1, 1)
define(0xbb, 0xbb, 'convert', 1, 1, IMMEDIATE.none, NAN.makes64) // f64.promote_f32
define(0xbc, 0xbf, 'floatMove', 1, 1) // reinterpret
define(0xc0, 0xc4, 'integer', 1, 1) // sign extension
// Saturating truncation and bulk memory.
define(OP.prefix, OP.prefix, 'free', 0, 0, IMMEDIATE.prefixed)

/** Class of cost of an instruction after the prefix 0xfc. */
export function prefixedClass(opcode: number): CostClass {
  return opcode < BULK.memoryInit ? 'truncate' : 'bulk'
}
