/**
 * What somebody can do over a real node's wire who got hold of what is not theirs: tokens, whole frames, steps of a handshake. The
 * victim of each attack is asked afterwards and notices nothing. What frames and tokens alone can be is `bad-input.test.ts`'s.
 */
import { createHmac } from 'node:crypto'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from '@jest/globals'
import { encodeBatch } from '../../cmtp/batch.ts'
import { encodeReply, encodeRequest, RequestFrame, type RequestFields } from '../../cmtp/frame.ts'
import { canonicalBytes, parseCanonicalJson } from '../../cmtp/identity/canonical-json.ts'
import { handshakeContext, makeCall, makeRenewal, sign } from '../../cmtp/identity/handshake.ts'
import { KeyPair } from '../../cmtp/identity/keys.ts'
import { login, type SendStep, type Session } from '../../cmtp/identity/login.ts'
import { readMessage, type HandshakeAction } from '../../cmtp/identity/messages.ts'
import { Nkey } from '../../cmtp/identity/nats-keys.ts'
import { makeDidProof } from '../../cmtp/identity/proof.ts'
import { tokenReference } from '../../cmtp/identity/token.ts'
import { requestSubject } from '../../cmtp/subject.ts'
import { ExternalBroker } from '../support/external-broker.ts'
import { failureOf } from '../support/iam.ts'
import { NodeRoom, type TestNode } from '../support/node-process.ts'
import { RawNats, readRaw, type RawReply } from '../support/raw-nats.ts'
import { readVectors } from '../support/vectors.ts'

const HELLO = '0xS:0x001:hello_world'
const INCREMENT = '0xSW:0x002:increment'

const room = new NodeRoom()
const operator = KeyPair.generate()
const raws: RawNats[] = []
let node: TestNode
let raw: RawNats
let victim: Session
let thief: Session

beforeAll(async () => { node = await room.start({ args: ['--operator', operator.did] }) })
afterAll(() => room.close())
beforeEach(async () => {
  raw = await connectRaw()
  victim = await raw.login(operator)
  thief = await raw.login(KeyPair.generate())
})
afterEach(async () => {
  try {
    expect(await ask(victim, {})).toMatchObject({ status: 200, json: 'Hello, world' })
  } finally {
    for (const each of raws.splice(0)) each.close()
  }
})

/** A connection that lasts until the test ends, however it ends. */
async function connectRaw(to: TestNode = node): Promise<RawNats> {
  const connected = await RawNats.connect(to.url)
  raws.push(connected)
  return connected
}

function frame(session: Session, fields: Partial<RequestFields> = {}): Buffer {
  return encodeRequest({ id: raw.ids.next(), fqmn: HELLO, token: Buffer.from(session.token), deadlineMs: Date.now() + 10_000, receipt: 'hash', ...fields })
}

const ask = (session: Session, fields: Partial<RequestFields>): Promise<RawReply> => raw.ask(requestSubject(session.sid), frame(session, fields))
const count = async (): Promise<unknown> => (await ask(victim, { fqmn: '0xS:0x002:get' })).json

/** One step at the door, as bytes; resolves with the body of the reply. */
const step: SendStep = (action, body, to) => raw.step(action, body, to)

interface Seen { readonly action: HandshakeAction, readonly body: Uint8Array, readonly node: string | undefined }

/** A whole handshake, and every step of it as it went over the wire. */
async function watched(): Promise<{ readonly session: Session, readonly seen: readonly Seen[] }> {
  const seen: Seen[] = []
  const send: SendStep = (action, body, to) => {
    seen.push({ action, body, node: to })
    return step(action, body, to)
  }
  const session = await login({ identity: KeyPair.generate(), nkey: Nkey.generate('user'), send })
  await raw.enter(session)
  return { session, seen }
}

