/**
 * Snapshots of a state image beside its log: when one pays, how one is taken while the state moves on, and which one a log is opened with.
 *
 * Invariants:
 * 1. A snapshot is only used where its hash is right and the log's tree has its root at its length: otherwise it is passed by with a
 *    warning, and state comes from the log. It is never needed.
 * 2. The main thread gives `sliceMs` at a time. Keys are looked at while they change; every write since the first look is kept, and put
 *    over what was seen at the end, which makes the whole that of the last block.
 * 3. A block in a snapshot was durable before the snapshot is in its place.
 */
import { existsSync } from 'node:fs'
import { mkdir, readdir, rename, rm } from 'node:fs/promises'
import { join } from 'node:path'
import type { Log } from '../../services/log.ts'
import type { Block, Recall, Write } from '../../services/state/provider.ts'
import type { StateImage } from './image.ts'
import type { LogReader } from './log-reader.ts'
import { entryBytes, readSnapshot, snapshotHeader, writeEntry, type Snapshot } from './snapshot-file.ts'
import { SnapshotThread } from './snapshot-thread.ts'

/** A snapshot pays when the writes behind the last one exceed the live keys so many times. */
const WORTH = 5
/** Fewer writes are read back faster than they are worth a file. */
const LEAST_WRITES = 131_072
/** The live keys are counted once in so many writes. */
const COUNT_WRITES = 4_096
const SLICE_MS = 2
const CHUNK_BYTES = 64 * 1024
/** Snapshots kept: the one before is there while the newest turns out to be damaged. */
const KEPT = 2
const NAME = /^(\d{16})\.snapshot$/
/** What one is called while it is made, and before its head is in its name. */
const UNNAMED = 'new.snapshot'

export interface SnapshotsParts {
  /** The store's directory. */
  readonly dir: string
  readonly log: Pick<Log, 'warn'> | undefined
  /** Writes below which none is taken. Default 131,072. */
  readonly leastWrites: number | undefined
  /** How long the main thread looks at keys at a time, in ms. Default 2. */
  readonly sliceMs: number | undefined
}

export interface SnapshotSource {
  readonly image: StateImage
  readonly log: LogReader
  readonly recall: Recall
  /** Resolves when what was committed is durable. */
  readonly flush: () => Promise<void>
}

export class Snapshots {
  readonly #dir: string
  readonly #warn: (fields: object, message: string) => void
  readonly #leastWrites: number
  readonly #sliceMs: number
  #source: SnapshotSource | undefined
  #writes = 0
  #looked = 0
  #running: Promise<void> | undefined
  #overlay: Map<string, Write> | undefined
  #thread: SnapshotThread | undefined
  #closed = false

  constructor({ dir, log, leastWrites, sliceMs }: SnapshotsParts) {
    this.#dir = join(dir, 'snapshots')
    this.#warn = (fields, message) => { log?.warn(fields, message) }
    this.#leastWrites = leastWrites ?? LEAST_WRITES
    this.#sliceMs = sliceMs ?? SLICE_MS
  }

