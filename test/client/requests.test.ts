import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from '@jest/globals'
import { connect, type ConnectOptions } from '../../client/connect.ts'
import type { MeshClient } from '../../client/mesh-client.ts'
import { BatchFrame } from '../../cmtp/batch.ts'
import { BatchReplyWriter } from '../../cmtp/batch-reply.ts'
import { CMeshError } from '../../cmtp/errors.ts'
import type { RequestFrame } from '../../cmtp/frame.ts'
import { encodeReply } from '../../cmtp/frame.ts'
import { decodeHeaders } from '../../cmtp/headers.ts'
import { KeyPair } from '../../cmtp/identity/keys.ts'
import { entryId, formatMessageId } from '../../cmtp/message-id.ts'
import { answer, FINAL_HASH, ok, refuse, StandInMesh, type StandInRequest } from './support/stand-in-mesh.ts'
import { until } from './support/until.ts'

let mesh: StandInMesh
const clients: MeshClient[] = []

beforeAll(async () => { mesh = await StandInMesh.start() })
afterAll(() => mesh.stop())
afterEach(() => Promise.all(clients.splice(0).map((client) => client.close())))
beforeEach(() => {
  mesh.behaviour = ok
  mesh.splitBatches = false
  mesh.sessionTtlMs = 300_000
  mesh.refused.clear()
  mesh.requests.length = 0
  mesh.steps.length = 0
})

async function open(options: ConnectOptions = {}): Promise<MeshClient> {
  const client = await connect({ url: mesh.url, identity: KeyPair.generate(), onWarning: () => undefined, coalesce: false, ...options })
  clients.push(client)
  return client
}

