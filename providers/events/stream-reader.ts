/**
 * Reads of the events stream: the newest event of a channel, the next one from a sequence, how many there are. It caches
 * nothing and tries nothing twice.
 *
 * The newest event is asked of the stream's leader: a replica that lags would name an older one, which a cache would then
 * hold for good. Walking a channel asks any replica (direct get), since its caller knows how far it must come.
 */
import { eventSubject } from '../../cmtp/subject.ts'
import type { MeshEvent } from '../../services/events/provider.ts'
import type { JetStreamCalls } from '../jetstream/calls.ts'
import { StreamApi, type StreamReport } from '../jetstream/stream-api.ts'
import { saidBy, saidByBlock } from './event-headers.ts'

export class StreamReader {
  readonly #api: StreamApi

  constructor(calls: JetStreamCalls, stream: string, timeoutMs: number) {
    this.#api = new StreamApi(calls, stream, timeoutMs)
  }

  /** The newest event of the channel as its leader has it. */
  async newest(channel: string): Promise<MeshEvent | undefined> {
    const message = await this.#api.message({ last_by_subj: eventSubject(channel) })
    if (message === undefined) return undefined
    return { channel, seq: message.seq, timeMs: Date.parse(message.time), data: Buffer.from(message.data ?? '', 'base64'), ...saidByBlock(message.hdrs) }
  }

  /** The first event of the channel at or behind `seq`; `undefined` when the replica that answers has none. */
  async next(channel: string, seq: number): Promise<MeshEvent | undefined> {
    const message = await this.#api.direct({ seq, next_by_subj: eventSubject(channel) })
    const headers = message?.headers
    if (message === undefined || headers === undefined) return undefined
    // Copied: what arrived is a view into the chunk the connection read, and would keep all of it.
    return {
      channel,
      seq: Number(headers.get('Nats-Sequence')),
      timeMs: Date.parse(headers.get('Nats-Time-Stamp')),
      data: new Uint8Array(message.data),
      ...saidBy(headers),
    }
  }

  async count(channel: string): Promise<number> {
    const subject = eventSubject(channel)
    const { state } = await this.#report(subject)
    return state.subjects?.[subject] ?? 0
  }

  async #report(subjects?: string): Promise<StreamReport> {
    const report = await this.#api.report(subjects)
    if (report === undefined) throw this.#api.failed('stream not found')
    return report
  }
}
