/**
 * How far a function writes into its memory, so that whoever puts the memory back need not put back all of it. The addresses of stores are
 * OR-ed into one number, which takes an instruction each: no address has a bit above the highest of that number. An address that is a constant
 * is known before anything runs.
 *
 * Invariants:
 * 1. Before a store runs, its address was marked by this run of the function, or it is below `fixed`. An address may be marked that nothing is
 *    stored at.
 * 2. A mark is left out only where the same local, unchanged, was marked on every way to the store.
 */
import { ByteReader } from './bytes.ts'
import type { Edit, Origin } from './edits.ts'
import { OP } from './opcodes.ts'

export interface Reach {
  /** End of the furthest store whose address is a constant, whether it runs or not. */
  readonly fixed: number
  /** How many bytes behind the address of another store it ends at most. */
  readonly beyond: number
}

const WIDTHS: Readonly<Record<number, number>> = {
  [OP.i32Store]: 4, [OP.i64Store]: 8, [OP.f32Store]: 4, [OP.f64Store]: 8,
  [OP.i32Store8]: 1, [OP.i32Store16]: 2, [OP.i64Store8]: 1, [OP.i64Store16]: 2, [OP.i64Store32]: 4,
}

export class Stores implements Reach {
  readonly #source: Uint8Array
  readonly #everyStore: boolean
  readonly #marks: Edit[] = []
  /** Where each local was last written to, in the order of the code. */
  readonly #written = new Map<number, number>()
  /** Locals that are marked on every way that leads here, with where each was last written to before it was read for its mark. */
  readonly #marked = new Map<number, number>()
  fixed = 0
  beyond = 0

  /** `everyStore`: leave no mark out, though the same address was marked before. */
  constructor(source: Uint8Array, everyStore: boolean) {
    this.#source = source
    this.#everyStore = everyStore
  }

  /** The local is written to at this place. */
  written(local: number, at: number): void {
    this.#written.set(local, at)
  }

  /** Another way than the code before leads here. */
  meet(): void {
    if (this.#marked.size > 0) this.#marked.clear()
  }

  /** A store in code that runs; `offset` is its own. `depth`: structured blocks that are open. */
  store(opcode: number, offset: number, address: Origin, depth: number): void {
    const width = WIDTHS[opcode]
    // A store that is let in and not known here would leave memory as it was.
    if (width === undefined) throw new RangeError(`no width is known of the store 0x${opcode.toString(16)}`)
    const bytes = offset + width
    const giver = this.#source[address.from]
    if (giver === OP.i32Const) {
      this.fixed = Math.max(this.fixed, constantAt(this.#source, address) + bytes)
      return
    }
    this.beyond = Math.max(this.beyond, bytes)
    const local = giver === OP.localGet || giver === OP.localTee ? new ByteReader(this.#source, address.from + 1, address.to).u32() : undefined
    if (local !== undefined && !this.#everyStore) {
      const written = this.#writtenBefore(local, address)
      if (written !== undefined) {
        if (this.#marked.get(local) === written) return
        this.#marked.set(local, written)
      }
    }
    this.#marks.push({ from: address.to, to: address.to, kind: 'mark', depth, local })
  }

  /** The edits of a function, in the order of the code, with the marks among them. What is inserted at one place: a mark first. */
  among(edits: readonly Edit[]): readonly Edit[] {
    if (this.#marks.length === 0) return edits
    const marks = this.#marks.sort((a, b) => a.from - b.from)
    const all: Edit[] = []
    let next = 0
    for (const edit of edits) {
      for (let mark = marks[next]; mark !== undefined && mark.from <= edit.from; mark = marks[++next]) all.push(mark)
      all.push(edit)
    }
    return all.concat(marks.slice(next))
  }

  /** Where the local was last written to when it gave the address; `undefined` where it was written to since, and that is not known any more. */
  #writtenBefore(local: number, { from }: Origin): number | undefined {
    const written = this.#written.get(local) ?? -1
    return written <= from ? written : undefined
  }
}

/** The i32 of a constant instruction, as the unsigned number that an address is. */
function constantAt(source: Uint8Array, { from, to }: Origin): number {
  let value = 0
  let shift = 0
  for (let at = from + 1; at < to; at++) {
    const byte = source[at] as number
    value |= (byte & 0x7f) << shift
    shift += 7
    // Sign extension, where the number is shorter than its type.
    if (byte < 0x80 && shift < 32 && (byte & 0x40) !== 0) value |= -1 << shift
  }
  return value >>> 0
}
