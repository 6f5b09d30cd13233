/**
 * WebAssembly that hashes many short messages with SHA-256 (FIPS 180-4) at once, four in the lanes of each vector: leaves of 48 bytes and pairs
 * of 64, one behind the other in its memory, each behind a prefix byte. Written instruction by instruction, since no compiler is at hand where
 * it runs; `sha256-lanes.ts` uses it.
 *
 * Source of opcodes and layout: WebAssembly Core Specification 2.0, section 5.
 */
import { HASH_BYTES } from '../frame.ts'

/** The cube roots of the first 64 primes: FIPS 180-4, 4.2.2. */
const K = `
  428a2f98 71374491 b5c0fbcf e9b5dba5 3956c25b 59f111f1 923f82a4 ab1c5ed5 d807aa98 12835b01 243185be 550c7dc3 72be5d74 80deb1fe 9bdc06a7 c19bf174
  e49b69c1 efbe4786 0fc19dc6 240ca1cc 2de92c6f 4a7484aa 5cb0a9dc 76f988da 983e5152 a831c66d b00327c8 bf597fc7 c6e00bf3 d5a79147 06ca6351 14292967
  27b70a85 2e1b2138 4d2c6dfc 53380d13 650a7354 766a0abb 81c2c92e 92722c85 a2bfe8a1 a81a664b c24b8b70 c76c51a3 d192e819 d6990624 f40e3585 106aa070
  19a4c116 1e376c08 2748774c 34b0bcb5 391c0cb3 4ed8aa4a 5b9cca4f 682e6ff3 748f82ee 78a5636f 84c87814 8cc70208 90befffa a4506ceb bef9a3f7 c67178f2`
/** Their square roots, of the first 8: 5.3.3. */
const INITIAL = '6a09e667 bb67ae85 3c6ef372 a54ff53a 510e527f 9b05688c 1f83d9ab 5be0cd19'

const VECTOR = 16
export const LANES = 4
const PAGE_BYTES = 65_536
/** Constants and scratch of the code lie at the front of its memory. */
const K_AT = 0
const INITIAL_AT = K_AT + 64 * VECTOR
const STATE_AT = INITIAL_AT + 8 * VECTOR
const BLOCK_AT = STATE_AT + 8 * VECTOR
/** Where the memory is whoever's who calls. */
export const FREE_AT = BLOCK_AT + 16 * VECTOR
const MEMORY_BYTES = 131_072

type Code = readonly number[]

const ADD = vector(0xae)
const AND = vector(0x4e)
const OR = vector(0x50)
const XOR = vector(0x51)
/** Of the first where the third has ones, of the second elsewhere. */
const SELECT = vector(0x52)
const SHIFT_LEFT = vector(0xab)
const SHIFT_RIGHT = vector(0xad)
const ZERO = i32(0)

function leb(value: number): Code {
  return value < 0x80 ? [value] : [(value & 0x7f) | 0x80, ...leb(value >>> 7)]
}

function signed(value: number): Code {
  return value >= -64 && value < 64 ? [value & 0x7f] : [(value & 0x7f) | 0x80, ...signed(value >> 7)]
}

function vector(opcode: number): Code {
  return [0xfd, ...leb(opcode)]
}

function i32(value: number): Code {
  return [0x41, ...signed(value)]
}

function get(local: number): Code {
  return [0x20, local]
}

function set(local: number): Code {
  return [0x21, local]
}

function tee(local: number): Code {
  return [0x22, local]
}

/** Four times the same word. */
function words(word: number): Code {
  const bytes = [word, word >>> 8, word >>> 16, word >>> 24].map(byte => byte & 0xff)
  return [...vector(0x0c), ...bytes, ...bytes, ...bytes, ...bytes]
}

/** Of the address on the stack. */
function load(offset: number): Code {
  return [...vector(0x00), 4, ...leb(offset)]
}

function store(offset: number): Code {
  return [...vector(0x0b), 4, ...leb(offset)]
}

