/**
 * The streams that events are kept in: the one of the events first, and those that go with it. It makes what is not there and brings up to date
 * what differs; it never deletes anything.
 */
import type { JetStreamManager } from '@nats-io/jetstream'
import type { Patience } from '../bus/patience.ts'
import type { JetStreamCalls } from '../jetstream/calls.ts'
import { StreamApi, type StreamReport } from '../jetstream/stream-api.ts'
import { ensureStream, type WantedStream } from '../jetstream/stream.ts'
import type { Gone, Standing } from './stored-feed.ts'

export interface EventStreamsParts {
  readonly calls: JetStreamCalls
  readonly manager: JetStreamManager
  /** What waits for JetStream where it is not ready. */
  readonly patience: Patience
  /** How long a look waits for its answers, in ms. */
  readonly timeoutMs: number
}

export class EventStreams {
  readonly #parts: EventStreamsParts
  readonly #events: WantedStream
  readonly #others: readonly WantedStream[]

  constructor(parts: EventStreamsParts, events: WantedStream, others: readonly WantedStream[]) {
    this.#parts = parts
    this.#events = events
    this.#others = others
  }

  /** The stream of the events, once all are there. Rejects as `ensureStream` does. */
  readonly ensure = async (): Promise<Standing> => {
    const { manager, patience } = this.#parts
    const { state, created } = await ensureStream(manager, this.#events, patience)
    for (const other of this.#others) await ensureStream(manager, other, patience)
    return { head: state.last_seq, made: created }
  }

  /** The stream of the events, or which of all is gone. Makes nothing. */
  readonly look = async (): Promise<Standing | Gone> => {
    const all = [this.#events, ...this.#others]
    const reports = await Promise.all(all.map(({ name }) => new StreamApi(this.#parts.calls, name, this.#parts.timeoutMs).report()))
    const gone = all.find((_, i) => reports[i] === undefined)
    if (gone !== undefined) return { gone: gone.name }
    const { state, created } = reports[0] as StreamReport
    return { head: state.last_seq, made: created }
  }
}
