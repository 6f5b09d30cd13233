import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, jest, test } from '@jest/globals'
import { ReplyFrame } from '../../../cmtp/frame.ts'
import { decodeHeaders } from '../../../cmtp/headers.ts'
import { KeyPair } from '../../../cmtp/identity/keys.ts'
import { refresh, type Session } from '../../../cmtp/identity/login.ts'
import { MockEvents } from '../../../providers/events/mock.ts'
import { TAIL_LEASE_MS, Tails, type TailRequest } from '../../../services/events/tails.ts'
import type { AuthContext } from '../../../services/iam/guard.ts'
import type { Revocation } from '../../../services/iam/revocations.ts'
import { startMesh, testClock, type TestClock, type TestMesh } from '../../support/mesh.ts'

const OWN = '_INBOX.abc123.reply'
const INBOX = '_INBOX.abc123.tail'

describe('0xE:<channel>:tail', () => {
  let mesh: TestMesh
  let session: Session
  beforeAll(async () => {
    mesh = await startMesh()
    session = await mesh.open()
  })
  afterEach(() => {
    mesh.tails.stop()
    mesh.published.length = 0
  })
  afterAll(() => mesh.stop())

  const tail = (body: unknown, { who = session, channel = 'chan', replySubject = OWN } = {}): ReturnType<TestMesh['ask']> =>
    mesh.ask(who, `0xE:${channel}:tail`, { body: typeof body === 'string' ? body : JSON.stringify(body), replySubject })
  const received = (): unknown[] => mesh.published.map(({ data }) => JSON.parse(ReplyFrame.decode(data).body.toString()) as unknown)

  test('relays what is published from now on to the caller\'s inbox, as reply frames', async () => {
    await mesh.ask(mesh.root, '0xEW:chan:before')
    expect(await tail({ inbox: INBOX })).toMatchObject({ status: 200, value: { leaseMs: 30_000, tail: expect.any(String) } })
    const { value, frame: published } = await mesh.ask(mesh.root, '0xEW:chan:after')
    await mesh.ask(mesh.root, '0xEW:other:elsewhere')
    expect(mesh.published.map(({ subject }) => subject)).toEqual([INBOX])
    const frame = ReplyFrame.decode(mesh.published[0]?.data as Uint8Array)
    expect({ status: frame.status, receipt: frame.receipt, headers: decodeHeaders(frame.headers) }).toEqual({
      status: 200, receipt: 'none', headers: [['content-type', 'application/json']],
    })
    expect(received()).toEqual([{
      channel: 'chan', seq: (value as { seq: number }).seq, timeMs: mesh.time.ms, data: 'after', origin: { request: published.id.toString('hex') },
    }])
  })

  test('ends when it is closed, and closing it again or one nobody knows is no trouble', async () => {
    const { value } = await tail({ inbox: INBOX })
    const { tail: id } = value as { tail: string }
    expect((await tail({ inbox: INBOX, tail: id, close: true })).value).toEqual({ tail: id, leaseMs: 0 })
    await mesh.ask(mesh.root, '0xEW:chan:unheard')
    expect(mesh.published).toEqual([])
    expect((await tail({ inbox: INBOX, tail: id, close: true })).value).toEqual({ tail: id, leaseMs: 0 })
    expect((await tail({ inbox: INBOX, close: true })).value).toEqual({ tail: '', leaseMs: 0 })
    expect(mesh.tails.size).toBe(0)
  })

  test('needs the permission to read the channel', async () => {
    expect(await tail({ inbox: INBOX }, { channel: 'audit' })).toMatchObject({ status: 403, code: 'CMESH_IAM_DENIED' })
    expect(mesh.tails.size).toBe(0)
  })

  test.each<[what: string, inbox: unknown, replySubject?: string]>([
    ['somebody else\'s inbox', '_INBOX.victim.tail'],
    ['one that only begins like the own', '_INBOX.abc1234.tail'],
    ['the prefix alone', '_INBOX.abc123'],
    ['the prefix and a dot', '_INBOX.abc123.'],
    ['a request subject', 'cmesh.v1.req.victim'],
    ['the event stream', 'cmesh.v1.evt.chan'],
    ['JetStream\'s own', '$JS.API.STREAM.DELETE.CMESH_EVENTS'],
    ['a wildcard', '_INBOX.abc123.*'],
    ['a wildcard of many', '_INBOX.abc123.>'],
    ['a space', '_INBOX.abc123.a b'],
    ['a line end', '_INBOX.abc123.a\r\nPUB x 0\r\n'],
    ['an empty token', '_INBOX.abc123..a'],
    ['no text in ASCII', '_INBOX.abc123.é'],
    // A line over 4,096 bytes ends the connection of the node.
    ['a name that is too long', `_INBOX.abc123.${'a'.repeat(300)}`],
    ['any, for who waits nowhere', INBOX, ''],
    ['any, for who waits at no inbox', INBOX, 'cmesh.v1.svc.x.y'],
    ['any, for who waits at an inbox of no connection', INBOX, '_INBOX.x'],
  ])('sends to the own inbox and nowhere else: not to %s', async (_what, inbox, replySubject = OWN) => {
    expect(await tail({ inbox }, { replySubject })).toMatchObject({
      status: 403, code: 'CMESH_EVENTS_TAIL', message: 'The live tail is refused: the inbox must lie under the _INBOX.… of the connection that asks.',
    })
    expect(mesh.tails.size).toBe(0)
  })

  test.each<[body: string, expected: string]>([
    ['', 'a JSON object as body'], ['[]', 'a JSON object as body'], ['noise', 'a JSON object as body'], ['{}', 'an inbox in the body'], ['{"inbox":7}', 'an inbox in the body'],
    ['{"inbox":"_INBOX.abc123.tail","tail":7}', 'a text of at most 64 characters as tail'],
    [`{"inbox":"_INBOX.abc123.tail","tail":"${'t'.repeat(65)}"}`, 'a text of at most 64 characters as tail'],
  ])('with the body %s is refused', async (body, expected) => {
    const answer = await tail(body)
    expect(answer).toMatchObject({ status: 400, code: 'CMESH_FRAME_MALFORMED' })
    expect(answer.message).toContain(expected)
    expect(mesh.tails.size).toBe(0)
  })

  test('belongs to the session that opened it: nobody else renews, moves or closes it', async () => {
    const { value } = await tail({ inbox: INBOX })
    const { tail: id } = value as { tail: string }
    const other = await mesh.open()
    const refused = { status: 403, code: 'CMESH_EVENTS_TAIL', message: 'The live tail is refused: the tail belongs to another session, channel or inbox.' }
    expect(await tail({ inbox: '_INBOX.other1.x', tail: id }, { who: other, replySubject: '_INBOX.other1.r' })).toMatchObject(refused)
    expect(await tail({ inbox: '_INBOX.other1.x', tail: id, close: true }, { who: other, replySubject: '_INBOX.other1.r' })).toMatchObject(refused)
    expect(await tail({ inbox: INBOX, tail: id }, { channel: 'other' })).toMatchObject(refused)
    expect(await tail({ inbox: `${INBOX}2`, tail: id })).toMatchObject(refused)
    await mesh.ask(mesh.root, '0xEW:chan:still')
    expect(mesh.published.map(({ subject }) => subject)).toEqual([INBOX])
  })
})

