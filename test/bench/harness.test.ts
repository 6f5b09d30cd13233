import { describe, expect, test } from '@jest/globals'
import { BENCHES } from '../../bench/catalogue.ts'
import { helpText, readCommandLine, type Asked, type Told } from '../../bench/command-line.ts'
import {
  atLeast, atMost, inParallel, interleave, latencies, median, medianRatio, quantile, Scope, type Bench, type BenchResult,
} from '../../bench/harness.ts'
import type { Machine } from '../../bench/machine.ts'
import { formatted, jsonText, reportOf, resultLines } from '../../bench/report.ts'
import { SteadyLoad, type Phase } from '../../bench/steady-load.ts'
import type { MeshClient } from '../../client/index.ts'

describe('figures', () => {
  test('a median is the middle of an odd number of values, in whatever order they came, and halves the gap of an even one', () => {
    expect(median([9, 1, 5])).toBe(5)
    expect(median([10, 1, 2, 9])).toBe(5.5)
    expect(median([])).toBeNaN()
  })

  test('a quantile lies between the closest ranks', () => {
    const values = Array.from({ length: 101 }, (_, i) => 100 - i)
    expect(quantile(values, 0)).toBe(0)
    expect(quantile(values, 0.99)).toBe(99)
    expect(quantile([0, 10], 0.25)).toBe(2.5)
    expect(values[0]).toBe(100)
  })

  test('a ratio is the median of the rounds\' ratios, not the ratio of the medians', () => {
    // The machine was ten times as fast in one round: its ratio counts as much as any other's.
    expect(medianRatio([50, 600, 70], [100, 1_000, 100])).toBe(0.6)
    expect(() => medianRatio([1], [1, 2])).toThrow('1 rounds cannot be held against 2')
  })

  test('a goal is met when it is just reached, from below or from above', () => {
    expect(atLeast('routing/raw', 0.75, 0.75)).toEqual({ name: 'routing/raw', value: 0.75, goal: 0.75, met: true })
    expect(atLeast('routing/raw', 0.7499, 0.75).met).toBe(false)
    expect(atMost('boot/ms', 1_000, 1_000).met).toBe(true)
    expect(atMost('boot/ms', 1_000.1, 1_000).met).toBe(false)
    expect(atLeast('routing/raw', Number.NaN, 0.75).met).toBe(false)
  })
})

describe('rounds', () => {
  test('subjects take turns, each once a round', async () => {
    const order: string[] = []
    const subject = (name: string, value: number) => async (): Promise<number> => {
      order.push(name)
      return value + order.length
    }
    expect(await interleave(3, { a: subject('a', 0), b: subject('b', 100) })).toEqual({ a: [1, 3, 5], b: [102, 104, 106] })
    expect(order).toEqual(['a', 'b', 'a', 'b', 'a', 'b'])
  })

  test('no more than the given number of operations is in flight, and each is done once', async () => {
    let now = 0
    let most = 0
    const done: number[] = []
    await inParallel(20, 4, async index => {
      most = Math.max(most, ++now)
      await Promise.resolve()
      now--
      done.push(index)
    })
    expect(most).toBe(4)
    expect(done.sort((a, b) => a - b)).toEqual(Array.from({ length: 20 }, (_, i) => i))
    await expect(inParallel(3, 2, async () => { throw new Error('refused') })).rejects.toThrow('refused')
  })

  test('latencies are of one operation after another', async () => {
    let under = 0
    const times = await latencies(5, async () => {
      expect(++under).toBe(1)
      await Promise.resolve()
      under--
    })
    expect(times).toHaveLength(5)
    expect(times.every(time => time >= 0)).toBe(true)
  })
})

test('a steady load of more writes than a mesh knows by id is not judged', async () => {
  let count = 0
  const call = async (): Promise<object> => ({ id: String(++count), json: () => 0 })
  const batch = async (entries: readonly object[]): Promise<object[]> => entries.map(() => ({ ok: true, json: () => ({ status: 200 }) }))
  const client = { resent: 0, call, batch, count: async () => 0 }
  const load = new SteadyLoad({ clients: [client as unknown as MeshClient], perSecond: 1 })
  await load.start('one')
  await load.stop()
  const [phase] = load.phases as [Phase]
  phase.writes = 65_536 - 3
  expect(await load.verdict(3)).toMatchObject({ lost: 0 })
  phase.writes++
  await expect(load.verdict(3)).rejects.toThrow('65537 writes cannot be looked up: a mesh knows the last 65536 by id. Ask for fewer a second, or for a shorter time.')
})

describe('a scope', () => {
  test('undoes everything, the newest first, past a failure that it then throws', async () => {
    const undone: string[] = []
    const scope = new Scope()
    scope.defer(async () => undone.push('first'))
    scope.defer(async () => { throw new Error('cannot be undone') })
    scope.defer(async () => undone.push('last'))
    await expect(scope.close()).rejects.toThrow('cannot be undone')
    expect(undone).toEqual(['last', 'first'])
    await scope.close()
    expect(undone).toHaveLength(2)
  })
})

