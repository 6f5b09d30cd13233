/**
 * The keys of one contract, packed: an index of hashes and places in one array, and each key beside its value in slabs of bytes. With a
 * million keys what a look-up costs is the memory that it has to wait for, so it waits twice, where a `Map` of strings and arrays waits for
 * eight places; and there is nothing in it for the garbage collector to go over.
 *
 * Invariants:
 * 1. Bytes in a slab are never written again, so a value that was handed out stays what it was, whatever becomes of its key.
 * 2. Every slab but the newest is at least half in use, and so is every eighth place of the index: memory follows what is there, not what was
 *    ever written. A slab that falls below is emptied into the newest.
 * 3. Going over the keys meets each that is there throughout at least once, whatever changes meanwhile, and exactly once when nothing does.
 */
import type { Space } from '../../services/state/provider.ts'
import { KeyHash } from './key-hash.ts'
import { entryBytes, HEADER_WORDS, keyAt, MOST_SLABS, placeOf, Slab, SLAB_BYTES, slabOf, UNIT, valueStart, wordOf } from './slab.ts'

/** A slab has room for a quarter of what is there, between this and `SLAB_BYTES`: a contract of few keys takes little, one of many has few slabs. */
const LEAST_SLAB_BYTES = 256
/** Larger entries have a slab of their own. */
const SHARED_BYTES = SLAB_BYTES / 4
const LEAST_CELLS = 16
/** Up to here bytes are copied one by one: a native call would take longer. */
const SHORT = 64

/** A space that takes keys and values as ranges of bytes that somebody else has. */
export interface ByteSpace extends Space {
  /** Keeps a copy of the value under the key. */
  setBytes(bytes: Uint8Array, keyAt: number, keyBytes: number, valueAt: number, valueBytes: number): void
  deleteBytes(bytes: Uint8Array, keyAt: number, keyBytes: number): boolean
}

export class PackedSpace implements ByteSpace {
  readonly #hash = new KeyHash()
  /** Two numbers a cell: the hash of a key, and its place plus one; 0 for none. A key is in the first cell from its hash on that was free. */
  #cells = new Int32Array(2 * LEAST_CELLS)
  #mask = LEAST_CELLS - 1
  #size = 0
  #slabs: (Slab | undefined)[] = []
  #free: number[] = []
  /** Those there are, oldest first. */
  readonly #order = new Set<Slab>()
  #newest: Slab | undefined
  /** Bytes of entries in use. */
  #live = 0
  /** The key that is asked for. */
  #key = new Uint8Array(64)
  #keyWords = new Int32Array(this.#key.buffer)
  #keyBytes = 0

  get size(): number {
    return this.#size
  }

  has(key: string): boolean {
    return this.#takeText(key) && this.#find(this.#hash.of(this.#keyWords, 0, this.#keyBytes)) >= 0
  }

  get(key: string): Uint8Array | undefined {
    return this.#takeText(key) ? this.#taken() : undefined
  }

  getBytes(bytes: Uint8Array, at: number, length: number): Uint8Array | undefined {
    this.#takeBytes(bytes, at, length)
    return this.#taken()
  }

