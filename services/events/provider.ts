/**
 * Events: durable, ordered messages on channels. A provider keeps one sequence per channel.
 *
 * Invariants, proven by `test/conformance/events.ts`:
 * 1. `publish` resolves once the event is stored; its sequence in the channel is then fixed. Sequences of a channel rise; they need not be dense.
 * 2. A second `publish` with an id the provider has seen (within its documented window) stores nothing and gives the first sequence with `duplicate`.
 * 3. `latest` on this provider sees an event as soon as its `publish` resolved.
 */

export interface MeshEvent {
  readonly channel: string
  /** 1 and up. */
  readonly seq: number
  /** When it was stored, ms since 1970. */
  readonly timeMs: number
  readonly data: Uint8Array
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

export interface EventsProvider {
  /** Memoised; a failed start undoes all it did. */
  start(): Promise<void>
  publish(channel: string, data: Uint8Array, options?: { readonly id?: string }): Promise<PublishResult>
  /** The newest event, `undefined` for a channel that has none. Answers synchronously when it can: this is a hot path. */
  latest(channel: string): MeshEvent | undefined | Promise<MeshEvent | undefined>
  range(channel: string, range: EventRange): Promise<readonly MeshEvent[]>
  count(channel: string): Promise<number>
  /** Events stored from now on, in the channel's order. The handler must not throw. */
  subscribe(channel: string, handler: (event: MeshEvent) => void): EventSubscription
  /** Settles what is under way, then lets go. Idempotent. */
  stop(): Promise<void>
}
