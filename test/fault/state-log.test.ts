/** The state log under kill −9, damaged files and a file system that takes no more. Real processes, real files. */
import { spawn } from 'node:child_process'
import type { ChildProcess, StdioOptions } from 'node:child_process'
import { once } from 'node:events'
import { cp, mkdtemp, open, readdir, rm, stat, truncate } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals'
import fc from 'fast-check'
import { CMeshError } from '../../cmtp/errors.ts'
import { HypercoreStateStore } from '../../providers/state/hypercore.ts'
import { chainAfter, emptyChain, encodeBlock } from '../../services/state/block.ts'
import { commitBlock, loopBlock } from '../support/blocks.ts'

const HOOKS = new URL('../typescript-hooks.mjs', import.meta.url).href
const WRITER = ['--import', HOOKS, fileURLToPath(new URL('../support/state-writer.ts', import.meta.url))]
/** Its standard error is the test's. */
const STDIO: StdioOptions = ['ignore', 'pipe', 'inherit']

let dir: string
let children: ChildProcess[]

beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), 'cmesh-fault-'))
  children = []
})

afterEach(async () => {
  for (const child of children) {
    if (child.exitCode === null && child.signalCode === null) child.kill('SIGKILL')
  }
  await rm(dir, { recursive: true, force: true })
})

/** What a writer printed until it ended; `onLine` may end it. */
async function run(child: ChildProcess, onLine: (line: string) => void = () => {}): Promise<string[]> {
  children.push(child)
  const exited = once(child, 'exit')
  const lines: string[] = []
  if (child.stdout === null) throw new Error('the writer has no output')
  for await (const line of createInterface({ input: child.stdout })) {
    lines.push(line)
    onLine(line)
  }
  await exited
  return lines
}

function lastAck(lines: readonly string[]): number {
  return Number(lines.findLast(line => line.startsWith('ack '))?.slice(4) ?? 0)
}

/** The chain of the log that a writer makes, by sequence. */
const chains: Uint8Array[] = [emptyChain()]
function chainAt(seq: number): Uint8Array {
  for (let next = chains.length; next <= seq; next++) {
    chains.push(chainAfter(chains[next - 1] as Uint8Array, encodeBlock(loopBlock(next))))
  }
  return chains[seq] as Uint8Array
}

/** Opens the log, holds every byte of it to what the writer makes, and gives where it ends. */
async function verified(at: string): Promise<number> {
  const store = new HypercoreStateStore({ dir: at })
  try {
    const { head, replayed } = await store.open(() => {})
    expect(head).toMatchObject({ seq: replayed, chain: chainAt(replayed) })
    const last = loopBlock(replayed)
    if (replayed > 0) expect(store.space('0x001').get(`key ${replayed % 50}`)).toEqual(last.transactions[0]?.writes[0]?.value)
    return replayed
  } finally {
    await store.close()
  }
}

describe('kill −9 of a process that commits', () => {
  test.each([
    ['os', 1],
    ['os', 64],
    ['disk', 8],
  ])('%s, %i in flight: every acknowledged commit is there and the chain is whole', async (durability, inFlight) => {
    let acknowledged = 0
    for (let round = 0; round < 3; round++) {
      const after = 1 + Math.floor(Math.random() * 500)
      let acks = 0
      const child = spawn(process.execPath, [...WRITER, dir, durability, String(inFlight)], { stdio: STDIO })
      const lines = await run(child, line => {
        if (line.startsWith('ack ') && ++acks === after) child.kill('SIGKILL')
      })
      expect({ round, after, signal: child.signalCode }).toEqual({ round, after, signal: 'SIGKILL' })
      acknowledged = Math.max(acknowledged, lastAck(lines))
      const end = await verified(dir)
      expect(end).toBeGreaterThanOrEqual(acknowledged)
      // Unacknowledged ones may be there too, but no more of them than were in flight.
      expect(end).toBeLessThanOrEqual(acknowledged + inFlight)
    }
  })
})

describe('a file system that takes no more', () => {
  test.each(['os', 'disk'])('%s: ends the store, loses nothing acknowledged, and can start again', async durability => {
    // A limit on the size of files stands in for a full disk: the write fails in the same place.
    const limited = ['-c', 'ulimit -f 2000; exec "$0" "$@"', process.execPath]
    const child = spawn('sh', [...limited, ...WRITER, dir, durability, '8'], { stdio: STDIO })
    const lines = await run(child)
    expect(child.exitCode).toBe(0)
    const acknowledged = lastAck(lines)
    expect(acknowledged).toBeGreaterThan(0)
    const after = lines.slice(lines.lastIndexOf(`ack ${acknowledged}`) + 1)
    expect(after).toEqual([
      'failed CMESH_STATE_FULL',
      expect.stringMatching(/^rejected CMESH_STATE_FULL The state log cannot be written: .*File too large.*\. The node .*\.$/),
      'later CMESH_STATE_HALTED The state service has halted: a commit failed before (CMESH_STATE_FULL).',
      expect.stringMatching(/^flush CMESH_STATE_FULL /),
      'closed',
    ])
    expect(await verified(dir)).toBe(acknowledged)

    const store = new HypercoreStateStore({ dir })
    await store.open(() => {})
    await commitBlock(store, loopBlock(acknowledged + 1))
    await store.close()
    expect(await verified(dir)).toBe(acknowledged + 1)
  })
})

