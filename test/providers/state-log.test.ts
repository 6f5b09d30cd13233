import { existsSync } from 'node:fs'
import { cp, mkdir, mkdtemp, readdir, readFile, rename, rm, stat, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals'
import Hypercore from 'hypercore'
import type { KeyPair } from 'hypercore'
import { keyPair } from 'hypercore-crypto'
import { CMeshError } from '../../cmtp/errors.ts'
import { HypercoreStateStore } from '../../providers/state/hypercore.ts'
import type { HypercoreStateOptions } from '../../providers/state/hypercore.ts'
import { StateImage } from '../../providers/state/image.ts'
import { HypercoreLog } from '../../providers/state/log.ts'
import { chainAfter, encodeBlock } from '../../services/state/block.ts'
import { commitBlock, loopBlock, putBlock } from '../support/blocks.ts'

let dir: string
let stores: HypercoreStateStore[]

beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), 'cmesh-log-'))
  stores = []
})

afterEach(async () => {
  for (const store of stores) await store.close()
  await rm(dir, { recursive: true, force: true })
})

function make(options: Partial<HypercoreStateOptions> = {}): HypercoreStateStore {
  const store = new HypercoreStateStore({ dir, ...options })
  stores.push(store)
  return store
}

/** A store of `blocks` blocks, closed again; gives its chain. */
async function written(blocks: number, options: Partial<HypercoreStateOptions> = {}): Promise<Uint8Array> {
  const store = make(options)
  await store.open(() => {})
  for (let seq = 1; seq <= blocks; seq++) void commitBlock(store, loopBlock(seq))
  await store.flush()
  await store.close()
  return store.head.chain
}

const modeOf = async (path: string): Promise<string> => ((await stat(path)).mode & 0o777).toString(8)

describe('the files of a log', () => {
  test('a new log makes its key, and key and directories are their owner\'s only', async () => {
    await written(1, { dir: join(dir, 'data') })
    expect(await modeOf(join(dir, 'data', 'key'))).toBe('600')
    expect(await modeOf(join(dir, 'data'))).toBe('700')
    expect(await modeOf(join(dir, 'data', 'log'))).toBe('700')
    expect(await readFile(join(dir, 'data', 'key'), 'utf8')).toMatch(/^[0-9a-f]{64}\n$/)
    expect((await readdir(join(dir, 'data'))).sort()).toEqual(['key', 'log'])
  })

  test('a key that the caller gives signs the log and is written nowhere', async () => {
    const seed = Buffer.alloc(32, 0x5a)
    const key = keyPair(seed)
    const chain = await written(3, { keyPair: key })
    expect(existsSync(join(dir, 'key'))).toBe(false)
    for (const name of await readdir(join(dir, 'log', 'db'))) {
      expect((await readFile(join(dir, 'log', 'db', name))).includes(seed)).toBe(false)
    }
    const again = make({ keyPair: key })
    expect((await again.open(() => {})).head.chain).toEqual(chain)
  })

  test('says that it has no hole up to its last block, of blocks that were appended alone and together', async () => {
    await written(3)
    const store = make()
    await store.open(() => {})
    for (const seq of [4, 5]) await commitBlock(store, loopBlock(seq))
    await store.close()
    // Opened to be written, it would be put right.
    const core = new Hypercore(Hypercore.defaultStorage(join(dir, 'log'), { allowBackup: true, readOnly: true }), { createIfMissing: false })
    await core.ready()
    expect([core.length, core.core.header.hints.contiguousLength]).toEqual([5, 5])
    await core.close()
  })

  test('notes of each of its blocks that it is there, over several openings and from one page of the notes to the next', async () => {
    const core = async (): Promise<Hypercore> => {
      const opened = new Hypercore(Hypercore.defaultStorage(join(dir, 'log'), { allowBackup: true, readOnly: true }), { createIfMissing: false })
      await opened.ready()
      return opened
    }
    const bits = 32_768
    const block = Buffer.from('b')
    for (const [before, groups] of [[0, [1, 99]], [100, [bits - 200, 99]], [bits - 1, [1, 2]], [bits + 2, [3]]] as const) {
      const log = await HypercoreLog.open({ dir, durability: 'os', keyPair: undefined })
      expect(log.length).toBe(before)
      for (const count of groups) await log.append(new Array<Buffer>(count).fill(block))
      await log.close()
    }
    const read = await core()
    // What was read of the notes when it was opened.
    const words = [0, bits].map(bit => read.core.bitfield?.getBitfield(bit)?.bitfield ?? new Uint32Array(0))
    await read.close()
    const noted = words.map(page => page.reduce((sum, word) => sum + word.toString(2).replaceAll('0', '').length, 0))
    expect(noted).toEqual([bits, 5])
  })

  test('a copy of the directory opens as the same log, and goes on by itself', async () => {
    const chain = await written(20)
    const copy = join(dir, 'copy')
    await cp(join(dir, 'log'), join(copy, 'log'), { recursive: true })
    await cp(join(dir, 'key'), join(copy, 'key'))
    const store = make({ dir: copy })
    expect((await store.open(() => {})).head).toMatchObject({ seq: 20, chain })
    await commitBlock(store, loopBlock(21))
  })

  test('what a first boot that was killed left behind is cleared away', async () => {
    await mkdir(join(dir, 'log.part', 'db'), { recursive: true })
    await writeFile(join(dir, 'log.part', 'db', '000004.log'), 'half a file')
    await writeFile(join(dir, 'key.part'), 'half a key')
    await written(1)
    expect((await readdir(dir)).sort()).toEqual(['key', 'log'])
  })

  test('a second store on the same directory is refused, and the first is none the worse', async () => {
    const first = make()
    await first.open(() => {})
    const inUse = { code: 'CMESH_BOOT_DATA_IN_USE', detail: { path: join(dir, 'log') } }
    await expect(make().open(() => {})).rejects.toMatchObject(inUse)
    await commitBlock(first, putBlock(1, 'a', '1'))
  })

  test('a directory that cannot be made is CMESH_STATE_FULL', async () => {
    await writeFile(join(dir, 'file'), '')
    await expect(make({ dir: join(dir, 'file', 'data') }).open(() => {})).rejects.toMatchObject({
      code: 'CMESH_STATE_FULL',
      message: expect.stringMatching(/^The state log cannot be written: ENOTDIR: .*\. The node stops; free space .*\.$/),
    })
  })
})

