import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from '@jest/globals'
import { connect } from '../../client/connect.ts'
import type { MeshClient } from '../../client/mesh-client.ts'
import { BatchFrame } from '../../cmtp/batch.ts'
import { BatchReplyWriter } from '../../cmtp/batch-reply.ts'
import { CMeshError } from '../../cmtp/errors.ts'
import { RequestFrame } from '../../cmtp/frame.ts'
import { KeyPair } from '../../cmtp/identity/keys.ts'
import { FINAL_HASH, ok, refuse, StandInMesh, type StandInRequest } from './support/stand-in-mesh.ts'

let mesh: StandInMesh
let client: MeshClient

beforeAll(async () => { mesh = await StandInMesh.start() })
afterAll(() => mesh.stop())
beforeEach(async () => {
  mesh.behaviour = ok
  mesh.requests.length = 0
  mesh.steps.length = 0
  client = await connect({ url: mesh.url, identity: KeyPair.generate(), coalesce: false })
})
afterEach(() => client.close())

/** A reference has 16 bytes, a token hundreds. */
function isWhole({ data }: StandInRequest): boolean {
  const { token } = data[3] === 1 ? RequestFrame.decode(data) : BatchFrame.decode(data)
  return token.length > 100
}

/** What a node says that was started anew, and has only the reference. */
const UNKNOWN = new CMeshError('CMESH_IAM_TOKEN')

describe('the token', () => {
  test('is sent whole until a node took it, then by reference', async () => {
    for (let i = 0; i < 3; i++) await client.call('0xS:0x001:a')
    expect(mesh.requests.map(isWhole)).toEqual([true, false, false])
  })

  test('is sent whole again, under the same id and in the same session, when a node does not know it', async () => {
    await client.call('0xS:0x001:a')
    mesh.behaviour = (request) => (isWhole(request) ? ok(request) : refuse(request, UNKNOWN))
    const reply = await client.call('0xSW:0x001:say', { args: ['x'] })
    expect(reply.status).toBe(200)
    const [, second, third] = mesh.requests as [StandInRequest, StandInRequest, StandInRequest]
    expect([isWhole(second), isWhole(third)]).toEqual([false, true])
    expect(third.frame.id.equals(second.frame.id)).toBe(true)
    expect(third.sid).toBe(second.sid)
    expect(mesh.steps).toEqual(['call', 'confirm', 'consent'])
    mesh.behaviour = ok
    await client.call('0xS:0x001:a')
    expect(isWhole(mesh.requests.at(-1))).toBe(false)
  })

  test('is sent whole again for a batch, whose every entry is refused for it', async () => {
    await client.call('0xS:0x001:a')
    mesh.behaviour = (request) => {
      const batch = BatchFrame.decode(request.data)
      const writer = new BatchReplyWriter(batch.id, batch.entries.length, batch.receipt)
      const body = isWhole(request) ? '"done"' : JSON.stringify(UNKNOWN.toWire())
      for (const _ of batch.entries) writer.add(isWhole(request) ? 200 : 401, FINAL_HASH, Buffer.alloc(0), undefined, Buffer.from(body))
      request.send(writer.finish())
    }
    const replies = await client.batch([{ fqmn: '0xS:0x001:a' }, { fqmn: '0xS:0x001:b' }])
    expect(replies.map((reply) => reply.json())).toEqual(['done', 'done'])
    expect(mesh.requests.map(isWhole)).toEqual([true, false, true])
    expect(mesh.steps).toEqual(['call', 'confirm', 'consent'])
  })

  test('is told to each of several nodes that asks for it, and no request fails for that, however they take turns', async () => {
    const several = await connect({ url: mesh.url, identity: KeyPair.generate(), coalesce: false, retry: false })
    try {
      const known = [new Set<string>(), new Set<string>(), new Set<string>()]
      let turn = 0
      mesh.behaviour = (request) => {
        const node = known[turn++ % known.length] as Set<string>
        if (isWhole(request)) node.add(request.sid)
        if (node.has(request.sid)) ok(request)
        else refuse(request, UNKNOWN)
      }
      for (let i = 0; i < 6; i++) expect((await several.call('0xS:0x001:a')).status).toBe(200)
      expect((await Promise.all(Array.from({ length: 30 }, () => several.call('0xS:0x001:a')))).map(({ status }) => status)).toEqual(Array(30).fill(200))
      expect(known.map(({ size }) => size)).toEqual([1, 1, 1])
      const asked = mesh.requests.length
      await several.call('0xS:0x001:a')
      expect(mesh.requests.slice(asked).map(isWhole)).toEqual([false])
    } finally {
      await several.close()
    }
  })

  test('stays whole in a request that had to send it so, though others have gone back to its reference', async () => {
    await client.call('0xS:0x001:a')
    const busy = new CMeshError('CMESH_ROUTER_BUSY', { what: 'This node', limit: 1, retryAfterMs: 5 })
    let tries = 0
    mesh.behaviour = (request) => {
      if (!isWhole(request)) refuse(request, UNKNOWN)
      // Another request of the session is answered by a node that knows it: from then on they go by reference.
      else if (tries++ === 0) void client.call('0xS:0x001:c').then(() => { refuse(request, busy) })
      else ok(request)
    }
    await client.call('0xS:0x001:b')
    expect(mesh.requests.slice(1).map(request => [request.frame.fqmn, isWhole(request)])).toEqual([
      ['0xS:0x001:b', false], ['0xS:0x001:b', true], ['0xS:0x001:c', true], ['0xS:0x001:b', true],
    ])
  })
})
