/** Clients of several identities on one connection (`MeshClient.as`): what they share, and what they do not. */
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from '@jest/globals'
import { connect, type ConnectOptions } from '../../client/connect.ts'
import type { MeshClient } from '../../client/mesh-client.ts'
import { CMeshError } from '../../cmtp/errors.ts'
import { KeyPair } from '../../cmtp/identity/keys.ts'
import { formatMessageId } from '../../cmtp/message-id.ts'
import type { Reply } from '../../client/reply.ts'
import { answer, callerOf, ok, refuse, StandInMesh, type StandInRequest } from './support/stand-in-mesh.ts'
import { until } from './support/until.ts'

let mesh: StandInMesh
let owner: MeshClient
let ann: MeshClient
let ben: MeshClient
let warnings: CMeshError[]

beforeAll(async () => { mesh = await StandInMesh.start() })
afterAll(() => mesh.stop())
beforeEach(async () => {
  mesh.behaviour = asCaller
  mesh.splitBatches = true
  mesh.sessionTtlMs = 300_000
  mesh.refused.clear()
  mesh.tokens.clear()
  warnings = []
  owner = await open()
  ann = await carried(owner)
  ben = await carried(owner)
  mesh.requests.length = 0
  mesh.steps.length = 0
})
afterEach(() => owner.close())

function open(options: ConnectOptions = {}): Promise<MeshClient> {
  return connect({ url: mesh.url, identity: KeyPair.generate(), onWarning: (warning) => warnings.push(warning), timeoutMs: 20_000, ...options })
}

/** One whose token a node took: the first request goes alone and introduces it. */
async function carried(by: MeshClient): Promise<MeshClient> {
  const client = await by.as(KeyPair.generate())
  await client.call('0xS:0x001:first')
  return client
}

/** Answers with the DID of who asks. */
function asCaller(request: StandInRequest): void {
  const claims = callerOf(mesh, request)
  if (claims === undefined) refuse(request, new CMeshError('CMESH_IAM_TOKEN'))
  else request.send(answer(request.frame, 200, claims.sub))
}

const frames = (): number => new Set(mesh.requests.map(({ replySubject }) => replySubject)).size
const sessionsOf = ({ did }: MeshClient): string[] => [...new Set([...mesh.tokens.values()].filter(({ sub }) => sub === did).map(({ sid }) => sid))]
const sessionOf = (client: MeshClient): string => sessionsOf(client).at(-1) ?? 'none'
const VIEW = '0xS:0x001:who'

/** Reads of the clients in turns, all in one turn of the event loop; gives what each was answered. */
async function reads(clients: readonly MeshClient[], count = 1): Promise<string[]> {
  const asked = Array.from({ length: count }, () => clients).flat()
  const replies = await Promise.all(asked.map((client) => client.call(VIEW)))
  return replies.map((reply) => reply.json<string>())
}
const dids = (clients: readonly MeshClient[], count = 1): string[] => Array.from({ length: count }, () => clients).flat().map(({ did }) => did)

