/**
 * Blocks that came from another replica, in files beside the log, one for each part: each block behind its length in four bytes. They
 * are scratch paper: never synced, gone with the next opening of the place. There are thousands of parts where much is missing, so a file is
 * open only while it is worked on.
 */
import { mkdir, open, rm } from 'node:fs/promises'
import type { FileHandle } from 'node:fs/promises'
import { join } from 'node:path'
import { CMeshError } from '../../cmtp/errors.ts'
import { BLOCK_BYTES } from '../../services/state/block.ts'
import type { BlockSource } from '../../services/state/block.ts'
import type { Block, HeldBlocks, StateHead } from '../../services/state/provider.ts'
import { readError, writeError } from './log-error.ts'

const LENGTH_BYTES = 4
/** Read at once, and handed to the log as one. */
const READ_BYTES = 4 * 1024 * 1024

export interface BlockFilesParts {
  readonly head: () => StateHead
  /** Takes a block into memory. */
  readonly take: (bytes: Uint8Array, source: BlockSource) => Block
  /** Appends what was taken; resolves when it is durable. */
  readonly ingest: (blocks: readonly Uint8Array[]) => Promise<void>
}

export class BlockFiles implements HeldBlocks {
  readonly #dir: string
  readonly #parts: BlockFilesParts

  private constructor(dir: string, parts: BlockFilesParts) {
    this.#dir = dir
    this.#parts = parts
  }

  static async make(dir: string, parts: BlockFilesParts): Promise<BlockFiles> {
    try {
      await rm(dir, { recursive: true, force: true })
      await mkdir(dir, { mode: 0o700 })
    } catch (thrown) {
      throw writeError(thrown)
    }
    return new BlockFiles(dir, parts)
  }

  async write(part: number, blocks: readonly Uint8Array[]): Promise<void> {
    try {
      const file = await open(this.#path(part), 'a', 0o600)
      try {
        for (const bytes of written(blocks)) await writeWhole(file, bytes)
      } finally {
        await file.close()
      }
    } catch (thrown) {
      throw writeError(thrown)
    }
  }

  async drop(part: number): Promise<void> {
    await rm(this.#path(part), { force: true })
  }

  async ingest(parts: readonly number[], onBlock: (block: Block) => void): Promise<StateHead> {
    // One group is appended while the next is read and taken in.
    let appending: Promise<void> = Promise.resolve()
    for (const part of parts) {
      for await (const group of this.#groups(part)) {
        let taken = 0
        try {
          for (const bytes of group) {
            const block = this.#parts.take(bytes, { path: this.#path(part), block: this.#parts.head().seq })
            taken++
            onBlock(block)
          }
        } finally {
          await appending
          // Where one of the group failed, memory must not be ahead of the log by those before it.
          appending = this.#parts.ingest(group.slice(0, taken))
          // Told by the next `await`; until then nobody listens.
          appending.catch(() => {})
        }
      }
      await this.drop(part)
    }
    await appending
    return this.#parts.head()
  }

  async *read(parts: readonly number[]): AsyncGenerator<readonly Uint8Array[]> {
    for (const part of parts) {
      yield* this.#groups(part)
      await this.drop(part)
    }
  }

  async discard(): Promise<void> {
    await rm(this.#dir, { recursive: true, force: true })
  }

  /** The blocks of a part in memory of their own, as many at once as one read brings. */
  async *#groups(part: number): AsyncGenerator<readonly Uint8Array[]> {
    const source = { path: this.#path(part), block: this.#parts.head().seq }
    const corrupt = (reason: string): CMeshError => new CMeshError('CMESH_STATE_CORRUPT', { ...source, reason })
    const file = await open(source.path, 'r').catch(() => { throw corrupt('nothing was received of it') })
    try {
      for (let at = 0; ;) {
        const { bytes, ended } = await readAt(file, at, READ_BYTES, source.path)
        if (bytes.length === 0) return
        const blocks: Uint8Array[] = []
        let next = 0
        while (next + LENGTH_BYTES <= bytes.length) {
          const end = next + LENGTH_BYTES + bytes.readUInt32LE(next)
          if (end > bytes.length) break
          blocks.push(bytes.subarray(next + LENGTH_BYTES, end))
          next = end
        }
        if (blocks.length === 0) {
          const length = bytes.length < LENGTH_BYTES ? Infinity : bytes.readUInt32LE(0)
          if (ended || length > BLOCK_BYTES) throw corrupt('its file is damaged')
          const large = await readAt(file, at + LENGTH_BYTES, length, source.path)
          if (large.bytes.length < length) throw corrupt('its file is damaged')
          blocks.push(large.bytes)
          next = LENGTH_BYTES + length
        }
        at += next
        yield blocks
      }
    } finally {
      await file.close()
    }
  }

  #path(part: number): string {
    return join(this.#dir, String(part))
  }
}

/** What is written for the blocks, small ones together. */
function* written(blocks: readonly Uint8Array[]): Generator<Uint8Array> {
  let joined: Uint8Array[] = []
  let bytes = 0
  for (const block of blocks) {
    const length = Buffer.allocUnsafe(LENGTH_BYTES)
    length.writeUInt32LE(block.length)
    joined.push(length, block)
    bytes += block.length
    if (bytes < READ_BYTES) continue
    yield Buffer.concat(joined)
    joined = []
    bytes = 0
  }
  if (joined.length > 0) yield Buffer.concat(joined)
}

async function writeWhole(file: FileHandle, bytes: Uint8Array): Promise<void> {
  for (let at = 0; at < bytes.length;) at += (await file.write(bytes, at)).bytesWritten
}

async function readAt(file: FileHandle, at: number, length: number, path: string): Promise<{ readonly bytes: Buffer, readonly ended: boolean }> {
  const bytes = Buffer.allocUnsafeSlow(length)
  let filled = 0
  try {
    while (filled < length) {
      const { bytesRead } = await file.read(bytes, filled, length - filled, at + filled)
      if (bytesRead === 0) return { bytes: bytes.subarray(0, filled), ended: true }
      filled += bytesRead
    }
  } catch (thrown) {
    throw readError(thrown, path, 0)
  }
  return { bytes, ended: false }
}
