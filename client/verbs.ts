/** What the verbs of a client (`register`, `publish`, `deploy`, …) share: they are calls, and fail by throwing. */
import type { Reply } from './reply.ts'

/** Deadline and cancellation of a verb. */
export interface VerbOptions {
  /** Deadline in ms from now, 1 to 300,000. Default: the client's. */
  readonly timeoutMs?: number | undefined
  readonly signal?: AbortSignal | undefined
}

/** Calls an address; a status of 400 and above rejects. `resendMs` is as for requests. */
export type VerbCall = (fqmn: string, options: VerbOptions & { readonly body?: Uint8Array | string, readonly resendMs?: number }) => Promise<Reply>
