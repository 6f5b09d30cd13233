/** What is done to a cluster while it works: each drill once, by numbers drawn from a seed, undone by itself except for what a supervisor does. */
import { setTimeout as delay } from 'node:timers/promises'
import { execFileSync, spawnSync } from 'node:child_process'
import { readdir, stat } from 'node:fs/promises'
import path from 'node:path'
import { BROKERS } from '../../../node/cluster/plan.ts'
import type { Draw } from '../../support/draw.ts'
import type { DrillCluster } from './drill-cluster.ts'
import type { Keeper } from './keeper.ts'
import { CUTS } from './link.ts'

export const TALLIES = ['kills', 'leaderKills', 'pauses', 'cuts', 'stepdowns', 'drains', 'fullDisks'] as const
/** How often what was done: `kills` are of processes, those of a stream's leader among them, `cuts` of links. */
export type Tally = Record<(typeof TALLIES)[number], number>

export interface Drill {
  readonly name: string
  /** How often it is drawn, beside the others. */
  readonly weight: number
  readonly does: string
  /** Resolves with what was done, which may be nothing: whom it is meant for may be away. */
  readonly run: (cluster: DrillCluster, draw: Draw) => Promise<Partial<Tally>>
}

const LEADER_MS = 8_000
const LEADER_POLL_MS = 50
/** Only util-linux sets a limit on a process that runs. */
const HAS_LIMITS = spawnSync('prlimit', ['--version']).status === 0
/** What a node may write yet until its disk is full, in bytes. */
const DISK_LEFT = 20_000

export const DRILLS: readonly Drill[] = [
  { name: 'node-kill', weight: 10, does: 'kill −9 of a node in the midst of its commits', run: async ({ nodes }, draw) => kills([draw.of(nodes)]) },
  { name: 'broker-kill', weight: 8, does: 'kill −9 of a broker', run: async ({ brokers }, draw) => kills([draw.of(brokers)]) },
  { name: 'leader-kill', weight: 12, does: 'kill −9 of the broker that leads the stream of the order', run: async cluster => {
    const leader = await leaderOf(cluster)
    if (leader === undefined) return {}
    const done = await kills([leader])
    return { ...done, leaderKills: done.kills }
  } },
  { name: 'two-nodes', weight: 2, does: 'kill −9 of two nodes of three, which stay away for up to a second', run: ({ nodes }, draw) => away(two(nodes, draw), draw) },
  { name: 'two-brokers', weight: 2, does: 'kill −9 of two brokers of three, which stay away for up to a second', run: ({ brokers }, draw) => away(two(brokers, draw), draw) },
  { name: 'all-nodes', weight: 2, does: 'kill −9 of all nodes at once', run: ({ nodes }) => kills(nodes) },
  { name: 'all-brokers', weight: 1, does: 'kill −9 of all brokers at once', run: ({ brokers }) => kills(brokers) },
  { name: 'all', weight: 1, does: 'kill −9 of every node and every broker at once', run: ({ all }) => kills(all) },
  { name: 'node-pause', weight: 24, does: 'SIGSTOP of a node, SIGCONT later', run: ({ nodes }, draw) => pause(draw.of(nodes), draw) },
  { name: 'broker-pause', weight: 18, does: 'SIGSTOP of a broker, mostly a follower, SIGCONT later', run: ({ brokers }, draw) => pause(draw.of(brokers), draw) },
  { name: 'leader-pause', weight: 10, does: 'SIGSTOP of the broker that leads the stream, SIGCONT later', run: async (cluster, draw) => {
    const leader = await leaderOf(cluster)
    return leader === undefined ? {} : await pause(leader, draw)
  } },
  { name: 'node-cut', weight: 24, does: 'the links of a node to all brokers cut', run: (cluster, draw) => hold([cluster.nodeCut(draw.below(cluster.nodes.length), draw.of(CUTS))], draw) },
  { name: 'route-cut', weight: 18, does: 'the link between two brokers cut', run: (cluster, draw) => {
    const one = draw.below(BROKERS)
    return hold([cluster.routeCut(one, (one + 1) % BROKERS, draw.of(CUTS))], draw)
  } },
  { name: 'leader-apart', weight: 8, does: 'the links between the stream\'s leader and both other brokers cut', run: async (cluster, draw) => {
    const leader = await cluster.leader()
    if (leader === undefined) return {}
    const kind = draw.of(CUTS)
    return await hold([1, 2].map(step => cluster.routeCut(leader, (leader + step) % BROKERS, kind)), draw)
  } },
  { name: 'stepdown', weight: 6, does: 'the stream\'s leader made to step down', run: async cluster => ({ stepdowns: await cluster.stepDown() ? 1 : 0 }) },
  { name: 'drain', weight: 4, does: 'a node drained by SIGTERM and started again', run: async ({ nodes }, draw) => ({ drains: await draw.of(nodes).end('SIGTERM') ? 1 : 0 }) },
  { name: 'full-disk', weight: 2, does: 'a node whose disk takes no more, which stops by itself and is started again', run: (cluster, draw) => fillDisk(cluster, draw.below(cluster.nodes.length)) },
]

