/**
 * WebAssembly that hashes many messages with SHA-256 (FIPS 180-4) at once, four in the lanes of each vector: leaves of 48 bytes and pairs
 * of 64, one behind the other in its memory, each behind a prefix byte; and messages that differ in a counter alone. Written instruction by
 * instruction, since no compiler is at hand where it runs; `sha256-lanes.ts` uses it.
 */
import { HASH_BYTES } from '../frame.ts'
import {
  ADD, AND, body, call, exported, get, global, i32, leb, load, loadSame, mutable, OR, section, SELECT, set, SHIFT_LEFT, SHIFT_RIGHT, store, swapped, tee,
  vector, words, XOR, ZERO, type Code,
} from './wasm-code.ts'

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
export const MEMORY_BYTES = 262_144
/** Which byte of a message with a counter that begins at, in its first block: in the middle of a word. */
export const COUNTER_AT = 14
const COUNTER_WORD = 3
/** Bytes of a block of such a message that is the same for all: its schedule with the constants added. */
export const SAME_BYTES = 256

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

/** A round: 6.2.2, 3. `word`: of the schedule, its constant added. What is a in one round is b in the next, so that locals are turned, not values. */
function round(index: number, word: Code): Code {
  const [a, b, , d, e, f, g, h] = Array.from({ length: 8 }, (_, i) => (i - index) & 7) as [number, number, number, number, number, number, number, number]
  return [
    ...get(h), ...mixed(e, [6, 11, 25], false), ...ADD, ...get(f), ...get(g), ...get(e), ...SELECT, ...ADD,
    ...word, ...ADD, ...set(SUM),
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

/** The word of the schedule that stands in a local, its constant added. */
function word(index: number): Code {
  return [...get(KS), ...load(K_AT + index * VECTOR), ...get(W + index), ...ADD]
}

const SIXTEEN = Array.from({ length: 16 }, (_, i) => i)
const EIGHT = SIXTEEN.slice(0, 8)

/** The state into locals, and these back, added to it: 6.2.2, 2 and 4. */
const TAKEN: Code = [...EIGHT.flatMap(i => [...ZERO, ...load(STATE_AT + i * VECTOR), ...set(i)]), ...get(1), ...get(2), ...XOR, ...set(CHANGED + 1)]
const ADDED: Code = EIGHT.flatMap(i => [...ZERO, ...get(i), ...ZERO, ...load(STATE_AT + i * VECTOR), ...ADD, ...store(STATE_AT + i * VECTOR)])

/** Puts the block into the state. */
function compression(): Code {
  return [
    ...SIXTEEN.flatMap(i => [...ZERO, ...load(BLOCK_AT + i * VECTOR), ...set(W + i)]),
    ...TAKEN,
    ...SIXTEEN.flatMap(i => round(i, word(i))),
    0x03, 0x40, // loop
    ...get(KS), ...i32(16 * VECTOR), 0x6a, ...set(KS),
    ...SIXTEEN.flatMap(i => [...scheduled(i), ...round(i, word(i))]),
    ...get(KS), ...i32(48 * VECTOR), 0x49, 0x0d, 0, // again while less
    0x0b,
    ...ADDED,
  ]
}

/** Puts a block that is the same for all four into the state: the one whose schedule the global says where it is, which is then behind it. */
function sameCompression(): Code {
  return [
    ...TAKEN,
    ...global.get, ...set(KS),
    ...global.get, ...i32(SAME_BYTES), 0x6a, ...global.set,
    0x03, 0x40, // loop
    ...SIXTEEN.flatMap(i => round(i, [...get(KS), ...loadSame(4 * i)])),
    ...get(KS), ...i32(64), 0x6a, ...tee(KS), ...global.get, 0x49, 0x0d, 0, // again while less
    0x0b,
    ...ADDED,
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

const COMPRESS = call(0)
const COMPRESS_SAME = call(1)

const BEGUN: Code = EIGHT.flatMap(i => [...ZERO, ...ZERO, ...load(INITIAL_AT + i * VECTOR), ...store(STATE_AT + i * VECTOR)])

/** The four hashes, one behind the other. */
function told(temporary: number): Code {
  return EIGHT.flatMap(i => [
    ...ZERO, ...load(STATE_AT + i * VECTOR), ...swapped(temporary), ...set(temporary),
    ...[0, 1, 2, 3].flatMap(lane => [...get(OUT), ...get(temporary), ...vector(0x5a), 0, ...leb(lane * HASH_BYTES + 4 * i), lane]),
  ])
}

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
    ...BEGUN,
    ...Array.from({ length: blocks }, (_, block) => [...SIXTEEN.flatMap(i => word(16 * block + i)), ...COMPRESS]).flat(),
    ...told(TEMPORARY),
    ...get(OUT), ...i32(LANES * HASH_BYTES), 0x6a, ...set(OUT),
    ...get(FROM), ...i32(LANES * each), 0x6a, ...tee(FROM), ...get(TO), 0x49, 0x0d, 0, // again while less
    0x0b,
  ]
}

/** Parameters and local of the function that hashes messages which differ in a counter alone. */
const [SAME, END, COUNTERS] = [3, 4, 5] as const

/**
 * Hashes such messages for counters from one address up to another, four at a time. At `SAME` stand the words of the first block, with zeros for the
 * counter, and behind them what the other blocks come to (`sameBlock`), up to `END`.
 */
function counting(): Code {
  const whole = (index: number): Code => [...get(SAME), ...loadSame(4 * index)]
  const to = (index: number, code: Code): Code => [...ZERO, ...code, ...store(BLOCK_AT + index * VECTOR)]
  return [
    ...SIXTEEN.flatMap(i => (i === COUNTER_WORD || i === COUNTER_WORD + 1 ? [] : to(i, whole(i)))),
    0x03, 0x40, // loop
    ...BEGUN,
    ...get(FROM), ...load(0), ...set(COUNTERS),
    ...to(COUNTER_WORD, [...whole(COUNTER_WORD), ...get(COUNTERS), ...i32(16), ...SHIFT_RIGHT, ...OR]),
    ...to(COUNTER_WORD + 1, [...whole(COUNTER_WORD + 1), ...get(COUNTERS), ...i32(16), ...SHIFT_LEFT, ...OR]),
    ...COMPRESS,
    ...get(SAME), ...i32(64), 0x6a, ...global.set,
    0x02, 0x40, // block
    0x03, 0x40, // loop
    ...global.get, ...get(END), 0x4f, 0x0d, 1, // out unless less
    ...COMPRESS_SAME,
    0x0c, 0, // again
    0x0b,
    0x0b,
    ...told(COUNTERS),
    ...get(OUT), ...i32(LANES * HASH_BYTES), 0x6a, ...set(OUT),
    ...get(FROM), ...i32(LANES * 4), 0x6a, ...tee(FROM), ...get(TO), 0x49, 0x0d, 0, // again while less
    0x0b,
  ]
}

/** What stands at the front of the memory before anything is hashed. */
export function constants(): Uint32Array {
  return Uint32Array.from(`${K} ${INITIAL}`.trim().split(/\s+/).flatMap(word => Array<number>(LANES).fill(parseInt(word, 16))))
}

const ROUNDS = K.trim().split(/\s+/).map(constant => parseInt(constant, 16))

/** What `counted` needs of a block that is the same for all, made from its 16 words: its schedule, constants added. Writes `SAME_BYTES`. */
export function sameBlock(block: ArrayLike<number>, target: Uint32Array, at: number): void {
  for (let i = 0; i < 16; i++) SCHEDULE[i] = block[i] as number
  for (let i = 16; i < 64; i++) {
    const [late, early] = [SCHEDULE[i - 2] as number, SCHEDULE[i - 15] as number]
    SCHEDULE[i] = (turned(late, 17) ^ turned(late, 19) ^ late >>> 10) + (SCHEDULE[i - 7] as number)
      + (turned(early, 7) ^ turned(early, 18) ^ early >>> 3) + (SCHEDULE[i - 16] as number)
  }
  for (let i = 0; i < 64; i++) target[at + i] = (SCHEDULE[i] as number) + (ROUNDS[i] as number)
}

const SCHEDULE = new Int32Array(64)

function turned(word: number, by: number): number {
  return word >>> by | word << 32 - by
}

/**
 * A module with `memory`, and `leaves` and `pairs`: (from, to, out) with the addresses of the byte before the first message, of the byte before where
 * the last one ends, and of where the hashes go. `counted`: (from, to, out, same, end) with those of the counters, 4 bytes each as the machine has them,
 * and of what is the same. They work by four, and read and write as if the last four were whole.
 */
export function moduleOf(leafPrefix: number, nodePrefix: number): Uint8Array {
  const pages = MEMORY_BYTES / PAGE_BYTES
  return Uint8Array.from([
    0x00, 0x61, 0x73, 0x6d, 0x01, 0x00, 0x00, 0x00,
    ...section(1, [0x60, 0, 0], [0x60, 3, 0x7f, 0x7f, 0x7f, 0], [0x60, 5, 0x7f, 0x7f, 0x7f, 0x7f, 0x7f, 0]),
    ...section(3, [0], [0], [1], [1], [2]),
    ...section(5, [1, pages, pages]),
    ...section(6, mutable),
    ...section(7, exported('memory', 2, 0), exported('leaves', 0, 2), exported('pairs', 0, 3), exported('counted', 0, 4)),
    ...section(10,
      body([2, 27, 0x7b, 1, 0x7f], compression()),
      body([2, 27, 0x7b, 1, 0x7f], sameCompression()),
      body([1, 1, 0x7b], hashing(48, leafPrefix)),
      body([1, 1, 0x7b], hashing(64, nodePrefix)),
      body([1, 1, 0x7b], counting())),
  ])
}
