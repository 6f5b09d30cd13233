/**
 * Results of views, kept while they are provably fresh: an entry holds the versions of all the contracts it read, and counts
 * only while those versions stand. What a view learnt from its caller is never given to another caller; what it learnt from
 * the clock is good for one block.
 *
 * An entry hangs on the route that it answers, which whoever asks has in hand already: to look for one is to read it. The cache has entries
 * in two generations, as `cmtp/two-generations.ts` has: when the young one is full it becomes the old one, and what was old and not asked for
 * since is taken off its route. What of another cache hangs on a route, or nothing of this one's any more, is no entry.
 */
import type { Route } from '../../cmtp/fqmn.ts'
import type { Reply } from '../call.ts'
import type { Observed } from '../contracts/provider.ts'

/** Counts the blocks that changed one contract's state or code. */
export interface ContractVersion {
  value: number
  /** The last of them, or one behind it where that is not known. */
  seq: number
}

/** What hangs on a route. The same goes on hanging there when another result takes the place of one that does not count any more. */
class Entry {
  readonly owner: ViewCache
  readonly route: Route
  /** The generation that it is in, counted by the turns of the cache. */
  turn = 0
  /** The first contract it read, which most read alone, and what its version was. */
  version: ContractVersion | undefined
  value = 0
  /** The others, and what theirs were. */
  others: readonly (readonly [version: ContractVersion, value: number])[] | undefined
  /** The caller it is for; `undefined` when the view did not ask. */
  caller: string | undefined
  /** The head it is for; `undefined` when the view asked neither sequence nor time. */
  seq: number | undefined
  reply: Reply
  /** What it takes of `ViewCacheOptions.bytes`. */
  weight = 0

  constructor(owner: ViewCache, route: Route, reply: Reply) {
    this.owner = owner
    this.route = route
    this.reply = reply
  }

  hold(versions: readonly ContractVersion[], caller: string | undefined, seq: number | undefined, reply: Reply): void {
    const [version, ...others] = versions
    this.version = version
    this.value = version?.value ?? 0
    this.others = others.length === 0 ? undefined : others.map(other => [other, other.value])
    this.caller = caller
    this.seq = seq
    this.reply = reply
    this.weight = this.route.text.length + reply.body.length
  }

  get stands(): boolean {
    if (this.version !== undefined && this.version.value !== this.value) return false
    return this.others === undefined || this.others.every(([version, value]) => version.value === value)
  }

  get from(): number {
    return this.seq ?? newest([...(this.version === undefined ? [] : [this.version]), ...(this.others ?? []).map(([version]) => version)])
  }
}

export interface ViewCacheOptions {
  /** Views kept at least; 0 turns the cache off. Default 16,384. */
  readonly entries?: number
  /** Bytes of results and their addresses kept at least. Default 33,554,432 (32 MiB). */
  readonly bytes?: number
}

export class ViewCache {
  readonly #most: number
  readonly #mostBytes: number
  #young: Entry[] = []
  #old: Entry[] = []
  #bytes = 0
  /** How often the young generation became the old one. */
  #turn = 1

  constructor(options: ViewCacheOptions = {}) {
    this.#most = options.entries ?? 16_384
    this.#mostBytes = options.bytes ?? 33_554_432
  }

  /** Whether it keeps anything. */
  get keeps(): boolean {
    return this.#most > 0
  }

  /** `span`, where given, is told from which block on the result has been this one. */
  get(route: Route, caller: string, seq: number, span?: { from: number }): Reply | undefined {
    const entry = this.#entryOf(route)
    if (entry === undefined) return undefined
    if (entry.turn !== this.#turn) this.#admit(entry)
    if (!entry.stands) return undefined
    if (entry.caller !== undefined && entry.caller !== caller) return undefined
    if (entry.seq !== undefined && entry.seq !== seq) return undefined
    if (span !== undefined) span.from = entry.from
    return entry.reply
  }

  set(route: Route, caller: string, seq: number, observed: Pick<Observed, 'caller' | 'clock'>, versions: readonly ContractVersion[], reply: Reply): void {
    if (!this.keeps) return
    const former = this.#entryOf(route)
    const entry = former ?? new Entry(this, route, reply)
    const before = former?.turn === this.#turn ? former.weight : undefined
    entry.hold(versions, observed.caller ? caller : undefined, observed.clock ? seq : undefined, reply)
    // A result in the place of a smaller one may be too much for the generation that has it.
    if (before !== undefined && this.#bytes - before + entry.weight <= this.#mostBytes) {
      this.#bytes += entry.weight - before
    } else {
      this.#bytes -= before ?? 0
      this.#admit(entry)
    }
    route.kept = entry
  }

  /** Forgets everything. */
  clear(): void {
    for (const entry of this.#young) takeOff(entry)
    for (const entry of this.#old) takeOff(entry)
    this.#young = []
    this.#old = []
    this.#bytes = 0
  }

  #entryOf({ kept }: Route): Entry | undefined {
    return kept instanceof Entry && kept.owner === this ? kept : undefined
  }

  /** Takes an entry among the young. */
  #admit(entry: Entry): void {
    if (this.#young.length >= this.#most || this.#bytes + entry.weight > this.#mostBytes) {
      const turn = this.#turn++
      // An old one that is among the young by now has their turn.
      for (const old of this.#old) if (old.turn !== turn) takeOff(old)
      this.#old = this.#young
      this.#young = []
      this.#bytes = 0
    }
    entry.turn = this.#turn
    this.#young.push(entry)
    this.#bytes += entry.weight
  }
}

/** Unless another hangs there by now. */
function takeOff(entry: Entry): void {
  if (entry.route.kept === entry) entry.route.kept = undefined
}

/** The last block that changed any of them. */
export function newest(versions: readonly ContractVersion[]): number {
  let seq = 0
  for (const version of versions) if (version.seq > seq) seq = version.seq
  return seq
}
