/**
 * Checkpoints: which blocks carry a state root, and the tree that it is the root of. Which they are follows from the log alone, so that
 * every replica writes the same blocks:
 *
 *   - none, until `0xSW:0x000:checkpoint` was ordered once: a log from before there were roots goes on as it did;
 *   - the block that holds such an order;
 *   - else the first block `ROOT_MS` of log time after the first block `REST_MS` after the last checkpoint.
 *
 * The second step is what gives a node that has just started the time to build its tree. When the work is done is each node's own affair: in
 * slices between two turns of the event loop once a checkpoint comes near; then no more of it than keeps what is left small enough for the time that is left,
 * and the rest within the block. A write costs its entry in a set, so that a key that is written over and over is hashed a few times a checkpoint, by what it holds then.
 */
import { CMeshError } from '../../cmtp/errors.ts'
import { checkpointChain, checkpointHead } from '../../cmtp/state-hash.ts'
import { encodeBlock, restHash } from './block.ts'
import type { Block, StateHead, StateStore, Write } from './provider.ts'
import { StateTree, type Shown } from './state-tree.ts'
import { jsonExecution, SYSTEM_SPACE, type Execution, type TransactionContext } from './transaction.ts'

/** Log time between a checkpoint and the block that brings the next near, and between that and the next, in ms. */
export const REST_MS = 30_000
export const ROOT_MS = 30_000
/** Where the newest order stands in the system space. */
export const CHECKPOINT_KEY = 'checkpoint'

/** Thread time of one slice of work and of the pause after it, in ms. */
const SLICE_MS = 4
const PAUSE_MS = 4
/** Keys between two looks at the clock. */
const SLICE_KEYS = 32

/** Keys that a block takes out of what has piled up, at most, for each that it writes, once a checkpoint comes near. */
const CATCH_UP = 3
/** Keys that may be left for the checkpoint's own block, which takes less than 10 ms for them, and for each ms of log time until then. */
const LEFT_KEYS = 2_000
const LEFT_KEYS_PER_MS = 3

const NO_ROOT = new Uint8Array(0)

/** A block with a root, and what goes into a proof of it. */
export interface Checkpoint {
  readonly epoch: number
  readonly seq: number
  readonly timeMs: number
  readonly root: Uint8Array
  /** Chain value before and after it. */
  readonly previous: Uint8Array
  readonly chain: Uint8Array
  /** As `checkpointChain` takes it. */
  readonly rest: Uint8Array
}

export interface CheckpointsParts {
  readonly store: Pick<StateStore, 'head' | 'space' | 'spaces'>
  /** ms, for slices alone. Default: the process's own. */
  readonly spentMs?: () => number
}

type Changes = Map<string, Set<string>>

export class Checkpoints {
  readonly #parts: CheckpointsParts
  readonly #tree = new StateTree()
  /** What is not in the tree yet, by contract and key. */
  #changes: Changes = new Map()
  #changed = 0
  /** Goes over the state that was there at the start; `undefined` once all of it is in the tree. */
  #base: Iterator<readonly [string, string, Uint8Array], void> | undefined
  #order: Uint8Array | undefined
  #newest: { readonly block: Block, readonly previous: Uint8Array, rest: Uint8Array | undefined } | undefined
  /** Whether the tree was kept for the newest checkpoint, by this process. */
  #kept = false
  /** Log time of the newest checkpoint, and of the block that brought the next near. */
  #restedMs = 0
  #nearMs: number | undefined
  /** Nothing was written since the newest checkpoint. */
  #clean = false
  #timer: NodeJS.Timeout | undefined
  #running = false

  constructor(parts: CheckpointsParts) {
    this.#parts = parts
    this.#base = entriesOf(parts.store)
  }

  /** Takes up a block that the store read back, or took from another replica, and the state before it. */
  restore(block: Block, { before }: { readonly before: Pick<StateHead, 'chain'> }): void {
    this.#order = this.#parts.store.space(SYSTEM_SPACE).get(CHECKPOINT_KEY)
    if (block.root !== undefined) this.#rest(block, before.chain)
    else this.#follow(block)
  }

  /** The sequence from which on blocks must be seen again for the next checkpoint to fall where it does; `undefined` where it does not matter. */
  get needs(): number | undefined {
    return this.#order === undefined ? undefined : this.#newest?.block.seq ?? 0
  }

  /** Begins to build the tree, in slices. What was there at the start was read back. */
  start(): void {
    this.#running = true
    this.#work()
  }

