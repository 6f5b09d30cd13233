/**
 * Second pass over one function: writes it with the metering in. The body stands in two blocks:
 *
 *     block $out                 ;; where a check goes that finds too little gas or too little stack
 *       charge the first block, take the frame off the stack slots
 *       block $body              ;; where a return goes
 *         the code, with its charges
 *       end
 *       write the gas back, give the frame back, return
 *     end
 *     write the gas back, unreachable
 *
 * The gas left lives in a local, and in the global only around calls. A function of one basic block without calls is charged
 * in the global once, before its unchanged code. A function without calls takes no stack slots: its one frame is within the reserve.
 *
 * What a function marks of its stores (`stores.ts`) it keeps in a local as well, and adds it to the global where it returns: a call that ends
 * otherwise says nothing of how far it wrote.
 */
import type { Analysis } from './analysis.ts'
import type { Block } from './blocks.ts'
import type { ByteWriter } from './bytes.ts'
import type { Edit } from './edits.ts'
import { Marks } from './marks.ts'
import { OP, TYPE } from './opcodes.ts'
import type { Schedule } from './schedule.ts'

/** Indices of what the rewriter adds to the module. */
export interface Additions {
  readonly gas: number
  readonly depth: number
  /** The addresses of stores, OR-ed. */
  readonly reach: number
  /** The function that grows the memory. */
  readonly grow: number
}

export interface EmissionOptions {
  readonly schedule: Schedule
  /** Meter stack slots. */
  readonly stack: boolean
  readonly everyInstruction: boolean
}

/** Slots of 8 bytes that a frame takes beside its parameters, locals and operands: return address, instance, spilled registers. */
const FRAME_OVERHEAD = 16

const IF_NEGATIVE = [OP.i64Const, 0, OP.i64LtS, OP.brIf] as const
const NAN32 = [0x00, 0x00, 0xc0, 0x7f] as const
const NAN64 = [0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0xf8, 0x7f] as const

/** Stack slots of one frame. A parameter takes one with the caller and one here. */
export function frameSlots({ locals, parameters, operands }: Analysis): number {
  return locals + parameters + operands + FRAME_OVERHEAD
}

export function entryCost({ locals }: Analysis, { entry }: Schedule): number {
  return entry.base + Math.ceil(locals / entry.localsPerGas)
}

/** Gives how many of the bytes written are there for marks alone. */
export function emit(out: ByteWriter, source: Uint8Array, end: number, found: Analysis, added: Additions, options: EmissionOptions): number {
  return new Emitter(out, source, end, found, added, options).run()
}

class Emitter {
  readonly #out: ByteWriter
  readonly #source: Uint8Array
  readonly #end: number
  readonly #found: Analysis
  readonly #added: Additions
  readonly #options: EmissionOptions
  /** What the frame takes; 0 for one that does not count. */
  readonly #slots: number
  /** Locals that the rewriter adds. */
  #gas = 0
  #length = 0
  #float32 = 0
  #float64 = 0
  #at: number
  readonly #marks: Marks

  constructor(out: ByteWriter, source: Uint8Array, end: number, found: Analysis, added: Additions, options: EmissionOptions) {
    this.#out = out
    this.#source = source
    this.#end = end
    this.#found = found
    this.#added = added
    this.#options = options
    this.#slots = options.stack && found.calls ? frameSlots(found) : 0
    this.#at = found.code
    this.#marks = new Marks(out, added.reach, found.edits)
  }

  run(): number {
    const { blocks, edits, calls, loops } = this.#found
    const straight = blocks.length === 1 && !calls && !loops && !edits.some(({ kind }) => kind === 'bulk' || kind === 'grow')
    this.#locals(straight)
    if (straight) this.#straight()
    else this.#framed()
    return this.#marks.bytes
  }

  #locals(straight: boolean): void {
    const out = this.#out
    const { edits, groups, groupsAt, locals, code } = this.#found
    let next = locals
    const extra: number[] = []
    const add = (needed: boolean, type: number): number => {
      if (needed) extra.push(type)
      return needed ? next++ : 0
    }
    this.#gas = add(!straight, TYPE.i64)
    this.#length = add(edits.some(({ kind }) => kind === 'bulk'), TYPE.i32)
    this.#float32 = add(edits.some(({ kind }) => kind === 'nan32'), TYPE.f32)
    this.#float64 = add(edits.some(({ kind }) => kind === 'nan64'), TYPE.f64)
    const marks = this.#marks.locals(next, !straight, groups + extra.length)
    out.u32(groups + extra.length + marks)
    out.range(this.#source, groupsAt, code)
    for (const type of extra) out.bytes(1, type)
    for (let left = marks; left > 0; left--) out.bytes(1, TYPE.i32)
  }

