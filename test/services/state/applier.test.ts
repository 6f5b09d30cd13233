import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import { describe, expect, test } from '@jest/globals'
import { CMeshError } from '../../../cmtp/errors.ts'
import { KeyPair } from '../../../cmtp/identity/keys.ts'
import { LIMITS } from '../../../cmtp/limits.ts'
import { MockStateStore } from '../../../providers/state/mock.ts'
import { BATCH_LIMITS, type Transaction } from '../../../services/state/batch.ts'
import { BLOCK_BYTES, emptyChain, encodeBlock, scanBlock } from '../../../services/state/block.ts'
import type { OwnBatch } from '../../../services/state/own-batches.ts'
import type { Block } from '../../../services/state/provider.ts'
import { jsonExecution, type TransactionHandler } from '../../../services/state/transaction.ts'
import { transactionDigest, type TransactionIndex } from '../../../services/state/transaction-index.ts'
import { contentOf } from '../../support/blocks.ts'
import { batchOf, entryOf, genesisTransaction, MEMBER, outputOf, replica, START_MS, transactionOf, type Replica } from '../../support/replica.ts'

/** Sets `k<n>` to what the address says; also fails, emits or breaks when told to. */
/** Where the first block of a log stands. */
const START = { before: { epoch: 0, seq: 0, chain: emptyChain() }, skip: 0 }

const scripted: TransactionHandler = {
  execute: ({ fqmn, body }, { segments }, { system, timeMs, seq }) => {
    const [verb = '', key = ''] = segments
    system.set(key, Buffer.from(fqmn))
    if (verb === 'fail') throw new CMeshError('CMESH_CONTRACT_REVERT', { contract: '0x001', reason: 'no' })
    if (verb === 'refuse') return { ...jsonExecution(null), status: 422 }
    if (verb === 'host') throw new CMeshError('CMESH_CONTRACT_HOST', { contract: '0x001', reason: 'broken' })
    if (verb === 'odd') throw new TypeError('odd')
    if (verb === 'burn') return { ...jsonExecution(null), gas: BigInt(key) }
    if (verb === 'large') return { ...jsonExecution(null), output: Buffer.alloc(Number(body.toString())) }
    return jsonExecution({ seq, timeMs, was: outputText(system.get(key)) })
  },
}
const outputText = (value: Uint8Array | undefined): string | undefined => (value === undefined ? undefined : Buffer.from(value).toString())
const put = (key: string, fields: Parameters<typeof transactionOf>[1] = {}): ReturnType<typeof transactionOf> => transactionOf(`0xRW:put:${key}`, fields)

async function opened(): Promise<Replica> {
  return replica({ handlers: { R: scripted } })
}

const ids = (block: Block | undefined): string[] => (block?.transactions ?? []).map(record => record.id)

describe('the applier takes the log in order', () => {
  test('each sequence once: one at or below the head is skipped', async () => {
    const { applier, store, applied, halts } = await opened()
    const data = batchOf([put('a')])
    applier.apply(entryOf(1, data))
    const { head } = store
    applier.apply(entryOf(1, batchOf([put('b')])))
    applier.apply(entryOf(0, batchOf([put('b')])))
    expect({ head: store.head, applied: applied.length, halts }).toEqual({ head, applied: 1, halts: [] })
  })

  test('a hole halts it for good, and nothing behind it is applied', async () => {
    const { applier, store, applied, halts, log } = await opened()
    applier.apply(entryOf(1, batchOf([put('a')])))
    applier.apply(entryOf(3, batchOf([put('b')])))
    applier.apply(entryOf(2, batchOf([put('c')])))
    expect(store.head.seq).toBe(1)
    expect(applied).toHaveLength(1)
    expect(halts.map(({ code, message }) => ({ code, message }))).toEqual([
      { code: 'CMESH_STATE_HALTED', message: 'The state service has halted: entry 3 came after 1.' },
    ])
    expect(applier.halted).toBe(halts[0])
    expect(log.lines).toContainEqual(expect.objectContaining({ level: 'error', message: 'state has halted' }))
  })

  test('a block holds the message, the epoch and the outcomes in their order, and follows the last one in its chain', async () => {
    const { applier, store, applied } = await opened()
    const transactions = [put('a'), put('b'), put('c')]
    const data = batchOf(transactions)
    applier.apply(entryOf(1, data, 4))
    expect(applied[0]).toMatchObject({ epoch: 4, seq: 1, timeMs: START_MS, message: data })
    expect(ids(applied[0])).toEqual(transactions.map(({ id }) => id))
    expect(store.head).toMatchObject({ epoch: 4, seq: 1, timeMs: START_MS })
  })

  test('a batch without transactions moves log time on and nothing else', async () => {
    const { next, store } = await opened()
    next(batchOf([], { proposedMs: START_MS + 5 }))
    expect(store.head).toMatchObject({ seq: 1, timeMs: START_MS + 5 })
    expect(contentOf(store)).toEqual({})
  })
})

