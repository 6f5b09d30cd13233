/**
 * Damages the log of a real store and opens it again: `storage-driller.ts <seed> <from> <count> <dir>`. One line of JSON for each hundred drills, a
 * `StorageBatch`. In a process of its own, since a damaged file must not be able to end it either: the last line on standard error names the drill under way.
 *
 * Each drill follows from the seed and its number. It damages a copy of a log that tables, blob files and a write-ahead log hold, or lets a write fail by a limit on
 * the size of files. What then opens is an exact prefix of the log, which goes on from there, or is refused by a coded error; what was acknowledged before a
 * write failed is all there, and nothing behind it but the block that was being written.
 */
import { execFileSync } from 'node:child_process'
import { copyFile, cp, link, mkdir, open, readdir, rm, stat, truncate } from 'node:fs/promises'
import { writeSync } from 'node:fs'
import path from 'node:path'
import { CMeshError } from '../../cmtp/errors.ts'
import { HypercoreStateStore } from '../../providers/state/hypercore.ts'
import { chainAfter, emptyChain, encodeBlock } from '../../services/state/block.ts'
import { commitBlock, loopBlock } from '../support/blocks.ts'
import { Draw } from '../support/draw.ts'
import { BATCH, type StorageBatch } from './support/storage-drills.ts'

const BLOCKS = 90
const RUNS = 3
/** What holds data; the others are RocksDB's notes. */
const HOLDS_DATA = /^(CURRENT|MANIFEST-\d+|\d+\.(log|sst|blob))$/
/** Written once and then only read: a copy may share them. */
const FIXED = /^\d+\.(sst|blob)$/
const KINDS = ['torn', 'torn', 'zeroed', 'zeroed', 'flipped', 'flipped', 'flipped', 'removed', 'failed'] as const

const [seed = '1', from = '0', count = '0', dir = ''] = process.argv.slice(2)
const whole = path.join(dir, 'whole')
const chains: Uint8Array[] = [emptyChain()]

function chainAt(seq: number): string {
  for (let next = chains.length; next <= seq; next++) chains.push(chainAfter(chains[next - 1] as Uint8Array, encodeBlock(loopBlock(next))))
  return Buffer.from(chains[seq] as Uint8Array).toString('hex')
}

async function opened(at: string): Promise<HypercoreStateStore> {
  const store = new HypercoreStateStore({ dir: at })
  try {
    await store.open(() => undefined)
    return store
  } catch (error) {
    await store.close().catch(() => undefined)
    throw error
  }
}

/** What is wrong with an open log; `undefined` where it is what the writer made. */
function wrongWith(store: HypercoreStateStore): string | undefined {
  const { head } = store
  if (Buffer.from(head.chain).toString('hex') !== chainAt(head.seq)) return `it opens at ${head.seq} with another chain value`
  if (head.seq === 0) return undefined
  const [write] = loopBlock(head.seq).transactions[0]?.writes ?? []
  const held = store.space(write?.space ?? '').get(write?.key ?? '')
  return write?.value !== undefined && held !== undefined && Buffer.from(held).equals(write.value) ? undefined : `it opens at ${head.seq} without what that block wrote`
}

/** Tables, blob files and a write-ahead log that all hold blocks. */
async function makeWhole(): Promise<void> {
  for (let run = 0; run < RUNS; run++) {
    const store = await opened(whole)
    for (let i = 0; i < BLOCKS / RUNS; i++) await commitBlock(store, loopBlock(store.head.seq + 1))
    await store.close()
  }
}

async function copyOf(name: string, damaged: string): Promise<string> {
  const to = path.join(dir, name)
  const [source, db] = [path.join(whole, 'log', 'db'), path.join(to, 'log', 'db')]
  await mkdir(db, { recursive: true })
  for (const file of await readdir(source)) {
    if (file !== damaged && FIXED.test(file)) await link(path.join(source, file), path.join(db, file))
    else await copyFile(path.join(source, file), path.join(db, file))
  }
  // The key, and what else lies beside the tables.
  await cp(whole, to, { recursive: true, filter: from => from !== source })
  return to
}

async function damage(file: string, kind: Exclude<(typeof KINDS)[number], 'failed'>, draw: Draw): Promise<string> {
  const { size } = await stat(file)
  // Half of all damage is to the last eighth: that is where a crash leaves it.
  const at = size === 0 ? 0 : draw.below(2) === 0 ? size - 1 - draw.below(Math.max(1, size >> 3)) : draw.below(size)
  if (kind === 'removed') {
    await rm(file)
    return 'removed'
  }
  if (kind === 'torn') {
    await truncate(file, at)
    return `cut at ${at} of ${size}`
  }
  const handle = await open(file, 'r+')
  try {
    const length = kind === 'flipped' ? 1 : Math.min(1 + draw.below(4_096), size - at)
    const bytes = Buffer.alloc(Math.max(0, length))
    if (kind === 'flipped') {
      await handle.read(bytes, 0, 1, at)
      bytes[0] = (bytes[0] ?? 0) ^ (1 << draw.below(8))
    }
    await handle.write(bytes, 0, bytes.length, at)
    return `${kind} ${bytes.length} at ${at} of ${size}`
  } finally {
    await handle.close()
  }
}

