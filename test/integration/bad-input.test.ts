/**
 * What a node does with whatever may come over a real broker from a client that keeps to nothing: bytes as a script writes
 * them, on a bare socket. Each message that can be answered gets one coded answer; afterwards the node answers a normal request.
 */
import { readFile } from 'node:fs/promises'
import path from 'node:path'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from '@jest/globals'
import fc from 'fast-check'
import { encodeBatch, type BatchEntryFields } from '../../cmtp/batch.ts'
import { decodeBatchReply } from '../../cmtp/batch-reply.ts'
import { takesBundle } from '../../cmtp/bundle.ts'
import { CATALOGUE } from '../../cmtp/errors.ts'
import { encodeRequest, type RequestFields } from '../../cmtp/frame.ts'
import { decodeHeaders, encodeHeaders, headerValue } from '../../cmtp/headers.ts'
import { canonicalBytes } from '../../cmtp/identity/canonical-json.ts'
import { makeCall } from '../../cmtp/identity/handshake.ts'
import { KeyPair } from '../../cmtp/identity/keys.ts'
import { HANDSHAKE_BODY_BYTES } from '../../cmtp/identity/messages.ts'
import type { Session } from '../../cmtp/identity/login.ts'
import { makeRequestProof, PROOF_HEADER } from '../../cmtp/identity/request-proof.ts'
import { decodeToken, tokenReference, type TokenClaims } from '../../cmtp/identity/token.ts'
import { LIMITS } from '../../cmtp/limits.ts'
import { entryId, formatMessageId } from '../../cmtp/message-id.ts'
import { helloSubject, mineSubject, requestSubject } from '../../cmtp/subject.ts'
import type { ReceiptLevel } from '../../cmtp/wire.ts'
import { signToken } from '../../services/iam/session-token.ts'
import { until } from '../client/support/until.ts'
import { damaged, everyBitFlip, everyTruncation } from '../support/damage.ts'
import { NodeRoom, type TestNode } from '../support/node-process.ts'
import { metric } from '../support/prometheus.ts'
import { RawNats, readRaw, type RawMessage, type RawReply } from '../support/raw-nats.ts'
import { standStill } from '../support/stand-still.ts'

const PER_SESSION = 32
const HELLO = '0xS:0x001:hello_world'
const COUNT = '0xS:0x002:get'
const INCREMENT = '0xSW:0x002:increment'

const room = new NodeRoom()
const operator = KeyPair.generate()
let node: TestNode
let raws: RawNats[] = []
let raw: RawNats
let session: Session

beforeAll(async () => { node = await room.start({ args: ['--operator', operator.did], set: { 'router.perSession': PER_SESSION } }) })
afterAll(() => room.close())

beforeEach(async () => {
  raw = await open()
  session = await raw.login(operator)
})

/** The replies to what `ask` sends while the node stands still: it then finds all of it waiting, however fast it is. */
async function atOnce(ask: () => Promise<RawReply>[]): Promise<RawReply[]> {
  try {
    await standStill(node.pid)
    const replies = Promise.all(ask())
    await raw.flush()
    node.signal('SIGCONT')
    return await replies
  } finally {
    node.signal('SIGCONT')
  }
}

/** Whatever was done to it: the node is up, healthy and answers somebody who keeps to the rules. */
afterEach(async () => {
  const other = await open()
  const own = await other.login(KeyPair.generate())
  const frame = encodeRequest({ id: other.ids.next(), fqmn: HELLO, token: Buffer.from(own.token), deadlineMs: Date.now() + 10_000, receipt: 'hash' })
  expect(await other.ask(requestSubject(own.sid), frame)).toMatchObject({ status: 200, json: 'Hello, world' })
  for (const each of raws) each.close()
  raws = []
  await until('nothing is in flight', async () => metric(await node.metrics(), 'cmesh_requests_in_flight') === 0)
  expect(await node.health()).toMatchObject({ code: 200, body: { status: 'ok', writesPending: 0 } })
  expect(node.stderr).not.toMatch(/CMESH_INTERNAL|"level":(50|60)/)
})

async function open(): Promise<RawNats> {
  const opened = await RawNats.connect(node.url)
  raws.push(opened)
  return opened
}

function request(fields: Partial<RequestFields> = {}): Buffer {
  return encodeRequest({ id: raw.ids.next(), fqmn: HELLO, token: Buffer.from(session.token), deadlineMs: Date.now() + 10_000, receipt: 'hash', ...fields })
}

function batch(entries: readonly BatchEntryFields[], id: Uint8Array = batchId(entries.length)): Buffer {
  return encodeBatch({ id, token: Buffer.from(session.token), deadlineMs: Date.now() + 10_000, receipt: 'hash', entries })
}

function batchId(entries: number): Buffer {
  const id = Buffer.alloc(16)
  raw.ids.write(id, 0, entries)
  return id
}

function ask(frame: Uint8Array, on: Session = session): Promise<RawReply> {
  return raw.ask(requestSubject(on.sid), frame)
}

function call(fqmn: string, body?: Uint8Array | string): Promise<RawReply> {
  return ask(request({ fqmn, ...(body !== undefined && { body: Buffer.from(body) }) }))
}

async function count(): Promise<number> {
  return (await call(COUNT)).json as number
}

/** A request frame with some of its bytes written over. */
function patched(at: number, ...bytes: number[]): Buffer {
  const frame = request()
  frame.set(bytes, at)
  return frame
}