describe('a log that is not what it should be', () => {
  const openedError = async (options: Partial<HypercoreStateOptions> = {}): Promise<CMeshError> => {
    const thrown: unknown = await make(options).open(() => {}).then(() => 'it opened', (error: unknown) => error)
    if (!(thrown instanceof CMeshError)) throw new Error(`expected a CMeshError: ${String(thrown)}`)
    return thrown
  }
  const damagedAt = (path: string, block: number, reason: string): object => ({
    code: 'CMESH_STATE_CORRUPT',
    message: `The state log in ${path} is damaged at block ${block}: ${reason}.`,
    detail: { path, block, reason },
  })
  const damaged = (reason: string): object => damagedAt(join(dir, 'log'), 0, reason)

  test('is refused without its key, and opens when the key is back', async () => {
    const chain = await written(2)
    await rename(join(dir, 'key'), join(dir, 'kept'))
    expect(await openedError()).toMatchObject(damaged(`its key ${join(dir, 'key')} is missing`))
    await rename(join(dir, 'kept'), join(dir, 'key'))
    expect((await make().open(() => {})).head.chain).toEqual(chain)
  })

  test('is refused under another key, never taken for an empty one, and opens under its own', async () => {
    const chain = await written(2)
    expect(await openedError({ keyPair: keyPair() })).toMatchObject(damaged('it is signed by another key than the one given'))
    expect((await make().open(() => {})).head).toMatchObject({ seq: 2, chain })
  })

  test('is refused with a key file of anything but a seed', async () => {
    await written(2)
    await writeFile(join(dir, 'key'), 'ABCD')
    expect(await openedError()).toMatchObject(damagedAt(join(dir, 'key'), 0, 'the key file is not 64 hex digits'))
  })

  test('is refused without the file that names its tables, which are left as they are', async () => {
    await written(50)
    await written(0)
    const db = join(dir, 'log', 'db')
    await rm(join(db, 'CURRENT'))
    const tables = (await readdir(db)).filter(name => name.endsWith('.sst'))
    expect(tables.length).toBeGreaterThan(0)
    expect(await openedError()).toMatchObject(damaged('its file CURRENT is missing'))
    expect(await readdir(db)).toEqual(expect.arrayContaining(tables))
  })

  test('is refused when everything in it is gone, never taken for a new one', async () => {
    await written(5)
    await rm(join(dir, 'log'), { recursive: true })
    const storage = Hypercore.defaultStorage(join(dir, 'log'), { allowBackup: true })
    await storage.getDefaultDiscoveryKey()
    await storage.close()
    expect(await openedError()).toMatchObject(damaged('everything that was in it is gone'))
  })

  type Clearable = Hypercore & { clear(from: number, to: number): Promise<unknown> }

  /** A log of these blocks that no store made, less the one to clear. */
  async function madeByHand(blocks: readonly Uint8Array[], clear?: number): Promise<{ dir: string, keyPair: KeyPair }> {
    const at = await mkdtemp(join(dir, 'made-'))
    const key = keyPair()
    const manifest = { signers: [{ publicKey: key.publicKey }] }
    const storage = Hypercore.defaultStorage(join(at, 'log'), { allowBackup: true })
    const core = new Hypercore(storage, { createIfMissing: true, key: Hypercore.key(manifest), manifest }) as Clearable
    await core.ready()
    await core.append(blocks, { keyPair: key })
    if (clear !== undefined) await core.clear(clear, clear + 1)
    await core.close()
    return { dir: at, keyPair: key }
  }

  test('is refused where a block is missing, is none or does not follow the one before, by its index', async () => {
    const image = new StateImage()
    const append = (seq: number): Uint8Array => image.append(putBlock(seq, 'a', `${seq}`))
    const [one, two, three] = [append(1), append(2), append(3)]
    const cases: [Uint8Array[], number | undefined, number, string][] = [
      [[one, two, two], undefined, 2, 'sequence 2 follows 2'],
      [[one, three], undefined, 1, 'sequence 3 follows 1'],
      [[one, Buffer.from('no block')], undefined, 1, 'byte 0 is not the start of a block'],
      [[one, two, three], 1, 1, 'the block is missing'],
      [[one, two, three], 2, 2, 'the log ends here, but its head says 3 blocks'],
    ]
    for (const [blocks, clear, block, reason] of cases) {
      const options = await madeByHand(blocks, clear)
      expect(await openedError(options)).toMatchObject(damagedAt(join(options.dir, 'log'), block, reason))
    }
  })

  test('an opening that fails in `onBlock` lets go of the log', async () => {
    await written(3)
    const store = make()
    await expect(store.open(() => { throw new RangeError('not this block') })).rejects.toThrow(new RangeError('not this block'))
    await expect(store.commit(loopBlock(4))).rejects.toMatchObject({
      code: 'CMESH_STATE_HALTED',
      message: 'The state service has halted: the store is not open.',
    })
    expect((await make().open(() => {})).replayed).toBe(3)
  })

  /** Spoils the values of those sequences: multiples of seven, whose large values have files of their own. */
  async function spoil(...seqs: number[]): Promise<void> {
    await written(0)
    const db = join(dir, 'log', 'db')
    for (const name of (await readdir(db)).filter(each => each.endsWith('.blob'))) {
      const bytes = await readFile(join(db, name))
      for (const seq of seqs) {
        const at = bytes.indexOf(`${seq}:......`)
        if (at >= 0) bytes[at] = 0
      }
      await writeFile(join(db, name), bytes)
    }
  }

  test('damage in a table is named by its block, though many are read at once', async () => {
    await written(60)
    await spoil(28)
    expect(await openedError()).toMatchObject(damagedAt(join(dir, 'log'), 27, 'Blob CRC mismatch'))
  })

  test('of several damaged blocks the first is named, though others are read while those before it are handed on', async () => {
    await written(2_000)
    await spoil(518, 1_029, 1_995)
    expect(await openedError()).toMatchObject(damagedAt(join(dir, 'log'), 517, 'Blob CRC mismatch'))
  })
})

describe('durability `disk`', () => {
  test('holds while RocksDB goes on from one write-ahead log to the next', async () => {
    const store = make({ durability: 'disk' })
    await store.open(() => {})
    const logs = new Set<string>()
    let chain = store.head.chain
    // More than RocksDB keeps in memory (64 MiB) before it takes up a new file.
    for (let seq = 1; seq <= 10; seq++) {
      const block = { epoch: 0, seq, timeMs: 0, message: new Uint8Array(8 * 1024 * 1024).fill(seq), transactions: [] }
      await store.commit(block)
      chain = chainAfter(chain, encodeBlock(block))
      for (const name of await readdir(join(dir, 'log', 'db'))) if (name.endsWith('.log')) logs.add(name)
    }
    expect(logs.size).toBeGreaterThan(1)
    await store.close()
    expect((await make().open(() => {})).head).toMatchObject({ seq: 10, chain })
  })
})
