import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from '@jest/globals'
import fc from 'fast-check'
import { connect, type ConnectOptions } from '../../client/connect.ts'
import type { MeshClient } from '../../client/mesh-client.ts'
import { Connection } from '../../client/connection.ts'
import { readBatchReply, readReply, type Reply } from '../../client/reply.ts'
import { encodeBatch } from '../../cmtp/batch.ts'
import { BatchReplyWriter } from '../../cmtp/batch-reply.ts'
import { BundleWriter } from '../../cmtp/bundle.ts'
import { CMeshError } from '../../cmtp/errors.ts'
import { encodeReply, encodeRequest } from '../../cmtp/frame.ts'
import { KeyPair } from '../../cmtp/identity/keys.ts'
import { MessageIds } from '../../cmtp/message-id.ts'
import { requestSubject } from '../../cmtp/subject.ts'
import { answer, FINAL_HASH, ok, refuse, StandInMesh, type StandInRequest } from './support/stand-in-mesh.ts'
import { until } from './support/until.ts'

let mesh: StandInMesh
let client: MeshClient

beforeAll(async () => { mesh = await StandInMesh.start() })
afterAll(() => mesh.stop())
beforeEach(async () => {
  mesh.behaviour = ok
  mesh.requests.length = 0
  client = await open()
})
afterEach(() => client.close())

function open(options: ConnectOptions = {}): Promise<MeshClient> {
  return connect({ url: mesh.url, identity: KeyPair.generate(), onWarning: () => undefined, coalesce: false, ...options })
}

/** Changes one byte of a good answer. */
const changed = (at: number, value: number) => ({ frame, send }: StandInRequest): void => {
  const bytes = answer(frame, 200, {})
  bytes[at] = value
  send(bytes)
}

