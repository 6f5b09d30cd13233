import { describe, expect, test } from '@jest/globals'
import fc from 'fast-check'
import { CMeshError } from '../../../cmtp/errors.ts'
import type { Space } from '../../../services/state/provider.ts'
import { failedExecution, jsonExecution, Recorder } from '../../../services/state/transaction.ts'
import { transactionDigest, TransactionIndex, type Outcome } from '../../../services/state/transaction-index.ts'
import { transactionOf } from '../../support/replica.ts'

type Change = readonly ['set' | 'delete', string, string]
const anyChanges: fc.Arbitrary<Change[]> = fc.array(fc.tuple(fc.constantFrom('set' as const, 'set' as const, 'delete' as const), fc.constantFrom('a', 'b', 'c', 'd'), fc.string({ maxLength: 2 })), { maxLength: 12 })
const spaceOf = (content: readonly (readonly [string, string])[]): Space => new Map(content.map(([key, value]) => [key, Buffer.from(value)]))
const change = (recorder: Recorder, changes: readonly Change[]): void => {
  for (const [what, key, value] of changes) if (what === 'set') recorder.set(key, Buffer.from(value)); else recorder.delete(key)
}
const anyContent = fc.uniqueArray(fc.tuple(fc.constantFrom('a', 'b', 'c', 'd'), fc.string({ maxLength: 2 })), { selector: ([key]) => key })

describe('a recorder', () => {
  test('writes through at once, and says what stands now: once a key, in the order of the first change', () => {
    fc.assert(fc.property(anyContent, anyChanges, (content, changes) => {
      const space = spaceOf(content)
      const recorder = new Recorder('0x000', space)
      change(recorder, changes)
      const keys = [...new Set(changes.map(([, key]) => key))]
      expect(recorder.writes()).toEqual(keys.map(key => ({ space: '0x000', key, value: space.get(key) })))
      const expected = spaceOf(content)
      for (const [what, key, value] of changes) if (what === 'set') expected.set(key, Buffer.from(value)); else expected.delete(key)
      expect(new Map(space)).toEqual(new Map(expected))
    }))
  })

  test('its writes put into a space that had the same before make it the same', () => {
    fc.assert(fc.property(anyContent, anyChanges, (content, changes) => {
      const [space, replayed] = [spaceOf(content), spaceOf(content)]
      const recorder = new Recorder('0x000', space)
      change(recorder, changes)
      for (const { key, value } of recorder.writes()) if (value === undefined) replayed.delete(key); else replayed.set(key, value)
      expect(new Map(replayed)).toEqual(new Map(space))
    }))
  })

  test('undoes everything: the very values that stood there stand there again', () => {
    fc.assert(fc.property(anyContent, anyChanges, (content, changes) => {
      const space = spaceOf(content)
      const before = new Map(space)
      const recorder = new Recorder('0x000', space)
      change(recorder, changes)
      recorder.undo()
      expect(space.size).toBe(before.size)
      for (const [key, value] of before) expect(space.get(key)).toBe(value)
      expect(recorder.writes()).toEqual([])
    }))
  })

  test('keeps JSON', () => {
    const recorder = new Recorder('0x000', new Map())
    recorder.setJson('a', { x: [1, 'é'] })
    expect(recorder.getJson('a')).toEqual({ x: [1, 'é'] })
    expect(recorder.getJson('b')).toBeUndefined()
  })
})

test('an execution is a result or the wire error of what went wrong', () => {
  expect(jsonExecution({ a: 1 })).toMatchObject({ status: 200, output: Buffer.from('{"a":1}'), writes: [], events: [] })
  const error = new CMeshError('CMESH_CONTRACT_REVERT', { contract: '0x001', reason: 'no' })
  expect(failedExecution(error, 9n)).toMatchObject({ status: 422, gas: 9n, output: Buffer.from(JSON.stringify(error.toWire())), writes: [], events: [] })
})

describe('the digest of a transaction', () => {
  const digest = (fields: Parameters<typeof transactionOf>[1] = {}, fqmn = '0xSW:0x001:f'): string => transactionDigest(transactionOf(fqmn, fields))

  test('tells caller, address, body and condition apart, and nothing else', () => {
    const conditions = [1, 2].map(byte => digest({ condition: Buffer.alloc(32, byte) }))
    const all = [digest(), digest({ sub: 'did:key:z6MkOther' }), digest({}, '0xSW:0x001:g'), digest({ body: Buffer.from('[1]') }), ...conditions]
    expect(new Set(all).size).toBe(6)
    expect(digest({ sid: 'another', jti: 'another', deadlineMs: 5, grantSeq: 9 })).toBe(digest())
  })

  test('does not take one part for another', () => {
    expect(digest({ body: Buffer.from('x') }, '0xSW:0x001:f')).not.toBe(digest({}, '0xSW:0x001:fx'))
    expect(digest({ sub: 'a' }, 'b')).not.toBe(digest({ sub: 'ab' }, ''))
  })
})