  /** Keeps a copy of `value`. Throws for a key that is no byte string. */
  set(key: string, value: Uint8Array): this {
    if (!this.#takeText(key)) throw new RangeError('a key is not a byte string in latin1')
    this.#put(value, 0, value.length)
    return this
  }

  delete(key: string): boolean {
    return this.#takeText(key) && this.#remove()
  }

  setBytes(bytes: Uint8Array, keyAt: number, keyBytes: number, valueAt: number, valueBytes: number): void {
    this.#takeBytes(bytes, keyAt, keyBytes)
    this.#put(bytes, valueAt, valueBytes)
  }

  deleteBytes(bytes: Uint8Array, keyAt: number, keyBytes: number): boolean {
    this.#takeBytes(bytes, keyAt, keyBytes)
    return this.#remove()
  }

  clear(): void {
    this.#cells = new Int32Array(2 * LEAST_CELLS)
    this.#mask = LEAST_CELLS - 1
    this.#size = 0
    this.#slabs = []
    this.#free = []
    this.#order.clear()
    this.#newest = undefined
    this.#live = 0
  }

  *[Symbol.iterator](): Generator<[string, Uint8Array], undefined> {
    for (const [slab, at] of this.#places()) yield [keyAt(slab, at), this.#valueAt(placeOf(slab, at))]
  }

  *keys(): Generator<string, undefined> {
    for (const [slab, at] of this.#places()) yield keyAt(slab, at)
  }

  /** Where the entries are that are in use. What is added meanwhile comes at the end, and so does what is moved. */
  *#places(): Generator<readonly [Slab, number], undefined> {
    for (const slab of this.#order) {
      for (let at = 0; at < slab.used && this.#slabs[slab.number] === slab;) {
        const entry = at
        at += slab.sizeAt(at)
        if (this.#cellOf(slab, entry) >= 0) yield [slab, entry]
      }
    }
  }

  /** Takes up the key that is asked for; false for one that is no byte string and so nowhere. */
  #takeText(key: string): boolean {
    const { length } = key
    this.#room(length)
    const own = this.#key
    let all = 0
    for (let i = 0; i < length; i++) {
      const unit = key.charCodeAt(i)
      all |= unit
      own[i] = unit
    }
    return all < 0x100
  }

  #takeBytes(bytes: Uint8Array, at: number, length: number): void {
    this.#room(length)
    const own = this.#key
    for (let i = 0; i < length; i++) own[i] = bytes[at + i] as number
  }

  /** Room for a key of that length, padded. */
  #room(length: number): void {
    if (length > this.#key.length) {
      this.#key = new Uint8Array(Math.max(2 * this.#key.length, length + 3 & ~3))
      this.#keyWords = new Int32Array(this.#key.buffer)
    }
    this.#keyBytes = length
    if (length > 0) this.#keyWords[(length - 1) >>> 2] = 0
  }

