/**
 * What is noted of a group, and the same as the broker's report of its consumer has it: which group it is, which of its consumers, how far it has come.
 */
import { DeliverPolicy } from '@nats-io/jetstream'
import type { ConsumerConfig } from '@nats-io/jetstream'
import type { ConsumerReport } from '../jetstream/consumer-api.ts'

/** Where a group is, as far as it was noted. */
export interface Place {
  /** When the group was made, which tells it from another one of the name (`sameBirth`). */
  readonly born: string
  /** Tells its consumer from the one it had before: the place of the note that it was made anew by, 0 for the first. */
  readonly made: number
  /** Everything of the group up to here is settled. */
  readonly floor: number
}

/** As it is stored, in JSON. */
export interface Note extends Pick<Place, 'born' | 'floor'> {
  readonly config?: Partial<ConsumerConfig>
}

/** With its place in the stream, and when it was stored. */
export interface StoredNote extends Note {
  readonly seq: number
  readonly time: string
}

/** How much later, at most, in ms. */
const SAME_BIRTH_MS = 1_000

/** A nats-server of 2.9 says a little later when a consumer was made once it has read that from its file. */
export function sameBirth(one: string, other: string): boolean {
  return Math.abs(Date.parse(one) - Date.parse(other)) < SAME_BIRTH_MS
}

/** A time of the broker's, in UTC to the nanosecond and without zeros at its end, as text that sorts by it. */
export function instant(time: string): string {
  return time.replace('Z', '')
}

/** Nobody but the mesh writes there; what it did not write is of no group. */
export function decodeNote(bytes: Uint8Array): Note {
  try {
    const { born, floor, config } = JSON.parse(Buffer.from(bytes).toString('utf8')) as Note & { readonly config: Note['config'] | null }
    if (typeof born === 'string' && Number.isSafeInteger(floor)) return { born, floor, ...(typeof config === 'object' && config !== null && { config }) }
  } catch {
    // As below.
  }
  return { born: '', floor: 0 }
}

/** Up to where all is settled. What is ahead of what was handed out is nobody's word. */
export function floorOf({ delivered, ack_floor: settled, num_ack_pending: inHand }: ConsumerReport): number {
  const handedOut = sequence(delivered.stream_seq)
  return inHand === 0 ? handedOut : Math.min(handedOut, sequence(settled.stream_seq))
}

/** A consumer whose state cannot be read is before its beginning, and says the largest number there is. */
export function sequence(seq: number): number {
  return Number.isSafeInteger(seq) ? seq : 0
}

/** What a consumer's description says of where it comes from; of a group's first one that is nothing. */
export function originOf({ config: { description = '{}' }, created }: ConsumerReport): Pick<Place, 'born' | 'made'> {
  const { born = created, made = 0 } = JSON.parse(description) as Partial<Place>
  return { born, made }
}

/** The configuration of such a consumer that begins behind what was settled. */
export function begunBehind({ config }: ConsumerReport, { born, floor, seq }: StoredNote): Partial<ConsumerConfig> {
  const description = JSON.stringify({ ...JSON.parse(config.description ?? '{}') as object, born, made: seq })
  return { ...config, description, deliver_policy: DeliverPolicy.StartSequence, opt_start_seq: floor + 1 }
}
