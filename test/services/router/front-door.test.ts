import { afterAll, beforeAll, describe, expect, test } from '@jest/globals'
import fc from 'fast-check'
import { encodeBatch } from '../../../cmtp/batch.ts'
import { decodeBatchReply } from '../../../cmtp/batch-reply.ts'
import { CMeshError } from '../../../cmtp/errors.ts'
import { ReplyFrame } from '../../../cmtp/frame.ts'
import { encodeHeaders } from '../../../cmtp/headers.ts'
import type { Session } from '../../../cmtp/identity/login.ts'
import { LIMITS } from '../../../cmtp/limits.ts'
import { KIND_BATCH_REPLY } from '../../../cmtp/wire.ts'
import { MockConsensus } from '../../../providers/consensus/mock.ts'
import type { Committed, ConsensusProvider } from '../../../services/consensus/provider.ts'
import { damaged } from '../../support/damage.ts'
import { readAnswer, startMesh, type Answer, type TestMesh } from '../../support/mesh.ts'
import { expectedArgumentsHash, recomputedHash } from '../../support/receipts.ts'

const ID = Buffer.from('00112233445566778899aabbccddeeff', 'hex')
const NO_ID = Buffer.alloc(16)
const VIEW = '0xS:0x001:hello_world'

let mesh: TestMesh
let session: Session
beforeAll(async () => {
  mesh = await startMesh()
  session = await mesh.open()
  await mesh.register(mesh.root, mesh.operator, 'hello.mcom', '0xS:0x001')
})
afterAll(() => mesh.stop())

/** All answers to one message; the promise settles with the first. */
function answersTo(data: Uint8Array, sid = session.sid): { frames: Buffer[], first: Promise<Buffer> } {
  const frames: Buffer[] = []
  const first = new Promise<Buffer>(resolve => {
    mesh.frontDoor.handle(data, { sid, replySubject: '' }, frame => {
      frames.push(frame)
      resolve(frame)
    })
  })
  return { frames, first }
}

const request = (of = session): Buffer => mesh.frame(of, VIEW, { id: ID })
const batch = (fqmns: string[] = [VIEW, VIEW], of = session): Buffer => encodeBatch({
  id: ID, token: Buffer.from(of.token), deadlineMs: mesh.time.ms + 5_000, receipt: 'hash', entries: fqmns.map(fqmn => ({ fqmn })),
})
const changed = (frame: Buffer, at: number, ...bytes: number[]): Buffer => {
  frame.set(bytes, at)
  return frame
}

