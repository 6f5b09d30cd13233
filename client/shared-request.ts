/**
 * A request that shares its frame with others of its turn: what is asked, and who waits for it. One object serves both whoever puts the frame
 * together and whoever looks at what comes back, as there is one of these for each request under load.
 *
 * Invariant: what the caller does to its bytes after the call is nobody's concern; they are copied here, for they leave at the end of the turn,
 * and once more if they have to.
 */
import type { CMeshError } from '../cmtp/errors.ts'
import type { Content } from '../cmtp/wire.ts'
import type { ActiveSession } from './active-session.ts'
import type { Ask } from './attempt.ts'
import type { CoalescedRequest } from './coalescer.ts'
import type { Reply } from './reply.ts'
import type { RequestParts } from './requester.ts'

/** Told what came of a request; see `CoalescedRequest.settled`. */
type Settled = (request: SharedRequest, result: Reply | CMeshError, frame: Buffer, index: number, resent: boolean) => void

export class SharedRequest implements CoalescedRequest {
  readonly fqmn: string
  readonly headers: Uint8Array | undefined
  readonly body: Content | undefined
  readonly session: ActiveSession
  readonly ask: Ask
  readonly deadlineMs: number
  /** There was a connection when it was asked. */
  readonly sent: boolean
  readonly resolve: (reply: Reply | Promise<Reply>) => void
  readonly #settled: Settled

  constructor(
    fqmn: string, parts: RequestParts | undefined, session: ActiveSession, ask: Ask, deadlineMs: number, sent: boolean,
    resolve: (reply: Reply | Promise<Reply>) => void, settled: Settled,
  ) {
    this.fqmn = fqmn
    this.headers = parts?.headers
    const body = parts?.body
    this.body = body === undefined || typeof body === 'string' ? body : Buffer.from(body)
    this.session = session
    this.ask = ask
    this.deadlineMs = deadlineMs
    this.sent = sent
    this.resolve = resolve
    this.#settled = settled
  }

  settled(result: Reply | CMeshError, frame: Buffer, index: number, resent: boolean): void {
    this.#settled(this, result, frame, index, resent)
  }
}