/** Of a reply to what bears no id that anybody could ask for again: nothing is recorded of it. */
const levelOf = ({ id }: RawReply): ReceiptLevel => (id.every(byte => byte === 0) ? 'none' : 'hash')

/** Each answer is whole: the same id, a final hash, and for a failure a code of the catalogue with the code's status. */
function expectCoded(reply: RawReply, level = levelOf(reply)): void {
  expect(reply.receipt).toBe(level)
  expect(reply.finalHash).toHaveLength(level === 'none' ? 0 : 32)
  if (reply.status < 400) return
  expect(Object.keys(CATALOGUE)).toContain(reply.code)
  expect(reply.code).not.toBe('CMESH_INTERNAL')
  expect(reply.status).toBe(CATALOGUE[reply.code as keyof typeof CATALOGUE].status)
  expect((reply.json as { message: string }).message).not.toMatch(/\{\w+\}|undefined|NaN/)
}

describe('frames that are none', () => {
  test.each<[string, () => Buffer, number, string]>([
    ['nothing at all', () => Buffer.alloc(0), 400, 'CMESH_FRAME_MALFORMED'],
    ['another protocol', () => Buffer.from('GET / HTTP/1.1\r\n\r\n'), 400, 'CMESH_FRAME_MALFORMED'],
    ['another magic', () => patched(0, 0x58), 400, 'CMESH_FRAME_MALFORMED'],
    ['a later version', () => patched(2, 1), 505, 'CMESH_FRAME_VERSION'],
    ['kind 0', () => patched(3, 0), 400, 'CMESH_FRAME_MALFORMED'],
    ['a reply', () => patched(3, 2), 400, 'CMESH_FRAME_MALFORMED'],
    ['a request that says it is a batch', () => patched(3, 3), 413, 'CMESH_FRAME_TOO_LARGE'],
    ['a batch reply', () => patched(3, 4), 400, 'CMESH_FRAME_MALFORMED'],
    ['kind 255', () => patched(3, 255), 400, 'CMESH_FRAME_MALFORMED'],
    ['a flag nobody knows', () => patched(4, 0x80, 0), 400, 'CMESH_FRAME_FLAGS'],
    ['a receipt level nobody knows', () => patched(4, 0, 3), 400, 'CMESH_FRAME_FLAGS'],
    ['a reserved byte that is set', () => patched(7, 1), 400, 'CMESH_FRAME_MALFORMED'],
    ['an address longer than allowed', () => patched(32, 0xff, 0xff), 413, 'CMESH_FRAME_TOO_LARGE'],
    ['a token longer than allowed', () => patched(34, 0xff, 0xff), 413, 'CMESH_FRAME_TOO_LARGE'],
    ['headers longer than allowed', () => patched(36, 0xff, 0xff), 413, 'CMESH_FRAME_TOO_LARGE'],
    ['a body of four gigabytes', () => patched(38, 0xff, 0xff, 0xff, 0xff), 413, 'CMESH_FRAME_TOO_LARGE'],
    ['lengths that lead outside', () => patched(38, 0, 0, 0, 1), 400, 'CMESH_FRAME_MALFORMED'],
    ['more bytes than its lengths', () => Buffer.concat([request(), Buffer.alloc(1)]), 400, 'CMESH_FRAME_MALFORMED'],
  ])('%s', async (_, frame, status, code) => {
    const bytes = frame()
    const reply = await ask(bytes)
    expect({ status: reply.status, code: reply.code }).toEqual({ status, code })
    expectCoded(reply)
    // Whoever sent something that looks like a request learns which one was refused.
    if (bytes.length >= 32 && bytes[0] === 0x43) expect(reply.id.equals(bytes.subarray(16, 32))).toBe(true)
  })

  test.each<[string, (frame: Buffer) => Buffer, number, string]>([
    ['no entry', frame => { frame.writeUInt16BE(0, 32); return frame }, 400, 'CMESH_FRAME_MALFORMED'],
    ['more entries than allowed', frame => { frame.writeUInt16BE(0xffff, 32); return frame }, 413, 'CMESH_FRAME_TOO_LARGE'],
    ['more entries than there are', frame => { frame.writeUInt16BE(3, 32); return frame }, 400, 'CMESH_FRAME_MALFORMED'],
    ['fewer entries than there are', frame => { frame.writeUInt16BE(1, 32); return frame }, 400, 'CMESH_FRAME_MALFORMED'],
    ['a token that leads outside', frame => { frame.writeUInt16BE(4_096, 34); return frame }, 400, 'CMESH_FRAME_MALFORMED'],
    ['an entry whose body has four gigabytes', frame => { frame.writeUInt32BE(0xffff_ffff, frame.indexOf(HELLO) - 4); return frame }, 413, 'CMESH_FRAME_TOO_LARGE'],
    ['an entry that leads outside', frame => { frame.writeUInt32BE(1_000, frame.indexOf(HELLO) - 4); return frame }, 400, 'CMESH_FRAME_MALFORMED'],
    ['half of itself', frame => frame.subarray(0, frame.length / 2), 400, 'CMESH_FRAME_MALFORMED'],
  ])('a batch with %s is refused whole, by one reply', async (_, injure, status, code) => {
    const reply = await ask(injure(batch([{ fqmn: HELLO }, { fqmn: COUNT }])))
    expect({ status: reply.status, code: reply.code }).toEqual({ status, code })
    expectCoded(reply)
  })

  test('every truncation and every flipped bit of a request is answered with a code or carried out', async () => {
    const whole = request({ body: Buffer.from('["Dexter"]') })
    const cut = await inTurns([...everyTruncation(whole)])
    for (const reply of cut) expectCoded(reply)
    expect(new Set(cut.map(reply => reply.code))).toEqual(new Set(['CMESH_FRAME_MALFORMED']))
    // The header and the address: flipped bits of the token are all one, and would only spend the budget for bad tokens.
    const flipped = await inTurns([...everyBitFlip(whole.subarray(0, 42 + HELLO.length))].map(head => Buffer.concat([head, whole.subarray(head.length)])))
    // A flipped bit may be that of the receipt level.
    for (const reply of flipped) expectCoded(reply, reply.receipt)
    expect(new Set(flipped.map(reply => reply.status))).toContain(200)
  })

  test('any noise is answered with a code', async () => {
    const sources = fc.constantFrom(request(), batch([{ fqmn: HELLO }, { fqmn: '0xE:x:read', body: Buffer.from('x') }]))
    // Whoever sets the flag gets bundles, which this bare client of NATS does not take apart.
    const noise = fc.sample(damaged(sources), 400).map(frame => (takesBundle(frame) ? withByte(frame, 5, 0) : frame))
    for (const message of await inTurnsRaw(noise)) {
      expect(message.data.subarray(0, 2).toString()).toBe('CM')
      if (message.data[3] === 2) expectCoded(readRaw(message))
      else for (const entry of decodeBatchReply(message.data).entries) expect(entry.status).toBeGreaterThanOrEqual(200)
    }
  })

  function withByte(frame: Buffer, at: number, value: number): Buffer {
    const changed = Buffer.from(frame)
    changed[at] = value
    return changed
  }

  /** Sends many without exceeding what one session may have under way. */
  async function inTurnsRaw(frames: readonly Buffer[]): Promise<RawMessage[]> {
    const messages: RawMessage[] = []
    for (let at = 0; at < frames.length; at += PER_SESSION) {
      messages.push(...await Promise.all(frames.slice(at, at + PER_SESSION).map(frame => raw.request(requestSubject(session.sid), frame))))
    }
    return messages
  }

  async function inTurns(frames: readonly Buffer[]): Promise<RawReply[]> {
    return (await inTurnsRaw(frames)).map(readRaw)
  }
})

