/**
 * SHA-256 of leaves, of pairs of nodes, and of messages that differ in a counter alone, many in one call. The native hash is quicker at one message,
 * but calling it costs several times what so short a message does, and a batch has several for each request. The code is compiled when it is first used.
 * Its memory is fixed: what is longer goes through it piece by piece. For one thread.
 */
import { HASH_BYTES } from '../frame.ts'
import { constants, COUNTER_AT, FREE_AT, LANES, MEMORY_BYTES, moduleOf, SAME_BYTES, sameBlock } from './sha256-code.ts'

type Hash = (from: number, to: number, out: number) => void
type HashCounted = (from: number, to: number, out: number, same: number, end: number) => void

/** What is hashed: 48 bytes behind 0x00, 64 behind 0x01. */
export type Kind = 'leaves' | 'pairs'

const EACH = { leaves: 48, pairs: 64 } as const
const LEAF_PREFIX = 0x00
const NODE_PREFIX = 0x01
const BLOCK_BYTES = 64
/** Of the padding: a byte behind the message, and its length at the end of the last block. */
const PADDING_BYTES = 9

/** Messages that go through at once, and where they and their hashes lie: each with room for as many more as make four, and for the last word. */
const PIECE = 1_024
const INPUT_AT = FREE_AT + LANES
const OUTPUT_AT = INPUT_AT + (PIECE + LANES) * EACH.pairs + LANES
const COUNTERS_AT = OUTPUT_AT + (PIECE + LANES) * HASH_BYTES
const SAME_AT = COUNTERS_AT + (PIECE + LANES) * 4
/** The longest message with a counter. */
const MOST_BYTES = (Math.floor((MEMORY_BYTES - SAME_AT - BLOCK_BYTES) / SAME_BYTES) + 1) * BLOCK_BYTES - PADDING_BYTES

interface Running extends Record<Kind, Hash> {
  readonly memory: Uint8Array
  readonly words: Uint32Array
  readonly counted: HashCounted
}

let running: Running | undefined

function start(): Running {
  const { exports } = new WebAssembly.Instance(new WebAssembly.Module(moduleOf(LEAF_PREFIX, NODE_PREFIX)))
  const { buffer } = exports['memory'] as WebAssembly.Memory
  const words = new Uint32Array(buffer)
  words.set(constants())
  const { leaves, pairs, counted } = exports
  return { memory: new Uint8Array(buffer), words, leaves: leaves as Hash, pairs: pairs as Hash, counted: counted as HashCounted }
}

/** Hashes so many messages, which stand one behind the other in `source`, into `target`. */
export function hashEach(kind: Kind, source: Uint8Array, count: number, target: Uint8Array): void {
  const each = EACH[kind]
  const { memory, [kind]: hash } = running ??= start()
  for (let done = 0; done < count; done += PIECE) {
    const now = Math.min(PIECE, count - done)
    memory.set(source.subarray(done * each, (done + now) * each), INPUT_AT)
    hash(INPUT_AT - 1, INPUT_AT - 1 + now * each, OUTPUT_AT)
    target.set(memory.subarray(OUTPUT_AT, OUTPUT_AT + now * HASH_BYTES), done * HASH_BYTES)
  }
}

/** Hashes the message with each counter in the place of its bytes 14 to 17, into `target`. */
export function hashCounted(message: Uint8Array, counters: Uint32Array, target: Uint8Array): void {
  if (message.length < COUNTER_AT + 4 || message.length > MOST_BYTES) throw new RangeError(`a message with a counter has ${COUNTER_AT + 4} to ${MOST_BYTES} bytes`)
  const { memory, words, counted } = running ??= start()
  const end = lay(message, words)
  for (let done = 0; done < counters.length; done += PIECE) {
    const now = Math.min(PIECE, counters.length - done)
    words.set(done === 0 && now === counters.length ? counters : counters.subarray(done, done + now), COUNTERS_AT / 4)
    counted(COUNTERS_AT, COUNTERS_AT + 4 * now, OUTPUT_AT, SAME_AT, end)
    target.set(memory.subarray(OUTPUT_AT, OUTPUT_AT + now * HASH_BYTES), done * HASH_BYTES)
  }
}

const block = new Int32Array(BLOCK_BYTES / 4)

/** Lays down what is the same whatever the counter is, and gives where it ends. */
function lay(message: Uint8Array, words: Uint32Array): number {
  const blocks = Math.ceil((message.length + PADDING_BYTES) / BLOCK_BYTES)
  let at = SAME_AT / 4
  for (let nth = 0; nth < blocks; nth++) {
    for (let i = 0; i < block.length; i++) block[i] = wordOf(message, nth * BLOCK_BYTES + 4 * i)
    if (nth === blocks - 1) block[block.length - 1] = message.length * 8
    if (nth === 0) {
      words.set(block, at)
      at += block.length
    } else {
      sameBlock(block, words, at)
      at += SAME_BYTES / 4
    }
  }
  // The counter comes in the place of zeros: the second half of a word and the first of the next.
  const counter = SAME_AT / 4 + (COUNTER_AT >> 2)
  words[counter] = (words[counter] as number) & 0xffff_0000
  words[counter + 1] = (words[counter + 1] as number) & 0x0000_ffff
  return 4 * at
}

/** A word of the message with its padding, but for the length. */
function wordOf(message: Uint8Array, at: number): number {
  const { length } = message
  if (at + 4 <= length) {
    return (message[at] as number) << 24 | (message[at + 1] as number) << 16 | (message[at + 2] as number) << 8 | (message[at + 3] as number)
  }
  let word = 0
  for (let i = 0; i < 4; i++) word = word << 8 | (at + i < length ? message[at + i] as number : at + i === length ? 0x80 : 0)
  return word
}