describe('log time', () => {
  test('is the proposer\'s, and never goes back', async () => {
    const { next, store } = await opened()
    const times: number[] = []
    for (const proposedMs of [START_MS, START_MS + 10, START_MS + 3, START_MS + 11]) {
      next(batchOf([put('a')], { proposedMs }))
      times.push(store.head.timeMs)
    }
    expect(times).toEqual([START_MS, START_MS + 10, START_MS + 10, START_MS + 11])
  })

  test('decides about deadlines: a transaction past its own is refused, wherever and whenever it is applied', async () => {
    const { next, store } = await opened()
    const [on, late] = [put('on', { deadlineMs: START_MS + 10 }), put('late', { deadlineMs: START_MS + 9 })]
    const records = next(batchOf([on, late], { proposedMs: START_MS + 10 }))
    expect(records.map(record => record.status)).toEqual([200, 408])
    expect(outputOf(records[1])).toMatchObject({ code: 'CMESH_ROUTER_DEADLINE' })
    expect(Object.keys(contentOf(store)['0x000'] ?? {})).toEqual(['.on'])
  })
})

describe('a block that was read back', () => {
  const collect = (setFlagsFromString('--expose-gc'), runInNewContext('gc') as () => void)
  /** Taken up by an applier; what the store read it from, and whether it is in memory still. */
  async function restored(transactions: readonly Transaction[]): Promise<{ readonly index: TransactionIndex, readonly isKept: () => Promise<boolean> }> {
    const first = await opened()
    first.next(batchOf(transactions))
    const again = await opened()
    const take = (): WeakRef<ArrayBufferLike> => {
      const bytes = new Uint8Array(encodeBlock(first.applied[0] as Block))
      again.applier.restore(scanBlock(bytes, { path: '', block: 0 }, () => undefined), START)
      return new WeakRef(bytes.buffer)
    }
    const bytes = take()
    const isKept = async (): Promise<boolean> => {
      await new Promise(resolve => { setImmediate(resolve) })
      collect()
      return bytes.deref() !== undefined
    }
    return { index: again.index, isKept }
  }

  test('is let go of once its outcomes are read, and they know what was asked all the same', async () => {
    const transactions = [put('a'), put('b')]
    const { index, isKept } = await restored(transactions)
    expect(await isKept()).toBe(true)
    const [one, other] = transactions.map(({ id }) => index.get(id))
    expect(await isKept()).toBe(false)
    expect([one?.digest, other?.digest]).toEqual(transactions.map(transactionDigest))
  })

  test('and is large for its transactions is let go of at once', async () => {
    const large = { ...put('a'), body: Buffer.alloc(10_000, 1) }
    const { index, isKept } = await restored([large])
    expect(await isKept()).toBe(false)
    expect(index.get(large.id)).toMatchObject({ id: large.id, status: 200, seq: 1, digest: transactionDigest(large) })
  })

  test('may hold what is no batch', async () => {
    const { applier, index } = await opened()
    const message = Buffer.alloc(10_000, 1)
    const holds = { transactions: 0, writes: 0, events: 0, outputBytes: 0, bytes: 10_100 }
    applier.restore({ epoch: 0, seq: 1, timeMs: 0, message, transactions: [], holds }, START)
    expect(index.get('0'.repeat(32))).toBeUndefined()
  })
})

