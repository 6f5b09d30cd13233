/** Blocks for tests: arbitrary ones, plain ones, and the applier's part of taking one in. */
import fc from 'fast-check'
import type { Block, EmittedEvent, StateStore, TransactionRecord, Write } from '../../services/state/provider.ts'

const HEX = [...'0123456789abcdef']
export const anyId: fc.Arbitrary<string> = fc.string({ unit: fc.constantFrom(...HEX), minLength: 32, maxLength: 32 })

/** Text that UTF-8 can carry. */
export const anyText: fc.Arbitrary<string> = fc.string({ unit: 'grapheme', maxLength: 12 })
const anyKey = fc.uint8Array({ maxLength: 24 }).map(bytes => Buffer.from(bytes).toString('latin1'))
const anySpace = fc.oneof(fc.constantFrom('0x000', '0x001', '0x0ff'), anyText)
const anyWrite: fc.Arbitrary<Write> = fc.record({
  space: anySpace,
  key: anyKey,
  value: fc.option(fc.uint8Array({ maxLength: 48 }), { nil: undefined, freq: 4 }),
})
const anyEvent: fc.Arbitrary<EmittedEvent> = fc.record({
  contract: anySpace,
  topic: anyText,
  data: fc.uint8Array({ maxLength: 24 }),
})

export const anyRecord: fc.Arbitrary<TransactionRecord> = fc.record({
  id: anyId,
  status: fc.integer({ min: 100, max: 599 }),
  gas: fc.bigInt({ min: 0n, max: 0xffff_ffff_ffff_ffffn }),
  writes: fc.array(anyWrite, { maxLength: 6 }),
  events: fc.array(anyEvent, { maxLength: 3 }),
  output: fc.uint8Array({ maxLength: 48 }),
})

const anyCount = fc.oneof(fc.maxSafeNat(), fc.nat(300))

const anyRoot = fc.uint8Array({ minLength: 32, maxLength: 32 })

export const anyBlock: fc.Arbitrary<Block> = fc.record({
  epoch: anyCount,
  seq: anyCount,
  timeMs: anyCount,
  message: fc.uint8Array({ maxLength: 64 }),
  transactions: fc.array(anyRecord, { maxLength: 5 }),
  root: anyRoot,
}, { requiredKeys: ['epoch', 'seq', 'timeMs', 'message', 'transactions'] })

/** A run of blocks as a log holds them. */
export const anyLog: fc.Arbitrary<Block[]> = fc
  .array(anyBlock, { minLength: 1, maxLength: 12 })
  .map(blocks => blocks.map((block, i) => ({ ...block, epoch: 0, seq: i + 1, timeMs: i })))

const utf8 = (text: string): Uint8Array => new Uint8Array(Buffer.from(text))

/** One transaction that sets `key` of `0x001` to the text `value`. */
export function putBlock(seq: number, key: string, value: string | undefined): Block {
  const id = seq.toString(16).padStart(32, '0')
  const write: Write = { space: '0x001', key, value: value === undefined ? undefined : utf8(value) }
  const record: TransactionRecord = { id, status: 200, gas: 7n, writes: [write], events: [], output: utf8(`"${seq}"`) }
  return { epoch: 0, seq, timeMs: 1_700_000_000_000 + seq, message: utf8(`message ${seq}`), transactions: [record] }
}

/** Does what the applier does: the writes first, then the commit. */
export function commitBlock(store: StateStore, block: Block): Promise<void> {
  for (const { writes } of block.transactions) {
    for (const { space, key, value } of writes) {
      if (value === undefined) store.space(space).delete(key)
      else store.space(space).set(key, value)
    }
  }
  return store.commit(block)
}

/** Everything a store holds, for comparing: spaces that hold a key, by name, keys sorted. */
export function contentOf(store: StateStore): Record<string, Record<string, string>> {
  const spaces = [...store.spaces()].filter(name => store.space(name).size > 0).sort()
  return Object.fromEntries(spaces.map(name => {
    const keys = [...store.space(name)].sort(([a], [b]) => (a < b ? -1 : 1))
    return [name, Object.fromEntries(keys.map(([key, value]) => [`.${key}`, Buffer.from(value).toString('hex')]))]
  }))
}

/**
 * The block a process commits over and over: the same for the same sequence, so that who reads the log knows what must be in it.
 * Every seventh is long enough to be kept apart from the others by RocksDB.
 */
export function loopBlock(seq: number): Block {
  const text = `${seq}:`.padEnd(seq % 7 === 0 ? 6_000 : 120, '.')
  return putBlock(seq, `key ${seq % 50}`, text)
}
