/**
 * Writes what marks the addresses of stores (`stores.ts`) into a function: OR-s them into a local, and that into the global where the function
 * returns; into the global at once in a function that has no local for it. Everything here leaves the operands as they were. It counts
 * the bytes that it adds, which are of no account for the size of a module.
 */
import type { ByteWriter } from './bytes.ts'
import type { Edit } from './edits.ts'
import { OP } from './opcodes.ts'

export class Marks {
  readonly #out: ByteWriter
  readonly #global: number
  readonly #bulk: boolean
  /** There is an address that no local holds. */
  readonly #computed: boolean
  readonly #any: boolean
  #reach: number | undefined
  #address = 0
  #operand = 0
  /** Bytes that the function has for marks alone. */
  bytes = 0

  /** `global`: its index. `edits`: of the function. */
  constructor(out: ByteWriter, global: number, edits: readonly Edit[]) {
    this.#out = out
    this.#global = global
    this.#bulk = edits.some(({ kind }) => kind === 'bulk')
    this.#computed = edits.some(({ kind, local }) => kind === 'mark' && local === undefined)
    this.#any = this.#bulk || edits.some(({ kind }) => kind === 'mark')
  }

  /** Gives how many locals of type i32 marks need, from index `first` on, each declared by itself behind `groups` others. `own`: one to collect marks in. */
  locals(first: number, own: boolean, groups: number): number {
    let next = first
    if (own && this.#any) this.#reach = next++
    if (this.#bulk || this.#computed) this.#address = next++
    if (this.#bulk) this.#operand = next++
    const count = next - first
    this.bytes += 2 * count + sizeOf(groups + count) - sizeOf(groups)
    return count
  }

  /** Marks the address on the stack, which `local` holds as well or nothing else does. */
  address(local: number | undefined): void {
    this.#counted(out => {
      if (local === undefined) out.op(OP.localTee, this.#address)
      else out.op(OP.localGet, local)
      this.#take(out)
      if (local === undefined) out.op(OP.localGet, this.#address)
    })
  }

  /**
   * Marks where the bytes end that a bulk instruction is about to write; `length` holds its last operand. An end beyond 2^32 is beyond the
   * memory, so that the instruction traps.
   */
  range(length: number): void {
    this.#counted(out => {
      out.byte(OP.drop)
      out.op(OP.localSet, this.#operand)
      out.op(OP.localTee, this.#address)
      out.op(OP.localGet, length)
      out.byte(OP.i32Add)
      this.#take(out)
      for (const local of [this.#address, this.#operand, length]) out.op(OP.localGet, local)
    })
  }

  /** Adds what was collected to the global. */
  writeBack(): void {
    const reach = this.#reach
    if (reach === undefined) return
    this.#counted(out => {
      out.op(OP.globalGet, this.#global)
      out.op(OP.localGet, reach)
      out.byte(OP.i32Or)
      out.op(OP.globalSet, this.#global)
    })
  }

  /** Takes the address on the stack. */
  #take(out: ByteWriter): void {
    const [get, set, index] = this.#reach === undefined ? [OP.globalGet, OP.globalSet, this.#global] : [OP.localGet, OP.localSet, this.#reach]
    out.op(get, index)
    out.byte(OP.i32Or)
    out.op(set, index)
  }

  #counted(write: (out: ByteWriter) => void): void {
    const before = this.#out.length
    write(this.#out)
    this.bytes += this.#out.length - before
  }
}

/** Bytes of a number that is not negative. */
export function sizeOf(value: number): number {
  let bytes = 1
  for (let left = value; left > 0x7f; left = Math.floor(left / 0x80)) bytes++
  return bytes
}
