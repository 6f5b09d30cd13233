/**
 * Reads a log back into an image: from a snapshot that fits it and the blocks behind, else from its beginning. Nothing is handed on of
 * a snapshot's blocks before the chain over them has led to the snapshot's own head.
 */
import type { Block, ReadBack, Recall, StateHead } from '../../services/state/provider.ts'
import type { StateImage } from './image.ts'
import type { HypercoreLog } from './log.ts'
import type { Snapshot } from './snapshot-file.ts'
import type { Snapshots } from './snapshots.ts'

export interface ReadBackParts {
  readonly log: HypercoreLog
  readonly image: StateImage
  readonly snapshots: Snapshots
  /** Without it the whole log is read. */
  readonly recall: Recall | undefined
  readonly onBlock: (block: Block, at: ReadBack) => void
}

/** A block that was read, where it stands, and the head behind it. */
interface Known {
  readonly block: Block
  readonly at: ReadBack
  readonly head: StateHead
}

/** Resolves with the blocks read, and the writes in them that no snapshot had. */
export async function readBack(parts: ReadBackParts): Promise<{ readonly blocks: number, readonly writes: number }> {
  const { log, image, snapshots, recall, onBlock } = parts
  const snapshot = recall === undefined ? undefined : await snapshots.newest(log, recall)
  if (snapshot !== undefined) {
    // Where the log itself is damaged, reading all of it says so.
    const known = await passed(parts, snapshot).catch(() => undefined)
    if (known !== undefined) {
      for (const { block, at, head } of known) {
        image.rewind(head)
        onBlock(block, at)
      }
      const writes = await replayed(parts, snapshot.head.seq)
      return { blocks: log.length - snapshot.since.seq + 1, writes }
    }
    snapshots.refused(log.path, `the chain of the log leads elsewhere than to the snapshot of sequence ${snapshot.head.seq}`)
    image.rewind(undefined)
  }
  return { blocks: log.length, writes: await replayed(parts, 0) }
}

/** The blocks that the snapshot has the writes of and that are remembered; `undefined` when they do not lead to its head. */
async function passed({ log, image }: ReadBackParts, { head, since, spaces }: Snapshot): Promise<Known[] | undefined> {
  image.load(spaces, since.before)
  const known: Known[] = []
  await log.read((bytes, index) => {
    const { epoch, seq, chain } = image.head
    const block = image.pass(bytes, { path: log.path, block: index })
    known.push({ block, at: { before: { epoch, seq, chain }, skip: block.seq === since.seq ? since.skip : 0 }, head: image.head })
  }, since.seq - 1, head.seq)
  const { epoch, seq, timeMs, chain } = image.head
  return epoch === head.epoch && seq === head.seq && timeMs === head.timeMs && Buffer.compare(chain, head.chain) === 0 ? known : undefined
}

/** Takes in the blocks from index `from` on; gives how many writes they hold. */
async function replayed({ log, image, onBlock }: ReadBackParts, from: number): Promise<number> {
  let writes = 0
  await log.read((bytes, index) => {
    const { epoch, seq, chain } = image.head
    const block = image.replay(bytes, { path: log.path, block: index })
    writes += block.holds.writes
    onBlock(block, { before: { epoch, seq, chain }, skip: 0 })
  }, from)
  return writes
}
