import { generateKeyPairSync, sign as signWith, verify as verifyWith } from 'node:crypto'
import { describe, expect, test } from '@jest/globals'
import fc from 'fast-check'
import { LIMITS } from '../../../cmtp/limits.ts'
import {
  BATCH_LIMITS, batchOverheadBytes, decodeBatch, encodeBatch, movesBySteps, newerBatch, NO_PROOF, transactionBytes, verifyBatch,
} from '../../../services/state/batch.ts'
import type { Batch, BatchContent, Transaction } from '../../../services/state/batch.ts'
import { anyId, anyText } from '../../support/blocks.ts'
import { damaged, decodeTotally } from '../../support/damage.ts'
import { attempt, refusal, type Refusal } from '../../support/refusal.ts'
import { runs } from '../../support/runs.ts'
import { bytesOf, readVectors, type AcceptedVector } from '../../support/vectors.ts'

const MEMBER = 'did:key:z6MkmM42vxfqZQsv4ehtTjFFxQ4sQKS2w6WR7emozFAn5cxu'
const STAMP = new Uint8Array(64).fill(0xab)
const stamped = (): Uint8Array => STAMP

const anyTransaction: fc.Arbitrary<Transaction> = fc.record({
  id: anyId,
  sub: fc.oneof(fc.constant(MEMBER), anyText),
  sid: anyText,
  jti: anyText,
  grantSeq: fc.maxSafeNat(),
  fqmn: fc.oneof(fc.constant('0xSW:0x001:put'), anyText),
  body: fc.uint8Array({ maxLength: 40 }),
  deadlineMs: fc.maxSafeNat(),
  proof: fc.oneof(fc.constant(NO_PROOF), fc.uint8Array({ minLength: 96, maxLength: 96 })),
}).chain(transaction => fc.oneof(
  { weight: 4, arbitrary: fc.constant(transaction) },
  fc.uint8Array({ minLength: 32, maxLength: 32 }).map(condition => ({ ...transaction, condition })),
))
const anyContent: fc.Arbitrary<BatchContent> = fc.record({
  member: anyText,
  proposedMs: fc.maxSafeNat(),
  transactions: fc.array(anyTransaction, { maxLength: 6 }),
})

function transaction(part: Partial<Transaction> = {}): Transaction {
  const id = '00112233445566778899aabbccddeeff'
  const who = { sub: MEMBER, sid: 's1', jti: 'j1', grantSeq: 3 }
  return { id, ...who, fqmn: '0xSW:0x001:put', body: new Uint8Array(2), deadlineMs: 9, proof: NO_PROOF, ...part }
}

function content(transactions: readonly Transaction[]): BatchContent {
  return { member: MEMBER, proposedMs: 1_700_000_000_000, transactions }
}

/** What a call was refused with, which must be the code of batches. */
function refusalOf(call: () => unknown): Refusal {
  const refused = refusal(call)
  expect(refused.code).toBe('CMESH_CONSENSUS_BATCH')
  return refused
}

describe('golden batches', () => {
  type Hex<T, K extends keyof T> = Omit<T, K> & Readonly<Record<K, string>>
  type Meaning<T> = Pick<Batch, 'member' | 'proposedMs'> & { readonly transactions: readonly T[], readonly signature: string }
  const plain = readVectors<AcceptedVector<Meaning<Hex<Omit<Transaction, 'proof'>, 'body'>>>[]>('state/batches-1.json')
  const proven = readVectors<AcceptedVector<Meaning<Hex<Transaction, 'body' | 'proof'>>>[]>('state/batches-2.json')
  const stepped = readVectors<AcceptedVector<Meaning<Hex<Transaction, 'body' | 'proof'>>>[]>('state/batches-3.json')

  test.each(plain)('$name of version 1 is still read, without proofs', ({ hex, meaning }) => {
    const transactions = meaning.transactions.map(each => ({ ...each, body: bytesOf(each.body), proof: NO_PROOF }))
    expect(decodeBatch(bytesOf(hex))).toEqual({ ...meaning, transactions, signature: bytesOf(meaning.signature) })
  })

  test.each(proven)('$name of version 2 is still read', ({ hex, meaning }) => {
    const transactions = meaning.transactions.map(each => ({ ...each, body: bytesOf(each.body), proof: bytesOf(each.proof) }))
    expect(decodeBatch(bytesOf(hex))).toEqual({ ...meaning, transactions, signature: bytesOf(meaning.signature) })
    expect(movesBySteps(bytesOf(hex))).toBe(false)
  })

  test.each(stepped)('$name has these bytes, and these bytes are it', ({ hex, meaning }) => {
    const transactions = meaning.transactions.map(each => ({ ...each, body: bytesOf(each.body), proof: bytesOf(each.proof) }))
    const signature = bytesOf(meaning.signature)
    expect(Buffer.from(encodeBatch({ ...meaning, transactions }, () => signature)).toString('hex')).toBe(hex)
    expect(decodeBatch(bytesOf(hex))).toEqual({ ...meaning, transactions, signature })
  })
})

