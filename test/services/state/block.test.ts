import { createHash } from 'node:crypto'
import { describe, expect, test } from '@jest/globals'
import fc from 'fast-check'
import { BLOCK_BYTES, chainAfter, decodeBlock, emptyChain, encodeBlock, recordBytes, scanBlock } from '../../../services/state/block.ts'
import type { Block, TransactionRecord, Write } from '../../../services/state/provider.ts'
import { anyBlock, anyRecord, putBlock } from '../../support/blocks.ts'
import { damaged, decodeTotally } from '../../support/damage.ts'
import { refusal } from '../../support/refusal.ts'
import { runs } from '../../support/runs.ts'
import { bytesOf, readVectors, type AcceptedVector } from '../../support/vectors.ts'

const TEXT = 'text without lone surrogates'
const EMPTY = new Uint8Array(0)
const ID = '00'.repeat(16)
const GAS = '00'.repeat(8)
const AT = { path: '/data/log', block: 4 }

interface Vector extends AcceptedVector<VectorBlock> {
  readonly chainAfterZero: string
}

interface VectorBlock {
  epoch: number
  seq: number
  timeMs: number
  message: string
  transactions: readonly VectorRecord[]
  root?: string
}

interface VectorRecord {
  id: string
  status: number
  gas: string
  writes: readonly { space: string, key: string, value: string | null }[]
  events: readonly { contract: string, topic: string, data: string }[]
  output: string
}

function blockOf({ meaning: block }: Vector): Block {
  const transactions = block.transactions.map((record): TransactionRecord => ({
    id: record.id,
    status: record.status,
    gas: BigInt(record.gas),
    writes: record.writes.map(({ space, key, value }) => ({ space, key, value: value === null ? undefined : bytesOf(value) })),
    events: record.events.map(({ contract, topic, data }) => ({ contract, topic, data: bytesOf(data) })),
    output: bytesOf(record.output),
  }))
  const { root, ...rest } = block
  return { ...rest, message: bytesOf(block.message), transactions, ...(root !== undefined && { root: bytesOf(root) }) }
}

describe('golden blocks', () => {
  const vectors = ['state/blocks-1.json', 'state/blocks-2.json'].flatMap(file => readVectors<Vector[]>(file))
  test.each(vectors)('$name has these bytes, and these bytes are it', vector => {
    const bytes = encodeBlock(blockOf(vector))
    expect(Buffer.from(bytes).toString('hex')).toBe(vector.hex)
    expect(decodeBlock(bytesOf(vector.hex))).toEqual(blockOf(vector))
    expect(Buffer.from(chainAfter(emptyChain(), bytes)).toString('hex')).toBe(vector.chainAfterZero)
  })
})

