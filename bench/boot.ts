/** `boot`: from nothing to ready, and what a node holds when it idles, beside its broker alone. */
import { setTimeout as delay } from 'node:timers/promises'
import { residentMb } from './cpu-time.ts'
import { atMost, interleave, median, Scope, type Bench, type Figure, type Ratio } from './harness.ts'
import { startBroker, startMesh } from './processes.ts'

/** How long a node is left alone before its memory is read, in ms. */
const IDLE_MS = 1_000

interface Start {
  readonly ms: number
  readonly nodeMb: number
  readonly brokerMb: number
}

export const boot: Bench = {
  name: 'boot',
  what: 'cold start of a node on an empty directory until it is ready, broker included, and its memory when idle; against nats-server alone',
  async run({ smoke, scope }) {
    const rounds = smoke ? 1 : 7
    // The first start of all reads every file from disk.
    if (!smoke) await bootNode(scope)
    const values = await interleave(rounds, { broker: () => bootBroker(scope), node: () => bootNode(scope) })
    const of = (which: 'broker' | 'node', what: keyof Start): number => median(values[which].map(start => start[what]))
    const figures: Figure[] = [
      { name: 'nats-server alone, ready', value: of('broker', 'ms'), unit: 'ms' },
      { name: 'node and its broker, ready', value: of('node', 'ms'), unit: 'ms' },
    ]
    const ratios: Ratio[] = [atMost('boot/ms', of('node', 'ms'), 1_000)]
    const idle = of('node', 'nodeMb') + of('node', 'brokerMb')
    if (Number.isFinite(idle)) {
      figures.push(
        { name: 'nats-server alone, resident', value: of('broker', 'brokerMb'), unit: 'MB' },
        { name: 'node, resident', value: of('node', 'nodeMb'), unit: 'MB' },
        { name: 'its broker, resident', value: of('node', 'brokerMb'), unit: 'MB' },
      )
      ratios.push(atMost('boot/rssMb', idle, 200))
    }
    return {
      rounds, figures, ratios,
      leftOut: ['a log to read back: every start is a first one, with genesis and self-test', 'files that are not in the page cache', ...(Number.isFinite(idle) ? [] : ['memory: this system does not tell it'])],
    }
  },
}

async function bootNode(scope: Scope): Promise<Start> {
  const own = within(scope)
  const startMs = performance.now()
  const mesh = await startMesh(own)
  const ms = performance.now() - startMs
  await delay(IDLE_MS)
  const start = { ms, nodeMb: residentMb(mesh.pid) ?? Number.NaN, brokerMb: residentMb(mesh.brokerPid) ?? Number.NaN }
  await own.close()
  return start
}

async function bootBroker(scope: Scope): Promise<Start> {
  const own = within(scope)
  const startMs = performance.now()
  const broker = await startBroker(own)
  const ms = performance.now() - startMs
  const start = { ms, nodeMb: 0, brokerMb: residentMb(broker.pid ?? 0) ?? Number.NaN }
  await own.close()
  return start
}

/** A scope of one round, that ends with the benchmark's at the latest. */
function within(scope: Scope): Scope {
  const own = new Scope()
  scope.defer(() => own.close())
  return own
}
