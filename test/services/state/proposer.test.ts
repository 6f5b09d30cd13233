import { describe, expect, jest, test } from '@jest/globals'
import fc from 'fast-check'
import { CMeshError } from '../../../cmtp/errors.ts'
import { LIMITS } from '../../../cmtp/limits.ts'
import { MockConsensus } from '../../../providers/consensus/mock.ts'
import type { Committed, ConsensusProvider, LogEntry, Proposal } from '../../../services/consensus/provider.ts'
import { BATCH_LIMITS, decodeBatch, verifyBatch, type Batch, type Transaction } from '../../../services/state/batch.ts'
import type { OwnBatch } from '../../../services/state/own-batches.ts'
import { Proposer, type ProposerParts } from '../../../services/state/proposer.ts'
import { TransactionIndex, transactionDigest, type Outcome } from '../../../services/state/transaction-index.ts'
import { until } from '../../client/support/until.ts'
import { memberOf, testClock } from '../../support/mesh.ts'
import { MEMBER, START_MS, transactionOf } from '../../support/replica.ts'

const member = memberOf(MEMBER)
const turn = (): Promise<void> => new Promise(resolve => { setImmediate(resolve) })

/** A proposal on its way, which the test ends. */
interface Sent {
  readonly proposal: Proposal
  readonly batch: Batch
  commit(): void
  fail(error: unknown): void
}

interface Made {
  readonly proposer: Proposer
  readonly sent: Sent[]
  readonly index: TransactionIndex
  /** Orders a batch, of which so many are executed; default all. */
  order(sent: Sent | undefined, executed?: number): Outcome[]
}

function proposer(parts: Partial<ProposerParts> = {}): Made {
  const sent: Sent[] = []
  const index = new TransactionIndex()
  const made = new Proposer({
    index, member, clock: testClock({ ms: START_MS }),
    consensus: {
      propose: proposal => new Promise<Committed>((resolve, reject) => {
        sent.push({ proposal, batch: decodeBatch(proposal.data), commit: () => { resolve({ epoch: 0, seq: 1, duplicate: false }) }, fail: reject })
      }),
    },
    ...parts,
  })
  let seq = 0
  return {
    proposer: made, sent, index,
    order: (each, executed) => {
      if (each === undefined) throw new Error('nothing was sent')
      each.commit()
      seq++
      const outcomes = each.batch.transactions.slice(0, executed).map(transaction => outcomeOf(transaction, seq))
      for (const outcome of outcomes) index.add(outcome)
      made.settle(outcomes)
      return outcomes
    },
  }
}

function outcomeOf(transaction: Transaction, seq = 1): Outcome {
  return { id: transaction.id, status: 200, gas: 0n, output: Buffer.from('1'), digest: transactionDigest(transaction), seq, timeMs: START_MS, span: undefined }
}

const put = (fields: Parameters<typeof transactionOf>[1] = {}): Transaction => transactionOf('0xSW:0x001:f', fields)
const idsOf = (sent: Sent | undefined): string[] => (sent?.batch.transactions ?? []).map(({ id }) => id)

