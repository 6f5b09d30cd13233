/**
 * First pass over one function: where its basic blocks begin and what each costs, what is to be inserted, how many stack slots its frame
 * takes. It changes nothing. The module is valid: `WebAssembly.validate` has said so.
 *
 * Invariants:
 * 1. Once a block is entered, all its instructions run unless one traps; so that charging it at its beginning charges what runs.
 * 2. A block ends behind every call. What the host reads or a revert charges is exactly the cost of what has run.
 * 3. Every function begins a block that is checked, and every turn of a loop passes one; so that code between two checks is bounded by
 *    the size of a function.
 * 4. Code that can never run costs nothing.
 */
import { Blocks } from './blocks.ts'
import type { Block, Loop } from './blocks.ts'
import { ByteReader } from './bytes.ts'
import { Operands } from './edits.ts'
import type { Edit, EditKind } from './edits.ts'
import { BULK, CLASSES, COST_CLASSES, IMMEDIATE, IMMEDIATES, NAN, NANS, OP, POPS, PUSHES, TYPE, prefixedClass } from './opcodes.ts'
import type { Schedule } from './schedule.ts'
import type { ByteRange, ModuleShape } from './shape.ts'
import { Stores, type Reach } from './stores.ts'

export interface Analysis {
  /** Where the instructions begin, behind the declaration of the locals. */
  readonly code: number
  readonly parameters: number
  readonly result: number | undefined
  /** Locals, parameters included. */
  readonly locals: number
  /** Groups in the declaration of the locals, and where they begin. */
  readonly groups: number
  readonly groupsAt: number
  readonly blocks: readonly Block[]
  readonly edits: readonly Edit[]
  /** Most operands at once. */
  readonly operands: number
  readonly calls: boolean
  readonly loops: boolean
  readonly reach: Reach
}

export interface AnalysisOptions {
  readonly schedule: Schedule
  /** Costs by opcode, from `costsOf`. */
  readonly costs: Uint32Array
  /** Canonicalise NaNs. */
  readonly nan: boolean
  /** A block for each instruction and a mark for each store: the plain way to meter, which tests compare with. */
  readonly everyInstruction: boolean
}

/** Cost of each opcode without a prefix. What a loop costs is charged inside it. */
export function costsOf({ instruction }: Schedule): Uint32Array {
  const costs = Uint32Array.from(CLASSES, (index) => instruction[COST_CLASSES[index] ?? 'free'])
  costs[OP.loop] = 0
  return costs
}

/** A structured block that is open. */
interface Frame {
  readonly opcode: number
  /** Of a loop in code that runs. */
  readonly loop: Loop | undefined
  /** Operands below it. */
  readonly height: number
  readonly results: number
  /** Whether it stands in code that never runs. */
  readonly dead: boolean
  targeted: boolean
}

export function analyse(shape: ModuleShape, typeIndex: number, body: ByteRange, options: AnalysisOptions): Analysis {
  const code = new ByteReader(shape.wasm, body.from, body.to)
  const type = shape.types[typeIndex]
  const parameters = type?.parameters.length ?? 0
  const groups = code.u32()
  const groupsAt = code.at
  let locals = parameters
  for (let left = groups; left > 0; left--) {
    locals += code.u32()
    code.skip(1)
  }
  const [start, result] = [code.at, type?.results[0]]
  // Not by spreading: that took a quarter of the whole rewriting.
  const { blocks, edits, operands, calls, loops, reach } = new Analyser(shape, code, result === undefined ? 0 : 1, options).run()
  return { code: start, parameters, result, locals, groups, groupsAt, blocks, edits, operands, calls, loops, reach }
}

class Analyser {
  readonly #shape: ModuleShape
  readonly #options: AnalysisOptions
  readonly #code: ByteReader
  readonly #blocks: Blocks
  readonly #operands = new Operands()
  readonly #stores: Stores
  readonly #edits: Edit[] = []
  readonly #frames: Frame[]
  #frame: Frame
  #dead = false
  #calls = false

