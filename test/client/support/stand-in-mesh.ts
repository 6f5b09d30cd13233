/**
 * A mesh of one scripted node on a real nats-server: it shakes hands properly and answers requests with whatever the test
 * says, bytes included. Not a node: nothing is checked but what the handshake itself checks.
 */
import { randomBytes } from 'node:crypto'
import type { Pass } from '../../../client/connection.ts'
import { CMeshError } from '../../../cmtp/errors.ts'
import { BatchFrame } from '../../../cmtp/batch.ts'
import { BatchReplyWriter } from '../../../cmtp/batch-reply.ts'
import { encodeReply, encodeRequest, ReplyFrame, RequestFrame } from '../../../cmtp/frame.ts'
import { canonicalBytes } from '../../../cmtp/identity/canonical-json.ts'
import { didToSegment } from '../../../cmtp/identity/did.ts'
import { callHash, checkConfirm, checkConsent, checkRenewal, handshakeContext, sign, type HandshakeContext } from '../../../cmtp/identity/handshake.ts'
import { KeyPair, PublicKey } from '../../../cmtp/identity/keys.ts'
import { Nkey, readNkey } from '../../../cmtp/identity/nats-keys.ts'
import { readMessage, type GrantMessage } from '../../../cmtp/identity/messages.ts'
import { checkDidProof } from '../../../cmtp/identity/proof.ts'
import { decodeToken, TOKEN_REFERENCE_BYTES, tokenReference, type TokenClaims } from '../../../cmtp/identity/token.ts'
import { encodeHeaders, type HeaderList } from '../../../cmtp/headers.ts'
import { entryId } from '../../../cmtp/message-id.ts'
import { CARRIED_WILDCARD, connectionOfHello, HELLO_WILDCARD, helloNodeSubject, isReplyOf, originOfSubject, REQUEST_WILDCARD } from '../../../cmtp/subject.ts'
import { KIND_BATCH_REQUEST } from '../../../cmtp/wire.ts'
import type { Bus, BusMessage } from '../../../services/bus/provider.ts'
import { startBroker, type TestBroker } from '../../support/broker.ts'

export interface StandInRequest {
  readonly data: Buffer
  readonly subject: string
  readonly sid: string
  /** The session of the gateway whose connection it came over. */
  readonly via: string | undefined
  /** The reference of an entry's own token, in a gateway's frame that was split. */
  readonly reference: Buffer | undefined
  readonly replySubject: string
  /** Only for kind 1. */
  readonly frame: RequestFrame
  /** Sends any bytes to where the answer is expected. */
  readonly send: (bytes: Uint8Array) => void
}

export type Behaviour = (request: StandInRequest) => void

interface Open {
  readonly context: HandshakeContext
  readonly sessionKey: PublicKey
  readonly via: string | undefined
  readonly nkey: string | undefined
  grant?: GrantMessage
}

/** A step of a handshake, and the connection it came over. */
export interface StandInStep {
  readonly action: string
  readonly cid: string
}

const NODE = 'stand-in'
const REVOKED = new CMeshError('CMESH_IAM_NO_SESSION', { reason: 'the session is revoked' })
export const FINAL_HASH = 'f'.repeat(32)

export class StandInMesh {
  readonly mesh = KeyPair.generate()
  /** What the next requests are answered by. */
  behaviour: Behaviour = ok
  /** Life of the tokens it gives, in ms. */
  sessionTtlMs = 300_000
  /** Life of the logins it gives, in ms. */
  connectionTtlMs = 3_600_000
  /** What every step of a handshake is refused with. */
  refuseHandshakes: CMeshError | undefined
  /** Answers no step of a handshake, and is told how long each may take, in ms, by the clock of when it came. */
  ignoreHandshakes: ((leftMs: number) => void) | undefined
  /** Steps of the handshake that arrived. */
  readonly steps: string[] = []
  /** The same, with the connections they came over. */
  readonly arrivals: StandInStep[] = []
  /** Requests that arrived, the newest last. */
  readonly requests: StandInRequest[] = []
  /** Whether the entries of a batch are answered one by one, as if each had come alone. */
  splitBatches = false
  /** Tokens that it gave, by their references. */
  readonly tokens = new Map<string, TokenClaims>()
  /** Sessions that it does not accept (any more). */
  readonly refused = new Set<string>()
  readonly #broker: TestBroker
  readonly #open = new Map<string, Open>()

