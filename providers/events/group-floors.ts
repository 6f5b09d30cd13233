/**
 * Up to where each group has settled its events, noted once more beside the broker's own account. A nats-server of 2.9 or 2.10 empties the file with a
 * consumer's state before it fills it again; killed between the two, it has a consumer that begins with the first message there is. The note says that
 * this cannot be: then the consumer is made anew behind it.
 *
 * Invariants:
 * 1. A note says no more than the broker has said is settled, and counts for the group it was written for alone, not for a later one of that name.
 * 2. A note is written only where the one its writer knew is still the newest. So of several nodes one makes a consumer anew, and none does for a group
 *    that was removed.
 * 3. A note that carries a configuration is of a consumer that is being made anew, and may be missing: whoever finds it there for too long goes on with it.
 * 4. What is kept here is known to be true while the connection lasts, and is read again behind it: a take costs no call more for it.
 */
import type { ConsumerConfig } from '@nats-io/jetstream'
import { CMeshError } from '../../cmtp/errors.ts'
import { LIMITS } from '../../cmtp/limits.ts'
import { FLOOR_WILDCARD, floorSubject } from '../../cmtp/subject.ts'
import type { JetStreamBus } from '../jetstream/calls.ts'
import type { ConsumerApi, ConsumerReport } from '../jetstream/consumer-api.ts'
import { pause } from '../jetstream/publish.ts'
import type { StreamApi } from '../jetstream/stream-api.ts'
import type { WantedStream } from '../jetstream/stream.ts'
import { begunBehind, decodeNote, floorOf, instant, originOf, sameBirth, sequence, type Note, type Place, type StoredNote } from './group-note.ts'

export interface Floors {
  /** The place of a group whose consumer is fit to be used; `undefined` where it has none. */
  place(consumer: string): Promise<Place | undefined>
  /** The same, where what was known has shown to be wrong; `undefined` where nothing is noted, too. */
  placeAfresh(consumer: string, known: Place | undefined): Promise<Place | undefined>
  /** Something of the group was settled. */
  settled(consumer: string): void
  /** Forgets a group, before its consumer is removed. */
  remove(consumer: string): Promise<void>
  /** Notes nothing more. Idempotent. */
  close(): void
}

export interface GroupFloorsParts {
  readonly bus: Pick<JetStreamBus, 'onStatus'>
  readonly events: Pick<ConsumerApi, 'report' | 'create' | 'remove'>
  readonly eventsStream: Pick<StreamApi, 'report' | 'message'>
  readonly notes: Pick<StreamApi, 'message' | 'put' | 'purgeOldest'>
  readonly stopping: AbortSignal
}

interface Known extends Place {
  floor: number
  /** Of the note. */
  seq: number
}

/** How long a group goes without a note, in ms, from when something was settled. */
const NOTE_MS = 1_000
/** How long one node makes a consumer anew before another does it, in ms, and how often that one looks. */
const PATIENCE_MS = 3_000
const LOOK_MS = 50
/** A note is a few hundred bytes, and there are as many as groups. */
const MAX_BYTES = 4 * 1_024 * 1_024

export class GroupFloors implements Floors {
  readonly #parts: GroupFloorsParts
  readonly #known = new Map<string, Promise<Known | undefined>>()
  readonly #noting = new Map<string, NodeJS.Timeout>()
  readonly #stopListening: () => void

  constructor(parts: GroupFloorsParts) {
    this.#parts = parts
    this.#stopListening = parts.bus.onStatus(status => { if (status !== 'connected') this.#known.clear() })
  }

