import { describe, expect, test } from '@jest/globals'
import { CMeshError } from '../../../cmtp/errors.ts'
import { decodeHeaders, encodeHeaders, headerValue } from '../../../cmtp/headers.ts'
import { formatMessageId, MessageIds } from '../../../cmtp/message-id.ts'
import { WasmEngine } from '../../../providers/contracts/wasm.ts'
import type { Transaction } from '../../../services/state/batch.ts'
import type { Proposer } from '../../../services/state/proposer.ts'
import type { Outcome } from '../../../services/state/transaction-index.ts'
import { Writes } from '../../../services/state/writes.ts'
import { testCall } from '../../support/calls.ts'
import { startIam } from '../../support/iam.ts'
import { testClock } from '../../support/mesh.ts'

/** A proposer whose transactions come to this at once. */
function answering(outcomeOf: (transaction: Transaction) => Outcome): Pick<Proposer, 'submit' | 'answer'> {
  return {
    submit: transaction => Promise.resolve(outcomeOf(transaction)),
    answer: (transaction, told) => Promise.resolve(told(outcomeOf(transaction))),
  }
}

const failure = new CMeshError('CMESH_STATE_NO_FUNCTION', { contract: '0x000', function: 'x' })

describe('the reply to a write', () => {
  test.each([[200, {}], [failure.status, failure.toWire()]])('names the level of the mesh, whether it succeeded or failed: %d', async (status, output) => {
    const iam = await startIam()
    const writes = new Writes({
      engine: new WasmEngine(), guard: iam.guard, clock: testClock(), system: new Map(), durability: 'quorum-os', refusal: () => undefined,
      outbox: { pending: 0 }, member: { did: 'z6Mk' },
      stats: { transactions: 0, transactionGas: 0, contractFailures: 0 },
      proposer: {
        knows: () => false,
        ...answering(({ id }) => ({ id, status, gas: 7n, output: Buffer.from(JSON.stringify(output)), digest: '', seq: 3, timeMs: 0, span: undefined })),
      },
    })
    const call = testCall('0xRW:release:shop.mcom')
    const reply = await writes.write(call, await iam.enter(await iam.open()), { gas: 0n, before: undefined, after: undefined }, call.route)
    expect(reply.status).toBe(status)
    expect(headerValue(decodeHeaders(reply.headers), 'x-cmesh-durability')).toBe('quorum-os')
  })
})

test('a write whose outcome is known gets it, though it would be refused now', async () => {
  const iam = await startIam()
  const known = testCall('0xSW:0x0ff:gone')
  const writes = new Writes({
    engine: new WasmEngine(), guard: iam.guard, clock: testClock(), system: new Map(), durability: 'quorum-os', refusal: () => undefined,
    outbox: { pending: 0 }, member: { did: 'z6Mk' }, stats: { transactions: 0, transactionGas: 0, contractFailures: 0 },
    proposer: {
      knows: id => id === formatMessageId(known.id),
      ...answering(({ id }) => ({ id, status: 200, gas: 7n, output: Buffer.from('1'), digest: '', seq: 3, timeMs: 0, span: undefined })),
    },
  })
  const auth = await iam.enter(await iam.open())
  const notes = { gas: 0n, before: undefined, after: undefined }
  expect((await writes.write(known, auth, notes, known.route)).status).toBe(200)
  const fresh = testCall('0xSW:0x0ff:gone', { id: new MessageIds().next() })
  await expect(writes.write(fresh, auth, notes, fresh.route)).rejects.toMatchObject({ code: 'CMESH_STATE_NO_CONTRACT' })
})

describe('the header if-match', () => {
  const HASH = 'ab'.repeat(32)
  /** What is proposed of a write that comes with it, as a condition in hex. */
  async function proposed(fqmn: string, value: string): Promise<string | undefined> {
    const iam = await startIam()
    const conditions: (Uint8Array | undefined)[] = []
    const writes = new Writes({
      engine: new WasmEngine(), guard: iam.guard, clock: testClock(), system: new Map(), durability: 'os', refusal: () => undefined,
      outbox: { pending: 0 }, member: { did: 'z6Mk' }, stats: { transactions: 0, transactionGas: 0, contractFailures: 0 },
      proposer: {
        knows: () => true,
        ...answering(({ id, condition }) => {
          conditions.push(condition)
          return { id, status: 200, gas: 7n, output: Buffer.from('1'), digest: '', seq: 3, timeMs: 0, span: undefined }
        }),
      },
    })
    const call = testCall(fqmn, { headers: encodeHeaders([['if-match', value]]) })
    await writes.write(call, await iam.enter(await iam.open()), { gas: 0n, before: undefined, after: undefined }, call.route)
    expect(conditions).toHaveLength(1)
    return conditions[0] && Buffer.from(conditions[0]).toString('hex')
  }

  test('is the condition that a call of a contract is proposed with', async () => {
    expect(await proposed('0xSW:0x002:increment', `"${HASH}"`)).toBe(HASH)
  })

  test.each([
    ['0xSW:0x002:increment', HASH, 'it is the SHA-256 of the contract\'s code, 64 lower-case hex digits within double quotes'],
    ['0xSW:0x002:increment', '*', 'it is the SHA-256 of the contract\'s code, 64 lower-case hex digits within double quotes'],
    ['0xSW:0x000:checkpoint', `"${HASH}"`, 'it goes with a call of a contract\'s function alone'],
    ['0xRW:release:shop.mcom', `"${HASH}"`, 'it goes with a call of a contract\'s function alone'],
  ])('is refused where nobody would look at it: %s with %s', async (fqmn, value, reason) => {
    await expect(proposed(fqmn, value)).rejects.toMatchObject({ code: 'CMESH_STATE_CONDITION', message: `The header if-match cannot be used: ${reason}.` })
  })
})
