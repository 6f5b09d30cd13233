import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from '@jest/globals'
import { connect, type ConnectOptions } from '../../client/connect.ts'
import type { MeshClient } from '../../client/mesh-client.ts'
import { formatMessageId } from '../../cmtp/message-id.ts'
import { KeyPair } from '../../cmtp/identity/keys.ts'
import { ok, StandInMesh, type StandInRequest } from './support/stand-in-mesh.ts'
import { until } from './support/until.ts'

let mesh: StandInMesh
let client: MeshClient

beforeAll(async () => { mesh = await StandInMesh.start() })
afterAll(() => mesh.stop())
beforeEach(() => {
  mesh.behaviour = ok
  mesh.requests.length = 0
  mesh.steps.length = 0
})
afterEach(() => client.close())

async function open(options: ConnectOptions = {}): Promise<MeshClient> {
  client = await connect({ url: mesh.url, identity: KeyPair.generate(), timeoutMs: 20_000, coalesce: false, ...options })
  return client
}

describe('a broker that dies and returns', () => {
  test('fails what is in flight at once when it must not be tried again', async () => {
    await open({ retry: false })
    mesh.behaviour = () => undefined
    const failures = Promise.allSettled([client.call('0xS:0x001:a'), client.call('0xSW:0x001:say', { args: ['x'] })])
    await until('both arrived', () => mesh.requests.length === 2)
    const back = mesh.killBroker()
    expect((await failures).map((result) => (result.status === 'rejected' ? (result.reason as { code: string }).code : 'answered')))
      .toEqual(['CMESH_BUS_DISCONNECTED', 'CMESH_BUS_DISCONNECTED'])
    await back
  })

  test('loses no call that may be tried again, each under its own id, in the same session', async () => {
    await open()
    mesh.behaviour = () => undefined
    const replies = Promise.all([
      client.call('0xS:0x001:a'),
      client.call('0xSW:0x001:say', { args: ['x'] }),
      client.batch([{ fqmn: '0xS:0x001:a' }]).catch((error: unknown) => (error as { code: string }).code),
    ])
    await until('all arrived', () => mesh.requests.length === 3)
    const lost = mesh.requests.slice(0, 2).map(({ frame }) => formatMessageId(frame.id))
    const { sid } = mesh.requests[0] as StandInRequest
    mesh.behaviour = (request) => { if (request.data[3] === 1) ok(request); else request.send(Buffer.alloc(0)) }
    await mesh.killBroker()
    const [read, write, batch] = await replies
    expect([read, write].map((reply) => reply.id)).toEqual(lost)
    expect(batch).toBe('CMESH_CLIENT_REPLY')
    expect(mesh.requests.every((request) => request.sid === sid)).toBe(true)
    expect(mesh.steps).toEqual(['call', 'confirm', 'consent'])
  })

  test('holds calls made meanwhile until it is back', async () => {
    await open()
    const back = mesh.killBroker()
    await until('the client noticed', () => client.connection === 'disconnected')
    const replies = Promise.all(Array.from({ length: 20 }, (_, i) => client.call(`0xS:0x001:f${i}`)))
    await back
    expect((await replies).map((reply) => reply.status)).toEqual(Array.from({ length: 20 }, () => 200))
    expect(client.connection).toBe('connected')
  })

  test('a call whose deadline passes meanwhile fails as disconnected when it was never sent', async () => {
    await open()
    const back = mesh.killBroker()
    await until('the client noticed', () => client.connection === 'disconnected')
    const failure = client.call('0xSW:0x001:say', { args: ['x'], timeoutMs: 1 })
    try {
      await expect(failure).rejects.toMatchObject({ code: 'CMESH_BUS_DISCONNECTED' })
    } finally {
      await back
    }
  })

  test('a client can be closed while it is away', async () => {
    await open()
    const back = mesh.killBroker()
    await until('the client noticed', () => client.connection === 'disconnected')
    await client.close()
    expect(client.connection).toBe('closed')
    await back
  })
})
