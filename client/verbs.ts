/** What the verbs of a client (`register`, `publish`, `deploy`, …) share: they are calls, and fail by throwing. */
import type { ReadLevel } from './options.ts'
import type { Reply } from './reply.ts'

/** Deadline and cancellation of a verb. */
export interface VerbOptions {
  /** Deadline in ms from now, 1 to 300,000. Default: the client's. */
  readonly timeoutMs?: number | undefined
  readonly signal?: AbortSignal | undefined
}

interface VerbRequest extends VerbOptions {
  readonly body?: Uint8Array | string
  readonly resendMs?: number
  readonly read?: ReadLevel
}

/** Calls an address; a status of 400 and above rejects. `resendMs` and `read` are as for requests. */
export type VerbCall = (fqmn: string, options: VerbRequest) => Promise<Reply>
