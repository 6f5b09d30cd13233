/**
 * An IRMA server for tests, with the person and their app in it: it speaks the documented shapes (docs.yivi.app/api-irma-server) on
 * loopback, and misbehaves on demand. It knows no cryptography of IRMA: what it says was disclosed, nobody disclosed.
 */
import { constants, createHmac, generateKeyPairSync, randomBytes, randomInt, sign, timingSafeEqual, verify, type KeyObject } from 'node:crypto'
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { text } from 'node:stream/consumers'
import type { IrmaSettings } from '../../providers/iam/irma-settings.ts'

export const EMAIL = 'pbdf.sidn-pbdf.email.email'
export const NAME = 'pbdf.gemeente.personalData.fullname'
export const BORN = 'pbdf.gemeente.personalData.dateofbirth'

/** What it does wrong from now on. */
export type Mischief =
  | 'refuses to start' | 'no pairing' | 'app sent elsewhere' | 'redirects' | 'not JSON'
  | 'result of another session' | 'result unsigned' | 'result by another key' | 'result by HS256 with the public key' | 'result by PS256' | 'result too old' | 'result of an issuance'
  | 'proof invalid' | 'attribute missing' | 'attribute null' | 'attribute extra' | 'conjunctions mixed' | 'two cards mixed' | 'other value'
  | 'oversized' | 'silent' | 'stream ends early' | 'stream oversized'

interface Attribute {
  readonly id: string
  readonly rawvalue: string | null
  readonly value: Readonly<Record<string, string>> | null
  readonly status: string
  readonly issuancetime: number
}

interface Session {
  readonly token: string
  readonly client: string
  readonly authorization: string
  readonly disclose: readonly (readonly (readonly (string | { type: string, value?: string })[])[])[]
  readonly pairing: string
  status: string
  streams: ServerResponse[]
}

interface RequestorClaims {
  readonly iss: string
  readonly sub: string
  readonly iat: number
  readonly sprequest: { readonly request: { readonly '@context': string, readonly disclose: Session['disclose'] } }
}

const KEYS = generateKeyPairSync('rsa', { modulusLength: 2_048 })
const OTHER_KEYS = generateKeyPairSync('rsa', { modulusLength: 2_048 })
const alphanumeric = (): string => randomBytes(10).toString('hex')
const nowS = (): number => Math.floor(Date.now() / 1_000)
const base64url = (value: unknown): string => Buffer.from(JSON.stringify(value)).toString('base64url')

export class StandInIrma {
  readonly requestor = 'cmesh-test'
  readonly secret = randomBytes(32)
  readonly serverKey = KEYS.publicKey.export({ type: 'spki', format: 'pem' }) as string
  /** Requestors that sign RS256. */
  requestorKey: KeyObject | undefined
  mischief: Mischief | undefined
  /** What the person does once the app is paired. */
  person: 'discloses' | 'declines' | 'waits' = 'discloses'
  /** What the app holds. */
  readonly values = new Map<string, string>([[EMAIL, 'ada@example.com'], [NAME, 'Ada Lovelace'], [BORN, '10-12-1815']])
  /** `METHOD /path`, as they came. */
  readonly requests: string[] = []
  readonly #server: Server
  readonly #sessions = new Map<string, Session>()