  constructor(shape: ModuleShape, code: ByteReader, results: number, options: AnalysisOptions) {
    this.#shape = shape
    this.#options = options
    this.#code = code
    this.#stores = new Stores(code.bytes, options.everyInstruction)
    this.#blocks = new Blocks(code.at, options.everyInstruction)
    this.#frame = { opcode: OP.block, loop: undefined, height: 0, results, dead: false, targeted: false }
    this.#frames = [this.#frame]
  }

  run(): Pick<Analysis, 'blocks' | 'edits' | 'operands' | 'calls' | 'loops' | 'reach'> {
    while (!this.#code.done) this.#instruction()
    return {
      blocks: this.#blocks.finish(), edits: this.#stores.among(this.#edits.filter(({ kind }) => kind !== 'none')),
      operands: this.#operands.most, calls: this.#calls, loops: this.#blocks.loops > 0, reach: this.#stores,
    }
  }

  #instruction(): void {
    const code = this.#code
    const at = code.at
    const opcode = code.bytes[code.at++] ?? 0
    const cost = this.#options.costs[opcode] ?? 0
    if (cost > 0 && !this.#dead) this.#blocks.charge(at, this.#frames.length, cost)
    switch (IMMEDIATES[opcode]) {
      case IMMEDIATE.none: if (opcode <= OP.return) this.#control(opcode, at); else this.#plain(opcode, at); return
      case IMMEDIATE.index: if (opcode <= OP.call) this.#jump(opcode, at, code.u32()); else this.#variable(opcode, at, code.u32()); return
      case IMMEDIATE.memory: code.u32(); this.#access(opcode, at, code.u32()); return
      case IMMEDIATE.block: this.#open(opcode); return
      case IMMEDIATE.branchTable: this.#branchTable(); return
      case IMMEDIATE.indirect: {
        const type = code.u32()
        code.skip(1)
        this.#called(at, type, 1)
        return
      }
      case IMMEDIATE.zero: code.skip(1); this.#plain(opcode, at); return
      case IMMEDIATE.i32: case IMMEDIATE.i64: code.skipNumber(10); this.#plain(opcode, at); return
      case IMMEDIATE.f32: code.skip(4); this.#plain(opcode, at); return
      case IMMEDIATE.f64: code.skip(8); this.#plain(opcode, at); return
      default: this.#prefixed(at)
    }
  }

  #variable(opcode: number, at: number, index: number): void {
    if (opcode === OP.localSet || opcode === OP.localTee) this.#stores.written(index, at)
    this.#plain(opcode, at)
  }

  #access(opcode: number, at: number, offset: number): void {
    if (opcode >= OP.i32Store && !this.#dead) this.#stores.store(opcode, offset, this.#operands.origin(1), this.#frames.length)
    this.#plain(opcode, at)
  }

  /** Instructions that neither branch nor call. */
  #plain(opcode: number, at: number): void {
    const nan = NANS[opcode] ?? 0
    const pops = POPS[opcode] ?? 0
    if (nan !== NAN.passes && !this.#dead) this.#operands.ignoreBits(pops)
    this.#operands.pop(pops, this.#frame.height)
    if (PUSHES[opcode] === 1) this.#operands.push(at, this.#code.at, nan >= NAN.makes32 ? this.#canonical(nan) : undefined)
    if (opcode === OP.memoryGrow) this.#edit('grow', at)
  }

