import { mkdtemp, rm } from 'node:fs/promises'
import os from 'node:os'
import path from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals'
import fc from 'fast-check'
import { HypercoreStateStore } from '../../../providers/state/hypercore.ts'
import { MockStateStore } from '../../../providers/state/mock.ts'
import type { Transaction } from '../../../services/state/batch.ts'
import { chainAfter, encodeBlock } from '../../../services/state/block.ts'
import { Checkpoints, REST_MS, ROOT_MS } from '../../../services/state/checkpoints.ts'
import type { StateStore } from '../../../services/state/provider.ts'
import { StateTree } from '../../../services/state/state-tree.ts'
import { interpreterModule } from '../../support/hand-made-contracts.ts'
import { refusal } from '../../support/refusal.ts'
import { batchOf, entryOf, genesisTransaction, replica, START_MS, transactionOf, type Replica } from '../../support/replica.ts'

const ORDER = '0xSW:0x000:checkpoint'
const BOTH_MS = REST_MS + ROOT_MS
let dir: string
let genesis: Transaction
beforeAll(async () => {
  dir = await mkdtemp(path.join(os.tmpdir(), 'cmesh-checkpoints-'))
  genesis = genesisTransaction({ '0x00a': interpreterModule() })
})
afterAll(() => rm(dir, { recursive: true, force: true }))

interface Rooting extends Replica { readonly checkpoints: Checkpoints }

async function rooting(store: StateStore = new MockStateStore(), from = 0): Promise<Rooting> {
  const checkpoints = new Checkpoints({ store })
  const made = await replica({ store, seal: block => checkpoints.seal(block), restored: (block, at) => { checkpoints.restore(block, at) } })
  expect(store.head.seq).toBe(from)
  return { ...made, checkpoints }
}

const run = (program: string, id?: string): Transaction => transactionOf('0xSW:0x00a:run', { body: Buffer.from(program), deadlineMs: START_MS * 2, ...(id !== undefined && { id }) })
const order = (): Transaction => transactionOf(ORDER, { deadlineMs: START_MS * 2 })

/** The root of all that a store holds, made at once. */
function rootOf(store: StateStore): Uint8Array {
  const tree = new StateTree()
  for (const space of store.spaces()) for (const [key, value] of store.space(space)) tree.set(space, key, value)
  return tree.keep()
}

