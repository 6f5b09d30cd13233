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
 * 4. After `open`, spaces, head and the blocks handed to `onBlock` are exactly what was committed, in order.
 */

/** One contract's state: keys are byte strings in latin1, values are never views into something larger. */
export type Space = Map<string, Uint8Array>

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
}

export interface StateHead {
  readonly epoch: number
  /** Sequence of the last block; 0 for an empty log. */
  readonly seq: number
  readonly timeMs: number
  /** 32 bytes: chain(i) follows from chain(i−1) and block(i) (`chainAfter`), 32 zero bytes for the empty log. */
  readonly chain: Uint8Array
}

export interface OpenReport {
  readonly head: StateHead
  /** Blocks read back. */
  readonly replayed: number
  readonly openMs: number
}

export interface StateStore {
  /** What an acknowledged commit survives: nothing, kill −9 of every process, a power cut. */
  readonly durability: 'memory' | 'os' | 'disk'
  /** Loads the log; memoised. `onBlock` sees every block in order, after its writes are in the spaces. */
  open(onBlock: (block: Block) => void): Promise<OpenReport>
  readonly head: StateHead
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