  static async start(): Promise<StandInMesh> {
    return new StandInMesh(await startBroker())
  }

  private constructor(broker: TestBroker) {
    this.#broker = broker
    const { mesh, door } = broker
    for (const bus of [mesh, door]) {
      for (const subject of [HELLO_WILDCARD, helloNodeSubject(NODE)]) bus.subscribe(subject, (message) => this.#onHello(bus, message))
    }
    for (const subject of [REQUEST_WILDCARD, CARRIED_WILDCARD]) mesh.subscribe(subject, (message) => this.#onRequest(message))
  }

  get url(): string {
    return this.#broker.url
  }

  get broker(): TestBroker {
    return this.#broker
  }

  /** Kills the server outright; it comes back by itself, on the same port. Resolves when it is back. */
  async killBroker(): Promise<void> {
    const { broker, mesh } = this.#broker
    const back = new Promise<void>((resolve) => {
      const stop = mesh.onStatus((status) => {
        if (status !== 'connected') return
        stop()
        resolve()
      })
    })
    process.kill(broker.pid as number, 'SIGKILL')
    await back
  }

  /** What a link of that session logs in with, without a handshake. */
  passOf(sid: string): Pass {
    const nkey = Nkey.generate('user')
    return { sid, nkey, connection: this.#login(nkey.text, sid) }
  }

  /** Keeps a session out, as a node does when it was revoked: the mesh refuses it and the broker ends its link. */
  async kick(sid: string): Promise<void> {
    this.refused.add(sid)
    await this.cutOff(sid)
  }

  /** Has the broker end the session's links and refuse its logins, of which the mesh knows nothing. */
  async cutOff(sid: string): Promise<void> {
    const nkey = [...this.tokens.values()].find((claims) => claims.sid === sid)?.cnf.nkey
    if (nkey === undefined) throw new Error(`the session ${sid} has no nkey`)
    await this.#broker.sessions.bar([nkey])
  }

  /** Publishes on an inbox as the node does. */
  publish(subject: string, data: Uint8Array): void {
    this.#broker.mesh.publish(subject, data)
  }

  async stop(): Promise<void> {
    await this.#broker.stop()
  }

  #onHello(bus: Bus, { subject, data, reply }: BusMessage): void {
    const frame = RequestFrame.decode(Buffer.from(data))
    const action = frame.fqmn.slice('0xIW:'.length)
    const cid = connectionOfHello(subject) ?? ''
    if (!isReplyOf(cid, reply)) throw new Error(`${reply} is no inbox of ${cid}`)
    this.steps.push(action)
    this.arrivals.push({ action, cid })
    if (this.ignoreHandshakes !== undefined) return this.ignoreHandshakes(frame.deadlineMs - Date.now())
    let status = 200
    let body: Buffer
    try {
      if (this.refuseHandshakes !== undefined) throw this.refuseHandshakes
      body = this.#step(action, frame.body)
    } catch (thrown) {
      const error = CMeshError.from(thrown, 'the stand-in')
      status = error.status
      body = Buffer.from(JSON.stringify(error.toWire()))
    }
    bus.publish(reply, encodeReply({ id: frame.id, status, receipt: 'none', body }))
  }

  #step(action: string, body: Buffer): Buffer {
    switch (action) {
      case 'call': {
        const call = readMessage('call', body)
        const opening = {
          step: 'answer' as const, handshake: randomBytes(16).toString('base64url'), call: callHash(call),
          nonce: randomBytes(32).toString('base64url'), audience: this.mesh.did, node: NODE, provider: 'did', expires: Date.now() + 60_000,
        }
        this.#open.set(opening.handshake, { context: handshakeContext(opening), sessionKey: PublicKey.fromText(call.key), via: call.via, nkey: call.nkey })
        return canonicalBytes(sign({ ...opening, challenge: 'prove it' }, this.mesh))
      }
      case 'confirm': {
        const confirm = readMessage('confirm', body)
        const open = this.#open.get(confirm.handshake)
        if (open === undefined) throw new CMeshError('CMESH_IAM_HANDSHAKE', { step: 'confirm', reason: 'unknown' })
        checkConfirm(open.context, open.sessionKey, confirm, open.nkey === undefined ? undefined : readNkey('user', open.nkey))
        const sub = checkDidProof(open.context, confirm.proof)
        open.grant = sign({
          step: 'grant' as const, handshake: confirm.handshake, audience: this.mesh.did, sub, perms: ['read 0xS:>'], claims: [],
          purpose: 'a test', ...(open.via !== undefined && { via: open.via }), lifetimeMs: this.sessionTtlMs, amr: ['pop'], aal: 1 as const,
        }, this.mesh)
        return canonicalBytes(open.grant)
      }
      case 'consent': {
        const consent = readMessage('consent', body)
        const open = this.#open.get(consent.handshake)
        if (open?.grant === undefined) throw new CMeshError('CMESH_IAM_HANDSHAKE', { step: 'consent', reason: 'unknown' })
        checkConsent(open.grant, open.sessionKey, consent)
        return this.#session(randomBytes(16).toString('base64url'), open.grant.sub, { jkt: open.sessionKey.thumbprint, ...(open.nkey !== undefined && { nkey: open.nkey }) }, open.via)
      }
      case 'refresh': {
        const renewal = readMessage('refresh', body)
        const claims = decodeToken(renewal.token)
        checkRenewal(renewal, claims)
        if (this.refused.has(claims.sid)) throw REVOKED
        return this.#session(claims.sid, claims.sub, claims.cnf, claims.via)
      }
      case 'hangup': {
        const renewal = readMessage('hangup', body)
        const claims = decodeToken(renewal.token)
        checkRenewal(renewal, claims)
        if (this.refused.has(claims.sid)) throw REVOKED
        if (claims.cnf.nkey === undefined) this.refused.add(claims.sid)
        else void this.kick(claims.sid)
        return canonicalBytes({ step: 'bye', sid: claims.sid })
      }
      default:
        throw new CMeshError('CMESH_ROUTER_ACTION', { service: 'iam', action, access: 'writing' })
    }
  }

  #session(sid: string, sub: string, cnf: TokenClaims['cnf'], via: string | undefined): Buffer {
    const issued = Math.floor(Date.now() / 1000) * 1000
    const part = (value: object): string => Buffer.from(JSON.stringify(value)).toString('base64url')
    const signed = `${part({ alg: 'EdDSA', typ: 'cmesh-at+jwt', kid: this.mesh.publicKey.thumbprint })}.${part({
      iss: didToSegment(this.mesh.did), aud: 'cmtp', sub: didToSegment(sub), sid, jti: randomBytes(16).toString('base64url'),
      iat: issued / 1000, exp: Math.ceil((issued + this.sessionTtlMs) / 1000), ver: 1, cnf, perms: ['read 0xS:>'], amr: ['pop'], aal: 1, ...(via !== undefined && { via }),
    })}`
    const token = `${signed}.${this.mesh.sign(Buffer.from(signed)).toString('base64url')}`
    this.tokens.set(tokenReference(Buffer.from(token)).toString('hex'), decodeToken(token))
    return canonicalBytes({
      step: 'session', sid, token, issued, expires: issued + this.sessionTtlMs,
      ...(cnf.nkey !== undefined && { connection: this.#login(cnf.nkey, sid) }),
    })
  }

  #login(nkey: string, sid: string): { readonly jwt: string, readonly expires: number } {
    const expires = Math.floor((Date.now() + this.connectionTtlMs) / 1000) * 1000
    return { jwt: this.#broker.sessions.mint({ nkey, sid, expiresMs: expires }), expires }
  }

  #onRequest({ subject, data, reply }: BusMessage): void {
    const bytes = Buffer.from(data)
    const { mesh } = this.#broker
    if (this.splitBatches && bytes[3] === KIND_BATCH_REQUEST) {
      for (const [entry, send, reference] of entriesOf(bytes, (answer) => mesh.publish(reply, answer))) this.#answer(subject, entry, reply, send, reference)
    } else {
      this.#answer(subject, bytes, reply, (answer) => mesh.publish(reply, answer), undefined)
    }
  }

  #answer(subject: string, bytes: Buffer, reply: string, send: (bytes: Uint8Array) => void, reference: Buffer | undefined): void {
    const { sid, via } = originOfSubject(subject) ?? { sid: '', via: undefined }
    if (!isReplyOf(via ?? sid, reply)) throw new Error(`${reply} is no inbox of ${via ?? sid}`)
    const request: StandInRequest = {
      data: bytes, subject, sid, via, reference, replySubject: reply, send,
      get frame() { return RequestFrame.decode(bytes) },
    }
    this.requests.push(request)
    const carried = reference === undefined ? undefined : this.tokens.get(reference.toString('hex'))
    // As a node does: whoever is carried is not to blame for the gateway.
    if (this.refused.has(sid)) refuse(request, reference === undefined ? REVOKED : new CMeshError('CMESH_IAM_TOKEN'))
    else if (carried !== undefined && this.refused.has(carried.sid)) refuse(request, REVOKED)
    else this.behaviour(request)
  }
}