describe('what is no frame is answered with a coded error', () => {
  const MALFORMED: readonly [what: string, frame: () => Buffer, code: string, status: number, id: Buffer][] = [
    ['nothing', () => Buffer.alloc(0), 'CMESH_FRAME_MALFORMED', 400, NO_ID],
    ['noise', () => Buffer.from('GET / HTTP/1.1\r\nhost: example.org\r\n\r\n'), 'CMESH_FRAME_MALFORMED', 400, NO_ID],
    ['a head too short to hold an id', () => request().subarray(0, 31), 'CMESH_FRAME_MALFORMED', 400, NO_ID],
    ['a head that ends behind the id', () => request().subarray(0, 32), 'CMESH_FRAME_MALFORMED', 400, ID],
    ['another version', () => changed(request(), 2, 1), 'CMESH_FRAME_VERSION', 505, ID],
    ['an unknown kind', () => changed(request(), 3, 9), 'CMESH_FRAME_MALFORMED', 400, ID],
    ['a reply', () => changed(request(), 3, 2), 'CMESH_FRAME_MALFORMED', 400, ID],
    ['a reserved flag', () => changed(request(), 4, 0x80), 'CMESH_FRAME_FLAGS', 400, ID],
    ['receipt level 3', () => changed(request(), 5, 3), 'CMESH_FRAME_FLAGS', 400, ID],
    ['a byte that must be zero', () => changed(request(), 7, 1), 'CMESH_FRAME_MALFORMED', 400, ID],
    ['a byte too few', () => request().subarray(0, -1), 'CMESH_FRAME_MALFORMED', 400, ID],
    ['a byte too many', () => Buffer.concat([request(), Buffer.alloc(1)]), 'CMESH_FRAME_MALFORMED', 400, ID],
    ['an address over its limit', () => changed(request(), 32, 0x10, 0x01), 'CMESH_FRAME_TOO_LARGE', 413, ID],
    ['a token over its limit', () => changed(request(), 34, 0x10, 0x01), 'CMESH_FRAME_TOO_LARGE', 413, ID],
    ['headers over their limit', () => changed(request(), 36, 0x40, 0x01), 'CMESH_FRAME_TOO_LARGE', 413, ID],
    ['a body over its limit', () => changed(request(), 38, 0, 0x10, 0, 1), 'CMESH_FRAME_TOO_LARGE', 413, ID],
    ['a frame over its limit', () => Buffer.concat([request(), Buffer.alloc(LIMITS.frameBytes)]), 'CMESH_FRAME_TOO_LARGE', 413, ID],
    ['a batch of nothing', () => changed(batch(), 32, 0, 0), 'CMESH_FRAME_MALFORMED', 400, ID],
    ['a batch of too many', () => changed(batch(), 32, 0x04, 0x01), 'CMESH_FRAME_TOO_LARGE', 413, ID],
    ['a batch that ends in its entries', () => batch().subarray(0, -1), 'CMESH_FRAME_MALFORMED', 400, ID],
    ['a batch with more behind it', () => Buffer.concat([batch(), Buffer.alloc(1)]), 'CMESH_FRAME_MALFORMED', 400, ID],
    ['a batch of another version', () => changed(batch(), 2, 7), 'CMESH_FRAME_VERSION', 505, ID],
  ]

  test.each(MALFORMED)('%s', async (_what, frame, code, status, id) => {
    const { frames, first } = answersTo(frame())
    const answer = readAnswer(await first)
    expect({ code: answer.code, status: answer.status, id: answer.frame.id.toString('hex') }).toEqual({ code, status, id: id.toString('hex') })
    expect(answer.message).not.toMatch(/\{\w+\}|undefined/)
    // Nobody could ask for what is recorded under no id.
    expect([answer.frame.receipt, answer.frame.finalHash.length]).toEqual(id === NO_ID ? ['none', 0] : ['hash', 32])
    expect(answer.headers).toEqual([['content-type', 'application/cmesh-error+json']])
    expect(frames).toHaveLength(1)
  })

  test('any bytes at all get exactly one reply that can be read', async () => {
    // A session of their own: so many bad tokens keep it out for a while.
    const other = await mesh.open()
    const frames = fc.constantFrom<() => Buffer>(() => request(other), () => batch([VIEW, VIEW], other), () => mesh.frame(other, '0xR:hello.mcom:hello_world:["x"]', { receipt: 'full' }))
    await fc.assert(fc.asyncProperty(damaged(frames.map(make => make())), async data => {
      const { frames, first } = answersTo(data, other.sid)
      const frame = await first
      if (frame[3] === KIND_BATCH_REPLY) expect(decodeBatchReply(frame).entries.length).toBeGreaterThan(0)
      else expect(readAnswer(frame).status).toBeGreaterThanOrEqual(200)
      expect(frames).toHaveLength(1)
    }), { numRuns: 400 })
  })
})

