/**
 * Events: durable, ordered messages on channels. A provider keeps one sequence per channel.
 *
 * Invariants, proven by `test/conformance/events.ts`:
 * 1. `publish` resolves once the event is stored; its sequence in the channel is then fixed. Sequences of a channel rise; they need not be dense.
 * 2. A second `publish` with an id the provider has seen (within its documented window) stores nothing and gives the first sequence with `duplicate`.
 * 3. `latest` on this provider sees an event as soon as its `publish` resolved.
 * 4. Of a group each event is in the hand of one taker at a time; whoever lets it go, or says nothing for the group's `ackWaitMs`, gives it to
 *    the next. Nothing of a group or of a letter is in a node's memory alone, where a provider keeps anything at all.
 */

export interface MeshEvent {
  readonly channel: string
  /** 1 and up. */
  readonly seq: number
  /** When it was stored, ms since 1970. */
  readonly timeMs: number
  readonly data: Uint8Array
  /** The trace of the request that published it, and its span as the parent. */
  readonly traceparent?: string
  /** What it came from; not there of events that the mesh itself publishes. */
  readonly origin?: EventOrigin
}

/** The request that published an event, or whose transaction emitted it: what its receipt is found by. */
export interface EventOrigin {
  /** Its message id, 32 lower-case hex digits. */
  readonly request: string
  /** Of an event of a contract, the sequence of the block that holds it. */
  readonly block?: number
  /** And which of its transaction's events it is, from 0. */
  readonly index?: number
}

export interface PublishFields extends Pick<MeshEvent, 'traceparent' | 'origin'> {
  /** See 2 above. */
  readonly id?: string
}

export interface PublishResult {
  readonly seq: number
  readonly duplicate: boolean
}

export interface EventRange {
  /** First sequence wanted, inclusive. Default 1. */
  readonly from?: number
  /** Last sequence wanted, inclusive. Default: the newest. */
  readonly to?: number
  /** 1 to `LIMITS.eventRange`. Default 100. */
  readonly limit?: number
}

export interface EventSubscription {
  /** Stops at once. Idempotent. */
  close(): void
}

/** Fixed when a group is made. */
export interface GroupSettings {
  /** Events from here on: those to come, all there are, or from a sequence. */
  readonly from: 'new' | 'first' | number
  /** How long whoever took an event may keep it, in ms. */
  readonly ackWaitMs: number
  /** How often an event is handed out before it is a dead letter. The provider keeps the number; counting is its caller's. */
  readonly attempts: number
  /** First pause after an attempt that failed, in ms; the caller doubles it. */
  readonly backoffMs: number
}

export interface GroupState {
  readonly channel: string
  readonly group: string
  readonly settings: GroupSettings
  /** Events that nobody took yet. */
  readonly waiting: number
  /** Events that somebody took, or that wait for their next attempt. */
  readonly inHand: number
}

export interface Taken {
  readonly event: MeshEvent
  /** 1 and up: how often it was handed out, this time included. */
  readonly attempt: number
  /** What the event is let go by: digits and dots. */
  readonly token: string
}

export interface TakeOptions {
  /** 1 and up. */
  readonly max: number
  /** How long to wait for the first one, in ms; 0 for not at all, which may take a few ms. */
  readonly waitMs: number
}

/** Groups of takers, by channel and name. A token that is none is `CMESH_EVENTS_GROUP`; a group that is not there `CMESH_EVENTS_NO_GROUP`. */
export interface EventGroups {
  /** Makes the group; one that is there stays as it is. Rejects with `CMESH_EVENTS_GROUP` past `LIMITS.eventGroups`. */
  open(channel: string, group: string, settings: GroupSettings): Promise<GroupState>
  state(channel: string, group: string): Promise<GroupState>
  list(channel: string): Promise<readonly GroupState[]>
  /** The oldest that nobody has, at most `max`, and fewer where the provider does not know of more yet; those put back by `again` or `putBack` too. */
  take(channel: string, group: string, options: TakeOptions): Promise<readonly Taken[]>
  /** Done with: it never comes again. A second time is none. */
  done(channel: string, group: string, token: string): Promise<void>
  /** Let go: it comes again after so many ms. */
  again(channel: string, group: string, token: string, delayMs: number): Promise<void>
  /**
   * The event of a token, and how often it was handed out: as the provider has counted, where it can tell, else as the token says. No event
   * where the channel keeps it no more.
   */
  look(channel: string, group: string, token: string): Promise<{ readonly event: MeshEvent | undefined, readonly attempt: number }>
  /** Gives an event to this group once more, with the attempts counted anew. A second time under one id within 120 s is none. */
  putBack(group: string, event: MeshEvent, id: string): Promise<void>
  /** Ends the group with its position. Gives whether there was one. */
  remove(channel: string, group: string): Promise<boolean>
}

/** A letter as it is kept: bytes under an id. */
export interface StoredLetter {
  readonly id: string
  /** Where it stands among all, 1 and up. */
  readonly place: number
  readonly data: Uint8Array
}

/** Dead letters, the oldest of which go when there is no room. An id is 1 to 64 lower-case hex digits. */
export interface DeadLetters {
  /** Keeps a letter; one of that id that is there stays as it is. Of one owner, which is any text, there is room for a part of all: past it its oldest go. */
  put(id: string, data: Uint8Array, owner: string): Promise<void>
  get(id: string): Promise<StoredLetter | undefined>
  /** From a place on, the oldest first. */
  list(from: number, limit: number): Promise<readonly StoredLetter[]>
  /** Whether it was there. */
  remove(id: string): Promise<boolean>
}

export interface EventsProvider {
  readonly groups: EventGroups
  readonly letters: DeadLetters
  /** Memoised; a failed start undoes all it did. */
  start(): Promise<void>
  publish(channel: string, data: Uint8Array, options?: PublishFields): Promise<PublishResult>
  /** The newest event, `undefined` for a channel that has none. Answers synchronously when it can: this is a hot path. */
  latest(channel: string): MeshEvent | undefined | Promise<MeshEvent | undefined>
  range(channel: string, range: EventRange): Promise<readonly MeshEvent[]>
  count(channel: string): Promise<number>
  /** Events stored from now on, in the channel's order. The handler must not throw. */
  subscribe(channel: string, handler: (event: MeshEvent) => void): EventSubscription
  /** Settles what is under way, then lets go. Idempotent. */
  stop(): Promise<void>
}