describe('sizes', () => {
  test('a body of 1 MiB is taken and one byte more is refused', async () => {
    const most = await ask(request({ fqmn: '0xEW:big', body: Buffer.alloc(LIMITS.bodyBytes) }))
    expect({ status: most.status, code: most.code }).toEqual({ status: 413, code: 'CMESH_EVENTS_PAYLOAD' })
    const frame = Buffer.concat([request(), Buffer.alloc(LIMITS.bodyBytes + 1)])
    frame.writeUInt32BE(LIMITS.bodyBytes + 1, 38)
    const more = await ask(frame)
    expect({ status: more.status, code: more.code }).toEqual({ status: 413, code: 'CMESH_FRAME_TOO_LARGE' })
  })

  test('more than the broker takes ends the sender\'s connection and nobody else\'s', async () => {
    const other = await open()
    raw.write(`PUB ${requestSubject(session.sid)} ${raw.inbox}.1 ${64 * 1_024 * 1_024}\r\n`)
    await until('the broker hung up', () => !raw.open)
    expect(raw.errors.join()).toMatch(/maximum payload/i)
    raw = other
    session = await raw.login(operator)
    expect(await call(HELLO)).toMatchObject({ status: 200 })
  })

  test('a reply never outgrows a frame: a range gives what fits, and what is left is asked for next', async () => {
    const events = Array.from({ length: 40 }, (_, i) => Buffer.alloc(60_000, 97 + (i % 26)))
    for (const body of events) expect(await ask(request({ fqmn: '0xEW:large', body }))).toMatchObject({ status: 200 })
    const got: { seq: number, data: string }[] = []
    for (;;) {
      const reply = await call('0xE:large:range', JSON.stringify([(got.at(-1)?.seq ?? 0) + 1, null, 1_000]))
      expect(reply.status).toBe(200)
      expect(reply.body.length).toBeLessThanOrEqual(LIMITS.bodyBytes)
      const some = reply.json as typeof got
      if (some.length === 0) break
      got.push(...some)
    }
    expect(got.map(({ data }) => data)).toEqual(events.map(data => data.toString()))
  })

  test('a batch whose replies do not fit is answered all the same: each entry that does not is refused on its own', async () => {
    expect(await ask(request({ fqmn: '0xEW:wide', body: Buffer.alloc(60_000, 'x') }))).toMatchObject({ status: 200 })
    const before = await count()
    for (const receipt of ['hash', 'full'] as const) {
      // Each with a header, since one answer stands for all who ask the same.
      const wide = { fqmn: '0xE:wide:read', headers: encodeHeaders([['x-of', 'its own']]) }
      const entries = Array.from({ length: LIMITS.batchEntries }, (_, i): BatchEntryFields => (i === LIMITS.batchEntries - 1 ? { fqmn: INCREMENT } : wide))
      const id = batchId(entries.length)
      const frame = encodeBatch({ id, token: Buffer.from(session.token), deadlineMs: Date.now() + 10_000, receipt, entries })
      const message = await raw.request(requestSubject(session.sid), frame)
      expect(message.data.length).toBeLessThanOrEqual(LIMITS.frameBytes)
      const replies = decodeBatchReply(message.data).entries
      expect(replies).toHaveLength(LIMITS.batchEntries)
      const statuses = replies.map(reply => reply.status)
      expect(new Set(statuses)).toEqual(new Set([200, 413]))
      // What is small fits behind what was too large.
      expect(statuses.at(-1)).toBe(200)
      expect(statuses.slice(0, 5)).toEqual([200, 200, 200, 200, 200])
      const refused = replies.find(reply => reply.status === 413)
      expect(JSON.parse(refused?.body.toString() ?? '')).toMatchObject({ code: 'CMESH_FRAME_TOO_LARGE', detail: { part: 'batch reply' } })
      expect(refused?.finalHash).toHaveLength(32)
    }
    expect(await count()).toBe(before + 2)
  })
})