describe('checkpoints', () => {
  test('are none until one is ordered: the log is then of version 1 throughout', async () => {
    const made = await rooting()
    made.next(batchOf([genesis]))
    for (let i = 1; i <= 4; i++) made.next(batchOf([run(`sa${i}`)], { proposedMs: START_MS + i * BOTH_MS }))
    expect(made.applied.map(block => [block.root, encodeBlock(block)[1]])).toEqual(made.applied.map(() => [undefined, 1]))
    expect(refusal(() => made.checkpoints.show('0x00a', 'a'))).toMatchObject({
      code: 'CMESH_STATE_NO_CHECKPOINT', message: expect.stringContaining('the log has none yet'),
    })
    made.engine.close()
  })

  test('come with an order, in its own block, and then by log time in two steps', async () => {
    const made = await rooting()
    made.next(batchOf([genesis]))
    const at = (ms: number, ...transactions: Transaction[]): boolean => {
      made.next(batchOf(transactions, { proposedMs: START_MS + ms }))
      const block = made.applied.at(-1)
      if (block?.root !== undefined) expect(block.root).toEqual(rootOf(made.store))
      return block?.root !== undefined
    }
    expect(at(0, run('sa1'))).toBe(false)
    expect(at(0, run('sa2'), order())).toBe(true)
    expect(at(BOTH_MS, run('sb1'))).toBe(false)
    expect(at(BOTH_MS + ROOT_MS - 1, run('sb2'))).toBe(false)
    expect(at(BOTH_MS + ROOT_MS, run('da1'))).toBe(true)
    expect(at(BOTH_MS * 2.5)).toBe(false)
    expect(at(BOTH_MS * 2.5 + ROOT_MS - 1)).toBe(false)
    expect(at(BOTH_MS * 2.5 + ROOT_MS)).toBe(true)
    made.engine.close()
  })

  test('leave little for their own block, however many keys were written; keys that are written over and over are hashed a few times, not with each write', () => {
    const values = new Map<string, Uint8Array>()
    let looks = 0
    const system = new Map([['checkpoint', Buffer.from('{"seq":1}')]])
    const space = { get: (key: string) => { looks++; return values.get(key) }, [Symbol.iterator]: () => values[Symbol.iterator]() }
    let head = { epoch: 0, seq: 0, timeMs: 0, chain: new Uint8Array(32) }
    const store = { get head() { return head }, space: (name: string) => (name === '0x000' ? system : space), spaces: () => ['0x00a'] }
    const checkpoints = new Checkpoints({ store: store as never, spentMs: () => 0 })
    /** A block of so many writes; gives how many keys it looked at for the tree. */
    const seal = (timeMs: number, keys: readonly string[]): number => {
      const writes = keys.map(key => ({ space: '0x00a', key, value: Buffer.from(String(timeMs)) }))
      for (const { key, value } of writes) values.set(key, value)
      const before = looks
      const block = { epoch: 0, seq: head.seq + 1, timeMs, message: Buffer.alloc(0), transactions: [{ id: '', status: 200, gas: 0n, writes, events: [], output: Buffer.alloc(0) }] }
      const sealed = checkpoints.seal(block)
      head = { ...head, seq: block.seq, timeMs }
      if (sealed.root !== undefined) roots.push(timeMs)
      return looks - before
    }
    const roots: number[] = []
    const keysFrom = (from: number, count: number, of: number): string[] => Array.from({ length: count }, (_, i) => `k${(from + i) % of}`)
    for (const [of, least] of [[1_000, 0], [60_000, 50_000]] as const) {
      // Some blocks before, of which nothing has to be done yet, and then a hundred a second until it is due.
      const begun = head.timeMs + BOTH_MS
      for (let i = 0; i < 50; i++) seal(head.timeMs + 1, keysFrom(i * 1_200, 1_200, of))
      let [inBlocks, most] = [0, 0]
      for (let ms = 0; ms < ROOT_MS; ms += 100) {
        const done = seal(begun + ms, keysFrom(2 * ms, 200, of))
        inBlocks += done
        most = Math.max(most, done)
      }
      const inItsOwn = seal(begun + ROOT_MS, keysFrom(0, 200, of))
      expect(roots.at(-1)).toBe(begun + ROOT_MS)
      expect(inItsOwn).toBeLessThanOrEqual(2_000 + 3 * 100 + 200)
      // Of a block no more than three times what it writes; of keys that are few not each write of them: 60,000 were made meanwhile.
      expect(most).toBeLessThanOrEqual(600)
      expect(inBlocks).toBeGreaterThanOrEqual(least)
      if (of === 1_000) expect(inBlocks).toBeLessThanOrEqual(10_000)
    }
  })

  test('are in the chain value', async () => {
    const made = await rooting()
    made.next(batchOf([genesis]))
    const before = made.store.head.chain
    made.next(batchOf([order()]))
    const block = made.applied[1]
    if (block?.root === undefined) throw new RangeError('the block has no root')
    expect(made.store.head.chain).toEqual(chainAfter(before, encodeBlock(block)))
    expect(chainAfter(before, encodeBlock({ ...block, root: new Uint8Array(32) }))).not.toEqual(made.store.head.chain)
    expect(made.checkpoints.show('0x00a', 'a').checkpoint).toMatchObject({ seq: 2, previous: before, chain: made.store.head.chain, root: block.root })
    made.engine.close()
  })

  test('an order with arguments is refused and makes none', async () => {
    const made = await rooting()
    made.next(batchOf([genesis]))
    const [record] = made.next(batchOf([transactionOf(`${ORDER}:[1]`)]))
    expect([record?.status, made.applied[1]?.root]).toEqual([422, undefined])
    made.engine.close()
  })

  test('of one log are the same on every replica, restarted or not, whatever each has done of the work before', async () => {
    const anyProgram = fc.array(fc.tuple(fc.constantFrom('s', 's', 'd'), fc.constantFrom('a', 'b', 'c', 'd'), fc.constantFrom('1', '2')), { maxLength: 6 })
    const anyPause = fc.constantFrom(0, REST_MS / 2, REST_MS, BOTH_MS)
    const anyBatch = fc.record({ programs: fc.array(anyProgram, { maxLength: 3 }), ordered: fc.nat(5), afterMs: anyPause })
    let runs = 0
    let roots = 0
    await fc.assert(fc.asyncProperty(fc.array(anyBatch, { minLength: 2, maxLength: 12 }), fc.nat(13), async (batches, cut) => {
      let proposedMs = START_MS
      const log = [batchOf([genesis]), ...batches.map(({ programs, ordered, afterMs }) => {
        proposedMs += afterMs
        const transactions = programs.map(steps => run(steps.map(step => step.join('')).join('')))
        return batchOf(ordered === 0 ? [...transactions, order()] : transactions, { proposedMs })
      })]
      const whole = await rooting()
      for (const message of log) {
        whole.next(message)
        const root = whole.applied.at(-1)?.root
        if (root === undefined) continue
        roots++
        expect(root).toEqual(rootOf(whole.store))
      }
      const at = path.join(dir, `run-${runs++}`)
      const middle = Math.min(cut, log.length)
      let seq = 0
      for (const end of [middle, log.length]) {
        const made = await rooting(new HypercoreStateStore({ dir: at }), seq)
        // As a node does it that is idle: the tree is built before anything else is written.
        if (runs % 2 === 0) made.checkpoints.start()
        while (seq < end) made.applier.apply(entryOf(++seq, log[seq - 1] as Uint8Array))
        made.checkpoints.stop()
        await made.store.close()
        made.engine.close()
        if (seq === log.length) expect(made.store.head).toEqual(whole.store.head)
      }
      await rm(at, { recursive: true, force: true })
      whole.engine.close()
    }), { numRuns: 12 })
    expect(roots).toBeGreaterThan(5)
  })

  test('are shown after a restart where nothing was written since, and what is written then changes nothing of it', async () => {
    const at = path.join(dir, 'shown')
    const first = await rooting(new HypercoreStateStore({ dir: at }))
    first.next(batchOf([genesis]))
    first.next(batchOf([run('sa1'), order()]))
    const before = first.checkpoints.show('0x00a', 'a')
    expect(before.value).toBeDefined()
    await first.store.close()
    first.engine.close()

    const second = await rooting(new HypercoreStateStore({ dir: at }), 2)
    expect(refusal(() => second.checkpoints.show('0x00a', 'a')).message).toContain('this node has just started')
    second.checkpoints.start()
    second.next(batchOf([run('sa2')]))
    expect(second.checkpoints.show('0x00a', 'a')).toEqual(before)
    second.checkpoints.stop()
    await second.store.close()
    second.engine.close()

    const third = await rooting(new HypercoreStateStore({ dir: at }), 3)
    third.checkpoints.start()
    const refused = { code: 'CMESH_STATE_NO_CHECKPOINT', message: expect.stringContaining('this node was started after the last one') }
    expect(refusal(() => third.checkpoints.show('0x00a', 'a'))).toMatchObject(refused)
    third.next(batchOf([order()]))
    expect(third.checkpoints.show('0x00a', 'a').checkpoint.seq).toBe(4)
    third.checkpoints.stop()
    await third.store.close()
    third.engine.close()
  })
})
