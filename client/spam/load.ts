/**
 * A load: so many requests, so many in flight, and what became of each. It owns no client and starts no process. Nothing is
 * kept per request: latencies go into a histogram, failures into counts by code.
 */
import { performance } from 'node:perf_hooks'
import { CMeshError } from '../../cmtp/errors.ts'
import type { MeshClient } from '../mesh-client.ts'
import type { Reply } from '../reply.ts'
import { Histogram } from './histogram.ts'

export interface LoadOptions {
  /** Its client must have `throwOnError: false`. */
  readonly client: MeshClient
  /** Addresses, asked in turn. */
  readonly mix: readonly string[]
  /** Requests in all. */
  readonly count: number
  /** Where in the mix to begin. Default 0. */
  readonly from?: number
  /** Messages in flight. */
  readonly concurrency: number
  /** Requests in one message; 1 sends single frames. */
  readonly batch: number
  readonly signal: AbortSignal
  /** Told the number of requests answered, often. */
  readonly onProgress?: (done: number) => void
  /** Told each request that was sent, with its message id. */
  readonly onSent?: (id: string, fqmn: string) => void
  /** Does something with each reply, which the next request of its place waits for. */
  readonly onReply?: (reply: Reply) => Promise<void>
}

/** What loads came to, added up over rounds. */
export class LoadResult {
  readonly latency = new Histogram()
  /** Failed requests by error code. */
  readonly failures = new Map<string, number>()
  ok = 0
  failed = 0
  /** Replies that carried a final hash. */
  hashes = 0
  /** Requests per second of each round. */
  readonly perSecond: number[] = []

  get requests(): number {
    return this.ok + this.failed
  }
}

/** Runs one round and adds it to `result`. Resolves early, with what was done, when the signal fires. */
export async function runLoad(options: LoadOptions, result: LoadResult): Promise<void> {
  const { client, mix, count, from = 0, concurrency, batch, signal, onProgress, onSent, onReply } = options
  let next = 0
  let done = 0
  const beganMs = performance.now()

  const take = (): string => mix[(from + next++) % mix.length] as string
  const settle = (reply: Reply, fqmn: string, sentMs: number): void => {
    result.latency.add((performance.now() - sentMs) * 1_000)
    if (reply.receipt !== 'none') result.hashes++
    if (reply.ok) result.ok++
    else fail(result, reply.error()?.code ?? 'CMESH_INTERNAL', 1)
    onSent?.(reply.id, fqmn)
  }

  const single = async (): Promise<void> => {
    while (next < count && !signal.aborted) {
      const fqmn = take()
      const sentMs = performance.now()
      try {
        const reply = await client.call(fqmn)
        settle(reply, fqmn, sentMs)
        await onReply?.(reply)
      } catch (thrown) {
        fail(result, codeOf(thrown), 1)
      }
      onProgress?.(++done)
    }
  }
  const batched = async (): Promise<void> => {
    while (next < count && !signal.aborted) {
      const entries = Array.from({ length: Math.min(batch, count - next) }, () => ({ fqmn: take() }))
      const sentMs = performance.now()
      try {
        const replies = await client.batch(entries)
        replies.forEach((reply, i) => settle(reply, entries[i]?.fqmn ?? '', sentMs))
        if (onReply !== undefined) await Promise.all(replies.map(onReply))
      } catch (thrown) {
        fail(result, codeOf(thrown), entries.length)
      }
      done += entries.length
      onProgress?.(done)
    }
  }

  await Promise.all(Array.from({ length: concurrency }, batch === 1 ? single : batched))
  result.perSecond.push(done / ((performance.now() - beganMs) / 1_000))
}

function fail(result: LoadResult, code: string, count: number): void {
  result.failed += count
  result.failures.set(code, (result.failures.get(code) ?? 0) + count)
}

function codeOf(thrown: unknown): string {
  return CMeshError.from(thrown, 'spam').code
}