describe('an answer that is no good', () => {
  test.each<[string, (request: StandInRequest) => void, RegExp]>([
    ['empty', ({ send }) => send(Buffer.alloc(0)), /expected "CM", the version and the kind/],
    ['noise', ({ send }) => send(Buffer.from('HTTP/1.1 200 OK')), /expected "CM", the version and the kind/],
    ['cut inside its header', ({ frame, send }) => send(answer(frame, 200, {}).subarray(0, 20)), /malformed at byte 20: expected 36 bytes of header/],
    ['cut inside its body', ({ frame, send }) => send(answer(frame, 200, { a: 1 }).subarray(0, -1)), /lengths that add up/],
    ['longer than it says', ({ frame, send }) => send(Buffer.concat([answer(frame, 200, {}), Buffer.from('x')])), /lengths that add up/],
    ['of the next major version', changed(2, 1), /has major version 1; this node speaks CMTP\/0/],
    ['a request', ({ data, send }) => send(data), /expected a reply \(kind 2\)/],
    ['of an unknown kind', changed(3, 9), /expected a frame kind from 1 to 5/],
    ['with an unknown flag', changed(5, 0x80), /sets unknown flag bits 0x80/],
    ['with a reserved byte set', changed(26, 1), /expected two zero bytes/],
    ['with a giant header length', changed(24, 0xff), /lengths that add up/],
    ['with a giant layers length', changed(28, 0xff), /lengths that add up/],
    ['with a giant body length', changed(32, 0xff), /The body has 4278190\d+ bytes; at most 1048576 are allowed/],
    ['to another request', ({ frame, send }) => send(encodeReply({ id: Buffer.alloc(16, 7), status: 200, receipt: frame.receipt, finalHash: FINAL_HASH })), /it answers 07070707070707070707070707070707/],
    ['to the request after it', ({ frame, send }) => {
      const id = Buffer.from(frame.id)
      id.writeUInt8((id.readUInt8(15) + 1) & 0xff, 15)
      send(encodeReply({ id, status: 200, receipt: frame.receipt, finalHash: FINAL_HASH }))
    }, /it answers/],
    ['without the final hash that was asked for', ({ frame, send }) => send(encodeReply({ id: frame.id, status: 200, receipt: 'none' })), /carries no final hash, which was asked for/],
    ['a batch reply', ({ frame, send }) => send(new BatchReplyWriter(frame.id, 0, 'hash').finish()), /expected a reply \(kind 2\)/],
  ])('because it is %s is CMESH_CLIENT_REPLY at once, and the client works on', async (_, behaviour, reason) => {
    mesh.behaviour = behaviour
    await expect(client.call('0xS:0x001:a')).rejects.toMatchObject({ code: 'CMESH_CLIENT_REPLY', status: 502, message: expect.stringMatching(reason) })
    expect(mesh.requests).toHaveLength(1)
    mesh.behaviour = ok
    expect((await client.call('0xS:0x001:a')).status).toBe(200)
  })

  test('because its headers are malformed says so when they are read', async () => {
    mesh.behaviour = ({ frame, send }) => send(encodeReply({ id: frame.id, status: 200, receipt: 'hash', finalHash: FINAL_HASH, headers: Buffer.from([99]), body: Buffer.from('x') }))
    const reply = await client.call('0xS:0x001:a')
    expect(reply.text()).toBe('x')
    expect(() => reply.headers).toThrow(expect.objectContaining({ code: 'CMESH_CLIENT_REPLY' }))
    expect(() => reply.transaction).toThrow('expected a header index up to')
  })

  test('because its body is no JSON or no text says so when it is read', async () => {
    mesh.behaviour = ({ frame, send }) => send(encodeReply({ id: frame.id, status: 200, receipt: 'hash', finalHash: FINAL_HASH, body: Buffer.from([0xff]) }))
    const reply = await client.call('0xS:0x001:a')
    expect([...reply.body]).toEqual([0xff])
    expect(() => reply.text()).toThrow('its body is not UTF-8')
    mesh.behaviour = ({ frame, send }) => send(encodeReply({ id: frame.id, status: 200, receipt: 'hash', finalHash: FINAL_HASH, body: Buffer.from('{') }))
    const other = await client.call('0xS:0x001:a')
    expect(() => other.json()).toThrow(expect.objectContaining({ code: 'CMESH_CLIENT_REPLY', message: expect.stringContaining('its body is not JSON') }))
  })

  test.each([['no JSON', 'oops'], ['an unknown code', '{"code":"CMESH_FROM_THE_FUTURE"}'], ['a nested detail', '{"code":7}'], ['null', 'null']])(
    'an error whose body is %s still rejects with a coded error', async (_, body) => {
      mesh.behaviour = ({ frame, send }) => send(encodeReply({ id: frame.id, status: 500, receipt: 'hash', finalHash: FINAL_HASH, body: Buffer.from(body) }))
      await expect(client.call('0xS:0x001:a')).rejects.toMatchObject({ code: 'CMESH_INTERNAL' })
    })

  test('a 401 that prompts for nothing starts no handshake', async () => {
    const steps = mesh.steps.length
    mesh.behaviour = ({ frame, send }) => send(encodeReply({ id: frame.id, status: 401, receipt: 'hash', finalHash: FINAL_HASH, body: Buffer.from('{"code":"CMESH_IAM_KEY","detail":{"reason":"x"}}') }))
    await expect(client.call('0xS:0x001:a')).rejects.toMatchObject({ code: 'CMESH_IAM_KEY' })
    expect(mesh.steps).toHaveLength(steps)
  })
})

describe('answers that nobody waits for', () => {
  test('a second and a third answer are dropped', async () => {
    mesh.behaviour = (request) => { for (let i = 0; i < 3; i++) ok(request) }
    const replies = await Promise.all(Array.from({ length: 50 }, (_, i) => client.call(`0xS:0x001:f${i}`)))
    expect(replies.map((reply) => reply.json<{ fqmn: string }>().fqmn)).toEqual(replies.map((_, i) => `0xS:0x001:f${i}`))
    expect(client.pending).toBe(0)
  })

  test('an answer after the deadline is dropped, and the next request is not answered by it', async () => {
    const held: StandInRequest[] = []
    mesh.behaviour = (request) => held.push(request)
    await expect(client.call('0xS:0x001:late', { timeoutMs: 20 })).rejects.toMatchObject({ code: 'CMESH_BUS_TIMEOUT' })
    const next = client.call('0xS:0x001:next')
    await until('the next request arrived', () => held.length === 2)
    held.forEach(ok)
    expect((await next).json()).toMatchObject({ fqmn: '0xS:0x001:next' })
  })

  test('noise on the inbox disturbs nothing', async () => {
    await client.call('0xS:0x001:a')
    const inbox = (mesh.requests[0]?.replySubject as string).replace(/\.\d+$/, '')
    for (const token of ['x', '-1', '0', '99999999999999999999', 'NaN', '1e3', 't1', 't', 'constructor']) mesh.publish(`${inbox}.${token}`, Buffer.from('noise'))
    expect((await client.call('0xS:0x001:a')).status).toBe(200)
  })
})