describe('addresses and bodies', () => {
  test.each([
    ['', 400, 'CMESH_FQMN_OPCODE'],
    ['hello', 400, 'CMESH_FQMN_OPCODE'],
    ['0xZ:a', 400, 'CMESH_FQMN_OPCODE'],
    ['0xSS:0x001:a', 400, 'CMESH_FQMN_SYNTAX'],
    ['0xs:0x001:a', 400, 'CMESH_FQMN_OPCODE'],
    ['0xS:', 400, 'CMESH_FQMN_SYNTAX'],
    ['0xS:0x1:a', 400, 'CMESH_FQMN_SYNTAX'],
    ['0xS:0x001:hello_world:["a"', 400, 'CMESH_FQMN_ARGUMENTS'],
    [`0xS:0x001:hello_world:[${'['.repeat(100)}${']'.repeat(100)}]`, 400, 'CMESH_FQMN_ARGUMENTS'],
    ['0xR:a.mcom:0xR:b.mcom:0xR:c.mcom:0xR:d.mcom', 400, 'CMESH_FQMN_TOO_DEEP'],
    ['0xA:1:0x001:hello_world', 405, 'CMESH_ROUTER_INTERNAL_ONLY'],
    ['0xP:peer:0xS:0x001:hello_world', 503, 'CMESH_ROUTER_PEER'],
    ['0xI:nothing', 405, 'CMESH_ROUTER_ACTION'],
    ['0xIW:nothing', 405, 'CMESH_ROUTER_ACTION'],
    ['0xC:nothing', 405, 'CMESH_ROUTER_ACTION'],
    ['0xCW:status', 405, 'CMESH_ROUTER_ACTION'],
    ['0xC:tx', 404, 'CMESH_CONSENSUS_NO_TX'],
    ['0xC:tx:zz', 404, 'CMESH_CONSENSUS_NO_TX'],
    ['0xE:x:nothing', 405, 'CMESH_ROUTER_ACTION'],
    ['0xE:nobody:read', 404, 'CMESH_EVENTS_NO_CHANNEL'],
    ['0xEW:events.mined:x', 403, 'CMESH_EVENTS_RESERVED'],
    ['0xEW:audit:x', 403, 'CMESH_IAM_DENIED'],
    [`0xEW:${'c'.repeat(256)}:x`, 400, 'CMESH_EVENTS_CHANNEL'],
    ['0xS:0xfff:a', 404, 'CMESH_STATE_NO_CONTRACT'],
    ['0xS:0x001:nothing', 404, 'CMESH_STATE_NO_FUNCTION'],
    ['0xS:0x001:toString', 404, 'CMESH_STATE_NO_FUNCTION'],
    ['0xS:0x002:increment', 405, 'CMESH_STATE_NOT_A_VIEW'],
    ['0xSW:0x002:nothing', 404, 'CMESH_STATE_NO_FUNCTION'],
    ['0xSW:0x002:init', 404, 'CMESH_STATE_NO_FUNCTION'],
    ['0xSW:0x000:genesis', 404, 'CMESH_STATE_NO_FUNCTION'],
    ['0xSW:0x000', 404, 'CMESH_STATE_NO_FUNCTION'],
    ['0xR:unregistered.mcom', 404, 'CMESH_REGISTRAR_NOT_FOUND'],
    ['0xRW:nothing:name.mcom', 405, 'CMESH_ROUTER_ACTION'],
    [`0xRW:register:${'a'.repeat(64)}.mcom:${HELLO}`, 400, 'CMESH_NAME_INVALID'],
  ])('%s gives %i', async (fqmn, status, code) => {
    const reply = await call(fqmn)
    expect({ status: reply.status, code: reply.code }).toEqual({ status, code })
    expectCoded(reply)
  })

  test('bytes that are no UTF-8 in an address are refused', async () => {
    const frame = request({ fqmn: '0xS:0x001:hell' })
    frame.set([0xff, 0xfe], frame.indexOf('hell'))
    expect(await ask(frame)).toMatchObject({ status: 400, code: 'CMESH_FQMN_SYNTAX' })
  })

  test.each<[string, string, string, number, RegExp]>([
    ['arguments that are no array', '0xSW:0x002:increment', '{"by":1}', 422, /CMESH_CONTRACT_/],
    ['arguments that are no JSON', '0xSW:0x002:increment', '[1', 422, /CMESH_CONTRACT_/],
    ['a text for a number', '0xSW:0x002:increment', '["one"]', 422, /CMESH_CONTRACT_/],
    ['a negative for a count', '0xSW:0x002:increment', '[-1]', 422, /CMESH_CONTRACT_/],
    ['a fraction for a count', '0xSW:0x002:increment', '[0.5]', 422, /CMESH_CONTRACT_/],
    ['more than 64 bits', '0xSW:0x002:increment', '[99999999999999999999999]', 422, /CMESH_CONTRACT_/],
    ['arguments twice', '0xS:0x001:hello_world:["a"]', '["b"]', 400, /CMESH_FQMN_ARGUMENTS_TWICE/],
    ['a payload twice', '0xEW:x:a', 'b', 400, /CMESH_FQMN_ARGUMENTS_TWICE/],
    ['a deployment without a signature of its own', '0xSW:0x000:deploy', 'not a package', 403, /CMESH_IAM_PROOF/],
    ['a range that is no array', '0xE:x:range', '{}', 400, /CMESH_EVENTS_RANGE/],
    ['a range that runs backwards', '0xE:x:range', '[5,1]', 400, /CMESH_EVENTS_RANGE/],
    ['a range of too many', '0xE:x:range', '[1,null,1001]', 400, /CMESH_EVENTS_RANGE/],
    ['a range of texts', '0xE:x:range', '["1"]', 400, /CMESH_EVENTS_RANGE/],
    ['a tail without a body', '0xE:x:tail', '', 400, /CMESH_FRAME_MALFORMED/],
    ['a tail with a number for an inbox', '0xE:x:tail', '{"inbox":1}', 400, /CMESH_FRAME_MALFORMED/],
    ['a tail to somebody else', '0xE:x:tail', '{"inbox":"_INBOX.somebody.1"}', 403, /CMESH_EVENTS_TAIL/],
    ['a tail to a request subject', '0xE:x:tail', '{"inbox":"cmesh.v1.req.x"}', 403, /CMESH_EVENTS_TAIL/],
    ['a registration without a signature', `0xRW:register:typed.mcom:${HELLO}`, '{"sequence":1}', 403, /CMESH_REGISTRAR_SIGNATURE/],
    ['a signature that is a number', `0xRW:register:typed.mcom:${HELLO}`, '{"signature":1,"sequence":1}', 403, /CMESH_REGISTRAR_SIGNATURE/],
    ['a signature by nobody', `0xRW:register:typed.mcom:${HELLO}`, `{"signature":"${'A'.repeat(86)}","sequence":1}`, 403, /CMESH_REGISTRAR_SIGNATURE/],
    ['a refresh by nobody', '0xIW:refresh', '{}', 400, /CMESH_(FRAME|IAM)_/],
  ])('%s', async (_, fqmn, body, status, code) => {
    const before = await count()
    const reply = await call(fqmn, body)
    expect(reply.code).toMatch(code)
    if (reply.code !== 'CMESH_IAM_HANDSHAKE') expect(reply.status).toBe(status)
    expectCoded(reply)
    expect(await count()).toBe(before)
  })

  test.each(['not a package', ''])('a signed deployment of a package that is none: %j', async text => {
    const before = await count()
    const [id, fqmn, body, deadlineMs, token] = [raw.ids.next(), '0xSW:0x000:deploy', Buffer.from(text), Date.now() + 5_000, Buffer.from(session.token)]
    const proof = makeRequestProof({ id: formatMessageId(id), fqmn, body, deadlineMs, token }, operator)
    const reply = await ask(request({ id, fqmn, body, deadlineMs, headers: encodeHeaders([[PROOF_HEADER, proof]]) }))
    expect(reply.status).toBe(400)
    expect(reply.code).toMatch(/CMESH_DEPLOY_/)
    expectCoded(reply)
    expect(await count()).toBe(before)
  })
})

