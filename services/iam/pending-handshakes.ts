/**
 * Handshakes under way: a bounded table whose entries live 60 s, or as long as a person is given. Each step takes its handshake out, so that a step that fails,
 * comes twice or comes at the wrong time has burned it; only a step that succeeded puts it back for the next one.
 */
import { CMeshError } from '../../cmtp/errors.ts'
import type { PublicKey } from '../../cmtp/identity/keys.ts'
import type { GrantMessage } from '../../cmtp/identity/messages.ts'
import type { IdentityContext, VerifiedIdentity } from './provider.ts'

/** Why a step of a handshake is refused that is not known here. */
export const NO_HANDSHAKE = 'there is no such handshake, or it is over'
/** From the answer to the consent, ms. */
export const HANDSHAKE_MS = 60_000

export interface Answered {
  readonly awaits: 'confirm'
  readonly context: IdentityContext
  readonly sessionKey: PublicKey
  readonly want: readonly string[]
  readonly via: string | undefined
  /** The nkey that the call named. */
  readonly nkey: string | undefined
  readonly expiresMs: number
}

export interface Granted {
  readonly awaits: 'consent'
  readonly context: IdentityContext
  readonly sessionKey: PublicKey
  readonly identity: VerifiedIdentity
  readonly grant: GrantMessage
  /** The nkey that was proven. */
  readonly nkey: string | undefined
  readonly expiresMs: number
}

export type Pending = Answered | Granted

export class PendingHandshakes {
  readonly #now: () => number
  readonly #max: number
  readonly #onExpired: (pending: Pending) => void
  /** Oldest first: every entry lives equally long, and a second step keeps the expiry of the first. */
  readonly #entries = new Map<string, Pending>()
  /** Handshakes whose step is being worked on: they count, though they are not in the table. */
  #open = 0

  constructor(parts: { readonly now: () => number, readonly max: number, readonly onExpired: (pending: Pending) => void }) {
    this.#now = parts.now
    this.#max = parts.max
    this.#onExpired = parts.onExpired
  }

  get size(): number {
    return this.#entries.size + this.#open
  }

  /** Room for one more. Throws `CMESH_IAM_BUSY` when there is none. `release` it whatever happens. */
  reserve(): void {
    this.sweep()
    if (this.size >= this.#max) {
      const [oldest] = this.#entries.values()
      const retryAfterMs = Math.max(1, (oldest?.expiresMs ?? this.#now() + 1_000) - this.#now())
      throw new CMeshError('CMESH_IAM_BUSY', { retryAfterMs })
    }
    this.#open++
  }

  release(): void {
    this.#open--
  }

  /** Adds a handshake that awaits its next step. */
  put(pending: Pending): void {
    this.#entries.set(pending.context.handshake, pending)
  }

  /**
   * Takes out the handshake that awaits this step, and keeps its room reserved. One that awaits another step is taken out
   * and handed to `onBurned`. Throws `CMESH_IAM_HANDSHAKE`.
   */
  take<S extends Pending['awaits']>(
    handshake: string, step: S, onBurned: (pending: Pending) => void,
  ): Extract<Pending, { awaits: S }> {
    const pending = this.#entries.get(handshake)
    if (pending === undefined) throw refused(step, NO_HANDSHAKE)
    this.#entries.delete(handshake)
    if (pending.expiresMs <= this.#now()) {
      onBurned(pending)
      throw refused(step, 'the call has expired')
    }
    if (pending.awaits !== step) {
      onBurned(pending)
      throw refused(step, `this handshake awaits its ${pending.awaits}`)
    }
    this.#open++
    return pending as Extract<Pending, { awaits: S }>
  }

  /** Lets go of what has expired. */
  sweep(): void {
    const now = this.#now()
    for (const [handshake, pending] of this.#entries) {
      // An entry put back by its second step is younger in the table than by its clock: it is found late, never early.
      if (pending.expiresMs > now) return
      this.#entries.delete(handshake)
      this.#onExpired(pending)
    }
  }

  /** Takes out all. */
  clear(): readonly Pending[] {
    const all = [...this.#entries.values()]
    this.#entries.clear()
    return all
  }
}

function refused(step: string, reason: string): CMeshError {
  return new CMeshError('CMESH_IAM_HANDSHAKE', { step, reason })
}
