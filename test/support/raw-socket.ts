/**
 * One connection to NATS that is nothing but a socket: tests script what it says byte by byte, and it may say anything, its login
 * included. It waits for nothing but what it is asked to wait for, and looks for secrets in all that comes.
 * https://docs.nats.io/reference/reference-protocols/nats-protocol
 */
import { once } from 'node:events'
import net from 'node:net'
import { secretsInReply } from './secrets.ts'

export interface RawMessage {
  readonly subject: string
  readonly reply: string
  readonly data: Buffer
  /** Status in the headers, as 503 for "no responders". */
  readonly status: number | undefined
}

/** What a login says in CONNECT, given the nonce that the server wants signed; a server without logins sends none. */
export type RawLogin = (nonce?: string) => Readonly<Record<string, unknown>>

export interface RawSocketOptions {
  /** Default: none. */
  readonly login?: RawLogin
  /** What its inboxes begin with, without a trailing dot; subscribed to at once. Default: `_INBOX.` and a random word. */
  readonly inbox?: string
  /** Where messages on a subject nobody waits on are put, and what the server complains of. Default: its own lists. */
  readonly unasked?: RawMessage[]
  readonly errors?: string[]
}

/** Longest wait for one answer, in ms: for a hung test, not a measurement. */
const PATIENCE_MS = 15_000
const CONNECT = { verbose: false, pedantic: false, headers: true, no_responders: true, lang: 'test', version: '0', protocol: 1 }

export class RawSocket {
  readonly inbox: string
  readonly unasked: RawMessage[]
  readonly errors: string[]
  /** What the server said of itself and, after the login, of this connection. */
  info: Readonly<Record<string, unknown>> = {}
  readonly #socket: net.Socket
  readonly #leaks: string[] = []
  readonly #waiting = new Map<string, (message: RawMessage) => void>()
  readonly #closed: Promise<never>
  #informed: (() => void) | undefined
  #buffer: Buffer = Buffer.alloc(0)
  #sequence = 0
  #pongs: (() => void)[] = []

  /** Resolves when the server took the login in, and the subscription; rejects with what it says instead. */
  static async connect(url: string, options: RawSocketOptions = {}): Promise<RawSocket> {
    const { hostname, port } = new URL(url)
    const socket = net.connect({ host: hostname, port: Number(port) })
    await once(socket, 'connect')
    const raw = new RawSocket(socket, options)
    await raw.#patiently('INFO', new Promise<void>(resolve => { raw.#informed = resolve }))
    const { nonce } = raw.info
    const login = options.login?.(typeof nonce === 'string' ? nonce : undefined)
    raw.write(`CONNECT ${JSON.stringify({ ...CONNECT, ...login })}\r\nSUB ${raw.inbox}.> 1\r\n`)
    await raw.flush()
    return raw
  }

  private constructor(socket: net.Socket, { inbox, unasked = [], errors = [] }: RawSocketOptions) {
    this.inbox = inbox ?? `_INBOX.${randomWord()}`
    this.unasked = unasked
    this.errors = errors
    this.#socket = socket
    this.#closed = new Promise((_, reject) => {
      socket.once('close', () => { reject(new Error(`the server hung up: ${this.errors.join('; ')}`)) })
    })
    this.#closed.catch(() => undefined)
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

  /** Cuts the connection off without a word. */
  vanish(): void {
    this.#socket.resetAndDestroy()
  }

  /** Secrets that came so far, by where and what; forgotten from here on. */
  takeLeaks(): string[] {
    return this.#leaks.splice(0)
  }

  /** Throws when a secret came that was nobody's to send. */
  close(): void {
    this.#socket.destroy()
    const leaks = this.takeLeaks()
    if (leaks.length > 0) throw new Error(`secrets came in messages:\n${leaks.join('\n')}`)
  }

  #read(chunk: Buffer): void {
    this.#buffer = this.#buffer.length === 0 ? chunk : Buffer.concat([this.#buffer, chunk])
    for (;;) {
      const end = this.#buffer.indexOf('\r\n')
      if (end === -1) return
      const line = this.#buffer.toString('latin1', 0, end)
      const words = line.split(' ')
      const verb = words[0] ?? ''
      if (verb !== 'MSG' && verb !== 'HMSG') {
        this.#buffer = this.#buffer.subarray(end + 2)
        if (verb === 'PING') this.write('PONG\r\n')
        else if (verb === 'PONG') this.#pongs.shift()?.()
        else if (verb === '-ERR') this.errors.push(words.slice(1).join(' '))
        else if (verb === 'INFO') {
          this.info = JSON.parse(line.slice(verb.length)) as Record<string, unknown>
          this.#informed?.()
        }
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
    this.#leaks.push(...secretsInReply(message.data).map(what => `on ${message.subject}: ${what}`))
    const resolve = this.#waiting.get(message.subject)
    this.#waiting.delete(message.subject)
    if (resolve === undefined) this.unasked.push(message)
    else resolve(message)
  }

  #patiently<T>(what: string, work: Promise<T>): Promise<T> {
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => { reject(new Error(`nothing came for ${what}; the server said: ${this.errors.join('; ')}`)) }, PATIENCE_MS)
      Promise.race([work, this.#closed]).then(resolve, reject).finally(() => { clearTimeout(timer) })
    })
  }
}

export function randomWord(): string {
  return `${Math.random().toString(36).slice(2)}${Math.random().toString(36).slice(2)}`
}