describe('a submission', () => {
  test('of what another node proposed is answered with its outcome, once that is as durable as callers are told', async () => {
    let reached = 1
    const { proposer: made, sent, order, index } = proposer({ reached: () => reached })
    const [told, early] = [put(), put()]
    for (const [at, transaction] of [told, early].entries()) index.add({ ...outcomeOf(transaction, at + 1), output: Buffer.from('theirs') })
    expect([made.knows(told.id), made.knows(early.id), made.knows(put().id)]).toEqual([true, true, false])
    expect(Buffer.from((await made.submit(told)).output).toString()).toBe('theirs')
    // Executed here, and held by nobody else yet.
    let settled = false
    const submitted = made.submit(early).finally(() => { settled = true })
    await turn()
    expect({ settled, sent: idsOf(sent[0]) }).toEqual({ settled: false, sent: [early.id] })
    reached = 2
    const theirs = index.get(early.id) as Outcome
    made.settle([theirs])
    expect(await submitted).toBe(theirs)
    expect(await made.submit(early)).toBe(theirs)
    await expect(made.submit({ ...early, body: Buffer.from('other') })).rejects.toMatchObject({ code: 'CMESH_ROUTER_DUPLICATE' })
    expect(sent).toHaveLength(1)
    order(sent[0], 0)
  })

  test('resolves with the outcome once that is durable, not when it is ordered', async () => {
    const { proposer: made, sent, order, index } = proposer()
    const a = put()
    let settled = false
    const submitted = made.submit(a).finally(() => { settled = true })
    await turn()
    // Executed, not durable yet.
    index.add(outcomeOf(a))
    sent[0]?.commit()
    await turn()
    expect({ settled, pending: made.pending }).toEqual({ settled: false, pending: 1 })
    const [outcome] = order(sent[0])
    expect(await submitted).toBe(outcome)
    expect(made.pending).toBe(0)
  })

  test('in a batch that counts for nothing, since its node is no member any more, is refused: nothing would come of it the next time', async () => {
    const { proposer: made, sent } = proposer()
    const refused = [made.submit(put()), made.submit(put())]
    await turn()
    sent[0]?.commit()
    for (const each of await Promise.allSettled(refused)) {
      expect(each).toMatchObject({
        reason: { code: 'CMESH_STATE_NOT_MEMBER', message: 'This node is no member of the mesh, so that nothing it proposes counts: the log does not list it.' },
      })
    }
    expect(made.pending).toBe(0)
  })

  test('is proposed by the member that signs it, with the member\'s time and the content as it came', async () => {
    const { proposer: made, sent } = proposer()
    const a = put({ body: Buffer.from('[1]'), grantSeq: 7 })
    void made.submit(a)
    await turn()
    const [{ proposal, batch }] = sent as [Sent]
    expect(batch).toMatchObject({ member: MEMBER.did, proposedMs: START_MS })
    expect(batch.transactions.map(each => ({ ...each, body: Buffer.from(each.body) }))).toEqual([a])
    expect(verifyBatch(proposal.data, batch, member.verify)).toBe(true)
    expect(proposal.deadlineMs).toBe(a.deadlineMs)
  })

  test('of the same id and content joins the one under way, and gets the first outcome afterwards', async () => {
    const { proposer: made, sent, order } = proposer()
    const a = put()
    const both = [made.submit(a), made.submit({ ...a, sid: 'another', deadlineMs: a.deadlineMs + 5 })]
    await turn()
    const third = made.submit(a)
    expect(sent.map(idsOf)).toEqual([[a.id]])
    const [outcome] = order(sent[0])
    for (const each of [...both, third, made.submit(a)]) expect(await each).toBe(outcome)
    await turn()
    expect(sent).toHaveLength(1)
  })

  test.each<[string, Partial<Transaction>]>([
    ['another address', { fqmn: '0xSW:0x001:g' }], ['another body', { body: Buffer.from('[1]') }], ['another caller', { sub: 'did:key:z6MkOther' }],
  ])('of the same id with %s is 409, under way or done', async (_what, change) => {
    const { proposer: made, sent, order } = proposer()
    const a = put()
    const first = made.submit(a)
    const duplicate = { code: 'CMESH_ROUTER_DUPLICATE', status: 409, message: `The message id ${a.id} was used before in this session.` }
    await expect(made.submit({ ...a, ...change })).rejects.toMatchObject(duplicate)
    await turn()
    order(sent[0])
    await first
    await expect(made.submit({ ...a, ...change })).rejects.toMatchObject(duplicate)
    expect(sent).toHaveLength(1)
  })

  test('whose id another node ordered with other content is 409', async () => {
    const { proposer: made } = proposer()
    const a = put()
    const submitted = made.submit(a)
    made.settle([outcomeOf({ ...a, body: Buffer.from('other') })])
    await expect(submitted).rejects.toMatchObject({ code: 'CMESH_ROUTER_DUPLICATE' })
    expect(made.pending).toBe(0)
  })
})