test('the index keeps at least the last 65,536 transactions, and forgets by what was added alone', () => {
  const index = new TransactionIndex()
  const outcome = (n: number): Outcome => ({ id: String(n).padStart(32, '0'), status: 200, gas: 0n, output: Buffer.alloc(0), digest: '', seq: n, timeMs: 0, span: undefined })
  for (let n = 0; n < 200_000; n++) {
    index.add(outcome(n))
    // Looking keeps nothing longer: replicas are asked different things.
    if (n % 1_000 === 0) index.get('0'.repeat(32))
  }
  expect(index.get('0'.repeat(32))).toBeUndefined()
  for (let n = 200_000 - 65_536; n < 200_000; n += 997) expect(index.get(String(n).padStart(32, '0'))?.seq).toBe(n)
})

test('from where the index says it begins, the same transactions make the same index, at any time', () => {
  const before = { epoch: 0, seq: 0, chain: new Uint8Array(32) }
  /** Three transactions a block. */
  const outcome = (n: number): Outcome => (
    { id: String(n).padStart(32, '0'), status: 200, gas: 0n, output: Buffer.alloc(0), digest: '', seq: 1 + Math.floor(n / 3), timeMs: 0, span: undefined }
  )
  const whole = new TransactionIndex(50)
  let part: TransactionIndex | undefined
  for (let n = 0; n < 400; n++) {
    whole.add(outcome(n), { before, skip: n % 3 })
    part?.add(outcome(n), { before, skip: n % 3 })
    if (n % 37 !== 0) continue
    const { since } = whole
    if (since === undefined) throw new Error('it does not say')
    part = new TransactionIndex(50)
    for (let again = 3 * (since.seq - 1) + since.skip; again <= n; again++) part.add(outcome(again), { before, skip: again % 3 })
    expect(part.since).toEqual(since)
    for (let any = 0; any <= n; any++) expect([any, part.get(String(any).padStart(32, '0'))?.seq]).toEqual([any, whole.get(String(any).padStart(32, '0'))?.seq])
  }
})

test('what is read back block by block makes the index that adding it makes, wherever generations end', () => {
  const head = { epoch: 0, seq: 0, chain: new Uint8Array(32) }
  // Bytes of the outputs of each block's transactions, how many of the first block's are left out, and what is added behind.
  fc.assert(fc.property(
    fc.array(fc.array(fc.nat(30), { maxLength: 12 }), { maxLength: 20 }), fc.nat(3), fc.array(fc.nat(30), { maxLength: 12 }), fc.boolean(),
    (sizes, skipped, behind, told) => {
      const [added, restored] = [new TransactionIndex(10, 100), new TransactionIndex(10, 100)]
      let asked = 0
      for (const [b, outputs] of sizes.entries()) {
        const skip = b === 0 ? skipped : 0
        const outcomes = outputs.map((size, t): Outcome => (
          { id: `${b}.${t}`, status: 200, gas: 0n, output: Buffer.alloc(size), digest: '', seq: b + 1, timeMs: 0, span: undefined }
        ))
        for (const [place, outcome] of outcomes.entries()) if (place >= skip) added.add(outcome, { before: head, skip: place })
        const holds = { transactions: outputs.length, writes: 0, events: 0, outputBytes: outputs.reduce((sum, size) => sum + size, 0), bytes: 0 }
        const transactions = outcomes.map(({ id, status, gas, output }) => ({ id, status, gas, output, writes: [], events: [] }))
        const block = { epoch: 0, seq: b + 1, timeMs: 0, message: new Uint8Array(0), transactions, ...(told && { holds }) }
        restored.restore(block, { before: head, skip }, () => {
          asked++
          return outcomes
        })
      }
      expect(asked).toBe(0)
      expect(restored.since).toEqual(added.since)
      for (const [t, size] of behind.entries()) {
        const outcome = { id: `behind.${t}`, status: 200, gas: 0n, output: Buffer.alloc(size), digest: '', seq: 99, timeMs: 0, span: undefined }
        for (const index of [added, restored]) index.add(outcome, { before: head, skip: t })
      }
      expect(restored.since).toEqual(added.since)
      for (const [b, outputs] of sizes.entries()) for (const t of outputs.keys()) expect(restored.get(`${b}.${t}`)).toBe(added.get(`${b}.${t}`))
    },
  ))
})
