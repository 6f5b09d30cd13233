/**
 * What a log on disk gives to other replicas and takes from them. It reads blocks as bytes, for they are equal on every replica, and
 * lets received ones wait in files beside the log until who asked for them knows that they are the quorum's.
 */
import { join } from 'node:path'
import { CMeshError } from '../../cmtp/errors.ts'
import { chainAfter } from '../../services/state/block.ts'
import type { DivergenceNote, HeldBlocks, ReplicaLog, TakenNotes } from '../../services/state/provider.ts'
import { writeDivergence } from './diverged-log.ts'
import { BlockFiles } from './held-blocks.ts'
import type { StateImage } from './image.ts'
import type { HypercoreLog } from './log.ts'
import { takenNotes } from './log-notes.ts'

export interface HypercoreReplicaParts {
  readonly dir: string
  readonly image: StateImage
  /** The open log. Throws when there is none. */
  readonly log: () => HypercoreLog
  /** Resolves when everything committed is in the log. */
  readonly flush: () => Promise<void>
  /** Appends blocks that the image holds. */
  readonly ingest: (blocks: readonly Uint8Array[]) => Promise<void>
}

/** Ends a reading that has enough. */
const ENOUGH = new Error('enough was read')

export class HypercoreReplica implements ReplicaLog {
  readonly taken: TakenNotes
  readonly #parts: HypercoreReplicaParts

  constructor(parts: HypercoreReplicaParts) {
    this.#parts = parts
    this.taken = takenNotes(parts.dir)
  }

  async read(from: number, to: number, maxBytes: number): Promise<readonly Uint8Array[]> {
    const log = await this.#reaching(from, to)
    const average = Math.max(1, log.byteLength / log.length)
    const last = Math.min(to, from + Math.floor(maxBytes / average))
    const blocks: Uint8Array[] = []
    let bytes = 0
    await readSome(log, from, last, block => {
      bytes += block.length
      if (blocks.length > 0 && bytes > maxBytes) return false
      blocks.push(block)
      return true
    })
    return blocks
  }

  async chainAt(seq: number): Promise<Uint8Array> {
    const { head, chains } = this.#parts.image
    if (seq < 0 || seq > head.seq) throw beyond(seq, head.seq)
    const known = chains.nearest(seq)
    if (known.seq === seq) return known.chain
    let { chain } = known
    const log = await this.#reaching(known.seq + 1, seq)
    await log.read((bytes, index) => {
      chain = chainAfter(chain, bytes)
      chains.learn({ seq: index + 1, chain })
    }, known.seq, seq)
    return chain
  }

  async hold(): Promise<HeldBlocks> {
    this.#parts.log()
    const { image, ingest } = this.#parts
    return BlockFiles.make(join(this.#parts.dir, 'received'), { head: () => image.head, take: (bytes, source) => image.replay(bytes, source), ingest })
  }

  markDiverged(note: DivergenceNote): Promise<void> {
    return writeDivergence(this.#parts.dir, note)
  }

  /** The log, once it holds both. */
  async #reaching(from: number, to: number): Promise<HypercoreLog> {
    const log = this.#parts.log()
    const { seq } = this.#parts.image.head
    if (from < 1 || to < from || to > seq) throw beyond(from < 1 ? from : to, seq)
    if (to > log.length) await this.#parts.flush()
    return log
  }
}

/** Hands blocks to `each` until it says no. Block `i` of the log, from 0, is that of sequence `i + 1`. */
async function readSome(log: HypercoreLog, from: number, to: number, each: (bytes: Uint8Array) => boolean): Promise<void> {
  try {
    await log.read(bytes => {
      if (!each(bytes)) throw ENOUGH
    }, from - 1, to)
  } catch (thrown) {
    if (thrown !== ENOUGH) throw thrown
  }
}

function beyond(seq: number, head: number): CMeshError {
  return new CMeshError('CMESH_STATE_CATCH_UP', { reason: `sequence ${seq} was asked for and the log ends at ${head}` })
}