describe('batches', () => {
  test('one client waits for nobody: what is submitted in one turn leaves in the next, together and in order', async () => {
    const { proposer: made, sent } = proposer()
    const all = Array.from({ length: 5 }, () => put())
    for (const each of all) void made.submit(each)
    expect(sent).toEqual([])
    await turn()
    expect(sent.map(idsOf)).toEqual([all.map(({ id }) => id)])
  })

  test('hold at most 256 transactions, and at most eight are under way', async () => {
    const { proposer: made, sent, order } = proposer()
    const all = Array.from({ length: 256 * 10 }, () => put())
    const submitted = Promise.all(all.map(each => made.submit(each)))
    await turn()
    expect(sent.map(each => each.batch.transactions.length)).toEqual(Array.from({ length: 8 }, () => 256))
    await turn()
    expect(sent).toHaveLength(8)
    order(sent[3])
    await turn()
    await turn()
    expect(sent).toHaveLength(9)
    for (let i = 0; i < 10; i++) {
      if (i !== 3) order(sent[i])
      await turn()
      await turn()
    }
    expect(sent.flatMap(idsOf)).toEqual(all.map(({ id }) => id))
    expect((await submitted).map(({ id }) => id)).toEqual(all.map(({ id }) => id))
  })

  test('never outgrow a message, whatever is in them', async () => {
    const size = fc.oneof(fc.nat(2_000), fc.integer({ min: 300_000, max: LIMITS.bodyBytes }))
    await fc.assert(fc.asyncProperty(fc.array(size, { minLength: 1, maxLength: 12 }), async sizes => {
      const { proposer: made, sent, order } = proposer()
      const all = sizes.map(bytes => put({ body: Buffer.alloc(bytes) }))
      const submitted = Promise.all(all.map(each => made.submit(each)))
      for (let done = 0; done < all.length;) {
        await turn()
        for (const each of sent.splice(0)) {
          expect(each.proposal.data.length).toBeLessThanOrEqual(BATCH_LIMITS.bytes)
          done += order(each).length
        }
      }
      expect((await submitted).map(({ id }) => id)).toEqual(all.map(({ id }) => id))
    }), { numRuns: 25 })
  })

  test('carry the farthest of their deadlines, no farther than consensus may take', async () => {
    const { proposer: made, sent } = proposer()
    for (const deadlineMs of [START_MS + 5, START_MS + 50, START_MS + 20]) void made.submit(put({ deadlineMs }))
    await turn()
    void made.submit(put({ deadlineMs: START_MS + 10 * LIMITS.deadlineAheadMs }))
    await turn()
    expect(sent.map(each => each.proposal.deadlineMs)).toEqual([START_MS + 50, START_MS + LIMITS.deadlineAheadMs])
  })

  test('are proposals of their own: an id that a caller used long ago does not make consensus take them for a repeat', async () => {
    const entries: string[][] = []
    const consensus = new MockConsensus({ now: () => 0 })
    // An index that remembers nothing: what it once held has been forgotten.
    const made = new Proposer({ consensus, index: new TransactionIndex(), member, clock: testClock({ ms: START_MS }) })
    await consensus.start({ epoch: 0, seq: 0 }, ({ seq, data }) => {
      const { transactions } = decodeBatch(data)
      entries.push(transactions.map(({ id }) => id))
      made.settle(transactions.map(transaction => outcomeOf(transaction, seq)))
    })
    const [old, victim] = [put(), put()]
    await made.submit(old)
    await Promise.all([made.submit(old), made.submit(victim)])
    expect(entries).toEqual([[old.id], [old.id, victim.id]])
    expect(made.pending).toBe(0)
  })

  test('have an id each', async () => {
    const { proposer: made, sent } = proposer()
    void made.submit(put())
    void made.submit(put())
    await turn()
    void made.submit(put())
    await turn()
    const ids = sent.map(each => each.proposal.id)
    expect(new Set(ids).size).toBe(2)
    for (const id of ids) expect(id).toMatch(/^[0-9a-f]{32}$/)
  })
})

