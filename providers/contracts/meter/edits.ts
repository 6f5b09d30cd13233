/**
 * What is to be inserted into one function or put in place of an instruction, and the operands on the stack as far as they decide about it:
 * how many there are, which of them a NaN may come in, and which instruction gave each.
 */

export type EditKind = 'return' | 'call' | 'grow' | 'bulk' | 'nan32' | 'nan64' | 'mark' | 'none'

export interface Edit {
  /** The instruction to replace; empty for something to insert. */
  readonly from: number
  readonly to: number
  kind: EditKind
  /** How many structured blocks are open, the function's own included. */
  readonly depth: number
  /** Of a mark: the local that holds the address, where one does. */
  readonly local?: number | undefined
}

/** The instruction that gave an operand: where it begins, and where the next one does. */
export interface Origin {
  readonly from: number
  readonly to: number
}

export class Operands {
  /** For each operand, the edit that makes it canonical, while nothing has read it yet. */
  readonly #makers: (Edit | undefined)[] = []
  readonly #from: number[] = []
  readonly #to: number[] = []
  #most = 0
  /** How many there are. */
  height = 0

  /** Most at once. */
  get most(): number {
    return this.#most
  }

  /** Never below `floor`: behind an instruction that never ends, code takes operands that nothing has made. */
  pop(count: number, floor: number): void {
    this.height = Math.max(this.height - count, floor)
  }

  /** `from`: the instruction that gives it; `to`: the next one. */
  push(from: number, to: number, maker?: Edit): void {
    this.#from[this.height] = from
    this.#to[this.height] = to
    this.#makers[this.height++] = maker
    if (this.height > this.#most) this.#most = this.height
  }

  /** Where the operand `below` the one on top came from. Only in code that runs. */
  origin(below: number): Origin {
    const index = this.height - 1 - below
    return { from: this.#from[index] as number, to: this.#to[index] as number }
  }

  /** The operands on top are read by an instruction for which all NaNs are alike: they need not be made canonical. */
  ignoreBits(count: number): void {
    for (let index = Math.max(0, this.height - count); index < this.height; index++) {
      const maker = this.#makers[index]
      if (maker !== undefined) maker.kind = 'none'
    }
  }

  /** The operand on top has more than one reader: it is made canonical whoever reads it next. */
  share(): void {
    this.#makers[this.height - 1] = undefined
  }
}