describe('an id', () => {
  test('is executed once, within a batch and across them', async () => {
    const { next, durable, store } = await opened()
    const [a, b, c] = [put('a'), put('b'), put('c')]
    expect(next(batchOf([a, b, a])).map(({ id }) => id)).toEqual([a.id, b.id])
    expect(next(batchOf([b, c, a])).map(({ id }) => id)).toEqual([c.id])
    await store.flush()
    // What is proposed again is told its first outcome.
    expect(durable.map(({ outcomes }) => outcomes.map(({ id, seq }) => [id, seq]))).toEqual([[[a.id, 1], [b.id, 1]], [[c.id, 2], [b.id, 1], [a.id, 1]]])
  })

  test('with other content is the first one\'s outcome still, whose digest tells them apart', async () => {
    const { next, durable, store } = await opened()
    const a = put('a')
    next(batchOf([a]))
    next(batchOf([{ ...a, fqmn: '0xRW:put:other' }]))
    await store.flush()
    const [first, second] = durable.map(({ outcomes }) => outcomes[0])
    expect(second).toBe(first)
    expect(Object.keys(contentOf(store)['0x000'] ?? {})).toEqual(['.a'])
  })

  test('is known again after a restart, from the blocks alone', async () => {
    const first = await opened()
    const a = put('a')
    first.next(batchOf([a]))
    const again = await opened()
    again.applier.restore(first.applied[0] as Block, START)
    const known = first.index.get(a.id)
    expect(again.index.get(a.id)).toEqual({ ...known, span: undefined })
  })
})

/** A batch of the next version, as far as this one knows what those are like. */
function later(by: KeyPair): Uint8Array {
  const version = Buffer.from(batchOf([], { by }))
  version[11] = 5
  const signed = Buffer.concat([version.subarray(0, -64), Buffer.from('what this version does not know')])
  return Buffer.concat([signed, by.sign(signed)])
}

describe('a batch of a later version', () => {
  test('that a member signed halts it before the entry, since other members have another state behind that', async () => {
    const { next, applier, store, halts } = await opened()
    next(batchOf([put('a')]))
    const { head } = store
    applier.apply(entryOf(2, later(MEMBER)))
    expect(store.head).toEqual(head)
    expect(halts.map(({ code, message }) => ({ code, message }))).toEqual([{
      code: 'CMESH_CONSENSUS_NEWER',
      message: `The member ${MEMBER.did} ordered a batch of version 5, and this node reads those up to 4. It stops before it, so that its state stays that of the others. Start it again with the version of CMesh that the others run.`,
    }])
  })
})

describe('a batch that no member signed', () => {
  const stranger = KeyPair.generate()
  const tampered = (data: Uint8Array): Uint8Array => {
    const copy = Buffer.from(data)
    copy[20] = (copy[20] ?? 0) ^ 1
    return copy
  }
  test.each<[string, () => Uint8Array]>([
    ['but somebody else', () => batchOf([put('a')], { by: stranger, proposedMs: START_MS + 99 })],
    ['because it was changed', () => tampered(batchOf([put('a')], { proposedMs: START_MS + 99 }))],
    ['because it is of a later version, and somebody else signed it', () => later(KeyPair.generate())],
    ['because it is of a later version, and its signature is none', () => tampered(later(MEMBER))],
    ['because it is noise', () => Buffer.from('noise')],
    ['because it is nothing', () => Buffer.alloc(0)],
  ])('%s changes nothing but takes its sequence: an empty block, at the time before', async (_what, data) => {
    const { next, store, applied, log, halts } = await opened()
    next(batchOf([put('b')]))
    const before = contentOf(store)
    next(data())
    expect(store.head).toMatchObject({ seq: 2, timeMs: START_MS })
    expect(applied[1]).toMatchObject({ seq: 2, timeMs: START_MS, transactions: [] })
    expect(contentOf(store)).toEqual(before)
    expect(log.lines).toContainEqual(expect.objectContaining({ level: 'error', message: 'a batch that no member signed was ordered; it changes nothing' }))
    expect(halts).toEqual([])
    expect(next(batchOf([put('c')])).map(record => record.status)).toEqual([200])
  })
})

