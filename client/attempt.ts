/**
 * What stays of a request while it is tried again, and what it comes to when it is not: the rules of the requester that need no connection.
 *
 * Invariant: a write of which one sending was not answered is `CMESH_ROUTER_UNKNOWN_OUTCOME` unless its own outcome came back: whatever else
 * says that it was refused says so of the last sending alone.
 */
import { REQUEST } from '../cmtp/correlate.ts'
import { CMeshError } from '../cmtp/errors.ts'
import type { KeyPair } from '../cmtp/identity/keys.ts'
import type { ActiveSession } from './active-session.ts'
import type { RequestOptions } from './link.ts'
import type { ResolvedRequestDefaults } from './options.ts'
import type { Reply } from './reply.ts'
import { requestId } from './reply.ts'
import { ANSWER_MS } from './retry.ts'

/** How one request is asked, every option resolved. */
export interface Ask extends ResolvedRequestDefaults {
  readonly signal: AbortSignal | undefined
}

export interface Attempt<T> {
  readonly ask: Ask
  readonly deadlineMs: number
  /** Of a batch: of any of its entries. */
  readonly changesState: boolean
  /** The log keeps its outcome. */
  readonly isTransaction: boolean
  readonly read: (data: Uint8Array, frame: Buffer) => T | Reply
  readonly signer?: KeyPair | undefined
  frame: Buffer
  /** The session whose token stands in the frame. */
  session: ActiveSession | undefined
  /** It was sent, and what came of that is not looked at yet. */
  sent: boolean
  /** How often it was sent, as far as that counts: once, or more often. */
  sendings: number
  /** It was sent and no answer came: it may have been executed. */
  lost: boolean
}

/** What an attempt begins with where the request was sent before. */
export function past(sent: boolean, resent: boolean): Pick<Attempt<unknown>, 'sent' | 'sendings' | 'lost'> {
  return { sent, sendings: (sent ? 1 : 0) + (resent ? 1 : 0), lost: resent }
}

/** How long one sending is waited for, and what became of it meanwhile. */
export class Sending implements RequestOptions {
  readonly timeoutMs: number
  readonly signal: AbortSignal | undefined
  readonly resendMs: number | undefined
  /** It was sent again: what was sent before is lost, or slow. */
  resent = false

  /** `leftMs`: until its deadline. */
  constructor({ retry, resendMs, signal }: Pick<Ask, 'retry' | 'resendMs' | 'signal'>, leftMs: number) {
    this.timeoutMs = Math.min(leftMs + ANSWER_MS, REQUEST.timeoutMaxMs)
    this.signal = signal
    this.resendMs = retry && resendMs < leftMs ? resendMs : undefined
  }

  onResend(): void {
    this.resent = true
  }
}

export function isFailure<T>(result: T | Reply): result is Reply {
  return !Array.isArray(result) && (result as Reply).status >= 400
}

export function isLost(failure: Reply | CMeshError): boolean {
  return LEFT_OPEN.has(errorOf(failure).code)
}

/** No answer came; or one of a node that stopped, which may have proposed the request before it did. */
const LEFT_OPEN: ReadonlySet<string> = new Set([
  'CMESH_BUS_DISCONNECTED', 'CMESH_BUS_TIMEOUT', 'CMESH_ROUTER_UNKNOWN_OUTCOME', 'CMESH_STATE_FULL', 'CMESH_STATE_HALTED', 'CMESH_STATE_DIVERGED',
])

/**
 * Whether another sending may come to more than this one did. A node that stops says of what it proposed that nobody knows what became of it:
 * any other node knows, or does it.
 */
export function isPassing({ isTransaction }: Attempt<unknown>, error: CMeshError): boolean {
  return error.retry === 'retry' || (isTransaction && error.code === 'CMESH_ROUTER_UNKNOWN_OUTCOME')
}

export function errorOf(failure: Reply | CMeshError): CMeshError {
  return failure instanceof CMeshError ? failure : failure.error() as CMeshError
}

/** What a 401 prompts for: the identity handshake, or the whole token in place of its reference. */
export function prompt(failure: Reply | CMeshError): unknown {
  if (failure instanceof CMeshError || failure.status !== 401) return undefined
  try {
    return failure.json<{ readonly prompt?: unknown }>().prompt
  } catch {
    // An unreadable body prompts for nothing; the error it stands for is reported as it is.
    return undefined
  }
}

export function aborted(signal: AbortSignal): CMeshError {
  return new CMeshError('CMESH_CLIENT_ABORTED', {}, { cause: signal.reason })
}

/** What a request that is not tried again comes to: its reply, or its error. */
export function settle(attempt: Attempt<unknown>, last: Reply | CMeshError): Reply {
  const error = errorOf(last)
  if (attempt.changesState && attempt.lost && error.code !== 'CMESH_ROUTER_UNKNOWN_OUTCOME' && isUnknown(attempt, last, error)) {
    throw new CMeshError('CMESH_ROUTER_UNKNOWN_OUTCOME', { tx: requestId(attempt.frame) }, { cause: error })
  }
  if (last instanceof CMeshError || attempt.ask.throwOnError) throw error
  return last
}

/** Whether what became of the last sending leaves open what became of one before it, which nobody answered. */
function isUnknown({ ask, isTransaction }: Attempt<unknown>, last: Reply | CMeshError, error: CMeshError): boolean {
  // Whoever asked for one attempt is told what became of the connection; a time-out says nothing of what became of the write.
  if (!ask.retry) return error.code === 'CMESH_BUS_TIMEOUT'
  if (error.retry === 'retry') return true
  // Not answered: no session was to be had, say. Whoever gave up, or could not read its answer, is told that.
  if (last instanceof CMeshError) return !OWN_WORD.has(error.code)
  if (isTransaction) return transactionOf(last) === undefined
  // Nobody keeps its outcome: what guard and router say is of the last sending, and what the service says may be of the first.
  return error.code.startsWith('CMESH_IAM_') || error.code.startsWith('CMESH_ROUTER_')
}

/** What this client says of itself. */
const OWN_WORD: ReadonlySet<string> = new Set(['CMESH_CLIENT_ABORTED', 'CMESH_CLIENT_CLOSED', 'CMESH_CLIENT_REPLY'])

/** The transaction whose outcome a reply is; `undefined` for one that speaks of the request alone. */
function transactionOf(reply: Reply): string | undefined {
  try {
    return reply.transaction
  } catch {
    return undefined
  }
}
