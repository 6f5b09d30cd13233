/**
 * Where state is kept. A store holds every contract's keys in memory, rebuilt from its log when it opens, and appends
 * one block per ordered message. It neither orders nor executes: the applier (`services/state/applier.ts`) does, and
 * hands the store the outcome.
 *
 * Invariants a provider keeps, proven by `test/conformance/state.ts`:
 * 1. Sequences are dense: `commit` takes `head.seq + 1` only, and rejects anything else with `CMESH_STATE_HALTED`.
 * 2. The bytes of a block follow from the block alone, so that replicas of one order hold equal logs and equal chains.
 * 3. A commit that resolved survives what `durability` says. A commit that failed fails the store for good: every later
 *    one rejects, since memory is then ahead of the log and only a restart makes them equal.
 * 4. After `open`, spaces, head and the blocks handed to `onBlock` are exactly what was committed, in order; with `recall`, without the
 *    oldest blocks, as `Recall` says.
 */

/** One contract's state: keys are byte strings in latin1. Values are never written again, neither those handed over nor those handed out. */
export interface Space {
  readonly size: number
  get(key: string): Uint8Array | undefined
  /** The same for a key that stands in `bytes`, where that takes no text of it. */
  getBytes?(bytes: Uint8Array, at: number, length: number): Uint8Array | undefined
  has(key: string): boolean
  set(key: string, value: Uint8Array): unknown
  /** Gives whether it was there. */
  delete(key: string): boolean
  clear(): void
  /** In no order that means anything. What changes meanwhile may be met as it was or as it is, and more than once. */
  keys(): Iterable<string>
  [Symbol.iterator](): Iterator<[string, Uint8Array]>
}

/** The space that holds the mesh's own records: contracts, names, grants, members. */
export const SYSTEM_SPACE = '0x000'

export interface Write {
  readonly space: string
  readonly key: string
  /** `undefined` deletes the key. */
  readonly value: Uint8Array | undefined
}

export interface EmittedEvent {
  readonly contract: string
  readonly topic: string
  readonly data: Uint8Array
}

/** What one transaction did. Whole enough to answer `0xC:tx:<id>` and to rebuild state without running code. */
export interface TransactionRecord {
  /** 32 lower-case hex digits. */
  readonly id: string
  readonly status: number
  readonly gas: bigint
  readonly writes: readonly Write[]
  readonly events: readonly EmittedEvent[]
  /** The reply's body: a result, or the wire error of a failed transaction. */
  readonly output: Uint8Array
}

export interface Block {
  readonly epoch: number
  readonly seq: number
  /** Log time in ms since 1970: from the message, never from a clock of the replica. */
  readonly timeMs: number
  /** The ordered message as it came, so that it can be replayed. */
  readonly message: Uint8Array
  readonly transactions: readonly TransactionRecord[]
  /** 32 bytes: the root of the state after this block, where it is a checkpoint. */
  readonly root?: Uint8Array
  /** How much it holds, where that is known without a look at its transactions: those of a block that was read back are read when they are asked for. */
  readonly holds?: BlockHolds
}

export interface BlockHolds {
  readonly transactions: number
  readonly writes: number
  readonly events: number
  /** Bytes of its outputs. */
  readonly outputBytes: number
  /** Bytes of all of it. */
  readonly bytes: number
}

export interface StateHead {
  readonly epoch: number
  /** Sequence of the last block; 0 for an empty log. */
  readonly seq: number
  readonly timeMs: number
  /** 32 bytes: chain(i) follows from chain(i−1) and block(i) (`chainAfter`), 32 zero bytes for the empty log. */
  readonly chain: Uint8Array
}

/** The earliest place from where blocks are remembered by who sees them. */
export interface Recollection {
  /** Of the first block that is. */
  readonly seq: number
  /** The first transactions of that block that are not. */
  readonly skip: number
  /** State before that block. */
  readonly before: { readonly epoch: number, readonly seq: number, readonly chain: Uint8Array }
}

/** What a store needs to know to read back less than the whole log: who sees blocks has to end up as if it had seen all of them. */
export interface Recall {
  /** Asked when a snapshot is taken, of the state that is. `undefined`: nothing may be left out just now. */
  since(): Recollection | undefined
  /** A block that has to be seen, by its sequence; 0 for none. */
  readonly sees: number
}

/** Where a block that is read back stands. */
export interface ReadBack {
  readonly before: { readonly epoch: number, readonly seq: number, readonly chain: Uint8Array }
  /** Its first transactions that are not to be remembered. */
  readonly skip: number
}

export interface OpenReport {
  readonly head: StateHead
  /** Blocks read back. */
  readonly replayed: number
  readonly openMs: number
}

/** Chain values of sequences that are multiples of it are at hand in every replica, however old. */
export const CHAIN_STEP = 256

