/**
 * Other shapes of a mesh than three nodes that began as three, and a group of takers on one; all of it for long alone, each in minutes (docs/faults.md).
 * TEST_LONG=1 and the name of this file do them, `FAULTS_SEED` says which drills are drawn.
 */
import { fork } from 'node:child_process'
import { mkdtemp, readFile, rm } from 'node:fs/promises'
import os from 'node:os'
import path from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals'
import { connect } from '../../client/connect.ts'
import type { MeshClient } from '../../client/mesh-client.ts'
import { KeyPair } from '../../cmtp/identity/keys.ts'
import { migrate } from '../../node/archive/migrate.ts'
import { until } from '../client/support/until.ts'
import { TestNode } from '../support/node-process.ts'
import { ROOT } from '../support/sources.ts'
import { Campaign, type RoundResult } from './support/campaign.ts'
import { DrillCluster } from './support/drill-cluster.ts'
import { ReplicaLog } from './support/replica-log.ts'
import { LONG, SEED } from './support/results.ts'

const WAIT_MS = 120_000
const TEST_MS = 1_800_000

let dir: string
beforeEach(async () => { dir = await mkdtemp(path.join(os.tmpdir(), 'cmesh-shapes-')) })
afterEach(() => rm(dir, { recursive: true, force: true, maxRetries: 5 }))

const quiet = (url: string, mesh: string, identity: KeyPair): Promise<MeshClient> =>
  connect({ url, mesh, identity, timeoutMs: 30_000, drainMs: 0, connectTimeoutMs: 60_000, onWarning: () => undefined })

/** What a round came to, on a line of its own for who reads along. */
function told(result: RoundResult): RoundResult {
  const { round, drills, tally: { kills }, asked, acknowledged, refused, unknown, ended, seconds } = result
  process.stdout.write(`${JSON.stringify({ round, drills, kills, asked, acknowledged, refused, unknown, ended, seconds })}\n`)
  return result
}

/** Of its first node. */
async function settingsOf(cluster: DrillCluster): Promise<Readonly<Record<string, string>>> {
  return JSON.parse(await readFile(cluster.settingsOf(0), 'utf8')) as Readonly<Record<string, string>>
}

async function rounds(campaign: Campaign, drills: readonly (readonly string[] | number)[]): Promise<void> {
  for (const [i, what] of drills.entries()) {
    const { faults, verdicts, stale, acknowledged, tally } = told(await campaign.round(SEED, i + 1, what))
    expect({ faults, verdicts, stale }).toEqual({ faults: [], verdicts: ['linearizable', 'linearizable'], stale: [] })
    expect([acknowledged > 0, tally.kills > 0]).toEqual([true, true])
  }
  expect(await campaign.finish()).toEqual([])
}

