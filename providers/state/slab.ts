/**
 * A stretch of memory that keys lie in, each beside its value, and how an entry of it is laid out. An entry is named by its place: which slab
 * it is in and where it begins there, in one number. What is done with slabs is `packed-space.ts`.
 */

/** The usual one; an entry that is larger has one of its own. */
export const SLAB_BYTES = 64 * 1024
/** An entry: length of the key and of the value (a word each), key, padding to whole words, value, padding to whole units. */
export const HEADER_WORDS = 2
export const UNIT = 8
const SLAB_UNITS = SLAB_BYTES / UNIT
/** A power of two, so that a place is taken apart without a division. */
const SLAB_UNIT_BITS = Math.log2(SLAB_UNITS)
/** So that a place has 31 bits. */
export const MOST_SLABS = 2 ** 31 / SLAB_UNITS - 1

export class Slab {
  readonly number: number
  readonly bytes: Uint8Array
  readonly words: Int32Array
  readonly buffer: ArrayBuffer
  /** Bytes that are taken, and those of them that are entries in use. */
  used = 0
  live = 0

  constructor(number: number, size: number) {
    this.number = number
    this.bytes = new Uint8Array(size)
    this.buffer = this.bytes.buffer as ArrayBuffer
    this.words = new Int32Array(this.buffer)
  }

  /** Bytes that the entry takes which begins at `at`. */
  sizeAt(at: number): number {
    return entryBytes(this.words[at >>> 2] as number, this.words[(at >>> 2) + 1] as number)
  }
}

export function entryBytes(keyBytes: number, valueBytes: number): number {
  return 4 * HEADER_WORDS + (keyBytes + 3 & ~3) + valueBytes + UNIT - 1 & -UNIT
}

/** The word where the value begins of an entry that begins at the word `at`. */
export function valueStart(at: number, keyBytes: number): number {
  return at + HEADER_WORDS + ((keyBytes + 3) >>> 2)
}

/** Where an entry stands among all slabs, in units from 1. */
export function placeOf(slab: Slab, at: number): number {
  return slab.number * SLAB_UNITS + at / UNIT + 1
}

/** Which slab a place is in. */
export function slabOf(place: number): number {
  return (place - 1) >>> SLAB_UNIT_BITS
}

/** The word of its slab at which the entry of a place begins. */
export function wordOf(place: number): number {
  return ((place - 1) & (SLAB_UNITS - 1)) * (UNIT / 4)
}

export function keyAt(slab: Slab, at: number): string {
  const start = at + 4 * HEADER_WORDS
  return Buffer.from(slab.bytes.buffer, start, slab.words[at >>> 2]).toString('latin1')
}
