/**
 * `reads`: views inside the node beside gets of the same keys from Hyperbee, like with like. What is not cached on the mesh's side (its view cache is off)
 * stands beside what Hyperbee has not cached: of 100,000 keys, more than its caches have room for, which makes each get read the log. What is cached
 * stands beside 10,000 keys that Hyperbee has in memory. A mesh keeps its state in memory whatever its size, so the figure across, uncached views
 * beside gets from memory, is printed as well.
 */
import { atLeast, interleave, median, medianRatio, type Bench, type Figure, type Ratio } from './harness.ts'
import type { ViewsWay } from './drivers/views.ts'
import { obtainPeer } from './peers.ts'
import { scratch, startDriver, type DriverProcess } from './processes.ts'
import { compileStore, KEYS } from './store-contract.ts'

const WAYS: Readonly<Record<ViewsWay, string>> = { service: 'State service', endpoint: 'its endpoint', door: 'front door' }
/** Reads in a round: enough for a third of a second or so on every way. */
const COUNTS = { uncached: { service: 200_000, endpoint: 20_000, door: 20_000 }, cached: { service: 1_000_000, endpoint: 50_000, door: 30_000 } } as const
const SMOKE_COUNT = 2_000
/** Hyperbee keeps 65,536 entries, two of them for a key that it was asked for. */
const MANY_KEYS = 100_000
const GETS = 5_000

export const reads: Bench = {
  name: 'reads',
  what: 'views of a contract inside the node, uncached and cached; against Hyperbee gets of the same keys, from its log and from its cache',
  async run({ smoke, log, scope }) {
    const rounds = smoke ? 1 : 5
    const [few, many] = smoke ? [500, 1_000] : [KEYS, MANY_KEYS]
    const missing = await obtainPeer('hyperbee', log)
    const module = await compileStore()
    const meshOf = async (keys: number, cache: boolean): Promise<DriverProcess> => {
      log(`building a mesh with ${keys} keys`)
      return await startDriver(scope, 'views', { dir: await scratch(scope), module, keys, cache })
    }
    const meshes = { uncached: await meshOf(many, false), 'uncached, few keys': await meshOf(few, false), cached: await meshOf(few, true) }
    const subjects: Record<string, () => Promise<number>> = {}
    if (missing === undefined) {
      for (const [name, keys] of [['log', many], ['cache', few]] as const) {
        log(`putting ${keys} keys into Hyperbee`)
        const bee = await startDriver(scope, 'hyperbee', { dir: await scratch(scope), does: 'get', keys })
        // Each key once: all are in its cache when the rounds begin.
        if (name === 'cache') await bee.run({ count: keys, inFlight: 1 })
        subjects[`Hyperbee get, from its ${name}`] = async () => (await bee.run({ count: smoke ? 500 : GETS, inFlight: 1 })).perSecond
      }
    }
    const ask = (of: keyof typeof meshes, way: ViewsWay): void => {
      const count = smoke ? SMOKE_COUNT : COUNTS[of === 'cached' ? 'cached' : 'uncached'][way]
      subjects[`${of}, ${WAYS[way]}`] = async () => (await meshes[of].run({ count, inFlight: 1, way })).perSecond
    }
    for (const way of Object.keys(WAYS) as ViewsWay[]) {
      ask('uncached', way)
      ask('cached', way)
    }
    ask('uncached, few keys', 'service')
    for (const warmUp of Object.values(subjects)) await warmUp()
    const values = await interleave(rounds, subjects)
    const over = (of: keyof typeof meshes, bee: 'log' | 'cache'): number =>
      medianRatio(values[`${of}, ${WAYS.service}`] ?? [], values[`Hyperbee get, from its ${bee}`] ?? [])
    const across: Figure[] = missing === undefined ? [{ name: 'uncached, few keys, over gets from the cache', value: over('uncached, few keys', 'cache'), unit: '×' }] : []
    const ratios: Ratio[] = missing === undefined
      ? [atLeast('reads/hyperbee', over('uncached', 'log'), 50), atLeast('reads/cached', over('cached', 'cache'), 200)]
      : []
    return {
      rounds,
      figures: [...Object.entries(values).map(([name, perSecond]): Figure => ({ name, value: median(perSecond), unit: 'reads/s' })), ...across],
      ratios,
      leftOut: [
        `${few} keys where it says cached, from its cache or few, else ${many}; asked for in their order, each round going on where the last one of Hyperbee ended`,
        'the ratios are those of the State service, which is handed one call again and again and confirms the caller on each; its endpoint also checks the token, authorises and adds a layer, the front door also decodes, seals and encodes',
        'client and broker', ...(missing === undefined ? [] : [`the comparison with Hyperbee: ${missing}`]),
      ],
    }
  },
}
