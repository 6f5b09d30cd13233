/**
 * What every state store keeps to (services/state/provider.ts). `create` gives a store over a directory of its own; two
 * stores over one directory, one after the other, are one log opened again.
 */
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals'
import fc from 'fast-check'
import { chainAfter, emptyChain, encodeBlock } from '../../services/state/block.ts'
import type { Block, ReplicaLog, StateStore } from '../../services/state/provider.ts'
import { anyLog, commitBlock, contentOf, putBlock } from '../support/blocks.ts'

export function stateConformance(name: string, create: (dir: string) => StateStore): void {
  describe(`a ${name} state store`, () => {
    let dir: string
    let stores: StateStore[]

    beforeEach(async () => {
      dir = await mkdtemp(join(tmpdir(), 'cmesh-state-'))
      stores = []
    })

    afterEach(async () => {
      for (const store of stores) await store.close()
      await rm(dir, { recursive: true, force: true })
    })

    const make = (at = dir): StateStore => {
      const store = create(at)
      stores.push(store)
      return store
    }

    const opened = async (at = dir): Promise<{ store: StateStore, blocks: Block[] }> => {
      const store = make(at)
      const blocks: Block[] = []
      await store.open(block => blocks.push(block))
      return { store, blocks }
    }

    const halted = (why: string): object => ({ code: 'CMESH_STATE_HALTED', message: expect.stringContaining(why) })

    test('reads back what was committed, any part of it, where it keeps blocks', async () => {
      const { store } = await opened()
      if (store.readBack === undefined) return expect(store.durability).toBe('memory')
      const blocks = Array.from({ length: 9 }, (_, i) => ({ ...putBlock(i + 1, 'k', `${i}`), ...(i === 4 && { root: new Uint8Array(32).fill(5) }) }))
      for (const block of blocks) void commitBlock(store, block)
      for (const [from, to] of [[1, 9], [4, 6], [9, 9], [5, 4]] as const) {
        const read: Block[] = []
        await store.readBack(from, to, block => read.push(block))
        expect(read.map(block => encodeBlock(block))).toEqual(blocks.slice(from - 1, to).map(block => encodeBlock(block)))
      }
      await expect(store.readBack(1, 9, () => { throw new RangeError('enough') })).rejects.toThrow('enough')
      await expect(store.readBack(8, 10, () => {})).rejects.toMatchObject({ code: 'CMESH_STATE_CORRUPT' })
    })

    test('starts empty: sequence 0 and a chain of 32 zero bytes', async () => {
      const store = make()
      const report = await store.open(() => { throw new Error('there is no block') })
      const head = { epoch: 0, seq: 0, timeMs: 0, chain: emptyChain() }
      expect(report).toEqual({ head, replayed: 0, openMs: expect.any(Number) })
      expect(store.head).toEqual(head)
      expect([...store.spaces()]).toEqual([])
    })

    test('opens once, however often it is asked', async () => {
      const store = make()
      const first = store.open(() => {})
      expect(store.open(() => {})).toBe(first)
      await first
      await commitBlock(store, putBlock(1, 'a', '1'))
      expect((await store.open(() => {})).head.seq).toBe(0)
    })

    test('makes a space when it is asked for, and gives the same one again', async () => {
      const { store } = await opened()
      store.space('0x001').set('k', new Uint8Array([1]))
      expect(store.space('0x001').get('k')).toEqual(new Uint8Array([1]))
      expect([...store.spaces()]).toEqual(['0x001'])
    })

    test('a commit advances the head at once, and the chain is SHA-256 over the chain before and the block', async () => {
      const { store } = await opened()
      const one = { ...putBlock(1, 'a', '1'), epoch: 2 }
      const durable = commitBlock(store, one)
      const chain = chainAfter(emptyChain(), encodeBlock(one))
      expect(store.head).toEqual({ epoch: 2, seq: 1, timeMs: one.timeMs, chain })
      await durable

      const two = { ...putBlock(2, 'a', '2'), epoch: 3 }
      await commitBlock(store, two)
      expect(store.head).toEqual({ epoch: 3, seq: 2, timeMs: two.timeMs, chain: chainAfter(chain, encodeBlock(two)) })
    })

    test('two logs of one order have one chain', async () => {
      const heads = []
      for (const at of ['a', 'b']) {
        const { store } = await opened(join(dir, at))
        for (let seq = 1; seq <= 20; seq++) await commitBlock(store, putBlock(seq, `k${seq % 3}`, `${seq}`))
        heads.push(store.head)
      }
      expect(heads[0]).toEqual(heads[1])
    })

    test('commits handed over together resolve in order, and flush resolves when all of them have', async () => {
      const { store } = await opened()
      const resolved: number[] = []
      for (let seq = 1; seq <= 1_000; seq++) {
        void commitBlock(store, putBlock(seq, `k${seq}`, `${seq}`)).then(() => resolved.push(seq))
      }
      await store.flush()
      expect(resolved).toEqual(Array.from({ length: 1_000 }, (_, i) => i + 1))
    })

    test.each([0, 1, 3, 9])('after sequence 1 a block of sequence %i is refused, and every block after that', async seq => {
      const { store } = await opened()
      await commitBlock(store, putBlock(1, 'a', '1'))
      const { head } = store
      await expect(store.commit(putBlock(seq, 'b', '2'))).rejects.toMatchObject({
        code: 'CMESH_STATE_HALTED',
        message: `The state service has halted: sequence ${seq} follows 1.`,
      })
      await expect(store.commit(putBlock(2, 'b', '2'))).rejects.toMatchObject(halted('a commit failed before'))
      await expect(store.flush()).rejects.toMatchObject({ code: 'CMESH_STATE_HALTED' })
      expect(store.head).toBe(head)
    })

    test('an epoch that goes back is refused', async () => {
      const { store } = await opened()
      await commitBlock(store, { ...putBlock(1, 'a', '1'), epoch: 2 })
      await expect(store.commit({ ...putBlock(2, 'a', '2'), epoch: 1 })).rejects.toMatchObject({
        code: 'CMESH_STATE_HALTED',
        message: 'The state service has halted: epoch 1 follows 2.',
      })
    })

    test('commits before a refused one keep their word', async () => {
      const { store } = await opened()
      const before = [1, 2, 3].map(seq => commitBlock(store, putBlock(seq, 'a', `${seq}`)))
      await expect(store.commit(putBlock(9, 'a', '9'))).rejects.toMatchObject({ code: 'CMESH_STATE_HALTED' })
      await expect(Promise.all(before)).resolves.toHaveLength(3)
    })

    test('a commit before the opening or after the closing is refused', async () => {
      const store = make()
      await expect(store.commit(putBlock(1, 'a', '1'))).rejects.toMatchObject(halted('not open'))
      await store.open(() => {})
      await store.close()
      await expect(store.commit(putBlock(1, 'a', '1'))).rejects.toMatchObject(halted('closed'))
    })

    test('closes more than once, unopened too, and does not open after that', async () => {
      const store = make()
      await store.close()
      await store.close()
      await expect(store.open(() => {})).rejects.toMatchObject(halted('closed'))
    })

    test('closing waits for the commits under way', async () => {
      const { store } = await opened()
      const commits = Array.from({ length: 50 }, (_, i) => commitBlock(store, putBlock(i + 1, 'a', `${i}`)))
      let settled = 0
      for (const commit of commits) void commit.then(() => settled++)
      await store.close()
      expect(settled).toBe(50)
    })

    test('opened again it has what its durability promises: everything, or with `memory` nothing', async () => {
      await fc.assert(fc.asyncProperty(anyLog, async log => {
        const at = await mkdtemp(join(dir, 'log-'))
        const { store } = await opened(at)
        for (const block of log) await commitBlock(store, block)
        const { head } = store
        const content = contentOf(store)
        await store.close()

        const again = await opened(at)
        if (store.durability === 'memory') {
          expect(again.store.head.seq).toBe(0)
          expect([...again.store.spaces()]).toEqual([])
          expect(again.blocks).toEqual([])
        } else {
          expect(again.store.head).toEqual(head)
          expect(contentOf(again.store)).toEqual(content)
          expect(again.blocks.map(saidBy)).toEqual(log.map(saidBy))
        }
        await again.store.close()
      }), { numRuns: 15 })
    })

    test('opened again it goes on where it was', async () => {
      const { store } = await opened()
      await commitBlock(store, putBlock(1, 'a', '1'))
      await store.close()
      const again = (await opened()).store
      if (store.durability === 'memory') return
      const next = putBlock(2, 'b', '2')
      await commitBlock(again, next)
      await again.close()
      const third = await opened()
      expect(third.store.head.chain).toEqual(chainAfter(store.head.chain, encodeBlock(next)))
      expect(contentOf(third.store)).toEqual({ '0x001': { '.a': '31', '.b': '32' } })
    })

    describe('as a replica', () => {
      const filled = async (blocks: number): Promise<StateStore> => {
        const { store } = await opened(join(dir, 'giver'))
        for (let seq = 1; seq <= blocks; seq++) void commitBlock(store, putBlock(seq, `k${seq % 7}`, `value ${seq}`))
        await store.flush()
        return store
      }

      test('one that keeps no blocks says so, every other one gives and takes them', async () => {
        const { store } = await opened()
        expect(store.replica === undefined).toBe(store.durability === 'memory')
      })

      test('gives the bytes of its blocks: as many as asked for fit, at least one, and none that it has not', async () => {
        const store = await filled(40)
        if (store.replica === undefined) return
        const bytes = (seq: number): Uint8Array => encodeBlock(putBlock(seq, `k${seq % 7}`, `value ${seq}`))
        expect(await store.replica.read(3, 5, 1_000_000)).toEqual([3, 4, 5].map(seq => Buffer.from(bytes(seq))))
        expect(await store.replica.read(40, 40, 1)).toEqual([Buffer.from(bytes(40))])
        expect(await store.replica.read(1, 40, bytes(1).length + bytes(2).length)).toEqual([1, 2].map(seq => Buffer.from(bytes(seq))))
        const beyond = (seq: number): object => ({ code: 'CMESH_STATE_CATCH_UP', detail: { reason: `sequence ${seq} was asked for and the log ends at 40` } })
        await expect(store.replica.read(41, 41, 1)).rejects.toMatchObject(beyond(41))
        await expect(store.replica.read(40, 41, 1)).rejects.toMatchObject(beyond(41))
        await expect(store.replica.read(0, 1, 1)).rejects.toMatchObject(beyond(0))
        await expect(store.replica.chainAt(41)).rejects.toMatchObject(beyond(41))
      })

      test('knows the chain value behind each of its blocks, read back too', async () => {
        const store = await filled(600)
        if (store.replica === undefined) return
        await store.close()
        const again = (await opened(join(dir, 'giver'))).store
        let chain = emptyChain()
        for (let seq = 0; seq <= 600; seq++) {
          if (seq > 0) chain = chainAfter(chain, encodeBlock(putBlock(seq, `k${seq % 7}`, `value ${seq}`)))
          expect(await again.replica?.chainAt(seq)).toEqual(chain)
        }
      })

      test('takes in what another gave: head, spaces, blocks told in order, and the log that is read back', async () => {
        const giver = await filled(300)
        if (giver.replica === undefined) return
        const { store, blocks } = await opened(join(dir, 'taker'))
        for (let seq = 1; seq <= 20; seq++) await commitBlock(store, putBlock(seq, `k${seq % 7}`, `value ${seq}`))
        const held = await (store.replica as ReplicaLog).hold()
        await held.write(7, await giver.replica.read(200, 300, 1_000_000))
        await held.write(2, await giver.replica.read(21, 100, 1_000_000))
        await held.write(2, await giver.replica.read(101, 199, 1_000_000))
        await held.write(3, await giver.replica.read(1, 5, 1_000_000))
        await held.drop(3)
        expect(store.head.seq).toBe(20)
        const seen: number[] = []
        expect(await held.ingest([2, 7], block => {
          expect(store.head.seq).toBe(block.seq)
          seen.push(block.seq)
        })).toEqual(giver.head)
        await held.discard()
        expect(seen).toEqual(Array.from({ length: 280 }, (_, i) => i + 21))
        expect(contentOf(store)).toEqual(contentOf(giver))
        await commitBlock(store, putBlock(301, 'a', 'b'))
        await store.close()
        const again = await opened(join(dir, 'taker'))
        expect(again.store.head.seq).toBe(301)
        expect(again.blocks.slice(0, 300).map(block => block.seq)).toEqual(Array.from({ length: 300 }, (_, i) => i + 1))
        expect(blocks).toEqual([])
      })

      test.each([
        ['that does not come next', 22, (bytes: Uint8Array) => bytes, 'sequence 23 follows 21'],
        ['that is no block', 21, (bytes: Uint8Array) => bytes.subarray(1), 'byte 0 is not the start of a block'],
      ])('a block %s is not taken in, those before it are, and the log goes on behind them', async (_, at, spoil, reason) => {
        const giver = await filled(30)
        if (giver.replica === undefined) return
        const { store } = await opened(join(dir, 'taker'))
        const held = await (store.replica as ReplicaLog).hold()
        const blocks = [...await giver.replica.read(1, 30, 1_000_000)]
        blocks.splice(at - 1, 1, ...(at === 22 ? [] : [spoil(blocks[at - 1] as Uint8Array)]))
        await held.write(0, blocks)
        await expect(held.ingest([0], () => {})).rejects.toMatchObject({ code: 'CMESH_STATE_CORRUPT', detail: { reason } })
        await held.discard()
        const end = at - 1
        expect(store.head).toMatchObject({ seq: end, chain: await giver.replica.chainAt(end) })
        await commitBlock(store, putBlock(end + 1, 'a', 'b'))
        await store.close()
        expect((await opened(join(dir, 'taker'))).store.head.seq).toBe(end + 1)
      })

      test('what was held by an earlier process is gone, and nothing of it was in the log', async () => {
        const giver = await filled(10)
        if (giver.replica === undefined) return
        const taker = (await opened(join(dir, 'taker'))).store
        const left = await (taker.replica as ReplicaLog).hold()
        await left.write(0, await giver.replica.read(1, 10, 1_000))
        await taker.close()
        const again = (await opened(join(dir, 'taker'))).store
        expect(again.head.seq).toBe(0)
        const held = await (again.replica as ReplicaLog).hold()
        await expect(held.ingest([0], () => {})).rejects.toMatchObject({ code: 'CMESH_STATE_CORRUPT' })
        await held.discard()
        await left.discard()
      })

      test('a log that differs is put aside at the next opening, which begins an empty one', async () => {
        const store = await filled(10)
        if (store.replica === undefined) return
        await store.replica.markDiverged({ seq: 4, own: 'here', peers: ['there'] })
        await store.close()
        const again = (await opened(join(dir, 'giver'))).store
        expect(again.head.seq).toBe(0)
        await commitBlock(again, putBlock(1, 'a', 'b'))
        await again.close()
        expect((await opened(join(dir, 'giver'))).store.head.seq).toBe(1)
      })
    })

    test('a block is in the spaces when `onBlock` sees it, and values keep little memory but their own', async () => {
      const { store } = await opened()
      for (let seq = 1; seq <= 5; seq++) await commitBlock(store, putBlock(seq, 'k', `value ${seq}`))
      await store.close()
      const again = make()
      const seen: string[] = []
      await again.open(block => {
        const value = again.space('0x001').get('k') as Uint8Array
        expect(value.buffer.byteLength).toBeLessThanOrEqual(SHARED_BYTES)
        expect(again.head.seq).toBe(block.seq)
        seen.push(Buffer.from(value).toString())
      })
      expect(seen).toEqual(store.durability === 'memory' ? [] : ['value 1', 'value 2', 'value 3', 'value 4', 'value 5'])
    })
  })
}

/** Memory that a small value may share with others. */
const SHARED_BYTES = 8_192

/** What a block says, however it came to be. */
function saidBy({ epoch, seq, timeMs, message, transactions, root }: Block): Block {
  return { epoch, seq, timeMs, message, transactions, ...(root !== undefined && { root }) }
}
