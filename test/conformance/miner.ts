/**
 * What every source of the miner keeps to (services/miner/provider.ts). A test names requests by their address; how one gets
 * to the source, `put` knows.
 */
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals'
import type { MinerEntry, MinerHandler, MinerOutcome, MinerSource } from '../../services/miner/provider.ts'

export interface MinerUnderTest {
  /** A source over the one place, not started yet. One made after another was stopped is its successor. */
  create(): MinerSource
  /** Puts requests of these addresses there, in order. Called when a source has been started there at least once. */
  put(...fqmns: string[]): Promise<void>
  /** Lets go of the place. Called when every source is stopped. */
  dispose(): Promise<void>
}

const address = (n: number): string => `0xS:0x001:f${n}`
const addresses = (from: number, to: number): string[] => Array.from({ length: to - from + 1 }, (_, i) => address(from + i))
const addressOf = (entry: MinerEntry): string => ('fqmn' in entry ? entry.fqmn : Buffer.from(entry.frame).toString())

/** What a handler was given, in order; `until` resolves when a condition on that holds. */
function recorder(answer: (fqmn: string, call: number) => MinerOutcome | Promise<MinerOutcome> = () => 'done'): {
  handler: MinerHandler, calls: string[], until(holds: (calls: readonly string[]) => boolean): Promise<void>
} {
  const calls: string[] = []
  let waiting: (() => void)[] = []
  return {
    calls,
    until: async holds => { while (!holds(calls)) await new Promise<void>(resolve => { waiting.push(resolve) }) },
    handler: async entry => {
      const fqmn = addressOf(entry)
      calls.push(fqmn)
      const outcome = answer(fqmn, calls.filter(call => call === fqmn).length)
      for (const wake of waiting.splice(0)) wake()
      waiting = []
      return outcome
    },
  }
}

const turn = (): Promise<void> => new Promise(resolve => { setImmediate(resolve) })

export function minerConformance(name: string, open: () => Promise<MinerUnderTest>): void {
  describe(`the miner source ${name}`, () => {
    let place: MinerUnderTest
    let sources: MinerSource[]

    beforeEach(async () => {
      place = await open()
      sources = []
      // Once there was a source, its place is there to put something into.
      await (await started(async () => 'retry')).stop()
    })
    afterEach(async () => {
      for (const source of sources) await source.stop()
      await place.dispose()
    })

    async function started(handler: MinerHandler): Promise<MinerSource> {
      const source = place.create()
      sources.push(source)
      await source.start(handler)
      return source
    }

    const untilStats = async (source: MinerSource, holds: (stats: ReturnType<MinerSource['stats']>) => boolean): Promise<void> => {
      while (!holds(source.stats())) await turn()
    }

    test('has its own name, and a unit for what waits', async () => {
      const source = await started(async () => 'done')
      expect(source.name).toBe(name)
      expect(['entries', 'bytes']).toContain(source.stats().lagUnit)
    })

    test('hands over what was there before it and what comes later: each once, in order, and then forgets it', async () => {
      await place.put(...addresses(1, 3))
      const { handler, calls, until } = recorder()
      const source = await started(handler)
      await until(({ length }) => length === 3)
      await place.put(...addresses(4, 5))
      await until(({ length }) => length === 5)
      await untilStats(source, ({ done, inFlight, lag }) => done === 5 && inFlight === 0 && lag === 0)
      expect(calls).toEqual(addresses(1, 5))
      expect(source.stats()).toMatchObject({ done: 5, retried: 0, abandoned: 0, garbage: 0, reports: [] })
      await source.stop()

      const next = recorder()
      const successor = await started(next.handler)
      await place.put(address(6))
      await next.until(({ length }) => length === 1)
      expect(next.calls).toEqual([address(6)])
      await successor.stop()
    })

    test('starts once and stops once, however often it is asked', async () => {
      const { handler, calls, until } = recorder()
      const source = await started(handler)
      expect(source.start(() => { throw new Error('asked twice') })).toBe(source.start(handler))
      await place.put(address(1))
      await until(({ length }) => length === 1)
      await Promise.all([source.stop(), source.stop()])
      await source.stop()
      await place.put(address(2))
      for (let i = 0; i < 10; i++) await turn()
      expect(calls).toEqual([address(1)])
    })

    test('brings again what is to be tried again, and holds up nothing else for it', async () => {
      const { handler, calls, until } = recorder((fqmn, call) => (fqmn === address(1) && call === 1 ? 'retry' : 'done'))
      const source = await started(handler)
      await place.put(...addresses(1, 3))
      await until(seen => seen.filter(fqmn => fqmn === address(1)).length === 2 && seen.includes(address(3)))
      await untilStats(source, ({ done }) => done === 3)
      expect([...calls].sort()).toEqual([address(1), ...addresses(1, 3)])
      expect(source.stats()).toMatchObject({ done: 3, retried: 1, abandoned: 0 })
    })

    test('counts and reports what its handler calls garbage, with its place and the reason, and does not bring it again', async () => {
      const { handler, calls, until } = recorder(fqmn => (fqmn === address(2) ? { garbage: 'no such thing' } : 'done'))
      const source = await started(handler)
      await place.put(...addresses(1, 3))
      await until(({ length }) => length === 3)
      await untilStats(source, ({ done, garbage }) => done === 2 && garbage === 1)
      expect(source.stats().reports).toEqual([{ place: expect.stringMatching(/\d/), reason: expect.stringContaining('no such thing') }])
      expect(calls).toEqual(addresses(1, 3))
    })

    test('waits at its stop for what is under way, and leaves to its successor what was not done', async () => {
      let release: (outcome: MinerOutcome) => void = () => undefined
      const { handler, until } = recorder(fqmn => (fqmn === address(1) ? 'done' : new Promise(resolve => { release = resolve })))
      const source = await started(handler)
      await place.put(...addresses(1, 2))
      await until(({ length }) => length === 2)
      await untilStats(source, ({ done }) => done === 1)
      let stopped = false
      const stopping = source.stop().then(() => { stopped = true })
      for (let i = 0; i < 10; i++) await turn()
      expect(stopped).toBe(false)
      release('retry')
      await stopping

      const next = recorder()
      await started(next.handler)
      await next.until(({ length }) => length === 1)
      expect(next.calls).toEqual([address(2)])
    })

    test('takes no more in than it may have under way, and the rest as there is room', async () => {
      const releases: (() => void)[] = []
      const { handler, calls, until } = recorder(() => new Promise(resolve => { releases.push(() => { resolve('done') }) }))
      const source = await started(handler)
      await place.put(...addresses(1, 400))
      await until(({ length }) => length >= 50)
      for (let i = 0; i < 50; i++) await turn()
      const { inFlight, lag } = source.stats()
      expect(inFlight).toBeLessThan(400)
      expect(inFlight).toBe(calls.length)
      expect(lag).toBeGreaterThan(0)
      for (let done = 0; done < 400; done++) {
        await until(() => releases.length > 0)
        releases.shift()?.()
      }
      await untilStats(source, ({ done, inFlight: left }) => done === 400 && left === 0)
      expect([...calls].sort()).toEqual(addresses(1, 400).sort())
    })
  })
}
