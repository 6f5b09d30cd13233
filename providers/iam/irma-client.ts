/**
 * Speaks the requestor's and the frontend's half of the IRMA server's HTTP API (docs.yivi.app/api-irma-server). It goes to the
 * configured origin and nowhere else: no redirect is followed, no address of an answer is used that is not there. Every answer is
 * bounded in size, and in time by the signal that each call takes; an aborted call rejects with the signal's reason.
 *
 * Its errors name the end point and never a token, a key or what the server said. `undici` is loaded by `open`, `jose` at its first use: no mesh without IRMA needs them.
 */
import type { Dispatcher, Pool } from 'undici'
import { CMeshError } from '../../cmtp/errors.ts'
import { EventStreamReader } from './event-stream.ts'
import type { IrmaOptions } from './irma-settings.ts'

/** One session at the IRMA server. Its tokens are secrets. */
export interface IrmaSession {
  /** Names the session to its requestor. */
  readonly token: string
  /** Path of the session for the app and the frontend, at the configured origin. */
  readonly path: string
  /** Opens the frontend's end points. */
  readonly authorization: string
  /** What the person's app opens, as a link or from a QR code. */
  readonly link: string
}

/** The statuses of a session as they change, from when it was asked for. `close` is idempotent and must be called. */
export interface StatusStream extends AsyncIterable<string> {
  close(): void
}

/** Largest answer in bytes; a status stream counts as one. */
export const ANSWER_BYTES = 65_536
/** Oldest result that counts, and how far the two clocks may be apart, in s. */
const RESULT_AGE_S = 60
const CLOCK_SKEW_S = 5
const CONNECT_MS = 3_000
/** Requests at once; each status stream is one. */
const CONNECTIONS = 64
/** Server tokens are 20 letters and digits. */
const TOKEN = /^[A-Za-z0-9]{16,64}$/
/** The app's universal link: a camera and the app itself both know what to do with it. */
const APP_LINK = 'https://open.yivi.app/-/session#'
const DISCLOSURE = 'https://irma.app/ld/request/disclosure/v2'
const FRONTEND_OPTIONS = 'https://irma.app/ld/request/frontendoptions/v1'

interface Ask {
  readonly method: 'GET' | 'POST' | 'DELETE'
  readonly path: string
  /** What errors call it: the path without its tokens. */
  readonly name: string
  readonly headers?: Readonly<Record<string, string>>
  readonly body?: string
}

export class IrmaClient {
  readonly #options: IrmaOptions
  readonly #now: () => number
  readonly #base: string
  #pool: Pool | undefined

  /** `now`: ms since 1970. */
  constructor(options: IrmaOptions, now: () => number) {
    this.#options = options
    this.#now = now
    this.#base = options.url.pathname.replace(/\/+$/, '')
  }

  /** Must resolve before anything else is asked. No connection is made yet. */
  async open(): Promise<void> {
    const { Pool: ConnectionPool } = await import('undici')
    this.#pool ??= new ConnectionPool(this.#options.url.origin, { connections: CONNECTIONS, connect: { timeout: CONNECT_MS }, maxResponseSize: -1 })
  }

  /** Ends what is under way. */
  async close(): Promise<void> {
    await this.#pool?.destroy()
  }