describe('an address that is none', () => {
  test.each([
    ['0xZ:nothing', 'CMESH_FQMN_OPCODE', 'The FQMN has an unknown opcode at byte 2'],
    ['0xs:0x001', 'CMESH_FQMN_OPCODE', 'The FQMN has an unknown opcode at byte 2'],
    ['0xS', 'CMESH_FQMN_SYNTAX', 'The FQMN is malformed at byte 3: expected ":" after the opcode'],
    ['0xS:0x01:f', 'CMESH_FQMN_SYNTAX', 'The FQMN is malformed at byte 4: expected a contract'],
    ['0xS:0x001:f:[1', 'CMESH_FQMN_ARGUMENTS', 'The arguments at byte 14 are not a JSON array'],
    ['0xR:resolve:0xR:resolve:0xR:resolve:0xS:0x001', 'CMESH_FQMN_TOO_DEEP', 'The FQMN nests more than 3 opcodes'],
  ])('%s is refused with where it went wrong', async (fqmn, code, message) => {
    const answer = await mesh.ask(session, fqmn, { id: ID })
    expect({ status: answer.status, code: answer.code, id: answer.frame.id }).toEqual({ status: 400, code, id: ID })
    expect(answer.message).toContain(message)
  })

  test('that is not UTF-8 is refused, at the level that was asked for', async () => {
    const frame = mesh.frame(session, '0xS:0x001:\u00e9', { receipt: 'none' })
    frame[frame.indexOf('\u00e9') + 1] = 0x28
    const answer = readAnswer(await answersTo(frame).first)
    expect(answer).toMatchObject({ status: 400, code: 'CMESH_FQMN_SYNTAX', message: 'The FQMN is malformed at byte 10: expected UTF-8.' })
    expect(answer.frame).toMatchObject({ receipt: 'none', finalHash: Buffer.alloc(0) })
  })

  test.each([
    ['0xA:1:0x001:hello_world', 405, 'CMESH_ROUTER_INTERNAL_ONLY', '0xA:1:0x001:hello_world is for services only and cannot be called from outside.'],
    ['0xP:elsewhere:0xS:0x001', 503, 'CMESH_ROUTER_PEER', 'No peer mesh elsewhere is known to this router.'],
    ['0xR:nonsense', 405, 'CMESH_ROUTER_ACTION', 'The registrar service has no action nonsense for reading.'],
    ['0xC:nonsense', 405, 'CMESH_ROUTER_ACTION', 'The consensus service has no action nonsense for reading.'],
    ['0xE:chan:nonsense', 405, 'CMESH_ROUTER_ACTION', 'The events service has no action nonsense for reading.'],
    ['0xI:nonsense', 405, 'CMESH_ROUTER_ACTION', 'The IAM service has no action nonsense for reading.'],
  ])('%s goes nowhere, and says why', async (fqmn, status, code, message) => {
    expect(await mesh.ask(session, fqmn)).toMatchObject({ status, code, message })
  })
})

