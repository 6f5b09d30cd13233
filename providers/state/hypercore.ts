/**
 * State on a Hypercore: the log on disk, its image in memory. Commits are grouped: everything that arrived while the last
 * append ran goes into the next one, bounded, so that load makes appends larger and never the queue of appends longer.
 *
 * Invariants: the image moves at once and the log follows in order; a commit resolves only when its block is durable; after
 * a failure nothing more is appended, since memory is ahead of the log then.
 */
import type { KeyPair } from 'hypercore'
import { CMeshError } from '../../cmtp/errors.ts'
import type { Log } from '../../services/log.ts'
import { decodeBlock } from '../../services/state/block.ts'
import type { Block, OpenReport, ReadBack, Recall, ReplicaLog, Space, StateHead, StateStore } from '../../services/state/provider.ts'
import { putAside } from './diverged-log.ts'
import { StateImage } from './image.ts'
import { HypercoreLog } from './log.ts'
import { readBack } from './read-back.ts'
import { HypercoreReplica } from './replica.ts'
import { Snapshots } from './snapshots.ts'

/** Most blocks, and bytes of blocks, in one append: bounds how long one group keeps the next waiting. */
const GROUP_BLOCKS = 256
const GROUP_BYTES = 4 * 1024 * 1024

export interface HypercoreStateOptions {
  /** The log is kept under `<dir>/log`; made with mode 0700 when missing. */
  readonly dir: string
  /** `os` (default) survives kill −9 of every process, `disk` a power cut, for about 0.2 ms a commit. */
  readonly durability?: 'os' | 'disk'
  /** Ed25519 key that signs the log. Default: the one in `<dir>/key`, made with mode 0600 for a new log. */
  readonly keyPair?: KeyPair
  /** Told of snapshots that cannot be used or written. Default: nobody is. */
  readonly log?: Pick<Log, 'warn'>
  /** Writes below which no snapshot is taken. Default 131,072. */
  readonly snapshotWrites?: number
  /** How long at a time a snapshot looks at the state, in ms. Default 2. */
  readonly snapshotSliceMs?: number
  /** Called once when a commit failed and the store takes no more. Must not throw. */
  readonly onFailed?: (error: CMeshError) => void
}

interface Pending {
  readonly bytes: Uint8Array
  readonly resolve: () => void
  readonly reject: (error: CMeshError) => void
}

export class HypercoreStateStore implements StateStore {
  readonly durability: 'os' | 'disk'
  readonly replica: ReplicaLog
  readonly #dir: string
  readonly #keyPair: KeyPair | undefined
  readonly #onFailed: ((error: CMeshError) => void) | undefined
  readonly #image = new StateImage()
  readonly #snapshots: Snapshots
  #opening: Promise<OpenReport> | undefined
  #closing: Promise<void> | undefined
  #log: HypercoreLog | undefined
  #failure: CMeshError | undefined
  #queue: Pending[] = []
  #appending: Promise<void> | undefined
  #newest: Promise<void> = Promise.resolve()

  constructor(options: HypercoreStateOptions) {
    this.#dir = options.dir
    this.durability = options.durability ?? 'os'
    this.#keyPair = options.keyPair
    this.#onFailed = options.onFailed
    this.replica = new HypercoreReplica({
      dir: options.dir, image: this.#image, log: () => this.#usable(), flush: () => this.flush(), ingest: blocks => this.#ingest(blocks),
    })
    this.#snapshots = new Snapshots({ dir: options.dir, log: options.log, leastWrites: options.snapshotWrites, sliceMs: options.snapshotSliceMs })
  }