/** The drill of that name. */
export function drillOf(name: string): Drill {
  const found = DRILLS.find(drill => drill.name === name)
  if (found === undefined) throw new Error(`there is no drill ${name}`)
  return found
}

/** One of them, by their weights. */
export function drawDrill(draw: Draw): Drill {
  let at = draw.below(DRILLS.reduce((sum, { weight }) => sum + weight, 0))
  return DRILLS.find(({ weight }) => (at -= weight) < 0) as Drill
}

/** Each node drained and started again in turn, then each broker, which hands over what it leads before: the next when the last one serves. */
export async function rollingRestart(cluster: DrillCluster): Promise<Partial<Tally>> {
  let drains = 0
  for (const node of cluster.nodes) {
    drains += await node.end('SIGTERM') ? 1 : 0
    await cluster.heal()
  }
  for (const broker of cluster.brokers) {
    await cluster.asking(async api => {
      await api.level(60_000)
      await api.stepDown(broker.name, 60_000)
    })
    drains += await broker.end('SIGINT') ? 1 : 0
    await cluster.heal()
  }
  return { drains }
}

async function kills(whom: readonly Keeper[]): Promise<{ readonly kills: number }> {
  const done = await Promise.all(whom.map(each => each.end()))
  return { kills: done.filter(Boolean).length }
}

async function away(whom: readonly Keeper[], draw: Draw): Promise<Partial<Tally>> {
  const ms = 100 + draw.below(900)
  const done = await Promise.all(whom.map(each => each.hold()))
  await delay(ms)
  for (const each of whom) each.release()
  return { kills: done.filter(Boolean).length }
}

async function pause(whom: Keeper, draw: Draw): Promise<Partial<Tally>> {
  const ms = holdMs(draw)
  if (!whom.pause()) return {}
  await delay(ms)
  whom.resume()
  return { pauses: 1 }
}

async function hold(mends: readonly (() => void)[], draw: Draw): Promise<Partial<Tally>> {
  await delay(holdMs(draw))
  for (const mend of mends) mend()
  return { cuts: 1 }
}

/** Mostly too short for anybody to give up, now and then longer than brokers and nodes wait. */
function holdMs(draw: Draw): number {
  const chance = draw.below(20)
  if (chance === 0) return 4_000 + draw.below(3_000)
  return chance < 4 ? 400 + draw.below(1_200) : 20 + draw.below(380)
}

function two(of: readonly Keeper[], draw: Draw): Keeper[] {
  return draw.shuffle([...of]).slice(0, 2)
}

/** Elections take seconds. */
async function leaderOf(cluster: DrillCluster): Promise<Keeper | undefined> {
  const end = performance.now() + LEADER_MS
  for (;;) {
    const leader = await cluster.leader()
    if (leader !== undefined) return cluster.brokers[leader]
    if (performance.now() > end) return undefined
    await delay(LEADER_POLL_MS)
  }
}

/** A limit on the size of files stands in for a full disk: the write fails in the same place. */
async function fillDisk(cluster: DrillCluster, node: number): Promise<Partial<Tally>> {
  const keeper = cluster.nodes[node] as Keeper
  const db = path.join(cluster.dirs[node] as string, 'state', 'log', 'db')
  if (!HAS_LIMITS || keeper.pid === undefined || !keeper.isUp) return {}
  const names = (await readdir(db)).filter(name => name.endsWith('.log'))
  const sizes = await Promise.all(names.map(name => stat(path.join(db, name)).then(({ size }) => size, () => 0)))
  try {
    execFileSync('prlimit', ['--pid', String(keeper.pid), `--fsize=${Math.max(0, ...sizes) + DISK_LEFT}`], { stdio: 'ignore' })
  } catch {
    // It ended meanwhile.
    return {}
  }
  return { fullDisks: 1 }
}