describe('clients of one connection', () => {
  test('share frames, and each is answered as itself, under an id of its own', async () => {
    const asked = Array.from({ length: 300 }, (_, i) => (i % 3 === 0 ? ann : ben))
    const replies = await Promise.all(asked.map((client) => client.call(VIEW)))
    expect(replies.map((reply) => reply.json())).toEqual(asked.map(({ did }) => did))
    expect(new Set(replies.map(({ id }) => id)).size).toBe(300)
    expect(frames()).toBe(5)
    expect(new Set(mesh.requests.map(({ sid }) => sid))).toEqual(new Set([sessionOf(owner)]))
    expect(mesh.requests.every(({ reference }) => reference?.length === 16)).toBe(true)
  })

  test('have sessions of their own, which name the owner\'s', () => {
    const named = [...mesh.tokens.values()].map(({ sub, via }) => ({ sub, via }))
    expect(named).toEqual([
      { sub: owner.did, via: undefined }, { sub: ann.did, via: sessionOf(owner) }, { sub: ben.did, via: sessionOf(owner) },
    ])
    expect(new Set([owner, ann, ben].map(({ did }) => did)).size).toBe(3)
    expect([ann.mesh, ann.url, ann.connection]).toEqual([owner.mesh, owner.url, 'connected'])
  })

  test('share no frame with the owner, whose token the frames already have', async () => {
    expect(await reads([owner, ann, ben])).toEqual(dids([owner, ann, ben]))
    expect(mesh.requests.filter(({ reference }) => reference === undefined).map(({ sid }) => sid)).toEqual([sessionOf(owner)])
  })

  test('write, send bodies and take signals each on its own session\'s subject', async () => {
    const replies = await Promise.all([
      ann.call('0xSW:0x001:say:["x"]'), ben.call('0xSW:0x001:say', { args: ['x'] }), ann.call(VIEW, { signal: new AbortController().signal }), ben.call('0xI:whoami'),
    ])
    expect(replies.map((reply) => reply.json())).toEqual(dids([ann, ben], 2))
    expect(mesh.requests.map(({ sid, reference }) => [sid, reference])).toEqual([ann, ben, ann, ben].map((client) => [sessionOf(client), undefined]))
  })

  test('share frames of transactions with themselves alone, on their own subjects', async () => {
    const say = (client: MeshClient): Promise<Reply> => client.call('0xSW:0x001:say', { body: '["x"]' })
    const asked = [ann, ann, ben, ben, owner, owner]
    const replies = await Promise.all(asked.map(say))
    expect(replies.map((reply) => reply.json())).toEqual(asked.map(({ did }) => did))
    expect(frames()).toBe(3)
    expect(mesh.requests.map(({ sid, reference }) => [sid, reference])).toEqual(asked.map((client) => [sessionOf(client), undefined]))
  })

  test('send each request alone when the owner was told to', async () => {
    const plain = await open({ coalesce: false })
    try {
      const both = [await carried(plain), await carried(plain)]
      mesh.requests.length = 0
      expect(await reads(both)).toEqual(dids(both))
      expect(frames()).toBe(2)
    } finally {
      await plain.close()
    }
  })

  test('do not share their failures', async () => {
    mesh.behaviour = (request) => {
      if (callerOf(mesh, request)?.sub === ann.did) refuse(request, new CMeshError('CMESH_IAM_DENIED', { permission: 'read', fqmn: VIEW }))
      else asCaller(request)
    }
    const results = await Promise.allSettled([ann.call(VIEW), ben.call(VIEW)])
    expect(results).toMatchObject([{ status: 'rejected', reason: { code: 'CMESH_IAM_DENIED', status: 403 } }, { status: 'fulfilled' }])
    expect(frames()).toBe(1)
  })
})

describe('a mesh that does not know a token by its reference', () => {
  test('gets that one whole, on its own subject and under the same id; the others are answered', async () => {
    mesh.behaviour = (request) => {
      if (request.reference !== undefined && callerOf(mesh, request)?.sub === ann.did) refuse(request, new CMeshError('CMESH_IAM_TOKEN'))
      else asCaller(request)
    }
    expect(await reads([ann, ben])).toEqual(dids([ann, ben]))
    const [first, , again] = mesh.requests as [StandInRequest, StandInRequest, StandInRequest]
    expect(mesh.requests).toHaveLength(3)
    expect([again.sid, again.frame.token.length > 100, again.reference]).toEqual([sessionOf(ann), true, undefined])
    expect(formatMessageId(again.frame.id)).toBe(formatMessageId(first.frame.id))
    expect(mesh.steps).toEqual([])
  })

  test('as after a start, fails no request, and shares frames again afterwards', async () => {
    // The owner's token is known by its reference as well.
    await reads([owner, ann, ben])
    const known = new Set<string>()
    mesh.behaviour = (request) => {
      const { token } = request.frame
      const claims = callerOf(mesh, request)
      // The owner's token stands for the frame; whole, it is known from then on.
      const own = request.reference === undefined ? claims?.sid : request.sid
      if (token.length > 100 && own !== undefined) known.add(own)
      if (!known.has(request.sid) || !known.has(claims?.sid as string)) refuse(request, new CMeshError('CMESH_IAM_TOKEN'))
      else asCaller(request)
    }
    expect(await reads([ann, ben], 40)).toEqual(dids([ann, ben], 40))
    await until('frames are shared again', async () => {
      mesh.requests.length = 0
      await reads([ann, ben])
      return frames() === 1
    })
    expect(mesh.steps.filter((step) => step !== 'refresh')).toEqual([])
    expect(warnings).toEqual([])
  })
})

