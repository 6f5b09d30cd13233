/** What a start waits for at its broker and what it does not, and that a place which a former life of the node holds is not taken for another node's. */
import { describe, expect, test } from '@jest/globals'
import { JetStreamApiError } from '@nats-io/jetstream'
import { errors } from '@nats-io/nats-core'
import { CMeshError } from '../../cmtp/errors.ts'
import { Patience } from '../../providers/bus/patience.ts'
import { holdAlone, placePasses } from '../../providers/consensus/single-node.ts'
import { passes, refused } from '../../providers/jetstream/refusal.ts'
import { LoneBus } from '../support/lone-bus.ts'

const api = (err_code: number, code: number): JetStreamApiError => new JetStreamApiError({ err_code, code, description: 'no' })
const request = (cause: Error): Error => new errors.RequestError('no', { cause })

describe('of what fails at a start', () => {
  test.each<[string, boolean, unknown]>([
    ['no leader, in an answer of the API', true, refused('S', { code: 503, err_code: 10008, description: 'JetStream system temporarily unavailable' })],
    ['no leader, in an answer to the library', true, api(10008, 503)],
    ['an unavailability of any code', true, api(1, 503)],
    ['resources that are short', true, api(10023, 400)],
    ['servers that are too few', true, api(10005, 400)],
    ['a time-out', true, new errors.TimeoutError()],
    ['nobody who answers', true, new Error('jetstream is not enabled', { cause: request(new errors.NoRespondersError('a')) })],
    ['a connection that is down', true, new CMeshError('CMESH_BUS_DISCONNECTED')],
    ['a broker that does not answer', true, new CMeshError('CMESH_BUS_TIMEOUT', { subject: 'a', timeoutMs: 1 })],
    ['a configuration that the broker refuses', false, api(10052, 400)],
    ['more replicas than there are servers', false, api(10074, 500)],
    ['a refusal that stays', false, refused('S', { code: 400, err_code: 10052 })],
    ['a refusal without a reason', false, new CMeshError('CMESH_BUS_STORE', { stream: 'S', reason: 'its state is missing' })],
    ['a subject that is forbidden', false, request(new errors.PermissionViolationError('no', 'publish', 'a'))],
    ['the same, by the bus', false, new CMeshError('CMESH_BUS_DENIED', { operation: 'publish on', subject: 'a' })],
    ['a connection that was closed', false, new errors.ClosedConnectionError()],
    ['the same, by the bus', false, new CMeshError('CMESH_BUS_CLOSED')],
    ['what is no failure at all', false, 'no'],
  ])('%s passes: %s', (_what, expected, failure) => {
    expect(passes(failure)).toBe(expected)
  })

  test('what passes is tried again, and the log says once what is waited for and why', async () => {
    const lines: [object, string][] = []
    const say = (fields: object, line: string): void => { lines.push([fields, line]) }
    const log = { warn: say, info: say }
    const failures = [api(10008, 503), new CMeshError('CMESH_BUS_DISCONNECTED'), api(10009, 500)]
    const step = async (): Promise<string> => {
      const failure = failures.shift()
      if (failure !== undefined) throw failure
      return 'done'
    }
    expect(await new Patience({ readyMs: 60_000, passes, log }).with('the stream S', step)).toBe('done')
    expect(lines).toEqual([
      [{ what: 'the stream S', reason: 'no', forMs: 60_000 }, 'waiting for the stream S'],
      [{ what: 'the stream S' }, 'the broker is ready'],
    ])
  })

  test.each<[string, number, AbortSignal | undefined, Error]>([
    ['what stays', 60_000, undefined, api(10052, 400)],
    ['what passes, once the time is over,', 0, undefined, api(10008, 503)],
    ['what passes, once nobody waits any more,', 60_000, AbortSignal.abort(), api(10008, 503)],
  ])('%s ends the start as it is', async (_what, readyMs, signal, failure) => {
    let tries = 0
    const patience = new Patience({ readyMs, passes, ...(signal !== undefined && { signal }) })
    await expect(patience.with('it', async () => { tries++; throw failure })).rejects.toBe(failure)
    expect(tries).toBe(1)
  })
})

describe('the place of a node', () => {
  const SUBJECT = 'place'
  const place = (bus: LoneBus, readyMs: number): ReturnType<typeof holdAlone> => holdAlone({
    bus, subject: SUBJECT, nodeId: 'node-1', answerMs: 1, settleMs: 1, patience: new Patience({ readyMs, passes: placePasses }),
  })

  test('is taken once the connection of a former life, which does not answer, is gone', async () => {
    const bus = new LoneBus()
    const former = bus.subscribe(SUBJECT, () => undefined)
    let asked = 0
    bus.onRequest = () => { if (++asked === 3) former.unsubscribe() }
    await place(bus, 60_000)
    expect(bus.subscribers(SUBJECT)).toBe(1)
    // Twice in vain, once with nobody there, once for one that started at the same time.
    expect(asked).toBe(4)
  })

  test('is not waited for where somebody answers, at once or after a silence', async () => {
    for (const silences of [0, 2]) {
      const bus = new LoneBus()
      let asked = 0
      bus.subscribe(SUBJECT, ({ reply }) => { if (asked > silences) bus.publish(reply, Buffer.from('other')) })
      bus.onRequest = () => { asked++ }
      await expect(place(bus, 60_000)).rejects.toMatchObject({ code: 'CMESH_CONSENSUS_SECOND_NODE', detail: { node: 'other' } })
      expect(asked).toBe(silences + 1)
      expect(bus.subscribers(SUBJECT)).toBe(1)
    }
  })
})
