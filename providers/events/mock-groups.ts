/**
 * Groups in memory, as the mock keeps everything: position, who has what, how often it was handed out. An event in hand is due again when its
 * time is over; that is looked at when somebody takes, and whoever waits is woken by what is published or due.
 */
import { LIMITS } from '../../cmtp/limits.ts'
import type { EventGroups, GroupSettings, GroupState, MeshEvent, Taken, TakeOptions } from '../../services/events/provider.ts'
import { formatToken, noGroup, parseToken, tooMany } from './group-token.ts'

export interface MockGroupsParts {
  /** Events of the channel that are kept, the oldest first. */
  readonly events: (channel: string) => Iterable<MeshEvent>
  /** Sequence of the newest event of any channel. */
  readonly head: () => number
  /** Wall clock, ms since 1970. */
  readonly now: () => number
  /** Throws where the provider is stopped. */
  readonly assertOpen: () => void
}

interface Hand {
  readonly event: MeshEvent
  readonly again: boolean
  attempt: number
  dueMs: number
}

interface Group {
  readonly channel: string
  readonly name: string
  readonly settings: GroupSettings
  /** Sequence of the last event of the channel that was handed out. */
  cursor: number
  /** What is in hand, by kind and sequence. */
  readonly hands: Map<string, Hand>
  /** Under which ids events were put back. */
  readonly putBack: Set<string>
  readonly wakes: Set<() => void>
}

export class MockGroups implements EventGroups {
  readonly #parts: MockGroupsParts
  readonly #groups = new Map<string, Group>()

  constructor(parts: MockGroupsParts) {
    this.#parts = parts
  }

  async open(channel: string, group: string, settings: GroupSettings): Promise<GroupState> {
    this.#parts.assertOpen()
    const key = keyOf(channel, group)
    let found = this.#groups.get(key)
    if (found === undefined) {
      if (this.#groups.size >= LIMITS.eventGroups) throw tooMany(channel, group, LIMITS.eventGroups)
      const { from } = settings
      const cursor = typeof from === 'number' ? from - 1 : from === 'new' ? this.#parts.head() : 0
      found = { channel, name: group, settings: { ...settings }, cursor, hands: new Map(), putBack: new Set(), wakes: new Set() }
      this.#groups.set(key, found)
    }
    return this.#stateOf(found)
  }

  async state(channel: string, group: string): Promise<GroupState> {
    return this.#stateOf(this.#of(channel, group))
  }

  async list(channel: string): Promise<readonly GroupState[]> {
    this.#parts.assertOpen()
    const own = [...this.#groups.values()].filter(group => group.channel === channel)
    return own.map(group => this.#stateOf(group)).sort((a, b) => (a.group < b.group ? -1 : 1))
  }

  async take(channel: string, group: string, { max, waitMs }: TakeOptions): Promise<readonly Taken[]> {
    const endMs = this.#parts.now() + waitMs
    for (;;) {
      const own = this.#of(channel, group)
      const taken = this.#takeNow(own, max)
      const nowMs = this.#parts.now()
      if (taken.length > 0 || nowMs >= endMs) return taken
      const nextMs = Math.min(endMs, ...[...own.hands.values()].map(({ dueMs }) => dueMs))
      await woken(own, Math.max(1, nextMs - nowMs))
    }
  }

  async done(channel: string, group: string, token: string): Promise<void> {
    const own = this.#of(channel, group)
    own.hands.delete(handOf(channel, group, token))
  }

  async again(channel: string, group: string, token: string, delayMs: number): Promise<void> {
    const own = this.#of(channel, group)
    const hand = own.hands.get(handOf(channel, group, token))
    if (hand === undefined) return
    hand.dueMs = this.#parts.now() + delayMs
    wake(own)
  }

  async look(channel: string, group: string, token: string): Promise<{ readonly event: MeshEvent | undefined, readonly attempt: number }> {
    const { delivered, again, seq } = parseToken(channel, group, token)
    const own = this.#of(channel, group)
    const hand = own.hands.get(handOf(channel, group, token))
    const attempt = hand?.attempt ?? delivered
    if (again) return { event: hand?.event, attempt }
    for (const event of this.#parts.events(channel)) if (event.seq === seq) return { event, attempt }
    return { event: undefined, attempt }
  }

  async putBack(group: string, event: MeshEvent, id: string): Promise<void> {
    const own = this.#of(event.channel, group)
    if (own.putBack.has(id)) return
    own.putBack.add(id)
    own.hands.set(handKey(true, event.seq), { event, again: true, attempt: 0, dueMs: 0 })
    wake(own)
  }

  async remove(channel: string, group: string): Promise<boolean> {
    this.#parts.assertOpen()
    const own = this.#groups.get(keyOf(channel, group))
    if (own === undefined) return false
    this.#groups.delete(keyOf(channel, group))
    wake(own)
    return true
  }

  /** An event was stored. */
  stored(channel: string): void {
    for (const group of this.#groups.values()) if (group.channel === channel) wake(group)
  }

  stop(): void {
    for (const group of this.#groups.values()) wake(group)
    this.#groups.clear()
  }

  #of(channel: string, group: string): Group {
    this.#parts.assertOpen()
    const found = this.#groups.get(keyOf(channel, group))
    if (found === undefined) throw noGroup(channel, group)
    return found
  }

  #takeNow(group: Group, max: number): Taken[] {
    const nowMs = this.#parts.now()
    const due = [...group.hands.values()].filter(({ dueMs }) => dueMs <= nowMs).sort((a, b) => a.dueMs - b.dueMs)
    for (const event of this.#parts.events(group.channel)) {
      if (due.length >= max || group.hands.size >= LIMITS.groupInHand) break
      if (event.seq <= group.cursor) continue
      const hand = { event, again: false, attempt: 0, dueMs: 0 }
      group.cursor = event.seq
      group.hands.set(handKey(false, event.seq), hand)
      due.push(hand)
    }
    return due.slice(0, max).map(hand => {
      const { event, again } = hand
      hand.attempt++
      hand.dueMs = nowMs + group.settings.ackWaitMs
      const token = formatToken({ again, delivered: hand.attempt, seq: event.seq, consumerSeq: 0, timeNs: `${event.timeMs * 1e6}` })
      return { event, attempt: hand.attempt, token }
    })
  }

  #stateOf({ channel, name, settings, cursor, hands }: Group): GroupState {
    let waiting = 0
    for (const { seq } of this.#parts.events(channel)) if (seq > cursor) waiting++
    return { channel, group: name, settings, waiting, inHand: hands.size }
  }
}

function keyOf(channel: string, group: string): string {
  return `${channel} ${group}`
}

function handKey(again: boolean, seq: number): string {
  return `${again ? 1 : 0} ${seq}`
}

function handOf(channel: string, group: string, token: string): string {
  const { again, seq } = parseToken(channel, group, token)
  return handKey(again, seq)
}

function wake({ wakes }: Group): void {
  for (const waker of [...wakes]) waker()
}

/** Resolves when something may be there to take, at the latest after so many ms. */
function woken({ wakes }: Group, ms: number): Promise<void> {
  return new Promise(resolve => {
    const done = (): void => {
      clearTimeout(timer)
      wakes.delete(done)
      resolve()
    }
    const timer = setTimeout(done, ms)
    wakes.add(done)
  })
}
