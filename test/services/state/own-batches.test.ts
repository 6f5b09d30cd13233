import { describe, expect, test } from '@jest/globals'
import fc from 'fast-check'
import { decodeBatch, encodeBatch, type Transaction } from '../../../services/state/batch.ts'
import { OwnBatches, type OwnBatch } from '../../../services/state/own-batches.ts'
import { transactionDigest } from '../../../services/state/transaction-index.ts'
import { entryOf, MEMBER, START_MS, transactionOf } from '../../support/replica.ts'

const put = (fields: Partial<Transaction> = {}): Transaction => transactionOf('0xSW:0x001:f', fields)

interface Proposed {
  readonly batches: OwnBatches
  readonly id: string
  readonly data: Uint8Array
  readonly own: OwnBatch
}

function proposed(transactions: readonly Transaction[]): Proposed {
  const batches = new OwnBatches()
  const content = { member: MEMBER.did, proposedMs: START_MS, transactions }
  const data = encodeBatch(content, bytes => MEMBER.sign(bytes))
  const { id } = entryOf(1, data)
  return { batches, id, data, own: batches.add(id, data, content) }
}

describe('a batch of this node', () => {
  test('is given out once, for the very bytes, whether or not they are in the same memory', () => {
    for (const copied of [false, true]) {
      const { batches, data, own } = proposed([put()])
      const entry = entryOf(1, copied ? Buffer.from(data) : data)
      expect(batches.take(entry)).toBe(own)
      expect(batches.take(entry)).toBeUndefined()
    }
  })

  test('is not given out for another id, nor for bytes of which any one is another, nor for more or fewer of them', () => {
    const { batches, id, data, own } = proposed([put({ body: Buffer.from('[1]') })])
    expect(batches.take({ ...entryOf(1, data), id: id.replace(/^./, '0') })).toBeUndefined()
    for (let at = 0; at < data.length; at++) {
      const changed = Buffer.from(data)
      changed[at] = (data[at] as number) ^ 1
      expect(batches.take(entryOf(1, changed))).toBeUndefined()
    }
    expect(batches.take(entryOf(1, data.subarray(1)))).toBeUndefined()
    expect(batches.take(entryOf(1, Buffer.concat([data, Buffer.of(0)])))).toBeUndefined()
    expect(batches.take(entryOf(1, Buffer.from(data)))).toBe(own)
  })

  test('is what decoding its bytes gives', () => {
    const text = fc.oneof(fc.string({ maxLength: 40 }), fc.constantFrom('ü', '€', '😀'))
    const transaction = fc.record({
      sub: text, sid: text, jti: text, grantSeq: fc.nat(), fqmn: text, body: fc.uint8Array({ maxLength: 50 }), deadlineMs: fc.nat(),
      proof: fc.constantFrom(new Uint8Array(0), new Uint8Array(96).fill(7)),
    })
    fc.assert(fc.property(fc.array(transaction, { maxLength: 5 }), fields => {
      const { data, own } = proposed(fields.map(each => put(each)))
      const decoded = decodeBatch(data)
      const plain = ({ body, proof, ...rest }: Transaction): object => ({ ...rest, body: Buffer.from(body).toString('hex'), proof: Buffer.from(proof).toString('hex') })
      expect({ ...own, transactions: own.transactions.map(plain) })
        .toMatchObject({ member: decoded.member, proposedMs: decoded.proposedMs, transactions: decoded.transactions.map(plain) })
      expect(own.transactions.map(transactionDigest)).toEqual(decoded.transactions.map(transactionDigest))
    }))
  })

  test('is forgotten when its proposal is settled, and counts as not durable from its order until its block is', () => {
    const { batches, id, data } = proposed([put()])
    expect(batches.undurable).toBe(0)
    batches.take({ ...entryOf(4, data), id })
    expect(batches.undurable).toBe(1)
    batches.durable(3)
    expect(batches.undurable).toBe(1)
    batches.durable(4)
    expect(batches.undurable).toBe(0)
    batches.add(id, data, decodeBatch(data))
    batches.forget(id)
    expect(batches.take({ ...entryOf(5, data), id })).toBeUndefined()
    expect(batches.undurable).toBe(0)
  })
})
