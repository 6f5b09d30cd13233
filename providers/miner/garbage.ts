/**
 * What a source skipped: counted in full, kept in a bounded list, told of at a bounded rate. It quotes no content, which
 * may be anything, only where it stood and what was wrong.
 */
import { CMeshError } from '../../cmtp/errors.ts'
import type { GarbageReport } from '../../services/miner/provider.ts'

/** How many reports are kept, the newest. */
const KEPT = 32
/** One is told of in this time; the next one says how many were not. */
const QUIET_MS = 10_000

export interface GarbageParts {
  /** `log file`, `stream`: what the message calls the source. */
  readonly source: string
  readonly onFailure: (failure: CMeshError) => void
  /** Monotonic, in ms. */
  readonly now: () => number
}

export class Garbage {
  readonly #parts: GarbageParts
  readonly #reports: GarbageReport[] = []
  #count = 0
  #untold = 0
  #toldMs = -Infinity

  constructor(parts: GarbageParts) {
    this.#parts = parts
  }

  get count(): number {
    return this.#count
  }

  /** Oldest first. */
  get reports(): readonly GarbageReport[] {
    return [...this.#reports]
  }

  /** Counts it as garbage and reports it. */
  add(place: string, reason: string): void {
    this.#count++
    this.report(place, reason)
  }

  /** Reports something skipped that is counted elsewhere. */
  report(place: string, reason: string): void {
    this.#reports.push({ place, reason })
    if (this.#reports.length > KEPT) this.#reports.shift()
    const now = this.#parts.now()
    if (now - this.#toldMs < QUIET_MS) {
      this.#untold++
      return
    }
    const more = this.#untold === 0 ? '' : ` (and ${this.#untold} more since the last report)`
    this.#untold = 0
    this.#toldMs = now
    const { source, onFailure } = this.#parts
    onFailure(new CMeshError('CMESH_MINER_ENTRY', { entry: place, source, reason: `${reason}${more}` }))
  }
}