  /**
   * Reads the log back. Rejects with `CMESH_STATE_CORRUPT` (path and block), `CMESH_STATE_FULL`, `CMESH_BOOT_DATA_IN_USE`
   * or what `onBlock` throws, and holds nothing then; try again with another store.
   */
  open(onBlock: (block: Block, at: ReadBack) => void, recall?: Recall): Promise<OpenReport> {
    if (this.#closing !== undefined) return Promise.reject(halted('the store is closed'))
    this.#opening ??= this.#open(onBlock, recall)
    return this.#opening
  }

  async #open(onBlock: (block: Block, at: ReadBack) => void, recall: Recall | undefined): Promise<OpenReport> {
    const start = performance.now()
    await putAside(this.#dir)
    const log = await HypercoreLog.open({ dir: this.#dir, durability: this.durability, keyPair: this.#keyPair })
    let read: { readonly blocks: number, readonly writes: number }
    try {
      read = await readBack({ log, image: this.#image, snapshots: this.#snapshots, recall, onBlock })
    } catch (thrown) {
      await log.close()
      throw thrown
    }
    this.#log = log
    if (recall !== undefined) this.#snapshots.begin({ image: this.#image, log, recall, flush: () => this.flush() }, read.writes)
    return { head: this.head, replayed: read.blocks, openMs: performance.now() - start }
  }

  get head(): StateHead {
    return this.#image.head
  }

  space(name: string): Space {
    return this.#image.space(name)
  }

  spaces(): Iterable<string> {
    return this.#image.spaces()
  }

  commit(block: Block): Promise<void> {
    if (this.#closing !== undefined) return Promise.reject(halted('the store is closed'))
    if (this.#log === undefined) return Promise.reject(halted('the store is not open'))
    if (this.#failure !== undefined) return Promise.reject(halted(`a commit failed before (${this.#failure.code})`))
    const log = this.#log
    let bytes: Uint8Array
    try {
      bytes = this.#image.append(block)
    } catch (thrown) {
      const error = CMeshError.from(thrown, 'hypercore state')
      this.#fail(error)
      return Promise.reject(error)
    }
    this.#snapshots.took(block)
    this.#newest = new Promise<void>((resolve, reject) => this.#queue.push({ bytes, resolve, reject }))
    this.#appending ??= this.#append(log)
    return this.#newest
  }

  async readBack(from: number, to: number, each: (block: Block) => void): Promise<void> {
    await this.flush()
    const log = this.#log
    if (this.#closing !== undefined || log === undefined) throw halted('the store is not open')
    // Block `i` of the log, from 0, is that of sequence `i + 1`.
    await log.read((bytes, block) => each(decodeBlock(bytes, { path: log.path, block })), from - 1, to)
  }

  async flush(): Promise<void> {
    // Groups are appended in order, so the newest commit is durable last.
    await this.#newest
    if (this.#failure !== undefined) throw this.#failure
  }

  close(): Promise<void> {
    this.#closing ??= this.#close()
    return this.#closing
  }

  async #close(): Promise<void> {
    // A failed open told its own caller and has let go of everything; a failed append told each commit.
    await Promise.allSettled([this.#opening])
    await this.#snapshots.close()
    await this.#appending
    await this.#log?.close()
  }

  /** Appends blocks that are in the image already. Resolves when they are durable. */
  #ingest(blocks: readonly Uint8Array[]): Promise<void> {
    const log = this.#usable()
    for (const bytes of blocks.slice(0, -1)) this.#queue.push({ bytes, resolve: () => {}, reject: () => {} })
    const last = blocks.at(-1)
    if (last === undefined) return Promise.resolve()
    // Groups are appended in order: the last one speaks for all of them.
    this.#newest = new Promise<void>((resolve, reject) => this.#queue.push({ bytes: last, resolve, reject }))
    this.#appending ??= this.#append(log)
    return this.#newest
  }

  #usable(): HypercoreLog {
    if (this.#closing !== undefined || this.#log === undefined) throw halted('the store is not open')
    if (this.#failure !== undefined) throw halted(`a commit failed before (${this.#failure.code})`)
    return this.#log
  }

  /** Never rejects: each commit hears of its own failure. */
  async #append(log: HypercoreLog): Promise<void> {
    // What the same tick still hands over shares the first append.
    await Promise.resolve()
    while (this.#queue.length > 0) {
      const group = this.#takeGroup()
      try {
        await log.append(group.map(pending => pending.bytes))
      } catch (thrown) {
        const error = CMeshError.from(thrown, 'hypercore state')
        const unwritten = group.concat(this.#queue)
        this.#queue = []
        this.#fail(error)
        for (const pending of unwritten) pending.reject(error)
        break
      }
      for (const pending of group) pending.resolve()
    }
    this.#appending = undefined
  }

  #takeGroup(): Pending[] {
    let bytes = 0
    let count = 0
    for (const pending of this.#queue) {
      bytes += pending.bytes.length
      if (count > 0 && (count === GROUP_BLOCKS || bytes > GROUP_BYTES)) break
      count++
    }
    if (count === this.#queue.length) {
      const all = this.#queue
      this.#queue = []
      return all
    }
    return this.#queue.splice(0, count)
  }

  #fail(error: CMeshError): void {
    if (this.#failure !== undefined) return
    this.#failure = error
    this.#onFailed?.(error)
  }
}

function halted(reason: string): CMeshError {
  return new CMeshError('CMESH_STATE_HALTED', { reason })
}