describe('the deadline', () => {
  test('that has passed is 408, that of this very moment is not', async () => {
    expect(await mesh.ask(session, VIEW, { deadlineMs: mesh.time.ms - 1 })).toMatchObject({
      status: 408, code: 'CMESH_ROUTER_DEADLINE', message: 'The deadline had passed when the request arrived.',
    })
    expect(await mesh.ask(session, VIEW, { deadlineMs: mesh.time.ms })).toMatchObject({ status: 200 })
  })

  test('may lie 300,000 ms ahead and no more', async () => {
    expect(await mesh.ask(session, VIEW, { deadlineMs: mesh.time.ms + 300_001 })).toMatchObject({
      status: 400, code: 'CMESH_FRAME_DEADLINE', message: 'The deadline lies more than 300000 ms ahead.',
    })
    expect(await mesh.ask(session, VIEW, { deadlineMs: Number.MAX_SAFE_INTEGER })).toMatchObject({ status: 400 })
    expect(await mesh.ask(session, VIEW, { deadlineMs: mesh.time.ms + 300_000 })).toMatchObject({ status: 200 })
  })

  test('is not this node\'s to judge while its clock is not that of the others: any other node may be asked', async () => {
    let apart: CMeshError | undefined = new CMeshError('CMESH_STATE_CLOCK', { reason: 'it is 3600 s ahead of the other members' })
    const away = await startMesh({ clockApart: () => apart })
    const caller = await away.open()
    for (const deadlineMs of [away.time.ms - 1, away.time.ms + 300_001]) {
      expect(await away.ask(caller, VIEW, { deadlineMs })).toMatchObject({
        status: 503, code: 'CMESH_STATE_CLOCK', message: expect.stringContaining('cannot be right: it is 3600 s ahead of the other members.'),
      })
    }
    // What it can take all the same is answered.
    expect(await away.ask(caller, VIEW)).toMatchObject({ status: 200 })
    apart = undefined
    expect(await away.ask(caller, VIEW, { deadlineMs: away.time.ms - 1 })).toMatchObject({ status: 408 })
    await away.stop()
  })

  test('a message of more than 16 hops is 508', async () => {
    expect(await mesh.ask(session, VIEW, { hops: 17 })).toMatchObject({
      status: 508, code: 'CMESH_FRAME_HOPS', message: 'The message took more than 16 hops.',
    })
    expect(await mesh.ask(session, VIEW, { hops: 16 })).toMatchObject({ status: 200 })
  })

  test('that passes while the request is under way is 504, once, and what comes later is dropped', async () => {
    let finish: () => void = () => undefined
    const slow = await startMesh({
      handlers: { events: () => new Promise(resolve => { finish = () => { resolve({ status: 200, headers: Buffer.alloc(0), body: Buffer.alloc(0) }) } }) },
    })
    const mine = await slow.open()
    const frames: Buffer[] = []
    const answered = new Promise<Answer>(resolve => {
      slow.frontDoor.handle(slow.frame(mine, '0xE:chan', { receipt: 'full' }), { sid: mine.sid, replySubject: '' }, frame => {
        frames.push(frame)
        resolve(readAnswer(frame))
      })
    })
    await slow.guard.check(Buffer.from(mine.token), mine.sid)
    slow.time.ms += 5_001
    const answer = await answered
    expect(answer).toMatchObject({
      status: 504, code: 'CMESH_ROUTER_TIMEOUT', message: 'The deadline passed while the request was under way.',
    })
    expect(answer.value).toMatchObject({ retry: 'retry' })
    finish()
    await slow.ask(mine, VIEW)
    expect(frames).toHaveLength(1)
    expect(slow.deadlines.size).toBe(0)
    await slow.stop()
  })

  test('that passes behind a name counts the whole time in the router\'s layer', async () => {
    const slow = await startMesh({ handlers: { events: () => new Promise(() => undefined) } })
    await slow.register(slow.root, slow.operator, 'slow.mcom', '0xE:chan')
    const mine = await slow.open()
    await slow.ask(mine, VIEW)
    const answered = slow.ask(mine, '0xR:slow.mcom', { receipt: 'full' })
    slow.time.ms += 5_001
    const { layers } = await answered
    expect(layers.map(layer => [layer.hop, layer.status])).toEqual([['registrar', 200], ['router', 504]])
    expect(layers.at(-1)?.durationUs).toBeGreaterThanOrEqual(5_001_000)
    await slow.stop()
  })

  test('that passes after a proposal is 504 with an unknown outcome and the transaction to ask for', async () => {
    const held = heldConsensus()
    const slow = await startMesh({ state: { consensus: held.consensus } })
    const mine = slow.root
    held.hold()
    await slow.ask(mine, VIEW)
    const answered = slow.ask(mine, '0xSW:0x002:increment', { id: ID })
    await held.proposed
    slow.time.ms += 5_001
    const answer = await answered
    const tx = ID.toString('hex')
    expect(answer).toMatchObject({
      status: 504, code: 'CMESH_ROUTER_UNKNOWN_OUTCOME',
      message: `The deadline passed after the transaction ${tx} was proposed: its outcome is unknown. Ask 0xC:tx:${tx}.`,
    })
    expect(answer.value).toMatchObject({ retry: 'terminal', detail: { tx } })
    expect(await slow.ask(mine, `0xC:tx:${tx}`)).toMatchObject({ status: 404, code: 'CMESH_CONSENSUS_NO_TX' })

    // Ordered after all, at the log time of its proposal, which lies before its deadline.
    await held.release()
    expect(await slow.ask(mine, `0xC:tx:${tx}`)).toMatchObject({ status: 200, value: { id: tx, status: 200, seq: 2 } })
    await slow.stop()
  })
})

