import { createHash } from 'node:crypto'
import { appendFileSync } from 'node:fs'
import path from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals'
import { jetstream } from '@nats-io/jetstream'
import type { CMeshError } from '../../cmtp/errors.ts'
import { encodeReply, encodeRequest, RequestFrame } from '../../cmtp/frame.ts'
import { mineSubject } from '../../cmtp/subject.ts'
import { JetStreamEvents } from '../../providers/events/jetstream.ts'
import { LogfileSource } from '../../providers/miner/logfile.ts'
import { StreamSource } from '../../providers/miner/stream.ts'
import { MinerService, type MinedPair } from '../../services/miner/service.ts'
import type { MeshEvent } from '../../services/events/provider.ts'
import { until } from '../client/support/until.ts'
import { startBroker, type TestBroker } from '../support/broker.ts'

let broker: TestBroker
beforeAll(async () => { broker = await startBroker() })
afterAll(() => broker.stop())

const sha256 = (bytes: Uint8Array): string => createHash('sha256').update(bytes).digest('hex')
const frame = (n: number, fqmn: string): Buffer => {
  const id = Buffer.alloc(16)
  id.writeUInt32BE(n)
  return encodeRequest({ id, fqmn, token: Buffer.from('token'), deadlineMs: 1, receipt: 'hash' })
}

describe('the miner on a real broker and a real file', () => {
  test('publishes one pair for each request of both its sources, through the loss of the broker', async () => {
    const failures: CMeshError[] = []
    const onFailure = (failure: CMeshError): void => { failures.push(failure) }
    const events = new JetStreamEvents({ bus: broker.core, onFailure })
    await events.start()
    const pairs = new Map<string, MinedPair>()
    let seen: () => void = () => undefined
    events.subscribe('events.mined', ({ data }: MeshEvent) => {
      const pair = JSON.parse(Buffer.from(data).toString()) as MinedPair
      pairs.set(pair.request, pair)
      seen()
    })
    const untilPairs = async (count: number): Promise<void> => {
      while (pairs.size < count) await new Promise<void>(resolve => { seen = resolve })
    }
    const file = path.join(broker.dir, 'requests.log')
    let lines = 0
    const miner = new MinerService({
      sources: [
        new StreamSource({ bus: broker.core, onFailure }, { ackWaitMs: 1_000 }),
        new LogfileSource({ onFailure }, { path: file, dataDir: broker.dir, pollMs: 20 }),
      ],
      route: async bytes => {
        const { id, fqmn } = RequestFrame.decode(bytes)
        const finalHash = createHash('sha256').update(fqmn).digest().toString('latin1')
        return encodeReply({ id, status: fqmn.startsWith('0xSW') ? 403 : 200, receipt: 'hash', finalHash })
      },
      frameFor: fqmn => ({ frame: frame(1_000_000 + lines++, fqmn), sid: 'lent' }),
      publish: (channel, data, options) => events.publish(channel, data, options),
      onFailure,
    })
    await miner.start()

    const js = jetstream(broker.core.connection)
    const frames = Array.from({ length: 200 }, (_, i) => frame(i, i % 2 === 0 ? '0xS:0x001:blah_blah' : '0xSW:0x001:count'))
    await Promise.all([...frames.slice(0, 100).map(each => js.publish(mineSubject('session-1'), each)), js.publish(mineSubject('session-1'), 'noise')])
    appendFileSync(file, Array.from({ length: 100 }, (_, i) => `${i};0xR:helloWorldExample.mcom\n`).join('') + 'noise\n')
    await untilPairs(50)
    const back = new Promise<void>(resolve => {
      const stop = broker.core.onStatus(status => {
        if (status !== 'connected') return
        stop()
        resolve()
      })
    })
    process.kill(broker.broker.pid ?? 0, 'SIGKILL')
    await back
    for (const each of frames.slice(100)) {
      // JetStream may take a moment longer than the server: what is not acknowledged is published again.
      const failed = (): Promise<boolean> => js.publish(mineSubject('session-1'), each, { msgID: sha256(each) }).then(() => false, () => true)
      while (await failed());
    }
    await untilPairs(300)
    // The broker's word of what waits is a moment old; what lost its word of being done comes once more.
    await until('nothing waits in the sources', () => miner.stats().lagEntries === 0 && miner.stats().lagBytes === 0)
    await miner.drain()

    for (const [i, each] of frames.entries()) {
      expect(pairs.get(sha256(each))).toEqual({
        request: sha256(each), status: i % 2 === 0 ? 200 : 403,
        final: sha256(Buffer.from(i % 2 === 0 ? '0xS:0x001:blah_blah' : '0xSW:0x001:count')),
      })
    }
    // An entry whose word of being done was lost with the broker is mined again, and its pair published once.
    expect(await events.count('events.mined')).toBe(300)
    const { mined, abandoned, lagEntries, lagBytes, sources } = miner.stats()
    expect({ abandoned, lagEntries, lagBytes }).toEqual({ abandoned: 0, lagEntries: 0, lagBytes: 0 })
    // Noise is garbage at one place of each source, however often the broker hands it out.
    const places = Object.values(sources).map(({ garbage, reports }) => ({ some: garbage > 0, places: new Set(reports.map(({ place }) => place)).size }))
    expect(places).toEqual([{ some: true, places: 1 }, { some: true, places: 1 }])
    expect(sources['logfile']?.garbage).toBe(1)
    expect(mined).toBeGreaterThanOrEqual(300)
    await events.stop()
  })
})