const bench = (name: string): Bench => ({ name, what: `measures ${name}`, run: async () => { throw new Error('not run here') } })
const KNOWN = [bench('routing'), bench('routing --wide'), bench('routing --batch'), bench('latency')]

function asked(...args: string[]): readonly string[] {
  return (readCommandLine(args, KNOWN) as Asked).benches.map(({ name }) => name)
}

describe('the command line', () => {
  test('without a name it tells which benchmarks there are', () => {
    const told = readCommandLine([], KNOWN) as Told
    expect(told).toEqual({ text: helpText(KNOWN), status: 0 })
    for (const { name, what } of KNOWN) expect(told.text).toContain(`${name.padEnd('routing --batch'.length)}  ${what}`)
    expect(readCommandLine(['--list'], KNOWN)).toEqual({ text: 'routing\nrouting --wide\nrouting --batch\nlatency\n', status: 0 })
  })

  test('a form of routing stands for itself, with or without the others', () => {
    expect(asked('routing')).toEqual(['routing'])
    expect(asked('routing', '--wide')).toEqual(['routing --wide'])
    expect(asked('latency', 'routing', '--batch', '--wide')).toEqual(['latency', 'routing --wide', 'routing --batch'])
    expect(asked('latency', 'latency')).toEqual(['latency'])
  })

  test('a smoke run without a name is of all, with a name of that one', () => {
    expect(asked('--smoke')).toEqual(KNOWN.map(({ name }) => name))
    expect(asked('--smoke', 'latency')).toEqual(['latency'])
    expect(readCommandLine(['latency', '--smoke', '--json', 'out.json'], KNOWN)).toMatchObject({ smoke: true, json: 'out.json' })
    expect(readCommandLine(['latency'], KNOWN)).toMatchObject({ smoke: false, json: undefined })
  })

  test.each([
    [['throughput'], 'there is no benchmark throughput'],
    [['latency', '--wide'], '--wide is a form of routing'],
    [['--fast'], 'Unknown option \'--fast\''],
  ])('%j is refused with the benchmarks that there are', (args, reason) => {
    const told = readCommandLine(args, KNOWN) as Told
    expect(told.status).toBe(2)
    expect(told.text).toContain(`bench: ${reason}`)
    expect(told.text).toContain('Known: routing, routing --wide, routing --batch, latency\n')
  })
})

const MACHINE: Machine = { cores: 2, model: 'a processor', memoryMb: 4_096, platform: 'linux-x64', node: '20.19.0', natsServer: '2.10.0', load: [0.5, 1, 1.5] }
const RESULT: BenchResult = {
  rounds: 5,
  figures: [{ name: 'mesh', value: 123_456.7, unit: 'requests/s' }, { name: 'p50', value: 87.65, unit: 'µs' }],
  ratios: [atLeast('routing/raw', 0.8, 0.75), atMost('latency/p50', 1.4, 1.3)],
  leftOut: ['the network'],
}

describe('a report', () => {
  test('as JSON it has exactly the fields that are promised, and is an array when several ran', () => {
    const report = reportOf('routing', MACHINE, RESULT)
    expect(JSON.parse(jsonText([report]))).toEqual({
      bench: 'routing',
      machine: MACHINE,
      rounds: 5,
      figures: [{ name: 'mesh', value: 123_456.7, unit: 'requests/s' }, { name: 'p50', value: 87.65, unit: 'µs' }],
      ratios: [
        { name: 'routing/raw', value: 0.8, goal: 0.75, met: true },
        { name: 'latency/p50', value: 1.4, goal: 1.3, met: false },
      ],
    })
    expect(JSON.parse(jsonText([report, report]))).toHaveLength(2)
  })

  test('as text it says what was measured, against which goal, and what is left out', () => {
    expect(resultLines(RESULT)).toEqual([
      '  mesh  123,457  requests/s',
      '  p50      87.7  µs',
      '',
      '  routing/raw  0.80  goal 0.75  ✓',
      '  latency/p50  1.40  goal 1.30  ✗',
      '',
      '  medians of 5 rounds',
      '  left out: the network',
    ])
    expect([formatted(1_234.5), formatted(12.34), formatted(1.234), formatted(Number.NaN)]).toEqual(['1,235', '12.3', '1.23', 'NaN'])
  })
})

describe('the catalogue', () => {
  test('has every benchmark once, each with a line that says what it measures', () => {
    const names = BENCHES.map(({ name }) => name)
    expect(names).toEqual([
      'routing', 'routing --wide', 'routing --batch', 'receipts', 'latency', 'writes', 'cluster', 'reads', 'boot', 'catch-up', 'contracts', 'identity', 'growth',
      'names', 'scaling',
    ])
    for (const { what } of BENCHES) expect(what).not.toBe('')
  })
})
