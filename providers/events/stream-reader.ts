/**
 * Reads of the events stream: the newest event of a channel, the next one from a sequence, how many there are. It caches
 * nothing and tries nothing twice.
 *
 * The newest event is asked of the stream's leader: a replica that lags would name an older one, which a cache would then
 * hold for good. Walking a channel asks any replica (direct get), since its caller knows how far it must come.
 */
import { CMeshError } from '../../cmtp/errors.ts'
import { eventSubject } from '../../cmtp/subject.ts'
import type { MeshEvent } from '../../services/events/provider.ts'
import type { JetStreamCalls } from '../jetstream/calls.ts'

const NO_MESSAGE = 404

interface StoredMessage {
  readonly seq: number
  readonly time: string
  /** Base64; absent when the message is empty. */
  readonly data?: string
}

interface StreamState {
  readonly last_seq: number
  readonly subjects?: Readonly<Record<string, number>>
}

interface ApiAnswer {
  readonly error?: { readonly code: number, readonly description?: string }
  readonly message?: StoredMessage
  readonly state?: StreamState
}

export class StreamReader {
  readonly #calls: JetStreamCalls
  readonly #stream: string
  readonly #timeoutMs: number

  constructor(calls: JetStreamCalls, stream: string, timeoutMs: number) {
    this.#calls = calls
    this.#stream = stream
    this.#timeoutMs = timeoutMs
  }

  /** The newest event of the channel as its leader has it. */
  async newest(channel: string): Promise<MeshEvent | undefined> {
    const { message } = await this.#ask('STREAM.MSG.GET', { last_by_subj: eventSubject(channel) })
    if (message === undefined) return undefined
    return { channel, seq: message.seq, timeMs: Date.parse(message.time), data: Buffer.from(message.data ?? '', 'base64') }
  }

  /** The first event of the channel at or behind `seq`; `undefined` when the replica that answers has none. */
  async next(channel: string, seq: number): Promise<MeshEvent | undefined> {
    const answer = await this.#call('DIRECT.GET', { seq, next_by_subj: eventSubject(channel) })
    const { headers } = answer
    if (headers === undefined) throw this.#failed('a get came back without a sequence')
    if (headers.code === NO_MESSAGE) return undefined
    if (headers.code >= 300) throw this.#failed(headers.description)
    // Copied: what arrived is a view into the chunk the connection read, and would keep all of it.
    return {
      channel,
      seq: Number(headers.get('Nats-Sequence')),
      timeMs: Date.parse(headers.get('Nats-Time-Stamp')),
      data: new Uint8Array(answer.data),
    }
  }

  async count(channel: string): Promise<number> {
    const subject = eventSubject(channel)
    const { state } = await this.#ask('STREAM.INFO', { subjects_filter: subject })
    return state?.subjects?.[subject] ?? 0
  }

  /** The sequence of the newest message of the stream, whatever its channel. */
  async head(): Promise<number> {
    const { state } = await this.#ask('STREAM.INFO', {})
    if (state === undefined) throw this.#failed('its state is missing')
    return state.last_seq
  }

  async #ask(verb: string, request: object): Promise<ApiAnswer> {
    const answer = (await this.#call(verb, request)).json<ApiAnswer>()
    if (answer.error === undefined || (answer.error.code === NO_MESSAGE && verb === 'STREAM.MSG.GET')) return answer
    throw this.#failed(answer.error.description ?? `error ${answer.error.code}`)
  }

  #call(verb: string, request: object): ReturnType<JetStreamCalls['call']> {
    const data = Buffer.from(JSON.stringify(request))
    return this.#calls.call(`$JS.API.${verb}.${this.#stream}`, data, { timeoutMs: this.#timeoutMs })
  }

  #failed(reason: string): CMeshError {
    return new CMeshError('CMESH_BUS_STORE', { stream: this.#stream, reason })
  }
}
