/**
 * The handshake between answer and confirm, sealed for IAM alone and left with the client (AES-256-GCM, NIST SP 800-38D): a flood of
 * calls costs no memory. The key is drawn at each start and never leaves this object. What is opened here was sealed here, whole and
 * unchanged; that it counts once is `Burned`'s to see to.
 */
import { createCipheriv, createDecipheriv, randomBytes } from 'node:crypto'
import { CMeshError } from '../../cmtp/errors.ts'
import { canonicalBytes, parseCanonicalJson } from '../../cmtp/identity/canonical-json.ts'
import { PublicKey } from '../../cmtp/identity/keys.ts'
import { COOKIE_CHARACTERS } from '../../cmtp/identity/messages.ts'
import type { Answered } from './pending-handshakes.ts'
import type { IdentityContext } from './provider.ts'

const CIPHER = 'aes-256-gcm'
const KEY_BYTES = 32
const IV_BYTES = 12
const TAG_BYTES = 16

/** What is sealed. Only `seal` writes it, so that its shape needs no check behind the tag. */
interface State {
  readonly context: IdentityContext
  readonly key: string
  readonly want: readonly string[]
  readonly via?: string
  readonly nkey?: string
  readonly expires: number
}

export class Cookies {
  readonly #key = randomBytes(KEY_BYTES)

  /** Throws `CMESH_IAM_HANDSHAKE` for wishes so long that no token could hold them. */
  seal({ context, sessionKey, want, via, nkey, expiresMs }: Omit<Answered, 'awaits'>): string {
    const { handshake, nonce, audience, transcript } = context
    const state: State = {
      context: { handshake, nonce, audience, transcript }, key: sessionKey.text, want, expires: expiresMs, ...(via !== undefined && { via }),
      ...(nkey !== undefined && { nkey }),
    }
    const iv = randomBytes(IV_BYTES)
    const cipher = createCipheriv(CIPHER, this.#key, iv, { authTagLength: TAG_BYTES })
    const sealed = Buffer.concat([iv, cipher.update(canonicalBytes(state)), cipher.final(), cipher.getAuthTag()]).toString('base64url')
    if (sealed.length > COOKIE_CHARACTERS) throw new CMeshError('CMESH_IAM_HANDSHAKE', { step: 'call', reason: 'it wants more than a token holds' })
    return sealed
  }

  /** The handshake in a cookie; `undefined` for anything that was not sealed here. Total. */
  open(cookie: string): Answered | undefined {
    const bytes = Buffer.from(cookie, 'base64url')
    if (bytes.length <= IV_BYTES + TAG_BYTES) return undefined
    const decipher = createDecipheriv(CIPHER, this.#key, bytes.subarray(0, IV_BYTES), { authTagLength: TAG_BYTES })
    decipher.setAuthTag(bytes.subarray(-TAG_BYTES))
    let text: Buffer
    try {
      text = Buffer.concat([decipher.update(bytes.subarray(IV_BYTES, -TAG_BYTES)), decipher.final()])
    } catch {
      // The tag does not fit: the one thing that `final` throws for.
      return undefined
    }
    const { context, key, want, via, nkey, expires } = parseCanonicalJson(text) as State
    return { awaits: 'confirm', context, sessionKey: PublicKey.fromText(key), want, via, nkey, expiresMs: expires }
  }
}

/** Handshakes whose cookie was used, each until it expires. Bounded. */
export class Burned {
  readonly #now: () => number
  readonly #max: number
  /** Oldest first: every handshake lives equally long. */
  readonly #until = new Map<string, number>()

  constructor(now: () => number, max: number) {
    this.#now = now
    this.#max = max
  }

  get size(): number {
    return this.#until.size
  }

  has(handshake: string): boolean {
    return this.#until.has(handshake)
  }

  /** Throws `CMESH_IAM_BUSY`, and burns nothing, when as many as are kept were burned in the last minute. */
  add(handshake: string, untilMs: number): void {
    const now = this.#now()
    for (const [other, until] of this.#until) {
      if (until > now) break
      this.#until.delete(other)
    }
    const [first = now + 1] = this.#until.values()
    if (this.#until.size >= this.#max) throw new CMeshError('CMESH_IAM_BUSY', { retryAfterMs: Math.max(1, first - now) })
    this.#until.set(handshake, untilMs)
  }
}