describe('the session', () => {
  test('missing: 401 that tells the client to prove who it is', async () => {
    const answer = await mesh.ask(undefined, VIEW)
    expect(answer).toMatchObject({ status: 401, code: 'CMESH_IAM_NO_SESSION', value: { prompt: 'identity', retry: 'terminal' } })
    expect(answer.message).toBe('No valid session: the request carries no token. Start the identity handshake (`cmesh login`).')
  })

  test('of somebody else\'s subject, expired or forged: 401 the same', async () => {
    const other = await mesh.open()
    expect(await mesh.ask(session, VIEW, { sid: other.sid })).toMatchObject({ status: 401, value: { prompt: 'identity' } })
    expect(await mesh.ask(session, VIEW, { token: Buffer.from(`${session.token.slice(0, -4)}AAAA`) })).toMatchObject({ status: 401, value: { prompt: 'identity' } })
  })

  test('referred to by a token that this node has not seen: 401 that asks for the token', async () => {
    const answer = await mesh.ask(session, VIEW, { token: Buffer.alloc(16, 7) })
    expect(answer).toMatchObject({ status: 401, code: 'CMESH_IAM_TOKEN', value: { prompt: 'token', retry: 'retry' } })
    expect(answer.message).toBe('The request refers to a session token that this node has not seen: send the token itself.')
  })

  test.each([
    '0xS:0x001:hello_world', '0xSW:0x002:increment', '0xSW:0x000:deploy', '0xR:hello.mcom:hello_world', '0xR:google.com', '0xR:resolve:hello.mcom',
    '0xRW:register:x.mcom:0xS:0x001', '0xRW:hello.mcom:say', '0xE:chan', '0xEW:chan:x', '0xE:0xR:hello.mcom:blah_blah', '0xI:whoami', '0xI:jwks',
    '0xIW:call', '0xIW:refresh', '0xC:status', '0xA:1:0x001:hello_world', '0xP:peer:0xS:0x001',
  ])('%s is not answered without one', async fqmn => {
    const { head } = mesh.state
    const { layers, ...answer } = await mesh.ask(undefined, fqmn, { receipt: 'full' })
    expect(answer).toMatchObject({ status: 401, code: 'CMESH_IAM_NO_SESSION', value: { prompt: 'identity' } })
    // The request came no further than the router.
    expect(layers.map(layer => layer.hop)).toEqual(['router'])
    expect(mesh.state.head).toBe(head)
  })

  test('that lacks a permission: 403 with the permission and the address', async () => {
    expect(await mesh.ask(session, '0xSW:0x002:increment')).toMatchObject({
      status: 403, code: 'CMESH_IAM_DENIED', message: 'Permission write on 0xSW:0x002:increment is missing.',
    })
  })

  test('of a newcomer may not deploy, and is told which permission is missing', async () => {
    expect(await mesh.ask(session, '0xSW:0x000:deploy', { body: 'x' })).toMatchObject({
      status: 403, code: 'CMESH_IAM_DENIED', message: 'Permission deploy on 0xSW:0x000:deploy is missing.',
    })
  })
})

describe('a name', () => {
  const behind = (seq: number): Buffer => encodeHeaders([['x-cmesh-read', 'session'], ['x-cmesh-after', String(seq)]])
  const LINEAR = encodeHeaders([['x-cmesh-read', 'linear']])

  test.each([
    ['0xR:first.mcom:hello_world', 'first.mcom', 'Hello, world'], ['0xR:resolve:second.mcom', 'second.mcom', expect.objectContaining({ target: '0xS:0x001' })],
  ])('is as fresh as what is read there: %s waits for the block that its caller has seen', async (fqmn, name, value) => {
    expect(await mesh.ask(session, fqmn)).toMatchObject({ status: 404 })
    const answers = Promise.all([
      mesh.ask(session, fqmn, { headers: behind(mesh.state.head.seq + 1), receipt: 'full' }),
      mesh.ask(session, fqmn, { headers: behind(mesh.state.head.seq + 2) }),
    ])
    await mesh.register(mesh.root, mesh.operator, name, '0xS:0x001')
    await mesh.register(mesh.root, mesh.operator, `more-${name}`, '0xS:0x001')
    for (const answer of await answers) expect(answer).toMatchObject({ status: 200, value })
  })

  test.each(['0xR:hello.mcom:hello_world', '0xR:resolve:hello.mcom', VIEW])('behind everything that was acknowledged costs one batch: %s', async fqmn => {
    const { seq } = mesh.state.head
    expect(await mesh.ask(session, fqmn, { headers: LINEAR })).toMatchObject({ status: 200 })
    expect(mesh.state.head.seq).toBe(seq + 1)
  })

  test('that is waited for in vain is 504, and at a level that there is not 400', async () => {
    for (const fqmn of ['0xR:hello.mcom:hello_world', '0xR:resolve:hello.mcom']) {
      const late = mesh.ask(session, fqmn, { headers: behind(1_000_000), deadlineMs: mesh.time.ms + 20 })
      await expect(late).resolves.toMatchObject({ status: 504, code: 'CMESH_ROUTER_TIMEOUT' })
      expect(await mesh.ask(session, fqmn, { headers: encodeHeaders([['x-cmesh-read', 'fresh']]) })).toMatchObject({ status: 400, code: 'CMESH_STATE_READ_LEVEL' })
    }
  })

  test('for a write is resolved as it stands', async () => {
    expect(await mesh.ask(session, '0xRW:hello.mcom:nothing', { headers: behind(1_000_000) })).not.toMatchObject({ status: 504 })
  })
})

