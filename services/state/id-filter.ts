/**
 * Tells of nearly every id that was not added that it was not, at the cost of one look into a few hundred KB: a look-up in maps of a hundred thousand
 * waits for memory several times over, and nearly every transaction's id is new. In two generations, as what it stands before (`TwoGenerations`).
 *
 * Invariant: of an id that was added in this generation or the one before it never says so. Whoever chooses ids that it takes for others makes it useless for
 * them, and nothing else.
 */

/** Entries for each word of 32 bits, of which each takes two: one new id in sixty is taken for one that may be there. */
const ENTRIES_PER_WORD = 2

export class IdFilter {
  readonly #mask: number
  #young: Int32Array
  #old: Int32Array

  /** `entries`: most of one generation. */
  constructor(entries: number) {
    const words = 2 ** Math.ceil(Math.log2(Math.max(1, entries / ENTRIES_PER_WORD)))
    this.#mask = words - 1
    this.#young = new Int32Array(words)
    this.#old = new Int32Array(words)
  }

  add(id: string): void {
    const mixed = mixOf(id)
    const word = mixed & this.#mask
    this.#young[word] = (this.#young[word] as number) | bitsOf(mixed)
  }

  /** Whether it may have been added. */
  mayHold(id: string): boolean {
    const mixed = mixOf(id)
    const word = mixed & this.#mask
    const bits = bitsOf(mixed)
    return ((this.#young[word] as number) & bits) === bits || ((this.#old[word] as number) & bits) === bits
  }

  /** A generation begins; what was added in the one before the last is forgotten. */
  turn(): void {
    const forgotten = this.#old
    this.#old = this.#young
    this.#young = forgotten.fill(0)
  }
}

function bitsOf(mixed: number): number {
  return (1 << (mixed >>> 22)) | (1 << (mixed >>> 27))
}

/** Of the digits of a message id by which ids of one time, and of one generator, differ: it may be any text. */
function mixOf(id: string): number {
  let mixed = Math.imul(wordAt(id, 4) ^ Math.imul(wordAt(id, 16), 0x85eb_ca6b), 0x9e37_79b1) ^ wordAt(id, 24)
  mixed = Math.imul(mixed ^ (mixed >>> 16), 0x45d9_f3b)
  return mixed ^ (mixed >>> 15)
}

/** Eight hex digits as a number. */
function wordAt(id: string, at: number): number {
  let word = 0
  for (let i = at; i < at + 8; i++) {
    const code = id.charCodeAt(i)
    word = (word << 4) | ((code & 15) + (code >> 6) * 9)
  }
  return word
}