describe('a transaction that fails', () => {
  test.each(['fail', 'refuse'])('is its outcome, and leaves nothing behind (%s)', async verb => {
    const { next, store, halts } = await opened()
    next(batchOf([put('a')]))
    const before = contentOf(store)
    const [, failed, last] = next(batchOf([put('b'), transactionOf(`0xRW:${verb}:a`), put('c')]))
    expect(failed).toMatchObject({ status: 422, writes: [], events: [] })
    expect(last).toMatchObject({ status: 200 })
    expect(contentOf(store)['0x000']?.['.a']).toBe(before['0x000']?.['.a'])
    expect(halts).toEqual([])
  })

  test('because its address is none is its outcome; that nothing executes its address halts, since no member proposes that', async () => {
    const noHandler = await opened()
    noHandler.next(batchOf([transactionOf('0xSW:0x001:f')]))
    expect(noHandler.halts.map(({ message }) => message)).toEqual(['A proposed batch was refused by the applier: nothing executes 0xSW:0x001:f.'])
    const noAddress = await opened()
    expect(noAddress.next(batchOf([transactionOf('0xZ')])).map(record => record.status)).toEqual([400])
  })
})

describe('a failure of the host', () => {
  test.each([['host', 'CMESH_CONTRACT_HOST'], ['odd', 'CMESH_INTERNAL']])('halts and records nothing, not even what was done before it in the batch (%s)', async (verb, code) => {
    const { next, store, applied, durable, halts, index, applier } = await opened()
    next(batchOf([put('a')]))
    const { head } = store
    const kept = contentOf(store)['0x000']?.['.a']
    const [before, broken] = [put('b'), transactionOf(`0xRW:${verb}:a`)]
    next(batchOf([before, broken]))
    await store.flush()
    expect({ head: store.head, applied: applied.length, durable: durable.length }).toEqual({ head, applied: 1, durable: 1 })
    expect([index.get(before.id), index.get(broken.id)]).toEqual([undefined, undefined])
    expect(contentOf(store)['0x000']?.['.a']).toBe(kept)
    expect(halts.map(each => each.code)).toEqual([code])
    next(batchOf([put('c')]))
    expect({ head: store.head, halts: halts.length, halted: applier.halted?.code }).toEqual({ head, halts: 1, halted: code })
  })

  test('of the store halts, and nobody is told that the block is durable', async () => {
    const store = new MockStateStore()
    const made = await replica({ store, handlers: { R: scripted } })
    store.commit = () => Promise.reject(new CMeshError('CMESH_STATE_FULL', { reason: 'no space' }))
    made.next(batchOf([put('a')]))
    for (let i = 0; i < 5; i++) await Promise.resolve()
    expect(made.halts.map(({ code, message }) => ({ code, message }))).toEqual([
      { code: 'CMESH_STATE_FULL', message: 'The state log cannot be written: no space. The node stops; free space and start it again.' },
    ])
    expect(made.durable).toEqual([])
    made.next(batchOf([put('b')]))
    expect(made.applied).toHaveLength(1)
  })

  test('of a store that throws at once halts the same', async () => {
    const store = new MockStateStore()
    const made = await replica({ store, handlers: { R: scripted } })
    store.commit = () => { throw new TypeError('odd') }
    made.next(batchOf([put('a')]))
    expect(made.halts.map(each => each.code)).toEqual(['CMESH_INTERNAL'])
    expect(made.applied).toEqual([])
  })
})

