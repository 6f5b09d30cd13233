/**
 * Groups as durable pull consumers of the events stream: the broker keeps their position, who has what and how often it was handed out, so
 * any node may answer any member. What is put back for one group stands in the stream of the dead letters under the group's own subject, with
 * a consumer of the same name there, and is taken before the channel's events.
 *
 * Invariants: nothing of a group is kept here; a consumer's settings stand in its configuration, where a broker of 2.9 has room for them: the
 * description. No consumer is used before its position was held against what was noted of it.
 */
import { hash } from 'node:crypto'
import type { ConsumerConfig } from '@nats-io/jetstream'
import { CMeshError } from '../../cmtp/errors.ts'
import { LIMITS } from '../../cmtp/limits.ts'
import { againSubject, eventSubject } from '../../cmtp/subject.ts'
import type { EventGroups, GroupSettings, GroupState, MeshEvent, Taken, TakeOptions } from '../../services/events/provider.ts'
import { ACK, type ConsumerApi, type ConsumerReport, type Handed } from '../jetstream/consumer-api.ts'
import type { StreamApi, StreamReport } from '../jetstream/stream-api.ts'
import type { Floors } from './group-floors.ts'
import { sameBirth } from './group-note.ts'
import { formatToken, noGroup, parseToken, tooMany, type TokenParts } from './group-token.ts'
import { saidBy } from './event-headers.ts'
import { decodeAgain, encodeAgain } from './letters.ts'

export interface JetStreamGroupsParts {
  /** Consumers of the stream of events, and of the stream of what was put back. */
  readonly events: ConsumerApi
  readonly again: ConsumerApi
  readonly floors: Floors
  readonly eventsStream: Pick<StreamApi, 'report' | 'failed'>
  readonly againStream: Pick<StreamApi, 'message' | 'direct' | 'remove' | 'report' | 'purgeOldest'>
  /** The first event of a channel from a sequence on. */
  readonly next: (channel: string, seq: number) => Promise<MeshEvent | undefined>
  /** Stores what was put back. */
  readonly store: (subject: string, data: Uint8Array, id?: string) => Promise<unknown>
}

/** Waits for a first event are no shorter than this, in ms: an answer that says no costs the broker as much as one that waits. */
const LEAST_WAIT_MS = 20
/** How it looks when the next message is asked for of a consumer that is not there. */
const SILENCE: ReadonlySet<string> = new Set(['CMESH_BUS_TIMEOUT', 'CMESH_BUS_NO_RESPONDERS'])

interface Description extends Omit<GroupSettings, 'ackWaitMs'> {
  readonly channel: string
  readonly group: string
}

export class JetStreamGroups implements EventGroups {
  readonly #parts: () => JetStreamGroupsParts

  /** `parts` throws where the provider does not run. */
  constructor(parts: () => JetStreamGroupsParts) {
    this.#parts = parts
  }

  async open(channel: string, group: string, settings: GroupSettings): Promise<GroupState> {
    const { events, again, floors } = this.#parts()
    const name = nameOf(channel, group)
    const place = await floors.place(name)
    const [found, putBack] = await Promise.all([events.report(name), again.report(name)])
    // First the one of the channel: a group without it has no settings.
    const report = found ?? await this.#create(channel, group, settings)
    // Where it begins is noted before anything is taken.
    if (found === undefined) await floors.placeAfresh(name, place)
    if (putBack === undefined) {
      const config = configOf(channel, group, { ...stateOf(report).settings, from: 'first' })
      await again.create(name, { ...config, filter_subject: againSubject(channel, group) })
    }
    return stateOf(report)
  }

  async state(channel: string, group: string): Promise<GroupState> {
    const { events, floors } = this.#parts()
    const name = nameOf(channel, group)
    const found = await floors.place(name) && await events.report(name)
    if (found === undefined) throw noGroup(channel, group)
    return stateOf(found)
  }

  async list(channel: string): Promise<readonly GroupState[]> {
    const subject = eventSubject(channel)
    const all = await this.#parts().events.all()
    return all.filter(({ config }) => config.filter_subject === subject && describes(config)).map(stateOf).sort((a, b) => (a.group < b.group ? -1 : 1))
  }

  async take(channel: string, group: string, options: TakeOptions): Promise<readonly Taken[]> {
    const { again, floors } = this.#parts()
    const name = nameOf(channel, group)
    // The broker is silent where it is asked for the next message of no consumer: this tells first whether the group is there.
    const [found, putBack] = await Promise.all([floors.place(name), again.report(name)])
    if (found === undefined || putBack === undefined) throw noGroup(channel, group)
    if (putBack.num_pending + putBack.num_ack_pending > 0) {
      const taken: Taken[] = []
      const handed = await again.next(name, options.max, LEAST_WAIT_MS)
      for (const each of handed === 'missing' ? [] : handed) {
        const event = decodeAgain(each.data)
        if (event !== undefined) taken.push({ event, attempt: each.delivered, token: formatToken({ ...each, again: true }) })
      }
      if (taken.length > 0) return taken
    }
    for (let place = found; ;) {
      const handed = await this.#next(name, options)
      if (handed !== 'missing' && handed.every(({ seq }) => seq > place.floor)) return handed.map(each => takenOf(channel, each))
      // No consumer, or an event that was settled: its ack was forgotten, the group's position was, or this is another group by now.
      const now = await floors.placeAfresh(name, place)
      const anew = now !== undefined && now.made !== place.made && sameBirth(now.born, place.born)
      // What the consumer handed out that is there no more is in nobody's hand.
      if (handed !== 'missing' && !anew) return handed.map(each => takenOf(channel, each))
      if (now === undefined) throw noGroup(channel, group)
      place = now
    }
  }