describe('a proposal that fails', () => {
  test('fails its transactions, each with its own id, and frees their place', async () => {
    const { proposer: made, sent } = proposer()
    const all = [put(), put()]
    const submitted = Promise.allSettled(all.map(each => made.submit(each)))
    await turn()
    sent[0]?.fail(new CMeshError('CMESH_ROUTER_UNKNOWN_OUTCOME', { tx: 'the batch' }))
    const reasons = (await submitted).map(each => (each as PromiseRejectedResult).reason as CMeshError)
    expect(reasons.map(({ code, detail }) => [code, detail['tx']])).toEqual(all.map(({ id }) => ['CMESH_ROUTER_UNKNOWN_OUTCOME', id]))
    expect(made.pending).toBe(0)
    // Sent again it is proposed again; the applier knows it if it was ordered after all.
    void made.submit(all[0] as Transaction)
    await turn()
    expect(sent.map(idsOf)[1]).toEqual([all[0]?.id])
  })

  test('with anything else than a coded error is a failure of consensus', async () => {
    const { proposer: made, sent } = proposer()
    const submitted = made.submit(put())
    await turn()
    sent[0]?.fail(new TypeError('odd'))
    await expect(submitted).rejects.toMatchObject({ code: 'CMESH_INTERNAL', detail: { component: 'consensus' } })
  })

  test('takes nothing from who submitted the same again, after another node\'s batch had settled it', async () => {
    const { proposer: made, sent, index } = proposer({ reached: () => 0 })
    const [transaction, outcome] = [put(), outcomeOf(put())]
    const theirs = { ...outcome, id: transaction.id, digest: transactionDigest(transaction) }
    const first = made.submit(transaction)
    await turn()
    index.add(theirs)
    made.settle([theirs])
    expect(await first).toBe(theirs)
    const again = made.submit(transaction)
    await turn()
    expect(sent.map(idsOf)).toEqual([[transaction.id], [transaction.id]])
    sent[0]?.fail(new CMeshError('CMESH_BUS_DISCONNECTED'))
    await turn()
    expect(made.pending).toBe(1)
    made.settle([theirs])
    expect(await again).toBe(theirs)
  })

  test('leaves the way free for the next', async () => {
    const { proposer: made, sent, order } = proposer()
    const all = Array.from({ length: 256 * 9 }, () => put())
    const submitted = all.map(each => made.submit(each))
    for (const each of submitted) each.catch(() => undefined)
    await turn()
    for (const each of sent.slice(0, 8)) each.fail(new CMeshError('CMESH_ROUTER_NO_SERVICE', { service: 'consensus' }))
    await turn()
    await turn()
    expect(sent).toHaveLength(9)
    order(sent[8])
    expect((await Promise.allSettled(submitted)).filter(each => each.status === 'fulfilled')).toHaveLength(256)
  })
})

describe('bounds', () => {
  const busy = { code: 'CMESH_ROUTER_BUSY', status: 429, retry: 'retry', detail: expect.objectContaining({ retryAfterMs: 100 }) }

  test('one more than may wait is refused with 429 and when to come back, and never queued', async () => {
    const { proposer: made, sent, order } = proposer({ maxPending: 3 })
    const all = [put(), put(), put()]
    const submitted = Promise.all(all.map(each => made.submit(each)))
    await expect(made.submit(put())).rejects.toMatchObject({ ...busy, message: 'consensus has 3 requests in flight already; try again in 100 ms.' })
    // What is under way already may still be asked for.
    void made.submit(all[0] as Transaction)
    await turn()
    expect(sent.flatMap(idsOf)).toEqual(all.map(({ id }) => id))
    order(sent[0])
    await submitted
    void made.submit(put())
    expect(made.pending).toBe(1)
  })

  test('so are more bytes than may wait', async () => {
    const { proposer: made, sent, order } = proposer({ maxPendingBytes: 10_000 })
    const large = (): Transaction => put({ body: Buffer.alloc(4_900) })
    const submitted = Promise.all([made.submit(large()), made.submit(large())])
    await expect(made.submit(large())).rejects.toMatchObject(busy)
    void made.submit(put())
    await turn()
    order(sent[0])
    await submitted
    await expect(Promise.race([made.submit(large()), turn()])).resolves.toBeUndefined()
    expect(made.pending).toBe(1)
  })

  test('bytes of what failed are free again', async () => {
    const { proposer: made, sent } = proposer({ maxPendingBytes: 10_000 })
    for (let i = 0; i < 5; i++) {
      const submitted = made.submit(put({ body: Buffer.alloc(9_000) }))
      await turn()
      sent.at(-1)?.fail(new CMeshError('CMESH_ROUTER_NO_SERVICE', { service: 'consensus' }))
      await expect(submitted).rejects.toMatchObject({ code: 'CMESH_ROUTER_NO_SERVICE' })
    }
  })
})

