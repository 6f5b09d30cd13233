/** What a log gives and takes, by how much it reads and holds open for it. */
import { mkdtemp, readdir, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals'
import { BlockFiles } from '../../providers/state/held-blocks.ts'
import { StateImage } from '../../providers/state/image.ts'
import { HypercoreReplica } from '../../providers/state/replica.ts'
import { chainAfter, emptyChain, encodeBlock } from '../../services/state/block.ts'
import { loopBlock, putBlock } from '../support/blocks.ts'

const END = 2_600
const BLOCKS = Array.from({ length: END }, (_, i) => encodeBlock(loopBlock(i + 1)))
const CHAINS = BLOCKS.reduce<Uint8Array[]>((chains, bytes) => [...chains, chainAfter(chains.at(-1) ?? emptyChain(), bytes)], [emptyChain()])

describe('chain values before a snapshot', () => {
  test('are found by reading the log once, whoever asks for how many of them', async () => {
    const image = new StateImage()
    image.load(new Map(), { epoch: 0, seq: END, chain: CHAINS[END] as Uint8Array })
    let read = 0
    const log = {
      length: END, byteLength: END * 100,
      read: (each: (bytes: Uint8Array, index: number) => void, from: number, to: number) => {
        for (let index = from; index < to; index++) each(BLOCKS[index] as Uint8Array, index)
        read += to - from
        return Promise.resolve()
      },
    }
    const never = (): never => { throw new Error('nobody writes') }
    const replica = new HypercoreReplica({ dir: '', image, log: () => log as unknown as ReturnType<ConstructorParameters<typeof HypercoreReplica>[0]['log']>, flush: never, ingest: never })
    for (const seq of [2_000, 256, 1_024, 2_048, 2_304, 2_560, 512, 1_792]) expect(await replica.chainAt(seq)).toEqual(CHAINS[seq])
    // But for those behind the last 256th that was asked for.
    expect(read).toBeLessThanOrEqual(END + 256)
    // Also those before the first of them, which are read for from the beginning.
    for (let seq = 0; seq < 256; seq += 5) expect(await replica.chainAt(seq)).toEqual(CHAINS[seq])
    read = 0
    expect(await replica.chainAt(1_800)).toEqual(CHAINS[1_800])
    expect(read).toBe(8)
  })
})

describe('values that were read back', () => {
  test('take the memory of those that are left, however often others were written before', () => {
    const source = new StateImage()
    const image = new StateImage()
    const value = 'v'.repeat(100)
    for (let seq = 1; seq <= 2_000; seq++) image.replay(source.append(putBlock(seq, seq % 50 === 0 ? `key ${seq}` : 'hot', value)), { path: '', block: seq - 1 })
    const values = [...image.spaces()].flatMap(name => [...image.space(name)].map(([, value]) => value))
    const held = [...new Set(values.map(({ buffer }) => buffer))].reduce((sum, { byteLength }) => sum + byteLength, 0)
    expect(values.length).toBe(41)
    expect(held).toBeLessThan(41 * 100 + 8_192)
  })
})

describe('blocks that wait to be taken in', () => {
  let dir: string
  beforeAll(async () => { dir = await mkdtemp(join(tmpdir(), 'cmesh-held-')) })
  afterAll(() => rm(dir, { recursive: true, force: true }))

  test('hold no file open, however many parts they come in', async () => {
    const image = new StateImage()
    const taken: Uint8Array[] = []
    const held = await BlockFiles.make(join(dir, 'received'), {
      head: () => image.head, take: (bytes, source) => image.replay(bytes, source),
      ingest: blocks => {
        taken.push(...blocks.map(bytes => Buffer.from(bytes)))
        return Promise.resolve()
      },
    })
    const open = async (): Promise<number> => (await readdir('/proc/self/fd')).length
    const before = await open()
    // In pieces, and the newest first, as they come.
    for (let part = 99; part >= 0; part--) for (const half of [0, 1]) await held.write(part, BLOCKS.slice(part * 4 + half * 2, part * 4 + half * 2 + 2))
    expect(await open()).toBeLessThan(before + 20)
    await held.drop(99)
    expect(await held.ingest(Array.from({ length: 99 }, (_, part) => part), () => {})).toMatchObject({ seq: 396, chain: CHAINS[396] })
    expect(taken).toHaveLength(396)
    await held.discard()
    expect(await readdir(dir)).toEqual([])
  })
})