describe('the batch codec', () => {
  test('decoding gives back what was encoded', () => {
    fc.assert(fc.property(anyContent, batch => {
      expect(decodeBatch(encodeBatch(batch, stamped))).toEqual({ ...batch, signature: STAMP })
    }))
  })

  test('any bytes give a batch whose encoding they are, or CMESH_CONSENSUS_BATCH', () => {
    const versions = fc.constantFrom(1, 2, 3, 4, 5)
    const opened = fc.tuple(versions, fc.uint8Array({ maxLength: 160 })).map(([version, tail]) => new Uint8Array([...Buffer.from('cmesh/batch'), version, ...tail]))
    fc.assert(fc.property(fc.oneof(fc.uint8Array({ maxLength: 100 }), opened), expectBatchOrRefusal), { numRuns: runs(2_000) })
  })

  test('a damaged batch gives a batch whose encoding it is, or CMESH_CONSENSUS_BATCH with the offset', () => {
    const whole = anyContent.map(batch => encodeBatch(batch, stamped))
    fc.assert(fc.property(damaged(whole), expectBatchOrRefusal), { numRuns: runs(2_000) })
  })

  test('is of version 4 where a transaction has a condition, and of 3 where none has, so that older members read it', () => {
    const condition = new Uint8Array(32).fill(7)
    const [without, mixed] = [encodeBatch(content([transaction()]), stamped), encodeBatch(content([transaction(), transaction({ condition })]), stamped)]
    expect([without[11], mixed[11], movesBySteps(mixed)]).toEqual([3, 4, true])
    expect(decodeBatch(mixed).transactions).toEqual([transaction(), transaction({ condition })])
    expect(refusalOf(() => encodeBatch(content([transaction({ condition: new Uint8Array(31) })]), stamped)).message).toContain('a condition of 32 bytes')
    const needless = Buffer.concat([without.subarray(0, 11), Buffer.of(4), without.subarray(12, -64), Buffer.of(0), STAMP])
    expect(refusalOf(() => decodeBatch(needless)).message).toContain('byte 11 is not the version of a batch without conditions')
  })

  test('every proper prefix of a batch is refused', () => {
    const whole = encodeBatch(content([transaction()]), stamped)
    for (let length = 0; length < whole.length; length++) {
      expect(refusalOf(() => decodeBatch(whole.subarray(0, length))).detail['offset']).toEqual(expect.any(Number))
    }
  })

  test('a full batch is taken and one more transaction is refused, encoding and decoding', () => {
    const full = Array.from({ length: BATCH_LIMITS.transactions }, () => transaction())
    expect(decodeBatch(encodeBatch(content(full), stamped)).transactions).toHaveLength(256)
    expect(refusalOf(() => encodeBatch(content([...full, transaction()]), stamped)).message).toContain('at most 256 are allowed')

    const bytes = Buffer.from(encodeBatch(content(full), stamped))
    const count = bytes.indexOf(Buffer.from([0x80, 0x02]))
    bytes[count] = 0x81
    expect(refusalOf(() => decodeBatch(bytes)).message).toContain(`byte ${count} is not a count of at most 256 transactions`)
  })

  test('the largest request fits a batch of its own, and more bytes than a batch may have are refused', () => {
    const fqmn = `0xSW:0x001:${'a'.repeat(LIMITS.fqmnBytes - 11)}`
    const largest = transaction({ body: new Uint8Array(LIMITS.bodyBytes), fqmn })
    expect(decodeBatch(encodeBatch(content([largest]), stamped)).transactions[0]).toEqual(largest)

    const message = `it has ${BATCH_LIMITS.bytes + 1} bytes, at most ${BATCH_LIMITS.bytes} are allowed`
    expect(refusalOf(() => decodeBatch(new Uint8Array(BATCH_LIMITS.bytes + 1))).message).toContain(message)
    expect(refusalOf(() => encodeBatch(content([largest, largest]), stamped)).message).toContain('are allowed')
  })

  test('transactionBytes and batchOverheadBytes are never less than what they bound', () => {
    fc.assert(fc.property(anyContent, batch => {
      const bound = batch.transactions.reduce((sum, each) => sum + transactionBytes(each), batchOverheadBytes(batch.member))
      expect(encodeBatch(batch, stamped).length).toBeLessThanOrEqual(bound)
    }))
  })

  test.each([
    ['an id in upper case', { id: '00112233445566778899AABBCCDDEEFF' }, '32 lower-case hex digits'],
    ['a deadline that is no integer', { deadlineMs: 1.5 }, 'an integer from 0 to 2^53 - 1'],
    ['a proof of another length', { proof: new Uint8Array(95) }, 'a proof of 0 or 96 bytes'],
    ['a session with a lone surrogate', { sid: 'a\udfff' }, 'text without lone surrogates'],
  ])('%s has no encoding', (_, part, expected) => {
    expect(refusalOf(() => encodeBatch(content([transaction(part)]), stamped)).message)
      .toBe(`A proposed batch was refused by the applier: it holds a value that is not ${expected}.`)
  })

  test('a signature of another length is refused', () => {
    const refused = refusalOf(() => encodeBatch(content([]), () => new Uint8Array(63)))
    expect(refused.message).toContain('its signature has 63 bytes, not 64')
  })
})

