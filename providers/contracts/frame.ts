/**
 * One call under way: what the host functions read and fill, and what ends it. A frame belongs to one call and is never used
 * again; nothing in it is a view into the contract's memory but `memory` itself.
 */
import type { ContractCall, ContractFailure } from '../../services/contracts/provider.ts'
import type { EmittedEvent, Space } from '../../services/state/provider.ts'
import { Journal } from './journal.ts'
import { MemoryView } from './memory.ts'

/** Bounds of one call that no wire limit gives. */
export const CALL_LIMITS = Object.freeze({
  /** Keys touched by writes and deletes. */
  writes: 4_096,
  events: 256,
  /** Length of an event's topic in bytes; the channel it names stays within `LIMITS.channelBytes`. */
  topicBytes: 128,
  /** Keys written or deleted, values, topics, event data and output handed over, all together. */
  handedOverBytes: 1_048_576,
  /** What is kept of the reason a contract fails with. */
  reasonBytes: 1_024,
})

/** A contract's own failure. Never leaves the engine: it becomes a result. */
export class ContractStop extends Error {
  readonly failure: ContractFailure
  readonly reason: string

  constructor(failure: ContractFailure, reason: string) {
    super(reason)
    this.failure = failure
    this.reason = reason
  }
}

const EMPTY = new Uint8Array(0)
const NO_MEMORY = new MemoryView(undefined)

export class Frame {
  readonly call: ContractCall
  readonly journal: Journal
  readonly events: EmittedEvent[] = []
  output: Uint8Array = EMPTY
  register: Uint8Array | undefined
  handedOver = 0
  readCaller = false
  readClock = false
  /** The contract's `_start` runs: no context, no state. */
  starting = false
  /** What ended the call. */
  stopped: unknown
  /** The memory of the instance that runs; none before there is one. */
  memory: MemoryView = NO_MEMORY

  constructor(call: ContractCall, space: Space) {
    this.call = call
    this.journal = new Journal(space)
  }
}