describe('a revocation', () => {
  let mesh: TestMesh
  beforeAll(async () => { mesh = await startMesh() })
  afterEach(() => { mesh.tails.stop() })
  afterAll(() => mesh.stop())

  const tail = async (who: Session, inbox: string): Promise<{ readonly tail: string }> => {
    const answer = await mesh.ask(who, '0xE:chan:tail', { body: JSON.stringify({ inbox }), replySubject: OWN })
    expect(answer.status).toBe(200)
    return answer.value as { tail: string }
  }
  const heard = async (): Promise<string[]> => {
    mesh.published.length = 0
    await mesh.ask(mesh.root, '0xEW:chan:said')
    return mesh.published.map(({ subject }) => subject)
  }

  test.each<[string, (session: Session) => Promise<Revocation>]>([
    ['session', async ({ sid }) => ({ sid })],
    ['subject', async ({ sub }) => ({ sub })],
    ['token', async session => ({ jti: (await mesh.enter(session)).jti })],
  ])('of a %s ends its tails at once, and nobody else\'s', async (_, revocationOf) => {
    const [ended, other] = [await mesh.open(), await mesh.open()]
    for (const inbox of ['a', 'b']) await tail(ended, `${INBOX}.${inbox}`)
    await tail(other, `${INBOX}.other`)
    const revocation = await revocationOf(ended)
    expect(await heard()).toHaveLength(3)
    mesh.guard.revoke({ sid: 'nobody', sub: 'did:key:nobody', jti: 'none' })
    expect(mesh.tails.size).toBe(3)
    mesh.guard.revoke(revocation)
    expect(mesh.tails.size).toBe(1)
    expect(await heard()).toEqual([`${INBOX}.other`])
  })

  test('of a token that was replaced since the tail was renewed, or of a subject before it proved itself again, ends none', async () => {
    const identity = KeyPair.generate()
    const first = await mesh.open({ identity })
    const { jti } = await mesh.enter(first)
    const opened = await tail(first, INBOX)
    mesh.time.ms += 2_000
    const renewed = await refresh(first, mesh.send, mesh.time.ms)
    const body = JSON.stringify({ inbox: INBOX, ...opened })
    expect((await mesh.ask(renewed, '0xE:chan:tail', { body, replySubject: OWN })).value).toMatchObject(opened)
    mesh.guard.revoke({ jti })
    mesh.guard.revoke({ sub: identity.did }, mesh.time.ms - 1_000)
    expect(await heard()).toEqual([INBOX])
  })

  test('of a key ends the tails of all whose token it signed', async () => {
    const session = await mesh.open()
    await tail(session, INBOX)
    mesh.guard.revoke({ kid: 'another-key' })
    expect(mesh.tails.size).toBe(1)
    mesh.guard.revoke({ kid: mesh.mesh.publicKey.thumbprint })
    expect(mesh.tails.size).toBe(0)
  })
})

