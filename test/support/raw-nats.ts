/**
 * A client of a mesh without a NATS library: a bare socket as a newcomer, and one for each session that was opened over it. What is
 * sent on a session's subject goes over that session's socket; the rest over the newest. `RawSocket` is one of them alone.
 */
import { encodeRequest, ReplyFrame } from '../../cmtp/frame.ts'
import type { KeyPair } from '../../cmtp/identity/keys.ts'
import { login, type SendStep, type Session } from '../../cmtp/identity/login.ts'
import { CMeshError } from '../../cmtp/errors.ts'
import { guestJwt, natsAuthenticator } from '../../cmtp/identity/nats-jwt.ts'
import { Nkey } from '../../cmtp/identity/nats-keys.ts'
import { tokenReference } from '../../cmtp/identity/token.ts'
import { MessageIds } from '../../cmtp/message-id.ts'
import { connectionOfHello, helloSubject, INBOX_PREFIX, originOfSubject, sessionOfMine } from '../../cmtp/subject.ts'
import type { ReceiptLevel } from '../../cmtp/wire.ts'
import { randomWord, RawSocket, type RawMessage } from './raw-socket.ts'
import { keepSecret, keepSecretBytes } from './secrets.ts'

export type { RawMessage }

export class RawNats {
  /** The newcomer's connection id. */
  readonly cid: string
  readonly ids = new MessageIds()
  readonly #url: string
  readonly #guest: RawSocket
  readonly #sessions = new Map<string, RawSocket>()
  #newest: RawSocket

  /** Connects as a newcomer, subscribed to an inbox of its own. */
  static async connect(url: string): Promise<RawNats> {
    const nkey = Nkey.generate('user')
    return new RawNats(url, nkey.text, await guestSocket(url, nkey))
  }

  private constructor(url: string, cid: string, guest: RawSocket) {
    this.#url = url
    this.cid = cid
    this.#guest = guest
    this.#newest = guest
  }

  /** Everything that arrived on a subject nobody waits on. */
  get unasked(): RawMessage[] {
    return this.#guest.unasked
  }

  /** What the server complained of. */
  get errors(): string[] {
    return this.#guest.errors
  }

  /** What the newest socket's inboxes begin with, without a trailing dot. */
  get inbox(): string {
    return this.#newest.inbox
  }

  get open(): boolean {
    return this.#newest.open
  }

  /** Bytes as they are, over the newest socket. */
  write(bytes: string | Uint8Array): void {
    this.#newest.write(bytes)
  }

  publish(subject: string, data: Uint8Array, reply = ''): void {
    this.#socketOf(subject).publish(subject, data, reply)
  }