describe('a call', () => {
  test('is answered with status, headers, body, final hash and id', async () => {
    const client = await open()
    const reply = await client.call('0xS:0x001:hello_world')
    expect(reply.status).toBe(200)
    expect(reply.ok).toBe(true)
    expect(reply.json()).toEqual({ fqmn: '0xS:0x001:hello_world', body: '' })
    expect(reply.text()).toBe('{"fqmn":"0xS:0x001:hello_world","body":""}')
    expect(reply.headers).toEqual([['content-type', 'application/json']])
    expect(reply.header('Content-Type')).toBe('application/json')
    expect(reply.finalHash).toBe(Buffer.from(FINAL_HASH).toString('hex'))
    expect(reply.id).toBe(formatMessageId(mesh.requests[0]?.frame.id as Buffer))
    expect(reply.transaction).toBeUndefined()
    expect(reply.layers()).toEqual([])
    expect(reply.error()).toBeUndefined()
  })

  test('says which trace it belongs to, as the program\'s own tracing has it at that moment, unless its headers do', async () => {
    const mine = { traceparent: '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01' }
    let now: Record<string, string> = mine
    const client = await open({ trace: () => now })
    await client.call('0xC:leader')
    await client.publish('news', 'x')
    await client.call('0xC:leader', { headers: { Traceparent: 'own', accept: 'x' } })
    now = {}
    await client.call('0xC:leader')
    expect(mesh.requests.map(({ frame }) => decodeHeaders(frame.headers))).toEqual([
      [['traceparent', mine.traceparent]], [['traceparent', mine.traceparent]], [['traceparent', 'own'], ['accept', 'x']], [],
    ])
    const failing = await open({ trace: () => { throw new TypeError('no context') } })
    await expect(failing.call('0xC:leader')).rejects.toMatchObject({ code: 'CMESH_INTERNAL' })
    await expect(open({ trace: 'yes' as never }).then(other => other.call('0xC:leader'))).rejects.toMatchObject({ code: 'CMESH_INTERNAL' })
  })

  test('carries body or args, headers and the idempotency key as they were given', async () => {
    const client = await open()
    await client.call('0xSW:0x001:say', { args: ['ü', 1], headers: { 'Accept-Language': 'de', 'X-Own': 'v' }, idempotencyKey: 'k1', ifMatch: 'ab' })
    await client.call('0xEW:news', { body: Buffer.from([0, 255]), receipt: 'none' })
    const [first, second] = mesh.requests.map(({ frame }) => frame) as [RequestFrame, RequestFrame]
    expect(first.body.toString()).toBe('["ü",1]')
    expect(decodeHeaders(first.headers)).toEqual([['accept-language', 'de'], ['x-own', 'v'], ['if-match', '"ab"'], ['idempotency-key', 'k1']])
    expect([...second.body]).toEqual([0, 255])
    expect(second.receipt).toBe('none')
  })

  test.each<[string, (client: MeshClient) => Promise<unknown>]>([
    ['a call', client => client.call('0xSW:0x001:say')],
    ['a verb', client => client.removeGroup('news', 'readers')],
    ['a batch', client => client.batch([{ fqmn: '0xS:0x001:a' }, { fqmn: '0xSW:0x001:say' }])],
  ])('that reads at `session` asks for what this client wrote before by %s', async (_, write) => {
    const client = await open()
    mesh.splitBatches = true
    mesh.behaviour = ({ frame, send }) => { send(answer(frame, 200, {}, frame.fqmn.includes('W:') ? [['x-cmesh-sequence', '17']] : [])) }
    await write(client)
    await client.call('0xS:0x001:said', { read: 'session' })
    const { frame } = mesh.requests.at(-1)
    expect(decodeHeaders(frame.headers)).toEqual([['x-cmesh-read', 'session'], ['x-cmesh-after', '17']])
  })

  test('goes to the subject of its session with the deadline asked for', async () => {
    const client = await open({ timeoutMs: 2_000 })
    const before = Date.now()
    await client.call('0xS:0x001:a')
    await client.call('0xS:0x001:a', { timeoutMs: 60_000 })
    const [first, second] = mesh.requests as [StandInRequest, StandInRequest]
    expect(first.subject).toBe(`cmesh.v1.req.${first.sid}`)
    expect(first.replySubject).toMatch(new RegExp(`^_INBOX\\.${first.sid}\\.[A-Za-z0-9_-]{22}\\.\\d+$`))
    expect(first.frame.deadlineMs - before).toBeGreaterThanOrEqual(2_000)
    expect(first.frame.deadlineMs - before).toBeLessThan(30_000)
    expect(second.frame.deadlineMs - before).toBeGreaterThanOrEqual(60_000)
  })

  test('rejects with the error of a status of 400 and above', async () => {
    const client = await open()
    mesh.behaviour = (request) => refuse(request, new CMeshError('CMESH_STATE_NO_FUNCTION', { contract: '0x001', function: 'a' }))
    await expect(client.call('0xS:0x001:a')).rejects.toMatchObject({
      code: 'CMESH_STATE_NO_FUNCTION', status: 404, message: 'The contract 0x001 has no function a.',
    })
  })

  test('resolves with the reply when throwOnError is false', async () => {
    const client = await open()
    mesh.behaviour = (request) => refuse(request, new CMeshError('CMESH_STATE_NO_FUNCTION', { contract: '0x001', function: 'a' }))
    const reply = await client.call('0xS:0x001:a', { throwOnError: false })
    expect(reply.status).toBe(404)
    expect(reply.error()).toMatchObject({ code: 'CMESH_STATE_NO_FUNCTION' })
    expect(reply.finalHash).toHaveLength(64)
  })

  test('an option that is not known is refused, and so are body and args together', async () => {
    const client = await open()
    await expect(client.call('0xS:0x001:a', { timeout: 5 } as object)).rejects.toMatchObject({
      code: 'CMESH_CLIENT_USAGE', message: expect.stringContaining('a call has no option timeout.'),
    })
    await expect(client.call('0xS:0x001:a', { body: 'x', args: [] })).rejects.toMatchObject({
      code: 'CMESH_CLIENT_USAGE', message: 'A call has a body or args, not both: args are sent in the body.',
    })
  })

  test('an address over 4,096 bytes never leaves', async () => {
    const client = await open()
    await expect(client.call(`0xS:0x001:f:["${'x'.repeat(4_096)}"]`)).rejects.toMatchObject({ code: 'CMESH_FQMN_TOO_LONG' })
    expect(mesh.requests).toHaveLength(0)
  })

  test('a thousand at once each get their own answer', async () => {
    const client = await open()
    const replies = await Promise.all(Array.from({ length: 1_000 }, (_, i) => client.call(`0xS:0x001:f${i}`)))
    expect(replies.map((reply) => reply.json<{ fqmn: string }>().fqmn)).toEqual(Array.from({ length: 1_000 }, (_, i) => `0xS:0x001:f${i}`))
    expect(new Set(replies.map((reply) => reply.id)).size).toBe(1_000)
    expect(client.pending).toBe(0)
  })
})

