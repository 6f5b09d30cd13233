/**
 * Results of views, kept while they are provably fresh: an entry holds the versions of all the contracts it read, and counts
 * only while those versions stand. What a view learnt from its caller is never given to another caller; what it learnt from
 * the clock is good for one block.
 */
import type { Route } from '../../cmtp/fqmn.ts'
import { TwoGenerations } from '../../cmtp/two-generations.ts'
import type { Reply } from '../call.ts'
import type { Observed } from '../contracts/provider.ts'

/** Counts the blocks that changed one contract's state or code. */
export interface ContractVersion {
  value: number
  /** The last of them, or one behind it where that is not known. */
  seq: number
}

interface Entry {
  readonly versions: readonly ContractVersion[]
  /** What they were. */
  readonly values: readonly number[]
  /** The caller it is for; `undefined` when the view did not ask. */
  readonly caller: string | undefined
  /** The head it is for; `undefined` when the view asked neither sequence nor time. */
  readonly seq: number | undefined
  readonly reply: Reply
  /** What it takes of `ViewCacheOptions.bytes`. */
  readonly weight: number
}

const weightOf = (entry: Entry): number => entry.weight

export interface ViewCacheOptions {
  /** Views kept at least; 0 turns the cache off. Default 16,384. */
  readonly entries?: number
  /** Bytes of results and their addresses kept at least. Default 33,554,432 (32 MiB). */
  readonly bytes?: number
}

export class ViewCache {
  readonly #entries: TwoGenerations<Route, Entry> | undefined

  constructor(options: ViewCacheOptions = {}) {
    const entries = options.entries ?? 16_384
    if (entries > 0) this.#entries = new TwoGenerations({ entries, weight: options.bytes ?? 33_554_432 })
  }

  /** Whether it keeps anything. */
  get keeps(): boolean {
    return this.#entries !== undefined
  }

  /** `span`, where given, is told from which block on the result has been this one. */
  get(route: Route, caller: string, seq: number, span?: { from: number }): Reply | undefined {
    const entry = this.#entries?.get(route, weightOf)
    if (entry === undefined || !stands(entry)) return undefined
    if (entry.caller !== undefined && entry.caller !== caller) return undefined
    if (entry.seq !== undefined && entry.seq !== seq) return undefined
    if (span !== undefined) span.from = entry.seq ?? newest(entry.versions)
    return entry.reply
  }

  set(route: Route, caller: string, seq: number, observed: Pick<Observed, 'caller' | 'clock'>, versions: readonly ContractVersion[], reply: Reply): void {
    const weight = route.text.length + reply.body.length
    this.#entries?.set(route, {
      versions,
      values: versions.map(version => version.value),
      caller: observed.caller ? caller : undefined,
      seq: observed.clock ? seq : undefined,
      reply,
      weight,
    }, weight)
  }

  /** Forgets everything. */
  clear(): void {
    this.#entries?.clear()
  }
}

/** The last block that changed any of them. */
export function newest(versions: readonly ContractVersion[]): number {
  let seq = 0
  for (const version of versions) if (version.seq > seq) seq = version.seq
  return seq
}

function stands({ versions, values }: Entry): boolean {
  for (let i = 0; i < versions.length; i++) if (versions[i]?.value !== values[i]) return false
  return true
}
