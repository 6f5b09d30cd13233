import { afterEach, beforeEach, describe, expect, test } from '@jest/globals'
import { CMeshError } from '../../../cmtp/errors.ts'
import { Courier, failure, type CourierParts } from '../../../services/contracts/courier.ts'
import type { Delivered, OutboxMessage } from '../../../services/contracts/messages.ts'
import { until } from '../../client/support/until.ts'
import { keptLog, testClock } from '../../support/mesh.ts'

const DONE: Delivered = { status: 200, gas: 1, body: '"done"' }
const messageOf = (id: string): OutboxMessage => ({ id, from: '0x0a1', fqmn: '0xC:leader', body: Buffer.alloc(0), reply: '', gas: 0, origin: 'x', delivered: undefined })

let outbox: Map<string, OutboxMessage>
let answers: [string, Delivered][]
let courier: Courier
beforeEach(() => {
  outbox = new Map()
  answers = []
})
afterEach(() => courier.stop())

/** A courier over an outbox in memory, from which an answer takes its message. */
function made(parts: Partial<CourierParts> = {}): Courier {
  courier = new Courier({
    read: id => outbox.get(id),
    deliver: () => Promise.resolve(DONE),
    answer: (id, delivered) => {
      answers.push([id, delivered])
      outbox.delete(id)
      return Promise.resolve()
    },
    clock: testClock(), log: keptLog(), retryMs: 1, ...parts,
  })
  return courier
}

function send(...ids: string[]): void {
  for (const id of ids) {
    outbox.set(id, messageOf(id))
    courier.add(id)
  }
}

describe('a courier', () => {
  test('carries nothing before it is started, and then everything once', async () => {
    made()
    send('a', 'b', 'a')
    expect([courier.pending, answers.length]).toEqual([2, 0])
    courier.start()
    await courier.flush()
    expect(answers).toEqual([['a', DONE], ['b', DONE]])
    expect([courier.pending, courier.stats]).toEqual([0, { delivered: 2, failed: 0 }])
  })

  test('carries so many at once and no more', async () => {
    const waiting: (() => void)[] = []
    let most = 0
    let now = 0
    made({ inFlight: 3, deliver: () => new Promise(resolve => {
      most = Math.max(most, ++now)
      waiting.push(() => {
        now--
        resolve(DONE)
      })
    }) })
    courier.start()
    send('a', 'b', 'c', 'd', 'e', 'f', 'g')
    expect(waiting).toHaveLength(3)
    while (courier.pending > 0) {
      waiting.shift()?.()
      await new Promise(setImmediate)
    }
    expect([most, answers.length]).toEqual([3, 7])
  })

  test('leaves a message that is answered already', async () => {
    let asked = 0
    made({ deliver: () => { asked++; return Promise.resolve(DONE) } })
    courier.add('gone')
    courier.start()
    await courier.flush()
    expect([asked, answers]).toEqual([0, []])
  })

  test('answers with what the log says was delivered, and asks nobody', async () => {
    made({ deliver: () => Promise.reject(new Error('asked')) })
    outbox.set('a', { ...messageOf('a'), delivered: DONE })
    courier.add('a')
    courier.start()
    await courier.flush()
    expect(answers).toEqual([['a', DONE]])
  })

  test('asks again while that may help, for so long, and then the error is the answer', async () => {
    const clock = testClock()
    let asked = 0
    made({ clock, patienceMs: 1_000, deliver: () => {
      asked++
      clock.ms += 400
      return Promise.reject(new CMeshError('CMESH_BUS_DISCONNECTED'))
    } })
    courier.start()
    send('a')
    await courier.flush()
    expect(asked).toBe(3)
    expect(answers).toEqual([['a', failure(new CMeshError('CMESH_BUS_DISCONNECTED'))]])
    expect(courier.stats).toEqual({ delivered: 0, failed: 1 })
  })

  test('asks for an unknown outcome until it is known, however long', async () => {
    const clock = testClock()
    let asked = 0
    made({ clock, patienceMs: 1, deliver: () => {
      clock.ms += 400
      return ++asked < 6 ? Promise.reject(new CMeshError('CMESH_ROUTER_UNKNOWN_OUTCOME', { tx: 'a' })) : Promise.resolve(DONE)
    } })
    courier.start()
    send('a')
    await courier.flush()
    expect(answers).toEqual([['a', DONE]])
  })

  test.each(['CMESH_STATE_CLOCK', 'CMESH_STATE_NOT_MEMBER', 'CMESH_ROUTER_DRAINING'] as const)('has asked nobody while this node can order nothing (%s): that is no answer, however long it takes', async code => {
    const clock = testClock()
    let asked = 0
    made({ clock, patienceMs: 1_000, deliver: () => {
      clock.ms += 5_000
      asked++
      // Its patience with whom it asks begins when it can ask.
      if (asked === 6) return Promise.reject(new CMeshError('CMESH_BUS_DISCONNECTED'))
      return asked < 6 ? Promise.reject(new CMeshError(code, { reason: 'of a test' })) : Promise.resolve(DONE)
    } })
    courier.start()
    send('a')
    await courier.flush()
    expect({ answers, asked }).toEqual({ answers: [['a', failure(new CMeshError('CMESH_BUS_DISCONNECTED'))]], asked: 6 })
  })

  test('orders the same answer again when it could not be ordered, and asks nobody again', async () => {
    const [asked, tried]: [string[], Delivered[]] = [[], []]
    made({
      deliver: ({ id }) => {
        asked.push(id)
        return Promise.resolve({ ...DONE, body: String(asked.length) })
      },
      answer: (_, delivered) => {
        tried.push(delivered)
        return tried.length < 3 ? Promise.reject(new CMeshError('CMESH_ROUTER_BUSY', { what: 'consensus', limit: 1, retryAfterMs: 1 })) : Promise.resolve()
      },
    })
    courier.start()
    send('a')
    await courier.flush()
    expect([asked, tried.map(({ body }) => body)]).toEqual([['a'], ['1', '1', '1']])
  })

  test('refuses an answer that no function may take', async () => {
    made({ deliver: () => Promise.resolve({ status: 200, gas: 5, body: 'x'.repeat(65_537) }) })
    courier.start()
    send('a')
    await courier.flush()
    const [[, { status, gas, body }]] = answers as [[string, Delivered]]
    expect([status, gas, JSON.parse(body)]).toEqual([413, 5, expect.objectContaining({ code: 'CMESH_FRAME_TOO_LARGE', message: 'The answer to a contract has 65537 bytes; at most 65536 are allowed.' })])
  })
})

describe('a courier that stops', () => {
  test('brings home what it carries, and leaves what waits', async () => {
    let finish: ((delivered: Delivered) => void) | undefined
    made({ inFlight: 1, deliver: () => new Promise(resolve => { finish = resolve }) })
    courier.start()
    send('a', 'b')
    const stopped = courier.stop()
    finish?.(DONE)
    await stopped
    send('c')
    expect(answers).toEqual([['a', DONE]])
    expect([...outbox.keys()]).toEqual(['b', 'c'])
    expect(courier.pending).toBe(0)
  })

  test('does not ask again', async () => {
    let asked = 0
    made({ retryMs: 60_000, deliver: () => {
      asked++
      return Promise.reject(new CMeshError('CMESH_ROUTER_DRAINING'))
    } })
    courier.start()
    send('a')
    await until('it was asked', () => asked === 1)
    await new Promise(setImmediate)
    await courier.stop()
    expect([asked, answers, [...outbox.keys()]]).toEqual([1, [], ['a']])
  })
})