;(LONG ? describe : describe.skip)('a cluster', () => {
  test('of five nodes goes on with any two of them killed, and loses nothing under the other drills', async () => {
    const campaign = await Campaign.start(dir, 5)
    try {
      await rounds(campaign, [['node-kill', 'two-nodes', 'two-nodes', 'leader-kill', 'node-cut', 'two-nodes', 'all-nodes', 'drain'], 24])
    } finally {
      await campaign.stop()
    }
  }, TEST_MS)

  test('that one node grew to has what that one acknowledged, each once and at its place, and loses nothing under drills', async () => {
    const operator = KeyPair.generate()
    const cluster = await DrillCluster.make(dir, operator.did)
    const home = cluster.dirs[0] as string
    const settings = await settingsOf(cluster)
    const alone = (): Promise<TestNode> => new TestNode({
      dir: home, args: ['--operator', operator.did], set: { 'mesh.certificate': settings['mesh.certificate'] as string, 'log.level': 'warn' },
    }).ready()

    // By the id of the message, what its answer said.
    const acknowledged = new Map<string, { readonly seq: number, readonly value: number }>()
    for (let life = 1; life <= 4; life++) {
      const node = await alone()
      const client = await quiet(node.url, cluster.mesh, operator)
      let isOver = false
      const writers = Array.from({ length: 8 }, async () => {
        while (!isOver) {
          const reply = await client.call('0xSW:0x002:increment', { timeoutMs: 2_000 }).catch(() => undefined)
          if (reply !== undefined) acknowledged.set(reply.id, { seq: Number(reply.header('x-cmesh-sequence')), value: reply.json<number>() })
        }
      })
      const wanted = acknowledged.size + 100
      await until('it has acknowledged some more', () => acknowledged.size >= wanted, WAIT_MS)
      // In the midst of it; the last one stops as an operator stops it.
      await (life < 4 ? node.kill() : node.stop())
      isOver = true
      await client.close()
      await Promise.all(writers)
    }
    expect(new Set([...acknowledged.values()].map(({ value }) => value)).size).toBe(acknowledged.size)

    await cluster.startBrokers()
    for (const ms of [50, 200, 400]) {
      const child = fork(path.join(ROOT, 'dist', 'node', 'archive', 'main.js'), ['migrate', JSON.stringify({ dir: home, settings, dryRun: false })], { execArgv: [], stdio: 'ignore' })
      const gone = new Promise(resolve => { child.once('exit', resolve) })
      await delay(ms)
      child.kill('SIGKILL')
      await gone
    }
    const moved = await migrate({ dir: home, settings, dryRun: false }, {}, () => undefined)
    expect(moved).toMatchObject({ newEpoch: 1, mesh: cluster.mesh })
    await cluster.startNodes()

    const client = await quiet(cluster.url, cluster.mesh, operator)
    const told = await Promise.all([...acknowledged].map(async ([id, { seq }]) => {
      const { seq: found } = (await client.call(`0xC:tx:${id}`)).json<{ readonly seq: number }>()
      return [seq, found]
    }))
    expect(told.filter(([seq, found]) => seq !== found)).toEqual([])
    await client.close()
    process.stdout.write(`${JSON.stringify({ acknowledged: acknowledged.size, base: moved.base })}\n`)

    const campaign = await Campaign.on(cluster, operator)
    try {
      await rounds(campaign, [['node-kill', 'leader-kill', 'all-nodes', 'broker-kill', 'node-cut', 'all'], 24])
    } finally {
      await campaign.stop()
    }
  }, TEST_MS)
})

;(LONG ? describe : describe.skip)('a cluster of three that lost its order', () => {
  test('goes on behind the log of one node, though both others had stopped before it and no quorum has that log', async () => {
    const operator = KeyPair.generate()
    const cluster = await DrillCluster.start(dir, operator.did)
    const client = await quiet(cluster.url, cluster.mesh, operator)
    const increment = (): Promise<number> => client.call('0xSW:0x002:increment', { timeoutMs: 60_000 }).then(reply => reply.json<number>())
    const [one, two, three] = cluster.nodes as [DrillCluster['nodes'][number], DrillCluster['nodes'][number], DrillCluster['nodes'][number]]
    try {
      for (let i = 0; i < 20; i++) await increment()
      await three.hold()
      for (let i = 0; i < 20; i++) await increment()
      const acknowledged = await increment()
      await two.hold()
      const before = await cluster.sequenceOf(0) ?? 0
      // Ordered, and acknowledged to nobody.
      const asked = [0, 1, 2].map(() => client.call('0xSW:0x002:increment', { timeoutMs: 3_000 }).catch(() => undefined))
      await until('it has what nobody else has', async () => (await cluster.sequenceOf(0) ?? 0) > before, WAIT_MS)
      await Promise.all(asked)
      await one.hold('SIGTERM')
      await cluster.loseOrder()
      const moved = await migrate({ dir: cluster.dirs[0] as string, settings: await settingsOf(cluster), dryRun: false }, {}, () => undefined)
      expect(moved).toMatchObject({ what: 'make', newEpoch: 1 })
      expect(moved.base).toBeGreaterThan(before)
      await cluster.heal()
      expect(await increment()).toBeGreaterThan(acknowledged)
      await until('all stand behind that', async () => {
        const heads = await Promise.all(cluster.nodes.map((_, i) => cluster.sequenceOf(i)))
        return heads.every(head => head !== undefined && head > moved.base)
      }, WAIT_MS)
      process.stdout.write(`${JSON.stringify({ acknowledged, base: moved.base, ended: cluster.ended })}\n`)
      await Promise.all(cluster.nodes.map(node => node.hold('SIGTERM')))
      const logs = cluster.dirs.map(each => new ReplicaLog(each))
      for (const log of logs) await log.read(() => undefined)
      const least = Math.min(...logs.map(({ seq }) => seq))
      expect(least).toBeGreaterThan(moved.base)
      for (const at of [moved.base, least]) expect(new Set(logs.map(log => log.chainAt(at))).size).toBe(1)
    } finally {
      await client.close()
      await cluster.stop()
    }
  }, TEST_MS)
})