  /** Resolves when the server has taken in all that was written. */
  async flush(): Promise<void> {
    await Promise.all(this.#sockets.map(socket => socket.flush()))
  }

  /** A place on the inbox of a session, or of the newest socket, that waits for one message. */
  expect(sid?: string): ReturnType<RawSocket['expect']> {
    return (sid === undefined ? this.#newest : this.socket(sid)).expect()
  }

  /** Sends bytes and resolves with what comes back. */
  async request(subject: string, data: Uint8Array): Promise<RawMessage> {
    return await this.#socketOf(subject).request(subject, data)
  }

  /** Sends bytes and resolves with the reply frame that comes back. */
  async ask(subject: string, data: Uint8Array): Promise<RawReply> {
    return readRaw(await this.request(subject, data))
  }

  /** One step of the handshake, as bytes. */
  readonly step: SendStep = async (action, body, node) => {
    const frame = encodeRequest({ id: this.ids.next(), fqmn: `0xIW:${action}`, token: Buffer.alloc(0), deadlineMs: Date.now() + 10_000, receipt: 'none', body })
    const reply = await this.ask(helloSubject(this.cid, node), frame)
    if (reply.status >= 400) throw CMeshError.fromWire(reply.json)
    return reply.body
  }

  /** The handshake as a newcomer, and a socket as the session that comes of it. */
  async login(identity: KeyPair, want?: readonly string[]): Promise<Session> {
    const session = await login({ identity, nkey: Nkey.generate('user'), ...(want !== undefined && { want }), send: this.step })
    keepSecret('a session token', session.token)
    keepSecretBytes('the reference of a session token', tokenReference(Buffer.from(session.token)))
    keepSecretBytes('a session key', session.key.exportSeed())
    keepSecretBytes('the key of an identity', identity.exportSeed())
    if (session.nkey !== undefined) keepSecret('the nkey of a session', session.nkey.exportSeed())
    if (session.connection !== undefined) keepSecret('the login of a session', session.connection.jwt)
    await this.enter(session)
    return session
  }

  /** Connects once more, as a session. */
  async enter(session: Session): Promise<void> {
    this.#newest = await sessionSocket(this.#url, session, { unasked: this.unasked, errors: this.errors })
    this.#sessions.set(session.sid, this.#newest)
  }

  /** The socket of a session that was opened here. */
  socket(sid: string): RawSocket {
    const socket = this.#sessions.get(sid)
    if (socket === undefined) throw new Error(`the session ${sid} was not opened here`)
    return socket
  }

  /** Cuts all of it off without a word. */
  vanish(): void {
    for (const socket of this.#sockets) socket.vanish()
  }

  /** Secrets that came so far over any of the sockets, by where and what; forgotten from here on. */
  takeLeaks(): string[] {
    return this.#sockets.flatMap(socket => socket.takeLeaks())
  }

  /** Throws when a secret came that was nobody's to send. */
  close(): void {
    const leaks = this.takeLeaks()
    for (const socket of this.#sockets) socket.close()
    if (leaks.length > 0) throw new Error(`secrets came in messages:\n${leaks.join('\n')}`)
  }

  get #sockets(): readonly RawSocket[] {
    return [this.#guest, ...this.#sessions.values()]
  }

  #socketOf(subject: string): RawSocket {
    const origin = originOfSubject(subject)
    const cid = origin?.via ?? origin?.sid ?? sessionOfMine(subject) ?? connectionOfHello(subject)
    if (cid === this.cid) return this.#guest
    return cid === undefined ? this.#newest : this.#sessions.get(cid) ?? this.#newest
  }
}

type Lists = Partial<Pick<RawSocket, 'unasked' | 'errors'>>

/** A newcomer: it signs its own login, with a key that everybody has. */
export function guestSocket(url: string, nkey: Nkey, lists: Lists = {}): Promise<RawSocket> {
  const jwt = guestJwt(nkey, Math.floor(Date.now() / 1_000))
  return RawSocket.connect(url, { login: natsAuthenticator(nkey, () => jwt), inbox: `${INBOX_PREFIX}${nkey.text}.${randomWord()}`, ...lists })
}

/** A session, by the login that its handshake gave; by none where the broker has no accounts. */
export function sessionSocket(url: string, { sid, nkey, connection }: Pick<Session, 'sid' | 'nkey' | 'connection'>, lists: Lists = {}): Promise<RawSocket> {
  const login = nkey === undefined || connection === undefined ? undefined : natsAuthenticator(nkey, () => connection.jwt)
  return RawSocket.connect(url, { ...(login !== undefined && { login }), inbox: `${INBOX_PREFIX}${sid}.${randomWord()}`, ...lists })
}

export interface RawReply {
  readonly id: Buffer
  readonly status: number
  readonly receipt: ReceiptLevel
  readonly finalHash: Buffer
  readonly body: Buffer
  readonly headers: Buffer
  /** The body as JSON; `undefined` when it is none. */
  readonly json: unknown
  /** `code` of an error body. */
  readonly code: string | undefined
}

/** The reply frame in a message. Throws for a message without one. */
export function readRaw({ data, status }: RawMessage): RawReply {
  if (status !== undefined) throw new Error(`the server answered with status ${status}`)
  const frame = ReplyFrame.decode(data)
  const { id, receipt, finalHash, body, headers } = frame
  let json: unknown
  try {
    json = JSON.parse(body.toString('utf8'))
  } catch {
    json = undefined
  }
  return { id, status: frame.status, receipt, finalHash, body, headers, json, code: (json as { code?: string } | null | undefined)?.code }
}
