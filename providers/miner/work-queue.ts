/**
 * What the stream of requests and the consumer that all nodes share are made as. It moves no entry: an existing stream of an
 * earlier version is brought up to date with all that waits in it.
 */
import type { ConsumerInfo, JetStreamManager } from '@nats-io/jetstream'
import { LIMITS } from '../../cmtp/limits.ts'
import { MINE_WILDCARD } from '../../cmtp/subject.ts'
import type { WantedStream } from '../jetstream/stream.ts'

export interface StreamSourceOptions {
  /** Name of the stream. Default `CMESH_MINE`. */
  readonly stream?: string
  /** Name of the consumer that all nodes share. Default `miner`. */
  readonly consumer?: string
  /** Copies of the stream, 1 to 5. Default 1. */
  readonly replicas?: number
  /** Most bytes waiting in the stream; past it a publisher is refused. Default 256 MiB. */
  readonly maxBytes?: number
  /** Entries under way in this node, 1 to 1,024. Default 128. */
  readonly maxInFlight?: number
  /** How long the broker waits for word of an entry before it hands it to another node, in ms, from 1,000. Default 30,000. */
  readonly ackWaitMs?: number
  /** How often an entry is tried before it is given up, 1 and up. Default 5. */
  readonly maxDeliver?: number
  /** How long an entry waits after its first failed try, in ms; doubled after each further one, at most 60,000. Default 1,000. */
  readonly retryDelayMs?: number
  /** How long `start` waits for JetStream where it is not ready, in ms. Default 60,000. */
  readonly readyMs?: number
}

/** Entries under way in all nodes together. */
const MAX_ACK_PENDING = 8_192
/** Room for what the broker adds to an entry. */
const HEADER_ROOM_BYTES = 1_024

export function streamConfig(options: Required<StreamSourceOptions>): WantedStream {
  return {
    name: options.stream,
    subjects: [MINE_WILDCARD],
    storage: 'file',
    retention: 'workqueue',
    discard: 'new',
    num_replicas: options.replicas,
    max_bytes: options.maxBytes,
    max_msg_size: LIMITS.frameBytes + HEADER_ROOM_BYTES,
    duplicate_window: 120e9,
  }
}

/** Makes the consumer where there is none; one of an earlier version, which sees a single subject, is made anew: what it handed out comes again. */
export async function sharedConsumer(manager: JetStreamManager, { stream, consumer, ackWaitMs }: Required<StreamSourceOptions>): Promise<ConsumerInfo> {
  for await (const { name, config } of manager.consumers.list(stream)) {
    if (name === consumer && (config.filter_subject ?? '') !== '') await manager.consumers.delete(stream, consumer)
  }
  return manager.consumers.add(stream, {
    durable_name: consumer, ack_policy: 'explicit', deliver_policy: 'all',
    ack_wait: ackWaitMs * 1e6, max_ack_pending: MAX_ACK_PENDING,
    // Counted by the source instead: a message past the broker's own limit would stay in a work queue for ever.
    max_deliver: -1,
  })
}