  /** The newest snapshot that fits the log and reaches back as far as `recall` asks. */
  async newest(log: LogReader, recall: Recall): Promise<Snapshot | undefined> {
    for (const { name, seq } of (await this.#names()).reverse()) {
      const path = join(this.#dir, name)
      try {
        const snapshot = await readSnapshot(path)
        if (snapshot.head.seq !== seq) throw new Error('it is of another sequence than its name says')
        if (seq > log.length) throw new Error(`the log has ${log.length} blocks, and it has ${seq}`)
        if (Buffer.from(await log.root(seq)).toString('hex') !== snapshot.root) throw new Error('it is of another log')
        if (recall.sees === 0 || recall.sees >= snapshot.since.seq) return snapshot
      } catch (error) {
        this.refused(path, (error as Error).message)
      }
    }
    return undefined
  }

  refused(path: string, reason: string): void {
    this.#warn({ path, reason }, 'a snapshot of the state cannot be used; state comes from the log')
  }

  /** From here on snapshots are taken. `writes` were read back from behind the last one. */
  begin(source: SnapshotSource, writes: number): void {
    this.#source = source
    this.#writes = writes
  }

  /** Told each block once its writes are in the image, and it is its head. */
  took(block: Block): void {
    if (this.#source === undefined || this.#closed) return
    for (const { writes } of block.transactions) {
      this.#writes += writes.length
      for (const write of this.#overlay === undefined ? [] : writes) this.#overlay?.set(`${write.space.length}:${write.space}${write.key}`, write)
    }
    if (this.#running === undefined && this.#pays()) this.#running = this.#run(this.#source).finally(() => { this.#running = undefined })
  }

  /** Resolves when none is under way. */
  async settled(): Promise<void> {
    await this.#running
  }

  /** Leaves the one under way. Idempotent. */
  async close(): Promise<void> {
    this.#closed = true
    await this.#thread?.stop()
    await this.#running
  }

  #pays(): boolean {
    if (this.#writes < this.#leastWrites || this.#writes - this.#looked < Math.min(COUNT_WRITES, this.#leastWrites)) return false
    this.#looked = this.#writes
    let live = 0
    const image = this.#source?.image
    for (const name of image?.spaces() ?? []) live += image?.space(name).size ?? 0
    return this.#writes > WORTH * live
  }

  /** Never rejects: a snapshot that cannot be written is tried again when the next one pays. */
  async #run(source: SnapshotSource): Promise<void> {
    this.#writes = this.#looked = 0
    const overlay = this.#overlay = new Map<string, Write>()
    try {
      await mkdir(this.#dir, { recursive: true, mode: 0o700 })
      await this.#write(source, overlay)
      for (const { name } of (await this.#names()).slice(0, -KEPT)) await rm(join(this.#dir, name), { force: true })
    } catch (error) {
      if (!this.#closed) this.#warn({ err: error }, 'a snapshot of the state could not be written; the log has everything')
    } finally {
      this.#overlay = undefined
      await this.#thread?.stop()
      this.#thread = undefined
      for (const name of await readdir(this.#dir).catch(() => [])) if (name.startsWith(UNNAMED)) await rm(join(this.#dir, name), { force: true })
    }
  }

  async #write({ image, log, recall, flush }: SnapshotSource, overlay: Map<string, Write>): Promise<void> {
    const thread = this.#thread = new SnapshotThread(join(this.#dir, UNNAMED))
    const slices = new Slices(thread, this.#sliceMs, () => this.#closed)
    for (const name of [...image.spaces()]) {
      for (const [key, value] of image.space(name)) {
        if (slices.full) await slices.rest()
        slices.put(name, key, value)
      }
    }
    // What is seen now is fixed: state behind this block, and what it is remembered with.
    this.#overlay = undefined
    const { head } = image
    const since = recall.since()
    if (since === undefined) return
    for (const { space, key, value } of overlay.values()) {
      if (slices.full) await slices.rest()
      slices.put(space, key, value)
    }
    slices.end()
    await flush()
    await thread.finish(snapshotHeader(head, await log.root(head.seq), since))
    await rename(join(this.#dir, UNNAMED), join(this.#dir, `${String(head.seq).padStart(16, '0')}.snapshot`))
  }

  /** Oldest first. */
  async #names(): Promise<{ readonly name: string, readonly seq: number }[]> {
    if (!existsSync(this.#dir)) return []
    return (await readdir(this.#dir)).flatMap(name => {
      const seq = NAME.exec(name)?.[1]
      return seq === undefined ? [] : [{ name, seq: Number(seq) }]
    }).sort((a, b) => a.seq - b.seq)
  }
}

/** Hands entries to the thread in chunks, and the main thread back after each slice of time. */
class Slices {
  readonly #thread: SnapshotThread
  readonly #sliceMs: number
  readonly #stopped: () => boolean
  #chunk = Buffer.allocUnsafeSlow(CHUNK_BYTES)
  #at = 0
  #count = 0
  #endMs: number

  constructor(thread: SnapshotThread, sliceMs: number, stopped: () => boolean) {
    this.#thread = thread
    this.#sliceMs = sliceMs
    this.#endMs = performance.now() + sliceMs
    this.#stopped = stopped
  }

  /** Whether this slice of time is over. */
  get full(): boolean {
    return (++this.#count & 31) === 0 && performance.now() > this.#endMs
  }

  /** Rejects when no more is wanted. */
  async rest(): Promise<void> {
    await new Promise(resolve => { setImmediate(resolve) })
    if (this.#stopped()) throw new Error('the store was closed')
    this.#endMs = performance.now() + this.#sliceMs
  }

  put(space: string, key: string, value: Uint8Array | undefined): void {
    const size = entryBytes(space, key, value)
    if (this.#at + size > this.#chunk.length) {
      this.end()
      if (size > this.#chunk.length) this.#chunk = Buffer.allocUnsafeSlow(size)
    }
    this.#at = writeEntry(this.#chunk, this.#at, space, key, value)
  }

  end(): void {
    if (this.#at > 0) this.#thread.take(this.#chunk.subarray(0, this.#at))
    this.#at = 0
  }
}
