/** `reads`: views inside the node, uncached and cached, beside gets of the same keys from Hyperbee. */
import { atLeast, interleave, median, medianRatio, type Bench, type Figure, type Ratio } from './harness.ts'
import type { ViewsWay } from './drivers/views.ts'
import { obtainPeer } from './peers.ts'
import { scratch, startDriver } from './processes.ts'
import { compileStore, KEYS } from './store-contract.ts'

const WAYS: Readonly<Record<ViewsWay, string>> = { service: 'State service', endpoint: 'its endpoint', door: 'front door' }
/** Reads in a round: enough for a third of a second or so on every way. */
const COUNTS = { uncached: { service: 200_000, endpoint: 20_000, door: 20_000 }, cached: { service: 1_000_000, endpoint: 50_000, door: 30_000 } } as const
const SMOKE_COUNT = 2_000

export const reads: Bench = {
  name: 'reads',
  what: 'views of a contract inside the node, uncached and cached; against Hyperbee gets of the same keys',
  async run({ smoke, log, scope }) {
    const rounds = smoke ? 1 : 5
    const keys = smoke ? 1_000 : KEYS
    const missing = await obtainPeer('hyperbee', log)
    const module = await compileStore()
    log(`building two meshes with ${keys} keys`)
    const uncached = await startDriver(scope, 'views', { dir: await scratch(scope), module, keys, cache: false })
    const cached = await startDriver(scope, 'views', { dir: await scratch(scope), module, keys, cache: true })
    const bee = missing === undefined ? await startDriver(scope, 'hyperbee', { dir: await scratch(scope), does: 'get', keys }) : undefined

    const subjects: Record<string, () => Promise<number>> = {}
    if (bee !== undefined) subjects['Hyperbee get'] = async () => (await bee.run({ count: smoke ? 500 : 5_000, inFlight: 1 })).perSecond
    for (const [way, name] of Object.entries(WAYS) as [ViewsWay, string][]) {
      subjects[`uncached, ${name}`] = async () => (await uncached.run({ count: smoke ? SMOKE_COUNT : COUNTS.uncached[way], inFlight: 1, way })).perSecond
      subjects[`cached, ${name}`] = async () => (await cached.run({ count: smoke ? SMOKE_COUNT : COUNTS.cached[way], inFlight: 1, way })).perSecond
    }
    for (const warmUp of Object.values(subjects)) await warmUp()
    const values = await interleave(rounds, subjects)
    const gets = values['Hyperbee get']
    const against = (name: string, goal: number): Ratio[] => (gets === undefined ? [] : [
      atLeast(name, medianRatio(values[`${name === 'reads/cached' ? 'cached' : 'uncached'}, ${WAYS.service}`] ?? [], gets), goal),
    ])
    return {
      rounds,
      figures: Object.entries(values).map(([name, perSecond]): Figure => ({ name, value: median(perSecond), unit: 'reads/s' })),
      ratios: [...against('reads/hyperbee', 50), ...against('reads/cached', 200)],
      leftOut: [
        'the ratios are those of the State service, which is handed one call again and again and confirms the caller on each; its endpoint also checks the token, authorises and adds a layer, the front door also decodes, seals and encodes',
        'client and broker', ...(missing === undefined ? [] : [`the comparison with Hyperbee: ${missing}`]),
      ],
    }
  },
}