describe('leases', () => {
  let clock: TestClock
  let events: MockEvents
  let published: string[]
  let tails: Tails
  beforeEach(() => {
    jest.useFakeTimers()
    clock = testClock()
    events = new MockEvents({ now: clock.nowMs })
    published = []
    const guard = { watch: () => undefined, isRevoked: () => false }
    tails = new Tails({ provider: events, bus: { publish: subject => { published.push(subject) } }, clock, guard })
  })
  afterEach(() => {
    tails.stop()
    jest.useRealTimers()
  })

  const request = (fields: Partial<TailRequest> = {}): TailRequest => ({ channel: 'chan', inbox: INBOX, auth: by('session'), replySubject: OWN, event: ({ seq }) => ({ seq }), ...fields })
  const by = (sid: string): AuthContext => ({ sid }) as AuthContext
  /** Both clocks, as they run. */
  const pass = (ms: number): void => {
    for (let left = ms; left > 0; left -= 1_000) {
      clock.ms += Math.min(left, 1_000)
      jest.advanceTimersByTime(Math.min(left, 1_000))
    }
  }

  test('end a tail that nobody renews, a few seconds after 30 at the latest', async () => {
    tails.open(request())
    pass(TAIL_LEASE_MS - 1_000)
    expect(tails.size).toBe(1)
    pass(6_000)
    expect(tails.size).toBe(0)
    await events.publish('chan', Buffer.from('x'))
    expect(published).toEqual([])
  })

  test('keep a tail that is renewed in time, for as long as it is', async () => {
    const { tail } = tails.open(request())
    for (let i = 0; i < 10; i++) {
      pass(20_000)
      expect(tails.open(request(), tail)).toEqual({ tail, leaseMs: TAIL_LEASE_MS })
    }
    expect(tails.size).toBe(1)
    await events.publish('chan', Buffer.from('x'))
    expect(published).toEqual([INBOX])
    pass(40_000)
    expect(tails.size).toBe(0)
  })

  test('that have ended are opened anew under their id', async () => {
    const { tail } = tails.open(request())
    pass(40_000)
    expect(tails.open(request(), tail)).toEqual({ tail, leaseMs: TAIL_LEASE_MS })
    await events.publish('chan', Buffer.from('x'))
    expect(published).toEqual([INBOX])
  })

  test('are one timer for all, and none when there is no tail', () => {
    expect(jest.getTimerCount()).toBe(0)
    const opened = Array.from({ length: 5 }, () => tails.open(request()))
    expect(jest.getTimerCount()).toBe(1)
    for (const { tail } of opened) tails.close(request(), tail)
    expect([jest.getTimerCount(), tails.size]).toEqual([0, 0])
    tails.open(request())
    pass(40_000)
    expect(jest.getTimerCount()).toBe(0)
  })

  test('are 64 a session and 4,096 in all; one more is refused with when to come back', () => {
    for (let i = 0; i < 64; i++) tails.open(request())
    expect(() => tails.open(request())).toThrow('this session has 64 requests in flight already; try again in 30000 ms.')
    for (let s = 1; s < 64; s++) for (let i = 0; i < 64; i++) tails.open(request({ auth: by(`session ${s}`) }))
    expect(tails.size).toBe(4_096)
    expect(() => tails.open(request({ auth: by('one more') }))).toThrow('this node has 4096 requests in flight already; try again in 30000 ms.')
    tails.stop()
    expect(tails.size).toBe(0)
    tails.open(request())
  })

  test('that stand are renewed though there is no room for another', () => {
    const { tail } = tails.open(request())
    for (let i = 1; i < 64; i++) tails.open(request())
    expect(tails.open(request(), tail)).toEqual({ tail, leaseMs: TAIL_LEASE_MS })
    tails.close(request(), tail)
    tails.open(request())
    expect(tails.size).toBe(64)
  })

  test('that cannot begin leave nothing behind', () => {
    events.subscribe = () => { throw new Error('closed') }
    expect(() => tails.open(request())).toThrow('closed')
    expect([tails.size, jest.getTimerCount()]).toEqual([0, 0])
  })
})
