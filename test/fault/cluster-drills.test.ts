/**
 * Drills on a whole cluster of three brokers and three nodes under load: what was acknowledged is on every replica once, at its place, with its answer, and what
 * clients saw meanwhile could have come from one copy. TEST_LONG=1 for as many as `ENOUGH` says (docs/faults.md).
 */
import { mkdtemp, rm } from 'node:fs/promises'
import os from 'node:os'
import path from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals'
import { Campaign, type RoundResult } from './support/campaign.ts'
import { settingNow, writeReport } from './support/report.ts'
import { addResult, ENOUGH, LONG, MINUTES, readResults, SEED } from './support/results.ts'

/** Drills of a round, and rounds of one cluster. */
const DRILLS_OF_ROUND = 36
const ROUNDS_OF_CLUSTER = 20
const LONG_MS = MINUTES * 60_000

let dir: string
beforeEach(async () => { dir = await mkdtemp(path.join(os.tmpdir(), 'cmesh-drills-')) })
afterEach(() => rm(dir, { recursive: true, force: true, maxRetries: 5 }))

function expectWell({ faults, verdicts, stale }: Pick<RoundResult, 'faults' | 'verdicts' | 'stale'>): void {
  expect({ faults, verdicts, stale }).toEqual({ faults: [], verdicts: ['linearizable', 'linearizable'], stale: [] })
}

;(LONG ? describe.skip : describe)('a cluster', () => {
  test('under kills, pauses and cut links loses no acknowledged write, does none twice, and shows one copy', async () => {
    const campaign = await Campaign.start(dir)
    try {
      const drills = ['node-kill', 'leader-pause', 'node-cut', 'stepdown', 'leader-kill', 'route-cut']
      const result = await campaign.round(SEED, 1, drills)
      expectWell(result)
      expect(Object.keys(result.drills)).toEqual(expect.arrayContaining(['node-kill', 'leader-pause', 'node-cut', 'route-cut']))
      expect(result.tally.kills).toBeGreaterThan(0)
      expect(result.acknowledged).toBeGreaterThan(0)
      expect(result.operations).toBeGreaterThan(0)
      expect(await campaign.finish()).toEqual([])
    } finally {
      await campaign.stop()
    }
  }, 300_000)
})

;(LONG ? describe : describe.skip)('a cluster, for long', () => {
  const rounds = (): RoundResult[] => readResults(SEED).flatMap(line => (line.kind === 'round' ? [line.result] : []))
  const last = (): number => Math.max(0, ...readResults(SEED).flatMap(line => (line.kind === 'round' || line.kind === 'failed' ? [line.result.round] : [])))
  const isEnough = (): boolean => {
    const sum = (of: (result: RoundResult) => number): number => rounds().reduce((total, result) => total + of(result), 0)
    const holds = sum(({ tally }) => tally.pauses + tally.cuts)
    return sum(({ tally }) => tally.kills) >= ENOUGH.kills && sum(({ tally }) => tally.leaderKills) >= ENOUGH.leaderKills && holds >= ENOUGH.holds
  }

  test('under all drills, drawn from the seed, does so too', async () => {
    const endMs = performance.now() + LONG_MS
    while (!isEnough() && performance.now() < endMs) {
      const home = await mkdtemp(path.join(dir, 'cluster-'))
      const campaign = await Campaign.start(home)
      const startMs = performance.now()
      const first = last()
      try {
        while (last() < first + ROUNDS_OF_CLUSTER && !isEnough() && performance.now() < endMs) {
          await addResult(SEED, { kind: 'round', result: await campaign.round(SEED, last() + 1, DRILLS_OF_ROUND) })
        }
        const faults = await campaign.finish()
        await addResult(SEED, { kind: 'finished', result: { rounds: last() - first, faults, seconds: Math.round((performance.now() - startMs) / 1_000) } })
        await rm(home, { recursive: true, force: true, maxRetries: 5 })
      } catch (error) {
        // Its directory stays until this process ends; the next cluster goes on.
        await addResult(SEED, { kind: 'failed', result: { round: last() + 1, says: `${String(error)} ${campaign.state()}` } })
      } finally {
        await campaign.stop()
      }
    }
    await writeReport(readResults(SEED), await settingNow(SEED))
    for (const result of rounds()) expectWell(result)
    expect(readResults(SEED).filter(({ kind }) => kind === 'failed')).toEqual([])
  }, LONG_MS + 600_000)
})
