/** What may be said to JetStream twice is where nobody answers, what changes anything is not; a peer plays JetStream's API on a real broker that has none. */
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals'
import { headers as newHeaders } from '@nats-io/nats-core'
import type { Msg } from '@nats-io/nats-core'
import { CMeshError } from '../../cmtp/errors.ts'
import { connectNats, type NatsBus } from '../../providers/bus/nats.ts'
import { JetStreamCalls } from '../../providers/jetstream/calls.ts'
import { ACK, ConsumerApi } from '../../providers/jetstream/consumer-api.ts'
import { StreamApi } from '../../providers/jetstream/stream-api.ts'
import { ExternalBroker } from '../support/external-broker.ts'

/** What is asked again is so after a quarter of it, and has the rest for an answer. */
const TIMEOUT_MS = 4_000

let broker: ExternalBroker
let bus: NatsBus
let peer: NatsBus
let calls: JetStreamCalls
beforeAll(async () => {
  broker = await ExternalBroker.start({ jetstream: false })
  bus = await connectNats({ servers: broker.url })
  peer = await connectNats({ servers: broker.url })
  calls = new JetStreamCalls(bus)
})
afterAll(async () => {
  calls.close()
  await bus.close()
  await peer.close()
  await broker.stop()
})

interface Played<T> {
  readonly outcome: PromiseSettledResult<T>
  readonly asked: number
}

/** Plays the API for `use`: `answer` says what to a request, the first of which is 1. Gives the outcome and how many requests there were. */
async function playing<T>(answer: (n: number, message: Msg) => object | undefined, use: () => Promise<T>): Promise<Played<T>> {
  let asked = 0
  const subscription = peer.connection.subscribe('$JS.*.>', {
    callback: (failure, message) => {
      if (failure !== null) throw failure
      const said = answer(++asked, message)
      if (said !== undefined) message.respond(JSON.stringify(said))
    },
  })
  await peer.connection.flush()
  const [outcome] = await Promise.allSettled([use()])
  // What was sent is there behind this.
  await bus.connection.flush()
  await peer.connection.flush()
  subscription.unsubscribe()
  return { outcome, asked }
}

const report = { config: {}, created: 'now', state: {}, name: 'c' }
const consumers = (timeoutMs = TIMEOUT_MS): ConsumerApi => new ConsumerApi(bus, calls, 'S', timeoutMs)
const stream = (timeoutMs = TIMEOUT_MS): StreamApi => new StreamApi(calls, 'S', timeoutMs)
const READS: [string, () => Promise<unknown>][] = [
  ['the state of a consumer', () => consumers().report('c')],
  ['all consumers', () => consumers().all()],
  ['the state of a stream', () => stream().report()],
  ['a message', () => stream().message({ seq: 1 })],
]

describe.each(READS)('%s', (_what, read) => {
  test('is had from the second answer where the first request has none', async () => {
    const { outcome, asked } = await playing(n => (n === 1 ? undefined : { ...report, message: {}, total: 0 }), read)
    expect({ status: outcome.status, asked }).toEqual({ status: 'fulfilled', asked: 2 })
  })
})

test('a late answer to the first request counts, whatever is said to the second', async () => {
  let first: Msg | undefined
  const { outcome, asked } = await playing((n, message) => {
    if (n === 1) first = message
    else first?.respond(JSON.stringify(report))
    return undefined
  }, () => consumers().report('c'))
  expect({ outcome, asked }).toMatchObject({ outcome: { status: 'fulfilled', value: { name: 'c' } }, asked: 2 })
})

test('what is answered at once is asked once', async () => {
  expect(await playing(() => report, () => stream(300_000).report())).toMatchObject({ outcome: { status: 'fulfilled' }, asked: 1 })
})

describe('what became of a message', () => {
  const settling = (ack: string, timeoutMs = TIMEOUT_MS): Promise<boolean> =>
    consumers(timeoutMs).settle('c', { delivered: 1, seq: 1, consumerSeq: 1, timeNs: '1' }, ack)

  test('is said once more where it is done', async () => {
    expect(await playing(n => (n === 1 ? undefined : {}), () => settling(ACK.done))).toMatchObject({ outcome: { value: true }, asked: 2 })
  })

  test('is said once where it is to come again', async () => {
    expect(await playing(() => undefined, () => settling(ACK.again(1), 400))).toMatchObject({ outcome: { reason: { code: 'CMESH_BUS_TIMEOUT' } }, asked: 1 })
  })

  test('is of no consumer where nobody listens any more', async () => {
    const heard = new Promise<void>(resolve => { peer.connection.subscribe('$JS.ACK.S.c.>', { max: 1, callback: () => { resolve() } }) })
    await peer.connection.flush()
    const settled = settling(ACK.done)
    await heard
    expect(await settled).toBe(false)
  })
})

describe('who waits for the next message', () => {
  const next = (): Promise<unknown> => consumers().next('c', 1, TIMEOUT_MS)
  const saying = (code: number, text: string) => (_: number, { reply = '' }: Msg): undefined => {
    peer.connection.publish(reply, '', { headers: newHeaders(code, text) })
  }

  test.each(['Leadership Change', 'Server Shutdown'])('has none where its server says: %s', async text => {
    expect(await playing(saying(409, text), next)).toMatchObject({ outcome: { value: [] }, asked: 1 })
  })

  test('hears that the consumer was removed', async () => {
    expect(await playing(saying(409, 'Consumer Deleted'), next)).toMatchObject({ outcome: { value: 'missing' } })
  })

  test('hears that nobody listens, where that is said', async () => {
    await expect(next()).rejects.toMatchObject({ code: 'CMESH_BUS_NO_RESPONDERS' })
  })

  test('hears of anything else that it cannot be done', async () => {
    expect(await playing(saying(409, 'Exceeded MaxWaiting'), next)).toMatchObject({ outcome: { reason: { code: 'CMESH_BUS_STORE' } } })
  })
})

test('silence all the time is a time-out of all the time', async () => {
  const { outcome, asked } = await playing(() => undefined, () => consumers(400).report('c'))
  const { code, message } = new CMeshError('CMESH_BUS_TIMEOUT', { subject: '$JS.API.CONSUMER.INFO.S.c', timeoutMs: 400 })
  expect({ outcome, asked }).toMatchObject({ outcome: { reason: { code, message } }, asked: 2 })
})

test.each<[string, () => Promise<unknown>]>([
  ['a consumer that is made', () => consumers(400).create('c', {})],
  ['one that is removed', () => consumers(400).remove('c')],
  ['a message that is removed', () => stream(400).remove(1)],
  ['a purge', () => stream(400).purgeBefore(1)],
])('%s is asked once', async (_what, change) => {
  expect(await playing(() => undefined, change)).toMatchObject({ outcome: { reason: { code: 'CMESH_BUS_TIMEOUT' } }, asked: 1 })
})