/** Goes on from where the log ends, and is the same log when it is read again. */
async function goesOn(at: string, end: number): Promise<string | undefined> {
  const store = await opened(at)
  await commitBlock(store, loopBlock(end + 1))
  await store.close()
  const again = await opened(at)
  const wrong = again.head.seq === end + 1 ? wrongWith(again) : `it ends at ${again.head.seq} after block ${end + 1} was added`
  await again.close()
  return wrong
}

interface Outcome {
  readonly outcome: string
  readonly wrong?: string | undefined
}

async function damaged(index: number, kind: Exclude<(typeof KINDS)[number], 'failed'>, draw: Draw): Promise<Outcome> {
  const files = (await readdir(path.join(whole, 'log', 'db'))).filter(name => HOLDS_DATA.test(name)).sort()
  const wal = files.filter(name => name.endsWith('.log'))
  const name = draw.below(2) === 0 ? draw.of(wal) : draw.of(files)
  const at = await copyOf(`torn-${index}`, name)
  const what = await damage(path.join(at, 'log', 'db', name), kind, draw)
  try {
    const store = await opened(at)
    const { seq } = store.head
    let wrong = wrongWith(store)
    await store.close()
    // Every few of them, since it costs as much again.
    if (wrong === undefined && draw.below(8) === 0) wrong = await goesOn(at, seq)
    return { outcome: seq === BLOCKS ? 'whole' : 'prefix', ...(wrong !== undefined && { wrong: `${name} ${what}: ${wrong}` }) }
  } catch (error) {
    const coded = error instanceof CMeshError && error.code === 'CMESH_STATE_CORRUPT'
    return { outcome: 'refused', ...(!coded && { wrong: `${name} ${what}: ${String(error)}` }) }
  } finally {
    await rm(at, { recursive: true, force: true })
  }
}

const limit = (bytes: number | 'unlimited'): void => {
  execFileSync('prlimit', ['--pid', String(process.pid), `--fsize=${bytes}:unlimited`], { stdio: 'ignore' })
}

async function failed(index: number, draw: Draw): Promise<Outcome> {
  const at = await copyOf(`full-${index}`, '')
  const store = await opened(at)
  let acknowledged = store.head.seq
  let failure: unknown
  try {
    const db = path.join(at, 'log', 'db')
    const sizes = await Promise.all((await readdir(db)).filter(name => name.endsWith('.log')).map(async name => (await stat(path.join(db, name))).size))
    limit(Math.max(0, ...sizes) + draw.below(30_000))
    for (let i = 0; i < 200 && failure === undefined; i++) {
      const block = loopBlock(store.head.seq + 1)
      await commitBlock(store, block).then(() => { acknowledged = block.seq }, (error: unknown) => { failure = error })
    }
  } finally {
    limit('unlimited')
    await store.close().catch(() => undefined)
  }
  try {
    if (!(failure instanceof CMeshError) || failure.code !== 'CMESH_STATE_FULL') return { outcome: 'failed', wrong: `the failure was ${String(failure)}` }
    const again = await opened(at)
    const { seq } = again.head
    // The one whose write failed may stand there whole all the same: nobody was told that it does, and nobody that it does not.
    const wrong = seq === acknowledged || seq === acknowledged + 1 ? wrongWith(again) : `block ${acknowledged} was acknowledged, and the log ends at ${seq}`
    await again.close()
    return { outcome: 'failed', wrong: wrong ?? await goesOn(at, seq) }
  } finally {
    await rm(at, { recursive: true, force: true })
  }
}

await rm(whole, { recursive: true, force: true })
await makeWhole()
let hasLimits = true
try {
  limit('unlimited')
} catch {
  hasLimits = false
}
for (let begin = Number(from); begin < Number(from) + Number(count); begin += BATCH) {
  const met: Record<string, number> = {}
  const wrong: string[] = []
  for (let index = begin; index < Math.min(begin + BATCH, Number(from) + Number(count)); index++) {
    const draw = new Draw(Number(seed) * 100_003 + index)
    const drawn = draw.of(KINDS)
    const kind = drawn === 'failed' && !hasLimits ? 'torn' : drawn
    writeSync(2, `${index} ${kind}\n`)
    const { outcome, wrong: said } = kind === 'failed' ? await failed(index, draw) : await damaged(index, kind, draw)
    const key = kind === 'failed' ? kind : `${kind} ${outcome}`
    met[key] = (met[key] ?? 0) + 1
    if (said !== undefined) wrong.push(`${index} ${kind}: ${said}`)
  }
  writeSync(1, `${JSON.stringify({ from: begin, drills: Object.values(met).reduce((sum, times) => sum + times, 0), met, wrong } satisfies StorageBatch)}\n`)
}
