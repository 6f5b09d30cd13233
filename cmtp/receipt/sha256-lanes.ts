/**
 * SHA-256 of leaves and of pairs of nodes, many in one call. The native hash is quicker at one message, but calling it costs several times what
 * so short a message does, and a batch has two for each request. The code is compiled when it is first used. Its memory is fixed: what is longer
 * goes through it piece by piece. For one thread.
 */
import { HASH_BYTES } from '../frame.ts'
import { constants, FREE_AT, LANES, moduleOf } from './sha256-code.ts'

type Hash = (from: number, to: number, out: number) => void

/** What is hashed: 48 bytes behind 0x00, 64 behind 0x01. */
export type Kind = 'leaves' | 'pairs'

const EACH = { leaves: 48, pairs: 64 } as const
const LEAF_PREFIX = 0x00
const NODE_PREFIX = 0x01

/** Messages that go through at once, and where they and their hashes lie: each with room for as many more as make four, and for the last word. */
const PIECE = 1_024
const INPUT_AT = FREE_AT + LANES
const OUTPUT_AT = INPUT_AT + (PIECE + LANES) * EACH.pairs + LANES

let running: (Record<Kind, Hash> & { readonly memory: Uint8Array }) | undefined

function start(): NonNullable<typeof running> {
  const { exports } = new WebAssembly.Instance(new WebAssembly.Module(moduleOf(LEAF_PREFIX, NODE_PREFIX)))
  const { buffer } = exports['memory'] as WebAssembly.Memory
  new Uint32Array(buffer).set(constants())
  return { memory: new Uint8Array(buffer), leaves: exports['leaves'] as Hash, pairs: exports['pairs'] as Hash }
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
