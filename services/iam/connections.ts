/**
 * What IAM needs of a broker with accounts: a login of its own for each session, and an end to it. Absent, the broker enforces
 * nothing. Implemented by the node, which holds the accounts' keys.
 */

export interface BrokerSessions {
  /** User JWT of a session's own connection. Throws `CMESH_IAM_KEY` for an nkey or sid that is none. */
  mint(user: { readonly nkey: string, readonly sid: string, readonly expiresMs: number }): string
  /**
   * Ends the connections of these nkeys and keeps them out; resolves when the broker said so. Never rejects: failures are logged
   * and tried again.
   */
  bar(nkeys: readonly string[]): Promise<void>
}