/** Other byte order, in each word. */
function swapped(local: number): Code {
  return [...tee(local), ...get(local), ...vector(0x0d), 3, 2, 1, 0, 7, 6, 5, 4, 11, 10, 9, 8, 15, 14, 13, 12]
}

function rotated(local: number, by: number): Code {
  return [...get(local), ...i32(by), ...SHIFT_RIGHT, ...get(local), ...i32(32 - by), ...SHIFT_LEFT, ...OR]
}

/** Σ and σ: the last is shifted only where `shifted`. */
function mixed(local: number, [a, b, c]: readonly [number, number, number], shifted: boolean): Code {
  return [...rotated(local, a), ...rotated(local, b), ...XOR, ...(shifted ? [...get(local), ...i32(c), ...SHIFT_RIGHT] : rotated(local, c)), ...XOR]
}

/** Locals of the compression: a to h, the schedule, and what a round needs. */
const W = 8
const [SUM, CHANGED, KS] = [24, 25, 27] as const

/** A round: 6.2.2, 3. What is a in one round is b in the next, so that the locals are turned, not their values. */
function round(index: number): Code {
  const [a, b, , d, e, f, g, h] = Array.from({ length: 8 }, (_, i) => (i - index) & 7) as [number, number, number, number, number, number, number, number]
  return [
    ...get(h), ...mixed(e, [6, 11, 25], false), ...ADD, ...get(f), ...get(g), ...get(e), ...SELECT, ...ADD,
    ...get(KS), ...load(K_AT + index * VECTOR), ...ADD, ...get(W + index), ...ADD, ...set(SUM),
    ...get(d), ...get(SUM), ...ADD, ...set(d),
    // The majority is b but where a and b, and b and c, differ; the first of these is the second of the next round.
    ...get(SUM), ...mixed(a, [2, 13, 22], false), ...ADD,
    ...get(a), ...get(b), ...XOR, ...tee(CHANGED + (index & 1)), ...get(CHANGED + (~index & 1)), ...AND, ...get(b), ...XOR, ...ADD, ...set(h),
  ]
}

/** The next word of the schedule, in the place of the one 16 before: 6.2.2, 1. */
function scheduled(index: number): Code {
  const word = (back: number): number => W + ((index - back) & 15)
  return [
    ...mixed(word(2), [17, 19, 10], true), ...get(word(7)), ...ADD, ...mixed(word(15), [7, 18, 3], true), ...ADD,
    ...get(word(16)), ...ADD, ...set(word(16)),
  ]
}

const SIXTEEN = Array.from({ length: 16 }, (_, i) => i)
const EIGHT = SIXTEEN.slice(0, 8)

/** Puts the block into the state. */
function compression(): Code {
  return [
    ...SIXTEEN.flatMap(i => [...ZERO, ...load(BLOCK_AT + i * VECTOR), ...set(W + i)]),
    ...EIGHT.flatMap(i => [...ZERO, ...load(STATE_AT + i * VECTOR), ...set(i)]),
    ...get(1), ...get(2), ...XOR, ...set(CHANGED + 1),
    ...SIXTEEN.flatMap(round),
    0x03, 0x40, // loop
    ...get(KS), ...i32(16 * VECTOR), 0x6a, ...set(KS),
    ...SIXTEEN.flatMap(i => [...scheduled(i), ...round(i)]),
    ...get(KS), ...i32(48 * VECTOR), 0x49, 0x0d, 0, // again while less
    0x0b,
    ...EIGHT.flatMap(i => [...ZERO, ...get(i), ...ZERO, ...load(STATE_AT + i * VECTOR), ...ADD, ...store(STATE_AT + i * VECTOR)]),
  ]
}

/** Parameters and local of the functions that hash. */
const [FROM, TO, OUT, TEMPORARY] = [0, 1, 2, 3] as const

