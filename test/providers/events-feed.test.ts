import { describe, expect, test } from '@jest/globals'
import fc from 'fast-check'
import { headers, type Msg, type MsgHdrs } from '@nats-io/nats-core'
import { CMeshError } from '../../cmtp/errors.ts'
import { ChannelTail, type Stored } from '../../providers/events/channel-tail.ts'
import { Patience } from '../../providers/bus/patience.ts'
import { StoredFeed, type Gone, type Standing } from '../../providers/events/stored-feed.ts'
import type { JetStreamBus } from '../../providers/jetstream/calls.ts'
import type { BusStatus } from '../../services/bus/provider.ts'
import type { MeshEvent } from '../../services/events/provider.ts'

const event = (seq: number): MeshEvent => ({ channel: 'a', seq, timeMs: seq, data: new Uint8Array(0) })
const turn = (): Promise<void> => new Promise(resolve => { setImmediate(resolve) })

/** A stream of one channel as replicas show it: `visible` is how far the one that answers has come. */
function tailOver(sequences: readonly number[], after = 0): {
  tail: ChannelTail, handed: number[], failures: CMeshError[], reads: number[]
  stream: { visible: number, fail: boolean }
} {
  const handed: number[] = []
  const failures: CMeshError[] = []
  const reads: number[] = []
  const stream = { visible: Infinity, fail: false }
  const tail = new ChannelTail({
    channel: 'a', after, pause: turn,
    handler: given => { handed.push(given.seq) },
    onFailure: failure => { failures.push(failure) },
    next: async (_channel, from) => {
      reads.push(from)
      await turn()
      if (stream.fail) throw new CMeshError('CMESH_BUS_DISCONNECTED')
      const seq = sequences.find(one => one >= from && one <= stream.visible)
      return seq === undefined ? undefined : event(seq)
    },
  })
  return { tail, handed, failures, reads, stream }
}

/** Turns the event loop until nothing is read any more. */
async function quiet(reads: readonly number[]): Promise<void> {
  for (let before = -1; before !== reads.length;) {
    before = reads.length
    for (let i = 0; i < 4; i++) await turn()
  }
}

describe('a live subscription', () => {
  test('hands over a whole event that follows the last without reading', async () => {
    const { tail, handed, reads } = tailOver([3, 7])
    tail.stored({ seq: 3, previous: 0, event: event(3) })
    tail.stored({ seq: 7, previous: 3, event: event(7) })
    expect([handed, reads]).toEqual([[3, 7], []])
  })

  test('reads what it lacks when an event names a previous one that it does not have', async () => {
    const { tail, handed, reads } = tailOver([3, 5, 7])
    tail.stored({ seq: 3, previous: 0, event: event(3) })
    tail.stored({ seq: 7, previous: 5, event: event(7) })
    await quiet(reads)
    expect([handed, reads]).toEqual([[3, 5, 7], [4, 6]])
  })

  test('reads events whose time the feed does not say', async () => {
    const { tail, handed, reads } = tailOver([3, 5])
    tail.stored({ seq: 3, previous: 0, event: undefined })
    tail.stored({ seq: 5, previous: 3, event: undefined })
    await quiet(reads)
    expect(handed).toEqual([3, 5])
  })

  test('waits for a replica that lags, and passes over an event that is gone for good', async () => {
    const { tail, handed, reads, stream } = tailOver([3])
    stream.visible = 2
    tail.stored({ seq: 3, previous: 0, event: undefined })
    while (reads.length < 3) await turn()
    expect(handed).toEqual([])
    stream.visible = 3
    await quiet(reads)
    expect(handed).toEqual([3])
    tail.stored({ seq: 9, previous: 3, event: undefined })
    await quiet(reads)
    tail.stored({ seq: 10, previous: 9, event: event(10) })
    expect(handed).toEqual([3, 10])
  })

  test('a read that fails is reported and taken up again by resume', async () => {
    const { tail, handed, reads, failures, stream } = tailOver([3])
    stream.fail = true
    tail.stored({ seq: 3, previous: 0, event: undefined })
    await quiet(reads)
    expect(failures.map(failure => [failure.code, failure.message])).toEqual([
      ['CMESH_BUS_DISCONNECTED', 'The connection to the broker is down.'],
    ])
    stream.fail = false
    tail.resume()
    await quiet(reads)
    expect(handed).toEqual([3])
  })

  test('a handler that throws is reported, and its subscription goes on', () => {
    const failures: CMeshError[] = []
    const handed: number[] = []
    const tail = new ChannelTail({
      channel: 'a', after: 0, next: async () => undefined, onFailure: failure => { failures.push(failure) },
      handler: given => {
        handed.push(given.seq)
        if (given.seq === 1) throw new Error('broken')
      },
    })
    tail.stored({ seq: 1, previous: 0, event: event(1) })
    tail.stored({ seq: 2, previous: 1, event: event(2) })
    expect(handed).toEqual([1, 2])
    expect(failures.map(failure => [failure.code, failure.message])).toEqual([
      ['CMESH_INTERNAL', 'An unexpected failure in a subscriber of a. It is logged with the message id unknown.'],
    ])
  })

  test('hands over each event behind its beginning once, in order, whatever the feed loses, repeats or cuts short', async () => {
    const step = fc.record({ lost: fc.boolean(), whole: fc.boolean(), again: fc.boolean(), recheck: fc.boolean(), turns: fc.nat(3) })
    await fc.assert(fc.asyncProperty(fc.array(step, { maxLength: 40 }), fc.nat(10), async (steps, after) => {
      const sequences: number[] = []
      const { tail, handed, reads } = tailOver(sequences, after)
      let last: Stored | undefined
      for (const [i, { lost, whole, again, recheck, turns }] of steps.entries()) {
        const seq = (i + 1) * 2
        const stored = { seq, previous: sequences.at(-1) ?? 0, event: whole ? event(seq) : undefined }
        sequences.push(seq)
        if (!lost) tail.stored(stored)
        if (again && last !== undefined) tail.stored(last)
        if (recheck) tail.recheck()
        last = stored
        for (let n = 0; n < turns; n++) await turn()
      }
      tail.recheck()
      await quiet(reads)
      expect(handed).toEqual(sequences.filter(seq => seq > after))
      tail.close()
    }), { numRuns: 150 })
  })
})