describe('a bundle of replies', () => {
  const inboxOf = ({ replySubject }: StandInRequest): string => replySubject.replace(/\.\d+$/, '')
  const numberOf = ({ replySubject }: StandInRequest): number => Number(replySubject.split('.').at(-1))
  const bundle = (...replies: readonly (readonly [number, Uint8Array])[]): Buffer => {
    const writer = new BundleWriter(65_536)
    for (const [number, frame] of replies) writer.add(number, frame)
    return writer.take()
  }
  const good = ({ frame }: StandInRequest): Buffer => answer(frame, 200, { fqmn: frame.fqmn })
  interface Both {
    readonly held: readonly [StandInRequest, StandInRequest]
    readonly replies: Promise<PromiseSettledResult<Reply>[]>
  }
  /** Two requests, held until both are there. */
  const both = async (timeoutMs = 20_000): Promise<Both> => {
    const held: StandInRequest[] = []
    mesh.behaviour = (request) => held.push(request)
    const replies = Promise.allSettled(['a', 'b'].map((name) => client.call(`0xS:0x001:${name}`, { timeoutMs, retry: false })))
    await until('both arrived', () => held.length === 2)
    return { held: held as unknown as Both['held'], replies }
  }

  test.each<[string, (whole: Buffer) => Buffer]>([
    ['empty', () => Buffer.alloc(0)],
    ['noise', () => Buffer.from('noise on the inbox')],
    ['cut', (whole) => whole.subarray(0, -1)],
    ['of no replies', () => Buffer.from('434d000500000000', 'hex')],
    ['of more replies than it has', (whole) => { whole.writeUInt16BE(3, 6); return whole }],
    ['of another kind', (whole) => { whole.writeUInt8(2, 3); return whole }],
    ['of a reply longer than it', (whole) => { whole.writeUInt32BE(0xffff_ffff, 12); return whole }],
  ])('that is %s is dropped whole with a warning: its requests run out of time, and the client works on', async (_, damage) => {
    const warnings: CMeshError[] = []
    await client.close()
    client = await open({ onWarning: (warning) => warnings.push(warning) })
    const { held, replies } = await both(200)
    mesh.publish(`${inboxOf(held[0])}.b`, damage(bundle([numberOf(held[0]), good(held[0])], [numberOf(held[1]), good(held[1])])))
    expect(await replies).toMatchObject([{ reason: { code: 'CMESH_BUS_TIMEOUT', status: 504 } }, { reason: { code: 'CMESH_BUS_TIMEOUT' } }])
    await until('the warning came', () => warnings.length > 0)
    expect(warnings).toMatchObject([{ code: expect.stringMatching(/^CMESH_FRAME_(MALFORMED|TOO_LARGE)$/), status: expect.any(Number) }])
    mesh.behaviour = ok
    expect((await client.call('0xS:0x001:a')).status).toBe(200)
  })

  test('whose requests may be tried again costs them no more than time', async () => {
    mesh.behaviour = (request) => {
      mesh.behaviour = ok
      mesh.publish(`${inboxOf(request)}.b`, Buffer.from('noise'))
      refuse(request, new CMeshError('CMESH_ROUTER_BUSY', { what: 'the node', limit: 1, retryAfterMs: 1 }))
    }
    expect((await client.call('0xS:0x001:a')).json()).toMatchObject({ fqmn: '0xS:0x001:a' })
  })

  test('that holds noise, a stranger\'s reply or the neighbour\'s fails the request that it was for, with CMESH_CLIENT_REPLY', async () => {
    const { held: [one, two], replies } = await both()
    mesh.publish(`${inboxOf(one)}.b`, bundle([numberOf(one), good(two)], [numberOf(two), Buffer.from('noise')]))
    expect(await replies).toMatchObject([{ reason: { code: 'CMESH_CLIENT_REPLY', status: 502 } }, { reason: { code: 'CMESH_CLIENT_REPLY', status: 502 } }])
    expect(client.pending).toBe(0)
  })

  test('that names nobody who waits, or one twice, is counted late and does nothing else', async () => {
    const warnings: CMeshError[] = []
    const connection = new Connection({ url: mesh.url, name: 'test', connectTimeoutMs: 5_000, maxInFlight: 10, onWarning: (warning) => warnings.push(warning) })
    try {
      connection.use(await connection.dial(mesh.passOf('a-session')))
      mesh.behaviour = (request) => {
        const nobody = [0, numberOf(request) + 1, 0xffff_ffff].map((number) => [number, Buffer.from('x')] as const)
        mesh.publish(`${inboxOf(request)}.b`, bundle(...nobody, [numberOf(request), Buffer.from('first')], [numberOf(request), Buffer.from('second')]))
      }
      const frame = encodeRequest({ id: Buffer.alloc(16), fqmn: '0xS:0x001:a', token: Buffer.alloc(0), deadlineMs: 1, receipt: 'none' })
      const data = await connection.request(requestSubject('a-session'), frame, { timeoutMs: 20_000 })
      expect(Buffer.from(data).toString()).toBe('first')
      expect({ late: connection.late, pending: connection.pending, warnings }).toEqual({ late: 4, pending: 0, warnings: [] })
    } finally {
      await connection.close()
    }
  })
})

