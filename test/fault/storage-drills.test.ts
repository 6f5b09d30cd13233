/**
 * Damage to the log of a real store, in great number: torn, zeroed and flipped files, files that are gone, writes that fail. What opens is an exact prefix or a coded
 * error, and what was acknowledged before a write failed is there. TEST_LONG=1 for 10,000 and more (docs/faults.md).
 */
import { mkdtemp, rm } from 'node:fs/promises'
import os from 'node:os'
import path from 'node:path'
import { afterEach, beforeEach, expect, test } from '@jest/globals'
import { settingNow, writeReport } from './support/report.ts'
import { addResult, ENOUGH, LONG, MINUTES, readResults, SEED } from './support/results.ts'
import { BATCH, runStorageDrills, type StorageBatch } from './support/storage-drills.ts'

let dir: string
beforeEach(async () => { dir = await mkdtemp(path.join(os.tmpdir(), 'cmesh-storage-')) })
afterEach(() => rm(dir, { recursive: true, force: true }))

/** Writes fail by `prlimit`: a machine without it tries none, and says so by failing here. */
const EXPECTED = ['torn prefix', 'zeroed prefix', 'flipped prefix', 'torn refused', 'zeroed refused', 'flipped refused', 'failed']
const kindsOf = (batches: readonly StorageBatch[]): string[] => [...new Set(batches.flatMap(({ met }) => Object.keys(met)))]

;(LONG ? test.skip : test)('a damaged log opens as an exact prefix or is refused by a code, and a failed write loses nothing that was acknowledged', async () => {
  const batches: StorageBatch[] = []
  await runStorageDrills({ seed: SEED, from: 0, count: BATCH, dir, onBatch: batch => batches.push(batch) })
  expect(batches.flatMap(({ wrong }) => wrong)).toEqual([])
  expect(batches.reduce((sum, { drills }) => sum + drills, 0)).toBe(BATCH)
  expect(kindsOf(batches)).toEqual(expect.arrayContaining(EXPECTED))
})

;(LONG ? test : test.skip)('so do many, drawn from the seed', async () => {
  const done = (): StorageBatch[] => readResults(SEED).flatMap(line => (line.kind === 'storage' ? [line.result] : []))
  const from = done().reduce((most, batch) => Math.max(most, batch.from + BATCH), 0)
  if (from < ENOUGH.logs) {
    const signal = AbortSignal.timeout(MINUTES * 60_000)
    await runStorageDrills({ seed: SEED, from, count: ENOUGH.logs - from, dir, signal, onBatch: batch => addResult(SEED, { kind: 'storage', result: batch }) })
  }
  await writeReport(readResults(SEED), await settingNow(SEED))
  expect(done().flatMap(({ wrong }) => wrong)).toEqual([])
  expect(kindsOf(done())).toEqual(expect.arrayContaining(EXPECTED))
}, (MINUTES + 5) * 60_000)
