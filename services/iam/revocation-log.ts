/** Where a node keeps what was revoked, so that a restart forgets nothing. Implemented by the node, on a file. */

/** At least one of `sid`, `jti`, `sub` and `kid` says what counts no more; each stands for itself. */
export interface RevocationEntry {
  readonly sid?: string
  readonly jti?: string
  /** A DID: every token it got until `atMs`. */
  readonly sub?: string
  /** A key that tokens were signed with. */
  readonly kid?: string
  /** The nkey of the connection that went with the session. */
  readonly nkey?: string
  /** ms since 1970. */
  readonly atMs: number
}

export interface RevocationLog {
  /** What was appended before, in order. */
  load(): readonly RevocationEntry[]
  /** Resolves when the entry survives a kill of the process. */
  append(entry: RevocationEntry): Promise<void>
}