describe('a block', () => {
  test('is told as applied at once and as durable when it is, with the positions around it', async () => {
    const store = new MockStateStore()
    const made = await replica({ store, handlers: { R: scripted } })
    let done: () => void = () => undefined
    const commit = store.commit.bind(store)
    store.commit = block => {
      void commit(block)
      return new Promise(resolve => { done = resolve })
    }
    const before = store.head
    const a = put('a')
    made.next(batchOf([a]))
    expect({ applied: made.applied.length, durable: made.durable.length, known: made.index.get(a.id)?.status }).toEqual({ applied: 1, durable: 0, known: 200 })
    done()
    for (let i = 0; i < 5; i++) await Promise.resolve()
    const [{ outcomes }] = made.durable as [Replica['durable'][0]]
    expect(outcomes[0]).toMatchObject({
      id: a.id, seq: 1, timeMs: START_MS, span: { before: { seq: before.seq, chain: before.chain }, after: { seq: 1, chain: store.head.chain } },
    })
  })

  test('never outgrows what a store can hold: what does not fit is put off with 503, and may be sent again', async () => {
    const { next, applied, halts } = await opened()
    const large = (): ReturnType<typeof transactionOf> => transactionOf('0xRW:large:a', { body: Buffer.from(String(3 * 1024 * 1024)) })
    const records = next(batchOf(Array.from({ length: 8 }, large)))
    const statuses = records.map(record => record.status)
    expect(statuses).toContain(200)
    expect(statuses.at(-1)).toBe(503)
    expect(outputOf(records.at(-1))).toMatchObject({ code: 'CMESH_STATE_BLOCK_FULL', retry: 'retry' })
    expect(statuses.indexOf(503)).toBe(statuses.filter(status => status === 200).length)
    expect(encodeBlock(applied[0] as Block).length).toBeLessThanOrEqual(BLOCK_BYTES)
    expect(next(batchOf([large()])).map(record => record.status)).toEqual([200])
    expect(halts).toEqual([])
  })

  test('holds a full batch of the largest requests', async () => {
    const { next, applied, halts } = await opened()
    const body = Buffer.alloc(LIMITS.bodyBytes)
    expect(next(batchOf([put('a', { body })])).map(record => record.status)).toEqual([200])
    const full = Array.from({ length: BATCH_LIMITS.transactions }, (_, i) => put(`k${i}`, { body: Buffer.alloc(4_000) }))
    expect(next(batchOf(full)).map(record => record.status)).toEqual(full.map(() => 200))
    expect(applied).toHaveLength(2)
    expect(halts).toEqual([])
  })
})

describe('genesis', () => {
  test('is the first transaction of a log and no other', async () => {
    const { next, store } = await replica()
    expect(next(batchOf([genesisTransaction()])).map(record => record.status)).toEqual([200])
    const before = contentOf(store)
    const [again] = next(batchOf([genesisTransaction({}, { operator: KeyPair.generate().did })]))
    expect({ status: again?.status, value: outputOf(again) }).toMatchObject({
      status: 500, value: { code: 'CMESH_STATE_GENESIS', message: 'The genesis transaction is refused: the log has a beginning already.' },
    })
    expect(contentOf(store)).toEqual(before)
    const late = await replica()
    late.next(batchOf([]))
    expect(late.next(batchOf([genesisTransaction()])).map(record => record.status)).toEqual([500])
    expect(contentOf(late.store)).toEqual({})
  })

  test('says who the members are from then on', async () => {
    const [other, stranger] = [KeyPair.generate(), KeyPair.generate()]
    const { next, applied } = await replica()
    next(batchOf([genesisTransaction({}, { members: [other.did] })]))
    const known = transactionOf('0xSW:0x001:f')
    for (const [by, count] of [[stranger, 0], [undefined, 0], [other, 1]] as const) {
      next(batchOf([{ ...known, id: 'ab'.repeat(16) }], by === undefined ? {} : { by }))
      expect(applied.at(-1)?.transactions).toHaveLength(count)
    }
  })
})

