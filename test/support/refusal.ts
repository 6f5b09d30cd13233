/** Catches the one kind of error that CMesh may throw. Anything else goes on to fail the test. */
import { CMeshError, type ErrorCode, type ErrorDetail } from '../../cmtp/errors.ts'

export interface Refusal {
  readonly code: ErrorCode
  readonly detail: ErrorDetail
  readonly message: string
}

/** What `act` was refused with. Fails when it was not. */
export function refusal(act: () => unknown): Refusal {
  const outcome = attempt(act)
  if (outcome.refusal === undefined) throw new Error(`nothing was refused; the value is ${JSON.stringify(outcome.value)}`)
  return outcome.refusal
}

export type Outcome<T> =
  | { readonly value: T, readonly refusal: undefined }
  | { readonly value: undefined, readonly refusal: Refusal }

/** The value of `act`, or the coded error it threw; any other throw goes on. */
export function attempt<T>(act: () => T): Outcome<T> {
  try {
    return { value: act(), refusal: undefined }
  } catch (thrown) {
    if (!(thrown instanceof CMeshError)) throw thrown
    return { value: undefined, refusal: { code: thrown.code, detail: thrown.detail, message: thrown.message } }
  }
}
