/**
 * Random valid WebAssembly programs that end: a tape of bytes decides everything, so that a failing program shrinks with its tape.
 * Loops count down, functions call only later ones or themselves with a smaller number, memory accesses mostly fit. Covers locals,
 * globals, blocks with and without values, br, br_if, br_table, return, calls, call_indirect, loads, all stores, memory.grow, bulk memory,
 * integers, floats and their NaNs, host calls, traps, code that never runs.
 */
import { HEADER, name, section, u32, vector } from './raw-module.ts'

const [I32, I64, F32, F64] = [0x7f, 0x7e, 0x7d, 0x7c] as const
type Type = typeof I32 | typeof I64 | typeof F32 | typeof F64
const TYPES: readonly Type[] = [I32, I64, F32, F64]

export interface ProgramOptions {
  /** Makes every NaN canonical behind each instruction that may give one: what the meter promises, done the plain way. */
  readonly canonical?: boolean
  /** Lets branches lead back into loops and functions call any other: most such programs never end by themselves. */
  readonly endless?: boolean
  /** Most statements store, or change where the next ones store. */
  readonly stores?: boolean
}

/** Decisions, then zeros without end. Zero is the simplest choice everywhere. */
class Tape {
  readonly #bytes: Uint8Array
  #at = 0

  constructor(bytes: Uint8Array) {
    this.#bytes = bytes
  }

  get done(): boolean {
    return this.#at >= this.#bytes.length
  }

