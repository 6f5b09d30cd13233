import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from '@jest/globals'
import { connect, type ConnectOptions } from '../../client/connect.ts'
import type { MeshClient } from '../../client/mesh-client.ts'
import { CMeshError } from '../../cmtp/errors.ts'
import { decodeHeaders, headerValue } from '../../cmtp/headers.ts'
import { KeyPair } from '../../cmtp/identity/keys.ts'
import { formatMessageId } from '../../cmtp/message-id.ts'
import { answer, ok, refuse, StandInMesh } from './support/stand-in-mesh.ts'
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

describe('transactions of contracts asked in one turn', () => {
  const say = (i: number): Promise<unknown> => client.call('0xSW:0x001:say', { body: `["${i}"]`, headers: { 'x-number': String(i) } })
  const bodies = (): string[] => mesh.requests.map(({ frame }) => frame.body.toString())

  test('share frames without reads, each with its own body and headers, in the order in which they were asked', async () => {
    await Promise.all(Array.from({ length: 100 }, (_, i) => (i % 10 === 0 ? client.call('0xS:0x001:f') : say(i))))
    const numbers = Array.from({ length: 100 }, (_, i) => i).filter((i) => i % 10 !== 0)
    const writes = mesh.requests.filter(({ frame }) => frame.fqmn === '0xSW:0x001:say')
    expect(writes.map(({ frame }) => frame.body.toString())).toEqual(numbers.map((i) => `["${i}"]`))
    expect(writes.map(({ frame }) => decodeHeaders(frame.headers))).toEqual(numbers.map((i) => [['x-number', String(i)]]))
    expect(new Set(writes.map(({ replySubject }) => replySubject)).size).toBe(2)
    expect(frames()).toBe(3)
  })

  test('hold what their bodies held when they were asked', async () => {
    const bytes = Buffer.from('["a"]')
    const replies = [client.call('0xSW:0x001:say', { body: bytes }), say(2)]
    bytes.fill('x')
    await Promise.all(replies)
    expect(bodies()).toEqual(['["a"]', '["2"]'])
  })

  test('hold texts as their bytes: what is short as a text may be too long for a frame with others', async () => {
    const [fits, long] = [`["${'\u20ac'.repeat(1_364)}"]`, `["${'\u20ac'.repeat(1_365)}"]`]
    const put = (body: string): Promise<unknown> => client.call('0xSW:0x001:say', { body })
    await Promise.all([put(fits), say(1)])
    expect([bodies(), frames()]).toEqual([[fits, '["1"]'], 1])
    await Promise.all([put(long), put('["\u00e9"]'), say(2)])
    expect([bodies().slice(2), frames()]).toEqual([[long, '["\u00e9"]', '["2"]'], 3])
  })

  test('share frames of 64, and of 256 where the mesh has several servers, if they are short', async () => {
    const several = await open({ url: `${mesh.url},${mesh.url}` })
    await several.call('0xS:0x001:first')
    /** How many requests each frame held, in the order in which the frames were sent. */
    const sizes = async (of: MeshClient, body: string): Promise<number[]> => {
      mesh.requests.length = 0
      await Promise.all(Array.from({ length: 300 }, () => of.call('0xSW:0x001:say', { body })))
      const counts = new Map<string, number>()
      for (const { replySubject } of mesh.requests) counts.set(replySubject, (counts.get(replySubject) ?? 0) + 1)
      return [...counts.values()]
    }
    try {
      expect(await sizes(client, '["a"]')).toEqual([64, 64, 64, 64, 44])
      expect(await sizes(several, '["a"]')).toEqual([256, 44])
      // 1,000 characters and an address of 14, three bytes each at most: 86 are the last to stay within 262,144 bytes.
      expect(await sizes(several, `["${'x'.repeat(996)}"]`)).toEqual([86, 86, 86, 42])
      expect(await sizes(several, `["${'x'.repeat(1_361)}"]`)).toEqual([64, 64, 64, 64, 44])
      mesh.requests.length = 0
      await Promise.all(Array.from({ length: 100 }, (_, i) => several.call(`0xS:0x001:f${i}`)))
      expect(frames()).toBe(2)
    } finally {
      await several.close()
    }
  })

  test('are overtaken by no write that shares no frame', async () => {
    const long = `["${'x'.repeat(5_000)}"]`
    const order = client.call('0xRW:transfer:a.mcom', { args: ['did:key:z'] })
    await Promise.all([say(1), say(2), client.call('0xSW:0x001:say', { body: long }), say(3), order, say(4)])
    expect(bodies()).toEqual(['["did:key:z"]', '["1"]', '["2"]', long, '["3"]', '["4"]'])
    expect(frames()).toBe(4)
  })

  test('are asked again one by one under their ids and with their bodies, and end with what became of each', async () => {
    const seen = new Map<string, string[]>()
    mesh.behaviour = (request) => {
      const { id, body } = request.frame
      const times = seen.get(formatMessageId(id)) ?? []
      seen.set(formatMessageId(id), [...times, body.toString()])
      if (body.toString() === '["3"]') refuse(request, new CMeshError('CMESH_CONTRACT_REVERT', { contract: '0x001', reason: 'no' }))
      else if (times.length === 0) refuse(request, new CMeshError('CMESH_ROUTER_BUSY', { what: 'the node', limit: 1, retryAfterMs: 1 }))
      else ok(request)
    }
    const results = await Promise.allSettled([say(1), say(2), say(3)])
    expect(results).toMatchObject([{ status: 'fulfilled' }, { status: 'fulfilled' }, { reason: { code: 'CMESH_CONTRACT_REVERT' } }])
    expect([...seen.values()]).toEqual([['["1"]', '["1"]'], ['["2"]', '["2"]'], ['["3"]']])
  })

  test('are what this client wrote, which a view at `session` shows: answered at once, or when asked again', async () => {
    const asked = new Set<string>()
    mesh.behaviour = (request) => {
      const { frame, send } = request
      const again = asked.has(formatMessageId(frame.id))
      asked.add(formatMessageId(frame.id))
      const number = JSON.parse(frame.body.toString() || '["0"]') as [string]
      if (number[0] === '23' && !again) refuse(request, new CMeshError('CMESH_ROUTER_BUSY', { what: 'the node', limit: 1, retryAfterMs: 1 }))
      else send(answer(frame, 200, {}, [['x-cmesh-sequence', number[0]]]))
    }
    const shownAt = async (): Promise<string | undefined> => {
      await client.call('0xS:0x001:said', { read: 'session' })
      return headerValue(decodeHeaders(mesh.requests.at(-1).frame.headers), 'x-cmesh-after')
    }
    await Promise.all([say(17), say(21), say(19)])
    expect([await shownAt(), frames()]).toEqual(['21', 2])
    await Promise.all([say(22), say(23)])
    expect(await shownAt()).toBe('23')
  })

  test('that get no answer have each an outcome that is unknown, under its own id', async () => {
    mesh.behaviour = () => undefined
    const ask = (i: number): Promise<unknown> => client.call('0xSW:0x001:say', { body: `["${i}"]`, timeoutMs: 50 })
    const results = await Promise.allSettled([ask(1), ask(2)])
    const ids = mesh.requests.map(({ frame }) => formatMessageId(frame.id))
    expect(new Set(ids).size).toBe(2)
    expect(results).toMatchObject(ids.map((tx) => ({ reason: { code: 'CMESH_ROUTER_UNKNOWN_OUTCOME', detail: { tx } } })))
  })
})

describe('what does not share a frame', () => {
  test('orders on the mesh itself go alone', async () => {
    await Promise.all([client.call('0xSW:0x000:answer:["1"]'), client.call('0xSW:0x000:answer:["2"]'), client.call('0xEW:news', { body: 'a' }), client.call('0xEW:news', { body: 'b' })])
    expect(frames()).toBe(4)
  })

  test('a single write, requests with a body, a signal or another receipt, and slow reads go alone', async () => {
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