/** A place in the log that names everything up to it: what a quorum of members signs. */
export type LogAnchor = Pick<StateHead, 'epoch' | 'seq' | 'chain'>

/** Blocks received from another replica that are no part of the log yet, in numbered parts. They do not outlive the process. */
export interface HeldBlocks {
  /** Appends blocks to a part. Bytes may be reused after it resolves. Rejects with `CMESH_STATE_FULL`. */
  write(part: number, blocks: readonly Uint8Array[]): Promise<void>
  /** Forgets a part. */
  drop(part: number): Promise<void>
  /**
   * Takes the parts into the log, in the order given, without executing anything: `onBlock` sees each block after its writes are in the
   * spaces. Resolves when all are durable. A block that does not come next or does not decode rejects with `CMESH_STATE_CORRUPT`, and
   * those before it stay: who calls has checked the bytes. Nothing else may be committed meanwhile.
   */
  ingest(parts: readonly number[], onBlock: (block: Block) => void): Promise<StateHead>
  /** The bytes of the blocks in the parts, in the order given, in memory of their own; several at once. Rejects with `CMESH_STATE_CORRUPT`. */
  read(parts: readonly number[]): AsyncIterable<readonly Uint8Array[]>
  /** Forgets everything. Idempotent. */
  discard(): Promise<void>
}

/** What one replica gives another: the bytes of its blocks, and how it takes in those of others. Usable once the store is open. */
export interface ReplicaLog {
  /**
   * The bytes of durable blocks from sequence `from`, at most up to `to` and up to `maxBytes` together, but at least one. Rejects with
   * `CMESH_STATE_CATCH_UP` for a sequence that the log does not hold.
   */
  read(from: number, to: number, maxBytes: number): Promise<readonly Uint8Array[]>
  /** The chain value behind sequence `seq`, 0 to the head's. The newest 16,384 and every 256th cost nothing, others reading up to 255 blocks. */
  chainAt(seq: number): Promise<Uint8Array>
  /** An empty place for received blocks; what an earlier one left behind is gone. */
  hold(): Promise<HeldBlocks>
  readonly taken: TakenNotes
  /** Notes durably that this log is not the quorum's from `seq` on: the next opening puts it and its key aside and begins an empty one. */
  markDiverged(note: DivergenceNote): Promise<void>
}

/** On whose word blocks of others were taken in. */
export interface TakenNote {
  /** Where the log ended before, and where it was to end. */
  readonly from: number
  readonly seq: number
  /** DIDs of those that vouched for it. */
  readonly by: readonly string[]
}

/** One note, which goes with the log where that is put aside. */
export interface TakenNotes {
  /** Rejects with `CMESH_STATE_CORRUPT` for one that cannot be read. */
  read(): Promise<TakenNote | undefined>
  /** Resolves when it is on the disk. Rejects with `CMESH_STATE_FULL`. */
  write(note: TakenNote): Promise<void>
  forget(): Promise<void>
}

export interface DivergenceNote {
  /** First sequence that differs. */
  readonly seq: number
  /** Where this replica stood, and what others say, for who looks into it. */
  readonly own: string
  readonly peers: readonly string[]
}

export interface StateStore {
  /** What an acknowledged commit survives: nothing, kill −9 of every process, a power cut. */
  readonly durability: 'memory' | 'os' | 'disk'
  /**
   * Loads the log; memoised. `onBlock` sees every block in order, after its writes are in the spaces. With `recall` the store may take
   * and use snapshots: it sees the blocks from where it remembers on, and `replayed` counts those.
   */
  open(onBlock: (block: Block, at: ReadBack) => void, recall?: Recall): Promise<OpenReport>
  readonly head: StateHead
  /** Missing where no blocks are kept: such a replica neither gives nor takes any. */
  readonly replica?: ReplicaLog
  /** The live map of one contract, made when missing. The applier alone changes it. */
  space(name: string): Space
  /** Names of the spaces that exist, unordered. */
  spaces(): Iterable<string>
  /**
   * Appends the outcome of one ordered message. The applier has put the writes into the spaces already. Advances `head`
   * at once and resolves when the block is durable; blocks handed over while an append runs go into the next one (group commit).
   * Rejects with `CMESH_STATE_FULL` or `CMESH_STATE_HALTED`.
   */
  commit(block: Block): Promise<void>
  /**
   * Hands the durable blocks of sequences `from` to `to` to `each`, in order; what was handed over before is waited for. `to` is at most
   * the head's. Rejects with what `each` throws and with `CMESH_STATE_CORRUPT`. Missing where no blocks are kept.
   */
  readBack?(from: number, to: number, each: (block: Block) => void): Promise<void>
  /** Resolves when everything handed to `commit` is durable. */
  flush(): Promise<void>
  /** Flushes and lets go of the files. Idempotent. */
  close(): Promise<void>
}
