/**
 * One Hypercore on disk as an append-only list of blocks. It knows files and durability, and nothing of what a block
 * holds. `append` is one atomic RocksDB batch (blocks, tree nodes, signed head), handed to the operating system before it
 * resolves; with `disk` it is on the disk too. RocksDB's own lock keeps a second process out.
 */
import type Hypercore from 'hypercore'
import type { KeyPair } from 'hypercore'
import { writeError } from './log-error.ts'
import { openLog } from './log-open.ts'
import type { LogOptions, OpenedLog } from './log-open.ts'
import { LogReader } from './log-reader.ts'
import type { WalSync } from './wal-sync.ts'

export class HypercoreLog extends LogReader {
  readonly #core: Hypercore
  readonly #keyPair: KeyPair
  readonly #sync: WalSync | undefined

  private constructor({ path, core, keyPair, sync }: OpenedLog) {
    super(path, core)
    this.#core = core
    this.#keyPair = keyPair
    this.#sync = sync
  }

  /** Opens the log of a directory, or makes it. Rejects as `openLog` does. */
  static async open(options: LogOptions): Promise<HypercoreLog> {
    return new HypercoreLog(await openLog(options))
  }

  /** The key that it is signed with, 32 bytes. */
  get publicKey(): Uint8Array {
    return this.#keyPair.publicKey
  }

  /** Bytes of all blocks together. */
  get byteLength(): number {
    return this.#core.byteLength
  }

  /** Appends blocks as one. Resolves when they are as durable as asked for; rejects with `CMESH_STATE_FULL`. */
  async append(blocks: readonly Uint8Array[]): Promise<void> {
    const core = this.#core
    const { core: { header: { hints } }, length } = core
    const postappend = (): undefined => {
      // The length stands in the batch of the blocks themselves, where the log had no hole: Hypercore would write it once more, and wait for that.
      if (hints.contiguousLength === length) hints.contiguousLength = core.length
      return undefined
    }
    try {
      await core.append(blocks, { keyPair: this.#keyPair, postappend })
      await this.#sync?.sync()
    } catch (thrown) {
      throw writeError(thrown)
    }
  }

  async close(): Promise<void> {
    await this.#sync?.close()
    await this.#core.close()
  }
}