describe('time and hops', () => {
  test.each<[string, number, number, string]>([
    ['in the past', Date.now() - 1, 408, 'CMESH_ROUTER_DEADLINE'],
    ['at the beginning of time', 0, 408, 'CMESH_ROUTER_DEADLINE'],
    ['too far ahead', Date.now() + 2 * LIMITS.deadlineAheadMs, 400, 'CMESH_FRAME_DEADLINE'],
    ['at the end of time', 2 ** 53, 400, 'CMESH_FRAME_DEADLINE'],
  ])('a deadline %s', async (_, deadlineMs, status, code) => {
    const before = await count()
    for (const fqmn of [INCREMENT, HELLO]) expect(await ask(request({ fqmn, deadlineMs }))).toMatchObject({ status, code })
    expect(await count()).toBe(before)
  })

  test('a deadline of all ones', async () => {
    const frame = request()
    frame.fill(0xff, 8, 16)
    expect(await ask(frame)).toMatchObject({ status: 400, code: 'CMESH_FRAME_DEADLINE' })
  })

  test('more hops than allowed', async () => {
    expect(await ask(request({ hops: LIMITS.hops + 1 }))).toMatchObject({ status: 508, code: 'CMESH_FRAME_HOPS' })
  })
})

describe('a message id used twice', () => {
  test('with the same content gives the same outcome, however often and at once, and is done once', async () => {
    const before = await count()
    const frame = request({ fqmn: INCREMENT })
    const replies = await Promise.all(Array.from({ length: 5 }, () => ask(frame)))
    replies.push(await ask(frame))
    expect(new Set(replies.map(reply => reply.status))).toEqual(new Set([200]))
    expect(new Set(replies.map(reply => reply.json))).toEqual(new Set([before + 1]))
    const sequences = replies.map(reply => headerValue(decodeHeaders(reply.headers), 'x-cmesh-sequence'))
    expect(new Set(sequences).size).toBe(1)
    expect(await count()).toBe(before + 1)
  })

  test('with other content is refused, whoever sends it', async () => {
    const before = await count()
    const id = raw.ids.next()
    expect(await ask(request({ id, fqmn: INCREMENT }))).toMatchObject({ status: 200 })
    expect(await ask(request({ id, fqmn: INCREMENT, body: Buffer.from('[1]') }))).toMatchObject({ status: 409, code: 'CMESH_ROUTER_DUPLICATE' })
    expect(await ask(request({ id, fqmn: '0xSW:0x001:say', body: Buffer.from('["a"]') }))).toMatchObject({ status: 409, code: 'CMESH_ROUTER_DUPLICATE' })
    const newcomer = await raw.login(KeyPair.generate())
    const theirs = request({ id, fqmn: '0xRW:renew:nothing.mcom', token: Buffer.from(newcomer.token) })
    expect(await ask(theirs, newcomer)).toMatchObject({ status: 409, code: 'CMESH_ROUTER_DUPLICATE' })
    expect(await count()).toBe(before + 1)
  })

  test('by a batch sent again gives the outcomes of the first', async () => {
    const before = await count()
    const frame = batch([{ fqmn: INCREMENT }, { fqmn: HELLO }, { fqmn: INCREMENT, body: Buffer.from('[2]') }])
    const messages = await Promise.all([1, 2, 3].map(() => raw.request(requestSubject(session.sid), frame)))
    const outcomes = messages.map(({ data }) => decodeBatchReply(data).entries.map(entry => [entry.status, entry.body.toString()]))
    expect(outcomes).toEqual(outcomes.map(() => [[200, String(before + 1)], [200, '"Hello, world"'], [200, String(before + 3)]]))
    // The entries' ids are the batch's own and those behind it.
    const again = request({ id: entryId(Buffer.from(frame.subarray(16, 32)), 2), fqmn: INCREMENT, body: Buffer.from('[2]') })
    expect((await ask(again)).json).toBe(before + 3)
    expect(await count()).toBe(before + 3)
  })
})

