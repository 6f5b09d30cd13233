/** `growth`: reads and writes of a contract with a million keys beside one with a thousand, and how long a node takes to open such a log. */
import { KeyPair } from '../cmtp/identity/keys.ts'
import { atLeast, atMost, interleave, median, medianRatio, Scope, type Bench, type Figure } from './harness.ts'
import { scratch, startDriver } from './processes.ts'
import { compileStore } from './store-contract.ts'

const COUNTS = { read: 50_000, write: 20_000 } as const

export const growth: Bench = {
  name: 'growth',
  what: 'views and transactions of a contract with 1,000,000 keys, and opening its log again; against the same with 1,000 keys',
  async run({ smoke, log, scope }) {
    const rounds = smoke ? 1 : 5
    const sizes = smoke ? { few: 100, many: 1_000 } : { few: 1_000, many: 1_000_000 }
    const counts = smoke ? { read: 1_000, write: 500 } : COUNTS
    const module = await compileStore()
    const options = async (keys: number): Promise<{ dir: string, seed: Uint8Array, module: Uint8Array, keys: number }> =>
      ({ dir: await scratch(scope), seed: KeyPair.generate().exportSeed(), module, keys })
    const [few, many] = [await options(sizes.few), await options(sizes.many)]

    // Of its own, since it ends before the log is opened again.
    const filled = new Scope()
    scope.defer(() => filled.close())
    const small = await startDriver(scope, 'growth', few)
    log(`writing ${sizes.many} keys`)
    const large = await startDriver(filled, 'growth', many)
    const subjects = Object.fromEntries(([['few', small], ['many', large]] as const).flatMap(([size, driver]) =>
      (['read', 'write'] as const).map(way => [
        `${way}s, ${sizes[size]} keys`, async () => (await driver.run({ count: counts[way], inFlight: 1, way })).perSecond,
      ])))
    for (const warmUp of Object.values(subjects)) await warmUp()
    const values = await interleave(rounds, subjects)
    await filled.close()

    const reopenMs: number[] = []
    for (let round = 0; round < Math.min(rounds, 3); round++) {
      const once = new Scope()
      scope.defer(() => once.close())
      const driver = await startDriver(once, 'reopen', many)
      reopenMs.push(1_000 / (await driver.run({ count: 1, inFlight: 1 })).perSecond)
      await once.close()
    }
    const ratioOf = (way: string): number => medianRatio(values[`${way}, ${sizes.many} keys`] ?? [], values[`${way}, ${sizes.few} keys`] ?? [])
    return {
      rounds,
      figures: [
        ...Object.entries(values).map(([name, perSecond]): Figure => ({ name, value: median(perSecond), unit: `${name.split('s,', 1)[0] ?? ''}s/s` })),
        { name: `open a log of ${sizes.many} keys`, value: median(reopenMs), unit: 'ms' },
      ],
      ratios: [atLeast('growth/reads', ratioOf('reads'), 0.8), atLeast('growth/writes', ratioOf('writes'), 0.8), atMost('growth/reopenMs', median(reopenMs), 2_000)],
      leftOut: [
        'client, broker, tokens: State is asked by its own process', 'both sides ask for the same number of distinct keys, 1,000, spread over all there are',
        'opening is State\'s alone: log, contracts and order, not the broker nor the self-test of a node', 'a file cache that is cold: the log was just written',
      ],
    }
  },
}
