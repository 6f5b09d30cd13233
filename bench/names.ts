/** `names`: resolving a name among a million beside one among a thousand. */
import { atLeast, interleave, median, medianRatio, type Bench, type Figure } from './harness.ts'
import { startDriver } from './processes.ts'

export const names: Bench = {
  name: 'names',
  what: 'resolving addresses by name where there are 1,000,000 names; against the same with 1,000 names',
  async run({ smoke, log, scope }) {
    const rounds = smoke ? 1 : 5
    const sizes = smoke ? { few: 100, many: 1_000 } : { few: 1_000, many: 1_000_000 }
    const count = smoke ? 1_000 : 20_000
    log(`making ${sizes.many} names`)
    const few = await startDriver(scope, 'names', { names: sizes.few })
    const many = await startDriver(scope, 'names', { names: sizes.many })
    const subjects = {
      few: async () => (await few.run({ count, inFlight: 1 })).perSecond,
      many: async () => (await many.run({ count, inFlight: 1 })).perSecond,
    }
    for (const warmUp of Object.values(subjects)) await warmUp()
    const values = await interleave(rounds, subjects)
    return {
      rounds,
      figures: (['few', 'many'] as const).map((size): Figure => ({ name: `resolve, ${sizes[size]} names`, value: median(values[size]), unit: 'names/s' })),
      ratios: [atLeast('names/growth', medianRatio(values.many, values.few), 0.8)],
      leftOut: [
        'what is remembered of an address: each is new to the resolver', 'both sides ask for the same number of distinct names, 1,000, spread over all there are',
        'registering them: the records are put in place as a log would have left them', 'records that nobody asked for before: those 1,000 are at hand from the first round on',
      ],
    }
  },
}