;(LONG ? describe : describe.skip)('a group of three members on three nodes', () => {
  test('has each event done though nodes and brokers are killed: none is lost, and one that is done again was handed out again', async () => {
    const operator = KeyPair.generate()
    const cluster = await DrillCluster.start(dir, operator.did)
    const clients = await Promise.all(Array.from({ length: 4 }, () => quiet(cluster.url, cluster.mesh, operator)))
    try {
      const [publisher, ...takers] = clients as [MeshClient, ...MeshClient[]]
      const stored = new Set<number>()
      /** Attempts with which each event came, by its sequence, and which numbers were done. */
      const attempts = new Map<number, number[]>()
      const done = new Set<number>()
      const members = await Promise.all(takers.map(taker => taker.group('jobs', 'packers', async ({ seq, attempt, data }) => {
        attempts.set(seq, [...attempts.get(seq) ?? [], attempt])
        await delay(5)
        done.add(Number(data))
      }, { from: 'first', ackWaitMs: 3_000, attempts: 100, backoffMs: 0, concurrency: 4 })))

      let next = 0
      const publish = async (wanted: number): Promise<void> => {
        for (const end = stored.size + wanted; stored.size < end;) {
          const number = next++
          // One whose fate nobody told may be there as well: then it is done as well.
          if (await publisher.publish('jobs', `${number}`, { timeoutMs: 5_000 }).then(() => true, () => false)) stored.add(number)
        }
      }
      const allDone = async (): Promise<void> => {
        await until('every event is done', () => [...stored].every(number => done.has(number)), WAIT_MS)
        await until('nothing is in hand', async () => {
          const [group] = await publisher.groups('jobs')
          return group?.waiting === 0 && group.inHand === 0
        }, WAIT_MS)
      }
      for (const node of cluster.nodes) {
        const publishing = publish(150)
        await until('some of it is done', () => done.size >= stored.size - 40 && stored.size > 0, WAIT_MS)
        await node.end()
        await publishing
        await cluster.heal()
      }
      await allDone()
      const again = [...attempts.values()].filter(each => each.length > 1)
      // As long as the broker that counts them lives.
      expect(again.filter(each => new Set(each).size !== each.length)).toEqual([])
      process.stdout.write(`${JSON.stringify({ stored: stored.size, done: done.size, doneAgain: again.length })}\n`)

      for (const broker of cluster.brokers) {
        const publishing = publish(100)
        await delay(100)
        await broker.end()
        await publishing
        await cluster.heal()
      }
      await allDone()
      process.stdout.write(`${JSON.stringify({ stored: stored.size, done: done.size, doneAgain: [...attempts.values()].filter(each => each.length > 1).length })}\n`)
      expect((await publisher.dlq.list()).letters).toEqual([])
      await Promise.all(members.map(member => member.close()))
    } finally {
      await Promise.all(clients.map(client => client.close()))
      await cluster.stop()
    }
  }, TEST_MS)
})
