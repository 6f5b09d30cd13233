/**
 * When a request is sent again, and when it is given up. Pure but for its clock and its dice, so that a test can hold both.
 */
import type { CMeshError } from '../cmtp/errors.ts'

/** The mesh answers by the deadline; this long its answer may be under way, in ms. */
export const ANSWER_MS = 100
/** How soon a request that nobody answers may be sent again, and when it is by default, in ms: long after a mesh that lives has answered. */
export const RESEND = Object.freeze({ leastMs: 50, defaultMs: 1_000 })
/** First pause in ms; each further one doubles, up to `MAX_MS`. */
const FIRST_MS = 25
const MAX_MS = 1_000

/**
 * The pause in ms before attempt `attempt + 1`, or `undefined` when the request is not sent again: its error would only
 * repeat, as `isPassing` says, or the pause would outlast the deadline. Half of a pause is random, so that clients do not return in step; a
 * `retryAfterMs` in the error is honoured.
 */
export function pauseBeforeRetry(
  error: CMeshError, attempt: number, leftMs: number, random: () => number = Math.random, isPassing = error.retry === 'retry',
): number | undefined {
  if (!isPassing || leftMs <= 0) return undefined
  const step = Math.min(FIRST_MS * 2 ** Math.min(attempt - 1, 16), MAX_MS)
  const asked = error.detail['retryAfterMs']
  const pause = Math.max(step / 2 + random() * (step / 2), typeof asked === 'number' ? asked : 0)
  return pause < leftMs ? pause : undefined
}

/** Whether an address may change state, at whatever depth. Errs on the side of yes. */
export function mayChangeState(fqmn: string): boolean {
  return /0x[IRSEACP]W:/.test(fqmn)
}

/** Whether an address is a transaction, whose outcome the log keeps by its id. */
export function isTransaction(fqmn: string): boolean {
  return /^0x[ISR]W:/.test(fqmn)
}