describe('a call that is not answered', () => {
  test('ends at its deadline with a time-out when it reads', async () => {
    const client = await open()
    mesh.behaviour = () => undefined
    await expect(client.call('0xS:0x001:a', { timeoutMs: 50 })).rejects.toMatchObject({ code: 'CMESH_BUS_TIMEOUT', status: 504 })
    await until('the request arrived', () => mesh.requests.length > 0)
    expect(mesh.requests).toHaveLength(1)
    expect(client.pending).toBe(0)
  })

  test('ends as unknown outcome, with the transaction\'s id, when it may change state', async () => {
    const client = await open()
    mesh.behaviour = () => undefined
    const failure = client.call('0xSW:0x001:say', { args: ['x'], timeoutMs: 50 })
    await expect(failure).rejects.toMatchObject({ code: 'CMESH_ROUTER_UNKNOWN_OUTCOME', status: 504 })
    await until('the request arrived', () => mesh.requests.length > 0)
    const tx = formatMessageId(mesh.requests[0]?.frame.id as Buffer)
    await expect(failure).rejects.toThrow(`the transaction ${tx} was proposed: its outcome is unknown. Ask 0xC:tx:${tx}.`)
  })

  test.each<[string, CMeshError, CMeshError]>([
    ['then by nobody', new CMeshError('CMESH_STATE_FULL', { reason: 'no space' }), new CMeshError('CMESH_ROUTER_NO_SERVICE', { service: 'S' })],
    ['then too late', new CMeshError('CMESH_STATE_HALTED', { reason: 'CMESH_STATE_FULL' }), new CMeshError('CMESH_ROUTER_DEADLINE')],
  ])('and may change state is of unknown outcome where it was answered by a node that stops, %s', async (_, first, later) => {
    const client = await open()
    mesh.behaviour = (request) => refuse(request, mesh.requests.length === 1 ? first : later)
    await expect(client.call('0xSW:0x001:say', { timeoutMs: 150 })).rejects.toMatchObject({ code: 'CMESH_ROUTER_UNKNOWN_OUTCOME', cause: { code: later.code } })
    expect(mesh.requests.length).toBeGreaterThan(1)
  })

  test('and may change state is refused for sure where each answer says that nothing was done', async () => {
    const client = await open()
    const busy = new CMeshError('CMESH_ROUTER_BUSY', { what: 'the node', limit: 1, retryAfterMs: 1 })
    mesh.behaviour = (request) => refuse(request, mesh.requests.length === 1 ? busy : new CMeshError('CMESH_ROUTER_DEADLINE'))
    await expect(client.call('0xSW:0x001:say', { timeoutMs: 5_000 })).rejects.toMatchObject({ code: 'CMESH_ROUTER_DEADLINE' })
  })

  test('is given up at once by its signal', async () => {
    const client = await open()
    mesh.behaviour = () => undefined
    const abort = new AbortController()
    const failure = client.call('0xS:0x001:a', { signal: abort.signal })
    await until('the request arrived', () => mesh.requests.length === 1)
    abort.abort(new Error('enough'))
    await expect(failure).rejects.toMatchObject({ code: 'CMESH_CLIENT_ABORTED', cause: expect.objectContaining({ message: 'enough' }) })
    expect(client.pending).toBe(0)
  })

  test('a signal that has fired already sends nothing', async () => {
    const client = await open()
    await expect(client.call('0xS:0x001:a', { signal: AbortSignal.abort() })).rejects.toMatchObject({ code: 'CMESH_CLIENT_ABORTED' })
    expect(mesh.requests).toHaveLength(0)
  })

  test('the signal also ends a pause between two attempts', async () => {
    const client = await open()
    mesh.behaviour = (request) => refuse(request, new CMeshError('CMESH_ROUTER_BUSY', { what: 'the node', limit: 1, retryAfterMs: 250_000 }))
    const abort = new AbortController()
    const failure = client.call('0xS:0x001:a', { signal: abort.signal, timeoutMs: 300_000 })
    await until('the request was refused', () => mesh.requests.length === 1)
    abort.abort()
    await expect(failure).rejects.toMatchObject({ code: 'CMESH_CLIENT_ABORTED' })
  })
})

