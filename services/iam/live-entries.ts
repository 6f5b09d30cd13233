/** The revocations that something can still match, each once: what a node tells one that starts, and knows again when it hears it twice. */
import { canonicalJson } from '../../cmtp/identity/canonical-json.ts'
import type { RevocationEntry } from './revocation-log.ts'

export class LiveEntries {
  readonly #now: () => number
  readonly #keepMs: number
  /** In the order in which they came. */
  readonly #entries = new Map<string, RevocationEntry>()
  #sweepMs = 0

  /** `keepMs`: the longest life of a token. */
  constructor(now: () => number, keepMs: number) {
    this.#now = now
    this.#keepMs = keepMs
  }

  /** Whether it is news: not too old to match anything, and not here yet. */
  add(entry: RevocationEntry): boolean {
    const afterMs = this.#now() - this.#keepMs
    if (afterMs > this.#sweepMs) {
      // Each is looked at twice at most on average, since a sweep leaves out half a life.
      for (const [key, { atMs }] of this.#entries) if (atMs < afterMs) this.#entries.delete(key)
      this.#sweepMs = this.#now() - this.#keepMs / 2
    }
    if (entry.atMs < afterMs) return false
    const key = canonicalJson(entry)
    if (this.#entries.has(key)) return false
    this.#entries.set(key, entry)
    return true
  }

  /** Those that can still match something. */
  get all(): readonly RevocationEntry[] {
    const afterMs = this.#now() - this.#keepMs
    return [...this.#entries.values()].filter(({ atMs }) => atMs >= afterMs)
  }
}