/** Each entry of a batch as a request of its own; the last answer sends them all. */
function entriesOf(data: Buffer, send: (bytes: Uint8Array) => void): (readonly [Buffer, (answer: Uint8Array) => void, Buffer | undefined])[] {
  const batch = BatchFrame.decode(data)
  const { receipt, deadlineMs, token } = batch
  const answers = new Map<number, ReplyFrame>()
  const settle = (index: number, answer: Uint8Array): void => {
    answers.set(index, ReplyFrame.decode(answer))
    if (answers.size < batch.entries.length) return
    const writer = new BatchReplyWriter(batch.id, batch.entries.length, receipt)
    for (let i = 0; i < batch.entries.length; i++) {
      const { status, finalHash, headers, body } = answers.get(i) as ReplyFrame
      writer.add(status, finalHash.toString('latin1'), headers, undefined, body)
    }
    send(writer.finish())
  }
  return batch.entries.map((entry, i) => {
    const { fqmnStart, fqmnEnd, headersEnd, end } = entry
    const request = encodeRequest({
      id: entryId(batch.id, i), fqmn: data.toString('utf8', fqmnStart, fqmnEnd), token, deadlineMs, receipt,
      headers: data.subarray(fqmnEnd, headersEnd), body: data.subarray(headersEnd, end),
    })
    return [request, (answer) => settle(i, answer), batch.ownTokens ? batch.referenceOf(entry) : undefined]
  })
}

/** The claims of who asks, by whatever stands for the token; `undefined` for nobody this mesh gave one to. */
export function callerOf(mesh: StandInMesh, { reference, frame: { token } }: StandInRequest): TokenClaims | undefined {
  const known = reference ?? (token.length === TOKEN_REFERENCE_BYTES ? token : tokenReference(token))
  return mesh.tokens.get(known.toString('hex'))
}

/** Answers 200 with the address and the body's text. */
export function ok({ frame, send }: StandInRequest): void {
  send(answer(frame, 200, { fqmn: frame.fqmn, body: frame.body.toString('utf8') }))
}

export function refuse({ frame, send }: StandInRequest, error: CMeshError): void {
  send(answer(frame, error.status, error.toWire(), [['content-type', 'application/cmesh-error+json']]))
}

export function answer(frame: RequestFrame, status: number, value: unknown, headers: HeaderList = [['content-type', 'application/json']]): Buffer {
  return encodeReply({
    id: frame.id, status, receipt: frame.receipt, finalHash: FINAL_HASH, headers: encodeHeaders(headers), body: Buffer.from(JSON.stringify(value)),
  })
}

