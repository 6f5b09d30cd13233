/**
 * The newest event of a channel, from memory where that is known to be true and from the stream otherwise. One read at a
 * time for a channel, whoever asks; a read that is known to be stale when it arrives is repeated.
 */
import type { MeshEvent } from '../../services/events/provider.ts'
import { pause } from '../jetstream/publish.ts'
import { LatestCache } from './latest-cache.ts'

/** One of the cache's two generations. */
const BOUNDS = { entries: 8_192, bytes: 16 * 1024 * 1024 }
/** How often a stale read is repeated, and the first wait between; together about a third of a second. */
const STALE_TRIES = 6
const STALE_FIRST_MS = 5

export class Newest {
  readonly #read: (channel: string) => Promise<MeshEvent | undefined>
  readonly #stopping: AbortSignal
  readonly #cache = new LatestCache(BOUNDS)
  readonly #reading = new Map<string, Promise<MeshEvent | undefined>>()

  constructor(read: (channel: string) => Promise<MeshEvent | undefined>, stopping: AbortSignal) {
    this.#read = read
    this.#stopping = stopping
  }

  /** At once for a channel that was asked about before; otherwise as the read says, or rejects as it does. */
  of(channel: string): MeshEvent | undefined | Promise<MeshEvent | undefined> {
    const known = this.#cache.get(channel)
    return known === undefined ? this.#readOnce(channel) : known.event
  }

  /** See `LatestCache.stored`. */
  stored(channel: string, seq: number, event?: MeshEvent): void {
    this.#cache.stored(channel, seq, event)
  }

  /** Events may have been missed. */
  clear(): void {
    this.#cache.clear()
  }

  #readOnce(channel: string): Promise<MeshEvent | undefined> {
    const before = this.#reading.get(channel)
    if (before !== undefined) return before
    const reading = this.#readFresh(channel)
    this.#reading.set(channel, reading)
    const settled = (): void => { this.#reading.delete(channel) }
    reading.then(settled, settled)
    return reading
  }

  async #readFresh(channel: string): Promise<MeshEvent | undefined> {
    for (let stale = 0; ; stale++) {
      const ticket = this.#cache.begin(channel)
      const event = await this.#read(channel)
      if (this.#cache.end(ticket, event)) return event
      const fed = this.#cache.get(channel)
      if (fed !== undefined) return fed.event
      // Known to be stored and not found, time and again: the stream has discarded it.
      if (stale >= STALE_TRIES) this.#cache.forget(channel)
      else await pause(STALE_FIRST_MS * 2 ** stale, this.#stopping)
    }
  }
}