describe('reading replies', () => {
  const ids = new MessageIds()
  const asked = encodeRequest({ id: ids.next(), fqmn: '0xS:0x001:a', token: Buffer.alloc(0), deadlineMs: 1, receipt: 'hash' })
  const batch = encodeBatch({ id: ids.next(), token: Buffer.alloc(0), deadlineMs: 1, receipt: 'hash', entries: [{ fqmn: '0xS:0x001:a' }, { fqmn: '0xS:0x001:b' }] })
  const good = (id: Uint8Array): Buffer => encodeReply({ id, status: 200, receipt: 'hash', finalHash: FINAL_HASH, body: Buffer.from('{}') })
  const goodBatch = ((): Buffer => {
    const writer = new BatchReplyWriter(batch.subarray(16, 32), 2, 'hash')
    for (let i = 0; i < 2; i++) writer.add(200, FINAL_HASH, Buffer.alloc(0), undefined, Buffer.from('{}'))
    return writer.finish()
  })()

  function outcome(read: () => unknown): string {
    try {
      read()
      return 'a reply'
    } catch (error) {
      return error instanceof CMeshError ? error.code : String(error)
    }
  }

  test('any bytes give a reply or CMESH_CLIENT_REPLY', () => {
    fc.assert(fc.property(fc.uint8Array({ maxLength: 200 }), (bytes) => {
      expect(['a reply', 'CMESH_CLIENT_REPLY']).toContain(outcome(() => readReply(bytes, asked, 'hash')))
      expect(['a reply', 'CMESH_CLIENT_REPLY']).toContain(outcome(() => readBatchReply(bytes, batch, 2, 'hash')))
    }))
  })

  test('any single changed byte of a good one gives a reply or CMESH_CLIENT_REPLY, and never another\'s', () => {
    fc.assert(fc.property(fc.nat({ max: 71 }), fc.integer({ min: 1, max: 255 }), (at, change) => {
      const one = good(asked.subarray(16, 32))
      one[at] = (one[at] ?? 0) ^ change
      const inId = at >= 8 && at < 24
      expect(['CMESH_CLIENT_REPLY', inId ? 'CMESH_CLIENT_REPLY' : 'a reply']).toContain(outcome(() => readReply(one, asked, 'hash')))
      const many = Buffer.from(goodBatch)
      many[at] = (many[at] ?? 0) ^ change
      expect(['CMESH_CLIENT_REPLY', inId ? 'CMESH_CLIENT_REPLY' : 'a reply']).toContain(outcome(() => readBatchReply(many, batch, 2, 'hash')))
    }))
  })

  test('every truncation of a batch reply is refused', () => {
    for (let end = 0; end < goodBatch.length; end++) expect(outcome(() => readBatchReply(goodBatch.subarray(0, end), batch, 2, 'hash'))).toBe('CMESH_CLIENT_REPLY')
    expect(outcome(() => readBatchReply(goodBatch, batch, 2, 'hash'))).toBe('a reply')
  })

  test('a batch reply of another count, and one good reply in place of a batch, are refused', () => {
    expect(() => readBatchReply(goodBatch, batch, 3, 'hash')).toThrow('it has 2 entries where 3 were asked')
    expect(() => readBatchReply(good(batch.subarray(16, 32)), batch, 2, 'hash')).toThrow('it is one reply where a batch of them was asked')
  })
})