  next(choices: number): number {
    return (this.#bytes[this.#at++] ?? 0) % choices
  }

  bytes(count: number): number[] {
    return Array.from({ length: count }, () => this.next(256))
  }

  pick<T>(list: readonly T[]): T {
    return list[this.next(list.length)] as T
  }
}

interface Signature {
  readonly parameters: readonly Type[]
  readonly result: Type | undefined
}

interface Label {
  readonly result: Type | undefined
  /** A branch to it would run the loop again. */
  readonly loop: boolean
}

const s32 = (value: number): number[] => {
  const low = value & 0x7f
  const rest = value >> 7
  return (rest === 0 && low < 0x40) || (rest === -1 && low >= 0x40) ? [low] : [low | 0x80, ...s32(rest)]
}
const sized = (content: readonly number[]): number[] => [...u32(content.length), ...content]

const MAIN: Signature = { parameters: [I32], result: I64 }
const HOST = { read: 0, note: 1, fail: 2 } as const
const IMPORTED: readonly (readonly [string, Signature])[] = [
  ['ctx', { parameters: [I32], result: I64 }], ['reg', { parameters: [I32], result: undefined }],
  ['fail', { parameters: [I32, I32], result: undefined }],
]
/** One of each type: the mutable globals, and one that is not. */
const GLOBALS: readonly Type[] = TYPES

const I32_BINARY = [0x6a, 0x6b, 0x6c, 0x71, 0x72, 0x73, 0x74, 0x75, 0x76, 0x77, 0x78, 0x46, 0x47, 0x48, 0x49, 0x4e]
const I64_BINARY = [0x7c, 0x7d, 0x7e, 0x83, 0x84, 0x85, 0x86, 0x87, 0x88, 0x89, 0x8a]
const DIVISIONS: ReadonlyMap<Type, readonly number[]> = new Map([[I32, [0x6d, 0x6e, 0x6f, 0x70]], [I64, [0x7f, 0x80, 0x81, 0x82]]])
const F32_BINARY = [0x92, 0x93, 0x94, 0x95, 0x96, 0x97, 0x98]
const F64_BINARY = [0xa0, 0xa1, 0xa2, 0xa3, 0xa4, 0xa5, 0xa6]
const UNARY: ReadonlyMap<Type, readonly (readonly [number, Type])[]> = new Map([
  [I32, [[0x45, I32], [0x67, I32], [0x68, I32], [0x69, I32], [0xa7, I64], [0xc0, I32], [0xc1, I32], [0xbc, F32], [0x50, I64]]],
  [I64, [[0x79, I64], [0x7b, I64], [0xac, I32], [0xad, I32], [0xc2, I64], [0xc4, I64], [0xbd, F64]]],
  [F32, [[0x8b, F32], [0x8c, F32], [0x8d, F32], [0x8e, F32], [0x8f, F32], [0x90, F32], [0x91, F32], [0xb2, I32], [0xb5, I64], [0xb6, F64], [0xbe, I32]]],
  [F64, [[0x99, F64], [0x9a, F64], [0x9b, F64], [0x9c, F64], [0x9d, F64], [0x9e, F64], [0x9f, F64], [0xb7, I32], [0xba, I64], [0xbb, F32], [0xbf, I64]]],
] as const)
const SATURATING: ReadonlyMap<Type, readonly (readonly [number, Type])[]> = new Map([
  [I32, [[0, F32], [1, F32], [2, F64], [3, F64]]], [I64, [[4, F32], [5, F32], [6, F64], [7, F64]]],
] as const)
const LOADS: ReadonlyMap<Type, readonly number[]> = new Map([
  [I32, [0x28, 0x2c, 0x2d, 0x2e, 0x2f]], [I64, [0x29, 0x30, 0x35]], [F32, [0x2a]], [F64, [0x2b]],
] as const)
const STORES: ReadonlyMap<Type, readonly number[]> = new Map([
  [I32, [0x36, 0x3a, 0x3b]], [I64, [0x37, 0x3c, 0x3d, 0x3e]], [F32, [0x38]], [F64, [0x39]],
] as const)
/** Bits of floats worth meeting: zeros, infinities, quiet and signalling NaNs of both signs. */
const F32_BITS = [0, 0x80000000, 0x3f800000, 0x7f800000, 0xff800000, 0x7fc00000, 0xffc00000, 0x7fa12345, 0xff812345, 0x42280000]
const F64_HIGH = [0, 0x80000000, 0x3ff00000, 0x7ff00000, 0xfff00000, 0x7ff80000, 0xfff80000, 0x7ff45678, 0xfff12345, 0x40450000]

const makesNan = (opcode: number): Type | undefined =>
  (opcode >= 0x8d && opcode <= 0x97) || opcode === 0xb6 ? F32 : (opcode >= 0x9b && opcode <= 0xa5) || opcode === 0xbb ? F64 : undefined

class Body {
  readonly #tape: Tape
  readonly #signatures: readonly Signature[]
  readonly #self: number
  readonly #options: ProgramOptions
  readonly #locals: Type[]
  readonly #labels: Label[] = []
  #loops = 0
  #depth = 0
  #recursed = false
  /** A local that nothing else writes: how much deeper main may still call itself. */
  readonly #fuel: number
  /** Locals that hold addresses and nothing else. */
  readonly #places: readonly number[]

  constructor(tape: Tape, signatures: readonly Signature[], self: number, options: ProgramOptions) {
    this.#tape = tape
    this.#signatures = signatures
    this.#self = self
    this.#options = options
    const own = this.#own
    this.#locals = [...own.parameters, ...TYPES, ...TYPES]
    this.#fuel = this.#local(I32)
    this.#places = [this.#local(I32), this.#local(I32)]
  }

  get #own(): Signature {
    return this.#signatures[this.#self] as Signature
  }

  encode(): number[] {
    this.#labels.push({ result: this.#own.result, loop: false })
    const start = this.#self === 0 ? [0x20, 0, 0x41, 3, 0x71, 0x21, ...u32(this.#fuel)] : []
    const code = [...start, ...this.#statements(6), ...(this.#own.result === undefined ? [] : this.#expression(this.#own.result, 3))]
    const added = this.#locals.slice(this.#own.parameters.length).map((type) => [1, type])
    return sized([...vector(added), ...code, 0x0b])
  }

  #local(type: Type): number {
    this.#locals.push(type)
    return this.#locals.length - 1
  }

