/**
 * One pull from a JetStream consumer: asks for so many messages within a time and collects them. Each pull listens on a subject of its own,
 * since what a consumer hands out comes under the subject it was stored by.
 *
 * Invariants: it settles when all it asked for is there, when the broker says that there is no more, when the time is over or the connection
 * is lost; messages that came count in every case.
 */
import { createInbox } from '@nats-io/nats-core'
import type { Msg } from '@nats-io/nats-core'
import { CMeshError } from '../../cmtp/errors.ts'
import { denied, type JetStreamBus } from './calls.ts'

export interface PullRequest {
  /** `$JS.API.CONSUMER.MSG.NEXT.<stream>.<consumer>`. */
  readonly subject: string
  readonly count: number
  /** How long the broker waits for them, in ms, 1 and up. */
  readonly waitMs: number
}

export interface Pulled {
  readonly messages: readonly Msg[]
  /** What the broker said when it had no more, as status code and text. */
  readonly status: { readonly code: number, readonly text: string } | undefined
}

/** How long an answer may take beyond what it was asked to wait, in ms. */
const SLACK_MS = 2_000

/** Rejects with `CMESH_BUS_DISCONNECTED`, `CMESH_BUS_TIMEOUT` for a broker that says nothing, or `CMESH_BUS_DENIED`, when no message came. */
export function pull(bus: JetStreamBus, { subject, count, waitMs }: PullRequest): Promise<Pulled> {
  if (bus.status !== 'connected') return Promise.reject(new CMeshError(bus.status === 'closed' ? 'CMESH_BUS_CLOSED' : 'CMESH_BUS_DISCONNECTED'))
  return new Promise((resolve, reject) => {
    const messages: Msg[] = []
    const inbox = createInbox()
    const settle = (outcome: Pulled['status'] | CMeshError): void => {
      clearTimeout(timer)
      stopListening()
      if (!subscription.isClosed()) subscription.unsubscribe()
      if (outcome instanceof CMeshError && messages.length === 0) reject(outcome)
      else resolve({ messages, status: outcome instanceof CMeshError ? undefined : outcome })
    }
    const subscription = bus.connection.subscribe(inbox, {
      callback: (failure, message) => {
        if (failure !== null) return settle(denied(inbox, failure))
        const { headers, reply } = message
        if (reply === undefined || reply === '') return settle({ code: headers?.code ?? 0, text: headers?.description ?? '' })
        messages.push(message)
        if (messages.length === count) settle(undefined)
      },
    })
    const timer = setTimeout(() => { settle(new CMeshError('CMESH_BUS_TIMEOUT', { subject, timeoutMs: waitMs + SLACK_MS })) }, waitMs + SLACK_MS)
    const stopListening = bus.onStatus(status => { if (status !== 'connected') settle(new CMeshError('CMESH_BUS_DISCONNECTED')) })
    bus.connection.publish(subject, Buffer.from(JSON.stringify({ batch: count, expires: waitMs * 1e6 })), { reply: inbox })
  })
}
