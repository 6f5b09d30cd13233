/** Drives publications into a JetStream stream, each with its ack, correlated by hand: what a replicated log costs at least. */
import { jetstreamManager } from '@nats-io/jetstream'
import { RawRequester, type RawLogin } from '../raw/requester.ts'
import type { Driver } from './index.ts'

export interface JetStreamOptions extends RawLogin {
  /** Bytes of one message. */
  readonly bytes: number
  /** Servers that keep the stream. */
  readonly replicas: number
}

const STREAM = 'bench'
const SUBJECT = 'bench.log'
/** Keeps what one round or two write, so that the disk does not fill. */
const STREAM_BYTES = 64 * 1_024 * 1_024

export async function openJetStream({ bytes, replicas, ...login }: JetStreamOptions): Promise<Driver> {
  const requester = await RawRequester.open(login)
  const manager = await jetstreamManager(requester.connection)
  await manager.streams.add({ name: STREAM, subjects: [SUBJECT], storage: 'file', num_replicas: replicas, max_bytes: STREAM_BYTES })
  const payload = new Uint8Array(bytes)
  return {
    operation: async () => {
      const ack = Buffer.from(await requester.request(SUBJECT, payload)).toString()
      if (!ack.includes('"seq"')) throw new Error(`JetStream refused a message: ${ack}`)
    },
    close: () => requester.close(),
  }
}
