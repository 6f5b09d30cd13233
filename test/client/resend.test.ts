/** Requests that nobody answers: a node that was killed had taken them. Here it is a scripted mesh that keeps silent when it is told to. */
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from '@jest/globals'
import { connect, type ConnectOptions } from '../../client/connect.ts'
import type { MeshClient } from '../../client/mesh-client.ts'
import { CMeshError } from '../../cmtp/errors.ts'
import { KeyPair } from '../../cmtp/identity/keys.ts'
import { formatMessageId } from '../../cmtp/message-id.ts'
import { answer, ok, refuse, StandInMesh, type Behaviour, type StandInRequest } from './support/stand-in-mesh.ts'
import { until } from './support/until.ts'

let mesh: StandInMesh
let client: MeshClient

beforeAll(async () => { mesh = await StandInMesh.start() })
afterAll(() => mesh.stop())
beforeEach(async () => {
  mesh.behaviour = ok
  mesh.splitBatches = true
  client = await open()
  // The session's first request introduces its token.
  await client.call('0xS:0x001:first')
  mesh.requests.length = 0
})
afterEach(() => client.close())

function open(options: ConnectOptions = {}): Promise<MeshClient> {
  return connect({ url: mesh.url, identity: KeyPair.generate(), onWarning: () => undefined, timeoutMs: 30_000, resendMs: 50, ...options })
}

const idOf = ({ frame }: StandInRequest): string => formatMessageId(frame.id)

/** Keeps silent the first time that it sees an id, then behaves as told. */
function silentOnce(then: Behaviour): Behaviour {
  const seen = new Set<string>()
  return request => {
    if (seen.has(idOf(request))) then(request)
    else seen.add(idOf(request))
  }
}

describe('a request that nobody answers', () => {
  test.each(['0xS:0x001:hello', '0xSW:0x001:say'])('is sent again under its id to whoever takes it then: %s', async fqmn => {
    mesh.behaviour = silentOnce(ok)
    const reply = await client.call(fqmn)
    expect(reply.status).toBe(200)
    expect(mesh.requests.slice(0, 2).map(idOf)).toEqual([reply.id, reply.id])
    const [first, second] = mesh.requests as [StandInRequest, StandInRequest]
    expect(second.data.equals(first.data)).toBe(true)
    expect(second.replySubject).toBe(first.replySubject)
    expect(client.resent).toBe(1)
  })

  test('is sent again with those of its frame, each under its own id', async () => {
    mesh.behaviour = silentOnce(ok)
    const replies = await Promise.all(Array.from({ length: 10 }, (_, i) => client.call(`0xSW:0x001:f${i}`)))
    expect(replies.map(reply => reply.json<{ fqmn: string }>().fqmn)).toEqual(replies.map((_, i) => `0xSW:0x001:f${i}`))
    expect(new Set(mesh.requests.map(idOf))).toEqual(new Set(replies.map(({ id }) => id)))
    expect(client.resent).toBe(10)
  })

  test('in a batch is sent again as it was', async () => {
    mesh.behaviour = silentOnce(ok)
    const replies = await client.batch([{ fqmn: '0xS:0x001:a' }, { fqmn: '0xSW:0x001:b' }])
    expect(replies.map(({ status }) => status)).toEqual([200, 200])
    expect(client.resent).toBe(1)
  })

  test('is answered by the node that has it, where that was only slow', async () => {
    mesh.behaviour = request => {
      if (mesh.requests.length === 2) ok(mesh.requests[0] as StandInRequest)
      // Whoever has it the second time says other things, and later.
      if (mesh.requests.length === 2) refuse(request, new CMeshError('CMESH_STATE_NO_CONTRACT', { contract: '0x001' }))
    }
    expect((await client.call('0xSW:0x001:say')).status).toBe(200)
  })

  test('is sent whole where the next node does not know the token by its reference', async () => {
    mesh.behaviour = silentOnce(request => {
      if (request.frame.token.length > 100) ok(request)
      else refuse(request, new CMeshError('CMESH_IAM_TOKEN'))
    })
    const reply = await client.call('0xSW:0x001:say')
    expect(reply.status).toBe(200)
    expect(new Set(mesh.requests.map(idOf))).toEqual(new Set([reply.id]))
  })

  test('is sent once without retry, and where its time is over before', async () => {
    mesh.behaviour = () => undefined
    const once = [client.call('0xSW:0x001:a', { retry: false, timeoutMs: 200 }), client.call('0xS:0x001:b', { resendMs: 200, timeoutMs: 200 })]
    const codes = await Promise.all(once.map(call => call.catch((error: unknown) => (error as CMeshError).code)))
    expect(codes).toEqual(['CMESH_ROUTER_UNKNOWN_OUTCOME', 'CMESH_BUS_TIMEOUT'])
    // Another on the same connection comes behind whatever these sent.
    mesh.behaviour = ok
    await client.call('0xS:0x001:c')
    expect(mesh.requests.map(({ frame }) => frame.fqmn).sort()).toEqual(['0xS:0x001:b', '0xS:0x001:c', '0xSW:0x001:a'])
    expect(client.resent).toBe(0)
  })

  test('of a group is not: what two pulls took one of them would have taken in vain', async () => {
    const pulls = (): StandInRequest[] => mesh.requests.filter(({ frame }) => frame.fqmn.endsWith(':pull'))
    mesh.behaviour = silentOnce(request => { if (!request.frame.fqmn.endsWith(':pull')) ok(request) })
    const member = await client.group('c', 'g', () => undefined)
    await until('it pulls', () => pulls().length > 0)
    // One that is sent again is later than the pull would be.
    await client.call('0xSW:0x001:a')
    expect(pulls()).toHaveLength(1)
    const closed = member.close()
    for (const { frame, send } of pulls()) send(answer(frame, 200, []))
    await closed
  })
})

