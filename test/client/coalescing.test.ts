import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from '@jest/globals'
import { connect, type ConnectOptions } from '../../client/connect.ts'
import type { MeshClient } from '../../client/mesh-client.ts'
import { CMeshError } from '../../cmtp/errors.ts'
import { KeyPair } from '../../cmtp/identity/keys.ts'
import { formatMessageId } from '../../cmtp/message-id.ts'
import { ok, refuse, StandInMesh } from './support/stand-in-mesh.ts'
import { until } from './support/until.ts'

let mesh: StandInMesh
let client: MeshClient

beforeAll(async () => { mesh = await StandInMesh.start() })
afterAll(() => mesh.stop())
beforeEach(async () => {
  mesh.behaviour = ok
  mesh.splitBatches = true
  mesh.refused.clear()
  client = await open()
  // The session's first request goes alone and introduces its token.
  await client.call('0xS:0x001:first')
  mesh.requests.length = 0
  mesh.steps.length = 0
})
afterEach(() => client.close())

function open(options: ConnectOptions = {}): Promise<MeshClient> {
  return connect({ url: mesh.url, identity: KeyPair.generate(), onWarning: () => undefined, timeoutMs: 20_000, ...options })
}

const frames = (): number => new Set(mesh.requests.map(({ replySubject }) => replySubject)).size

describe('reads asked in one turn', () => {
  test('share frames, and each gets its own answer under its own id', async () => {
    const replies = await Promise.all(Array.from({ length: 300 }, (_, i) => client.call(`0xS:0x001:f${i}`)))
    expect(replies.map((reply) => reply.json<{ fqmn: string }>().fqmn)).toEqual(replies.map((_, i) => `0xS:0x001:f${i}`))
    expect(replies.map(({ id }) => id)).toEqual(mesh.requests.map(({ frame }) => formatMessageId(frame.id)))
    expect(new Set(replies.map(({ id }) => id)).size).toBe(300)
    expect(frames()).toBeLessThan(10)
  })

  test('do not share their failures', async () => {
    mesh.behaviour = (request) => {
      if (request.frame.fqmn.endsWith('bad')) refuse(request, new CMeshError('CMESH_STATE_NO_FUNCTION', { contract: '0x001', function: 'bad' }))
      else ok(request)
    }
    const results = await Promise.allSettled([client.call('0xS:0x001:good'), client.call('0xS:0x001:bad'), client.call('0xR:good.mcom')])
    expect(results.map(({ status }) => status)).toEqual(['fulfilled', 'rejected', 'fulfilled'])
    expect(results[1]).toMatchObject({ reason: { code: 'CMESH_STATE_NO_FUNCTION' } })
    expect(frames()).toBe(1)
  })

  test('that are refused for now are asked again one by one, under their ids', async () => {
    const seen = new Map<string, number>()
    mesh.behaviour = (request) => {
      const id = formatMessageId(request.frame.id)
      seen.set(id, (seen.get(id) ?? 0) + 1)
      if (seen.get(id) === 1) refuse(request, new CMeshError('CMESH_ROUTER_BUSY', { what: 'the node', limit: 1, retryAfterMs: 1 }))
      else ok(request)
    }
    const replies = await Promise.all(['a', 'b', 'c'].map((name) => client.call(`0xS:0x001:${name}`)))
    expect(replies.map(({ id }) => seen.get(id))).toEqual([2, 2, 2])
  })

  test('whose session is refused start one handshake and are all answered', async () => {
    mesh.behaviour = (request) => {
      mesh.refused.add(request.sid)
      mesh.behaviour = ok
      refuse(request, new CMeshError('CMESH_IAM_NO_SESSION', { reason: 'the session is revoked' }))
    }
    const replies = await Promise.all(Array.from({ length: 50 }, (_, i) => client.call(`0xS:0x001:f${i}`)))
    expect(replies.map(({ status }) => status)).toEqual(Array.from({ length: 50 }, () => 200))
    expect(mesh.steps).toEqual(['call', 'confirm', 'consent'])
  })

  test('in one frame that is answered by noise fail each with CMESH_CLIENT_REPLY', async () => {
    mesh.splitBatches = false
    mesh.behaviour = ({ send }) => send(Buffer.from('noise'))
    const results = await Promise.allSettled([client.call('0xS:0x001:a'), client.call('0xS:0x001:b')])
    expect(results).toMatchObject([{ reason: { code: 'CMESH_CLIENT_REPLY' } }, { reason: { code: 'CMESH_CLIENT_REPLY' } }])
  })

  test('survive a broker that dies and returns', async () => {
    mesh.behaviour = () => undefined
    const replies = Promise.all([client.call('0xS:0x001:a'), client.call('0xS:0x001:b')])
    await until('both arrived', () => mesh.requests.length === 2)
    const ids = mesh.requests.map(({ frame }) => formatMessageId(frame.id))
    mesh.behaviour = ok
    await mesh.killBroker()
    expect((await replies).map(({ id }) => id)).toEqual(ids)
  })

  test('are sent even when the client is closed in the same turn', async () => {
    const replies = Promise.all([client.call('0xS:0x001:a'), client.call('0xS:0x001:b')])
    await client.close()
    expect((await replies).map(({ status }) => status)).toEqual([200, 200])
  })
})

describe('what does not share a frame', () => {
  test('writes, requests with a body, a signal or another receipt, and slow reads go alone', async () => {
    await Promise.all([
      client.call('0xSW:0x001:say:["x"]'),
      client.call('0xS:0x001:f', { args: [1] }),
      client.call('0xS:0x001:f', { signal: new AbortController().signal }),
      client.call('0xS:0x001:f', { receipt: 'none' }),
      client.call('0xE:news:range'),
      client.call('0xS:0x001:f'),
    ])
    expect(frames()).toBe(6)
    expect(mesh.requests.map(({ frame }) => frame.receipt).filter((receipt) => receipt === 'none')).toHaveLength(1)
  })

  test('a client that is told not to sends each alone', async () => {
    const plain = await open({ coalesce: false })
    try {
      await Promise.all([plain.call('0xS:0x001:a'), plain.call('0xS:0x001:b')])
      expect(frames()).toBe(2)
    } finally {
      await plain.close()
    }
  })
})