describe('the end', () => {
  test('a drain refuses what is new, and ends when everything that waits has its outcome', async () => {
    const { proposer: made, sent, order } = proposer()
    const a = put()
    const submitted = made.submit(a)
    let drained = false
    const draining = made.drain().then(() => { drained = true })
    await expect(made.submit(put())).rejects.toMatchObject({
      code: 'CMESH_ROUTER_DRAINING', status: 503, message: 'This node is draining and takes no new requests.',
    })
    await turn()
    expect(drained).toBe(false)
    order(sent[0])
    await submitted
    await draining
    await made.drain()
  })

  test('a failure that will not pass says of what is on its way that nobody knows: it may be ordered, and others may execute it', async () => {
    const { proposer: made, sent } = proposer()
    const all = Array.from({ length: 256 * 9 }, () => put())
    const submitted = Promise.allSettled(all.map(each => made.submit(each)))
    await turn()
    sent[0]?.commit()
    const stuck = new CMeshError('CMESH_STATE_STUCK', { seq: 7, epoch: 1, hash: 'ab', reason: 'test' })
    made.fail(stuck)
    const reasons = (await submitted).map(each => (each as PromiseRejectedResult).reason as CMeshError)
    const away = new Set(sent.flatMap(idsOf))
    expect(away.size).toBe(256 * 8)
    for (const [i, { id }] of all.entries()) {
      if (away.has(id)) expect(reasons[i]).toMatchObject({ code: 'CMESH_ROUTER_UNKNOWN_OUTCOME', detail: { tx: id }, cause: stuck })
      else expect(reasons[i]).toBe(stuck)
    }
    await expect(made.submit(put())).rejects.toBe(stuck)
  })

  test('an end gives up what waits: what is on its way is of unknown outcome, the rest was never asked for', async () => {
    const { proposer: made, sent } = proposer()
    const all = Array.from({ length: 256 * 9 }, () => put())
    const submitted = Promise.allSettled(all.map(each => made.submit(each)))
    await turn()
    const draining = made.drain()
    made.giveUp()
    const codes = (await submitted).map(each => ((each as PromiseRejectedResult).reason as CMeshError).code)
    await draining
    expect(codes.filter(code => code === 'CMESH_ROUTER_UNKNOWN_OUTCOME')).toHaveLength(sent.length * 256)
    expect(codes.filter(code => code === 'CMESH_ROUTER_DRAINING')).toHaveLength(256)
  })

  test('a failure settles everything that waits, queued or on its way, and every later submission', async () => {
    const { proposer: made, sent } = proposer()
    const all = Array.from({ length: 256 * 9 }, () => put())
    const submitted = Promise.allSettled(all.map(each => made.submit(each)))
    const draining = made.drain()
    await turn()
    const halted = new CMeshError('CMESH_STATE_HALTED', { reason: 'test' })
    made.fail(halted)
    expect((await submitted).every(each => each.status === 'rejected' && each.reason === halted)).toBe(true)
    await draining
    await expect(made.submit(put())).rejects.toBe(halted)
    for (const each of sent) each.commit()
    await turn()
    await turn()
    expect({ sent: sent.length, pending: made.pending }).toEqual({ sent: 8, pending: 0 })
  })
})