describe('an answer worth another try', () => {
  test('is asked again under the same id until it is good', async () => {
    const client = await open()
    mesh.behaviour = (request) => (mesh.requests.length < 3 ? refuse(request, new CMeshError('CMESH_ROUTER_DRAINING')) : ok(request))
    const reply = await client.call('0xSW:0x001:say', { args: ['x'] })
    expect(reply.status).toBe(200)
    expect(mesh.requests.map(({ frame }) => formatMessageId(frame.id))).toEqual([reply.id, reply.id, reply.id])
    expect(new Set(mesh.requests.map(({ frame }) => frame.deadlineMs)).size).toBe(1)
  })

  test('is asked once when retry is off', async () => {
    const client = await open()
    mesh.behaviour = (request) => refuse(request, new CMeshError('CMESH_ROUTER_DRAINING'))
    await expect(client.call('0xS:0x001:a', { retry: false })).rejects.toMatchObject({ code: 'CMESH_ROUTER_DRAINING' })
    expect(mesh.requests).toHaveLength(1)
  })

  test('is given up with its last error before the deadline', async () => {
    const client = await open()
    // The second refusal asks for a pause that would outlast the deadline, and the deadline outlasts this test.
    const refusals = [new CMeshError('CMESH_ROUTER_DRAINING'), new CMeshError('CMESH_ROUTER_BUSY', { what: 'the node', limit: 1, retryAfterMs: 300_001 })]
    mesh.behaviour = (request) => refuse(request, refusals.shift() as CMeshError)
    await expect(client.call('0xS:0x001:a', { timeoutMs: 300_000 })).rejects.toMatchObject({ code: 'CMESH_ROUTER_BUSY' })
    expect(mesh.requests).toHaveLength(2)
  })
})

