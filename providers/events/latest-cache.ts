/**
 * The newest event of the channels that somebody asked about, so that asking again costs one look-up. It does no I/O and
 * keeps no time; its owner tells it what it hears.
 *
 * Invariants:
 * 1. It answers for a channel only while it holds the event with the highest sequence it was told of for that channel.
 *    An older event that arrives late, from a get that was under way, changes nothing.
 * 2. It holds at most two generations, each bounded in entries and in bytes; the older is dropped when the younger is full.
 * 3. Nothing that was read before a `clear` gets in after it.
 */
import type { MeshEvent } from '../../services/events/provider.ts'

export interface LatestCacheBounds {
  /** Entries of one generation. */
  readonly entries: number
  /** Bytes of data of one generation. */
  readonly bytes: number
}

interface Entry {
  /** The highest sequence known to be stored since the entry stands. */
  floor: number
  /** A read has ended, so that `floor` counts in what was stored before the entry stood. */
  settled: boolean
  /** `event` is the newest. Without an event: the channel has none. */
  known: boolean
  event: MeshEvent | undefined
}

/** Handed out when a read begins and given back with what it found; opaque to its holder. */
export interface ReadTicket {
  readonly channel: string
  readonly entry: object
}

/** What an entry costs beside its data: the map's slot, the entry, the name. */
const ENTRY_BYTES = 256

export class LatestCache {
  readonly #bounds: LatestCacheBounds
  #young = new Map<string, Entry>()
  #old = new Map<string, Entry>()
  #youngBytes = 0

  constructor(bounds: LatestCacheBounds) {
    this.#bounds = bounds
  }

  /** The entry when the cache can answer for the channel: an event, or `undefined` in it for none. */
  get(channel: string): { readonly event: MeshEvent | undefined } | undefined {
    const entry = this.#entry(channel)
    return entry?.known === true ? entry : undefined
  }

  /** An event is stored. With `event` the cache can answer for it; without, it must be read first. */
  stored(channel: string, seq: number, event?: MeshEvent): void {
    const entry = this.#entry(channel)
    // Nobody asked about this channel: whoever does will read it.
    if (entry === undefined || seq < entry.floor) return
    if (seq > entry.floor) {
      entry.floor = seq
      entry.known = false
      entry.event = undefined
    }
    // Before the first read ended this may be an old event that the feed brings late.
    if (event !== undefined && entry.settled && !entry.known) this.#fill(entry, event)
  }

  /** A read begins: from here on events stored on the channel are noted, so that its answer can be told to be stale. */
  begin(channel: string): ReadTicket {
    let entry = this.#entry(channel)
    if (entry === undefined) {
      entry = { floor: 0, settled: false, known: false, event: undefined }
      this.#insert(channel, entry)
    }
    return { channel, entry }
  }

  /** A read ended with the channel's newest event, or none. Returns whether that is still the newest as far as is known. */
  end(ticket: ReadTicket, event: MeshEvent | undefined): boolean {
    const entry = this.#entry(ticket.channel)
    const seq = event?.seq ?? 0
    if (entry !== undefined && seq < entry.floor) return false
    // Another entry than the one of the beginning does not know what was stored in between: it was dropped meanwhile.
    if (entry !== undefined && entry === ticket.entry) {
      entry.floor = seq
      entry.settled = true
      this.#fill(entry, event)
    }
    return true
  }

  /** Drops what is known of one channel, floor included. */
  forget(channel: string): void {
    this.#young.delete(channel)
    this.#old.delete(channel)
  }

  /** Events may have been missed: nothing held, and nothing being read, may be answered with any more. */
  clear(): void {
    this.#young.clear()
    this.#old.clear()
    this.#youngBytes = 0
  }

  #entry(channel: string): Entry | undefined {
    const young = this.#young.get(channel)
    if (young !== undefined) return young
    const old = this.#old.get(channel)
    if (old !== undefined) {
      this.#old.delete(channel)
      this.#insert(channel, old)
    }
    return old
  }

  #insert(channel: string, entry: Entry): void {
    if (this.#young.size >= this.#bounds.entries) this.#rotate()
    this.#young.set(channel, entry)
    this.#charge(ENTRY_BYTES + (entry.event?.data.length ?? 0))
  }

  #fill(entry: Entry, event: MeshEvent | undefined): void {
    entry.known = true
    entry.event = event
    this.#charge(event?.data.length ?? 0)
  }

  /** Data that is replaced is not subtracted: the sum errs towards dropping a generation early, never towards holding more. */
  #charge(bytes: number): void {
    this.#youngBytes += bytes
    if (this.#youngBytes >= this.#bounds.bytes) this.#rotate()
  }

  #rotate(): void {
    this.#old = this.#young
    this.#young = new Map()
    this.#youngBytes = 0
  }
}