/** A broker of which the test says what it does. */
/** With `looksByTick` the feed is compared with the stream once for each `tick`, however often it asks. */
function scripted(looksByTick = false): {
  feed: StoredFeed, log: string[], stream: { head: number, made: string, gone: boolean }
  deliver(seq: number, time?: string): void
  status(next: BusStatus): void
  tick(): Promise<void>
  looks: ((found: Standing | Gone) => void)[]
} {
  const log: string[] = []
  const stream = { head: 0, made: 'at first', gone: false }
  const looks: ((found: Standing | Gone) => void)[] = []
  let callback: (failure: Error | null, message: Msg) => void = () => undefined
  let listener: (status: BusStatus) => void = () => undefined
  const bus = {
    status: 'connected' as BusStatus,
    onStatus: (given: typeof listener) => {
      listener = given
      return () => undefined
    },
    flush: async () => undefined,
    connection: {
      subscribe: (_subject: string, options: { callback: typeof callback }) => {
        callback = options.callback
        return { isClosed: () => false, unsubscribe: () => { log.push('unsubscribed') } }
      },
    },
  }
  const look = (): Standing | Gone => (stream.gone ? { gone: 'S' } : { head: stream.head, made: stream.made })
  const feed = new StoredFeed({
    bus: bus as unknown as JetStreamBus,
    stream: 'S',
    look: () => (looksByTick ? new Promise(resolve => { looks.push(resolve) }) : Promise.resolve(look())),
    ensure: async () => {
      if (stream.gone) {
        log.push('made anew')
        Object.assign(stream, { head: 0, made: 'by the feed', gone: false })
      }
      return { head: stream.head, made: stream.made }
    },
    checkMs: 5,
    patience: new Patience({ readyMs: 0 }),
    onStored: (channel, { seq, previous, event: whole }) => {
      log.push(`${channel} ${previous}<${seq}${whole ? ` at ${whole.timeMs}` : ''}`)
    },
    onMissed: () => { log.push('missed') },
    onRestarted: head => { log.push(`restarted at ${head}`) },
    onFailure: failure => { log.push(failure.message) },
  })
  return {
    feed, log, stream, looks,
    deliver: (seq, time) => {
      const hdrs: MsgHdrs = headers()
      hdrs.set('Nats-Subject', 'cmesh.v1.evt.a')
      hdrs.set('Nats-Sequence', String(seq))
      hdrs.set('Nats-Last-Sequence', String(seq - 1))
      if (time !== undefined) hdrs.set('Nats-Time-Stamp', time)
      callback(null, { headers: hdrs, data: new Uint8Array(0) } as Msg)
    },
    status: next => {
      bus.status = next
      listener(next)
    },
    tick: async () => {
      while (looks.length === 0) await turn()
      looks.shift()?.(look())
      await turn()
    },
  }
}