describe('the session', () => {
  test('is made by one handshake for any number of calls', async () => {
    const client = await open()
    await Promise.all([client.call('0xS:0x001:a'), client.call('0xS:0x001:b')])
    expect(mesh.steps).toEqual(['call', 'confirm', 'consent'])
    expect(client.mesh).toBe(mesh.mesh.did)
  })

  test('a 401 that prompts for identity starts one new handshake, and the call succeeds under its own id', async () => {
    const client = await open()
    await client.call('0xS:0x001:a')
    const old = mesh.requests[0]?.sid as string
    mesh.refused.add(old)
    const replies = await Promise.all(Array.from({ length: 20 }, (_, i) => client.call(`0xS:0x001:f${i}`)))
    expect(replies.map((reply) => reply.status)).toEqual(Array.from({ length: 20 }, () => 200))
    expect(mesh.steps).toEqual(['call', 'confirm', 'consent', 'call', 'confirm', 'consent'])
    const sent = mesh.requests.slice(1)
    const again = sent.filter(({ sid }) => sid !== old).map(({ frame }) => formatMessageId(frame.id))
    expect(new Set(again)).toEqual(new Set(replies.map((reply) => reply.id)))
  })

  test('a mesh that answers 401 to the new session as well is asked no third time', async () => {
    const client = await open()
    mesh.behaviour = (request) => refuse(request, new CMeshError('CMESH_IAM_NO_SESSION', { reason: 'no' }))
    await expect(client.call('0xS:0x001:a')).rejects.toMatchObject({ code: 'CMESH_IAM_NO_SESSION', message: expect.stringContaining('No valid session: no.') })
    expect(mesh.requests).toHaveLength(2)
    expect(mesh.steps).toHaveLength(6)
  })

  test('is renewed under the same subject before it expires', async () => {
    mesh.sessionTtlMs = 1_000
    const client = await open()
    await until('it was renewed', () => mesh.steps.includes('refresh'))
    await client.call('0xS:0x001:a')
    const first = mesh.requests[0] as StandInRequest
    await until('it was renewed again', () => mesh.steps.filter((step) => step === 'refresh').length >= 2)
    await until('the renewed token is used', async () => {
      await client.call('0xS:0x001:a')
      return !(mesh.requests.at(-1)).frame.token.equals(first.frame.token)
    })
    expect(mesh.requests.at(-1)?.sid).toBe(first.sid)
    expect(mesh.steps.filter((step) => step === 'call')).toHaveLength(1)
  })

  test('a mesh under another DID than the one asked for is refused', async () => {
    await expect(open({ mesh: KeyPair.generate().did })).rejects.toMatchObject({ code: 'CMESH_IAM_HANDSHAKE', message: expect.stringContaining('it comes from the mesh') })
  })

  test('a broker without a node is said to be that', async () => {
    const lonely = await StandInMesh.start()
    const { url } = lonely
    try {
      await Promise.all([lonely.broker.mesh.close(), lonely.broker.door.close()])
      await expect(connect({ url, identity: KeyPair.generate(), connectTimeoutMs: 2_000 })).rejects.toMatchObject({
        code: 'CMESH_CLIENT_NO_MESH', message: expect.stringContaining('the broker is there, but no node answers'),
      })
    } finally {
      await lonely.stop()
    }
  })

  test('a node that hangs is given no longer to answer than connecting may take, by the deadline of the step too', async () => {
    const hanging = await StandInMesh.start()
    const left: number[] = []
    hanging.ignoreHandshakes = (leftMs) => { left.push(leftMs) }
    try {
      await expect(connect({ url: hanging.url, identity: KeyPair.generate(), connectTimeoutMs: 700 })).rejects.toMatchObject({
        code: 'CMESH_CLIENT_NO_MESH', message: expect.stringContaining('the broker is there, but no node answers'),
      })
      expect(left).not.toEqual([])
      expect(Math.max(...left)).toBeLessThanOrEqual(700)
    } finally {
      await hanging.stop()
    }
  })

  test('an address where nothing listens is said to be that', async () => {
    await expect(connect({ url: 'nats://127.0.0.1:1', identity: KeyPair.generate() })).rejects.toMatchObject({
      code: 'CMESH_CLIENT_NO_MESH', message: expect.stringMatching(/^No mesh answers at nats:\/\/127\.0\.0\.1:1: connection refused\./),
    })
  })
})

