/** Snapshots of a log's state: taken while it moves on, used only where they fit, and never the source of another state. */
import { cp, mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals'
import fc from 'fast-check'
import { HypercoreStateStore } from '../../providers/state/hypercore.ts'
import { readSnapshot, snapshotHeader, writeEntry } from '../../providers/state/snapshot-file.ts'
import { SnapshotThread } from '../../providers/state/snapshot-thread.ts'
import type { Block, ReadBack, Recall, Recollection } from '../../services/state/provider.ts'
import { commitBlock, contentOf, putBlock } from '../support/blocks.ts'
import { until } from '../client/support/until.ts'

let dir: string
let stores: HypercoreStateStore[]
let warnings: unknown[]

beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), 'cmesh-snapshots-'))
  stores = []
  warnings = []
})
afterEach(async () => {
  for (const store of stores) await store.close()
  await rm(dir, { recursive: true, force: true })
})

/** Remembers the last `keep` blocks, as a state service does that of transactions. */
class Memory implements Recall {
  readonly sees: number
  readonly seen: Block[] = []
  #before: ReadBack['before'][] = []
  readonly #keep: number

  constructor(keep = 10, sees = 0) {
    this.#keep = keep
    this.sees = sees
  }

  readonly add = (block: Block, { before }: Pick<ReadBack, 'before'>): void => {
    this.seen.push(block)
    this.#before.push(before)
  }

