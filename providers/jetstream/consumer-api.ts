/**
 * The calls of JetStream's API that concern durable pull consumers of one stream, and the acks of what they handed out. It keeps nothing and
 * asks twice only for what it reads, and what is done.
 */
import { JetStreamApiCodes } from '@nats-io/jetstream'
import type { ConsumerConfig, ConsumerInfo } from '@nats-io/jetstream'
import type { Msg, MsgHdrs } from '@nats-io/nats-core'
import { CMeshError } from '../../cmtp/errors.ts'
import type { JetStreamBus, JetStreamCalls } from './calls.ts'
import { pull } from './pull.ts'
import { refused, type ApiRefusal } from './refusal.ts'

export type ConsumerReport = Pick<ConsumerInfo, 'name' | 'config' | 'created' | 'delivered' | 'ack_floor' | 'num_ack_pending' | 'num_pending'>

interface ApiAnswer extends Partial<ConsumerReport> {
  readonly error?: ApiRefusal
  readonly consumers?: readonly ConsumerReport[]
  readonly total?: number
}

/** A message that a consumer handed out. */
export interface Handed {
  readonly data: Uint8Array
  readonly headers: MsgHdrs | undefined
  /** Which time it was handed out, 1 and up. */
  readonly delivered: number
  /** Its place in the stream. */
  readonly seq: number
  /** Its place among what the consumer handed out. */
  readonly consumerSeq: number
  /** When it was stored, ns since 1970, as text: more digits than a number holds. */
  readonly timeNs: string
  /** Messages behind it that were not handed out yet. */
  readonly pending: number
}

/** What an ack says. */
export const ACK = { done: '+ACK', again: (delayMs: number): string => `-NAK {"delay":${Math.max(1, Math.round(delayMs)) * 1e6}}` } as const

const NO_RESPONDERS = 503
/** What is said to those who wait at a server that ends, or leads the consumer no more: whoever asks again asks another one. */
const HANDED_OVER = /^(?:Leadership Change|Server Shutdown)$/

export class ConsumerApi {
  readonly #bus: JetStreamBus
  readonly #calls: JetStreamCalls
  readonly #stream: string
  readonly #timeoutMs: number

  constructor(bus: JetStreamBus, calls: JetStreamCalls, stream: string, timeoutMs: number) {
    this.#bus = bus
    this.#calls = calls
    this.#stream = stream
    this.#timeoutMs = timeoutMs
  }

  /** `undefined` where there is none of that name. */
  async report(consumer: string): Promise<ConsumerReport | undefined> {
    const answer = await this.#ask('ask', `CONSUMER.INFO.${this.#stream}.${consumer}`, {})
    return this.#unlessMissing(answer)
  }

  /** Every consumer of the stream. */
  async all(): Promise<readonly ConsumerReport[]> {
    const found: ConsumerReport[] = []
    for (;;) {
      const { consumers = [], total = 0 } = this.#checked(await this.#ask('ask', `CONSUMER.LIST.${this.#stream}`, { offset: found.length }))
      found.push(...consumers)
      if (consumers.length === 0 || found.length >= total) return found
    }
  }

  /** Makes a durable consumer; one of the same configuration is left as it is. */
  async create(consumer: string, config: Partial<ConsumerConfig>): Promise<ConsumerReport> {
    const request = { stream_name: this.#stream, config: { ...config, durable_name: consumer } }
    const answer = this.#checked(await this.#ask('call', `CONSUMER.DURABLE.CREATE.${this.#stream}.${consumer}`, request))
    return answer as ConsumerReport
  }

  async remove(consumer: string): Promise<boolean> {
    return this.#unlessMissing(await this.#ask('call', `CONSUMER.DELETE.${this.#stream}.${consumer}`, {})) !== undefined
  }

  /**
   * The next messages, at most `count`, waiting `waitMs` for all of them, 1 and up; fewer, or none, where another server takes the consumer over. `missing`
   * when the consumer goes meanwhile. Of one that is not there, or has nobody who leads it, a broker before 2.11 says nothing, which is `CMESH_BUS_TIMEOUT`,
   * and a later one that nobody listens: `CMESH_BUS_NO_RESPONDERS`.
   */
  async next(consumer: string, count: number, waitMs: number): Promise<readonly Handed[] | 'missing'> {
    const subject = `$JS.API.CONSUMER.MSG.NEXT.${this.#stream}.${consumer}`
    const { messages, status } = await pull(this.#bus, { subject, count, waitMs })
    if (messages.length > 0) return messages.map(handedOf)
    // None, the time is over; or the consumer was removed while it was asked.
    if (status === undefined || status.code === 404 || status.code === 408 || HANDED_OVER.test(status.text)) return []
    if (status.code === 409 && status.text.includes('Deleted')) return 'missing'
    if (status.code === NO_RESPONDERS) throw new CMeshError('CMESH_BUS_NO_RESPONDERS', { subject })
    throw this.#failed(status.text)
  }

  /** Settles a message that was handed out. Gives whether there is such a consumer. */
  async settle(consumer: string, { delivered, seq, consumerSeq, timeNs }: Omit<Handed, 'data' | 'headers' | 'pending'>, ack: string): Promise<boolean> {
    const subject = `$JS.ACK.${this.#stream}.${consumer}.${delivered}.${seq}.${consumerSeq}.${timeNs}.0`
    try {
      // Said twice, that it is done is the same; that it is to come again would count for the next time it was handed out.
      await this.#calls[ack === ACK.done ? 'ask' : 'call'](subject, Buffer.from(ack), { timeoutMs: this.#timeoutMs })
      return true
    } catch (thrown) {
      if (thrown instanceof CMeshError && thrown.code === 'CMESH_BUS_NO_RESPONDERS') return false
      throw thrown
    }
  }

  #unlessMissing(answer: ApiAnswer): ConsumerReport | undefined {
    if (answer.error?.err_code === JetStreamApiCodes.ConsumerNotFound) return undefined
    return this.#checked(answer) as ConsumerReport
  }

  #checked(answer: ApiAnswer): ApiAnswer {
    const { error } = answer
    if (error !== undefined) throw refused(this.#stream, error)
    return answer
  }

  #failed(reason: string): CMeshError {
    return new CMeshError('CMESH_BUS_STORE', { stream: this.#stream, reason })
  }

  async #ask(how: 'ask' | 'call', verb: string, request: object): Promise<ApiAnswer> {
    const answer = await this.#calls[how](`$JS.API.${verb}`, Buffer.from(JSON.stringify(request)), { timeoutMs: this.#timeoutMs })
    return answer.json<ApiAnswer>()
  }
}

/** From `$JS.ACK.<stream>.<consumer>.<delivered>.<seq>.<consumer seq>.<time>.<pending>`, where a domain and more may stand in front of the stream. */
function handedOf({ data, reply = '', headers }: Msg): Handed {
  const tokens = reply.split('.')
  const at = tokens.length >= 11 ? 6 : 4
  const [delivered, seq, consumerSeq, timeNs = '0', pending] = tokens.slice(at)
  // Copied: what arrived is a view into the chunk the connection read, and would keep all of it.
  const place = { seq: Number(seq), consumerSeq: Number(consumerSeq), pending: Number(pending) }
  return { data: new Uint8Array(data), headers, delivered: Number(delivered), timeNs, ...place }
}
