/**
 * Keeps the ordering stream short: what state holds durably is purged from it, but for the newest entries, which a node that
 * starts compares its log with. One purge at a time, and none that would free little.
 */
import type { StreamInfo } from '@nats-io/jetstream'
import { CMeshError } from '../../cmtp/errors.ts'
import type { Log } from '../../services/log.ts'
import type { StreamApi } from '../jetstream/stream-api.ts'

export interface TrimmerParts {
  readonly api: Pick<StreamApi, 'purgeBefore'>
  readonly base: number
  /** Entries that stay, 1 and up. */
  readonly keep: number
  /** Bytes over which fewer stay: as many as take this much on the average. */
  readonly keepBytes: number
  readonly log: Pick<Log, 'warn'>
}

export class Trimmer {
  readonly #parts: TrimmerParts
  #durable = 0
  #purging = false

  constructor(parts: TrimmerParts) {
    this.#parts = parts
  }

  /** State holds everything up to this position, come what may. */
  durable(seq: number): void {
    this.#durable = Math.max(this.#durable, seq - this.#parts.base)
  }

  /** Purges where it is worth it. Never rejects. */
  async look({ first_seq: first, messages, bytes }: Pick<StreamInfo['state'], 'first_seq' | 'messages' | 'bytes'>): Promise<void> {
    if (this.#purging || this.#durable === 0 || messages === 0) return
    const { api, keep, keepBytes, log } = this.#parts
    const kept = bytes <= keepBytes ? keep : Math.max(1, Math.min(keep, Math.floor(messages * keepBytes / bytes)))
    const until = this.#durable - kept
    // A tenth at a time: the broker rewrites a file for each purge.
    if (until - first + 1 < Math.max(1, kept / 10)) return
    this.#purging = true
    try {
      await api.purgeBefore(until + 1)
    } catch (thrown) {
      const error = CMeshError.from(thrown, 'consensus')
      // The next look tries again; a stream that fills up for want of it says so to whoever proposes.
      log.warn({ err: error, code: error.code }, 'the stream of the order could not be trimmed')
    } finally {
      this.#purging = false
    }
  }
}