describe('clients that vanish', () => {
  test('in the midst of a message: it never happened', async () => {
    const before = await count()
    const other = await open()
    const own = await other.login(operator)
    const frame = encodeRequest({ id: other.ids.next(), fqmn: INCREMENT, token: Buffer.from(own.token), deadlineMs: Date.now() + 10_000, receipt: 'hash' })
    other.write(`PUB ${requestSubject(own.sid)} ${other.inbox}.1 ${frame.length}\r\n`)
    other.write(frame.subarray(0, frame.length - 1))
    await raw.flush()
    other.vanish()
    expect(await count()).toBe(before)
  })

  test('behind a batch of writes: it is done whole, and its answer is nobody\'s', async () => {
    const before = await count()
    const other = await open()
    const own = await other.login(operator)
    const id = Buffer.alloc(16)
    other.ids.write(id, 0, 1_000)
    const entries = Array.from({ length: 1_000 }, () => ({ fqmn: INCREMENT }))
    other.publish(requestSubject(own.sid), encodeBatch({ id, token: Buffer.from(own.token), deadlineMs: Date.now() + 10_000, receipt: 'hash', entries }), `${other.inbox}.1`)
    await other.flush()
    other.vanish()
    await until('the batch is done', async () => await count() === before + 1_000)
    expect(await call(`0xC:tx:${Buffer.from(entryId(id, 999)).toString('hex')}`)).toMatchObject({ status: 200 })
  })

  test('in the midst of a tail: its events go nowhere, and everybody else\'s arrive', async () => {
    const other = await open()
    const own = await other.login(operator)
    for (const [each, on] of [[other, own], [raw, session]] as const) {
      const body = Buffer.from(JSON.stringify({ inbox: `${each.inbox}.tail` }))
      const frame = encodeRequest({ id: each.ids.next(), fqmn: '0xE:vanish:tail', token: Buffer.from(on.token), deadlineMs: Date.now() + 10_000, receipt: 'hash', body })
      expect(await each.ask(requestSubject(on.sid), frame)).toMatchObject({ status: 200, json: { leaseMs: 30_000 } })
    }
    expect(metric(await node.metrics(), 'cmesh_tails_open')).toBeGreaterThanOrEqual(2)
    expect(await call('0xEW:vanish:one')).toMatchObject({ status: 200 })
    await until('both hear it', () => other.unasked.length === 1 && raw.unasked.length === 1)
    other.vanish()
    for (let i = 0; i < 100; i++) expect(await call('0xEW:vanish', `event ${i}`)).toMatchObject({ status: 200 })
    await until('the rest arrived', () => raw.unasked.length === 101)
    expect(raw.unasked.map(message => (readRaw(message).json as { data: string }).data)).toEqual(['one', ...Array.from({ length: 100 }, (_, i) => `event ${i}`)])
  })
})

