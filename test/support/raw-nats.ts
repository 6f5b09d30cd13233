/**
 * A NATS client that is nothing but a socket: tests script what it says byte by byte, and it may say anything. It waits for
 * nothing but what it is asked to wait for. https://docs.nats.io/reference/reference-protocols/nats-protocol
 */
import { once } from 'node:events'
import net from 'node:net'
import { encodeRequest, ReplyFrame } from '../../cmtp/frame.ts'
import type { KeyPair } from '../../cmtp/identity/keys.ts'
import { login, type Session } from '../../cmtp/identity/login.ts'
import { CMeshError } from '../../cmtp/errors.ts'
import { MessageIds } from '../../cmtp/message-id.ts'
import { HELLO_SUBJECT, helloSubject } from '../../cmtp/subject.ts'
import type { ReceiptLevel } from '../../cmtp/wire.ts'

export interface RawMessage {
  readonly subject: string
  readonly reply: string
  readonly data: Buffer
  /** Status in the headers, as 503 for "no responders". */
  readonly status: number | undefined
}

/** Longest wait for one answer, in ms: for a hung test, not a measurement. */
const PATIENCE_MS = 15_000
const CONNECT = { verbose: false, pedantic: false, headers: true, no_responders: true, lang: 'test', version: '0', protocol: 1 }

export class RawNats {
  /** What this connection's inboxes begin with, without a trailing dot. */
  readonly inbox: string
  readonly ids = new MessageIds()
  /** Everything that arrived on a subject nobody waits on. */
  readonly unasked: RawMessage[] = []
  /** What the server complained of. */
  readonly errors: string[] = []
  readonly #socket: net.Socket
  readonly #waiting = new Map<string, (message: RawMessage) => void>()
  #buffer: Buffer = Buffer.alloc(0)
  #sequence = 0
  #pongs: (() => void)[] = []

  /** Connects without a login, subscribed to an inbox of its own. */
  static async connect(url: string): Promise<RawNats> {
    const { hostname, port } = new URL(url)
    const socket = net.connect({ host: hostname, port: Number(port) })
    await once(socket, 'connect')
    const raw = new RawNats(socket)
    raw.write(`CONNECT ${JSON.stringify(CONNECT)}\r\nSUB ${raw.inbox}.> 1\r\n`)
    await raw.flush()
    return raw
  }

  private constructor(socket: net.Socket) {
    this.inbox = `_INBOX.${Math.random().toString(36).slice(2)}${Math.random().toString(36).slice(2)}`
    this.#socket = socket
    socket.on('data', chunk => { this.#read(chunk) })
    // A server that cuts the connection off is what some tests are about.
    socket.on('error', () => undefined)
  }

  get open(): boolean {
    return !this.#socket.destroyed && this.#socket.writable
  }

  /** Bytes as they are. */
  write(bytes: string | Uint8Array): void {
    this.#socket.write(bytes)
  }

  publish(subject: string, data: Uint8Array, reply = ''): void {
    this.#socket.cork()
    this.write(`PUB ${subject} ${reply === '' ? '' : `${reply} `}${data.length}\r\n`)
    this.write(data)
    this.write('\r\n')
    this.#socket.uncork()
  }

  /** Resolves when the server has taken in all that was written. */
  async flush(): Promise<void> {
    const pong = new Promise<void>(resolve => { this.#pongs.push(resolve) })
    this.write('PING\r\n')
    await this.#patiently('PONG', pong)
  }

  /** A place on the inbox that waits for one message. */
  expect(): { readonly subject: string, readonly message: Promise<RawMessage> } {
    const subject = `${this.inbox}.${++this.#sequence}`
    const message = new Promise<RawMessage>(resolve => { this.#waiting.set(subject, resolve) })
    return { subject, message: this.#patiently(subject, message) }
  }

  /** Sends bytes and resolves with what comes back. */
  async request(subject: string, data: Uint8Array): Promise<RawMessage> {
    const { subject: reply, message } = this.expect()
    this.publish(subject, data, reply)
    return await message
  }

  /** Sends bytes and resolves with the reply frame that comes back. */
  async ask(subject: string, data: Uint8Array): Promise<RawReply> {
    return readRaw(await this.request(subject, data))
  }

  /** The handshake over this connection. */
  login(identity: KeyPair, want?: readonly string[]): Promise<Session> {
    return login({
      identity,
      ...(want !== undefined && { want }),
      send: async (action, body, node) => {
        const frame = encodeRequest({ id: this.ids.next(), fqmn: `0xIW:${action}`, token: Buffer.alloc(0), deadlineMs: Date.now() + 10_000, receipt: 'none', body })
        const reply = await this.ask(node === undefined ? HELLO_SUBJECT : helloSubject(node), frame)
        if (reply.status >= 400) throw CMeshError.fromWire(reply.json)
        return reply.body
      },
    })
  }

  /** Cuts the connection off without a word. */
  vanish(): void {
    this.#socket.resetAndDestroy()
  }

  close(): void {
    this.#socket.destroy()
  }

  #read(chunk: Buffer): void {
    this.#buffer = this.#buffer.length === 0 ? chunk : Buffer.concat([this.#buffer, chunk])
    for (;;) {
      const end = this.#buffer.indexOf('\r\n')
      if (end === -1) return
      const words = this.#buffer.toString('latin1', 0, end).split(' ')
      const verb = words[0] ?? ''
      if (verb !== 'MSG' && verb !== 'HMSG') {
        this.#buffer = this.#buffer.subarray(end + 2)
        if (verb === 'PING') this.write('PONG\r\n')
        else if (verb === 'PONG') this.#pongs.shift()?.()
        else if (verb === '-ERR') this.errors.push(words.slice(1).join(' '))
        continue
      }
      const total = Number(words.at(-1))
      const from = end + 2
      if (this.#buffer.length < from + total + 2) return
      const headerBytes = verb === 'HMSG' ? Number(words.at(-2)) : 0
      const withReply = words.length === (verb === 'HMSG' ? 6 : 5)
      const payload = Buffer.from(this.#buffer.subarray(from, from + total))
      const status = /^NATS\/1\.0 (\d{3})/.exec(payload.toString('latin1', 0, headerBytes))?.[1]
      this.#buffer = this.#buffer.subarray(from + total + 2)
      this.#take({
        subject: words[1] ?? '', reply: withReply ? words[3] ?? '' : '', data: payload.subarray(headerBytes), status: status === undefined ? undefined : Number(status),
      })
    }
  }

  #take(message: RawMessage): void {
    const resolve = this.#waiting.get(message.subject)
    this.#waiting.delete(message.subject)
    if (resolve === undefined) this.unasked.push(message)
    else resolve(message)
  }

  #patiently<T>(what: string, work: Promise<T>): Promise<T> {
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => { reject(new Error(`nothing came for ${what}; the server said: ${this.errors.join('; ')}`)) }, PATIENCE_MS)
      work.then(resolve, reject).finally(() => { clearTimeout(timer) })
    })
  }
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