describe('a stolen token', () => {
  test('is worth nothing on another session\'s subject, whole or as a reference, alone or in a batch', async () => {
    const before = await count()
    const on = requestSubject(thief.sid)
    const stolen = Buffer.from(victim.token)
    const batch = encodeBatch({ id: raw.ids.next(), token: stolen, deadlineMs: Date.now() + 10_000, receipt: 'hash', entries: [{ fqmn: INCREMENT }] })
    for (const data of [frame(victim, { fqmn: INCREMENT }), frame(victim, { fqmn: INCREMENT, token: tokenReference(stolen) })]) {
      expect(await raw.ask(on, data)).toMatchObject({ status: 401, code: expect.stringMatching(/^CMESH_IAM_(NO_SESSION|TOKEN)$/) })
    }
    expect((await raw.request(on, batch)).data.toString('latin1')).toContain('belongs to another session')
    expect(await count()).toBe(before)
  })

  test('renews nothing and ends nothing without the session\'s key', async () => {
    for (const action of ['refresh', 'hangup'] as const) {
      const own = makeRenewal(action, victim.token, thief.key, Date.now())
      const claimed = sign({ step: action, token: victim.token, key: victim.key.publicKey.text, issued: Date.now() }, thief.key)
      expect(await failureOf(() => step(action, canonicalBytes(own), undefined))).toMatchObject({ code: 'CMESH_IAM_HANDSHAKE', detail: { step: action } })
      expect(await failureOf(() => step(action, canonicalBytes(claimed), undefined))).toMatchObject({ code: 'CMESH_IAM_FORGED' })
    }
  })

  test('is dead in every form once its session is ended, and so are its renewals', async () => {
    // On a broker without accounts, which would else end the connection before anything could be asked.
    const broker = await ExternalBroker.start()
    try {
      const bare = await room.start({ args: ['--nats-url', broker.url] })
      const away = await connectRaw(bare)
      const session = await away.login(KeyPair.generate())
      const on = requestSubject(session.sid)
      const kept = frame(session)
      expect(await away.ask(on, frame(session))).toMatchObject({ status: 200 })
      await away.step('hangup', canonicalBytes(makeRenewal('hangup', session.token, session.key, Date.now())), undefined)
      for (const data of [kept, frame(session), frame(session, { token: tokenReference(Buffer.from(session.token)) })]) {
        expect(await away.ask(on, data)).toMatchObject({ status: 401 })
      }
      const renewal = makeRenewal('refresh', session.token, session.key, Date.now() + 1)
      expect((await failureOf(() => away.step('refresh', canonicalBytes(renewal), undefined))).status).toBe(401)
      await bare.stop()
    } finally {
      await broker.stop()
    }
  })

  test('longer than any token is refused by its size, in a frame and in a renewal', async () => {
    const long = `${victim.token}${'A'.repeat(8_192)}`
    const bytes = frame(victim)
    bytes.writeUInt16BE(0xffff, 34)
    expect(await raw.ask(requestSubject(victim.sid), bytes)).toMatchObject({ status: 413, code: 'CMESH_FRAME_TOO_LARGE' })
    const renewal = makeRenewal('refresh', long, victim.key, Date.now())
    expect(await failureOf(() => step('refresh', canonicalBytes(renewal), undefined))).toMatchObject({ code: 'CMESH_IAM_HANDSHAKE', detail: { reason: 'the field token is not valid' } })
  })

  test('forged in whatever way is refused in one and the same way', async () => {
    const [head = '', body = '', signature = ''] = victim.token.split('.')
    const header = JSON.parse(Buffer.from(head, 'base64url').toString()) as Record<string, unknown>
    const encoded = (value: unknown): string => Buffer.from(JSON.stringify(value)).toString('base64url')
    const hmac = encoded({ ...header, alg: 'HS256' })
    const forgeries = [
      `${encoded({ ...header, alg: 'none' })}.${body}.`,
      `${hmac}.${body}.${createHmac('sha256', node.descriptor.did).update(`${hmac}.${body}`).digest('base64url')}`,
      `${encoded({ ...header, kid: '../../node.key' })}.${body}.${signature}`,
      `${encoded({ ...header, crit: ['exp'], exp: 1 })}.${body}.${signature}`,
      `${encoded({ ...header, jwk: thief.key.publicKey.jwk })}.${body}.${thief.key.sign(Buffer.from(`${head}.${body}`)).toString('base64url')}`,
      `${head}.${body}.${thief.key.sign(Buffer.from(`${head}.${body}`)).toString('base64url')}`,
    ]
    const bodies = []
    for (const token of forgeries) bodies.push((await ask(thief, { token: Buffer.from(token) })).body.toString())
    expect(new Set(bodies).size).toBe(1)
    expect(JSON.parse(bodies[0] ?? '')).toMatchObject({ code: 'CMESH_IAM_NO_SESSION', detail: { reason: 'the token is not valid' } })
  })
})

describe('a recorded frame', () => {
  test('sent again carries nothing out twice', async () => {
    const before = await count()
    const write = frame(victim, { fqmn: INCREMENT })
    const first = await raw.ask(requestSubject(victim.sid), write)
    const again = await raw.ask(requestSubject(victim.sid), write)
    expect([first.status, again.status]).toEqual([200, 200])
    expect(again.json).toEqual(first.json)
    expect(await count()).toBe((before as number) + 1)
  })
})