describe('what a block had no gas left for', () => {
  /** Orders what was sent, one batch after another: of the first so many are executed, of all others all. Gives the ids of each. */
  const orderAll = async (made: ReturnType<typeof proposer>, executed: number): Promise<string[][]> => {
    const ids: string[][] = []
    await turn()
    for (let i = 0; i < made.sent.length; i++) {
      made.order(made.sent[i], i === 0 ? executed : undefined)
      ids.push(idsOf(made.sent[i]))
      // What came back is proposed in the turn after.
      await turn()
      await turn()
    }
    return ids
  }

  test('is proposed again, before what came later, and ends like any other', async () => {
    const made = proposer()
    const transactions = Array.from({ length: 5 }, () => put())
    const late = put()
    const outcomes = transactions.map(each => made.proposer.submit(each))
    await turn()
    outcomes.push(made.proposer.submit(late))
    // It is under way in a batch of its own when the first comes back.
    const [first, second, ...again] = await orderAll(made, 2)
    expect(first).toEqual(transactions.map(({ id }) => id))
    expect(second).toEqual([late.id])
    expect(again.flat()).toEqual(transactions.slice(2).map(({ id }) => id))
    expect((await Promise.all(outcomes)).map(({ id }) => id)).toEqual([...transactions, late].map(({ id }) => id))
    expect(made.proposer.pending).toBe(0)
  })

  test('makes batches as small as what a block holds, and they grow again with blocks that hold all', async () => {
    const made = proposer()
    const outcomes = Array.from({ length: 60 }, () => made.proposer.submit(put()))
    const sizes = (await orderAll(made, 3)).map(ids => ids.length)
    expect(sizes[0]).toBe(60)
    // Eight leave at once; those behind them know that the first of these were held whole.
    expect(sizes.slice(1, 9)).toEqual(Array.from({ length: 8 }, () => 3))
    expect(Math.max(...sizes.slice(9))).toBeGreaterThan(3)
    expect(await Promise.all(outcomes)).toHaveLength(60)
  })

  test('is not proposed again when the batch counted for nothing', async () => {
    const made = proposer()
    void made.proposer.submit(put()).catch(() => undefined)
    await turn()
    made.sent[0]?.commit()
    await turn()
    expect(made.sent).toHaveLength(1)
    made.proposer.fail(new CMeshError('CMESH_ROUTER_DRAINING'))
  })
})

test('callers take turns in a batch: who submits a thousand leaves room for who submits one', async () => {
  const { proposer: made, sent } = proposer()
  const [many, one] = ['did:key:many', 'did:key:one']
  for (let i = 0; i < 1_000; i++) void made.submit(put({ sub: many })).catch(() => undefined)
  const last = put({ sub: one })
  void made.submit(last).catch(() => undefined)
  await turn()
  expect(idsOf(sent[0]).indexOf(last.id)).toBe(1)
  made.fail(new CMeshError('CMESH_ROUTER_DRAINING'))
})

test('what a block had no gas left for keeps no other caller waiting', async () => {
  const { proposer: made, sent, order } = proposer()
  for (let i = 0; i < 100; i++) void made.submit(put({ sub: 'did:key:many' })).catch(() => undefined)
  await turn()
  order(sent[0], 1)
  const last = put({ sub: 'did:key:one' })
  void made.submit(last).catch(() => undefined)
  await turn()
  await turn()
  expect(sent.slice(1, 4).map(idsOf)).toContainEqual([last.id])
  made.fail(new CMeshError('CMESH_ROUTER_DRAINING'))
})

