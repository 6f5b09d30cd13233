/**
 * Reads the blocks of one Hypercore, and holds it to what it says of itself: its length, and that its key signed the tree over its
 * blocks. It opens and closes nothing.
 */
import type Hypercore from 'hypercore'
import type { BlockStream } from 'hypercore'
import { CMeshError } from '../../cmtp/errors.ts'
import { readError } from './log-error.ts'

/** Most blocks, and about as many bytes of blocks, that one trip of a read fetches. */
const READ_BLOCKS = 512
const READ_BYTES = 4 * 1024 * 1024
/** Under way at once. */
const TRIPS = 3

export class LogReader {
  readonly path: string
  readonly #core: Hypercore

  constructor(path: string, core: Hypercore) {
    this.path = path
    this.#core = core
  }

  /** Blocks in the log. */
  get length(): number {
    return this.#core.length
  }

  /**
   * Hands every block from index `from` on, up to `to` and without it, to `each`, in order. Bytes are the callee's to keep. Rejects with what `each` throws, and with
   * `CMESH_STATE_CORRUPT` when a block cannot be read or is missing.
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
    if (next < to) throw this.#corrupt(next, `the log ends here, but its head says ${this.length} blocks`)
  }

  /** The hash over the tree of the first `length` blocks, by default of all of them, as the log has noted it: 32 bytes. */
  async root(length = this.length): Promise<Uint8Array> {
    return length === 0 ? new Uint8Array(32) : this.#core.treeHash(length)
  }

  /** Whether the key of the log signed its tree. An empty log has no signature and needs none. */
  signed(): boolean {
    const { state, core } = this.#core
    return this.length === 0 || (state.signature !== null && core.verifier.verify(state.createTreeBatch(), state.signature))
  }

  /**
   * Several trips are under way while the blocks of one are handed on: a trip has to come back to this thread between its steps, which cannot be
   * while blocks are handed on, so with one at a time nothing would be read meanwhile. Rejects with `StorageFailure` when the storage fails, and
   * with what `each` throws.
   */
  async #scan(each: (bytes: Uint8Array, index: number) => void, from: number, to: number): Promise<void> {
    const { length, byteLength } = this.#core
    const step = Math.max(1, Math.min(READ_BLOCKS, Math.floor(READ_BYTES * length / byteLength)))
    const trips: Promise<Found>[] = []
    let next = from
    const setOut = (): void => {
      if (next < to) trips.push(this.#fetch(next, next = Math.min(next + step, to)))
    }
    try {
      for (let i = 0; i < TRIPS; i++) setOut()
      for (let trip = trips.shift(); trip !== undefined; trip = trips.shift()) {
        const found = await trip
        if (found instanceof StorageFailure) throw found
        setOut()
        for (const { index, value } of found) each(value, index)
      }
    } finally {
      // Nothing is read any more once this has settled, whatever ended it.
      await Promise.all(trips)
    }
  }

  /**
   * The storage's own stream, read by events: several times as fast as the public read stream awaited block by block. Never rejects, since it may fail
   * before its turn comes, when nobody waits for it yet.
   */
  #fetch(from: number, to: number): Promise<Found> {
    const stream = this.#core.state.storage.createBlockStream({ gte: from, lt: to })
    // Room for one more, so that the trip sees the end.
    fetchAtOnce(stream, to - from + 1)
    return new Promise(resolve => {
      const blocks: StoredBlock[] = []
      let failure: StorageFailure | undefined
      stream.on('data', block => { blocks.push(block) })
      stream.on('error', error => { failure = new StorageFailure(error) })
      stream.on('close', () => resolve(failure ?? blocks))
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

/** As the storage's stream gives it. */
interface StoredBlock {
  readonly index: number
  readonly value: Uint8Array
}

/** What a trip came back with. */
type Found = readonly StoredBlock[] | StorageFailure

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
