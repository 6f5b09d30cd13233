import { describe, expect, test } from '@jest/globals'
import { describeOrder, readOrder } from '../../providers/consensus/ordered-stream.ts'
import { StreamView } from '../../providers/consensus/stream-view.ts'
import type { StreamReport } from '../../providers/jetstream/stream-api.ts'

const ORDER = { epoch: 2, base: 100 }
const CREATED = '2026-01-01T00:00:00Z'

interface Shown {
  readonly last?: number
  readonly first?: number
  readonly created?: string
  readonly description?: string
  readonly leader?: string
  /** Lag by follower. */
  readonly lags?: Readonly<Record<string, number>>
}

function report({ last = 10, first = 1, created = CREATED, description = describeOrder(ORDER), leader = 'a', lags = { b: 0, c: 0 } }: Shown = {}): StreamReport {
  const replicas = Object.entries(lags).map(([name, lag]) => ({ name, lag, current: lag === 0, active: 0, offline: false }))
  return { created, config: { description }, state: { first_seq: first, last_seq: last }, cluster: { name: 'test', leader, replicas } } as unknown as StreamReport
}

function viewOf(shown?: Shown): StreamView {
  const view = new StreamView('S')
  view.begin(ORDER, report(shown), 'server')
  return view
}

const reason = (view: StreamView, seen: StreamReport | undefined, delivered = 10, now = delivered): unknown => view.look(seen, delivered, now, 'server')?.detail['reason']

describe('a view of the ordering stream', () => {
  test('believes that the stream is gone when it hears so four times in a row', () => {
    const view = viewOf()
    for (let i = 0; i < 3; i++) expect(reason(view, undefined)).toBeUndefined()
    expect(reason(view, report())).toBeUndefined()
    for (let i = 0; i < 3; i++) expect(reason(view, undefined)).toBeUndefined()
    expect(reason(view, undefined)).toBe('it is gone')
  })

  test('believes that the stream is shorter than what was read when it hears so four times in a row', () => {
    const view = viewOf()
    for (let i = 0; i < 3; i++) expect(reason(view, report({ last: 9 }))).toBeUndefined()
    expect(reason(view, report())).toBeUndefined()
    for (let i = 0; i < 3; i++) expect(reason(view, report({ last: 9 }))).toBeUndefined()
    expect(reason(view, report({ last: 9 }))).toBe('it ends at message 9, and 10 were read')
  })

  test('believes no server that names no leader: it may be one that reads its copy back', () => {
    const view = viewOf()
    for (let i = 0; i < 50; i++) expect(reason(view, report({ last: 9, leader: '' }))).toBeUndefined()
    expect(reason(view, report({ first: 13, last: 20, leader: '' }), 10, 11)).toBeUndefined()
    expect(reason(view, report({ created: '2026-01-02T00:00:00Z', leader: '' }))).toMatch(/^it was made anew at /)
  })

  test.each<[string, Shown]>([
    ['birthday', { created: '2026-01-02T00:00:00Z' }],
    ['base', { description: describeOrder({ ...ORDER, base: 99 }) }],
    ['epoch', { description: describeOrder({ ...ORDER, epoch: 3 }) }],
    ['description', { description: 'mine' }],
  ])('takes one with another %s for another at once', (_, shown) => {
    expect(reason(viewOf(), report(shown))).toMatch(/^it was made anew at /)
  })

  test('misses at once what was purged before it was read, but not what was read meanwhile', () => {
    expect(reason(viewOf(), report({ first: 13, last: 20 }), 10, 12)).toBeUndefined()
    expect(reason(viewOf(), report({ first: 13, last: 20 }), 10, 11)).toBe('it begins at message 13, and 11 were read')
  })

  test('each change of leader is a new term; a time without one is none', () => {
    const view = viewOf()
    const seen = ['a', '', 'b', 'b', '', 'b', 'a'].map((leader) => {
      view.look(report({ leader }), 10, 10, 'server')
      const status = view.status(10)
      return [status.leader, status.term]
    })
    expect(seen).toEqual([['a', 1], ['a', 1], ['b', 2], ['b', 2], ['b', 2], ['b', 2], ['a', 3]])
  })

  test('what is committed is held by a quorum, whatever the last report said of lags', () => {
    const lags = { b: 3, c: 1, d: 7, e: 200 }
    expect(viewOf({ lags }).status(20)).toEqual({
      provider: 'jetstream', epoch: 2, term: 1, leader: 'a', lastIndex: 120, commitIndex: 120, quorum: 3,
      members: [
        { id: 'a', role: 'leader', matchIndex: 120 }, { id: 'c', role: 'follower', matchIndex: 120 }, { id: 'b', role: 'follower', matchIndex: 120 },
        { id: 'd', role: 'follower', matchIndex: 113 }, { id: 'e', role: 'follower', matchIndex: 100 },
      ],
    })
  })

  test('without a cluster the server leads itself', () => {
    const view = new StreamView('S')
    const { cluster: _, ...alone } = report()
    view.begin(ORDER, alone, 'server')
    expect(view.status(1)).toMatchObject({ leader: 'server', quorum: 1, members: [{ id: 'server', role: 'leader', matchIndex: 101 }] })
  })
})

test.each([
  '', 'order', '{}', 'null', '[]', '{"base":1,"epoch":0}', '{"base":1,"epoch":0,"order":2}', '{"base":-1,"epoch":0,"order":1}', '{"base":1.5,"epoch":0,"order":1}',
  '{"base":1,"epoch":"0","order":1}', '{"epoch":0,"base":1,"order":1}', '{"base":1, "epoch":0,"order":1}',
])('the description %j says nothing of an order', (description) => {
  expect(readOrder(description)).toBeUndefined()
  expect(readOrder(describeOrder(ORDER))).toEqual(ORDER)
})
