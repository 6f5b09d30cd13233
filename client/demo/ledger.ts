/**
 * What the demo expects and what it found: every reply's final hash is counted, every expectation that fails is kept with what
 * came instead. It stops nothing; who runs the demo reads it at the end.
 */
import type { Reply } from '../reply.ts'

export class Ledger {
  /** Expectations that failed, in words. */
  readonly failures: string[] = []
  /** Expectations in all. */
  expected = 0
  /** Replies that were asked for a final hash, and those that carried one. */
  replies = 0
  hashes = 0

  /** `instead` is what came in place of it. */
  expect(what: string, holds: boolean, instead: unknown): void {
    this.expected++
    if (!holds) this.failures.push(`${what}, but: ${typeof instead === 'string' ? instead : JSON.stringify(instead)}`)
  }

  /** Counts the final hash of a reply whose request did not ask for none. */
  hashed(reply: Reply): void {
    this.replies++
    if (reply.finalHash?.length === 64) this.hashes++
  }
}