test('a dead letter is replayed and dropped once: a second sending would find it gone, or replay it beside the first', async () => {
  mesh.behaviour = () => undefined
  const settled = Promise.allSettled([client.dlq.replay('0a', { timeoutMs: 200 }), client.dlq.drop('0b', { timeoutMs: 200 })])
  expect((await settled).map(each => each.status === 'rejected' && (each.reason as CMeshError).code)).toEqual(['CMESH_ROUTER_UNKNOWN_OUTCOME', 'CMESH_ROUTER_UNKNOWN_OUTCOME'])
  mesh.behaviour = ok
  await client.call('0xS:0x001:c')
  expect(mesh.requests.map(({ frame }) => frame.fqmn).sort()).toEqual(['0xEW:events.dead:0a:replay', '0xEW:events.dead:0b:drop', '0xS:0x001:c'])
})

describe('a write that was sent twice', () => {
  test.each([
    ['its deadline', new CMeshError('CMESH_ROUTER_DEADLINE')],
    ['a right that is gone meanwhile', new CMeshError('CMESH_IAM_DENIED', { permission: 'write', fqmn: '0xSW:0x001:say' })],
  ])('and refused the second time for %s has an unknown outcome: the first may be in the log', async (_, refusal) => {
    mesh.behaviour = silentOnce(request => { refuse(request, refusal) })
    const failure: unknown = await client.call('0xSW:0x001:say').catch((error: unknown) => error)
    expect(failure).toMatchObject({ code: 'CMESH_ROUTER_UNKNOWN_OUTCOME', detail: { tx: idOf(mesh.requests[0] as StandInRequest) }, cause: { code: refusal.code } })
  })

  test.each<[string, (on: MeshClient) => Promise<unknown>]>([
    ['of a contract', on => on.call('0xSW:0x001:say')], ['of events', on => on.publish('news', 'x')], ['in a batch', on => on.batch([{ fqmn: '0xSW:0x001:a' }, { fqmn: '0xS:0x001:b' }])],
  ])('%s, whose session was ended meanwhile and may not be had again, has an unknown outcome', async (_, write) => {
    const revoked = new CMeshError('CMESH_IAM_REVOKED', { what: 'session' })
    mesh.behaviour = silentOnce(request => {
      mesh.refuseHandshakes = revoked
      refuse(request, new CMeshError('CMESH_IAM_NO_SESSION', { reason: 'the session is revoked' }))
    })
    try {
      const failure: unknown = await write(client).catch((error: unknown) => error)
      expect(failure).toMatchObject({ code: 'CMESH_ROUTER_UNKNOWN_OUTCOME', cause: { code: revoked.code } })
    } finally {
      mesh.refuseHandshakes = undefined
    }
  })

  test('of events and refused the second time by the guard has an unknown outcome, by the service what that says', async () => {
    const denied = new CMeshError('CMESH_IAM_DENIED', { permission: 'write', fqmn: '0xEW:news:publish' })
    mesh.behaviour = silentOnce(request => { refuse(request, denied) })
    await expect(client.publish('news', 'x')).rejects.toMatchObject({ code: 'CMESH_ROUTER_UNKNOWN_OUTCOME', cause: { code: denied.code } })
    mesh.behaviour = silentOnce(request => { refuse(request, new CMeshError('CMESH_EVENTS_RESERVED', { channel: 'news' })) })
    await expect(client.publish('news', 'x')).rejects.toMatchObject({ code: 'CMESH_EVENTS_RESERVED' })
  })

  test('fails with its own outcome, where that is one', async () => {
    const failed = new CMeshError('CMESH_CONTRACT_REVERT', { contract: '0x001', reason: 'no' })
    mesh.behaviour = silentOnce(({ frame, send }) => {
      send(answer(frame, failed.status, failed.toWire(), [['x-cmesh-transaction', formatMessageId(frame.id)]]))
    })
    await expect(client.call('0xSW:0x001:say')).rejects.toMatchObject({ code: 'CMESH_CONTRACT_REVERT' })
  })

  test('once refused without having been lost is what the refusal says', async () => {
    mesh.behaviour = request => { refuse(request, new CMeshError('CMESH_ROUTER_DEADLINE')) }
    await expect(client.call('0xSW:0x001:say')).rejects.toMatchObject({ code: 'CMESH_ROUTER_DEADLINE' })
  })

  test('is sent again where a node stops with it under way: another knows what became of it', async () => {
    mesh.behaviour = request => {
      if (mesh.requests.length > 1) ok(request)
      else refuse(request, new CMeshError('CMESH_ROUTER_UNKNOWN_OUTCOME', { tx: idOf(request) }))
    }
    const reply = await client.call('0xSW:0x001:say')
    expect(mesh.requests.map(idOf)).toEqual([reply.id, reply.id])
    expect(client.resent).toBe(1)
  })

  test('and is nowhere known at its deadline has an unknown outcome', async () => {
    mesh.behaviour = request => { refuse(request, new CMeshError('CMESH_ROUTER_UNKNOWN_OUTCOME', { tx: idOf(request) })) }
    await expect(client.call('0xSW:0x001:say', { timeoutMs: 100 })).rejects.toMatchObject({ code: 'CMESH_ROUTER_UNKNOWN_OUTCOME', status: 504 })
    expect((await client.call('0xSW:0x001:say', { timeoutMs: 100, throwOnError: false })).status).toBe(504)
  })
})