  /** Starts a disclosure session. The app must connect within `timeoutMs`. */
  async startSession(signal: AbortSignal): Promise<IrmaSession> {
    const { requestor, key, disclose, timeoutMs } = this.#options
    const sprequest = {
      request: { '@context': DISCLOSURE, disclose }, validity: RESULT_AGE_S, timeout: Math.ceil(timeoutMs / 1_000),
    }
    const { SignJWT } = await import('jose')
    const jwt = await new SignJWT({ iss: requestor, sub: 'verification_request', sprequest })
      .setProtectedHeader({ alg: key.algorithm, typ: 'JWT', kid: requestor })
      .setIssuedAt(Math.floor(this.#now() / 1_000))
      .sign(key.key)
    const ask: Ask = { method: 'POST', path: `${this.#base}/session`, name: 'POST /session', headers: { 'content-type': 'text/plain' }, body: jwt }
    return this.#readSession(json(ask, await this.#text(ask, signal)), ask)
  }

  #readSession(value: unknown, ask: Ask): IrmaSession {
    const { token, sessionPtr, frontendRequest } = fieldsOf(value)
    const { u, irmaqr } = fieldsOf(sessionPtr)
    const { authorization } = fieldsOf(frontendRequest)
    if (typeof token !== 'string' || !TOKEN.test(token) || typeof u !== 'string' || u.length > 512 || !URL.canParse(u) || irmaqr !== 'disclosing') {
      throw misshapen(ask)
    }
    if (typeof authorization !== 'string' || !TOKEN.test(authorization)) throw failed('it does not support pairing')
    const url = new URL(u)
    // Where the app goes is where we go: a server that sends either of us elsewhere is not the one that was configured.
    if (url.origin !== this.#options.url.origin || url.username !== '' || url.password !== '') throw failed('it sends the app to another origin')
    if (url.search !== '' || url.hash !== '' || !/\/session\/[A-Za-z0-9]{16,64}$/.test(url.pathname)) throw misshapen(ask)
    return { token, path: url.pathname, authorization, link: APP_LINK + encodeURIComponent(JSON.stringify({ u, irmaqr })) }
  }

  /** Makes the server ask for a pairing code; resolves with the one that the app will show. */
  async requirePairing({ path, authorization }: IrmaSession, signal: AbortSignal): Promise<string> {
    const body = JSON.stringify({ '@context': FRONTEND_OPTIONS, pairingMethod: 'pin' })
    const ask = frontend(path, 'options', authorization, body)
    const { pairingMethod, pairingCode } = fieldsOf(json(ask, await this.#text(ask, signal)))
    if (pairingMethod !== 'pin' || typeof pairingCode !== 'string' || !/^[0-9]{4}$/.test(pairingCode)) throw failed('it does not support pairing')
    return pairingCode
  }

  /** Lets the app that showed the code go on. */
  async completePairing({ path, authorization }: IrmaSession, signal: AbortSignal): Promise<void> {
    await this.#text(frontend(path, 'pairingcompleted', authorization, ''), signal)
  }

  /** The session's status right now. */
  async status({ token }: IrmaSession, signal: AbortSignal): Promise<string> {
    const ask = this.#about(token, 'GET', '/status')
    return readStatus(await this.#text(ask, signal), ask)
  }

  /** Resolves once the server has taken the subscription: what changes from then on is in the stream. */
  async follow({ token }: IrmaSession, signal: AbortSignal): Promise<StatusStream> {
    const ask = this.#about(token, 'GET', '/statusevents')
    const { body } = await this.#send({ ...ask, headers: { accept: 'text/event-stream' } }, signal, { bodyTimeout: 0 })
    const close = (): void => { body.on('error', () => undefined).destroy() }
    return { close, [Symbol.asyncIterator]: () => statuses(body, ask, signal) }
  }

  /**
   * The claims of the finished session's result. Throws `CMESH_IAM_FORGED` for a result that the configured key did not sign with
   * RS256, `CMESH_IAM_HANDSHAKE` for one that is too old or not of a disclosure.
   */
  async result({ token }: IrmaSession, signal: AbortSignal): Promise<{ readonly jwt: string, readonly claims: Readonly<Record<string, unknown>> }> {
    const { errors, jwtVerify } = await import('jose')
    const jwt = (await this.#text(this.#about(token, 'GET', '/result-jwt'), signal)).trim()
    try {
      const { payload } = await jwtVerify(jwt, this.#options.serverKey, {
        algorithms: ['RS256'], subject: 'disclosing_result', maxTokenAge: RESULT_AGE_S, clockTolerance: CLOCK_SKEW_S, currentDate: new Date(this.#now()),
      })
      return { jwt, claims: payload }
    } catch (error) {
      if (error instanceof errors.JWTExpired || error instanceof errors.JWTClaimValidationFailed) {
        const reason = 'the result is too old, or of something else than a disclosure'
        throw new CMeshError('CMESH_IAM_HANDSHAKE', { step: 'confirm', reason }, { cause: error })
      }
      throw new CMeshError('CMESH_IAM_FORGED', { what: 'result of the IRMA server' }, { cause: error })
    }
  }

  /** Ends a session before its time. */
  async cancel({ token }: IrmaSession, signal: AbortSignal): Promise<void> {
    await this.#text(this.#about(token, 'DELETE', ''), signal)
  }

  #about(token: string, method: Ask['method'], what: string): Ask {
    return { method, path: `${this.#base}/session/${token}${what}`, name: `${method} /session/{token}${what}` }
  }

  async #text(ask: Ask, signal: AbortSignal): Promise<string> {
    const { body } = await this.#send(ask, signal)
    const chunks: Buffer[] = []
    for await (const chunk of bounded(body, ask, signal)) chunks.push(chunk)
    return Buffer.concat(chunks).toString('utf8')
  }

  async #send({ method, path, name, headers = {}, body }: Ask, signal: AbortSignal, more: { bodyTimeout?: number } = {}): Promise<Dispatcher.ResponseData> {
    signal.throwIfAborted()
    if (this.#pool === undefined) throw new CMeshError('CMESH_ROUTER_DRAINING')
    let response: Dispatcher.ResponseData
    try {
      response = await this.#pool.request({ method, path, headers, body: body ?? null, signal, ...more })
    } catch (cause) {
      signal.throwIfAborted()
      throw failed(`${name} got no answer`, cause)
    }
    const { statusCode } = response
    if (statusCode >= 200 && statusCode < 300) return response
    response.body.on('error', () => undefined).destroy()
    throw failed(`${name} was answered ${statusCode}`)
  }
}

function frontend(path: string, what: string, authorization: string, body: string): Ask {
  const headers = { authorization, 'content-type': 'application/json' }
  return { method: 'POST', path: `${path}/frontend/${what}`, name: `POST /frontend/${what}`, headers, body }
}

/** The body's chunks, up to the limit. */
async function* bounded(body: Dispatcher.ResponseData['body'], { name }: Ask, signal: AbortSignal): AsyncGenerator<Buffer> {
  let bytes = 0
  try {
    for await (const chunk of body as AsyncIterable<Buffer>) {
      bytes += chunk.length
      if (bytes > ANSWER_BYTES) throw failed(`${name} was answered more than ${ANSWER_BYTES} bytes`)
      yield chunk
    }
  } catch (cause) {
    signal.throwIfAborted()
    throw cause instanceof CMeshError ? cause : failed(`${name} was not answered to its end`, cause)
  }
}

async function* statuses(body: Dispatcher.ResponseData['body'], ask: Ask, signal: AbortSignal): AsyncGenerator<string> {
  const reader = new EventStreamReader()
  const text = new TextDecoder()
  for await (const chunk of bounded(body, ask, signal)) {
    for (const data of reader.read(text.decode(chunk, { stream: true }))) yield readStatus(data, ask)
  }
}

function readStatus(text: string, ask: Ask): string {
  const status = json(ask, text)
  if (typeof status !== 'string') throw misshapen(ask)
  return status
}

function json(ask: Ask, text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    throw misshapen(ask)
  }
}

function fieldsOf(value: unknown): Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null ? value as Readonly<Record<string, unknown>> : {}
}

function misshapen({ name }: Ask): CMeshError {
  return failed(`${name} was answered in another shape than documented`)
}

function failed(reason: string, cause?: unknown): CMeshError {
  return new CMeshError('CMESH_IAM_UPSTREAM', { server: 'IRMA server', reason }, { cause })
}
