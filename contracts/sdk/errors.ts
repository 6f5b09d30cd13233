/**
 * How a contract refuses a call. Whatever it wrote, emitted or sent in that call is undone, and the caller gets the reason
 * with status 422. `throw new Error(reason)`, a failed `assert` and an index out of range do the same: the compiler
 * turns each of them into a call of `abort`.
 */
import { fail } from './host'

/** Ends the call; nothing after it runs. The reason reaches the caller: at most 1,024 bytes of it. */
export function revert(reason: string): void {
  const text = String.UTF8.encode(reason, false, String.UTF8.ErrorMode.REPLACE)
  fail(changetype<usize>(text), text.byteLength)
  unreachable()
}

/** Reverts with the reason unless the condition holds. */
export function require(condition: bool, reason: string): void {
  if (!condition) revert(reason)
}

/** What the compiler calls for `throw` and `assert`. The position is the author's business, not the caller's. */
export function abort(message: string | null, file: string | null, line: u32, column: u32): void {
  revert(message ? message : 'abort')
}