describe('the receipt', () => {
  type Case = readonly [fqmn: string, hops: readonly string[], fields?: Parameters<TestMesh['ask']>[2] & { who?: 'root' | 'nobody' }]
  const CASES: readonly Case[] = [
    ['0xS:0x001:hello_world', ['state allowed', 'router none']],
    ['0xS:0x001:hello_world:["Dexter"]', ['state allowed', 'router none']],
    ['0xS:0x001:hello_world', ['state allowed', 'router none'], { body: '["Dexter"]' }],
    ['0xS:0x001', ['state allowed', 'router none']],
    ['0xR:hello.mcom:hello_world', ['registrar none', 'state allowed', 'router none']],
    ['0xR:hello.mcom:hello_world:["Dexter"]', ['registrar none', 'state allowed', 'router none']],
    ['0xRW:hello.mcom:say:["hi"]', ['registrar none', 'state denied', 'router none']],
    ['0xE:0xR:hello.mcom:blah_blah', ['registrar none', 'events allowed', 'router none']],
    ['0xE:events.state.contracts.0x001.blah_blah:read', ['events allowed', 'router none']],
    ['0xSW:0x002:increment:[1]', ['state allowed', 'router none'], { who: 'root' }],
    ['0xSW:0x002:increment:[1]', ['state denied', 'router none']],
    ['0xR:resolve:hello.mcom', ['registrar allowed', 'router none']],
    ['0xR:nobody.mcom:x', ['registrar none', 'router none']],
    ['0xC:status', ['consensus allowed', 'router none']],
    ['0xI:whoami', ['iam allowed', 'router none']],
    ['0xS:0xfff:x', ['state allowed', 'router none']],
    ['0xP:peer:0xS:0x001', ['router none']],
    ['0xS:0x001:hello_world', ['router none'], { who: 'nobody' }],
    ['0xS:0x001:hello_world', ['router none'], { deadlineMs: 1 }],
  ]

  test.each(CASES)('of %s holds the layers %j, and its final hash follows from it', async (fqmn, hops, { who, ...fields } = {}) => {
    const asker = who === 'nobody' ? undefined : who === 'root' ? mesh.root : session
    const answer = await mesh.ask(asker, fqmn, { id: ID, ...fields, receipt: 'full', sid: asker?.sid ?? 'nobodys-session' })
    expect(answer.layers.map(layer => `${layer.hop} ${layer.decision}`)).toEqual(hops)
    const body = fields.body === undefined ? undefined : Buffer.from(fields.body)
    // Without a session nobody is proven; the session of the subject is what it came on.
    const sub = answer.status === 401 || answer.status === 408 ? '' : asker?.sub ?? ''
    const witness = { id: ID, sid: asker?.sid ?? 'nobodys-session', sub, ...(body !== undefined && { requestBody: body }) }
    expect(answer.frame.finalHash.toString('hex')).toBe(recomputedHash(answer.frame, witness))
    for (const layer of answer.layers) expect(layer.node).toBe(mesh.node)
    expect(answer.layers.at(-1)).toMatchObject({ hop: 'router', status: answer.status, fqmn: fqmn.split(':[')[0] })
  })

  test('of a call by name says what was asked and what it stands for', async () => {
    const { layers, frame } = await mesh.ask(session, '0xR:hello.mcom:hello_world:["Dexter"]', { receipt: 'full' })
    const [registrar, state, router] = layers
    expect(registrar).toMatchObject({ fqmn: '0xR:hello.mcom:hello_world', target: '0xS:0x001:hello_world', grant: '', status: 200 })
    expect(state).toMatchObject({ fqmn: '0xS:0x001:hello_world', target: undefined, grant: '0xS:>', status: 200 })
    expect(router).toMatchObject({ fqmn: '0xR:hello.mcom:hello_world', target: '0xS:0x001:hello_world', grant: '' })
    for (const layer of layers) expect(layer.argumentsHash).toBe(expectedArgumentsHash(frame, '["Dexter"]'))
  })

  test('of a name that does not resolve says so at the hop that found out', async () => {
    for (const [fqmn, status] of [['0xR:nobody.mcom:x', 404], ['0xRW:hello.mcom:0xS:0x001', 400]] as const) {
      const { layers } = await mesh.ask(session, fqmn, { receipt: 'full' })
      expect(layers.map(layer => [layer.hop, layer.status, layer.target])).toEqual([['registrar', status, undefined], ['router', status, undefined]])
    }
  })

  test('tells every hop where it began and how long it took, one behind the other', async () => {
    const { layers } = await mesh.ask(session, '0xR:hello.mcom:hello_world', { receipt: 'full' })
    const [registrar, state, router] = layers
    expect(registrar?.startUs).toBe(router?.startUs)
    expect(state?.startUs).toBe((registrar?.startUs ?? 0) + (registrar?.durationUs ?? 0))
    expect(router?.durationUs).toBe((registrar?.durationUs ?? 0) + (state?.durationUs ?? 0))
  })

  test('of a write holds the position of state before and after, of a view where it stood', async () => {
    const before = mesh.state.head
    const written = await mesh.ask(mesh.root, '0xSW:0x002:increment:[1]', { receipt: 'full' })
    const after = mesh.state.head
    expect(after.seq).toBe(before.seq + 1)
    expect(written.layers[0]).toMatchObject({
      hop: 'state', before: { epoch: before.epoch, seq: before.seq, chain: before.chain }, after: { epoch: after.epoch, seq: after.seq, chain: after.chain },
    })
    const viewed = await mesh.ask(session, '0xS:0x002:get', { receipt: 'full' })
    expect(viewed.layers[0]).toMatchObject({ before: { seq: after.seq }, after: undefined })
  })

  test('hides the arguments behind a salt of its own', async () => {
    const hashes = new Set<string | undefined>()
    for (let i = 0; i < 5; i++) hashes.add((await mesh.ask(session, '0xS:0x001:hello_world:["Dexter"]', { receipt: 'full' })).layers[0]?.argumentsHash)
    expect(hashes.size).toBe(5)
    const { layers } = await mesh.ask(session, VIEW, { receipt: 'full' })
    expect(layers.map(layer => layer.argumentsHash)).toEqual([undefined, undefined])
  })

  test('is a final hash unless asked otherwise: `hash` has no layers, `none` has nothing', async () => {
    const hash = await mesh.ask(session, VIEW)
    expect({ level: hash.frame.receipt, hash: hash.frame.finalHash.length, layers: hash.frame.layers.length }).toEqual({ level: 'hash', hash: 32, layers: 0 })
    for (const fqmn of [VIEW, '0xR:hello.mcom:hello_world', '0xS:0xfff', '0xZ', '0xSW:0x002:increment']) {
      const none = await mesh.ask(session, fqmn, { receipt: 'none' })
      expect({ level: none.frame.receipt, hash: none.frame.finalHash.length, layers: none.frame.layers.length }).toEqual({ level: 'none', hash: 0, layers: 0 })
    }
  })

  test('binds the request: another id, body or caller is another hash', async () => {
    const seen = new Set<string>()
    const other = await mesh.open()
    const asks: Parameters<TestMesh['ask']>[] = [
      [session, VIEW, { id: ID }], [session, VIEW, { id: NO_ID }], [session, VIEW, { id: ID, body: '["x"]' }], [other, VIEW, { id: ID }],
    ]
    for (const ask of asks) seen.add((await mesh.ask(...ask)).frame.finalHash.toString('hex'))
    expect(seen.size).toBe(4)
  })
})