describe('damage to any file of a log', () => {
  const BLOCKS = 240
  /** What holds data; the others are RocksDB's notes. */
  const HOLDS_DATA = /^(CURRENT|MANIFEST-\d+|\d+\.(log|sst|blob))$/

  /** Three runs of a store, so that tables, blob files and a write-ahead log all hold blocks. */
  async function written(at: string): Promise<void> {
    for (let run = 0; run < 3; run++) {
      const store = new HypercoreStateStore({ dir: at })
      await store.open(() => {})
      for (let i = 0; i < BLOCKS / 3; i++) {
        const commit = commitBlock(store, loopBlock(store.head.seq + 1))
        if (i % 5 === 0) await commit
      }
      await store.close()
    }
  }

  async function damage(path: string, kind: 'cut' | 'flip' | 'zero' | 'remove', where: number, length: number): Promise<void> {
    const { size } = await stat(path)
    const at = Math.floor(where * size)
    if (kind === 'remove') return rm(path)
    if (kind === 'cut') return truncate(path, at)
    const file = await open(path, 'r+')
    const bytes = Buffer.alloc(kind === 'flip' ? 1 : Math.min(length, size - at))
    if (kind === 'flip') {
      await file.read(bytes, 0, 1, at)
      bytes[0] = (bytes[0] as number) ^ (1 << (length % 8))
    }
    await file.write(bytes, 0, bytes.length, at)
    await file.close()
  }

  test('gives an exact prefix of the log or a coded error, never another state', async () => {
    const whole = join(dir, 'whole')
    await written(whole)
    const files = (await readdir(join(whole, 'log', 'db'))).filter(name => HOLDS_DATA.test(name))
    const present = new Set(files.map(name => name.replace(/^.*\.|-\d+$/, '')))
    expect(present).toEqual(new Set(['CURRENT', 'MANIFEST', 'log', 'sst', 'blob']))

    const wal = files.find(name => name.endsWith('.log')) as string
    const outcomes = new Set<string>()
    const kinds = fc.constantFrom('cut', 'flip', 'zero', 'remove')
    const where = fc.double({ min: 0, max: 0.999, noNaN: true })
    const lengths = fc.integer({ min: 1, max: 5_000 })
    await fc.assert(fc.asyncProperty(fc.constantFrom(...files), kinds, where, lengths, async (name, kind, at, length) => {
      const torn = await mkdtemp(join(dir, 'torn-'))
      await cp(whole, torn, { recursive: true })
      await damage(join(torn, 'log', 'db', name), kind, at, length)
      try {
        const end = await verified(torn)
        if (end < BLOCKS) outcomes.add('prefix')
      } catch (thrown) {
        if (!(thrown instanceof CMeshError)) throw thrown
        const detail = { path: join(torn, 'log'), block: expect.any(Number) }
        expect(thrown).toMatchObject({ code: 'CMESH_STATE_CORRUPT', detail })
        outcomes.add('refused')
      }
      await rm(torn, { recursive: true })
    }), { numRuns: 80, examples: [[wal, 'cut', 0.5, 1], ['CURRENT', 'zero', 0, 5]] })
    expect([...outcomes]).toEqual(expect.arrayContaining(['prefix', 'refused']))
  })

  test('a write-ahead log cut at any place gives the blocks before it, and goes on from there', async () => {
    const whole = join(dir, 'whole')
    await written(whole)
    const name = (await readdir(join(whole, 'log', 'db'))).find(each => each.endsWith('.log')) as string
    let before = -1
    for (let tenth = 0; tenth <= 10; tenth++) {
      const torn = await mkdtemp(join(dir, 'torn-'))
      await cp(whole, torn, { recursive: true })
      await damage(join(torn, 'log', 'db', name), 'cut', tenth / 10, 0)
      const end = await verified(torn)
      expect(end).toBeGreaterThanOrEqual(before)
      before = end
      const store = new HypercoreStateStore({ dir: torn })
      await store.open(() => {})
      await commitBlock(store, loopBlock(end + 1))
      await store.close()
      expect(await verified(torn)).toBe(end + 1)
    }
    expect(before).toBe(BLOCKS)
  })
})
