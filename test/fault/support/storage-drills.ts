/** Runs the drills on logs in a process of their own, and takes what it says. */
import { spawn } from 'node:child_process'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'

/** Drills of one line. */
export const BATCH = 100

export interface StorageBatch {
  /** Number of the first. */
  readonly from: number
  readonly drills: number
  /** How often each kind of damage came to each outcome. */
  readonly met: Readonly<Record<string, number>>
  readonly wrong: readonly string[]
}

export interface StorageRun {
  readonly seed: number
  readonly from: number
  readonly count: number
  readonly dir: string
  readonly onBatch: (batch: StorageBatch) => unknown
  readonly signal?: AbortSignal
}

const CHILD = ['--import', new URL('../../typescript-hooks.mjs', import.meta.url).href, fileURLToPath(new URL('../storage-driller.ts', import.meta.url))]

/** Rejects when the process ends otherwise than it should, with the drill that was under way. */
export async function runStorageDrills({ seed, from, count, dir, onBatch, signal }: StorageRun): Promise<void> {
  const child = spawn(process.execPath, [...CHILD, String(seed), String(from), String(count), dir], { stdio: ['ignore', 'pipe', 'pipe'] })
  const ended = new Promise<string>(resolve => { child.once('close', (code, by) => { resolve(by ?? `code ${String(code)}`) }) })
  const stop = (): void => { child.kill('SIGKILL') }
  signal?.addEventListener('abort', stop)
  let progress = ''
  child.stderr.on('data', (chunk: Buffer) => { progress = (progress + chunk.toString()).slice(-2_000) })
  for await (const line of createInterface({ input: child.stdout })) await onBatch(JSON.parse(line) as StorageBatch)
  const how = await ended
  signal?.removeEventListener('abort', stop)
  if (how !== 'code 0' && signal?.aborted !== true) throw new Error(`it ended with ${how}: ${progress}`)
}