describe('a session that ends', () => {
  test('of one that is carried is replaced without a failed request, and carried again', async () => {
    const before = sessionOf(ann)
    mesh.refused.add(before)
    expect(await reads([ann, ben], 5)).toEqual(dids([ann, ben], 5))
    expect(mesh.steps).toEqual(['call', 'confirm', 'consent'])
    expect(sessionOf(ann)).not.toBe(before)
    mesh.requests.length = 0
    expect(await reads([ann, ben])).toEqual(dids([ann, ben]))
    expect(frames()).toBe(1)
  })

  test('of the owner, who asks nothing itself, fails no request: the owner gets another, and those it carries get theirs', async () => {
    const before = sessionOf(owner)
    mesh.refused.add(before)
    await until('the owner has another session', async () => {
      expect(await reads([ann, ben], 3)).toEqual(dids([ann, ben], 3))
      return sessionOf(owner) !== before
    })
    // Tokens that name the session that is gone do not go over the link of the one that came.
    await until('they have others too', async () => {
      expect(await reads([ann, ben])).toEqual(dids([ann, ben]))
      return sessionsOf(ann).length === 2 && sessionsOf(ben).length === 2
    })
    expect([...mesh.tokens.values()].filter(({ sub }) => sub === ann.did).map(({ via }) => via)).toEqual([before, sessionOf(owner)])
    mesh.requests.length = 0
    expect(await reads([ann, ben])).toEqual(dids([ann, ben]))
    expect(frames()).toBe(1)
    expect(await reads([owner])).toEqual([owner.did])
    expect(warnings).toEqual([])
  })

  test('of the owner, who waits for an answer when a shared frame is refused, fails not even that', async () => {
    await reads([owner])
    const held: StandInRequest[] = []
    mesh.behaviour = (request) => held.push(request)
    const waiting = reads([owner])
    await until('it arrived', () => held.length === 1)
    mesh.refused.add(sessionOf(owner))
    mesh.behaviour = asCaller
    expect(await reads([ann, ben])).toEqual(dids([ann, ben]))
    refuse(held[0] as StandInRequest, new CMeshError('CMESH_IAM_NO_SESSION', { reason: 'the session is revoked' }))
    expect(await waiting).toEqual([owner.did])
  })

  test('of the owner is named anew by those it carries when they would be renewed', async () => {
    mesh.sessionTtlMs = 2_000
    const busy = await open()
    try {
      const both = [await carried(busy), await carried(busy)]
      const before = sessionOf(busy)
      mesh.refused.add(before)
      await until('frames are shared under another session of the owner', async () => {
        mesh.requests.length = 0
        expect(await reads(both)).toEqual(dids(both))
        return frames() === 1
      })
      expect(mesh.requests[0]?.sid).not.toBe(before)
    } finally {
      await busy.close()
    }
  })

  test('of the owner, who asks at the same time, fails no request of anybody', async () => {
    mesh.refused.add(sessionOf(owner))
    expect(await reads([owner, ann, ben, owner], 10)).toEqual(dids([owner, ann, ben, owner], 10))
  })

  test('and is renewed keeps its frames shared', async () => {
    mesh.sessionTtlMs = 1_000
    const busy = await open()
    try {
      const both = [await carried(busy), await carried(busy)]
      mesh.steps.length = 0
      await until('all three were renewed', () => mesh.steps.filter((step) => step === 'refresh').length >= 3)
      await until('frames are shared', async () => {
        mesh.requests.length = 0
        expect(await reads(both)).toEqual(dids(both))
        return frames() === 1
      })
      expect([sessionsOf(busy), ...both.map(sessionsOf)].map(({ length }) => length)).toEqual([1, 1, 1])
    } finally {
      await busy.close()
    }
  })
})

describe('closing', () => {
  test('a carried client leaves the rest alone, and what it asked is answered', async () => {
    const asked = Promise.all([ann.call(VIEW), ben.call(VIEW)])
    await ann.close()
    await ann.close()
    expect((await asked).map((reply) => reply.json())).toEqual([ann.did, ben.did])
    await expect(ann.call(VIEW)).rejects.toMatchObject({ code: 'CMESH_CLIENT_CLOSED', message: 'This client is closed.' })
    expect([owner.connection, ann.connection]).toEqual(['connected', 'connected'])
    expect(await reads([ben, owner])).toEqual(dids([ben, owner]))
  })

  test('one that was carried first leaves alone whom it opened', async () => {
    const nested = await carried(ann)
    await ann.close()
    expect(await reads([nested, ben])).toEqual(dids([nested, ben]))
    expect([...mesh.tokens.values()].find(({ sub }) => sub === nested.did)?.via).toBe(sessionOf(owner))
    await owner.close()
    await expect(nested.call(VIEW)).rejects.toMatchObject({ code: 'CMESH_CLIENT_CLOSED' })
  })

  test('a carried client ends what it would try again, and nobody else\'s', async () => {
    mesh.behaviour = (request) => { refuse(request, new CMeshError('CMESH_ROUTER_BUSY', { what: 'the node', limit: 1, retryAfterMs: 5 })) }
    const results = Promise.allSettled([ann.call(VIEW), ben.call(VIEW)])
    await until('both were asked again', () => mesh.requests.length >= 4)
    await ann.close()
    mesh.behaviour = asCaller
    expect(await results).toMatchObject([{ status: 'rejected', reason: { code: 'CMESH_ROUTER_BUSY' } }, { status: 'fulfilled' }])
  })

  test('the owner ends all, after what they asked is answered', async () => {
    const asked = Promise.all([ann.call(VIEW), ben.call(VIEW), owner.call(VIEW)])
    await owner.close()
    expect((await asked).map((reply) => reply.json())).toEqual([ann.did, ben.did, owner.did])
    for (const client of [owner, ann, ben]) {
      await expect(client.call(VIEW)).rejects.toMatchObject({ code: 'CMESH_CLIENT_CLOSED' })
      expect(client.connection).toBe('closed')
    }
  })
})

