import { describe, expect, test } from '@jest/globals'
import { CMeshError } from '../../../cmtp/errors.ts'
import { encodeReply, encodeRequest, RequestFrame } from '../../../cmtp/frame.ts'
import { CARRIED_WILDCARD, carriedSubject, inboxPrefix, requestSubject, REQUEST_WILDCARD } from '../../../cmtp/subject.ts'
import type { Origin } from '../../../services/router/passage.ts'
import { Router, type RouterParts } from '../../../services/router/service.ts'
import { HandBus } from '../../support/hand-bus.ts'
import { keptLog, readAnswer, startMesh, type KeptLog } from '../../support/mesh.ts'

/** Where the holder of a session listens. */
const inboxOf = (sid: string): string => `${inboxPrefix(sid)}1`

interface Taken {
  readonly data: Uint8Array
  readonly origin: Origin
  answer(text: string): void
}

/** A router before a front door of which the test is the clerk; with `instant` every request is answered while it is handed over. */
function router(parts: Partial<RouterParts> & { instant?: boolean } = {}): {
  router: Router, bus: HandBus, taken: Taken[], log: KeptLog, bring(sid: string, n?: number, reply?: string): void,
  carry(via: string, sid: string, reply?: string): void,
} {
  const bus = new HandBus()
  const log = keptLog()
  const taken: Taken[] = []
  const { instant = false, ...rest } = parts
  const made = new Router({
    bus, log,
    frontDoor: {
      handle: (data, origin, answer) => {
        taken.push({ data, origin, answer: text => { answer(Buffer.from(text)) } })
        if (instant) answer(Buffer.from('instant'))
      },
      refuse: (data, error) => encodeReply({ id: RequestFrame.decode(data).id, status: error.status, receipt: 'none', body: Buffer.from(JSON.stringify(error.toWire())) }),
    },
    ...rest,
  })
  const bring = (sid: string, n = 0, reply = inboxOf(sid)): void => {
    bus.bring(REQUEST_WILDCARD, { subject: requestSubject(sid), reply, data: request(n) })
  }
  const carry = (via: string, sid: string, reply = inboxOf(via)): void => {
    bus.bring(CARRIED_WILDCARD, { subject: carriedSubject(via, sid), reply, data: request(0) })
  }
  return { router: made, bus, taken, log, bring, carry }
}

function request(n: number): Buffer {
  const id = Buffer.alloc(16)
  id.writeUInt32BE(n)
  return encodeRequest({ id, fqmn: '0xC:status', token: Buffer.alloc(0), deadlineMs: 1, receipt: 'hash' })
}

const texts = (bus: HandBus): string[] => bus.published.map(({ data }) => Buffer.from(data).toString())

