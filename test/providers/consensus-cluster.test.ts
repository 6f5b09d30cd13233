/** JetStream consensus on a cluster of three real nats-servers, of which one after the other is killed. */
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals'
import type { CMeshError } from '../../cmtp/errors.ts'
import { connectNats, type NatsBus } from '../../providers/bus/nats.ts'
import { JetStreamConsensus } from '../../providers/consensus/jetstream.ts'
import type { Committed, LogEntry } from '../../services/consensus/provider.ts'
import { SILENT_LOG } from '../../services/log.ts'
import { until } from '../client/support/until.ts'
import { BrokerCluster } from '../support/broker-cluster.ts'

const WAIT_MS = 60_000
let cluster: BrokerCluster
let bus: NatsBus
beforeAll(async () => {
  cluster = await BrokerCluster.start()
  bus = await connectNats({ servers: cluster.urls, onError: () => undefined })
}, 120_000)
afterAll(async () => {
  await bus.close()
  await cluster.stop()
})

describe('a stream on three servers', () => {
  test('loses its leader twice by SIGKILL: every proposal is ordered once, where it was said, and the status follows', async () => {
    const failures: CMeshError[] = []
    const entries: LogEntry[] = []
    const options = { replicas: 3, maxBytes: 64 * 1024 * 1024 }
    const provider = new JetStreamConsensus({ bus, nodeId: 'n', log: SILENT_LOG, onFailed: error => { failures.push(error) } }, options)
    await provider.start({ epoch: 0, seq: 0 }, entry => { entries.push(entry) })
    const committed = new Map<string, Committed>()
    let running = true
    let ids = 0
    const writers = Array.from({ length: 8 }, async () => {
      while (running) {
        const id = (++ids).toString(16).padStart(32, '0')
        committed.set(id, await provider.propose({ id, data: Buffer.from(id), deadlineMs: Date.now() + WAIT_MS }))
      }
    })
    const leaders: string[] = []
    for (let kills = 0; kills < 2; kills++) {
      const enough = committed.size + 200
      await until('proposals are ordered', () => committed.size >= enough, WAIT_MS)
      const { leader, term } = provider.status()
      leaders.push(leader)
      await cluster.kill(leader)
      await until('another server leads', () => provider.status().term > term && provider.status().leader !== leader, WAIT_MS)
      const more = committed.size + 200
      await until('proposals are ordered with two servers', () => committed.size >= more, WAIT_MS)
      await cluster.launch(leader)
      await until('the third has caught up', () => provider.status().members.filter(({ matchIndex }) => matchIndex > 0).length === 3, WAIT_MS)
    }
    running = false
    await Promise.all(writers)
    expect(failures).toEqual([])
    expect(entries.map(entry => entry.seq)).toEqual(entries.map((_, i) => i + 1))
    expect(new Set(entries.map(entry => entry.id)).size).toBe(entries.length)
    expect(committed.size).toBe(entries.length)
    for (const { id, seq } of entries) expect(committed.get(id)?.seq).toBe(seq)
    const status = provider.status()
    expect(status).toMatchObject({ quorum: 2, lastIndex: entries.length, commitIndex: entries.length })
    expect(status.members.map(({ id }) => id).sort()).toEqual(['one', 'three', 'two'])
    expect(status.members.filter(({ role }) => role === 'leader').map(({ id }) => id)).toEqual([status.leader])
    expect(status.members.filter(({ matchIndex }) => matchIndex >= status.commitIndex).length).toBeGreaterThanOrEqual(status.quorum)
    await provider.stop()

    const again: LogEntry[] = []
    const second = new JetStreamConsensus({ bus, nodeId: 'n', log: SILENT_LOG, onFailed: error => { failures.push(error) } }, options)
    await second.start({ epoch: 0, seq: 0 }, entry => { again.push(entry) })
    expect(again).toEqual(entries)
    await second.stop()
  }, 300_000)

  test('more replicas than servers are refused with the broker\'s reason, once the time for a server that may still come is over', async () => {
    const provider = new JetStreamConsensus({ bus, nodeId: 'n', log: SILENT_LOG, onFailed: () => undefined }, {
      stream: 'FIVE', replicas: 5, maxBytes: 8 * 1024 * 1024, readyMs: 1_000,
    })
    await expect(provider.start({ epoch: 0, seq: 0 }, () => undefined)).rejects.toMatchObject({ code: 'CMESH_BUS_STREAM', detail: { stream: 'FIVE' } })
    await provider.stop()
  })
})