describe('the feed of stored events', () => {
  test('brings events with their sequence, and the whole event when the server says its time', async () => {
    const { feed, log, deliver } = scripted()
    await feed.start()
    deliver(1)
    deliver(2, '2026-01-02T03:04:05.678901234Z')
    feed.close()
    expect(log).toEqual(['a 0<1', `a 1<2 at ${Date.UTC(2026, 0, 2, 3, 4, 5, 678)}`, 'unsubscribed'])
  })

  test('reports a hole before it brings what lies behind it', async () => {
    const { feed, log, deliver } = scripted()
    await feed.start()
    deliver(1)
    deliver(3)
    deliver(2)
    feed.close()
    expect(log).toEqual(['a 0<1', 'missed', 'a 2<3', 'a 1<2', 'unsubscribed'])
    expect(feed.head).toBe(3)
  })

  test('takes what was stored before its start as brought', async () => {
    const { feed, log, deliver, stream } = scripted()
    stream.head = 10
    await feed.start()
    deliver(11)
    feed.close()
    expect(log).toEqual(['a 10<11', 'unsubscribed'])
  })

  test('reports a loss with the connection, and again when it is back', async () => {
    const { feed, log, status, stream } = scripted()
    await feed.start()
    status('disconnected')
    stream.head = 4
    status('connected')
    while (log.length < 2) await turn()
    feed.close()
    expect(log).toEqual(['missed', 'missed', 'unsubscribed'])
    expect(feed.head).toBe(4)
  })

  test('finds out that another stream stands there which has gone further than it was fed', async () => {
    const { feed, log, stream, deliver, tick } = scripted(true)
    await feed.start()
    deliver(1)
    Object.assign(stream, { head: 7, made: '2026-01-02' })
    await tick()
    expect(log).toEqual(['a 0<1', 'The JetStream stream S cannot be used: it was made anew at 2026-01-02.', 'restarted at 7', 'missed'])
    await tick()
    deliver(8)
    feed.close()
    expect(log.slice(4)).toEqual(['a 7<8', 'unsubscribed'])
  })

  test('takes an answer of before it took up another stream for none', async () => {
    const { feed, log, stream, tick, status, looks } = scripted(true)
    await feed.start()
    while (looks.length === 0) await turn()
    status('disconnected')
    Object.assign(stream, { head: 0, made: '2026-01-02' })
    status('connected')
    while (!log.includes('restarted at 0')) await turn()
    const before = log.length
    looks.shift()?.({ head: 0, made: 'at first' })
    await tick()
    feed.close()
    expect(log.slice(before)).toEqual(['unsubscribed'])
  })

  test('finds out by itself that the newest event was lost, and not before a second look', async () => {
    const { feed, log, stream, tick } = scripted(true)
    await feed.start()
    stream.head = 1
    await tick()
    expect(log).toEqual([])
    await tick()
    expect(log).toEqual(['missed'])
    await tick()
    feed.close()
    expect(log).toEqual(['missed', 'unsubscribed'])
  })

  test('does not complain while the feed keeps up', async () => {
    const { feed, log, deliver, stream, tick } = scripted(true)
    await feed.start()
    for (let seq = 1; seq <= 3; seq++) {
      stream.head = seq
      await tick()
      deliver(seq)
    }
    feed.close()
    expect(log).toEqual(['a 0<1', 'a 1<2', 'a 2<3', 'unsubscribed'])
  })

  test('takes a stream that ends before what was seen for a new one', async () => {
    const { feed, log, deliver, stream, tick } = scripted(true)
    stream.head = 5
    await feed.start()
    stream.head = 2
    await tick()
    deliver(3)
    feed.close()
    expect(log).toEqual([
      'The JetStream stream S cannot be used: it ends at 2 where 5 was seen, so it was made anew.',
      'restarted at 2', 'missed', 'a 2<3', 'unsubscribed',
    ])
  })

  test('has a stream made anew that somebody deleted under it', async () => {
    const { feed, log, deliver, stream, tick } = scripted(true)
    stream.head = 5
    await feed.start()
    stream.gone = true
    await tick()
    deliver(1)
    feed.close()
    expect(log).toEqual([
      'The JetStream stream S cannot be used: somebody deleted it, with all that was in it; it is made anew.', 'made anew',
      'The JetStream stream S cannot be used: it ends at 0 where 5 was seen, so it was made anew.',
      'restarted at 0', 'missed', 'missed', 'a 0<1', 'unsubscribed',
    ])
  })
})
