/**
 * Keys in byte order. Space keys are byte strings in latin1, so that the order of code units is the order of bytes.
 *
 * Invariants: every block but the only one of an empty set holds 1 to `BLOCK` keys, ascending; every key of a block is smaller than
 * every key of the next. Adding and deleting costs one search and moves at most `BLOCK` keys.
 */

const BLOCK = 512

/** A place between two keys, which moves over them in one direction. A change of the set ends it. */
export interface KeyCursor {
  /** The key it stands at; `undefined` behind the last. */
  readonly key: string | undefined
  advance(): void
}

export class SortedKeys {
  readonly #blocks: string[][] = []

  constructor(keys: Iterable<string> = []) {
    const sorted = [...keys].sort(byBytes)
    // Half-filled, so that the next keys find room.
    for (let at = 0; at < sorted.length; at += BLOCK / 2) this.#blocks.push(sorted.slice(at, at + BLOCK / 2))
  }

  /** A key that is there already stays. */
  add(key: string): void {
    const blocks = this.#blocks
    const at = Math.min(this.#blockOf(key), blocks.length - 1)
    const block = blocks[at]
    if (block === undefined) {
      blocks.push([key])
      return
    }
    const index = lowerBound(block, key)
    if (block[index] === key) return
    block.splice(index, 0, key)
    if (block.length > BLOCK) blocks.splice(at + 1, 0, block.splice(BLOCK / 2))
  }

  delete(key: string): void {
    const at = this.#blockOf(key)
    const block = this.#blocks[at]
    if (block === undefined) return
    const index = lowerBound(block, key)
    if (block[index] !== key) return
    block.splice(index, 1)
    if (block.length === 0) this.#blocks.splice(at, 1)
  }

  /** From the first key that is not smaller than `from`, upwards. */
  ascending(from: string): KeyCursor {
    const at = this.#blockOf(from)
    return new Cursor(this.#blocks, at, lowerBound(this.#blocks[at] ?? [], from), 1)
  }

  /** From the last key that is smaller than `to`, downwards; from the very last one without `to`. */
  descending(to: string | undefined): KeyCursor {
    const blocks = this.#blocks
    if (to === undefined) return new Cursor(blocks, blocks.length - 1, (blocks.at(-1)?.length ?? 0) - 1, -1)
    const at = this.#blockOf(to)
    const index = lowerBound(blocks[at] ?? [], to) - 1
    return index >= 0 ? new Cursor(blocks, at, index, -1) : new Cursor(blocks, at - 1, (blocks[at - 1]?.length ?? 0) - 1, -1)
  }

  /** Index of the first block whose last key is not smaller than `key`; the number of blocks when there is none. */
  #blockOf(key: string): number {
    const blocks = this.#blocks
    let [low, high] = [0, blocks.length]
    while (low < high) {
      const middle = (low + high) >>> 1
      const block = blocks[middle] as string[]
      if ((block[block.length - 1] as string) < key) low = middle + 1
      else high = middle
    }
    return low
  }
}

class Cursor implements KeyCursor {
  readonly #blocks: readonly (readonly string[])[]
  readonly #step: 1 | -1
  #block: number
  #index: number

  constructor(blocks: readonly (readonly string[])[], block: number, index: number, step: 1 | -1) {
    this.#blocks = blocks
    this.#block = block
    this.#index = index
    this.#step = step
  }

  get key(): string | undefined {
    return this.#blocks[this.#block]?.[this.#index]
  }

  advance(): void {
    this.#index += this.#step
    if (this.#blocks[this.#block]?.[this.#index] !== undefined) return
    this.#block += this.#step
    this.#index = this.#step > 0 ? 0 : (this.#blocks[this.#block]?.length ?? 0) - 1
  }
}

function byBytes(a: string, b: string): number {
  return a < b ? -1 : 1
}

/** Index of the first key that is not smaller. */
function lowerBound(keys: readonly string[], key: string): number {
  let [low, high] = [0, keys.length]
  while (low < high) {
    const middle = (low + high) >>> 1
    if ((keys[middle] as string) < key) low = middle + 1
    else high = middle
  }
  return low
}
