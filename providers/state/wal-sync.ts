/**
 * Makes what Hypercore wrote survive a power cut. Hypercore never syncs RocksDB's write-ahead log, and has no setting for
 * it; `fdatasync` on another descriptor of the same file flushes the same inode. RocksDB goes on to a next file now and
 * then, so every file since the last sync is flushed; one that is gone was written to a table, which RocksDB syncs.
 */
import { open } from 'node:fs/promises'
import type { FileHandle } from 'node:fs/promises'
import { join } from 'node:path'
import type { RocksDB } from 'hypercore'
import { syncDirectory } from '../sync-directory.ts'

export class WalSync {
  readonly #directory: string
  readonly #rocks: RocksDB
  readonly #files = new Map<number, FileHandle>()
  #from = 0

  constructor(directory: string, rocks: RocksDB) {
    this.#directory = directory
    this.#rocks = rocks
  }

  /** Notes where the log stands before the first write. */
  async start(): Promise<void> {
    this.#from = (await this.#rocks.currentWalFile()).number
  }

  /** Resolves when everything written before the call is on the disk. */
  async sync(): Promise<void> {
    const last = (await this.#rocks.currentWalFile()).number
    for (let number = this.#from; number <= last; number++) {
      const file = this.#files.get(number) ?? await this.#open(number, last)
      if (file !== undefined) await file.datasync()
    }
    for (const [number, file] of this.#files) {
      if (number === last) continue
      this.#files.delete(number)
      await file.close()
    }
    this.#from = last
  }

  async close(): Promise<void> {
    for (const file of this.#files.values()) await file.close()
    this.#files.clear()
  }

  async #open(number: number, last: number): Promise<FileHandle | undefined> {
    let file: FileHandle
    try {
      file = await open(join(this.#directory, `${String(number).padStart(6, '0')}.log`), 'r+')
    } catch (thrown) {
      if (number < last && (thrown as NodeJS.ErrnoException).code === 'ENOENT') return undefined
      throw thrown
    }
    this.#files.set(number, file)
    // A new file's name must survive too.
    await syncDirectory(this.#directory)
    return file
  }
}
