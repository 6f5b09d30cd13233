/**
 * One Hypercore on disk as an append-only list of blocks. It knows files and durability, and nothing of what a block
 * holds. `append` is one atomic RocksDB batch (blocks, tree nodes, signed head), handed to the operating system before it
 * resolves; with `disk` it is on the disk too. RocksDB's own lock keeps a second process out.
 */
import type Hypercore from 'hypercore'
import type { BlockStream, KeyPair } from 'hypercore'
import { CMeshError } from '../../cmtp/errors.ts'
import { readError, writeError } from './log-error.ts'
import { openLog } from './log-open.ts'
import type { LogOptions, OpenedLog } from './log-open.ts'
import type { WalSync } from './wal-sync.ts'

/** Most blocks, and about as many bytes of blocks, that one trip of a read fetches. */
const READ_BLOCKS = 512
const READ_BYTES = 4 * 1024 * 1024

export class HypercoreLog {
  readonly path: string
  readonly #core: Hypercore
  readonly #keyPair: KeyPair
  readonly #sync: WalSync | undefined

  private constructor({ path, core, keyPair, sync }: OpenedLog) {
    this.path = path
    this.#core = core
    this.#keyPair = keyPair
    this.#sync = sync
  }

  /** Opens the log of a directory, or makes it. Rejects as `openLog` does. */
  static async open(options: LogOptions): Promise<HypercoreLog> {
    return new HypercoreLog(await openLog(options))
  }

  /** Blocks in the log. */
  get length(): number {
    return this.#core.length
  }

  /**
   * Hands blocks `from` up to, not including, `to` to `each`, in order; by default all. Bytes are the callee's to keep. Rejects with what
   * `each` throws, and with `CMESH_STATE_CORRUPT` when a block cannot be read or is missing.
   */
  async read(each: (bytes: Uint8Array, index: number) => void, from = 0, to = this.length): Promise<void> {
    let next = from
    const inOrder = (bytes: Uint8Array, index: number): void => {
      if (index !== next) throw this.#corrupt(next, 'the block is missing')
      each(bytes, index)
      next++
    }
    try {
      await this.#scan(inOrder, from, to)
    } catch (thrown) {
      throw thrown instanceof StorageFailure ? readError(thrown.cause, this.path, await this.#firstUnreadable(next)) : thrown
    }
    if (next !== to) throw this.#corrupt(next, `the log ends here, but its head says ${this.length} blocks`)
  }

  /** Appends blocks as one. Resolves when they are as durable as asked for; rejects with `CMESH_STATE_FULL`. */
  async append(blocks: readonly Uint8Array[]): Promise<void> {
    try {
      await this.#core.append(blocks, { keyPair: this.#keyPair })
      await this.#sync?.sync()
    } catch (thrown) {
      throw writeError(thrown)
    }
  }

  async close(): Promise<void> {
    await this.#sync?.close()
    await this.#core.close()
  }

  /**
   * The storage's own stream, read by events: several times as fast as the public read stream awaited block by block.
   * Rejects with `StorageFailure` when the storage fails, and with what `each` throws.
   */
  #scan(each: (bytes: Uint8Array, index: number) => void, from: number, to: number): Promise<void> {
    const { length, byteLength } = this.#core
    if (from >= to) return Promise.resolve()
    const stream = this.#core.state.storage.createBlockStream({ gte: from, lt: to })
    fetchAtOnce(stream, Math.max(1, Math.min(READ_BLOCKS, to - from, Math.floor(READ_BYTES * length / byteLength))))
    return new Promise<void>((resolve, reject) => {
      let ended = false
      stream.on('data', ({ index, value }) => {
        if (ended) return
        try {
          each(value, index)
        } catch (thrown) {
          ended = true
          reject(thrown)
          stream.destroy()
        }
      })
      stream.on('error', error => reject(new StorageFailure(error)))
      stream.on('close', resolve)
    })
  }

  /** A failed trip loses every block that it fetched: which of them it was, from `from` on, is found one by one. */
  async #firstUnreadable(from: number): Promise<number> {
    for (let index = from; index < this.length; index++) {
      try {
        await this.#core.get(index, { wait: false })
      } catch {
        return index
      }
    }
    return from
  }

  #corrupt(block: number, reason: string): CMeshError {
    return new CMeshError('CMESH_STATE_CORRUPT', { path: this.path, block, reason })
  }
}

/** Tells a failure of the storage from one of whom the blocks are handed to. */
class StorageFailure extends Error {
  constructor(cause: Error) {
    super(cause.message, { cause })
  }
}

/**
 * RocksDB's iterator fetches eight blocks a trip to its thread, which makes the trips cost more than the blocks. It has an
 * option for that which the storage does not pass on, so it is set before the first read; without it reading is only slower.
 */
function fetchAtOnce(stream: BlockStream, blocks: number): void {
  if (typeof stream._resize !== 'function') return
  stream._capacity = blocks
  stream._resize()
}
