/**
 * What the long form has done so far, by seed: a file of JSON lines that only grows, one line for each round that came to an end, so that a run that was
 * stopped goes on where it was. It judges nothing.
 */
import { existsSync, readFileSync } from 'node:fs'
import { appendFile, mkdir } from 'node:fs/promises'
import path from 'node:path'
import { ROOT } from '../../support/sources.ts'
import type { RoundResult } from './campaign.ts'
import type { StorageBatch } from './storage-drills.ts'

/** One cluster that was ended, and its logs verified whole. */
export interface FinishedResult {
  readonly rounds: number
  readonly faults: readonly unknown[]
  readonly seconds: number
}

/** A round that did not come to its end. */
export interface FailedResult {
  readonly round: number
  readonly says: string
}

export type ResultLine =
  | { readonly kind: 'round', readonly result: RoundResult }
  | { readonly kind: 'finished', readonly result: FinishedResult }
  | { readonly kind: 'failed', readonly result: FailedResult }
  | { readonly kind: 'storage', readonly result: StorageBatch }

/** `FAULTS_SEED`, 1 by default. */
export const SEED = Number(process.env['FAULTS_SEED'] ?? '1')
/** `FAULTS_MINUTES`: most of them for each of the two long tests, 120 by default. */
export const MINUTES = Number(process.env['FAULTS_MINUTES'] ?? '120')
/** What the long form goes on to. Some more than 10,000 logs: those that a file is removed of count for themselves. */
export const ENOUGH = { kills: 500, leaderKills: 100, holds: 1_000, logs: 12_000 } as const
export const LONG = process.env['TEST_LONG'] === '1'

const DIR = path.join(ROOT, 'node_modules', '.cache', 'cmesh', 'faults')

const fileOf = (seed: number): string => path.join(DIR, `${seed}.jsonl`)

export function readResults(seed: number): ResultLine[] {
  const file = fileOf(seed)
  if (!existsSync(file)) return []
  return readFileSync(file, 'utf8').split('\n').filter(line => line !== '').map(line => JSON.parse(line) as ResultLine)
}

export async function addResult(seed: number, line: ResultLine): Promise<void> {
  await mkdir(DIR, { recursive: true })
  await appendFile(fileOf(seed), `${JSON.stringify(line)}\n`)
}
