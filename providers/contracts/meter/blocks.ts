/**
 * The basic blocks of one function and what each costs. Loops are rotated at the end: what the first block of a loop costs moves to the
 * blocks that lead to it, where each of them leads nowhere else. A `while` loop is so charged and checked once a turn, in its body,
 * instead of twice.
 *
 * Invariant: every turn of a loop passes a block that costs at least 1 and is checked.
 */

/** A basic block. */
export interface Block {
  readonly at: number
  /** Whether the gas left is checked here. */
  checked: boolean
  /** How many structured blocks are open, the function's own included. */
  readonly depth: number
  cost: number
}

export interface Loop {
  /** The block it begins with, which every turn runs. */
  readonly head: Block
  /** The block that runs into it. */
  readonly before: Block
  /** Blocks that end by branching to its beginning, whatever happens. */
  readonly back: Block[]
  /** Whether a branch to its beginning depends on a value. */
  conditional: boolean
}

export class Blocks {
  readonly #everyInstruction: boolean
  readonly #blocks: Block[] = []
  readonly #loops: Loop[] = []
  #current: Block

  /** `at`: where the function's code begins. `everyInstruction`: a checked block for each instruction. */
  constructor(at: number, everyInstruction: boolean) {
    this.#everyInstruction = everyInstruction
    this.#current = this.#begin(at, 0, true)
  }

  get loops(): number {
    return this.#loops.length
  }

  /** `depth`: structured blocks that are open. */
  begin(at: number, depth: number): void {
    this.#current = this.#begin(at, depth, this.#everyInstruction)
  }

  /** What a loop costs belongs to every turn, and so to the block it begins with. */
  beginLoop(at: number, depth: number, cost: number): Loop {
    const before = this.#current
    this.#current = this.#begin(at, depth, true)
    this.#current.cost = cost
    const loop: Loop = { head: this.#current, before, back: [], conditional: false }
    this.#loops.push(loop)
    return loop
  }

  /** A branch to the beginning of a loop, from where the code is now. */
  turn(loop: Loop, conditional: boolean): void {
    if (conditional) loop.conditional = true
    else loop.back.push(this.#current)
  }

  /** What the instruction at `at` costs. */
  charge(at: number, depth: number, cost: number): void {
    if (this.#everyInstruction && this.#current.at !== at) this.begin(at, depth)
    this.#current.cost += cost
  }

  finish(): readonly Block[] {
    // Inner loops first: what they move to an outer loop's first block moves on with it.
    if (!this.#everyInstruction) for (const loop of this.#loops.toReversed()) rotate(loop)
    return this.#blocks
  }

  #begin(at: number, depth: number, checked: boolean): Block {
    const block: Block = { at, checked, depth, cost: 0 }
    this.#blocks.push(block)
    return block
  }
}

function rotate({ head, before, back, conditional }: Loop): void {
  // A loop of one block is led to by itself: what moved away from it would be charged nowhere.
  if (conditional || back.includes(head)) return
  before.cost += head.cost
  for (const block of back) {
    block.cost += head.cost
    block.checked = true
  }
  head.cost = 0
  head.checked = false
}
