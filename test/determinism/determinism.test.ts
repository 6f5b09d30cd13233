/**
 * One seeded workload, run through the real engine in every way in which this machine can be made to run WebAssembly, gives the
 * same state, the same events and the same gas. What the meter adds for that is shown to be needed by leaving it out.
 */
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import os from 'node:os'
import path from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals'
import { compileContract } from '../../client/contract/compile.ts'
import type { Outcome } from './child.ts'
import { configurations, runWith, SMALLEST_STACK_KB, tiersOf, type Configuration, type Rules } from './configurations.ts'
import { obtainEngines } from './engines.ts'
import { LIBRARY_SOURCE, machineModule, neighbourModule } from './programs.ts'
import { deepWorkload, nanWorkload, workload, type Modules, type Workload } from './workload.ts'

const LONG = process.env['TEST_LONG'] === '1'
/** Child processes at once: each keeps a core busy. */
const AT_ONCE = 2

const engines = await obtainEngines()
const all = configurations(engines, LONG)
const [reference] = all as [Configuration]

let dir: string
let modules: Modules
/** The workload's outcome by configuration. */
const outcomes = new Map<string, Promise<Outcome>>()

beforeAll(async () => {
  dir = await mkdtemp(path.join(os.tmpdir(), 'cmesh-determinism-'))
  const source = path.join(dir, 'library.ts')
  await writeFile(source, LIBRARY_SOURCE)
  modules = { machine: machineModule(), neighbour: neighbourModule(), library: (await compileContract(source)).wasm }
  const file = await save('workload', workload(modules, 20_261_121, LONG ? 6 : 1))
  for (const [name, outcome] of startAll(all, file)) outcomes.set(name, outcome)
}, 120_000)

afterAll(async () => {
  await Promise.allSettled(outcomes.values())
  await rm(dir, { recursive: true, force: true })
})

async function save(name: string, made: Workload): Promise<string> {
  const file = path.join(dir, `${name}.json`)
  await writeFile(file, JSON.stringify(made))
  return file
}

/** Runs a workload's file in each configuration, a few at once. */
function startAll(configs: readonly Configuration[], file: string, rules?: Rules): Map<string, Promise<Outcome>> {
  const lanes: Promise<unknown>[] = Array.from({ length: AT_ONCE }, () => Promise.resolve())
  return new Map(configs.map((config, i) => {
    const outcome = (lanes[i % AT_ONCE] as Promise<unknown>).then(() => runWith(config, file, rules))
    // Its failure is that of the test that asks for it.
    lanes[i % AT_ONCE] = outcome.catch(() => undefined)
    return [config.name, outcome]
  }))
}

function outcomeOf(config: Configuration): Promise<Outcome> {
  return outcomes.get(config.name) as Promise<Outcome>
}

/** The first calls that two runs disagree on; none when they agree. */
function differences(one: Outcome, other: Outcome): string[] {
  return one.calls.flatMap((call, i) => (String(call) === String(other.calls[i]) ? [] : [`call ${i}: ${String(call)} or ${String(other.calls[i])}`])).slice(0, 5)
}

describe('the workload', () => {
  test('ends in every way a call can end but a failure of the host', async () => {
    const { calls } = await outcomeOf(reference)
    const codes = [...new Set(calls.map(([, code]) => code))]
    expect(codes).toEqual(expect.arrayContaining([
      'CMESH_CONTRACT_ABI', 'CMESH_CONTRACT_KEY_SIZE', 'CMESH_CONTRACT_LIMIT', 'CMESH_CONTRACT_MEMORY_OOB', 'CMESH_CONTRACT_NO_FUNCTION', 'CMESH_CONTRACT_OUT_OF_GAS',
      'CMESH_CONTRACT_READONLY', 'CMESH_CONTRACT_REVERT', 'CMESH_CONTRACT_STACK', 'CMESH_CONTRACT_TRAP', 'ok',
    ]))
    expect(codes).not.toContain('CMESH_CONTRACT_HOST')
    expect(calls.filter(([, code]) => code === 'ok').length).toBeGreaterThan(calls.length / 5)
  }, 120_000)
})

describe('the same state root, events and gas', () => {
  test.each(all.slice(1).map(config => [config.name, config] as const))('by %s', async (_, config) => {
    const [expected, actual] = await Promise.all([outcomeOf(reference), outcomeOf(config)])
    expect(differences(expected, actual)).toEqual([])
    expect({ root: actual.root, events: actual.events }).toEqual({ root: expected.root, events: expected.events })
  }, 600_000)

  for (const { name, about } of engines.filter(({ path: found }) => found === undefined)) test.skip(`by ${name}: ${about}`, () => {})
})

describe('without a rule of the meter', () => {
  const tiers = tiersOf(all, reference.engine)
  const run = async (name: string, made: Workload, rules: Rules): Promise<Outcome[]> => Promise.all(startAll(tiers, await save(name, made), rules).values())
  const different = (runs: readonly Outcome[]): number => new Set(runs.map(each => JSON.stringify(each))).size
  /** Whether any two tiers give different outcomes: no more of them run than it takes to know. */
  const disagree = async (name: string, made: Workload, rules: Rules): Promise<boolean> => {
    const file = await save(name, made)
    const seen = new Set<string>()
    for (const tier of tiers) {
      seen.add(JSON.stringify(await runWith(tier, file, rules)))
      if (seen.size > 1) return true
    }
    return false
  }

  test(`engines disagree on how deep a call may go; with stack slots counted every tier agrees, before its native stack ends, also of ${SMALLEST_STACK_KB} KB`, async () => {
    const made = deepWorkload(modules)
    expect(await disagree('deep', made, { stack: false })).toBe(true)
    const counted = await run('deep', made, {})
    expect(different(counted)).toBe(1)
    expect([...new Set(counted[0]?.calls.map(([, code]) => code))].sort()).toEqual(['CMESH_CONTRACT_STACK', 'ok'])
  }, 300_000)

  test('engines disagree on the bits of a NaN; with one NaN for all every tier agrees', async () => {
    const made = nanWorkload(modules, 7)
    expect(await disagree('nan', made, { nan: false })).toBe(true)
    expect(different(await run('nan', made, {}))).toBe(1)
  }, 300_000)

  test.each<[string, Rules]>([['stack slots counted', { stack: false }], ['one NaN for all', { nan: false }]])('the whole workload differs without %s', async (_, rules) => {
    expect(await disagree(`without-${Object.keys(rules).join()}`, workload(modules, 20_261_121, 1), rules)).toBe(true)
  }, 300_000)
})
