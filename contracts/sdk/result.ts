/**
 * What can fail without ending the call: calling another contract, reading a text. The language has no exceptions, so that the
 * outcome is a value to look at.
 *
 *     const paid = call<bool>(token, 'transfer', args().add(to).add(amount))
 *     if (!paid.ok) revert('not paid: ' + paid.error)
 */
import { revert } from './errors'

export class Result<T> {
  /** It went well: `value` holds the outcome. */
  readonly ok: bool

  constructor(private readonly outcome: T, private readonly failure: string | null) {
    this.ok = failure === null
  }

  /** The outcome; reverts with the error when it failed. */
  get value(): T {
    if (!this.ok) revert(this.failure!)
    return this.outcome
  }

  /** Why it failed: for a call `CODE: reason`. Empty when it went well. */
  get error(): string {
    return this.ok ? '' : this.failure!
  }

  /** What stands before the first colon of the error: `CMESH_CONTRACT_REVERT`. Empty when it went well. */
  get code(): string {
    const error = this.error
    const colon = error.indexOf(':')
    return colon < 0 ? error : error.substring(0, colon)
  }

  /** The outcome, or `fallback` when it failed. */
  or(fallback: T): T {
    return this.ok ? this.outcome : fallback
  }
}

export function success<T>(value: T): Result<T> {
  return new Result<T>(value, null)
}

export function failure<T>(error: string): Result<T> {
  // What stands for a value is never read: `value` reverts.
  if (isReference<T>()) return new Result<T>(changetype<T>(0), error)
  return new Result<T>(<T>0, error)
}