  #canonical(nan: number): Edit | undefined {
    return this.#options.nan ? this.#edit(nan === NAN.makes32 ? 'nan32' : 'nan64') : undefined
  }

  #prefixed(at: number): void {
    const code = this.#code
    const opcode = code.u32()
    const cost = this.#options.schedule.instruction[prefixedClass(opcode)]
    if (!this.#dead) this.#blocks.charge(at, this.#frames.length, cost)
    if (opcode < BULK.memoryInit) {
      if (!this.#dead) this.#operands.ignoreBits(1)
      this.#operands.pop(1, this.#frame.height)
      this.#operands.push(at, code.at)
      return
    }
    if (opcode === BULK.memoryInit) code.u32()
    code.skip(opcode === BULK.memoryCopy ? 2 : 1)
    this.#operands.pop(3, this.#frame.height)
    this.#edit('bulk', at, at)
  }

  #open(opcode: number): void {
    const code = this.#code
    const results = code.bytes[code.at++] === TYPE.empty ? 0 : 1
    if (opcode === OP.if) this.#operands.pop(1, this.#frame.height)
    if (opcode === OP.loop) this.#stores.meet()
    const depth = this.#frames.length + 1
    const loop = opcode === OP.loop && !this.#dead
      ? this.#blocks.beginLoop(code.at, depth, this.#options.schedule.instruction.loop)
      : undefined
    this.#frame = { opcode, loop, height: this.#operands.height, results, dead: this.#dead, targeted: opcode === OP.if }
    this.#frames.push(this.#frame)
    if (opcode === OP.if) this.#begin()
  }

  #control(opcode: number, at: number): void {
    if (opcode === OP.unreachable) this.#kill()
    else if (opcode === OP.else) {
      this.#dead = this.#frame.dead
      this.#operands.height = this.#frame.height
      this.#stores.meet()
      this.#begin()
    } else if (opcode === OP.end) this.#close(at)
    else if (opcode === OP.return) {
      this.#edit('return', at)
      this.#kill()
    }
  }

  /** Behind a block that something branches to begins another; behind a loop the same goes on, since branches lead to its beginning. */
  #close(at: number): void {
    const frame = this.#frame
    this.#frames.pop()
    this.#frame = this.#frames.at(-1) ?? frame
    this.#operands.height = frame.height
    for (let left = frame.results; left > 0; left--) this.#operands.push(at, this.#code.at)
    this.#stores.meet()
    if (frame.dead || this.#frames.length === 0 || !frame.targeted || frame.opcode === OP.loop) return
    this.#dead = false
    this.#begin()
  }

  #jump(opcode: number, at: number, index: number): void {
    if (opcode === OP.call) {
      this.#called(at, this.#shape.functions[index] ?? 0, 0)
      return
    }
    if (opcode === OP.brIf) this.#operands.pop(1, this.#frame.height)
    this.#target(index, opcode === OP.brIf)
    if (opcode === OP.br) this.#kill()
    else this.#begin()
  }

  #branchTable(): void {
    const code = this.#code
    this.#operands.pop(1, this.#frame.height)
    for (let left = code.u32(); left >= 0; left--) this.#target(code.u32(), true)
    this.#kill()
  }

  /** `more`: operands beside the parameters. */
  #called(at: number, typeIndex: number, more: number): void {
    const type = this.#shape.types[typeIndex]
    this.#operands.pop((type?.parameters.length ?? 0) + more, this.#frame.height)
    if (type?.results.length === 1) this.#operands.push(at, this.#code.at)
    if (this.#dead) return
    this.#calls = true
    this.#edit('call', at)
    this.#begin()
  }

  /** A conditional branch may hand its operand to the block and leave it as well: then it has two readers. */
  #target(index: number, conditional: boolean): void {
    const frame = this.#frames[this.#frames.length - 1 - index]
    if (frame === undefined || this.#dead) return
    frame.targeted = true
    if (frame.loop !== undefined) this.#blocks.turn(frame.loop, conditional)
    else if (frame.results === 1) this.#operands.share()
  }

  #kill(): void {
    this.#dead = true
    this.#operands.height = this.#frame.height
  }

  #begin(): void {
    if (!this.#dead) this.#blocks.begin(this.#code.at, this.#frames.length)
  }

  #edit(kind: EditKind, from = this.#code.at, to = this.#code.at): Edit | undefined {
    if (this.#dead) return undefined
    const edit: Edit = { from, to, kind, depth: this.#frames.length }
    this.#edits.push(edit)
    return edit
  }
}
