/**
 * What became of recent transactions, by id, in two generations as `TwoGenerations` has them: when the young one is full it becomes the old one, and what was in
 * that is gone. One table of numbers a generation, and the values in the order in which they came. A `Map` of a hundred thousand ids, nearly every one
 * of which is looked for before it is there, waits for memory several times over at each, and copies itself as it grows; here a look-up that finds nothing
 * waits once a generation.
 *
 * Invariants: what is kept follows from the calls alone, so replicas that make the same calls keep the same. Where ids meet does not: whoever calls
 * chooses them, so the hash has a secret of its own for each table.
 */
import { randomFillSync } from 'node:crypto'

/** Places of one generation: a cell has 17 bits for the place plus one, 0 for none, and above them 15 of the hash. */
const MOST_ENTRIES = 65_536
const PLACE_BITS = 17
const PLACE_MASK = 2 ** PLACE_BITS - 1
/** Of a message id, as text; of any other text only so much counts for the hash. */
const ID_LENGTH = 32

export interface IdTableLimits {
  /** Most entries in one generation, 1 to 65,536. */
  readonly entries: number
  /** Most weight in one generation, in whatever unit `set` is given. */
  readonly weight: number
}

interface Generation<V> {
  readonly cells: Int32Array
  values: V[]
}

export class IdTable<V extends { readonly id: string }> {
  readonly #limits: IdTableLimits
  /** From a hash to the cell where its id is, or the next after it that was free: a generation fills half of its cells. */
  readonly #shift: number
  readonly #mask: number
  readonly #secret: Int32Array
  #young: Generation<V>
  #old: Generation<V>
  #weight = 0

  /** Throws a `RangeError` for more entries than a cell can name. */
  constructor(limits: IdTableLimits, secret: Int32Array = randomFillSync(new Int32Array(ID_LENGTH / 2))) {
    const { entries } = limits
    if (!(entries >= 1 && entries <= MOST_ENTRIES)) throw new RangeError(`a generation has 1 to ${MOST_ENTRIES} entries, not ${entries}`)
    const bits = 1 + Math.ceil(Math.log2(entries))
    this.#limits = limits
    this.#shift = 32 - bits
    this.#mask = 2 ** bits - 1
    this.#secret = secret
    this.#young = { cells: new Int32Array(2 ** bits), values: [] }
    this.#old = { cells: new Int32Array(2 ** bits), values: [] }
  }

  /** Entries held, counting one that stands in both generations twice. */
  get size(): number {
    return this.#young.values.length + this.#old.values.length
  }

  get(id: string): V | undefined {
    const hash = hashOf(id, this.#secret)
    return this.#find(this.#young, id, hash) ?? this.#find(this.#old, id, hash)
  }

  /** Puts it in place of what the young generation has under its id. Whether a generation began with it. */
  set(value: V, weight: number): boolean {
    const { entries, weight: most } = this.#limits
    const turns = this.#young.values.length >= entries || this.#weight + weight > most
    if (turns) {
      const forgotten = this.#old
      this.#old = this.#young
      this.#young = forgotten
      forgotten.cells.fill(0)
      forgotten.values = []
      this.#weight = 0
    }
    this.#weight += weight
    this.#put(this.#young, value)
    return turns
  }

  #find({ cells, values }: Generation<V>, id: string, hash: number): V | undefined {
    const mask = this.#mask
    for (let at = hash >>> this.#shift; ; at = (at + 1) & mask) {
      const cell = cells[at] as number
      if (cell === 0) return undefined
      if ((cell ^ (hash << PLACE_BITS)) >>> PLACE_BITS !== 0) continue
      const value = values[(cell & PLACE_MASK) - 1] as V
      if (value.id === id) return value
    }
  }

  #put({ cells, values }: Generation<V>, value: V): void {
    const { id } = value
    const mask = this.#mask
    const hash = hashOf(id, this.#secret)
    let at = hash >>> this.#shift
    for (; cells[at] !== 0; at = (at + 1) & mask) {
      const cell = cells[at] as number
      const place = (cell & PLACE_MASK) - 1
      if ((cell ^ (hash << PLACE_BITS)) >>> PLACE_BITS !== 0 || (values[place] as V).id !== id) continue
      values[place] = value
      return
    }
    values.push(value)
    cells[at] = (hash << PLACE_BITS) | values.length
  }
}

/**
 * Two characters at a time, each pair with a factor of its own that nobody knows: of two ids that differ the upper 17 bits are the same as seldom as by chance
 * (multiply-shift over a vector, Dietzfelbinger 1996: pieces of 16 bits in sums of 32).
 */
function hashOf(id: string, secret: Int32Array): number {
  let sum = 0
  if (id.length < ID_LENGTH) {
    for (let i = 0; i < id.length; i++) sum += Math.imul(id.charCodeAt(i), secret[i >>> 1] as number)
    return sum | 0
  }
  for (let i = 0; i < ID_LENGTH; i += 2) {
    sum = (sum + Math.imul((id.charCodeAt(i) << 8) | id.charCodeAt(i + 1), secret[i >>> 1] as number)) | 0
  }
  return sum
}