describe('while a batch of this node is ordered and not durable', () => {
  const entryOf = ({ proposal: { id, data } }: Sent, seq: number): LogEntry => ({ epoch: 0, seq, id, data })

  test('what is submitted waits and leaves together once it is, and a batch that is half full does not wait', async () => {
    const { proposer: made, sent, order } = proposer()
    const settled = Promise.allSettled(Array.from({ length: 2 }, () => made.submit(put())))
    await turn()
    expect(made.own(entryOf(sent[0] as Sent, 1))).toMatchObject({ member: MEMBER.did, data: sent[0]?.proposal.data })
    for (let i = 0; i < 127; i++) {
      void made.submit(put()).catch(() => undefined)
      if (i % 50 === 0) await turn()
    }
    await turn()
    expect(sent).toHaveLength(1)
    void made.submit(put()).catch(() => undefined)
    await turn()
    expect(sent.map(each => idsOf(each).length)).toEqual([2, 128])
    const last = [put(), put()]
    for (const each of last) void made.submit(each).catch(() => undefined)
    await turn()
    expect(sent).toHaveLength(2)
    order(sent[0])
    await turn()
    expect(sent).toHaveLength(2)
    made.durable(1)
    await turn()
    expect(sent.map(idsOf)[2]).toEqual(last.map(({ id }) => id))
    await settled
    made.fail(new CMeshError('CMESH_ROUTER_DRAINING'))
  })

  test('what its block took in by its own account is not proposed again, and the rest is', async () => {
    const { proposer: made, sent, index } = proposer()
    const all = Array.from({ length: 5 }, () => put())
    for (const each of all) void made.submit(each).catch(() => undefined)
    await turn()
    const own = made.own(entryOf(sent[0] as Sent, 1)) as OwnBatch
    own.taken = 3
    // The block is not durable, and the index knows nothing of it here: only the batch's own account can tell.
    expect(index.get(all[0]?.id ?? '')).toBeUndefined()
    sent[0]?.commit()
    await turn()
    made.durable(1)
    await turn()
    expect(sent.map(idsOf)[1]).toEqual(all.slice(3).map(({ id }) => id))
    made.fail(new CMeshError('CMESH_ROUTER_DRAINING'))
  })

  test.each([[0.5, 8], [0.25, 8], [0.9, 4], [1.5, 4], [0, 8]])('the next holds what a block has gas for: after four that used %p of it, %p at most', async (load, most) => {
    const { proposer: made, sent, order } = proposer()
    for (let i = 0; i < 100; i++) void made.submit(put()).catch(() => undefined)
    await turn()
    order(sent[0], 4)
    await turn()
    await turn()
    // Eight leave at once, of four each, as many as the first block held.
    const next = sent.length - 1
    expect(idsOf(sent[next])).toHaveLength(4)
    const own = made.own(entryOf(sent[next] as Sent, 2)) as OwnBatch
    own.taken = 4
    own.load = load
    sent[next]?.commit()
    await turn()
    made.durable(2)
    await turn()
    expect(idsOf(sent.at(-1))).toHaveLength(most)
    made.fail(new CMeshError('CMESH_ROUTER_DRAINING'))
  })

  test('nothing is known of one whose proposal failed', async () => {
    const { proposer: made, sent } = proposer()
    const submitted = made.submit(put())
    await turn()
    sent[0]?.fail(new CMeshError('CMESH_ROUTER_UNKNOWN_OUTCOME', { tx: 'the batch' }))
    await expect(submitted).rejects.toMatchObject({ code: 'CMESH_ROUTER_UNKNOWN_OUTCOME' })
    expect(made.own(entryOf(sent[0] as Sent, 1))).toBeUndefined()
  })
})