  #straight(): void {
    const out = this.#out
    const [block] = this.#found.blocks
    out.op(OP.globalGet, this.#added.gas)
    this.#subtract((block?.cost ?? 0) + entryCost(this.#found, this.#options.schedule))
    out.op(OP.globalSet, this.#added.gas)
    out.op(OP.globalGet, this.#added.gas)
    out.bytes(OP.i64Const, 0, OP.i64LtS, OP.if, TYPE.empty, OP.unreachable, OP.end)
    for (const edit of this.#found.edits) if (edit.kind !== 'return') this.#edit(edit, undefined)
    out.range(this.#source, this.#at, this.#end)
  }

  #framed(): void {
    const out = this.#out
    const { blocks, edits, result } = this.#found
    const slots = this.#slots
    out.bytes(OP.block, TYPE.empty)
    out.op(OP.globalGet, this.#added.gas)
    this.#subtract((blocks[0]?.cost ?? 0) + entryCost(this.#found, this.#options.schedule))
    this.#check(0)
    if (slots > 0) {
      out.op(OP.globalGet, this.#added.depth)
      out.byte(OP.i32Const); out.signed(slots)
      out.byte(OP.i32Sub)
      out.op(OP.globalSet, this.#added.depth)
      out.op(OP.globalGet, this.#added.depth)
      out.bytes(OP.i32Const, 0, OP.i32LtS, OP.brIf, 0)
    }
    out.bytes(OP.block, result ?? TYPE.empty)
    this.#body(blocks, edits)
    out.byte(OP.end)
    this.#writeBack()
    this.#marks.writeBack()
    if (slots > 0) {
      out.op(OP.globalGet, this.#added.depth)
      out.byte(OP.i32Const); out.signed(slots)
      out.byte(OP.i32Add)
      out.op(OP.globalSet, this.#added.depth)
    }
    out.bytes(OP.return, OP.end)
    this.#writeBack()
    out.bytes(OP.unreachable, OP.end)
  }

  #body(blocks: readonly Block[], edits: readonly Edit[]): void {
    let [nextBlock, nextEdit] = [1, 0]
    for (;;) {
      const block = blocks[nextBlock]
      const edit = edits[nextEdit]
      if (block !== undefined && (edit === undefined || block.at <= edit.from)) {
        this.#copy(block.at)
        this.#charge(block)
        nextBlock++
      } else if (edit !== undefined) {
        const merged = edit.kind === 'call' && block?.at === edit.to && !block.checked
        this.#edit(edit, merged ? block : undefined)
        if (merged) nextBlock++
        nextEdit++
      } else break
    }
    this.#copy(this.#end - 1)
  }

  #copy(to: number): void {
    this.#out.range(this.#source, this.#at, to)
    this.#at = to
  }

  #charge({ cost, checked, depth }: Block): void {
    if (cost === 0) return
    const out = this.#out
    out.op(OP.localGet, this.#gas)
    this.#subtract(cost)
    if (checked) this.#check(depth)
    else { out.op(OP.localSet, this.#gas) }
  }

  /** Takes a number off the i64 on the stack. */
  #subtract(cost: number): void {
    this.#out.byte(OP.i64Const)
    this.#out.signed(cost)
    this.#out.byte(OP.i64Sub)
  }

  /** Keeps the i64 on the stack as the gas left, and goes to `$out` when it is negative. */
  #check(depth: number): void {
    const out = this.#out
    out.op(OP.localTee, this.#gas)
    out.list(IF_NEGATIVE)
    out.u32(depth)
  }

  #writeBack(): void {
    this.#out.op(OP.localGet, this.#gas)
    this.#out.op(OP.globalSet, this.#added.gas)
  }

  #readBack(block: Block | undefined): void {
    this.#out.op(OP.globalGet, this.#added.gas)
    if (block !== undefined && block.cost > 0) this.#subtract(block.cost)
    this.#out.op(OP.localSet, this.#gas)
  }

  #edit(edit: Edit, block: Block | undefined): void {
    const out = this.#out
    this.#copy(edit.from)
    switch (edit.kind) {
      case 'return':
        out.op(OP.br, edit.depth - 1)
        this.#at = edit.to
        return
      case 'call':
        this.#writeBack()
        this.#copy(edit.to)
        this.#readBack(block)
        return
      case 'grow':
        this.#writeBack()
        out.op(OP.call, this.#added.grow)
        this.#at = edit.to
        this.#readBack(undefined)
        return
      case 'bulk': this.#bulk(edit.depth); return
      case 'mark': this.#marks.address(edit.local); return
      case 'nan32': this.#canonical(this.#float32, OP.f32Const, NAN32, OP.f32Eq); return
      case 'nan64': this.#canonical(this.#float64, OP.f64Const, NAN64, OP.f64Eq); return
      case 'none': return
    }
  }

  /** Charges for the length on the stack and leaves it there. */
  #bulk(depth: number): void {
    const out = this.#out
    out.op(OP.localTee, this.#length)
    out.op(OP.localGet, this.#gas)
    out.op(OP.localGet, this.#length)
    out.bytes(OP.i64ExtendU, OP.i64Const, Math.log2(this.#options.schedule.bulkBytesPerGas), OP.i64ShrU, OP.i64Sub)
    this.#check(depth)
    this.#marks.range(this.#length)
  }

  /** The float on the stack, or the canonical NaN instead of any NaN. */
  #canonical(local: number, constant: number, nan: readonly number[], equal: number): void {
    const out = this.#out
    out.op(OP.localTee, local)
    out.byte(constant)
    out.list(nan)
    out.op(OP.localGet, local)
    out.op(OP.localGet, local)
    out.bytes(equal, OP.select)
  }
}