  /** One of the locals of that type that are no counters: the parameters and the eight after them. */
  #some(type: Type): number {
    const known = this.#locals.slice(0, this.#own.parameters.length + 8)
    return this.#tape.pick([...known.keys()].filter((index) => known[index] === type))
  }

  #statements(most: number): number[] {
    const code: number[] = []
    for (let left = this.#tape.next(most); left > 0; left--) code.push(...this.#statement())
    return code
  }

  #statement(): number[] {
    const tape = this.#tape
    if (tape.done) return []
    const type = tape.pick(TYPES)
    if (this.#options.stores === true && tape.next(2) === 1) return tape.next(3) === 0 ? this.#place() : this.#store(type)
    switch (tape.next(20)) {
      case 0: return [...this.#expression(type, 3), 0x21, ...u32(this.#some(type))]
      case 1: return [...this.#expression(type, 3), 0x24, ...u32(GLOBALS.indexOf(type))]
      case 2: case 16: return this.#store(type)
      case 3: return this.#if(undefined)
      case 4: return this.#block(undefined)
      case 5: case 6: return this.#loop()
      case 7: return this.#branch()
      case 8: return this.#when(() => this.#return())
      case 9: return this.#call(undefined)
      case 10: return [...this.#address(), ...this.#expression(I32, 1), ...this.#length(), 0xfc, 11, 0]
      case 11: return [...this.#address(), ...this.#address(), ...this.#length(), 0xfc, 10, 0, 0]
      case 12: return [...this.#address(), 0x41, ...s32(tape.next(4)), 0x41, ...s32(tape.next(7)), 0xfc, 8, 0, 0]
      case 13: return [0x41, ...s32(tape.next(3)), 0x40, 0, 0x21, ...u32(this.#some(I32))]
      case 14: return this.#branchTable()
      case 15: return [...this.#expression(I32, 2), 0x10, HOST.note]
      case 17: return this.#place()
      case 18: return tape.next(12) === 11 ? this.#when(() => [0x00, ...this.#statements(2)]) : this.#block(type)
      default: return this.#recursion()
    }
  }

  /** Mostly within the first page, seldom beyond all. */
  #address(): number[] {
    return [...this.#expression(I32, 1), 0x41, ...s32(this.#tape.next(40) === 39 ? 0x1ffff : 0xfff), 0x71]
  }

  #store(type: Type): number[] {
    const tape = this.#tape
    return [...this.#stored(), ...this.#expression(type, 3), tape.pick(STORES.get(type) ?? []), 0, ...u32(tape.next(200))]
  }

  #place(): number[] {
    return [...this.#address(), 0x21, ...u32(this.#tape.pick(this.#places))]
  }

  /** Of a store: computed, a constant, or what a local holds, often the same as of the store before. */
  #stored(): number[] {
    switch (this.#tape.next(6)) {
      case 0: return this.#address()
      case 1: return [0x41, ...s32(this.#tape.next(200))]
      case 2: return [...this.#address(), 0x22, ...u32(this.#tape.pick(this.#places))]
      default: return [0x20, ...u32(this.#tape.pick(this.#places))]
    }
  }

  #length(): number[] {
    return [...this.#expression(I32, 1), 0x41, ...s32(0xff), 0x71]
  }

  #within(label: Label, make: () => number[]): number[] {
    this.#labels.push(label)
    this.#depth++
    const code = make()
    this.#depth--
    this.#labels.pop()
    return code
  }

  #if(result: Type | undefined): number[] {
    const condition = this.#expression(I32, 2)
    const arm = (): number[] => this.#within({ result, loop: false }, () => this.#valued(result))
    const then = arm()
    const otherwise = result !== undefined || this.#tape.next(2) === 1 ? [0x05, ...arm()] : []
    return [...condition, 0x04, result ?? 0x40, ...then, ...otherwise, 0x0b]
  }

  #when(make: () => number[]): number[] {
    return [...this.#expression(I32, 2), 0x04, 0x40, ...this.#within({ result: undefined, loop: false }, make), 0x0b]
  }

  #valued(result: Type | undefined): number[] {
    if (this.#depth > 5) return result === undefined ? [] : this.#expression(result, 0)
    return [...this.#statements(4), ...(result === undefined ? [] : this.#expression(result, 2))]
  }

  #block(result: Type | undefined): number[] {
    const code = [0x02, result ?? 0x40, ...this.#within({ result, loop: false }, () => this.#valued(result)), 0x0b]
    return result === undefined ? code : [...code, 0x1a]
  }

  /** `while (n-- > 0)` in one of three shapes: the branch back at the end, in a condition, or in a table. */
  #loop(): number[] {
    if (this.#loops >= 3 || this.#depth > 4) return []
    const shape = this.#tape.next(3)
    const turns = this.#tape.next(4)
    const counter = this.#local(I32)
    this.#loops++
    const step = [0x20, ...u32(counter), 0x41, 1, 0x6b, 0x22, ...u32(counter)]
    const body = (extra: number): number[] => {
      for (let left = extra; left > 0; left--) this.#labels.push({ result: undefined, loop: true })
      const code = this.#within({ result: undefined, loop: true }, () => this.#statements(4))
      for (let left = extra; left > 0; left--) this.#labels.pop()
      return code
    }
    const start = [0x41, ...s32(turns), 0x21, ...u32(counter)]
    if (shape === 0) return [...start, 0x03, 0x40, ...body(0), ...step, 0x41, 0, 0x4a, 0x0d, 0, 0x0b]
    if (shape === 1) return [...start, 0x03, 0x40, ...step, 0x41, 0x7f, 0x4a, 0x04, 0x40, ...body(1), 0x0c, 1, 0x0b, 0x0b]
    return [...start, 0x02, 0x40, 0x03, 0x40, ...body(1), ...step, 0x41, 0, 0x4a, 0x0e, 1, 1, 0, 0x0b, 0x0b]
  }

  /** Labels that may be branched to with that value; never back into a loop. */
  #targets(result: Type | undefined): number[] {
    const labels = this.#labels
    const suits = (label: Label): boolean => label.result === result && (!label.loop || this.#options.endless === true)
    return labels.flatMap((label, index) => suits(label) ? [labels.length - 1 - index] : [])
  }

  #branch(): number[] {
    const targets = this.#targets(undefined)
    if (targets.length === 0) return []
    const target = this.#tape.pick(targets)
    if (this.#tape.next(4) > 0) return [...this.#expression(I32, 2), 0x0d, ...u32(target)]
    return this.#when(() => [0x0c, ...u32(target + 1), ...this.#statements(3)])
  }

  #branchTable(): number[] {
    // A table of its own blocks, and whatever else may be reached.
    const count = 1 + this.#tape.next(3)
    const open = Array.from({ length: count }, () => [0x02, 0x40]).flat()
    for (let left = count; left > 0; left--) this.#labels.push({ result: undefined, loop: false })
    const index = this.#expression(I32, 1)
    const targets = this.#targets(undefined)
    const table = Array.from({ length: this.#tape.next(5) }, () => u32(this.#tape.pick(targets)))
    const code = [...open, ...index, 0x0e, ...vector(table), ...u32(this.#tape.pick(targets))]
    for (let left = count; left > 0; left--) {
      this.#labels.pop()
      code.push(0x0b, ...(this.#depth > 4 ? [] : this.#statements(2)))
    }
    return code
  }

  #return(): number[] {
    const { result } = this.#own
    return [...(result === undefined ? [] : this.#expression(result, 1)), 0x0f]
  }

  /** A call of a later function, or through the table of one that suits; its result is dropped unless asked for. */
  #call(result: Type | undefined): number[] {
    if (this.#loops > 1) return result === undefined ? [] : this.#constant(result)
    const wanted = [...this.#signatures.keys()]
      .filter((index) => (index > this.#self || this.#options.endless === true) && this.#signatures[index]?.result === result)
    if (wanted.length === 0) return result === undefined ? [] : this.#constant(result)
    const index = this.#tape.pick(wanted)
    const parameters = this.#signatures[index]?.parameters ?? []
    const passed = parameters.flatMap((type) => this.#expression(type, 1))
    if (this.#tape.next(2) === 0) return [...passed, 0x10, ...u32(index + IMPORTED.length)]
    // Through the table, now and then at the wrong place.
    const slot = this.#tape.next(20) === 19 ? this.#tape.next(12) : index
    return [...passed, 0x41, ...s32(slot), 0x11, ...u32(index + IMPORTED.length), 0]
  }

  /** Only main, once and outside loops: itself with a smaller number. */
  #recursion(): number[] {
    if (this.#recursed || this.#self !== 0 || this.#loops > 0) return []
    this.#recursed = true
    const fuel = [0x20, ...u32(this.#fuel)]
    return [...fuel, 0x04, 0x40, ...fuel, 0x41, 1, 0x6b, 0x10, IMPORTED.length, 0x24, GLOBALS.indexOf(I64), 0x0b]
  }

  #constant(type: Type): number[] {
    const tape = this.#tape
    if (type === I32) return [0x41, ...s32(tape.next(4) === 3 ? 0x7fffffff - tape.next(3) : tape.next(100) - 20)]
    if (type === I64) return [0x42, ...s32(tape.next(100) - 20)]
    if (type === F32) {
      const bits = tape.pick(F32_BITS)
      return [0x43, bits & 0xff, (bits >>> 8) & 0xff, (bits >>> 16) & 0xff, bits >>> 24]
    }
    const high = tape.pick(F64_HIGH)
    return [0x44, 0, 0, 0, 0, high & 0xff, (high >>> 8) & 0xff, (high >>> 16) & 0xff, high >>> 24]
  }

  #expression(type: Type, depth: number): number[] {
    const tape = this.#tape
    if (depth <= 0 || tape.done) return tape.next(3) === 0 ? this.#constant(type) : [0x20, ...u32(this.#some(type))]
    switch (tape.next(12)) {
      case 0: return this.#constant(type)
      case 1: return [0x20, ...u32(this.#some(type))]
      case 2: return [0x23, ...u32(GLOBALS.indexOf(type))]
      case 3: case 4: case 5: return this.#binary(type, depth)
      case 6: return this.#unary(type, depth)
      case 7: return [...this.#address(), tape.pick(LOADS.get(type) ?? []), 0, ...u32(tape.next(200))]
      case 8: return [...this.#expression(type, depth - 1), ...this.#expression(type, depth - 1), ...this.#expression(I32, 1), 0x1b]
      case 9: return this.#call(type)
      case 10: return this.#depth > 4 ? this.#constant(type) : tape.next(2) === 0 ? this.#if(type) : this.#handingOn(type)
      default: return type === I64 ? [0x41, 2, 0x10, HOST.read] : [...this.#expression(type, depth - 1), 0x22, ...u32(this.#some(type))]
    }
  }

  /** A block whose value may leave it early, or be worked on. */
  #handingOn(type: Type): number[] {
    const inside = this.#within({ result: type, loop: false }, () => {
      const value = this.#expression(type, 2)
      const branch = [...this.#expression(I32, 1), 0x0d, 0]
      const after = this.#then(type)
      return [...value, ...branch, ...after]
    })
    return [0x02, type, ...inside, 0x0b]
  }

  /** Something that takes a value of that type from the stack and gives another. */
  #then(type: Type): number[] {
    if (type === I32) return [...this.#expression(I32, 1), 0x6a]
    if (type === I64) return [...this.#expression(I64, 1), 0x7c]
    return this.#made(this.#tape.pick(type === F32 ? [0x91, 0x8d, 0x8c] : [0x9f, 0x9b, 0x9a]))
  }

  #binary(type: Type, depth: number): number[] {
    const tape = this.#tape
    const operands = (of: Type): number[] => [...this.#expression(of, depth - 1), ...this.#expression(of, depth - 1)]
    if ((type === I32 || type === I64) && tape.next(8) === 7) {
      // A division that seldom traps.
      const guard = tape.next(6) === 5 ? [] : type === I32 ? [0x41, 1, 0x72] : [0x42, 1, 0x84]
      return [...operands(type), ...guard, tape.pick(DIVISIONS.get(type) ?? [])]
    }
    if (type === I32) {
      const compared = tape.next(4)
      if (compared === 3) return [...operands(F64), tape.pick([0x61, 0x62, 0x63, 0x65])]
      if (compared === 2) return [...operands(F32), tape.pick([0x5b, 0x5c, 0x5d, 0x5f])]
      return [...operands(I32), tape.pick(I32_BINARY)]
    }
    if (type === I64) return [...operands(I64), tape.pick(I64_BINARY)]
    return [...operands(type), ...this.#made(tape.pick(type === F32 ? F32_BINARY : F64_BINARY))]
  }

  #unary(type: Type, depth: number): number[] {
    const tape = this.#tape
    const saturating = SATURATING.get(type)
    if (saturating !== undefined && tape.next(4) === 3) {
      const [opcode, from] = tape.pick(saturating)
      return [...this.#expression(from, depth - 1), 0xfc, opcode]
    }
    const [opcode, from] = tape.pick(UNARY.get(type) ?? [])
    return [...this.#expression(from, depth - 1), ...this.#made(opcode)]
  }

  #made(opcode: number): number[] {
    const type = this.#options.canonical === true ? makesNan(opcode) : undefined
    if (type === undefined) return [opcode]
    const local = u32(this.#local(type))
    const nan = type === F32 ? [0x43, 0, 0, 0xc0, 0x7f] : [0x44, 0, 0, 0, 0, 0, 0, 0xf8, 0x7f]
    return [opcode, 0x21, ...local, 0x20, ...local, ...nan, 0x20, ...local, 0x20, ...local, type === F32 ? 0x5b : 0x61, 0x1b]
  }
}

/** The program that the tape tells. It exports `main(i32) -> i64`, `memory` and, as `keep0` to `keep3`, its mutable globals. */
export function program(bytes: Uint8Array, options: ProgramOptions = {}): Uint8Array {
  const tape = new Tape(bytes)
  const count = tape.next(5)
  const result = (): Type | undefined => tape.pick([I32, F64, undefined, I64, F32])
  const signatures: Signature[] = [MAIN]
  for (let left = count; left > 0; left--) {
    signatures.push({ parameters: Array.from({ length: tape.next(4) }, () => tape.pick(TYPES)), result: result() })
  }
  const started = tape.next(4) === 3
  const data = tape.bytes(8)
  const bodies = signatures.map((_, index) => new Body(tape, signatures, index, options).encode())
  const all = [...IMPORTED.map(([, signature]) => signature), ...signatures, { parameters: [], result: undefined }]
  const start = sized([0, 0x41, 7, 0x24, 0, 0x0b])
  return Uint8Array.from([
    ...HEADER,
    ...section(1, vector(all.map(({ parameters, result: given }) =>
      [0x60, ...vector(parameters.map((type) => [type])), ...vector(given === undefined ? [] : [[given]])]))),
    ...section(2, vector(IMPORTED.map(([imported], index) => [...name('cmesh'), ...name(imported), 0, index]))),
    ...section(3, vector([...signatures.keys(), signatures.length].map((index) => u32(index + IMPORTED.length)))),
    ...section(4, vector([[0x70, 0, 10]])),
    ...section(5, vector([[1, 1, 4]])),
    ...section(6, vector([
      [I32, 1, 0x41, 5, 0x0b], [I64, 1, 0x42, 6, 0x0b], [F32, 1, 0x43, 0, 0, 0x80, 0x3f, 0x0b], [F64, 1, 0x44, 0, 0, 0, 0, 0, 0, 0, 0x40, 0x0b],
    ])),
    ...section(7, vector([
      [...name('main'), 0, IMPORTED.length], [...name('memory'), 2, 0], ...GLOBALS.map((_, index) => [...name(`keep${index}`), 3, index]),
    ])),
    ...(started ? section(8, u32(IMPORTED.length + signatures.length)) : []),
    ...section(9, vector([[0, 0x41, 0, 0x0b, ...vector(signatures.map((_, index) => u32(index + IMPORTED.length)))]])),
    ...section(12, [2]),
    ...section(10, vector([...bodies, start])),
    ...section(11, vector([[1, ...sized(data)], [0, 0x41, ...s32(64), 0x0b, ...sized(data)]])),
  ])
}
