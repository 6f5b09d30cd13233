/**
 * The calls of JetStream's API that concern one stream: its state, a message by its place, the purge of what is old. It keeps
 * nothing and asks twice only for what it reads, `direct` apart.
 *
 * The state and `message` are the leader's word; `direct` may be answered by any replica, which can lag: its caller must know
 * how far the stream goes.
 */
import { headers as newHeaders } from '@nats-io/nats-core'
import type { Msg } from '@nats-io/nats-core'
import { JetStreamApiCodes } from '@nats-io/jetstream'
import type { StreamInfo } from '@nats-io/jetstream'
import { CMeshError } from '../../cmtp/errors.ts'
import type { JetStreamCalls } from './calls.ts'
import { refused, type ApiRefusal } from './refusal.ts'

/** What JetStream says of a message that is not there. */
export const NO_MESSAGE = 404
/** `err_code` of a delete that found nothing, of brokers before and since 2.11. */
const NO_SUCH_SEQUENCE = 10_043
/** By this header the broker stores a message only behind the one that its writer knew. */
const AFTER = 'Nats-Expected-Last-Subject-Sequence'

/** A message of the stream as `STREAM.MSG.GET` gives it. */
export interface StoredMessage {
  readonly subject: string
  readonly seq: number
  readonly time: string
  /** Base64; absent when the message is empty. */
  readonly data?: string
  /** Its header block in base64; absent without headers. */
  readonly hdrs?: string
}

/** The state of a stream that can be asked again and again, and what of its configuration tells it from another. */
export type StreamReport = Pick<StreamInfo, 'config' | 'created' | 'state'> & Partial<Pick<StreamInfo, 'cluster'>>

interface ApiAnswer extends Partial<StreamReport> {
  readonly error?: ApiRefusal
  readonly message?: StoredMessage
  /** Where a message was stored. */
  readonly seq?: number
}

export class StreamApi {
  readonly #calls: JetStreamCalls
  readonly #stream: string
  readonly #timeoutMs: number

  constructor(calls: JetStreamCalls, stream: string, timeoutMs: number) {
    this.#calls = calls
    this.#stream = stream
    this.#timeoutMs = timeoutMs
  }

  /** `undefined` when there is no such stream. With `subjects` it counts the messages of those that match. */
  async report(subjects?: string): Promise<StreamReport | undefined> {
    const answer = await this.#ask('ask', 'STREAM.INFO', subjects === undefined ? {} : { subjects_filter: subjects })
    if (answer.error?.err_code === JetStreamApiCodes.StreamNotFound) return undefined
    const { config, created, state, cluster } = this.#checked(answer)
    if (config === undefined || created === undefined || state === undefined) throw this.failed('its state is missing')
    return { config, created, state, ...(cluster !== undefined && { cluster }) }
  }

  /** The message there, or the newest of a subject; `undefined` when there is none. */
  async message(which: { readonly seq: number } | { readonly last_by_subj: string }): Promise<StoredMessage | undefined> {
    const answer = await this.#ask('ask', 'STREAM.MSG.GET', which)
    if (answer.error?.code === NO_MESSAGE && answer.error.err_code !== JetStreamApiCodes.StreamNotFound) return undefined
    return this.#checked(answer).message
  }

  /** The message with its place in its headers; `undefined` when the replica that answers has none. */
  async direct(which: { readonly seq: number, readonly next_by_subj?: string }): Promise<Msg | undefined> {
    const answer = await this.#send('call', 'DIRECT.GET', which)
    const { headers } = answer
    if (headers === undefined) throw this.failed('a get came back without a sequence')
    if (headers.code === NO_MESSAGE) return undefined
    if (headers.code >= 300) throw this.failed(headers.description)
    return answer
  }

  /** Stores a message where `after` is the newest of its subject, 0 for none; gives its sequence, `undefined` where another one is. */
  async put(subject: string, data: Uint8Array, after: number): Promise<number | undefined> {
    const headers = newHeaders()
    headers.set(AFTER, `${after}`)
    const answer = (await this.#calls.call(subject, data, { timeoutMs: this.#timeoutMs, headers })).json<ApiAnswer>()
    if (answer.error?.err_code === JetStreamApiCodes.StreamWrongLastSequence) return undefined
    const { seq } = this.#checked(answer)
    if (seq === undefined) throw this.failed('its answer is no ack')
    return seq
  }

  /** Removes one message, out of the file too: what is only struck off a list is there again where the broker is killed. Gives whether it was there. */
  async remove(seq: number): Promise<boolean> {
    const answer = await this.#ask('call', 'STREAM.MSG.DELETE', { seq })
    if (answer.error?.err_code === NO_SUCH_SEQUENCE || answer.error?.code === NO_MESSAGE) return false
    this.#checked(answer)
    return true
  }

  /** Removes every message before `seq`; the sequences of later ones stay. */
  async purgeBefore(seq: number): Promise<void> {
    this.#checked(await this.#ask('call', 'STREAM.PURGE', { seq }))
  }

  /** Removes every message of those subjects but the newest `keep`. */
  async purgeOldest(filter: string, keep: number): Promise<void> {
    this.#checked(await this.#ask('call', 'STREAM.PURGE', keep === 0 ? { filter } : { filter, keep }))
  }

  failed(reason: string): CMeshError {
    return new CMeshError('CMESH_BUS_STORE', { stream: this.#stream, reason })
  }

  #checked(answer: ApiAnswer): ApiAnswer {
    const { error } = answer
    if (error !== undefined) throw refused(this.#stream, error)
    return answer
  }

  async #ask(how: 'ask' | 'call', verb: string, request: object): Promise<ApiAnswer> {
    return (await this.#send(how, verb, request)).json<ApiAnswer>()
  }

  #send(how: 'ask' | 'call', verb: string, request: object): Promise<Msg> {
    const data = Buffer.from(JSON.stringify(request))
    return this.#calls[how](`$JS.API.${verb}.${this.#stream}`, data, { timeoutMs: this.#timeoutMs })
  }
}