  private constructor() {
    this.#server = createServer((request, response) => {
      this.#answer(request, response).catch((error: unknown) => {
        response.writeHead(400, { 'content-type': 'application/json' }).end(JSON.stringify({ status: 400, error: 'INVALID_REQUEST', description: String(error) }))
      })
    })
  }

  static async start(): Promise<StandInIrma> {
    const server = new StandInIrma()
    await new Promise<void>(resolve => { server.#server.listen(0, '127.0.0.1', resolve) })
    return server
  }

  async stop(): Promise<void> {
    this.#server.closeAllConnections()
    await new Promise<void>(resolve => { this.#server.close(() => { resolve() }) })
  }

  get url(): string {
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}`
  }

  /** Every token it gave out. */
  get secrets(): readonly string[] {
    return [...this.#sessions.values()].flatMap(({ token, authorization }) => [token, authorization])
  }

  get settings(): { readonly [K in keyof IrmaSettings]-?: Exclude<IrmaSettings[K], undefined> } {
    return {
      url: this.url, requestor: this.requestor, key: this.secret.toString('base64'), serverKey: this.serverKey,
      disclose: JSON.stringify([[[EMAIL]], [[NAME, BORN]]]), timeoutMs: 20_000,
    }
  }

  /** Sessions that nobody finished or ended. */
  get open(): number {
    return [...this.#sessions.values()].filter(({ status }) => !['DONE', 'CANCELLED', 'TIMEOUT'].includes(status)).length
  }

  /** The person scans what was shown; resolves with the code that the app shows. */
  scan(link: string): string {
    const { u } = JSON.parse(decodeURIComponent(new URL(link).hash.slice(1))) as { u: string }
    const session = [...this.#sessions.values()].find(({ client }) => u.endsWith(`/irma/session/${client}`))
    if (session?.status !== 'INITIALIZED') throw new Error('there is nothing to scan')
    this.#turn(session, 'PAIRING')
    return session.pairing
  }

  #turn(session: Session, status: string): void {
    session.status = status
    if (this.mischief === 'silent' && status !== 'PAIRING') return
    for (const stream of session.streams) stream.write(`data: ${JSON.stringify(status)}\n\n`)
    if (['DONE', 'CANCELLED', 'TIMEOUT'].includes(status)) for (const stream of session.streams.splice(0)) stream.end()
  }

  async #answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const { method = '', url = '' } = request
    this.requests.push(`${method} ${url}`)
    if (this.mischief === 'redirects') return void response.writeHead(307, { location: `${this.url}/elsewhere` }).end()
    const say = (value: unknown): void => { response.writeHead(200, { 'content-type': 'application/json' }).end(JSON.stringify(value)) }
    if (method === 'POST' && url === '/session') return this.#start(request, say, response)

    const [, frontend, action] = /^\/irma\/session\/([0-9a-f]{20})\/frontend\/(options|pairingcompleted)$/.exec(url) ?? []
    if (method === 'POST' && frontend !== undefined) {
      const session = [...this.#sessions.values()].find(({ client }) => client === frontend)
      if (session === undefined || request.headers.authorization !== session.authorization) throw new Error('unauthorized')
      if (action === 'options') return this.#options(session, JSON.parse(await text(request)) as Readonly<Record<string, unknown>>, say)
      if (session.status !== 'PAIRING') throw new Error('pairing was not enabled')
      this.#turn(session, 'CONNECTED')
      response.writeHead(204).end()
      if (this.person !== 'waits') this.#turn(session, this.person === 'discloses' ? 'DONE' : 'CANCELLED')
      return
    }

    const [, token = '', what] = /^\/session\/([0-9a-f]{20})(\/status|\/statusevents|\/result-jwt)?$/.exec(url) ?? []
    const session = this.#sessions.get(token)
    if (session === undefined) throw new Error('session unknown')
    if (method === 'DELETE' && what === undefined) {
      this.#turn(session, 'CANCELLED')
      return void response.writeHead(200).end()
    }
    if (method !== 'GET') throw new Error('no such method')
    if (what === '/status') return say(session.status)
    if (what === '/statusevents') return this.#subscribe(session, response)
    if (what === '/result-jwt') return void response.writeHead(200, { 'content-type': 'text/plain' }).end(this.#result(session))
    throw new Error('no such end point')
  }

  async #start(request: IncomingMessage, say: (value: unknown) => void, response: ServerResponse): Promise<void> {
    const claims = this.#authenticated(await text(request), request.headers['content-type'])
    const { request: { '@context': kind, disclose } } = claims.sprequest
    if (kind !== 'https://irma.app/ld/request/disclosure/v2') throw new Error('no disclosure request')
    if (this.mischief === 'refuses to start') throw new Error('requestor not authorized')
    if (this.mischief === 'not JSON') return void response.writeHead(200).end('<html>')
    const session: Session = {
      token: alphanumeric(), client: alphanumeric(), authorization: alphanumeric(), disclose, status: 'INITIALIZED', streams: [],
      pairing: String(randomInt(10_000)).padStart(4, '0'),
    }
    this.#sessions.set(session.token, session)
    const origin = this.mischief === 'app sent elsewhere' ? 'https://irma.example' : this.url
    say({
      token: session.token, sessionPtr: { u: `${origin}/irma/session/${session.client}`, irmaqr: 'disclosing' },
      frontendRequest: { authorization: session.authorization, minProtocolVersion: '1.0', maxProtocolVersion: '1.1' },
    })
  }

  /** As the server checks a requestor's JWT: signed by the key it has on file for who the JWT says it is by. */
  #authenticated(jwt: string, contentType: string | undefined): RequestorClaims {
    if (contentType?.startsWith('text/plain') !== true) throw new Error('a signed request is text/plain')
    const [head = '', body = '', signature = ''] = jwt.split('.')
    const { alg } = JSON.parse(Buffer.from(head, 'base64url').toString()) as { alg: string }
    const claims = JSON.parse(Buffer.from(body, 'base64url').toString()) as RequestorClaims
    const given = Buffer.from(signature, 'base64url')
    const good = this.requestorKey !== undefined
      ? alg === 'RS256' && verify('sha256', Buffer.from(`${head}.${body}`), this.requestorKey, given)
      : alg === 'HS256' && given.length === 32 && timingSafeEqual(given, createHmac('sha256', this.secret).update(`${head}.${body}`).digest())
    if (!good || claims.iss !== this.requestor || claims.sub !== 'verification_request') throw new Error('not a known requestor')
    if (Math.abs(nowS() - claims.iat) > 60) throw new Error('jwt too old')
    return claims
  }

  #options(session: Session, options: Readonly<Record<string, unknown>>, say: (value: unknown) => void): void {
    if (options['@context'] !== 'https://irma.app/ld/request/frontendoptions/v1' || options['pairingMethod'] !== 'pin') throw new Error('no frontend options request')
    if (session.status !== 'INITIALIZED') throw new Error('the app is there already')
    say(this.mischief === 'no pairing' ? { pairingMethod: 'none' } : { '@context': options['@context'], pairingMethod: 'pin', pairingCode: session.pairing })
  }

  #subscribe(session: Session, response: ServerResponse): void {
    response.writeHead(200, { 'content-type': 'text/event-stream' })
    response.write('event: open\ndata: \n\n')
    if (this.mischief === 'stream ends early') return void response.end()
    if (this.mischief === 'stream oversized') response.write(`data: ${'x'.repeat(100_000)}`)
    session.streams.push(response)
  }

  #result(session: Session): string {
    if (this.mischief === 'oversized') return 'x'.repeat(1_000_000)
    const claims = {
      iss: 'irmaserver', sub: this.mischief === 'result of an issuance' ? 'issuing_result' : 'disclosing_result', iat: nowS(), exp: nowS() + 60,
      ...(this.mischief === 'result too old' && { iat: nowS() - 3_600, exp: nowS() - 3_540 }),
      token: this.mischief === 'result of another session' ? alphanumeric() : session.token,
      status: 'DONE', type: 'disclosing', proofStatus: this.mischief === 'proof invalid' ? 'INVALID' : 'VALID', disclosed: this.#disclosed(session),
    }
    const part = (alg: string): string => `${base64url({ alg, typ: 'JWT' })}.${base64url(claims)}`
    switch (this.mischief) {
      case 'result unsigned': return `${part('none')}.`
      case 'result by HS256 with the public key': return `${part('HS256')}.${createHmac('sha256', this.serverKey).update(part('HS256')).digest('base64url')}`
      case 'result by PS256': {
        const pss = { key: KEYS.privateKey, padding: constants.RSA_PKCS1_PSS_PADDING, saltLength: 32 }
        return `${part('PS256')}.${sign('sha256', Buffer.from(part('PS256')), pss).toString('base64url')}`
      }
      default: return `${part('RS256')}.${sign('sha256', Buffer.from(part('RS256')), (this.mischief === 'result by another key' ? OTHER_KEYS : KEYS).privateKey).toString('base64url')}`
    }
  }

  #disclosed({ disclose }: Session): readonly (readonly Attribute[])[] {
    const present = (id: string, i: number): Attribute => {
      const rawvalue = this.mischief === 'other value' ? 'somebody else' : this.values.get(id) ?? 'present'
      return { id, rawvalue, value: { '': rawvalue, en: rawvalue, nl: rawvalue }, status: 'PRESENT', issuancetime: this.mischief === 'two cards mixed' ? i : 1_600_000_000 }
    }
    const sets = disclose.map(discon => (discon[0] ?? []).map((wanted, i) => present(typeof wanted === 'string' ? wanted : wanted.type, i)))
    const [first = [], ...others] = sets
    switch (this.mischief) {
      case 'attribute missing': return [first.slice(1), ...others]
      case 'attribute null': return [first.map(attribute => ({ ...attribute, rawvalue: null, value: null, status: 'NULL' })), ...others]
      case 'attribute extra': return [...sets, [{ ...present('pbdf.pbdf.mobilenumber.mobilenumber', 0), status: 'EXTRA' }]]
      // Every attribute is there, but half of one conjunction stands for half of the other.
      case 'conjunctions mixed': return [...others, first]
      default: return sets
    }
  }
}
