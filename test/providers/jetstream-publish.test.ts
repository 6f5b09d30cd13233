import { describe, expect, test } from '@jest/globals'
import type { Msg } from '@nats-io/nats-core'
import { CMeshError } from '../../cmtp/errors.ts'
import type { CallOptions, JetStreamBus, JetStreamCalls } from '../../providers/jetstream/calls.ts'
import { StreamPublisher, type PublishAck, type StreamPublish, type StreamPublisherOptions } from '../../providers/jetstream/publish.ts'

type Answer = object | string | CMeshError

/** A publisher whose broker answers as scripted, one answer an attempt. */
function publisherOver(answers: Answer[], connected: boolean[] = [], options: StreamPublisherOptions = {}): {
  publish(message?: Partial<StreamPublish>): Promise<PublishAck>
  attempts: { id: string | undefined, timeoutMs: number }[]
} {
  const attempts: { id: string | undefined, timeoutMs: number }[] = []
  const bus = { get status() { return connected.shift() === false ? 'disconnected' : 'connected' } } as JetStreamBus
  const calls = {
    call: async (_subject: string, _data: Uint8Array, { headers, timeoutMs }: CallOptions): Promise<Msg> => {
      attempts.push({ id: headers?.get('Nats-Msg-Id'), timeoutMs })
      const answer = answers.shift()
      if (answer instanceof CMeshError) throw answer
      return { data: Buffer.from(typeof answer === 'string' ? answer : JSON.stringify(answer)) } as unknown as Msg
    },
  } as JetStreamCalls
  const publisher = new StreamPublisher(bus, calls, 'S', options)
  return {
    attempts,
    publish: message => publisher.publish({
      subject: 'a', data: new Uint8Array(0), timeoutMs: 60_000, signal: new AbortController().signal, ...message,
    }),
  }
}

const timeout = (): CMeshError => new CMeshError('CMESH_BUS_TIMEOUT', { subject: 'a', timeoutMs: 1 })
const disconnected = (): CMeshError => new CMeshError('CMESH_BUS_DISCONNECTED')
const refusal = (errCode: number, code = 400): object => ({ error: { code, err_code: errCode, description: 'no' } })

describe('publishing into a stream', () => {
  test('gives the sequence, and whether it was a duplicate', async () => {
    expect(await publisherOver([{ stream: 'S', seq: 3 }]).publish()).toEqual({ seq: 3, duplicate: false })
    expect(await publisherOver([{ stream: 'S', seq: 3, duplicate: true }]).publish({ id: 'i' })).toEqual({ seq: 3, duplicate: true })
  })

  test.each([timeout, disconnected])('after an unknown outcome it is tried again with the same id', async failure => {
    const { publish, attempts } = publisherOver([failure(), failure(), { seq: 1 }])
    expect(await publish({ id: 'i' })).toEqual({ seq: 1, duplicate: false })
    expect(attempts.map(attempt => attempt.id)).toEqual(['i', 'i', 'i'])
  })

  test.each([timeout, disconnected])('after an unknown outcome without an id it is not tried again: it might be stored twice', async failure => {
    const { publish, attempts } = publisherOver([failure(), { seq: 1 }])
    const { code, message } = failure()
    await expect(publish()).rejects.toMatchObject({ code, message })
    expect(attempts).toEqual([{ id: undefined, timeoutMs: 2_000 }])
  })

  test.each([
    ['nobody answers', new CMeshError('CMESH_BUS_NO_RESPONDERS', { subject: 'a' })],
    ['too much waits', new CMeshError('CMESH_BUS_BUSY', { limit: 1 })],
    ['there is no leader', refusal(10008, 503)],
    ['resources are short', refusal(10023)],
  ])('when %s nothing was stored, and it is tried again without an id too', async (_when, answer) => {
    const { publish, attempts } = publisherOver([answer, { seq: 1 }])
    expect(await publish()).toEqual({ seq: 1, duplicate: false })
    expect(attempts).toHaveLength(2)
  })

  test('what was never sent is tried again without an id', async () => {
    const { publish, attempts } = publisherOver([disconnected(), { seq: 1 }], [false, true])
    expect(await publish()).toEqual({ seq: 1, duplicate: false })
    expect(attempts).toHaveLength(2)
  })

  test.each([
    [refusal(10054), 'no (10054)'],
    [{ error: {} }, 'it gave no reason (0)'],
    [{}, 'its answer is no ack'],
    [{ seq: 0 }, 'its answer is no ack'],
    ['null', 'its answer is no ack'],
  ])('a refusal that will not pass is final: %j', async (answer, reason) => {
    const { publish, attempts } = publisherOver([answer, { seq: 1 }])
    await expect(publish({ id: 'i' })).rejects.toMatchObject({
      code: 'CMESH_BUS_STORE', message: `The JetStream stream S cannot do this now: ${reason}.`,
    })
    expect(attempts).toHaveLength(1)
  })

  test('an answer that is no JSON is a coded error', async () => {
    await expect(publisherOver(['+OK']).publish()).rejects.toMatchObject({ code: 'CMESH_INTERNAL' })
  })

  test('gives the last failure when its time is over, and waits for no answer longer than that', async () => {
    const { publish, attempts } = publisherOver(Array.from({ length: 100 }, timeout))
    await expect(publish({ id: 'i', timeoutMs: 30 })).rejects.toMatchObject({ code: 'CMESH_BUS_TIMEOUT' })
    for (const attempt of attempts) expect(attempt.timeoutMs).toBeLessThanOrEqual(30)
  })

  test.each([0, -1, Number.NaN])('sends nothing when no time is left: %d', async timeoutMs => {
    const { publish, attempts } = publisherOver([{ seq: 1 }])
    await expect(publish({ timeoutMs })).rejects.toMatchObject({
      code: 'CMESH_BUS_TIMEOUT', message: 'No answer on a within 0 ms.',
    })
    expect(attempts).toEqual([])
  })

  test('does not try again once it is to stop', async () => {
    const { publish, attempts } = publisherOver([timeout(), { seq: 1 }])
    await expect(publish({ id: 'i', signal: AbortSignal.abort() })).rejects.toMatchObject({ code: 'CMESH_BUS_TIMEOUT' })
    expect(attempts).toHaveLength(1)
  })

  test.each([10002, 10047, 10077])('a stream without room (%i) is an error of its owner\'s where it makes one, and not tried again', async errCode => {
    const full = (reason: string): CMeshError => new CMeshError('CMESH_CONSENSUS_FULL', { stream: 'S', reason })
    const { publish, attempts } = publisherOver([refusal(errCode, 503), { seq: 1 }], [], { full })
    await expect(publish({ id: 'i' })).rejects.toMatchObject({ code: 'CMESH_CONSENSUS_FULL', detail: { reason: 'no' } })
    expect(attempts).toHaveLength(1)
  })

  test.each<[string, Answer, boolean[], number]>([
    ['no answer', timeout(), [], 1],
    ['a lost connection', disconnected(), [], 1],
    ['no connection', disconnected(), [false], 0],
    ['nobody there', new CMeshError('CMESH_BUS_NO_RESPONDERS', { subject: 'a' }), [], 0],
    ['a refusal', refusal(10008, 503), [], 0],
  ])('says of %s whether it may have been stored', async (_, answer, connected, told) => {
    let unknown = 0
    await publisherOver([answer, { seq: 1 }], connected).publish({ id: 'i', onUnknown: () => { unknown++ } })
    expect(unknown).toBe(told)
  })
})
