/**
 * What a receiver accepts, in one record. Every bound on the wire is read from here and documented in
 * `docs/limits.md`; a value past its bound is refused with 413 or 400 before anything is allocated for it.
 */
export const LIMITS = Object.freeze({
  /** Longest FQMN in bytes of UTF-8. Bounds the parser and every log line that quotes an address. */
  fqmnBytes: 4_096,
  /** Most opcodes in one FQMN, the outer one included. */
  fqmnDepth: 3,
  /** Deepest nesting of arrays and objects in arguments; a JSON parser behind us must not be driven into its stack limit. */
  argumentDepth: 64,
  /** Longest mesh name in bytes of its normal form (RFC 1035 section 2.3.4). */
  nameBytes: 253,
  /** Longest label of a mesh name in bytes of its normal form (RFC 1035 section 2.3.4). */
  labelBytes: 63,
  /** Longest compact session token in bytes. A token of this mesh is about 650. */
  tokenBytes: 4_096,
  /** Most headers on one message. */
  headerCount: 64,
  /** All headers of one message together, encoded, in bytes. */
  headerBytes: 16_384,
  /** Largest inline body in bytes (1 MiB). */
  bodyBytes: 1_048_576,
  /** Most requests in one batch frame. */
  batchEntries: 1_024,
  /** Most replies in one bundle. */
  bundleReplies: 256,
  /** Largest frame in bytes: one full body, its headers, token and address, or a batch of them. */
  frameBytes: 1_179_648,
  /** Most hops a message may take. */
  hops: 16,
  /** Farthest deadline a receiver honours, in ms from its own clock; later ones are refused. */
  deadlineAheadMs: 300_000,
  /** Default deadline a client sets, in ms from its own clock. */
  deadlineDefaultMs: 5_000,
  /** Most names that one resolution may pass through. */
  resolveDepth: 3,
  /** Names one DID may own. */
  namesPerOwner: 100,
  /** Largest contract module in bytes (256 KiB). */
  contractBytes: 262_144,
  /** Largest manifest of a contract package in bytes of JSON. */
  manifestBytes: 4_096,
  /** Largest arguments of `init` in a contract package in bytes of JSON (64 KiB). */
  initBytes: 65_536,
  /** Contract state: longest key in bytes. */
  stateKeyBytes: 256,
  /** Contract state: largest value in bytes (64 KiB); also the largest output of one call. */
  stateValueBytes: 65_536,
  /** Longest channel name in bytes. Encoded as one subject token it takes up to three times as much, and NATS ends a connection that sends a line over 4,096. */
  channelBytes: 255,
  /** Largest event payload in bytes (64 KiB). */
  eventBytes: 65_536,
  /** Most events one call of `range` returns. */
  eventRange: 1_000,
  /** Groups of all channels together. */
  eventGroups: 1_024,
  /** Events of one group that are in hand or wait for their next attempt. */
  groupInHand: 1_024,
  /** Delayed calls of one DID that wait. */
  laterCalls: 64,
  /** Largest body of a delayed call in bytes (64 KiB). */
  laterBytes: 65_536,
  /** How far ahead a delayed call may be due, in ms (366 days). */
  laterAheadMs: 31_622_400_000,
  /** Largest dead letter in bytes (256 KiB). */
  letterBytes: 262_144,
  /** Most layers on one message. */
  layers: 32,
})

export type Limits = typeof LIMITS