  place(consumer: string): Promise<Known | undefined> {
    const known = this.#known.get(consumer)
    if (known !== undefined) return known
    // More than there are: some were removed by other nodes.
    if (this.#known.size >= LIMITS.eventGroups) this.#known.clear()
    const looking = this.#look(consumer)
    this.#known.set(consumer, looking)
    const forget = (): void => { if (this.#known.get(consumer) === looking) this.#known.delete(consumer) }
    looking.then(place => { if (place === undefined) forget() }, forget)
    return looking
  }

  async placeAfresh(consumer: string, known: Place | undefined): Promise<Known | undefined> {
    const now = this.#known.get(consumer)
    // Whoever was faster has it, or is looking.
    if (await now === known && this.#known.get(consumer) === now) this.#known.delete(consumer)
    return this.place(consumer)
  }

  settled(consumer: string): void {
    if (this.#noting.has(consumer)) return
    const timer = setTimeout(() => {
      this.#noting.delete(consumer)
      // Where it fails nobody is worse off than before, and what is settled next has it noted again.
      this.#note(consumer).catch(() => undefined)
    }, NOTE_MS)
    this.#noting.set(consumer, timer.unref())
  }

  async remove(consumer: string): Promise<void> {
    clearTimeout(this.#noting.get(consumer))
    this.#noting.delete(consumer)
    await this.#parts.notes.purgeOldest(floorSubject(consumer), 0)
    this.#known.delete(consumer)
  }

  close(): void {
    this.#stopListening()
    for (const timer of this.#noting.values()) clearTimeout(timer)
    this.#noting.clear()
  }

  async #note(consumer: string): Promise<void> {
    // Once, unless another node writes it at the same time, or made the group or its consumer anew.
    for (let known = await this.place(consumer); known !== undefined; known = await this.placeAfresh(consumer, known)) {
      const report = await this.#parts.events.report(consumer)
      if (report === undefined) return
      const floor = floorOf(report)
      const { born, made } = originOf(report)
      if (made !== known.made || !sameBirth(born, known.born)) continue
      if (floor <= known.floor) return
      const seq = await this.#put(consumer, { born: known.born, floor }, known.seq)
      if (seq !== undefined) return void Object.assign(known, { floor, seq })
    }
  }

  async #look(consumer: string): Promise<Known | undefined> {
    const { events, stopping } = this.#parts
    let waited = { seq: 0, ms: 0 }
    for (;;) {
      if (stopping.aborted) throw new CMeshError('CMESH_BUS_CLOSED')
      const [report, note] = await Promise.all([events.report(consumer), this.#read(consumer)])
      if (note?.config !== undefined) {
        if (note.seq !== waited.seq) waited = { seq: note.seq, ms: 0 }
        if (waited.ms < PATIENCE_MS) {
          waited.ms += LOOK_MS
          await pause(LOOK_MS, stopping)
        } else {
          const made = await this.#makeAnew(consumer, note, note.config)
          if (made !== undefined) return made
        }
        continue
      }
      if (report === undefined) return undefined
      const found = await this.#hold(consumer, report, note)
      if (found !== undefined) return found
    }
  }

  /** The consumer held against its note; `undefined` where both have to be looked at again. */
  async #hold(consumer: string, report: ConsumerReport, note: StoredNote | undefined): Promise<Known | undefined> {
    const { born, made } = originOf(report)
    if (note !== undefined && sameBirth(note.born, born)) {
      const { floor, seq } = note
      if (sequence(report.delivered.stream_seq) >= floor) return { born: note.born, made, floor, seq }
      if (await this.#reaches(note)) return this.#makeAnew(consumer, note, begunBehind(report, note))
    }
    const floor = floorOf(report)
    const seq = await this.#put(consumer, { born, floor }, note?.seq ?? 0)
    return seq === undefined ? undefined : { born, made, floor, seq }
  }

  /**
   * Whether what was noted is of the stream as it is. One that lost its end, as when the power fails, gives the same sequences to other
   * events: those were stored after the note.
   */
  async #reaches({ floor, time }: StoredNote): Promise<boolean> {
    const { eventsStream } = this.#parts
    const [stream, last] = await Promise.all([eventsStream.report(), eventsStream.message({ seq: floor })])
    return (stream?.state.last_seq ?? 0) >= floor && (last === undefined || instant(last.time) <= instant(time))
  }

  /** Makes the consumer anew; `undefined` where another node does, or has removed the group. */
  async #makeAnew(consumer: string, { born, floor, seq: known }: StoredNote, config: Partial<ConsumerConfig>): Promise<Known | undefined> {
    const { events } = this.#parts
    // From here on a broker or node that is killed leaves no group behind that nobody knows of.
    const claimed = await this.#put(consumer, { born, floor, config }, known)
    if (claimed === undefined) return undefined
    await events.remove(consumer)
    const { made } = originOf(await events.create(consumer, config))
    const seq = await this.#put(consumer, { born, floor }, claimed)
    if (seq !== undefined) return { born, made, floor, seq }
    // Whoever removed the group meanwhile may have found no consumer to remove.
    if (await this.#read(consumer) === undefined) await events.remove(consumer)
    return undefined
  }

  async #read(consumer: string): Promise<StoredNote | undefined> {
    const message = await this.#parts.notes.message({ last_by_subj: floorSubject(consumer) })
    if (message === undefined) return undefined
    const { data = '', seq, time } = message
    return { ...decodeNote(Buffer.from(data, 'base64')), seq, time }
  }

  #put(consumer: string, note: Note, after: number): Promise<number | undefined> {
    return this.#parts.notes.put(floorSubject(consumer), Buffer.from(JSON.stringify(note)), after)
  }
}

/** Where several brokers keep each group's state: they have it from each other, and need no notes. */
export const NO_FLOORS: Floors = {
  place: () => Promise.resolve({ born: '', made: 0, floor: 0 }),
  placeAfresh: () => Promise.resolve(undefined),
  settled: () => undefined,
  remove: () => Promise.resolve(),
  close: () => undefined,
}

export function floorsConfig(name: string): WantedStream {
  return {
    name,
    subjects: [FLOOR_WILDCARD],
    storage: 'file',
    retention: 'limits',
    discard: 'old',
    num_replicas: 1,
    max_msgs_per_subject: 1,
    max_bytes: MAX_BYTES,
  }
}