describe('a batch', () => {
  function answerBatch({ data, send }: StandInRequest): void {
    const batch = BatchFrame.decode(data)
    const writer = new BatchReplyWriter(batch.id, batch.entries.length, batch.receipt)
    batch.entries.forEach(({ fqmnStart, fqmnEnd, headersEnd, end }, i) => {
      const body = Buffer.from(JSON.stringify([data.toString('utf8', fqmnStart, fqmnEnd), data.toString('utf8', headersEnd, end)]))
      if (i === 1) writer.add(404, FINAL_HASH, Buffer.alloc(0), undefined, Buffer.from(JSON.stringify(new CMeshError('CMESH_REGISTRAR_NOT_FOUND', { name: 'b.mcom' }).toWire())))
      else writer.add(200, FINAL_HASH, Buffer.alloc(0), undefined, body)
    })
    send(writer.finish())
  }

  test('gives each entry its own status, and none of them rejects', async () => {
    const client = await open()
    mesh.behaviour = answerBatch
    const replies = await client.batch([{ fqmn: '0xS:0x001:a' }, { fqmn: '0xR:b.mcom' }, { fqmn: '0xSW:0x001:say', args: ['x'] }])
    expect(replies.map((reply) => reply.status)).toEqual([200, 404, 200])
    expect(replies[2]?.json()).toEqual(['0xSW:0x001:say', '["x"]'])
    expect(replies[1]?.error()).toMatchObject({ code: 'CMESH_REGISTRAR_NOT_FOUND' })
    const batch = BatchFrame.decode(mesh.requests[0]?.data as Buffer)
    expect(replies.map((reply) => reply.id)).toEqual([0, 1, 2].map((i) => formatMessageId(entryId(batch.id, i))))
  })

  test('is refused as a whole with the error of the one reply', async () => {
    const client = await open()
    mesh.behaviour = ({ data, send }) => send(encodeReply({
      id: BatchFrame.decode(data).id, status: 413, receipt: 'hash', finalHash: FINAL_HASH,
      body: Buffer.from(JSON.stringify(new CMeshError('CMESH_FRAME_TOO_LARGE', { part: 'batch', bytes: 2, limit: 1 }).toWire())),
    }))
    await expect(client.batch([{ fqmn: '0xS:0x001:a' }])).rejects.toMatchObject({ code: 'CMESH_FRAME_TOO_LARGE' })
  })

  test('repeats its handshake and moves to the new session', async () => {
    const client = await open()
    await client.call('0xS:0x001:a')
    mesh.refused.add(mesh.requests[0]?.sid as string)
    mesh.behaviour = answerBatch
    const refused = mesh.requests[0]?.sid
    const original = mesh.behaviour
    mesh.refused.clear()
    mesh.behaviour = (request) => {
      if (request.sid !== refused) return original(request)
      const id = BatchFrame.decode(request.data).id
      request.send(encodeReply({ id, status: 401, receipt: 'hash', finalHash: FINAL_HASH, body: Buffer.from(JSON.stringify(new CMeshError('CMESH_IAM_NO_SESSION', { reason: 'gone' }).toWire())) }))
    }
    const replies = await client.batch([{ fqmn: '0xS:0x001:a' }, { fqmn: '0xR:b.mcom' }])
    expect(replies.map((reply) => reply.status)).toEqual([200, 404])
  })

  test.each([[0], [1_025]])('of %i entries is refused', async (count) => {
    const client = await open()
    await expect(client.batch(Array.from({ length: count }, () => ({ fqmn: '0xS:0x001:a' })))).rejects.toMatchObject({
      code: 'CMESH_CLIENT_USAGE', message: `A batch has 1 to 1024 entries, not ${count}.`,
    })
  })
})

describe('closing', () => {
  test('waits for what is in flight and loses no reply', async () => {
    const client = await open()
    const held: StandInRequest[] = []
    mesh.behaviour = (request) => held.push(request)
    const replies = Promise.all([client.call('0xS:0x001:a'), client.call('0xS:0x001:b')])
    await until('both arrived', () => held.length === 2)
    const closed = client.close()
    await expect(client.call('0xS:0x001:c')).rejects.toMatchObject({ code: 'CMESH_CLIENT_CLOSED' })
    held.forEach(ok)
    expect((await replies).map((reply) => reply.status)).toEqual([200, 200])
    await closed
    expect(client.connection).toBe('closed')
  })

  test('gives up at drainMs what is not answered', async () => {
    const client = await open({ drainMs: 20 })
    mesh.behaviour = () => undefined
    const lost = client.call('0xS:0x001:a')
    const expectation = expect(lost).rejects.toMatchObject({ code: 'CMESH_CLIENT_CLOSED', message: 'This client is closed.' })
    await until('it arrived', () => mesh.requests.length === 1)
    await client.close()
    await expectation
    expect(client.close()).toBe(client.close())
  })
})

describe('more requests than a client takes', () => {
  test('are refused at once', async () => {
    const client = await open({ maxInFlight: 2 })
    mesh.behaviour = () => undefined
    const waiting = [client.call('0xS:0x001:a', { timeoutMs: 100 }), client.call('0xS:0x001:b', { timeoutMs: 100 })]
    const settled = Promise.allSettled(waiting)
    await expect(client.call('0xS:0x001:c', { retry: false })).rejects.toMatchObject({ code: 'CMESH_BUS_BUSY', status: 429 })
    await settled
  })
})