  since(): Recollection | undefined {
    const block = this.seen.at(-this.#keep) ?? this.seen[0]
    const before = this.#before.at(-this.#keep) ?? this.#before[0]
    return block === undefined || before === undefined ? undefined : { seq: block.seq, skip: 0, before }
  }
}

interface Opened {
  readonly store: HypercoreStateStore
  readonly memory: Memory
  readonly replayed: number
  put(key: string, value: string | undefined): Promise<void>
}

async function opened(memory = new Memory(), snapshotWrites = 40, at = dir, snapshotSliceMs = 2): Promise<Opened> {
  const store = new HypercoreStateStore({ dir: at, snapshotWrites, snapshotSliceMs, log: { warn: (fields: unknown) => { warnings.push(fields) } } })
  stores.push(store)
  const { replayed } = await store.open(memory.add, memory)
  return {
    store, memory, replayed,
    put(key, value) {
      const { epoch, seq, chain } = store.head
      const block = putBlock(seq + 1, key, value)
      const durable = commitBlock(store, block)
      memory.add(block, { before: { epoch, seq, chain } })
      return durable
    },
  }
}

const filesIn = (at: string): Promise<string[]> => readdir(join(at, 'snapshots')).catch(() => [])

/** Those that a log may be opened with, oldest first: what is under way is called otherwise. */
const snapshotsIn = async (at = dir): Promise<string[]> => (await filesIn(at)).filter(name => /^\d{16}\.snapshot$/.test(name)).sort()

/** A log of `blocks` blocks over few keys, with a snapshot of some place near its end. */
async function snapshotted(blocks = 200): Promise<Opened> {
  const one = await opened()
  for (let i = 0; i < blocks; i++) await one.put(`key ${i % 7}`, i % 11 === 0 ? undefined : `${i}`)
  await until('there is a snapshot', async () => (await snapshotsIn()).length > 0)
  await one.put('last', 'of all')
  await one.store.close()
  return one
}

const reasons = (): unknown[] => warnings.map(fields => (fields as { reason?: string }).reason)

describe('a snapshot', () => {
  test('is taken once writes exceed five times the live keys, and not before', async () => {
    const one = await opened(new Memory(), 20)
    for (let i = 0; i < 100; i++) await one.put(`key ${i}`, 'x')
    await one.store.close()
    expect(await snapshotsIn()).toEqual([])
    const two = await opened(new Memory(), 20)
    for (let i = 0; i < 401; i++) await two.put(`key ${i % 100}`, 'y')
    await until('there is a snapshot', async () => (await snapshotsIn()).length === 1)
    await two.store.close()
    expect(warnings).toEqual([])
  })

  test('and the blocks behind it give the state, the head and the blocks that are remembered, without reading the rest', async () => {
    const one = await snapshotted()
    const again = await opened()
    expect(again.store.head).toEqual(one.store.head)
    expect(contentOf(again.store)).toEqual(contentOf(one.store))
    expect(again.replayed).toBeLessThan(201)
    expect(again.memory.seen.map(({ seq }) => seq)).toEqual(one.memory.seen.slice(-again.replayed).map(({ seq }) => seq))
    expect(again.memory.since()).toEqual(one.memory.since())
    await again.put('more', 'x')
    await again.store.close()
    expect(warnings).toEqual([])
    // The log is whole by itself.
    const whole = new HypercoreStateStore({ dir })
    stores.push(whole)
    expect((await whole.open(() => {})).replayed).toBe(202)
    expect(contentOf(whole)).toEqual(contentOf(again.store))
  })

  test('taken while keys are written, deleted and made is that of one block, however they fall', async () => {
    await fc.assert(fc.asyncProperty(fc.integer({ min: 1, max: 400 }), fc.integer({ min: 2, max: 9 }), async (step, deletes) => {
      const at = await mkdtemp(join(dir, 'run-'))
      const one = await opened(new Memory(), 30, at, 0)
      // Every turn in which the snapshot looks at some keys, others are written.
      for (let i = 0; (await snapshotsIn(at)).length === 0; i++) {
        for (let each = 0; each < 20; each++) void one.put(`key ${(i * 20 + each) * step % 401}`, (i + each) % deletes === 0 ? undefined : `${i}`)
        await new Promise(resolve => { setImmediate(resolve) })
      }
      await one.store.close()
      const again = await opened(new Memory(), 1e9, at)
      expect(again.replayed).toBeLessThan(one.store.head.seq)
      expect(contentOf(again.store)).toEqual(contentOf(one.store))
      expect(again.store.head).toEqual(one.store.head)
      await again.store.close()
    }), { numRuns: 8, examples: [[1, 9], [7, 3], [400, 5]] })
    expect(warnings).toEqual([])
  }, 120_000)

  test('is kept with the one before it, and no third; what a killed one left is cleared', async () => {
    await snapshotted()
    await writeFile(join(dir, 'snapshots', 'new.snapshot.part'), 'torn')
    await writeFile(join(dir, 'snapshots', 'new.snapshot'), 'whole, and not named yet')
    const one = await opened()
    const seen = new Set<string>()
    for (let i = 0; seen.size < 5; i++) {
      await one.put(`key ${i % 7}`, `${i}`)
      for (const name of await snapshotsIn()) seen.add(name)
    }
    await one.store.close()
    const names = await filesIn(dir)
    expect(names.length).toBeLessThanOrEqual(3)
    expect(names).toEqual(await snapshotsIn())
  })

  test('is not used where an older block has to be seen', async () => {
    const one = await snapshotted()
    const again = await opened(new Memory(10, 3))
    expect(again.replayed).toBe(201)
    expect(again.memory.seen[2]?.seq).toBe(3)
    expect(contentOf(again.store)).toEqual(contentOf(one.store))
  })

  test('is not taken where who sees blocks cannot do without any', async () => {
    const memory = new Memory()
    memory.since = () => undefined
    const one = await opened(memory, 20)
    for (let i = 0; i < 300; i++) await one.put('key', `${i}`)
    await one.store.close()
    expect(await snapshotsIn()).toEqual([])
    expect(warnings).toEqual([])
  })
})

test('its thread copies what it is given: to hand a buffer over makes V8 compile anew what works on buffers, in the whole process', async () => {
  const thread = new SnapshotThread(join(dir, 'made'))
  const [image, log] = [Buffer.alloc(256), new Map([['a', 'one'], ['b', 'two']])]
  let at = 0
  for (const [key, value] of log) at = writeEntry(image, at, '0x001', key, Buffer.from(value))
  const chunk = image.subarray(0, at)
  const before = Buffer.from(chunk)
  thread.take(chunk)
  expect(chunk).toEqual(before)
  // What is written there next is not what it was given.
  image.fill(0xff)
  const head = { epoch: 0, seq: 1, timeMs: 0, chain: new Uint8Array(32) }
  expect(await thread.finish(snapshotHeader(head, new Uint8Array(32), { seq: 1, skip: 0, before: head }))).toBe(2)
  const { spaces } = await readSnapshot(join(dir, 'made'))
  expect(Array.from(spaces.get('0x001') ?? [], ([key, value]) => [key, Buffer.from(value).toString()])).toEqual([...log])
})

describe('a snapshot that is not what it should be is passed by, and the log gives the same state', () => {
  async function expectWholeReplay(one: Opened): Promise<void> {
    const again = await opened()
    expect(again.replayed).toBe(one.store.head.seq)
    expect(contentOf(again.store)).toEqual(contentOf(one.store))
    expect(again.store.head).toEqual(one.store.head)
    expect(again.memory.seen.map(({ seq }) => seq)).toEqual(Array.from({ length: again.replayed }, (_, i) => i + 1))
    await again.store.close()
  }

  test('with any byte changed, and cut anywhere', async () => {
    const one = await snapshotted()
    const files = (await snapshotsIn()).map(name => join(dir, 'snapshots', name))
    const whole = await Promise.all(files.map(file => readFile(file)))
    const cases = fc.record({ where: fc.double({ min: 0, max: 0.9999, noNaN: true }), change: fc.integer({ min: 1, max: 255 }), cut: fc.boolean() })
    await fc.assert(fc.asyncProperty(cases, async ({ where, change, cut }) => {
      warnings = []
      for (const [i, file] of files.entries()) {
        const at = Math.floor(where * (whole[i]?.length ?? 0))
        const bytes = Buffer.from(whole[i] ?? '')
        bytes[at] = (bytes[at] ?? 0) ^ change
        await writeFile(file, cut ? bytes.subarray(0, at) : bytes)
      }
      await expectWholeReplay(one)
      expect(reasons()).toEqual(files.map(() => 'its hash is not that of its contents'))
    }), { numRuns: 8 })
  })

  test('of another log, of a longer log, and under another name', async () => {
    const one = await snapshotted()
    const [name = ''] = (await snapshotsIn()).slice(-1)
    const path = join(dir, 'snapshots', name)
    const bytes = await readFile(path)
    const other = await mkdtemp(join(dir, 'other-'))
    const two = await opened(new Memory(), 1e9, other)
    // More than the 201 that the first one has: the snapshot may be of its last block.
    for (let i = 0; i < 210; i++) await two.put('another', `${i}`)
    await two.store.close()
    await mkdir(join(other, 'snapshots'))
    await cp(path, join(other, 'snapshots', name))
    const again = await opened(new Memory(), 1e9, other)
    expect(contentOf(again.store)).toEqual({ '0x001': { '.another': Buffer.from('209').toString('hex') } })
    expect(reasons()).toEqual(['it is of another log'])
    await again.store.close()

    warnings = []
    for (const each of await snapshotsIn()) await rm(join(dir, 'snapshots', each))
    await writeFile(join(dir, 'snapshots', `${'9'.padStart(16, '0')}.snapshot`), bytes)
    await expectWholeReplay(one)
    expect(reasons()).toEqual(['it is of another sequence than its name says'])

    warnings = []
    const short = await mkdtemp(join(dir, 'short-'))
    await mkdir(join(short, 'snapshots'))
    await cp(join(dir, 'key'), join(short, 'key'))
    await writeFile(join(short, 'snapshots', name), bytes)
    const empty = await opened(new Memory(), 1e9, short)
    expect(empty.store.head.seq).toBe(0)
    expect([...empty.store.spaces()]).toEqual([])
    expect(reasons()).toEqual([expect.stringMatching(/^the log has 0 blocks, and it has \d+$/)])
  })
})
