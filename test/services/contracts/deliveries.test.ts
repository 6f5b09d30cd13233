import { beforeEach, describe, expect, test } from '@jest/globals'
import { pendingMessages, transactionIdOf } from '../../../services/contracts/messages.ts'
import type { Transaction } from '../../../services/state/batch.ts'
import type { TransactionRecord } from '../../../services/state/provider.ts'
import { contentOf } from '../../support/blocks.ts'
import { batchOf, genesisTransaction, MEMBER, outputOf, replacementOf, replica, START_MS, transactionOf, type Replica } from '../../support/replica.ts'
import { sendingContract } from '../../support/sending-contract.ts'
import { versionedContract } from '../../support/versioned-contracts.ts'

const A = '0x0a1'
const B = '0x0b2'
const SENT = { fqmn: `0xSW:${B}:note`, body: Buffer.from('["hello"]') }

let made: Replica
let id: string
beforeEach(async () => {
  made = await replica()
  made.next(batchOf([genesisTransaction({ [A]: sendingContract({ ask: { fqmn: SENT.fqmn, body: '["hello"]', reply: 'heard' } }), [B]: sendingContract() })]))
  made.next(batchOf([transactionOf(`0xSW:${A}:ask`)]))
  ;[id = ''] = pendingMessages(made.store.space('0x000'))
})

/** The delivery as the courier proposes it, with what is told changed. */
const delivery = (fields: Partial<Transaction> = {}): Transaction =>
  transactionOf(fields.fqmn ?? SENT.fqmn, { id: transactionIdOf('send', id), sub: A, sid: '', jti: id, body: SENT.body, ...fields })
const answer = (body: unknown, fields: Partial<Transaction> = {}, of = id): Transaction =>
  transactionOf(`0xSW:0x000:answer:["${of}"]`, { sub: MEMBER.did, body: Buffer.from(JSON.stringify(body)), ...fields })
const one = (transaction: Transaction): TransactionRecord => made.next(batchOf([transaction], { proposedMs: START_MS }))[0] as TransactionRecord
const kept = (address: string, key: string): string => Buffer.from(made.store.space(address).get(key) ?? []).toString()

describe('a transaction in a contract\'s name', () => {
  test('runs for the message that the contract sent', () => {
    const record = one(delivery())
    expect(record.status).toBe(200)
    expect([kept(B, 'w'), kept(B, 'n')]).toEqual([A, '["hello"]'])
  })

  test.each<[string, () => Partial<Transaction>]>([
    ['of no message', () => ({ jti: '' })],
    ['of a message nobody sent', () => ({ jti: `9.${'0'.repeat(32)}.0`, id: transactionIdOf('send', `9.${'0'.repeat(32)}.0`) })],
    ['of another\'s message', () => ({ sub: B })],
    ['of a contract that is not there', () => ({ sub: '0xfff' })],
    ['to another address', () => ({ fqmn: `0xSW:${B}:refuse` })],
    ['to the system contract', () => ({ fqmn: '0xSW:0x000:deploy' })],
    ['with another body', () => ({ body: Buffer.from('["other"]') })],
    ['under an id of its own', () => ({ id: 'ab'.repeat(16) })],
  ])('%s is denied, whoever signed the batch, and changes nothing', (_what, fields) => {
    const before = contentOf(made.store)
    const record = one(delivery(fields()))
    expect(outputOf(record)).toMatchObject({ code: 'CMESH_CONTRACT_DENIED', message: expect.stringContaining('it sent no such message, or has its answer') })
    expect(contentOf(made.store)).toEqual(before)
  })

  test('is over once the message has its answer', () => {
    expect(outputOf(one(answer({ status: 504, gas: 0, body: '{}' })))).toEqual({ answered: true, reply: 200 })
    expect(outputOf(one(delivery()))).toMatchObject({ code: 'CMESH_CONTRACT_DENIED' })
    expect(kept(B, 'w')).toBe('')
  })
})

describe('an answer', () => {
  test('is given to the function that was named, with the message, the status and the body, and takes the message out', () => {
    expect(outputOf(one(answer({ status: 200, gas: 5, body: '"done"' })))).toEqual({ answered: true, reply: 200 })
    expect(JSON.parse(kept(A, 'h'))).toEqual([id, 200, '"done"'])
    expect(pendingMessages(made.store.space('0x000'))).toEqual([])
  })

  test('comes once: the second is told so, and nothing is called', () => {
    one(answer({ status: 200, gas: 0, body: '"first"' }))
    const second = one(answer({ status: 200, gas: 0, body: '"second"' }))
    expect([second.status, outputOf(second), second.writes]).toEqual([200, { answered: false }, []])
    expect(JSON.parse(kept(A, 'h'))).toEqual([id, 200, '"first"'])
  })

  test('whose delivery used everything leaves nothing for the function', () => {
    expect(outputOf(one(answer({ status: 200, gas: 950_000, body: '' })))).toMatchObject({ answered: true, reply: 422, error: { code: 'CMESH_CONTRACT_OUT_OF_GAS' } })
    expect([kept(A, 'h'), pendingMessages(made.store.space('0x000'))]).toEqual(['', []])
  })

  test('finds nobody where the code was replaced by one without the function', () => {
    const body = replacementOf(A, 2, versionedContract({ which: 2 }))
    expect(one(transactionOf(`0xSW:0x000:replace:["${A}"]`, { body })).status).toBe(200)
    expect(outputOf(one(answer({ status: 200, gas: 0, body: '' })))).toMatchObject({ answered: true, reply: 404, error: { code: 'CMESH_STATE_NO_FUNCTION' } })
    expect(pendingMessages(made.store.space('0x000'))).toEqual([])
  })

  test.each<[string, () => Transaction, number, string]>([
    ['by the operator', () => answer({ status: 200, gas: 0, body: '' }, { sub: transactionOf('0xC:x').sub }), 403, 'CMESH_IAM_DENIED'],
    ['by the contract itself', () => answer({ status: 200, gas: 0, body: '' }, { sub: A }), 422, 'CMESH_CONTRACT_DENIED'],
    ['without a status', () => answer({ gas: 0, body: '' }), 422, 'CMESH_CONTRACT_REVERT'],
    ['that gives gas back', () => answer({ status: 200, gas: -1, body: '' }), 422, 'CMESH_CONTRACT_REVERT'],
    ['that is noise', () => answer('', { body: Buffer.from('noise') }), 422, 'CMESH_CONTRACT_REVERT'],
    ['to nothing', () => transactionOf('0xSW:0x000:answer', { sub: MEMBER.did }), 422, 'CMESH_CONTRACT_REVERT'],
  ])('%s is refused, and the message waits', (_what, make, status, code) => {
    const record = one(make())
    expect({ status: record.status, code: (outputOf(record) as { code: string }).code }).toEqual({ status, code })
    expect(pendingMessages(made.store.space('0x000'))).toEqual([id])
  })
})
