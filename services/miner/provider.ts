/**
 * Where the miner's requests come from. A source owns its place (a stream, a file): what it has handed over, what it may
 * forget, and what it had to skip. It never routes a request and never looks into one beyond its own notation.
 *
 * Invariants, the same for every source:
 * 1. At least once: an entry is forgotten only after its handler said so; one whose handling was cut short comes again.
 * 2. Bounded: no more than its own limit of entries are under way, and it takes no more in while they are.
 * 3. Whatever is no entry is counted, reported with its place and its reason, and skipped. It never stops the source.
 */

/**
 * A request as its source has it: a whole CMTP frame with its own token and the session that left it there, or an address that needs a
 * session lent to it.
 */
export type MinerEntry =
  | { readonly id: string, readonly frame: Uint8Array, readonly sid: string }
  | { readonly id: string, readonly fqmn: string }

/**
 * `done`: forget the entry. `retry`: bring it again later, within the source's limit of tries. `garbage`: it is no request;
 * count and report it, forget it.
 */
export type MinerOutcome = 'done' | 'retry' | { readonly garbage: string }

/** Never rejects. */
export type MinerHandler = (entry: MinerEntry) => Promise<MinerOutcome>

/** Something that was skipped. */
export interface GarbageReport {
  /** Where it stood, in the source's own terms: `byte 1042 of /var/log/app.log`, `message 17 of CMESH_MINE`. */
  readonly place: string
  readonly reason: string
}

export interface MinerSourceStats {
  /** Entries whose handler said `done`. */
  readonly done: number
  /** Tries that ended in `retry`. */
  readonly retried: number
  /** Entries given up after the source's limit of tries. They are in `reports` as well. */
  readonly abandoned: number
  /** Pieces that were no entry. */
  readonly garbage: number
  /** Entries under way now. */
  readonly inFlight: number
  /** What waits behind them, as far as is known. */
  readonly lag: number
  readonly lagUnit: 'entries' | 'bytes'
  /** The newest things skipped, oldest first; a bounded number of them. */
  readonly reports: readonly GarbageReport[]
}

export interface MinerSource {
  /** `stream`, `logfile`: what metrics are labelled with. */
  readonly name: string
  /** Memoised; a failed start undoes all it did. Entries come once it resolved. */
  start(handler: MinerHandler): Promise<void>
  /** Takes nothing more in, waits for the entries under way, keeps its place, lets go. Idempotent. */
  stop(): Promise<void>
  stats(): MinerSourceStats
}