describe('every request', () => {
  test('gets one reply with its own id, however many are under way', async () => {
    const ids = Array.from({ length: 200 }, (_, i) => {
      const id = Buffer.alloc(16, 3)
      id.writeUInt32BE(i)
      return id
    })
    const answers = await Promise.all(ids.map((id, i) => mesh.ask(mesh.root, i % 3 === 0 ? `0xSW:0x002:increment:[${i}]` : VIEW, { id })))
    expect(answers.map(answer => answer.frame.id.toString('hex'))).toEqual(ids.map(id => id.toString('hex')))
    expect(answers.map(answer => answer.status)).toEqual(ids.map(() => 200))
  })

  test('that a service fails on unexpectedly is 500 with its id, logged there and with nothing of it in the reply', async () => {
    for (const failing of [() => { throw new TypeError('secret detail') }, () => Promise.reject(new TypeError('secret detail'))]) {
      const broken = await startMesh({ handlers: { events: failing } })
      const mine = await broken.open()
      const answer = await broken.ask(mine, '0xE:chan', { id: ID, receipt: 'full' })
      const id = ID.toString('hex')
      expect(answer).toMatchObject({
        status: 500, code: 'CMESH_INTERNAL', message: `An unexpected failure in events. It is logged with the message id ${id}.`,
      })
      expect(JSON.stringify(answer.value)).not.toContain('secret')
      expect(answer.layers.map(layer => [layer.hop, layer.status])).toEqual([['events', 500], ['router', 500]])
      expect(broken.log.lines).toContainEqual({
        level: 'error', message: 'request failed unexpectedly',
        fields: expect.objectContaining({ id, fqmn: '0xE:chan', err: expect.objectContaining({ message: 'secret detail' }) }),
      })
      await broken.stop()
    }
  })

  test('is counted by its status', async () => {
    const counting = await startMesh()
    const mine = await counting.open()
    await counting.ask(mine, VIEW)
    await counting.ask(mine, '0xS:0xfff:x')
    await counting.ask(undefined, VIEW)
    const { requests, failed, statuses } = counting.frontDoor.stats
    expect({ requests, failed, ok: statuses[200], missing: statuses[404], refused: statuses[401] })
      .toEqual({ requests: 3, failed: 2, ok: 1, missing: 1, refused: 1 })
    await counting.stop()
  })

  test('may carry any headers, known or not', async () => {
    const headers = encodeHeaders([['accept', 'application/json'], ['x-anything', 'at all'], ['x-anything', 'twice']])
    expect(await mesh.ask(session, VIEW, { headers })).toMatchObject({ status: 200, value: 'Hello, world' })
  })

  test('whose reply would outgrow a frame is 413, and the sender hears of it', async () => {
    const large = await startMesh({
      handlers: {
        events: ({ route }) => {
          const reply = { status: 200, headers: Buffer.alloc(0), body: Buffer.alloc(Number(route.segments[1]), 0x20) }
          return route.segments[0] === 'slow' ? Promise.resolve(reply) : reply
        },
      },
    })
    const mine = await large.open()
    for (const pace of ['fast', 'slow']) {
      for (const receipt of ['hash', 'full', 'none'] as const) {
        const answer = await large.ask(mine, `0xE:${pace}:${LIMITS.bodyBytes + 1}`, { receipt })
        expect(answer).toMatchObject({ status: 413, code: 'CMESH_FRAME_TOO_LARGE', message: 'The reply body has 1048577 bytes; at most 1048576 are allowed.' })
      }
      const fits = new Promise<ReplyFrame>(resolve => {
        large.frontDoor.handle(large.frame(mine, `0xE:${pace}:${LIMITS.bodyBytes}`), { sid: mine.sid, replySubject: '' }, frame => { resolve(ReplyFrame.decode(frame)) })
      })
      expect((await fits).status).toBe(200)
    }
    await large.stop()
  })
})

