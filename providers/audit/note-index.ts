/**
 * Where the notes of one segment stand, by their keys: an open table of 32-bit hashes and offsets that lies in the file as it lies in memory.
 * Keys come from outside, so the hash has a seed that nobody outside knows; of one key a few are kept, the newest, so that who asks
 * under one id over and over fills nothing. It reads no note: what shares a hash is told apart by who asks.
 */
import { randomFillSync } from 'node:crypto'
import type { FileHandle } from 'node:fs/promises'
import { endianness } from 'node:os'
import { NOTE_KEY_BYTES } from '../../services/audit/messages.ts'

const MAGIC = 0x434d_4e49 // "CMNI"
const VERSION = 1
const WORDS = NOTE_KEY_BYTES / 4
/** magic 4 · version 4 · slots 4 · seed 16 · last batch 8, little-endian like the table behind it. */
const LAST_AT = 12 + 4 * WORDS
const HEADER_BYTES = LAST_AT + 8
const SLOT_BYTES = 8
const FIRST_SLOTS = 4_096
const FILLED = 0.6
/** Notes kept of one key. */
export const SAME = 4
/** Runs kept of one key: as many as there may be of the ids that share it, each asked as often. */
export const SAME_RUNS = 16
/** Keys of runs are hashed apart, so that who asks under such an id drives none out. */
const RUN = 0x5275_6e73
/** Slots that a look-up in a file reads at once. */
const READ_SLOTS = 64

export class NoteIndex {
  readonly #seed: Uint32Array
  /** hash, offset + 1; 0 for an empty slot. */
  #table: Uint32Array
  #mask: number
  #filled = 0

  /** `expected`: how many notes are likely to come. It grows as it must. */
  constructor(expected = 0) {
    this.#seed = randomFillSync(new Uint32Array(WORDS))
    let slots = FIRST_SLOTS
    while (expected >= slots * FILLED) slots *= 2
    this.#table = new Uint32Array(2 * slots)
    this.#mask = slots - 1
  }

  /** Notes it knows of. */
  get size(): number {
    return this.#filled
  }

  /** The key stands in `bytes` from `at` on. `run`: it is that of a run. */
  add(bytes: Uint8Array, at: number, offset: number, run: boolean): void {
    if (this.#filled >= (this.#mask + 1) * FILLED) this.#grow()
    this.#put(hashOf(bytes, this.#seed, run, at), offset + 1, run ? SAME_RUNS : SAME)
  }

  /** Offsets that may hold the key, the newest first. */
  offsets(key: Uint8Array, run: boolean): number[] {
    const hash = hashOf(key, this.#seed, run)
    const found: number[] = []
    for (let slot = hash & this.#mask; this.#table[2 * slot + 1] !== 0; slot = (slot + 1) & this.#mask) {
      if (this.#table[2 * slot] === hash) found.unshift((this.#table[2 * slot + 1] as number) - 1)
    }
    return found
  }

  /** As it stands in a file. `last`: the newest batch that it knows notes of. */
  encode(last: number): Buffer {
    const bytes = Buffer.allocUnsafe(HEADER_BYTES + this.#table.length * 4)
    bytes.writeUInt32LE(MAGIC, 0)
    bytes.writeUInt32LE(VERSION, 4)
    bytes.writeUInt32LE(this.#mask + 1, 8)
    this.#seed.forEach((word, i) => bytes.writeUInt32LE(word, 12 + 4 * i))
    bytes.writeBigUInt64LE(BigInt(last), LAST_AT)
    bytes.set(new Uint8Array(this.#table.buffer), HEADER_BYTES)
    // Memory is in the order of the machine.
    if (endianness() === 'BE') bytes.subarray(HEADER_BYTES).swap32()
    return bytes
  }

  #put(hash: number, place: number, most: number): void {
    const table = this.#table
    let same: number[] | undefined
    let slot = hash & this.#mask
    for (; table[2 * slot + 1] !== 0; slot = (slot + 1) & this.#mask) if (table[2 * slot] === hash) (same ??= []).push(2 * slot + 1)
    if (same !== undefined && same.length >= most) {
      // The oldest goes.
      for (let i = 0; i + 1 < same.length; i++) table[same[i] as number] = table[same[i + 1] as number] as number
      table[same[same.length - 1] as number] = place
      return
    }
    table[2 * slot] = hash
    table[2 * slot + 1] = place
    this.#filled++
  }

  #grow(): void {
    const before = this.#table
    const slots = before.length
    this.#table = new Uint32Array(2 * slots)
    this.#mask = slots - 1
    this.#filled = 0
    for (let i = 0; i < before.length; i += 2) if (before[i + 1] !== 0) this.#put(before[i] as number, before[i + 1] as number, Infinity)
  }
}

interface Header {
  readonly slots: number
  readonly seed: Uint32Array
  /** The newest batch that the index knows notes of. */
  readonly last: number
}

/** What an index in a file says of itself; `undefined` where it is none. */
export async function readIndexHeader(file: FileHandle): Promise<Header | undefined> {
  const header = Buffer.alloc(HEADER_BYTES)
  const { bytesRead } = await file.read(header, 0, HEADER_BYTES, 0)
  const slots = header.readUInt32LE(8)
  if (bytesRead < HEADER_BYTES || header.readUInt32LE(0) !== MAGIC || header.readUInt32LE(4) !== VERSION) return undefined
  if (slots === 0 || (slots & (slots - 1)) !== 0 || (await file.stat()).size !== HEADER_BYTES + slots * SLOT_BYTES) return undefined
  return { slots, seed: Uint32Array.from({ length: WORDS }, (_, i) => header.readUInt32LE(12 + 4 * i)), last: Number(header.readBigUInt64LE(LAST_AT)) }
}

/** Offsets that may hold the key, the newest first, from the file of an index. */
export async function offsetsIn(file: FileHandle, { slots, seed }: Header, key: Uint8Array, run: boolean): Promise<number[]> {
  const hash = hashOf(key, seed, run)
  const found: number[] = []
  const some = Buffer.alloc(READ_SLOTS * SLOT_BYTES)
  for (let slot = hash & (slots - 1), seen = 0; seen < slots;) {
    const count = Math.min(READ_SLOTS, slots - slot)
    await file.read(some, 0, count * SLOT_BYTES, HEADER_BYTES + slot * SLOT_BYTES)
    for (let i = 0; i < count; i++) {
      const place = some.readUInt32LE(i * SLOT_BYTES + 4)
      if (place === 0) return found
      if (some.readUInt32LE(i * SLOT_BYTES) === hash) found.unshift(place - 1)
    }
    seen += count
    slot = (slot + count) & (slots - 1)
  }
  return found
}

/** A multiply-and-shift hash over the words of a key, each with a secret of its own. */
function hashOf(key: Uint8Array, seed: Uint32Array, run: boolean, at = 0): number {
  let hash = run ? RUN : 0x9e37_79b9
  for (let i = 0; i < WORDS; i++) {
    const from = at + 4 * i
    const word = (key[from] as number) | (key[from + 1] as number) << 8 | (key[from + 2] as number) << 16 | (key[from + 3] as number) << 24
    hash = Math.imul(hash ^ word ^ (seed[i] as number), 0x85eb_ca6b)
    hash = Math.imul(hash ^ (hash >>> 15), 0xc2b2_ae35)
    hash ^= hash >>> 13
  }
  return hash >>> 0
}