  stop(): void {
    this.#running = false
    clearTimeout(this.#timer)
  }

  /** The block that comes next, its writes in the spaces: with the state's root, where it is a checkpoint. */
  seal(block: Block): Block {
    let written = 0
    for (const { writes } of block.transactions) {
      for (const write of writes) this.#note(write)
      written += writes.length
    }
    const order = this.#parts.store.space(SYSTEM_SPACE).get(CHECKPOINT_KEY)
    const ordered = order !== undefined && (this.#order === undefined || Buffer.compare(order, this.#order) !== 0)
    this.#order = order
    this.#follow(block)
    // A busy thread leaves little room between its turns: then each block does more of the work than it makes.
    if (order !== undefined && this.#nearMs !== undefined) {
      const left = LEFT_KEYS + LEFT_KEYS_PER_MS * Math.max(0, this.#nearMs + ROOT_MS - block.timeMs)
      const most = Math.min(CATCH_UP * written, this.#base === undefined ? this.#changed - left : Infinity)
      if (most > 0 && this.#drain(most)) this.#tree.settle()
    }
    if (order === undefined || !(ordered || this.#isDue(block))) return block
    this.#drain(Infinity)
    const rooted = { ...block, root: this.#keep() }
    this.#rest(rooted, this.#parts.store.head.chain)
    return rooted
  }

  /** The newest checkpoint, and what its state says of a key. Throws `CMESH_STATE_NO_CHECKPOINT` where this node cannot show one. */
  show(contract: string, key: string): Shown & { readonly checkpoint: Checkpoint } {
    const newest = this.#newest
    if (newest === undefined) throw new CMeshError('CMESH_STATE_NO_CHECKPOINT', { reason: 'the log has none yet' })
    if (!this.#kept) {
      if (!this.#clean) throw new CMeshError('CMESH_STATE_NO_CHECKPOINT', { reason: 'this node was started after the last one' })
      if (this.#base !== undefined) throw new CMeshError('CMESH_STATE_NO_CHECKPOINT', { reason: 'this node has just started and is still building its tree' })
      this.#keep()
    }
    const { block: { epoch, seq, timeMs, root = NO_ROOT }, block, previous } = newest
    const rest = (newest.rest ??= restHash(encodeBlock(block)))
    const chain = checkpointChain(previous, checkpointHead({ root, epoch, seq, timeMs }), rest)
    return { ...this.#tree.show(contract, key), checkpoint: { epoch, seq, timeMs, root, previous, chain, rest } }
  }

  #keep(): Uint8Array {
    this.#kept = true
    return this.#tree.keep()
  }

  #rest(block: Block, previous: Uint8Array): void {
    this.#newest = { block, previous, rest: undefined }
    this.#restedMs = block.timeMs
    this.#nearMs = undefined
    this.#clean = true
  }

  #follow(block: Block): void {
    const { timeMs } = block
    if (this.#clean && (block.holds?.writes ?? block.transactions.findIndex(({ writes }) => writes.length > 0) + 1) > 0) {
      // What was built from the state as it is has been that of the checkpoint up to here.
      if (!this.#kept && this.#base === undefined) this.#keep()
      this.#clean = false
    }
    if (this.#nearMs !== undefined || timeMs < this.#restedMs + REST_MS) return
    this.#nearMs = timeMs
    this.#work()
  }

  #isDue({ timeMs }: Block): boolean {
    return this.#nearMs !== undefined && timeMs >= this.#nearMs + ROOT_MS
  }

  #note({ space, key }: Write): void {
    let changes = this.#changes.get(space)
    if (changes === undefined) this.#changes.set(space, changes = new Set())
    const before = changes.size
    changes.add(key)
    this.#changed += changes.size - before
  }

  readonly #work = (): void => {
    if (!this.#running || this.#timer !== undefined || this.#order === undefined) return
    if (this.#base === undefined && this.#nearMs === undefined) return
    const now = this.#parts.spentMs ?? ((): number => performance.now())
    const untilMs = now() + SLICE_MS
    let more: boolean
    do more = this.#drain(SLICE_KEYS); while (more && now() < untilMs)
    this.#tree.settle()
    if (!more) return
    this.#timer = setTimeout(() => {
      this.#timer = undefined
      this.#work()
    }, PAUSE_MS)
    this.#timer.unref()
  }

  /** Puts so many keys into the tree, of the state from the start first. Whether any are left. */
  #drain(most: number): boolean {
    let left = most
    while (this.#base !== undefined && left > 0) {
      const step = this.#base.next()
      if (step.done === true) this.#base = undefined
      else this.#tree.set(...step.value)
      left--
    }
    for (const [space, changes] of this.#changes) {
      const keys = this.#parts.store.space(space)
      for (const key of changes) {
        if (left <= 0) return true
        // A copy of its own: what a space gives may keep much more than the value.
        this.#tree.set(space, key, keys.get(key)?.slice())
        changes.delete(key)
        this.#changed--
        left--
      }
      this.#changes.delete(space)
    }
    return this.#base !== undefined
  }
}

/** What `0xSW:0x000:checkpoint` does. */
export function orderCheckpoint({ system, seq }: Pick<TransactionContext, 'system' | 'seq'>): Execution {
  system.setJson(CHECKPOINT_KEY, { seq })
  return jsonExecution({ seq })
}

/** All keys there are, those that come while it is gone over included. */
function* entriesOf(store: CheckpointsParts['store']): Generator<readonly [string, string, Uint8Array]> {
  for (const name of store.spaces()) for (const [key, value] of store.space(name)) yield [name, key, value]
}