  /** The value of the key that was taken up. */
  #taken(): Uint8Array | undefined {
    const cell = this.#find(this.#hash.of(this.#keyWords, 0, this.#keyBytes))
    return cell < 0 ? undefined : this.#valueAt(this.#cells[2 * cell + 1] as number)
  }

  /** The cell of the key that was taken up; −1 where it is not there. */
  #find(hash: number): number {
    const cells = this.#cells
    const mask = this.#mask
    for (let cell = hash & mask; ; cell = (cell + 1) & mask) {
      const place = cells[2 * cell + 1] as number
      if (place === 0) return -1
      if (cells[2 * cell] === hash && this.#isKeyAt(place)) return cell
    }
  }

  #isKeyAt(place: number): boolean {
    const { words } = this.#slabAt(place)
    let at = wordOf(place)
    const length = this.#keyBytes
    if (words[at] !== length) return false
    at += HEADER_WORDS
    const own = this.#keyWords
    for (let i = 0; i < (length + 3) >>> 2; i++) if (words[at + i] !== own[i]) return false
    return true
  }

  /** The cell of the entry at that place; −1 where it is not in use any more. */
  #cellOf(slab: Slab, at: number): number {
    const cells = this.#cells
    const mask = this.#mask
    const place = placeOf(slab, at)
    const hash = this.#hash.of(slab.words, (at >>> 2) + HEADER_WORDS, slab.words[at >>> 2] as number)
    for (let cell = hash & mask; ; cell = (cell + 1) & mask) {
      const there = cells[2 * cell + 1] as number
      if (there === place || there === 0) return there === 0 ? -1 : cell
    }
  }

  /** A view: to make one takes less than to wait for one that was made before. */
  #valueAt(place: number): Uint8Array {
    const { words, buffer } = this.#slabAt(place)
    const at = wordOf(place)
    const start = valueStart(at, words[at] as number)
    return new Uint8Array(buffer, 4 * start, words[at + 1])
  }

  #slabAt(place: number): Slab {
    return this.#slabs[slabOf(place)] as Slab
  }

  /** Puts a value under the key that was taken up. */
  #put(bytes: Uint8Array, at: number, length: number): void {
    const hash = this.#hash.of(this.#keyWords, 0, this.#keyBytes)
    const place = this.#write(bytes, at, length)
    const cell = this.#find(hash)
    if (cell >= 0) {
      const former = this.#cells[2 * cell + 1] as number
      this.#cells[2 * cell + 1] = place
      this.#drop(former)
      return
    }
    this.#size++
    if (4 * this.#size > 3 * (this.#mask + 1)) this.#resize(2 * (this.#mask + 1))
    this.#place(hash, place)
  }

  /** Writes the key that was taken up and a value as an entry, and gives its place. */
  #write(bytes: Uint8Array, at: number, length: number): number {
    const key = this.#keyWords
    const keyBytes = this.#keyBytes
    const slab = this.#slabFor(entryBytes(keyBytes, length))
    const place = placeOf(slab, slab.used)
    const start = slab.used >>> 2
    const { words } = slab
    words[start] = keyBytes
    words[start + 1] = length
    for (let i = 0; i < (keyBytes + 3) >>> 2; i++) words[start + HEADER_WORDS + i] = key[i] as number
    const to = 4 * valueStart(start, keyBytes)
    if (length > SHORT) {
      slab.bytes.set(length === bytes.length ? bytes : new Uint8Array(bytes.buffer, bytes.byteOffset + at, length), to)
    } else {
      for (let i = 0; i < length; i++) slab.bytes[to + i] = bytes[at + i] as number
    }
    const size = entryBytes(keyBytes, length)
    slab.used += size
    slab.live += size
    this.#live += size
    return place
  }

  /** A slab with room for so many bytes. */
  #slabFor(size: number): Slab {
    const former = this.#newest
    if (size > SHARED_BYTES) {
      const own = this.#add(size)
      // The newest stays the last: what is put into it later must not be behind somebody who goes over the keys.
      if (former !== undefined && this.#order.delete(former)) this.#order.add(former)
      return own
    }
    if (former !== undefined && former.used + size <= former.bytes.length) return former
    const slab = this.#newest = this.#add(Math.max(size, Math.min(SLAB_BYTES, Math.max(LEAST_SLAB_BYTES, this.#live / 4 & -UNIT))))
    if (former !== undefined) this.#tidy(former)
    // Tidying may have filled it.
    return slab === this.#newest && slab.used + size <= slab.bytes.length ? slab : this.#slabFor(size)
  }

  #add(size: number): Slab {
    const number = this.#free.pop() ?? this.#slabs.length
    if (number >= MOST_SLABS) throw new RangeError('a contract has more state than a node can hold')
    const slab = new Slab(number, size)
    this.#slabs[number] = slab
    this.#order.add(slab)
    return slab
  }

  /** An entry is out of use. */
  #drop(place: number): void {
    const slab = this.#slabAt(place)
    const size = slab.sizeAt(4 * wordOf(place))
    slab.live -= size
    this.#live -= size
    if (slab !== this.#newest) this.#tidy(slab)
  }

  /** Empties a slab that is less than half in use: what is moved is paid for by what went. */
  #tidy(slab: Slab): void {
    if (2 * slab.live >= slab.used) return
    this.#order.delete(slab)
    for (let at = 0; slab.live > 0;) {
      const size = slab.sizeAt(at)
      const cell = this.#cellOf(slab, at)
      if (cell >= 0) {
        const to = this.#slabFor(size)
        this.#cells[2 * cell + 1] = placeOf(to, to.used)
        to.words.set(slab.words.subarray(at >>> 2, (at + size) >>> 2), to.used >>> 2)
        to.used += size
        to.live += size
        slab.live -= size
      }
      at += size
    }
    this.#slabs[slab.number] = undefined
    this.#free.push(slab.number)
  }

  /** Takes out the key that was taken up. */
  #remove(): boolean {
    const cells = this.#cells
    const mask = this.#mask
    const cell = this.#find(this.#hash.of(this.#keyWords, 0, this.#keyBytes))
    if (cell < 0) return false
    const place = cells[2 * cell + 1] as number
    // Whatever had to go past this cell moves up.
    let hole = cell
    for (let next = (cell + 1) & mask; cells[2 * next + 1] !== 0; next = (next + 1) & mask) {
      const home = (cells[2 * next] as number) & mask
      if (((next - home) & mask) < ((next - hole) & mask)) continue
      cells[2 * hole] = cells[2 * next] as number
      cells[2 * hole + 1] = cells[2 * next + 1] as number
      hole = next
    }
    cells[2 * hole + 1] = 0
    this.#size--
    this.#drop(place)
    if (8 * this.#size < mask + 1 && mask + 1 > LEAST_CELLS) this.#resize((mask + 1) / 2)
    return true
  }

  #resize(count: number): void {
    const cells = this.#cells
    this.#cells = new Int32Array(2 * count)
    this.#mask = count - 1
    for (let i = 0; i < cells.length; i += 2) if (cells[i + 1] !== 0) this.#place(cells[i] as number, cells[i + 1] as number)
  }

  #place(hash: number, place: number): void {
    const cells = this.#cells
    const mask = this.#mask
    let cell = hash & mask
    while (cells[2 * cell + 1] !== 0) cell = (cell + 1) & mask
    cells[2 * cell] = hash
    cells[2 * cell + 1] = place
  }
}
