/**
 * The comparison: rounds of load on the mesh and on bare NATS, in turn (A B A B …), so that both meet the same machine in the
 * same mood; their medians and the ratio of these. Every request of every round counts; the warm-up does not.
 */
import type { MeshClient } from '../mesh-client.ts'
import { LoadResult, runLoad, type LoadOptions } from './load.ts'
import type { RawBaseline } from './raw-baseline.ts'

export interface SpamOptions {
  readonly client: MeshClient
  /** Without it the mesh is measured alone. */
  readonly raw: RawBaseline | undefined
  readonly mix: readonly string[]
  readonly count: number
  readonly concurrency: number
  readonly batch: number
  readonly rounds: number
  readonly warmUp: number
  /** Whether the client lets reads of one turn share a frame: said in the report, for it decides the rate. */
  readonly coalesce: boolean
  readonly signal: AbortSignal
  readonly onProgress: (done: number, text: string) => void
  readonly onSent?: LoadOptions['onSent']
  readonly onReply?: LoadOptions['onReply']
}

/** Rates are requests per second, medians over rounds; times in ms. */
export interface SpamReport {
  readonly requests: number
  readonly ok: number
  readonly failed: number
  readonly failures: Readonly<Record<string, number>>
  /** Replies that carried a final hash. */
  readonly hashes: number
  readonly perSecond: number
  readonly rawPerSecond: number | null
  /** Of the two medians. */
  readonly ratio: number | null
  readonly p50Ms: number
  readonly p99Ms: number
  readonly maxMs: number
  readonly concurrency: number
  readonly batch: number
  readonly coalesce: boolean
  readonly rounds: number
  readonly interrupted: boolean
}

/** Requests in flight on bare NATS, whatever a message of the mesh carries. */
const RAW_IN_FLIGHT = 256

export async function spam(options: SpamOptions): Promise<SpamReport> {
  const { client, raw, mix, count, concurrency, batch, rounds, warmUp, coalesce, signal, onProgress, onSent, onReply } = options
  onProgress(0, 'warming up')
  const load = { client, mix, concurrency, batch, signal }
  if (warmUp > 0) {
    await runLoad({ ...load, count: warmUp }, new LoadResult())
    await raw?.round(warmUp, RAW_IN_FLIGHT, signal)
  }
  const result = new LoadResult()
  const rawRates: number[] = []
  for (let round = 0; round < rounds && !signal.aborted; round++) {
    const before = result.requests
    // What does not divide evenly goes to the first rounds.
    const share = Math.floor(count / rounds) + (round < count % rounds ? 1 : 0)
    if (share === 0) break
    await runLoad({
      ...load, count: share, from: before, ...(onSent !== undefined && { onSent }), ...(onReply !== undefined && { onReply }),
      onProgress: (done) => onProgress(before + done, `${before + done} of ${count} requests`),
    }, result)
    if (raw !== undefined && !signal.aborted) {
      onProgress(result.requests, `${result.requests} of ${count} requests; bare NATS for comparison`)
      rawRates.push(await raw.round(share, RAW_IN_FLIGHT, signal))
    }
  }
  const perSecond = median(result.perSecond)
  // None either when the run was interrupted before the first round on bare NATS.
  const rawPerSecond = rawRates.length === 0 ? null : median(rawRates)
  const { latency } = result
  return {
    requests: result.requests, ok: result.ok, failed: result.failed, failures: Object.fromEntries(result.failures), hashes: result.hashes,
    perSecond: Math.round(perSecond),
    rawPerSecond: rawPerSecond === null ? null : Math.round(rawPerSecond),
    ratio: rawPerSecond === null ? null : Number((perSecond / rawPerSecond).toFixed(3)),
    p50Ms: latency.percentileUs(0.5) / 1_000, p99Ms: latency.percentileUs(0.99) / 1_000, maxMs: latency.maxUs / 1_000,
    concurrency, batch, coalesce, rounds: result.perSecond.length, interrupted: signal.aborted,
  }
}

/** 0 for no values. */
export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b)
  const middle = sorted.length >> 1
  return sorted.length % 2 === 1 ? sorted[middle] as number : ((sorted[middle - 1] ?? 0) + (sorted[middle] ?? 0)) / 2
}
