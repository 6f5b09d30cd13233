import { describe, expect, test } from '@jest/globals'
import { decodeBundle } from '../../../cmtp/bundle.ts'
import { CMeshError } from '../../../cmtp/errors.ts'
import { encodeRequest } from '../../../cmtp/frame.ts'
import { Replies } from '../../../services/router/replies.ts'
import { HandBus } from '../../support/hand-bus.ts'
import { keptLog } from '../../support/mesh.ts'

type Left = string | [subject: string, bundled: Record<number, string>]

function setUp(): { bus: HandBus, replies: Replies, send(subject: string, text: string, bundle?: boolean): void, left(): Left[] } {
  const bus = new HandBus()
  const replies = new Replies({ bus, log: keptLog(), refuse: (_, error) => Buffer.from(error.code) })
  const send = (subject: string, text: string, bundle = true): void => {
    const data = encodeRequest({ id: Buffer.alloc(16), fqmn: '0xC:status', token: Buffer.alloc(0), deadlineMs: 1, receipt: 'hash', bundle })
    replies.send({ subject: 'cmesh.v1.req.s', reply: subject, data }, subject, Buffer.from(text))
  }
  const left = (): Left[] => bus.published.map(({ subject, data }) => (subject.endsWith('.b')
    ? [subject, Object.fromEntries(decodeBundle(data).map(({ token, frame }) => [token, Buffer.from(frame).toString()]))]
    : `${subject} ${Buffer.from(data).toString()}`))
  return { bus, replies, send, left }
}

const turn = (): Promise<void> => new Promise(resolve => { setImmediate(resolve) })

describe('replies', () => {
  test('of one turn and one inbox leave together when the turn ends, each under its number', async () => {
    const { send, left } = setUp()
    send('_INBOX.a.1', 'one')
    send('_INBOX.a.22', 'two')
    expect(left()).toEqual([])
    await turn()
    expect(left()).toEqual([['_INBOX.a.b', { 1: 'one', 22: 'two' }]])
  })

  test('of several inboxes are kept apart, also where one begins like another', async () => {
    const { send, left } = setUp()
    send('_INBOX.a.1', 'one')
    send('_INBOX.a.b.2', 'two')
    send('_INBOX.a.3', 'three')
    send('_INBOX.aa.4', 'four')
    send('_INBOX.a.b.5', 'five')
    await turn()
    expect(left()).toEqual([['_INBOX.a.b', { 1: 'one', 3: 'three' }], ['_INBOX.a.b.b', { 2: 'two', 5: 'five' }], '_INBOX.aa.4 four'])
  })

  test('that are alone in their turn leave as they are', async () => {
    const { send, left } = setUp()
    send('_INBOX.a.1', 'one')
    await turn()
    send('_INBOX.a.2', 'two')
    await turn()
    expect(left()).toEqual(['_INBOX.a.1 one', '_INBOX.a.2 two'])
  })

  test('leave alone and at once for whoever does not take bundles, names no number, or gets a long one', async () => {
    const { send, left } = setUp()
    const long = 'x'.repeat(4_097)
    send('_INBOX.a.1', 'one', false)
    send('_INBOX.a.t2', 'two')
    send('_INBOX.a.3', long)
    expect(left()).toEqual(['_INBOX.a.1 one', '_INBOX.a.t2 two', `_INBOX.a.3 ${long}`])
    await turn()
    expect(left()).toHaveLength(3)
  })

  test('fill as many bundles as they need', async () => {
    const { bus, send } = setUp()
    for (let i = 0; i < 300; i++) send(`_INBOX.a.${i}`, String(i))
    await turn()
    expect(bus.published.map(({ data }) => decodeBundle(data).length)).toEqual([256, 44])
    const texts = bus.published.flatMap(({ data }) => decodeBundle(data).map(({ frame }) => Buffer.from(frame).toString()))
    expect(texts).toEqual(Array.from({ length: 300 }, (_, i) => String(i)))
  })

  test('of more inboxes than a turn bundles leave alone', async () => {
    const { send, left } = setUp()
    for (let i = 0; i < 66; i++) for (const n of [1, 2]) send(`_INBOX.i${i}.${n}`, 'x')
    await turn()
    expect(left().filter(each => typeof each === 'string')).toEqual(['_INBOX.i64.1 x', '_INBOX.i64.2 x', '_INBOX.i65.1 x', '_INBOX.i65.2 x'])
    expect(left().filter(each => typeof each !== 'string')).toHaveLength(64)
  })

  test('of a bundle that the broker does not take leave one by one', async () => {
    const { bus, send, left } = setUp()
    bus.onPublish = subject => { if (subject.endsWith('.b')) throw new CMeshError('CMESH_FRAME_TOO_LARGE', { part: 'message', bytes: 2, limit: 1 }) }
    send('_INBOX.a.1', 'one')
    send('_INBOX.a.2', 'two')
    await turn()
    expect(left()).toEqual(['_INBOX.a.1 one', '_INBOX.a.2 two'])
  })

  test('can be sent before the turn ends, and are sent once', async () => {
    const { replies, send, left } = setUp()
    send('_INBOX.a.1', 'one')
    send('_INBOX.a.2', 'two')
    replies.flush()
    expect(left()).toEqual([['_INBOX.a.b', { 1: 'one', 2: 'two' }]])
    send('_INBOX.a.3', 'three')
    await turn()
    expect(left()).toEqual([['_INBOX.a.b', { 1: 'one', 2: 'two' }], '_INBOX.a.3 three'])
  })
})