test('the owner that closes ends the subscriptions of all first', async () => {
  mesh.behaviour = (request) => {
    const { frame } = request
    if (frame.fqmn.endsWith(':tail')) request.send(answer(frame, 200, { tail: 'a-tail', leaseMs: 30_000 }))
    else if (frame.fqmn.endsWith(':range')) request.send(answer(frame, 200, []))
    else request.send(answer(frame, 200, { seq: 1 }))
  }
  await ann.subscribe('news', () => undefined)
  mesh.requests.length = 0
  await owner.close()
  const goodbyes = mesh.requests.filter(({ frame }) => frame.body.toString().includes('"close":true'))
  expect(goodbyes.map(({ sid }) => sid)).toEqual([sessionOf(ann)])
})

describe('`as`', () => {
  test.each([['nothing', undefined], ['a name', 'ann'], ['a look-alike', { did: 'did:key:z6Mk' }]])('takes a key pair and not %s', async (_, identity) => {
    await expect(owner.as(identity as unknown as KeyPair)).rejects.toMatchObject({
      code: 'CMESH_CLIENT_USAGE', message: 'The identity of another client on this connection is a KeyPair.',
    })
    expect(mesh.steps).toEqual([])
  })

  test('of a closed client is refused, of a carried one too', async () => {
    await ann.close()
    await expect(ann.as(KeyPair.generate())).rejects.toMatchObject({ code: 'CMESH_CLIENT_CLOSED' })
    await owner.close()
    for (const client of [owner, ben]) await expect(client.as(KeyPair.generate())).rejects.toMatchObject({ code: 'CMESH_CLIENT_CLOSED' })
    expect(mesh.steps).toEqual([])
  })

  test('that is under way when the owner closes is refused, and leaves nothing open', async () => {
    const late = owner.as(KeyPair.generate())
    const nested = ann.as(KeyPair.generate())
    const closed = owner.close()
    await expect(late).rejects.toMatchObject({ code: 'CMESH_CLIENT_CLOSED' })
    await expect(nested).rejects.toMatchObject({ code: 'CMESH_CLIENT_CLOSED' })
    await closed
  })

  test('that is under way when the carried client it was asked of closes is refused, and the rest works on', async () => {
    const nested = ann.as(KeyPair.generate())
    await ann.close()
    await expect(nested).rejects.toMatchObject({ code: 'CMESH_CLIENT_CLOSED' })
    expect(await reads([ben, owner])).toEqual(dids([ben, owner]))
  })

  test('that the mesh refuses says why, and the next one works', async () => {
    mesh.refuseHandshakes = new CMeshError('CMESH_IAM_BUSY', { retryAfterMs: 5 })
    await expect(owner.as(KeyPair.generate())).rejects.toMatchObject({ code: 'CMESH_IAM_BUSY', status: 429, message: 'Too much of it is open at once; try again in 5 ms.' })
    mesh.refuseHandshakes = undefined
    expect((await owner.as(KeyPair.generate())).mesh).toBe(mesh.mesh.did)
  })

  test('of one identity twice gives two sessions', async () => {
    const identity = KeyPair.generate()
    const [one, two] = [await owner.as(identity), await owner.as(identity)]
    expect([one.did, two.did]).toEqual([identity.did, identity.did])
    expect(sessionsOf(one)).toHaveLength(2)
    await one.close()
    expect((await two.call(VIEW)).json()).toBe(identity.did)
  })
})

test('a broker that dies and returns costs nobody a request', async () => {
  mesh.behaviour = () => undefined
  const replies = reads([ann, ben, owner])
  await until('all arrived', () => mesh.requests.length === 3)
  mesh.behaviour = asCaller
  await mesh.killBroker()
  expect(await replies).toEqual(dids([ann, ben, owner]))
})

test('noise in the place of a shared frame\'s answer is each one\'s own failure, and the next frame works', async () => {
  mesh.splitBatches = false
  let shared = 0
  mesh.behaviour = (request) => {
    if (request.data[3] === 3) {
      shared++
      request.send(Buffer.from('noise'))
    } else {
      ok(request)
    }
  }
  const results = await Promise.allSettled([ann.call(VIEW), ben.call(VIEW)])
  expect(results).toMatchObject([{ reason: { code: 'CMESH_CLIENT_REPLY' } }, { reason: { code: 'CMESH_CLIENT_REPLY' } }])
  expect(shared).toBe(1)
  mesh.splitBatches = true
  mesh.behaviour = asCaller
  expect(await reads([ann, ben])).toEqual(dids([ann, ben]))
})