/** Word `index` of four messages into the block. Of the four bytes those of `mask` are the message's, the others `rest`. */
function gathered(index: number, each: number, source: number, mask: number, rest: number): Code {
  const lanes = [0, 1, 2, 3].flatMap(lane => [...vector(0x56), 0, ...leb(lane * each + source), lane])
  return [
    ...ZERO, ...get(FROM), ...get(FROM), ...get(FROM), ...get(FROM), ...words(0), ...lanes, ...swapped(TEMPORARY),
    ...(mask === -1 ? [] : [...words(mask), ...AND, ...words(rest), ...OR]), ...store(BLOCK_AT + index * VECTOR),
  ]
}

function padded(index: number, word: number): Code {
  return [...ZERO, ...words(word), ...store(BLOCK_AT + index * VECTOR)]
}

const COMPRESS: Code = [0x10, 0]

/** Hashes messages of `each` bytes, 48 or 64, four at a time, from one address up to another. */
function hashing(each: number, prefix: number): Code {
  const word = (index: number): Code => {
    const at = 4 * index
    const here = index % 16
    if (index === 0) return gathered(here, each, 0, 0x00ff_ffff, prefix << 24)
    if (at < each) return gathered(here, each, at, -1, 0)
    if (at === each) return gathered(here, each, at, 0xff00_0000, 0x0080_0000)
    return padded(here, here === 15 ? (each + 1) * 8 : 0)
  }
  const blocks = each < 56 ? 1 : 2
  return [
    0x03, 0x40, // loop
    ...EIGHT.flatMap(i => [...ZERO, ...ZERO, ...load(INITIAL_AT + i * VECTOR), ...store(STATE_AT + i * VECTOR)]),
    ...Array.from({ length: blocks }, (_, block) => [...SIXTEEN.flatMap(i => word(16 * block + i)), ...COMPRESS]).flat(),
    ...EIGHT.flatMap(i => [
      ...ZERO, ...load(STATE_AT + i * VECTOR), ...swapped(TEMPORARY), ...set(TEMPORARY),
      ...[0, 1, 2, 3].flatMap(lane => [...get(OUT), ...get(TEMPORARY), ...vector(0x5a), 0, ...leb(lane * HASH_BYTES + 4 * i), lane]),
    ]),
    ...get(OUT), ...i32(LANES * HASH_BYTES), 0x6a, ...set(OUT),
    ...get(FROM), ...i32(LANES * each), 0x6a, ...tee(FROM), ...get(TO), 0x49, 0x0d, 0, // again while less
    0x0b,
  ]
}

function section(id: number, ...items: readonly Code[]): Code {
  const content = [...leb(items.length), ...items.flat()]
  return [id, ...leb(content.length), ...content]
}

function body(locals: Code, code: Code): Code {
  return [...leb(locals.length + code.length + 1), ...locals, ...code, 0x0b]
}

function exported(name: string, kind: number, index: number): Code {
  return [name.length, ...Buffer.from(name), kind, index]
}

/** What stands at the front of the memory before anything is hashed. */
export function constants(): Uint32Array {
  return Uint32Array.from(`${K} ${INITIAL}`.trim().split(/\s+/).flatMap(word => Array<number>(LANES).fill(parseInt(word, 16))))
}

/**
 * A module with `memory`, and `leaves` and `pairs`: (from, to, out) with the addresses of the byte before the first message, of the byte before where
 * the last one ends, and of where the hashes go. They work by four, and read and write as if the last four were whole.
 */
export function moduleOf(leafPrefix: number, nodePrefix: number): Uint8Array {
  const pages = MEMORY_BYTES / PAGE_BYTES
  return Uint8Array.from([
    0x00, 0x61, 0x73, 0x6d, 0x01, 0x00, 0x00, 0x00,
    ...section(1, [0x60, 0, 0], [0x60, 3, 0x7f, 0x7f, 0x7f, 0]),
    ...section(3, [0], [1], [1]),
    ...section(5, [1, pages, pages]),
    ...section(7, exported('memory', 2, 0), exported('leaves', 0, 1), exported('pairs', 0, 2)),
    ...section(10,
      body([2, 27, 0x7b, 1, 0x7f], compression()),
      body([1, 1, 0x7b], hashing(48, leafPrefix)),
      body([1, 1, 0x7b], hashing(64, nodePrefix))),
  ])
}