describe('the router', () => {
  test('takes requests of every session as one of a queue group, once the broker knows', async () => {
    const { router: made, bus } = router()
    await Promise.all([made.start(), made.start()])
    expect(bus.subscriptions.map(({ subject, queue }) => [subject, queue])).toEqual([['cmesh.v1.req.*', 'router'], ['cmesh.v1.req.*.*', 'router']])
    expect(bus.flushes.length).toBeGreaterThan(0)
  })

  test('hands over what came with the session of its subject, and answers where the answer goes', async () => {
    const { router: made, bus, taken, bring } = router()
    await made.start()
    bring('abc', 1, '_INBOX.abc.7')
    expect(taken[0]?.origin).toEqual({ sid: 'abc', via: undefined, replySubject: '_INBOX.abc.7' })
    expect(made.inFlight).toBe(1)
    taken[0]?.answer('done')
    expect(bus.published).toEqual([{ subject: '_INBOX.abc.7', data: Buffer.from('done') }])
    expect(made.inFlight).toBe(0)
  })

  test('hands over what a gateway carries with both sessions, and answers where the gateway listens', async () => {
    const { router: made, bus, taken, carry } = router()
    await made.start()
    carry('gate', 'abc', '_INBOX.gate.x.7')
    expect(taken[0]?.origin).toEqual({ sid: 'abc', via: 'gate', replySubject: '_INBOX.gate.x.7' })
    taken[0]?.answer('done')
    expect(bus.published).toEqual([{ subject: '_INBOX.gate.x.7', data: Buffer.from('done') }])
    carry('gate', 'abc', '_INBOX.abc.7')
    expect([taken.length, made.dropped]).toEqual([1, 1])
  })

  test.each([
    '', 'cmesh.v1.mine.s', 'cmesh.v1.svc.state.call', '$JS.API.STREAM.DELETE.x', 'cmesh.v1.req.other', '_INBOXES.x', '_INBOX.s', '_INBOX.s.', '_INBOX.other.1',
    '_INBOX.ss.1', '_INBOX.S.1', '_INBOX..s.1', '_INBOX.>', '_INBOX.*.1', ' _INBOX.s.1',
  ])('drops and counts what wants the answer at "%s"', async reply => {
    const { router: made, bus, taken, bring, carry } = router()
    await made.start()
    bring('s', 0, reply)
    carry('s', 'carried', reply)
    expect(taken).toEqual([])
    expect(bus.published).toEqual([])
    expect(made.dropped).toBe(2)
  })

  test('takes no subject for a session that only decodes to its name', async () => {
    const { router: made, bus, taken } = router()
    await made.start()
    for (const [pattern, subject] of [
      [REQUEST_WILDCARD, 'cmesh.v1.req.=73'], [REQUEST_WILDCARD, 'cmesh.v1.req.=ZZ'], [REQUEST_WILDCARD, 'cmesh.v1.req.a=2eb'], [CARRIED_WILDCARD, 'cmesh.v1.req.=73.a'], [CARRIED_WILDCARD, 'cmesh.v1.req.s.a=2eb'],
    ] as const) bus.bring(pattern, { subject, reply: inboxOf('s'), data: request(0) })
    bus.bring(REQUEST_WILDCARD, { subject: requestSubject('a.b'), reply: '_INBOX.a.b.1', data: request(0) })
    expect([taken.length, made.dropped]).toEqual([0, 6])
  })

  test('counts nothing as under way that is answered at once', async () => {
    const { router: made, bus, bring } = router({ instant: true, perSession: 1, inAll: 1 })
    await made.start()
    for (let i = 0; i < 5; i++) bring('s')
    expect(texts(bus)).toEqual(['instant', 'instant', 'instant', 'instant', 'instant'])
    expect(made.inFlight).toBe(0)
  })

  test('refuses one more than a session may have under way with 429 and when to come back, and holds up nobody else', async () => {
    const { router: made, bus, taken, bring } = router({ perSession: 2, inAll: 10 })
    await made.start()
    for (let i = 0; i < 3; i++) bring('greedy', i)
    bring('modest', 3)
    expect(taken.map(({ origin }) => origin.sid)).toEqual(['greedy', 'greedy', 'modest'])
    const [refusal] = bus.published.map(({ data }) => readAnswer(data))
    expect(refusal).toMatchObject({
      status: 429, code: 'CMESH_ROUTER_BUSY', message: 'This session has 2 requests in flight already; try again in 50 ms.',
      value: { retry: 'retry', detail: { retryAfterMs: 50 } },
    })
    expect(refusal?.frame.id.readUInt32BE(0)).toBe(2)
    taken[0]?.answer('done')
    bring('greedy', 4)
    expect(taken).toHaveLength(4)
  })

  test('counts what is under way for the connection that sent it, whatever sessions that names behind its own', async () => {
    const { router: made, bus, taken, bring, carry } = router({ perSession: 2, inAll: 100 })
    await made.start()
    // What the thief sends in the victim's name takes no place of the victim's, and inventing names gives the thief none.
    for (let i = 0; i < 5; i++) carry('thief', 'victim')
    for (let i = 0; i < 5; i++) carry('thief', `invented-${i}`)
    bring('thief')
    for (let i = 0; i < 2; i++) bring('victim')
    carry('gate', 'victim')
    expect(taken.map(({ origin: { sid, via } }) => [sid, via])).toEqual([
      ['victim', 'thief'], ['victim', 'thief'], ['victim', undefined], ['victim', undefined], ['victim', 'gate'],
    ])
    expect(bus.published.map(({ subject, data }) => [subject, readAnswer(data).code])).toEqual(Array.from({ length: 9 }, () => [inboxOf('thief'), 'CMESH_ROUTER_BUSY']))
    for (const each of taken.splice(0)) each.answer('done')
    expect(made.inFlight).toBe(0)
    for (let i = 0; i < 2; i++) carry('thief', 'victim')
    expect(taken).toHaveLength(2)
  })

  test('refuses one more than it may have under way in all, whoever asks', async () => {
    const { router: made, bus, taken, bring } = router({ perSession: 10, inAll: 3 })
    await made.start()
    for (let i = 0; i < 4; i++) bring(`session-${i}`)
    expect(taken).toHaveLength(3)
    expect(made.inFlight).toBe(3)
    expect(readAnswer(bus.published[0]?.data as Uint8Array)).toMatchObject({
      status: 429, code: 'CMESH_ROUTER_BUSY', message: 'This node has 3 requests in flight already; try again in 50 ms.',
    })
  })

  test('queues nothing: what was refused is not done later', async () => {
    const { router: made, bus, taken, bring } = router({ perSession: 1 })
    await made.start()
    bring('s', 0)
    bring('s', 1)
    taken[0]?.answer('done')
    await made.drain()
    expect(taken).toHaveLength(1)
    expect(bus.published).toHaveLength(2)
  })

  test('drains by answering what it took: intake ends at once, the drain when the last answer has left', async () => {
    const { router: made, bus, taken, bring } = router()
    await made.start()
    for (let i = 0; i < 3; i++) bring('s', i)
    let drained = false
    const draining = made.drain().then(() => { drained = true })
    expect(made.drain()).toBe(made.drain())
    await Promise.resolve()
    expect(bus.subscriptions.map(each => each.open)).toEqual([false, false])
    for (const each of taken.splice(0, 2)) each.answer('done')
    for (let i = 0; i < 20; i++) await Promise.resolve()
    expect(drained).toBe(false)
    taken[0]?.answer('last')
    await draining
    expect(texts(bus)).toEqual(['done', 'done', 'last'])
    // Flushed behind the last answer: whoever drains closes the connection next.
    expect(bus.flushes.at(-1)).toBe(3)
  })

  test('drains at once when nothing is under way, also before its start and on a closed bus', async () => {
    await router().router.drain()
    const { router: made, bus } = router()
    await made.start()
    await bus.close()
    await made.drain()
  })

  test('drops the answers that nobody can get any more', async () => {
    const { router: made, bus, taken, bring } = router()
    await made.start()
    bring('s')
    await bus.close()
    taken[0]?.answer('too late')
    expect(made.inFlight).toBe(0)
    expect(bus.published).toEqual([])
  })

  test('says so when the broker does not take an answer that large, and goes on when it takes none', async () => {
    const { router: made, bus, taken, log, bring } = router()
    await made.start()
    bus.onPublish = (_subject, data) => {
      if (Buffer.from(data).toString() === 'huge') throw new CMeshError('CMESH_FRAME_TOO_LARGE', { part: 'message', bytes: 4, limit: 3 })
      if (Buffer.from(data).toString() === 'odd') throw new TypeError('not so')
    }
    bring('s', 0)
    bring('s', 1)
    taken[0]?.answer('huge')
    taken[1]?.answer('odd')
    expect(bus.published.map(({ data }) => readAnswer(data).code)).toEqual(['CMESH_FRAME_TOO_LARGE'])
    expect(log.lines.map(line => line.message)).toEqual(['an answer could not be sent'])
    expect(made.inFlight).toBe(0)
  })
})

test('a router with its front door answers the session of the subject and no other', async () => {
  const mesh = await startMesh()
  const [mine, other] = [await mesh.open(), await mesh.open()]
  const bus = new HandBus()
  const made = new Router({ bus, frontDoor: mesh.frontDoor, log: mesh.log })
  await made.start()
  for (const sid of [mine.sid, other.sid]) {
    bus.bring(REQUEST_WILDCARD, { subject: requestSubject(sid), reply: inboxOf(sid), data: mesh.frame(mine, '0xS:0x001:hello_world') })
  }
  await made.drain()
  const statuses = bus.published.map(({ data }) => readAnswer(data).status).sort((a, b) => a - b)
  expect(statuses).toEqual([200, 401])
  await mesh.stop()
})
