/**
 * What was revoked, by session, token, subject or key. An entry is kept for one token life: after that nothing it could match is
 * valid any more. A subject is revoked up to a moment, so that it may prove itself again afterwards.
 */
import type { TokenClaims } from '../../cmtp/identity/token.ts'

/** At least one of `sid`, `jti`, `sub` and `kid`; each stands for itself. */
export interface Revocation {
  readonly sid?: string
  readonly jti?: string
  readonly sub?: string
  /** Id of a key: every token it signed. */
  readonly kid?: string
  /** The nkey of the connection that ends with the session; stands for nothing by itself. */
  readonly nkey?: string
}

interface Mark {
  /** ms since 1970. */
  readonly atMs: number
}

export class Revocations {
  readonly #now: () => number
  readonly #keepMs: number
  /** Oldest first: an entry made again moves to the end. */
  readonly #marks = new Map<string, Mark>()

  /** `keepMs`: the longest life of a token. */
  constructor(now: () => number, keepMs: number) {
    this.#now = now
    this.#keepMs = keepMs
  }

  get size(): number {
    return this.#marks.size
  }

  /** `atMs`: when it was revoked, ms since 1970. Default now. */
  add({ sid, jti, sub, kid }: Revocation, atMs = this.#now()): void {
    this.#forget(this.#now() - this.#keepMs)
    if (sid !== undefined) this.#mark(`sid ${sid}`, atMs)
    if (jti !== undefined) this.#mark(`jti ${jti}`, atMs)
    if (sub !== undefined) this.#mark(`sub ${sub}`, Math.max(atMs, this.#marks.get(`sub ${sub}`)?.atMs ?? 0))
    if (kid !== undefined) this.#mark(`kid ${kid}`, atMs)
  }

  has({ sid, jti, sub, iat }: Pick<TokenClaims, 'sid' | 'jti' | 'sub' | 'iat'>, kid: string): boolean {
    if (this.#marks.size === 0) return false
    if (this.#marks.has(`sid ${sid}`) || this.#marks.has(`jti ${jti}`) || this.#marks.has(`kid ${kid}`)) return true
    const mark = this.#marks.get(`sub ${sub}`)
    // iat counts whole seconds: a token of the same second is refused too, rather than one too many let through.
    return mark !== undefined && iat <= Math.floor(mark.atMs / 1_000)
  }

  #mark(key: string, atMs: number): void {
    this.#marks.delete(key)
    this.#marks.set(key, { atMs })
  }

  #forget(beforeMs: number): void {
    for (const [key, mark] of this.#marks) {
      if (mark.atMs >= beforeMs) return
      this.#marks.delete(key)
    }
  }
}