describe('a barrier', () => {
  test('is one empty batch for all that ask in a tick, and those that ask while it is under way share the next', async () => {
    const sent: { readonly id: string, readonly batch: ReturnType<typeof decodeBatch>, readonly commit: (seq: number) => void }[] = []
    const made = new Proposer({
      index: new TransactionIndex(), member, clock: testClock({ ms: START_MS }),
      consensus: {
        propose: ({ id, data }) => new Promise<Committed>(resolve => {
          sent.push({ id, batch: decodeBatch(data), commit: seq => { resolve({ epoch: 0, seq, duplicate: false }) } })
        }),
      },
    })
    const first = [made.barrier(START_MS + 1_000), made.barrier(START_MS + 1_000)]
    await turn()
    await turn()
    const later: Promise<number>[] = []
    for (let i = 0; i < 5; i++) {
      later.push(made.barrier(START_MS + 1_000))
      await turn()
    }
    expect(sent).toHaveLength(1)
    expect(sent[0]?.batch).toMatchObject({ member: member.did, proposedMs: START_MS, transactions: [] })
    sent[0]?.commit(7)
    expect(await Promise.all(first)).toEqual([7, 7])
    await until('the next is on its way', () => sent.length === 2, 10_000)
    // Equal bytes in the same moment: under one id it would be given the place of the first.
    expect(sent[1]?.id).not.toBe(sent[0]?.id)
    sent[1]?.commit(9)
    expect(await Promise.all(later)).toEqual([9, 9, 9, 9, 9])
    expect(sent).toHaveLength(2)
  })

  test('has the time that any batch has, whoever asked first: one without time goes alone', async () => {
    const sent: { readonly deadlineMs: number, readonly commit: () => void }[] = []
    const made = new Proposer({
      index: new TransactionIndex(), member, clock: testClock({ ms: START_MS }),
      consensus: {
        propose: ({ deadlineMs }) => new Promise<Committed>(resolve => {
          sent.push({ deadlineMs, commit: () => { resolve({ epoch: 0, seq: 7, duplicate: false }) } })
        }),
      },
    })
    const [hasty, patient] = [made.barrier(START_MS), made.barrier(START_MS + 60_000)]
    await expect(hasty).rejects.toMatchObject({ code: 'CMESH_ROUTER_TIMEOUT' })
    await until('it is on its way', () => sent.length === 1)
    expect(sent[0]?.deadlineMs).toBe(START_MS + 10_000)
    sent[0]?.commit()
    expect(await patient).toBe(7)
  })

  test.each(['CMESH_ROUTER_UNKNOWN_OUTCOME', 'CMESH_ROUTER_DEADLINE'] as const)('whose batch is late (%s) is followed by another for who can wait longer', async code => {
    const clock = { ms: START_MS }
    const sent: { readonly commit: () => void, readonly late: () => void }[] = []
    const made = new Proposer({
      index: new TransactionIndex(), member, clock: testClock(clock),
      consensus: {
        propose: () => new Promise<Committed>((resolve, reject) => {
          sent.push({ commit: () => { resolve({ epoch: 0, seq: 7, duplicate: false }) }, late: () => { reject(new CMeshError(code, { tx: 'none' })) } })
        }),
      },
    })
    const [short, long] = [made.barrier(START_MS + 10_000), made.barrier(START_MS + 60_000)]
    await until('it is on its way', () => sent.length === 1)
    clock.ms += 10_000
    sent[0]?.late()
    await expect(short).rejects.toMatchObject({ code: 'CMESH_ROUTER_TIMEOUT' })
    await until('the next is on its way', () => sent.length === 2)
    sent[1]?.commit()
    expect(await long).toBe(7)
  })

  test('that may not be ordered says why, and orders nothing', async () => {
    const propose = jest.fn<ConsensusProvider['propose']>()
    const made = new Proposer({
      index: new TransactionIndex(), member, clock: testClock({ ms: START_MS }), consensus: { propose },
      check: batch => { throw new CMeshError('CMESH_STATE_NOT_MEMBER', { reason: `${batch.transactions.length} transactions` }) },
    })
    await expect(made.barrier(START_MS + 10_000)).rejects.toThrow('0 transactions')
    await expect(made.submit(put())).rejects.toThrow('1 transactions')
    expect(propose).not.toHaveBeenCalled()
  })

  test('that fails keeps nobody from the next', async () => {
    const made = new Proposer({
      index: new TransactionIndex(), member, clock: testClock({ ms: START_MS }),
      consensus: { propose: () => Promise.reject(new CMeshError('CMESH_CONSENSUS_FULL', { stream: 's', reason: 'r' })) },
    })
    await expect(made.barrier(START_MS + 10_000)).rejects.toMatchObject({ code: 'CMESH_CONSENSUS_FULL' })
    await expect(made.barrier(START_MS + 10_000)).rejects.toMatchObject({ code: 'CMESH_CONSENSUS_FULL' })
  })
})
