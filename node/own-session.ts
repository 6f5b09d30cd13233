/** A session of the node with its own mesh, held by the in-process parts that ask through the front door like anybody else. */
import type { KeyPair } from '../cmtp/identity/keys.ts'
import { login, type Session } from '../cmtp/identity/login.ts'
import { encodeRequest } from '../cmtp/frame.ts'
import { tokenKeyId } from '../cmtp/identity/token.ts'
import { LIMITS } from '../cmtp/limits.ts'
import { MessageIds } from '../cmtp/message-id.ts'
import type { ReceiptLevel } from '../cmtp/wire.ts'
import type { TokenKeys } from '../services/iam/key-ring.ts'
import type { IamService } from '../services/iam/service.ts'

/** A token is renewed when less than this is left of it, in ms. */
const RENEW_BEFORE_MS = 60_000

export interface OwnSessionParts {
  readonly iam: Pick<IamService, 'handle'>
  readonly identity: KeyPair
  readonly mesh: string
  /** Permissions asked for. */
  readonly want: readonly string[]
  /** How long one of its requests may take, in ms. Default 10,000. */
  readonly patienceMs?: number
  readonly now: () => number
  /** The keys that the mesh signs by: a session under one that was dropped is no good. */
  readonly keys: TokenKeys
}

export class OwnSession {
  readonly #parts: OwnSessionParts
  readonly #ids = new MessageIds()
  #session: Promise<Session> | undefined

  constructor(parts: OwnSessionParts) {
    this.#parts = parts
  }

  /** A session that is good for a while yet; logs in when there is none. */
  async current(): Promise<Session> {
    const session = await this.#session
    const { iam, identity, mesh, want, now, keys } = this.#parts
    const isGood = session !== undefined && session.expires - now() > RENEW_BEFORE_MS && keys.verifierOf(tokenKeyId(session.token)) !== undefined
    if (isGood) return session
    this.#session = login({ identity, mesh, want, send: (action, body) => iam.handle(action, body) })
    // A login that fails must not be what the next caller gets.
    this.#session.catch(() => { this.#session = undefined })
    return this.#session
  }

  /** A request frame under this session, and the session id it must come in on. */
  async frame(fqmn: string, body?: Uint8Array, receipt: ReceiptLevel = 'hash'): Promise<{ readonly frame: Buffer, readonly sid: string }> {
    const { token, sid } = await this.current()
    const frame = encodeRequest({
      id: this.#ids.next(),
      fqmn,
      token: Buffer.from(token),
      deadlineMs: this.#parts.now() + (this.#parts.patienceMs ?? LIMITS.deadlineDefaultMs * 2),
      receipt,
      ...(body !== undefined && { body }),
    })
    return { frame, sid }
  }
}