describe('a block ends when its gas is used', () => {
  const burn = (gas: number): ReturnType<typeof transactionOf> => transactionOf(`0xRW:burn:${gas}`)
  const bounded = (): Promise<Replica> => replica({ handlers: { R: scripted }, blockGas: seq => (seq === 2 ? 10 : 100) })

  test('what its batch holds beyond that has no outcome, wrote nothing, and is executed when it is ordered again', async () => {
    const { next, store, index, durable, halts } = await bounded()
    const transactions = [burn(60), burn(39), burn(40), burn(1), put('a')]
    const [first, second, third, fourth, fifth] = transactions
    expect(next(batchOf(transactions)).map(({ id }) => id)).toEqual([first?.id, second?.id, third?.id])
    for (const left of [fourth, fifth]) expect(index.get(left?.id ?? '')).toBeUndefined()
    expect(store.space('0x000').get('a')).toBeUndefined()
    await new Promise(resolve => { setImmediate(resolve) })
    expect(durable.at(-1)?.outcomes.map(({ id }) => id)).toEqual([first?.id, second?.id, third?.id])

    expect(next(batchOf([third, fourth, fifth] as typeof transactions)).map(({ id }) => id)).toEqual([fourth?.id, fifth?.id])
    expect(store.space('0x000').get('a')).toBeDefined()
    expect(halts).toEqual([])
  })

  test('it takes one transaction at least, whatever that uses, and as many as use nothing', async () => {
    const { next } = await bounded()
    expect(next(batchOf([burn(1_000), burn(0)]))).toHaveLength(1)
    expect(next(batchOf([burn(0), burn(0), burn(10), burn(0)]))).toHaveLength(3)
  })

  test('replicas end it at the same place, and one that reads the log back knows the same', async () => {
    const transactions = [burn(60), put('a'), burn(60), put('b')]
    const [one, other] = [await bounded(), await bounded()]
    for (const { next } of [one, other]) next(batchOf(transactions))
    expect(Buffer.from(one.store.head.chain).equals(other.store.head.chain)).toBe(true)
    const again = await bounded()
    again.applier.restore(one.applied[0] as Block, START)
    expect(transactions.map(({ id }) => again.index.get(id)?.status)).toEqual([200, 200, 200, undefined])
  })
})

describe('a batch that this node proposed itself', () => {
  const ownOf = (transactions: readonly Transaction[], data: Uint8Array): OwnBatch => (
    { member: MEMBER.did, proposedMs: START_MS + 7, transactions, data, taken: undefined, load: 0 }
  )

  test('ends as one that was decoded and verified does: the same blocks, outcomes and chain', async () => {
    const transactions = [put('a'), transactionOf('0xRW:fail:b'), put('c'), transactionOf('0xRW:burn:5'), put('d')]
    const batches = [transactions, [transactions[0] as Transaction, put('e')]]
    const owns = batches.map(each => ownOf(each, batchOf(each, { proposedMs: START_MS + 7 })))
    const long = await replica({ handlers: { R: scripted }, blockGas: () => 5 })
    const short = await replica({ handlers: { R: scripted }, blockGas: () => 5, verifyMember: () => false, own: ({ seq }) => owns[seq - 1] })
    for (const { data } of owns) {
      long.next(data)
      short.next(data)
    }
    await Promise.all([long.store.flush(), short.store.flush()])
    expect(short.applied).toEqual(long.applied)
    expect(short.durable).toEqual(long.durable)
    expect(Buffer.from(short.store.head.chain).equals(long.store.head.chain)).toBe(true)
    expect(owns.map(({ taken, load }) => [taken, load])).toEqual([[4, 1], [2, 0]])
  })

  test('is decoded and verified when it is not known', async () => {
    const { next, log } = await replica({ handlers: { R: scripted }, verifyMember: () => false, own: () => undefined })
    expect(next(batchOf([put('a')]))).toEqual([])
    expect(log.lines).toContainEqual(expect.objectContaining({ message: 'a batch that no member signed was ordered; it changes nothing' }))
  })
})
