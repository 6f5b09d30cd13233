/** Bounds of one call that neither a wire limit nor the schedule of gas gives. All are counted over the nested calls too. */
export const CALL_LIMITS = Object.freeze({
  /** Keys touched by writes and deletes. */
  writes: 4_096,
  events: 256,
  /** Messages to other addresses. */
  sends: 16,
  /** Length of an event's topic in bytes; the channel it names stays within `LIMITS.channelBytes`. */
  topicBytes: 128,
  /** Keys written or deleted, values, topics, event data, messages and outputs handed over, all together, undone ones included. */
  handedOverBytes: 1_048_576,
  /** What is kept of the reason a contract fails with. */
  reasonBytes: 1_024,
  /** Most entries that one scan gives. */
  scanEntries: 256,
  /** Largest list that one scan gives; an entry that is larger alone is given alone. */
  scanBytes: 65_536,
  /** Most contracts one inside the other, the called one included. */
  depth: 8,
  /** Largest input of a nested call. */
  inputBytes: 65_536,
})

/**
 * Stack slots of one call, nested calls included. A slot is what the rewriter counts for one parameter, local or operand, and takes
 * at most 8 bytes of the native stack in whatever tier the code runs; what is left of V8's default stack of 984 KB belongs to the
 * host. An engine that ran out of native stack first would answer differently from another, so this bound has to come first.
 */
export const STACK_SLOTS = 40_000

/** Slots that a nested call leaves to the host's own frames between two contracts. */
export const HOST_SLOTS = 2_048

/** What the start of a module may use. It is the same wherever the call stands, so that its outcome follows from the code alone. */
export const START = Object.freeze({ gas: 2_000_000, slots: 4_096 })
