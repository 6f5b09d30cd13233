/**
 * What keeps a refresh from being replayed: its time lies near this node's clock, and after the session's last one. Remembers
 * a session for as long as an older message of it could still pass.
 */
import { CMeshError } from '../../cmtp/errors.ts'

interface Last {
  readonly issuedMs: number
  readonly seenMs: number
}

export class Renewals {
  readonly #now: () => number
  readonly #skewMs: number
  /** Oldest first: an entry made again moves to the end. */
  readonly #last = new Map<string, Last>()

  /** `skewMs`: how far the client's clock may be off. */
  constructor(now: () => number, skewMs: number) {
    this.#now = now
    this.#skewMs = skewMs
  }

  /** Throws `CMESH_IAM_HANDSHAKE` for a message that is too old, too new, or not newer than the session's last. */
  accept(sid: string, issuedMs: number): void {
    const now = this.#now()
    if (Math.abs(now - issuedMs) > this.#skewMs) throw refused(`its time is more than ${this.#skewMs} ms off this node's clock`)
    for (const [other, { seenMs }] of this.#last) {
      if (seenMs + 2 * this.#skewMs >= now) break
      this.#last.delete(other)
    }
    const last = this.#last.get(sid)
    if (last !== undefined && issuedMs <= last.issuedMs) throw refused('it is not newer than the last one of this session')
    this.#last.delete(sid)
    this.#last.set(sid, { issuedMs, seenMs: now })
  }
}

function refused(reason: string): CMeshError {
  return new CMeshError('CMESH_IAM_HANDSHAKE', { step: 'refresh', reason })
}