describe('the signature of a batch', () => {
  const { privateKey, publicKey } = generateKeyPairSync('ed25519')
  const sign = (bytes: Uint8Array): Uint8Array => signWith(null, bytes, privateKey)
  const verify = (did: string, bytes: Uint8Array, signature: Uint8Array): boolean =>
    did === MEMBER && verifyWith(null, bytes, publicKey, signature)

  test('verifies for the member that made it', () => {
    const bytes = encodeBatch(content([transaction()]), sign)
    expect(verifyBatch(bytes, decodeBatch(bytes), verify)).toBe(true)
  })

  test('covers every byte before it: a batch with any bit changed that still decodes does not verify', () => {
    const bytes = encodeBatch(content([transaction({ sid: 'session', body: new Uint8Array([1, 2, 3]) })]), sign)
    let decoded = 0
    for (let at = 0; at < bytes.length; at++) {
      const changed = new Uint8Array(bytes)
      changed[at] = (changed[at] as number) ^ 1
      const batch = attempt(() => decodeBatch(changed)).value
      if (batch === undefined) continue
      decoded++
      expect(verifyBatch(changed, batch, verify)).toBe(false)
    }
    expect(decoded).toBeGreaterThan(150)
  })

  test('does not verify for a DID that is no member', () => {
    const bytes = encodeBatch({ ...content([]), member: 'did:key:somebody' }, sign)
    expect(verifyBatch(bytes, decodeBatch(bytes), verify)).toBe(false)
  })
})

function expectBatchOrRefusal(bytes: Uint8Array): void {
  // Total as well: bytes of a later version, or nothing.
  const newer = newerBatch(bytes)
  if (newer !== undefined) expect(bytes[11]).toBe(newer.version)
  const { value, refusal: refused } = decodeTotally(decodeBatch, bytes, /^CMESH_CONSENSUS_BATCH$/)
  if (value === undefined) expect(refused.detail['offset']).toEqual(expect.any(Number))
  // Versions 1 and 2 are read only: nothing writes their bytes again.
  else if (bytes[11] === 1) expect(value.transactions.every(({ proof }) => proof === NO_PROOF)).toBe(true)
  else if (bytes[11] === 2) expect(movesBySteps(bytes)).toBe(false)
  else expect(Buffer.from(encodeBatch(value, () => value.signature))).toEqual(Buffer.from(bytes))
}
