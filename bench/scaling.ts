/**
 * `scaling`: what `docs/scaling.md` reckons with, measured: one, two and three routers of a queue group, one, two and four logs side by side,
 * a leaf node between client and mesh. It has no goal and gives no ratio: with more processes than cores only CPU says something.
 */
import { KeyPair } from '../client/index.ts'
import { CpuMeter } from './cpu-time.ts'
import { interleave, median, Scope, type Bench, type Figure } from './harness.ts'
import { IN_FLIGHT } from './mix.ts'
import { prepare, registerMixName, scratch, startBroker, startDriver, type DriverProcess } from './processes.ts'
import { startLeaf, startRouters } from './scaling-processes.ts'
import { compileStore, KEYS } from './store-contract.ts'

/** Writes under way in each log, and in each mesh. With fewer its batches were smaller, and a write dearer for that. */
const WRITES = 512

/** Logs, and the processes that they are spread over. */
const LAYOUTS = [[1, 1], [2, 1], [4, 1], [2, 2], [4, 4]] as const

/** Something whose operations a round counts, and every process that works for it. */
interface Subject {
  readonly meter: CpuMeter
  readonly unit: 'request' | 'write'
  /** Resolves with operations a second, or with the median of their times in µs. */
  readonly round: () => Promise<number>
  readonly says: 'perSecond' | 'p50'
}

export const scaling: Bench = {
  name: 'scaling',
  what: 'the parts that growing is reckoned from: 1, 2 and 3 nodes at one server, 1, 2 and 4 logs in one process and in several, and a leaf node',
  async run({ smoke, log, scope }) {
    const rounds = smoke ? 1 : 5
    const counts = smoke ? { requests: 500, writes: 200, single: 50 } : { requests: 10_000, writes: 4_000, single: 300 }
    const figures: Figure[] = []
    /** Its processes are gone before the next part's are started. */
    const part = async (start: (own: Scope) => Promise<Record<string, Subject>>): Promise<void> => {
      const own = new Scope()
      scope.defer(() => own.close())
      figures.push(...await measured(await start(own), rounds))
      await own.close()
    }
    const module = await compileStore()
    await part(async own => {
      const found: Record<string, Subject> = {}
      for (const nodes of smoke ? [1] : [1, 2, 3]) {
        log(`starting ${nodes} router${nodes === 1 ? '' : 's'}`)
        Object.assign(found, await routers(own, nodes, counts, module))
      }
      return found
    })
    log('starting the logs')
    await part(own => logs(own, smoke ? [[2, 1]] : LAYOUTS, counts.writes, module))
    return {
      rounds, figures,
      ratios: [],
      leftOut: [
        'what more cores would do: all processes share this machine\'s, so a second router or log takes from the first what it gets',
        'the way to the right log: each is written to by its own process, and nothing goes from one to another',
        'logs with more than one copy, and with clients: routers, sessions, quorums',
        'networks, super-clusters',
      ],
    }
  },
}

async function measured(subjects: Readonly<Record<string, Subject>>, rounds: number): Promise<Figure[]> {
  // The first round of each is for its compilers.
  if (rounds > 1) for (const { round } of Object.values(subjects)) await round()
  for (const { meter } of Object.values(subjects)) meter.reset()
  const values = await interleave(rounds, Object.fromEntries(Object.entries(subjects).map(([name, { round }]) => [name, round])))
  return Object.entries(subjects).flatMap(([name, { meter, unit, says }]): Figure[] => [
    { name, value: median(values[name] ?? []), unit: says === 'p50' ? 'µs' : `${unit}s/s` },
    ...(says === 'p50' ? [] : meter.perOperation()).map(([process, us]) => ({ name: `${name}: CPU of ${process}`, value: us, unit: `µs/${unit}` })),
  ])
}

interface Counts { readonly requests: number, readonly writes: number, readonly single: number }

/** Reads of so many routers, and writes that each of these nodes executes. */
async function routers(scope: Scope, nodes: number, { requests, writes, single }: Counts, module: Uint8Array): Promise<Record<string, Subject>> {
  const mesh = await startRouters(scope, nodes)
  await registerMixName(mesh)
  const driver = await startDriver(scope, 'mix', { ...mesh.access, coalesce: false })
  const name = `${nodes} router${nodes === 1 ? '' : 's'}`
  // For each as many as for one: what arrives at once is read and answered at once, and a request is the cheaper for it.
  const [count, inFlight] = [requests * nodes, IN_FLIGHT * nodes]
  const pids = { client: driver.pid, server: mesh.serverPid, ...Object.fromEntries(mesh.nodePids.map((pid, i) => [`router ${i + 1}`, pid])) }
  const { address } = await prepare(mesh, client => client.deploy({ wasm: module, name: 'store', version: '1.0.0' }))
  const writer = await startDriver(scope, 'writes', { ...mesh.access, contract: address, keys: KEYS })
  const found = {
    [name]: subject('request', pids, count, async () => (await driver.run({ count, inFlight })).perSecond),
    [`${name}, writes`]: subject('write', { ...pids, client: writer.pid }, writes, async () => (await writer.run({ count: writes, inFlight: WRITES })).perSecond),
  }
  if (nodes > 1) return found
  const leaf = await startLeaf(scope, mesh)
  const far = await startDriver(scope, 'mix', { ...mesh.access, url: leaf.url, coalesce: false })
  const one = (by: DriverProcess): Subject => ({ ...subject('request', {}, single, async () => (await by.run({ count: single, inFlight: 0 })).p50Us), says: 'p50' })
  return {
    ...found,
    'over a leaf node': subject('request', { ...pids, client: far.pid, leaf: leaf.pid }, count, async () => (await far.run({ count, inFlight })).perSecond),
    'one in flight, p50': one(driver),
    'one in flight over a leaf node, p50': one(far),
  }
}

async function logs(scope: Scope, layouts: readonly (readonly [number, number])[], each: number, module: Uint8Array): Promise<Record<string, Subject>> {
  const broker = await startBroker(scope)
  const found: Record<string, Subject> = {}
  for (const [partitions, processes] of layouts) {
    const drivers = await Promise.all(Array.from({ length: processes }, async (_, i) => startDriver(scope, 'partitions', {
      login: { url: broker.url, ...broker.core }, dir: await scratch(scope), seed: KeyPair.generate().exportSeed(), module, name: `LOG_${partitions}_${processes}_${i}`,
      partitions: partitions / processes, keys: KEYS, inFlight: WRITES * partitions / processes,
    })))
    const count = each * partitions
    const pids = { server: broker.pid ?? 0, ...Object.fromEntries(drivers.map(({ pid }, i) => [`process ${i + 1}`, pid])) }
    const name = `${partitions} log${partitions === 1 ? '' : 's'} in ${processes} process${processes === 1 ? '' : 'es'}`
    found[name] = subject('write', pids, count, async () => {
      const beganMs = performance.now()
      await Promise.all(drivers.map(driver => driver.run({ count: count / processes, inFlight: 1 })))
      return count * 1_000 / (performance.now() - beganMs)
    })
  }
  return found
}

function subject(unit: Subject['unit'], pids: Readonly<Record<string, number>>, count: number, work: () => Promise<number>): Subject {
  const meter = new CpuMeter(pids)
  return { meter, unit, says: 'perSecond', round: () => meter.during(count, work) }
}
