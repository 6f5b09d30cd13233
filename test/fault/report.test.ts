/** The page of faults: its figures are what the results add up to, and it names every drill there is. */
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import os from 'node:os'
import path from 'node:path'
import { expect, test } from '@jest/globals'
import { ROOT } from '../support/sources.ts'
import { DRILLS } from './support/drills.ts'
import type { RoundResult } from './support/campaign.ts'
import { figures, writeReport, type Setting } from './support/report.ts'
import type { ResultLine } from './support/results.ts'

const SETTING: Setting = { seed: 7, machine: 'a machine', broker: 'a broker', day: '2020-01-02' }
const PAGE = path.join(ROOT, 'docs', 'faults.md')

const round = (fields: Partial<RoundResult>): ResultLine => ({
  kind: 'round',
  result: {
    round: 1, seed: 7, drills: { 'node-kill': 2 }, tally: { kills: 3, leaderKills: 1, pauses: 4, cuts: 5, stepdowns: 0, drains: 0, fullDisks: 0 },
    asked: 100, acknowledged: 90, refused: 4, unknown: 6, faults: [], operations: 50, verdicts: ['linearizable', 'linearizable'], stale: [], ended: [], seconds: 60, ...fields,
  },
})
const storage: ResultLine = { kind: 'storage', result: { from: 0, drills: 1_100, met: { 'torn prefix': 1_000, 'torn refused': 60, failed: 40 }, wrong: [] } }

test('the figures are sums of the results', () => {
  const text = figures([round({}), round({ round: 2, seconds: 120 }), { kind: 'finished', result: { rounds: 2, faults: [], seconds: 200 } }, storage], SETTING)
  for (const row of [
    'rounds | 2', 'time, minutes | 3', 'processes killed | 6', 'of them leaders of the stream | 2', 'pauses and cut links | 18', 'acknowledged | 180', 'of unknown outcome | 12',
    'acknowledged and lost | 0', 'done twice | 0', 'histories checked | 4', 'linearizable | 4', 'not decided | 0', '`node-kill` | 4', 'torn | 1,000 | 0 | 60', 'processes that ended by themselves | none',
  ]) expect(text).toContain(`| ${row} |`)
  expect(text).toContain('Seed 7, 2020-01-02, a machine, a broker. Rerun it by `FAULTS_SEED=7 npm run test:faults -- --long`.')
  expect(text).toContain('1,100 drills on logs in all, of them 40 failed writes; found wrong: 0.')
  expect(text).toContain('**It was ended before it had done all that it goes on to:** 6 of 500 processes killed, 2 of 100 leaders killed, 18 of 1,000 pauses and cut links, 1,100 of 12,000 drills on logs.')
  expect(text).not.toContain('Found:')
})

test('what was found wrong is said, each write once however many replicas have it so', () => {
  const fault = { kind: 'lost' as const, number: 12, says: 'it was acknowledged at 9' }
  const faults = ['node-1', 'node-2'].map(replica => ({ ...fault, replica }))
  const text = figures([round({ faults, verdicts: ['linearizable', 'impossible'] }), { kind: 'failed', result: { round: 2, says: 'it hangs' } }], SETTING)
  expect(text).toContain('| acknowledged and lost | 1 |')
  expect(text).toContain('| not | 1 |')
  expect(text).toContain('| rounds that did not come to their end | 1 |')
  expect(text).toContain('"says":"it was acknowledged at 9"')
  expect(text).toContain('round 2: it hangs')
})

test('the figures take the place of the last ones and leave the rest of the page as it is', async () => {
  const dir = await mkdtemp(path.join(os.tmpdir(), 'cmesh-report-'))
  try {
    const page = path.join(dir, 'faults.md')
    const text = await readFile(PAGE, 'utf8')
    await writeFile(page, text)
    await writeReport([round({})], SETTING, page)
    const once = await readFile(page, 'utf8')
    expect(once).toContain('| processes killed | 3 |')
    expect([once.slice(0, once.indexOf('<!-- figures')), once.slice(once.indexOf('<!-- end of figures'))])
      .toEqual([text.slice(0, text.indexOf('<!-- figures')), text.slice(text.indexOf('<!-- end of figures'))])
    await writeReport([round({})], SETTING, page)
    expect(await readFile(page, 'utf8')).toBe(once)
  } finally {
    await rm(dir, { recursive: true, force: true })
  }
})

test('the page says of every drill what is done', async () => {
  const rows = [...(await readFile(PAGE, 'utf8')).matchAll(/^\| `([a-z-]+)` \| ([a-z][^|]+|SIG[^|]+) \|$/gm)].map(([, name, does]) => [name, does])
  expect(rows).toEqual([...DRILLS.map(({ name, does }) => [name, does]), ['rolling-restart', 'every node and then every broker in turn, every twelfth round']])
})
