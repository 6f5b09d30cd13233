/**
 * Entries of one batch frame that ask what an earlier one of it has asked. Reads without a body that were answered at once are remembered; who asks the same
 * is told the same, under its own id. Those that stand one behind the other wait here until the next entry is written, to be sealed together.
 *
 * Invariants: (1) what is told again was answered in this turn of the event loop, to the same caller, for the very same bytes of an address, and nothing was written
 * since; (2) who writes another entry, or ends the frame, flushes first, so that entries stand in their order.
 */
import { REPEATED_ENTRY_BYTES, type BatchReplyWriter } from '../../cmtp/batch-reply.ts'
import { HASH_BYTES } from '../../cmtp/frame.ts'
import { MOST_REPEATED_BYTES } from '../../cmtp/receipt/shared-part.ts'
import type { FullEntries } from './full-entries.ts'
import type { Repeatable, Sealing } from './sealing.ts'

/** A read that was answered at once: what whoever asks the same in the same batch is answered with. */
export interface Answered extends Repeatable {
  /** Which entry of the batch it is. */
  readonly entry: number
  /** Where its address stands in the frame. */
  readonly start: number
  readonly end: number
}

/** Different addresses of one batch whose repetition is noticed. */
const DISTINCT = 8

export class Repetitions {
  readonly #sealing: Pick<Sealing, 'repeat'>
  readonly #writer: BatchReplyWriter
  readonly #fully: FullEntries | undefined
  readonly #id: Buffer
  readonly #answered: Answered[] = []
  /** Entries from `#first` on. */
  #waiting: Answered[] = []
  #first = 0
  /** Bytes of headers and bodies that were told again. */
  #told = 0

  /** `id`: of the batch. `fully`: at `full`. */
  constructor(sealing: Pick<Sealing, 'repeat'>, writer: BatchReplyWriter, fully: FullEntries | undefined, id: Buffer) {
    this.#sealing = sealing
    this.#writer = writer
    this.#fully = fully
    this.#id = id
  }

  /** The answered read of the same caller and the very bytes `[start, end)`; compared from their end, where addresses differ. */
  find(auth: unknown, bytes: Buffer, start: number, end: number): Answered | undefined {
    for (const each of this.#answered) {
      if (each.end - each.start !== end - start || each.passage.auth !== auth) continue
      let at = end - 1
      const apart = each.end - end
      while (at >= start && bytes[at] === bytes[at + apart]) at--
      if (at < start) return this.#told + contentBytes(each) <= MOST_REPEATED_BYTES ? each : undefined
    }
    return undefined
  }

  /** Whether another one would be remembered. */
  get room(): boolean {
    return this.#answered.length < DISTINCT
  }

  /** May be told again from here on; only while there is room. */
  remember(answered: Answered): void {
    this.#answered.push(answered)
  }

  /** What was written may be what an earlier entry has read, or whether its caller may. */
  forget(): void {
    this.#answered.length = 0
  }

  /** What the reply comes to with another of them, in bytes. */
  get nextBytes(): number {
    const waiting = this.#waiting.length
    if (this.#fully === undefined) return this.#writer.length + (waiting + 1) * REPEATED_ENTRY_BYTES
    // Leaves that follow on each other share what their paths need.
    return this.#fully.bytes + REPEATED_ENTRY_BYTES + (waiting === 0 ? this.#fully.sharedBytes : 0)
  }

  /** Whether there are any that were not written yet. */
  get waiting(): boolean {
    return this.#waiting.length > 0
  }

  /** Entry `index` is told what was answered. */
  add(answered: Answered, index: number): void {
    if (this.#fully !== undefined) this.#fully.bytes = this.nextBytes
    if (this.#waiting.length === 0) this.#first = index
    this.#told += contentBytes(answered)
    this.#waiting.push(answered)
  }

  /** Seals, records and writes those that wait. */
  flush(): void {
    if (this.#waiting.length === 0) return
    const told = this.#waiting
    this.#waiting = []
    const { finals, recorded } = this.#sealing.repeat(this.#id, this.#first, told)
    for (let i = 0; i < told.length; i++) {
      const { entry } = told[i] as Answered
      if (this.#fully === undefined) this.#writer.repeat(entry, finals, i * HASH_BYTES)
      else this.#fully.repeat(entry, finals, i * HASH_BYTES, recorded && { batch: recorded.batch, index: recorded.index + i })
    }
  }
}

function contentBytes({ reply: { headers, body } }: Answered): number {
  return headers.length + body.length
}
