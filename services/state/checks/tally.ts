/**
 * What the answers of members to one read amount to. Each says a result and the stretch of the log on which it is that; results are compared
 * only where stretches meet. Pure.
 */
import type { CheckResult } from './wire.ts'

/** A member's word. */
export interface Word extends CheckResult {
  readonly did: string
}

export interface Verdict {
  /** `agreed`: a quorum, this node among them, has this node's result; `outvoted`: a quorum has another one; `open`: neither. */
  readonly kind: 'agreed' | 'outvoted' | 'open'
  /** Members with this node's result at one sequence, this node included; of those that outvote it their number. */
  readonly count: number
  /** That sequence. */
  readonly seq: number
}

/** `least`: agreement at an earlier sequence is none. */
export function tally(own: Word, others: readonly Word[], quorum: number, least: number): Verdict {
  const first = Math.max(own.from, least)
  const agreed = mostAtOnce(own, first, others.filter(({ hash }) => hash === own.hash))
  if (agreed.count + 1 >= quorum) return { kind: 'agreed', count: agreed.count + 1, seq: agreed.seq }
  for (const hash of new Set(others.map(other => other.hash))) {
    if (hash === own.hash) continue
    const { count, seq } = mostAtOnce(own, first, others.filter(other => other.hash === hash))
    if (count >= quorum) return { kind: 'outvoted', count, seq }
  }
  return { kind: 'open', count: agreed.count + 1, seq: agreed.seq }
}

/** Whose result is another than this node's, at a sequence that both speak of. */
export function differing(own: Word, others: readonly Word[]): readonly Word[] {
  return others.filter(other => other.hash !== own.hash && meet(own, other))
}

/** Whether both speak of one sequence at least. */
export function meet(one: CheckResult, other: CheckResult): boolean {
  return one.from <= other.to && other.from <= one.to
}

/** The last sequence of `own`, from `first` on, of which the most of them speak, and how many they are. */
function mostAtOnce(own: Word, first: number, words: readonly Word[]): { readonly count: number, readonly seq: number } {
  let best = { count: 0, seq: own.to }
  // The most of them meet where one of them begins.
  for (const start of [first, ...words.map(({ from }) => from)]) {
    if (start < first || start > own.to) continue
    const there = words.filter(({ from, to }) => from <= start && start <= to)
    const seq = Math.min(own.to, ...there.map(({ to }) => to))
    if (there.length > best.count || (there.length === best.count && there.length > 0 && seq > best.seq)) best = { count: there.length, seq }
  }
  return best
}