describe('where answers go', () => {
  test('without a reply subject nothing is done', async () => {
    const before = await count()
    raw.publish(requestSubject(session.sid), request({ fqmn: INCREMENT }))
    raw.publish(requestSubject(session.sid), batch([{ fqmn: INCREMENT }]))
    raw.publish(helloSubject(raw.cid), request({ fqmn: '0xIW:call' }))
    expect(await count()).toBe(before)
  })

  test.each([mineSubject('somebody'), 'cmesh.v1.req.somebody', helloSubject('somebody'), '_INBOX.somebody.1', 'cmesh.v1.evt.audit', '$JS.API.STREAM.NAMES', 'anything'])(
    'nothing is said on %s on somebody\'s behalf', async reply => {
      const before = await count()
      const mined = metric(await node.metrics(), 'cmesh_mined_total', { source: 'stream', outcome: 'garbage' })
      const dropped = async (): Promise<readonly number[]> => {
        const metrics = await node.metrics()
        return ['router', 'iam'].map(at => metric(metrics, 'cmesh_messages_dropped_total', { at }) ?? 0)
      }
      const [routers = 0, doors = 0] = await dropped()
      raw.publish(requestSubject(session.sid), request({ fqmn: INCREMENT }), reply)
      raw.publish(requestSubject(session.sid), Buffer.from('noise'), reply)
      raw.publish(helloSubject(raw.cid), Buffer.from('noise'), reply)
      expect(await count()).toBe(before)
      await until('all three were dropped', async () => String(await dropped()) === String([routers + 2, doors + 1]))
      expect(metric(await node.metrics(), 'cmesh_mined_total', { source: 'stream', outcome: 'garbage' })).toBe(mined)
    })
})

describe('tokens', () => {
  /** A token by the key that this mesh signs with, with any claims. */
  async function minted(change: Partial<TokenClaims>, signer?: KeyPair): Promise<Buffer> {
    const { keys: [first] } = JSON.parse(await readFile(path.join(node.dir, 'iam', 'keys.json'), 'utf8')) as { keys: [{ seed: string }] }
    const own = KeyPair.fromSeed(Buffer.from(first.seed, 'base64url'))
    return Buffer.from(signToken({ ...decodeToken(session.token), ...change }, signer ?? own))
  }

  const now = (): number => Math.floor(Date.now() / 1_000)

  test.each<[string, () => Promise<Uint8Array> | Uint8Array, string, RegExp]>([
    ['none', () => Buffer.alloc(0), 'identity', /the request carries no token/],
    ['noise', () => Buffer.from('noise'), 'identity', /the token is not valid/],
    ['a token whose last letter differs', () => Buffer.from(session.token.slice(0, -3) + (session.token.endsWith('AAA') ? 'BBB' : 'AAA')), 'identity', /the token is not valid/],
    ['a token signed by nobody', () => Buffer.from(`${Buffer.from('{"alg":"none","typ":"cmesh-at+jwt"}').toString('base64url')}.${session.token.split('.')[1]}.`), 'identity', /the token is not valid/],
    ['a token by another mesh', () => minted({}, KeyPair.generate()), 'identity', /the token is not valid/],
    ['a token in the name of another mesh', () => minted({ iss: KeyPair.generate().did }), 'identity', /the token is not valid/],
    ['a token that has expired', () => minted({ iat: now() - 20, exp: now() - 10, jti: 'expired-1' }), 'identity', /the token has expired/],
    ['a token of another session', () => minted({ sid: 'another-session', jti: 'foreign-1' }), 'identity', /the token belongs to another session/],
    ['a reference to a token never seen', () => tokenReference(Buffer.from('never')), 'token', /send the token itself/],
  ])('%s', async (_, token, prompt, reason) => {
    const before = await count()
    const reply = await ask(request({ fqmn: INCREMENT, token: await token() }))
    expect(reply).toMatchObject({ status: 401, json: { prompt } })
    expect((reply.json as { message: string }).message).toMatch(reason)
    expectCoded(reply)
    expect(await count()).toBe(before)
  })

  test('a minted token that is as it must be is taken: what the others were refused for is what they lack', async () => {
    expect(await ask(request({ token: await minted({ jti: 'minted-1' }) }))).toMatchObject({ status: 200 })
  })

  test('a token that grants more than its holder has gives no more', async () => {
    const newcomer = await raw.login(KeyPair.generate())
    const token = Buffer.from((await minted({ sub: newcomer.sub, sid: newcomer.sid, perms: ['operator'], jti: 'greedy-1' })))
    const reply = await ask(request({ fqmn: INCREMENT, token }), newcomer)
    expect({ status: reply.status, code: reply.code }).toEqual({ status: 403, code: 'CMESH_IAM_DENIED' })
  })

  test('many forged ones for one session cost no more than a few verifications, and another session is not touched', async () => {
    const victim = session
    const forged = await raw.login(KeyPair.generate())
    const replies: RawReply[] = []
    for (let i = 0; i < 4; i++) {
      replies.push(...await Promise.all(Array.from({ length: PER_SESSION }, (_, j) =>
        ask(request({ token: Buffer.from(`${forged.token.slice(0, -8)}${String(i * 100 + j).padStart(8, 'A')}`) }), forged))))
    }
    expect(new Set(replies.map(reply => reply.status))).toEqual(new Set([401]))
    expect(replies.filter(reply => /too many bad tokens/.test((reply.json as { message: string }).message)).length).toBeGreaterThan(PER_SESSION)
    expect(await ask(request(), victim)).toMatchObject({ status: 200 })
  })
})