describe('a recorded handshake', () => {
  test('cannot be played again, in whole or from any step on', async () => {
    const { session, seen } = await watched()
    expect(seen.map(({ action }) => action)).toEqual(['call', 'confirm', 'consent'])
    expect(await failureOf(() => step('call', (seen[0] as Seen).body, undefined))).toMatchObject({
      code: 'CMESH_IAM_HANDSHAKE', detail: { step: 'call', reason: 'its nkey is the one of a session that lives' },
    })
    // A call of the same key that names no nkey opens another handshake, with another nonce: what follows does not fit it.
    const opened = parseCanonicalJson(await step('call', canonicalBytes(makeCall({ sessionKey: session.key.publicKey })), undefined)) as { handshake: string }
    for (const { action, body, node: to } of seen.slice(1)) {
      expect((parseCanonicalJson(body) as { handshake: string }).handshake).not.toBe(opened.handshake)
      expect(await failureOf(() => step(action, body, to))).toMatchObject({ code: 'CMESH_IAM_HANDSHAKE', status: 401 })
    }
    expect(await ask(session, {})).toMatchObject({ status: 200 })
  })

  test.each([
    ['proof', 'CMESH_IAM_FORGED', /^The proof is not signed/],
    ['transcript', 'CMESH_IAM_HANDSHAKE', /its transcript is not the one of this handshake/],
    ['nonce', 'CMESH_IAM_HANDSHAKE', /its nonce is not the one of this handshake/],
    ['signature', 'CMESH_IAM_FORGED', /^The confirm is not signed/],
  ] as const)('has no %s that fits the confirm of another', async (field, code, message) => {
    const { seen } = await watched()
    const stolen = parseCanonicalJson((seen[1] as Seen).body) as Record<string, unknown>
    const key = KeyPair.generate()
    const answer = readMessage('answer', await step('call', canonicalBytes(makeCall({ sessionKey: key.publicKey })), undefined))
    const context = handshakeContext(answer)
    const own = { step: 'confirm' as const, ...context, proof: makeDidProof(context, KeyPair.generate()), ...(answer.cookie !== undefined && { cookie: answer.cookie }) }
    const confirm = field === 'signature' ? { ...own, signature: stolen[field] } : sign({ ...own, [field]: stolen[field] }, key)
    expect(await failureOf(() => step('confirm', canonicalBytes(confirm), answer.node))).toMatchObject({ code, message: expect.stringMatching(message) })
    // And what was refused has burned the handshake: the right confirm comes too late.
    expect(await failureOf(() => step('confirm', canonicalBytes(sign(own, key)), answer.node))).toMatchObject({ code: 'CMESH_IAM_HANDSHAKE' })
  })

  test('has no refresh that works twice', async () => {
    const { session } = await watched()
    const renewal = canonicalBytes(makeRenewal('refresh', session.token, session.key, Date.now()))
    await step('refresh', renewal, undefined)
    expect(await failureOf(() => step('refresh', renewal, undefined))).toMatchObject({ status: 401 })
    expect(await ask(session, {})).toMatchObject({ status: 200 })
  })

  test.each(readVectors<{ smallOrder: string[] }>('identity/refused-keys.json').smallOrder)('has no session key of small order: %s', async hex => {
    const call = { ...makeCall({ sessionKey: victim.key.publicKey }), key: Buffer.from(hex, 'hex').toString('base64url') }
    expect(await failureOf(() => step('call', canonicalBytes(call), undefined))).toMatchObject({ code: 'CMESH_IAM_KEY' })
  })
})

describe('a forged reply', () => {
  test('does not reach who asked, though the forger knows where the answer goes and under which id', async () => {
    const forger = await connectRaw()
    const { subject, message } = raw.expect(victim.sid)
    const request = frame(victim)
    const { id } = RequestFrame.decode(request)
    forger.publish(subject, encodeReply({ id, status: 200, receipt: 'none', body: Buffer.from('"forged"') }))
    await forger.flush()
    raw.publish(requestSubject(victim.sid), request, subject)
    expect(readRaw(await message)).toMatchObject({ status: 200, json: 'Hello, world' })
    expect(raw.unasked).toEqual([])
    expect(forger.errors.join()).toContain('Permissions Violation for Publish')
  })
})