describe('the block codec', () => {
  test('decoding gives back what was encoded', () => {
    fc.assert(fc.property(anyBlock, block => {
      expect(decodeBlock(encodeBlock(block))).toEqual(block)
    }))
  })

  test('any bytes give a block whose encoding they are, or CMESH_STATE_CORRUPT with the offset', () => {
    const header = fc.tuple(fc.constantFrom(1, 2), fc.uint8Array({ maxLength: 120 })).map(([version, tail]) => new Uint8Array([0x53, version, ...tail]))
    fc.assert(fc.property(fc.oneof(fc.uint8Array({ maxLength: 60 }), header), expectBlockOrCorrupt), { numRuns: runs(2_000) })
  })

  test('a damaged block gives a block whose encoding it is, or CMESH_STATE_CORRUPT with the offset', () => {
    fc.assert(fc.property(damaged(anyBlock.map(encodeBlock)), expectBlockOrCorrupt), { numRuns: runs(2_000) })
  })

  test('reading a block through accepts and refuses what decoding it does, and finds the same in it', () => {
    const whole = anyBlock.map(encodeBlock)
    fc.assert(fc.property(fc.oneof(whole, damaged(whole)), bytes => {
      const writes: Write[] = []
      const scan = (): Block => scanBlock(bytes, AT, (space, keyAt, keyBytes, valueAt, valueBytes) => {
        const key = Buffer.from(bytes.subarray(keyAt, keyAt + keyBytes)).toString('latin1')
        writes.push({ space, key, value: valueAt < 0 ? undefined : new Uint8Array(bytes.subarray(valueAt, valueAt + valueBytes)) })
      })
      let block: Block
      try {
        block = decodeBlock(bytes, AT)
      } catch {
        expect(refusal(scan)).toEqual(refusal(() => decodeBlock(bytes, AT)))
        return
      }
      const { holds, ...rest } = scan()
      const { transactions, ...head } = block
      const events = transactions.flatMap(each => each.events)
      expect(rest).toEqual(head)
      expect(scanBlock(bytes, AT, () => undefined).transactions).toEqual(transactions)
      expect(writes).toEqual(transactions.flatMap(each => each.writes))
      expect(holds).toEqual({
        transactions: transactions.length, writes: writes.length, events: events.length,
        outputBytes: transactions.reduce((sum, { output }) => sum + output.length, 0), bytes: bytes.length,
      })
    }), { numRuns: 500 })
  })

  test('every proper prefix of a block is refused where it ends', () => {
    const whole = encodeBlock({ ...putBlock(300, 'key', 'value'), epoch: 2 })
    for (let length = 0; length < whole.length; length++) {
      const error = refusal(() => decodeBlock(whole.subarray(0, length), AT))
      expect(error.code).toBe('CMESH_STATE_CORRUPT')
      expect(error.detail).toMatchObject(AT)
      expect(error.detail['offset']).toBeLessThanOrEqual(length)
    }
  })

  test.each([
    ['another first byte', '5401', 0, 'the start of a block'],
    ['another version', '5303', 1, 'version 1 or 2 of a block'],
    ['a root that ends early', `5302${'00'.repeat(31)}`, 2, 'a state root of 32 bytes'],
    ['an epoch of 2^53 beside a root', `5302${'00'.repeat(32)}000000000000200000`, 42, 'an epoch below 2^53'],
    ['an integer with a superfluous byte', '53018000', 2, 'an epoch in its shortest form'],
    ['an integer of 2^53', '5301808080808080801000', 2, 'an epoch in its shortest form'],
    ['an integer that never ends', '5301ffffffffffffffffff', 2, 'an epoch below 2^53'],
    ['more transactions than the bytes hold', '53010001000064', 6, 'a count of transactions that fits the bytes'],
    ['a byte after the end', '5301000100000000', 7, 'the end'],
    ['a space past the table', `53010001000001${ID}00${GAS}0101000000`, 33, 'a space that the table holds or that comes next'],
    ['a space that is not UTF-8', `53010001000001${ID}00${GAS}010001ff00000000`, 35, 'a space in UTF-8'],
  ])('refuses %s', (_, hex, offset, expected) => {
    const error = refusal(() => decodeBlock(bytesOf(hex), AT))
    expect(error.code).toBe('CMESH_STATE_CORRUPT')
    expect(error.detail['offset']).toBe(offset)
    expect(error.message).toBe(`The state log in /data/log is damaged at block 4: byte ${offset} is not ${expected}.`)
  })

  test('a space is spelled once: a second spelling of it is refused', () => {
    const record = putBlock(1, 'k', 'v').transactions[0] as TransactionRecord
    const block = { ...putBlock(1, 'k', 'v'), transactions: [{ ...record, writes: [...record.writes, ...record.writes] }] }
    const bytes = encodeBlock(block)
    const [first, second] = [...Buffer.from(bytes).toString('latin1').matchAll(/\x01k\x02v/g)].map(match => match.index)
    // Replaces the second write's reference to entry 0 by entry 1 with the same name.
    const spelled = Buffer.from('\x01\x050x001', 'latin1')
    const twice = Buffer.concat([bytes.subarray(0, (second as number) - 1), spelled, bytes.subarray(second)])
    expect(first).toBeLessThan(second as number)
    expect(refusal(() => decodeBlock(twice, AT)).message).toContain('is not a space by its place in the table')
  })

  test('what the state keeps of a decoded block are copies of their own', () => {
    const bytes = encodeBlock(putBlock(1, 'key', 'value'))
    const { transactions } = decodeBlock(bytes)
    const record = transactions[0] as TransactionRecord
    const value = record.writes[0]?.value as Uint8Array
    bytes.fill(0)
    expect(Buffer.from(value).toString()).toBe('value')
    expect(Buffer.from(record.output).toString()).toBe('"1"')
    expect(value.buffer.byteLength).toBe(5)
    expect(record.output.buffer.byteLength).toBe(3)
  })

  test.each([
    ['an id that is not 32 hex digits', { id: 'ABC' }, '32 lower-case hex digits'],
    ['gas past 64 bits', { gas: 1n << 64n }, 'an integer from 0 to 2^64 - 1'],
    ['a negative status', { status: -1 }, 'an integer from 0 to 2^53 - 1'],
    ['a key beyond latin1', { writes: [{ space: '0x001', key: 'κ', value: undefined }] }, 'a byte string in latin1'],
    ['a topic with half a character', { events: [{ contract: '', topic: '\ud800', data: EMPTY }] }, TEXT],
  ])('%s has no encoding', (_, part, expected) => {
    const block = putBlock(9, 'key', 'value')
    const record = { ...(block.transactions[0] as TransactionRecord), ...part }
    const error = refusal(() => encodeBlock({ ...block, transactions: [record] }))
    expect(error.code).toBe('CMESH_STATE_BLOCK')
    expect(error.message).toBe(`The state block 9 cannot be written: it holds a value that is not ${expected}.`)
  })

  test('a block past its bound is refused', () => {
    const error = refusal(() => encodeBlock({ ...putBlock(9, 'key', 'value'), message: new Uint8Array(BLOCK_BYTES) }))
    expect(error.code).toBe('CMESH_STATE_BLOCK')
    expect(error.message).toContain(`at most ${BLOCK_BYTES} fit`)
  })

  test('recordBytes is never less than what a record adds', () => {
    const empty = { ...putBlock(1, '', ''), transactions: [] }
    fc.assert(fc.property(anyRecord, record => {
      const added = encodeBlock({ ...empty, transactions: [record] }).length - encodeBlock(empty).length
      expect(added).toBeLessThanOrEqual(recordBytes(record))
    }))
  })
})

test('the chain is SHA-256 over the previous value and the block, for short blocks and long ones', () => {
  const previous = new Uint8Array(32).fill(9)
  for (const length of [0, 1, 200, 65_536, 65_537, 300_000]) {
    const block = new Uint8Array(length).fill(5)
    expect(Buffer.from(chainAfter(previous, block))).toEqual(createHash('sha256').update(previous).update(block).digest())
  }
})

function expectBlockOrCorrupt(bytes: Uint8Array): void {
  const { value, refusal: refused } = decodeTotally(each => decodeBlock(each, AT), bytes, /^CMESH_STATE_CORRUPT$/)
  if (value === undefined) expect(refused.detail).toMatchObject({ ...AT, offset: expect.any(Number) })
  else expect(Buffer.from(encodeBlock(value))).toEqual(Buffer.from(bytes))
}