  async done(channel: string, group: string, token: string): Promise<void> {
    const { againStream, floors } = this.#parts()
    const parts = parseToken(channel, group, token)
    // The broker knows the place of what is in hand; for what is not, it would take the token's for how far the group has come.
    await this.#settle(channel, group, { ...parts, consumerSeq: 0 }, ACK.done)
    if (!parts.again) floors.settled(nameOf(channel, group))
    // Nobody else is to have it: it need not be kept. Only what is this group's own is looked up.
    else if ((await this.look(channel, group, token)).event !== undefined) await againStream.remove(parts.seq)
  }

  again(channel: string, group: string, token: string, delayMs: number): Promise<void> {
    return this.#settle(channel, group, parseToken(channel, group, token), ACK.again(delayMs))
  }

  async look(channel: string, group: string, token: string): Promise<{ readonly event: MeshEvent | undefined, readonly attempt: number }> {
    const { again, seq, delivered: attempt } = parseToken(channel, group, token)
    const { againStream, next } = this.#parts()
    if (again) {
      const message = await againStream.message({ seq })
      const event = message?.subject === againSubject(channel, group) ? decodeAgain(Buffer.from(message.data ?? '', 'base64')) : undefined
      return { event, attempt }
    }
    const event = await next(channel, seq)
    return { event: event?.seq === seq ? event : undefined, attempt }
  }

  async putBack(group: string, event: MeshEvent, id: string): Promise<void> {
    await this.state(event.channel, group)
    const subject = againSubject(event.channel, group)
    await this.#parts().store(subject, encodeAgain(event), hash('sha256', `${subject} ${id}`, 'base64url'))
  }

  async remove(channel: string, group: string): Promise<boolean> {
    const { events, again, floors } = this.#parts()
    const name = nameOf(channel, group)
    await floors.remove(name)
    const was = await events.remove(name)
    await again.remove(name)
    return was
  }

  async #create(channel: string, group: string, settings: GroupSettings): Promise<ConsumerReport> {
    const { events, eventsStream } = this.#parts()
    const report: StreamReport | undefined = await eventsStream.report()
    if (report === undefined) throw eventsStream.failed('stream not found')
    if (report.state.consumer_count >= LIMITS.eventGroups) throw tooMany(channel, group, LIMITS.eventGroups)
    return events.create(nameOf(channel, group), configOf(channel, group, settings))
  }

  /** The next of the channel's events, or `missing` where the group has no consumer. */
  async #next(name: string, { max, waitMs }: TakeOptions): Promise<readonly Handed[] | 'missing'> {
    const { events } = this.#parts()
    const first = await events.next(name, 1, Math.max(waitMs, LEAST_WAIT_MS)).catch(async (error: unknown) => {
      if (error instanceof CMeshError && SILENCE.has(error.code) && await events.report(name) === undefined) return 'missing' as const
      throw error
    })
    if (first === 'missing') return first
    const more = Math.min(max - 1, first[0]?.pending ?? 0)
    // Whoever else takes from the group may be faster, so that fewer may come.
    const rest = more > 0 ? await events.next(name, more, LEAST_WAIT_MS).catch(() => []) : []
    return [...first, ...(rest === 'missing' ? [] : rest)]
  }

  async #settle(channel: string, group: string, parts: TokenParts, ack: string): Promise<void> {
    const { events, again, floors } = this.#parts()
    const name = nameOf(channel, group)
    const consumers = parts.again ? again : events
    const place = await floors.place(name)
    if (place !== undefined && await consumers.settle(name, parts, ack)) return
    // Not there where it is made anew just now.
    const anew = place !== undefined && await floors.placeAfresh(name, place) !== undefined
    if (!anew || !await consumers.settle(name, parts, ack)) throw noGroup(channel, group)
  }
}

/** The consumer of a group: a name for a broker has no dots and is short. */
function nameOf(channel: string, group: string): string {
  return `g${hash('sha256', `${channel}\0${group}`, 'hex').slice(0, 32)}`
}

function configOf(channel: string, group: string, { ackWaitMs, ...settings }: GroupSettings): Partial<ConsumerConfig> {
  const { from } = settings
  return {
    description: JSON.stringify({ channel, group, ...settings } satisfies Description),
    filter_subject: eventSubject(channel),
    ack_policy: 'explicit',
    ack_wait: ackWaitMs * 1e6,
    // Counting attempts is not the broker's: past its own count it would drop the event without a word.
    max_deliver: -1,
    max_ack_pending: LIMITS.groupInHand,
    replay_policy: 'instant',
    ...(typeof from === 'number' ? { deliver_policy: 'by_start_sequence', opt_start_seq: from } : { deliver_policy: from === 'new' ? 'new' : 'all' }),
  }
}

function describes({ description }: Pick<ConsumerConfig, 'description'>): boolean {
  return description?.startsWith('{"channel":') === true
}

function stateOf({ config, num_ack_pending: inHand, num_pending: waiting }: ConsumerReport): GroupState {
  // There may be more in it, of a consumer that was made anew.
  const { channel, group, from, attempts, backoffMs } = JSON.parse(config.description ?? '') as Description
  return { channel, group, settings: { from, attempts, backoffMs, ackWaitMs: (config.ack_wait ?? 0) / 1e6 }, waiting, inHand }
}

function takenOf(channel: string, handed: Handed): Taken {
  const { seq, timeNs, data, delivered, headers } = handed
  const event = { channel, seq, timeMs: Number(BigInt(timeNs) / 1_000_000n), data, ...saidBy(headers) }
  return { event, attempt: delivered, token: formatToken({ ...handed, again: false }) }
}