describe('the door of newcomers', () => {
  const hello = (fqmn: string, body: Uint8Array | string = ''): Buffer =>
    encodeRequest({ id: raw.ids.next(), fqmn, token: Buffer.alloc(0), deadlineMs: Date.now() + 10_000, receipt: 'hash', body: Buffer.from(body) })

  test.each<[string, () => Buffer, RegExp]>([
    ['noise', () => Buffer.from('noise'), /CMESH_FRAME_MALFORMED/],
    ['a batch', () => batch([{ fqmn: '0xIW:call' }]), /CMESH_FRAME_MALFORMED/],
    ['a read', () => hello(HELLO), /CMESH_IAM_NO_SESSION/],
    ['a write', () => hello(INCREMENT), /CMESH_IAM_NO_SESSION/],
    ['a step that there is not', () => hello('0xIW:nothing'), /CMESH_ROUTER_ACTION/],
    ['a call that is no JSON', () => hello('0xIW:call', '{'), /CMESH_(IAM|FRAME)_/],
    ['a call of nobody', () => hello('0xIW:call', '{}'), /CMESH_(IAM|FRAME)_/],
    ['a confirm of no handshake', () => hello('0xIW:confirm', '{"step":"confirm","handshake":"AAAAAAAAAAAAAAAAAAAAAA"}'), /CMESH_(IAM|FRAME)_/],
    ['a consent out of the blue', () => hello('0xIW:consent', '{}'), /CMESH_(IAM|FRAME)_/],
    ['a body beyond all handshakes', () => hello('0xIW:call', Buffer.alloc(HANDSHAKE_BODY_BYTES + 1, 'x')), /CMESH_FRAME_TOO_LARGE/],
  ])('%s is answered with a code', async (_, frame, code) => {
    for (const subject of [helloSubject(raw.cid), helloSubject(raw.cid, node.descriptor.node)]) {
      const reply = await raw.ask(subject, frame())
      expect(reply.code).toMatch(code)
      expectCoded(reply)
    }
  })

  test('a flood of calls is bounded: each is answered or told to come back, and the next newcomer gets in', async () => {
    const body = canonicalBytes(makeCall({ sessionKey: KeyPair.generate().publicKey }))
    const replies = await atOnce(() => Array.from({ length: 1_500 }, () => raw.ask(helloSubject(raw.cid), hello('0xIW:call', body))))
    // What is refused unread is not recorded, and promises nothing.
    for (const reply of replies) expectCoded(reply, reply.status === 429 && reply.receipt === 'none' ? 'none' : 'hash')
    expect(replies.filter(reply => reply.receipt === 'none').length).toBeGreaterThan(0)
    expect(new Set(replies.map(reply => reply.code))).toEqual(new Set([undefined, 'CMESH_IAM_BUSY']))
    expect(replies.filter(reply => reply.status === 200).length).toBeGreaterThanOrEqual(64)
    for (const { status, headers } of replies) if (status === 429) expect(headerValue(decodeHeaders(headers), 'retry-after')).toBe('1')
    expect(metric(await node.metrics(), 'cmesh_handshakes_open')).toBeLessThanOrEqual(10_000)
  })
})

describe('a flood', () => {
  test('beyond what a session may have in flight is refused with a time to come back, and what was taken is done once', async () => {
    const before = await count()
    const replies = await atOnce(() => Array.from({ length: 1_000 }, () => call(INCREMENT)))
    const taken = replies.filter(reply => reply.status === 200)
    const refused = replies.filter(reply => reply.status !== 200)
    expect(taken.length).toBeGreaterThanOrEqual(PER_SESSION)
    expect(refused.length).toBeGreaterThan(0)
    for (const reply of refused) {
      expect(reply).toMatchObject({ status: 429, code: 'CMESH_ROUTER_BUSY', json: { retry: 'retry', detail: { limit: PER_SESSION, retryAfterMs: 50 } } })
      expect(headerValue(decodeHeaders(reply.headers), 'retry-after')).toBe('1')
    }
    expect(await count()).toBe(before + taken.length)
    // Nobody else was in the way.
    expect(await call(HELLO)).toMatchObject({ status: 200 })
  })

  test('of large messages leaves the memory of the node bounded', async () => {
    const before = node.rss
    const large = [
      request({ fqmn: '0xEW:x', body: Buffer.alloc(512 * 1_024, 'x') }), Buffer.alloc(512 * 1_024, 'C'), request({ fqmn: '0xS:0x001:blah_blah', body: Buffer.alloc(512 * 1_024, ' ') }),
      request({ fqmn: '0xSW:0x002:increment', body: Buffer.alloc(512 * 1_024, ' ') }),
    ]
    for (let round = 0; round < 15; round++) {
      const replies = await Promise.all(Array.from({ length: 16 }, (_, i) => ask(large[i % large.length] as Buffer)))
      for (const reply of replies) expect(reply.status).toBeGreaterThanOrEqual(400)
    }
    const after = node.rss
    process.stdout.write(`RSS of the node before and after 120 MiB of refused messages: ${Math.round(before / 1_048_576)} and ${Math.round(after / 1_048_576)} MiB\n`)
    expect(after).toBeLessThan(before * 3)
  })
})