test('a message is refused with the reason of whoever refuses it, under its own id, sealed where it has one', () => {
  for (const [frame, id, hash] of [[request(), ID, 32], [batch(), ID, 32], [Buffer.from('noise'), NO_ID, 0]] as const) {
    const answer = readAnswer(mesh.frontDoor.refuse(frame, new CMeshError('CMESH_ROUTER_BUSY', { what: 'This node', limit: 7, retryAfterMs: 1_500 })))
    expect(answer).toMatchObject({ status: 429, code: 'CMESH_ROUTER_BUSY', message: 'This node has 7 requests in flight already; try again in 1500 ms.' })
    expect(answer.headers).toContainEqual(['retry-after', '2'])
    expect({ id: answer.frame.id, hash: answer.frame.finalHash.length }).toEqual({ id, hash })
  }
})

/** Mock consensus whose proposals can be held back. */
function heldConsensus(): { consensus: ConsensusProvider, hold(): void, proposed: Promise<void>, release(): Promise<void> } {
  const consensus = new MockConsensus({ now: () => 0 })
  const propose = consensus.propose.bind(consensus)
  let held: (() => Promise<Committed>)[] | undefined
  let said: () => void = () => undefined
  const proposed = new Promise<void>(resolve => { said = resolve })
  consensus.propose = proposal => {
    if (held === undefined) return propose(proposal)
    said()
    return new Promise((resolve, reject) => {
      held?.push(() => {
        const committed = propose(proposal)
        committed.then(resolve, reject)
        return committed
      })
    })
  }
  return {
    consensus, proposed,
    hold: () => { held = [] },
    release: async () => {
      const waiting = held ?? []
      held = undefined
      for (const each of waiting) await each()
    },
  }
}
