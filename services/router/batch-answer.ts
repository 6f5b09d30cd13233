/**
 * One batch frame on its way to its reply: each of its entries is answered as a request of its own is, and the frame leaves when all of them
 * are. What repeats an earlier entry is told again (`repetitions.ts`); what does not fit into the frame is refused on its own.
 *
 * Invariants: entries stand in the reply in their order, whichever was answered first; one that is early is sealed when it is its turn; the reply
 * leaves once.
 */
import type { BatchEntry, BatchFrame } from '../../cmtp/batch.ts'
import { BatchReplyWriter, REPLY_ENTRY_BYTES } from '../../cmtp/batch-reply.ts'
import { CMeshError } from '../../cmtp/errors.ts'
import type { Route } from '../../cmtp/fqmn.ts'
import { LIMITS } from '../../cmtp/limits.ts'
import { entryId } from '../../cmtp/message-id.ts'
import { ENTRY_PART_BYTES, SHARED_EVIDENCE_BYTES, SHARED_HEAD_BYTES } from '../../cmtp/receipt/shared-part.ts'
import { errorReply, type Reply } from '../call.ts'
import { saying } from '../traces/trace.ts'
import type { Caller, Callers } from './callers.ts'
import { FullEntries } from './full-entries.ts'
import type { Envelope, Origin, Passage } from './passage.ts'
import { Repetitions } from './repetitions.ts'
import type { SealedReply, Sealing } from './sealing.ts'

/** What of the front door its entries go through. Nothing of it throws. */
export interface BatchDoor {
  readonly sealing: Sealing
  readonly callers: Pick<Callers, 'ofEntry'>
  readonly stats: { repeated: number }
  routeOf(bytes: Buffer, start: number, end: number): Route | CMeshError
  passage(envelope: Envelope, id: Uint8Array, headers: Uint8Array, body: Uint8Array, origin: Origin, route: Route, startUs: number): Passage
  answer(passage: Passage, auth: Caller | Promise<Caller>): Reply | Promise<Reply>
  /** Calls back once, at the deadline at the latest. */
  await(passage: Passage, reply: Promise<Reply>, answered: (reply: Reply) => void): void
  counted(reply: Reply): Reply
  /** The reply that promises nothing. */
  unrecorded(id: Uint8Array, error: CMeshError): Buffer
}

export interface BatchAnswerParts {
  readonly door: BatchDoor
  readonly frame: BatchFrame
  readonly origin: Origin
  readonly startUs: number
  readonly answer: (frame: Buffer) => void
}

const EMPTY = Buffer.alloc(0)
/** Kept free in the reply for each entry still to come, so that one which does not fit is refused on its own; that takes about 300. */
const REFUSED_ENTRY_BYTES = 512
/** What an entry at `full` takes besides its head, its evidence, its root and its path. */
const FULL_ENTRY_BYTES = ENTRY_PART_BYTES + SHARED_HEAD_BYTES + SHARED_EVIDENCE_BYTES

export class BatchAnswer {
  readonly #parts: BatchAnswerParts
  /** A copy: the frame's memory is the broker connection's. */
  readonly #id: Buffer
  readonly #writer: BatchReplyWriter
  /** At `full`. */
  readonly #fully: FullEntries | undefined
  readonly #repetitions: Repetitions
  /** Entries that were answered before it was their turn. */
  readonly #parked = new Map<number, () => void>()
  /** The entry that is written next. */
  #next = 0

  constructor(parts: BatchAnswerParts) {
    const { door, frame: { id, entries, receipt }, answer } = parts
    this.#parts = parts
    this.#id = Buffer.from(id)
    this.#writer = new BatchReplyWriter(this.#id, entries.length, receipt)
    if (receipt === 'full') {
      this.#fully = new FullEntries(this.#writer, entries.length, door.sealing.audit, told => {
        answer(told instanceof CMeshError ? door.unrecorded(this.#id, told) : told)
      })
    }
    this.#repetitions = new Repetitions(door.sealing, this.#writer, this.#fully, this.#id)
  }

  /** `envelope`: whose the frame is. */
  begin(envelope: Caller): void {
    const { door, frame, origin } = this.#parts
    for (let i = 0; i < frame.entries.length; i++) {
      const entry = frame.entries[i] as BatchEntry
      const auth = frame.ownTokens ? door.callers.ofEntry(frame.referenceOf(entry), origin, envelope) : envelope
      if (!this.#repeats(i, entry, auth)) this.#ask(i, entry, auth)
    }
    if (!this.#repetitions.waiting) return
    this.#repetitions.flush()
    this.#unpark()
  }

  /** Whether the entry was told what an earlier one was answered. */
  #repeats(index: number, { fqmnStart, fqmnEnd, end }: BatchEntry, auth: Caller | Promise<Caller>): boolean {
    if (end !== fqmnEnd || index !== this.#next) return false
    const { door, frame } = this.#parts
    const before = this.#repetitions.find(auth, frame.bytes, fqmnStart, fqmnEnd)
    if (before === undefined || this.#repetitions.nextBytes > this.#limit(index)) return false
    this.#repetitions.add(before, index)
    door.counted(before.reply)
    door.stats.repeated++
    this.#next++
    return true
  }

  #ask(index: number, { fqmnStart, fqmnEnd, headersEnd, end }: BatchEntry, auth: Caller | Promise<Caller>): void {
    const { door, frame, origin, startUs } = this.#parts
    const { bytes } = frame
    const id = entryId(this.#id, index)
    const route = door.routeOf(bytes, fqmnStart, fqmnEnd)
    if (route instanceof CMeshError) return this.#settle(index, undefined, id, errorReply(route))
    const headers = headersEnd === fqmnEnd ? EMPTY : bytes.subarray(fqmnEnd, headersEnd)
    const body = end === headersEnd ? EMPTY : bytes.subarray(headersEnd, end)
    const passage = door.passage(frame, id, headers, body, origin, route, startUs)
    const reply = door.answer(passage, auth)
    if (route.write) this.#repetitions.forget()
    if (reply instanceof Promise) return door.await(passage, reply, late => { this.#settle(index, passage, id, late) })
    if (index !== this.#next) return this.#settle(index, passage, id, reply)
    const sent = this.#write(passage, id, reply)
    // Before anything else is sealed: what its final hash was made of lies in the sealer's memory.
    if (sent && end === fqmnEnd && reply.status < 400 && !route.write && this.#repetitions.room) {
      this.#repetitions.remember({ passage, reply, entry: index, start: fqmnStart, end: fqmnEnd, made: door.sealing.kept(frame.receipt) })
    }
    this.#unpark()
  }

  #settle(index: number, passage: Passage | undefined, id: Uint8Array, reply: Reply): void {
    if (index !== this.#next) {
      this.#parked.set(index, () => { this.#write(passage, id, reply) })
      return
    }
    this.#write(passage, id, reply)
    this.#unpark()
  }

  /** Writes those whose turn it has become, and sends the frame behind the last. At `full` it leaves by itself, once its roots are on the log. */
  #unpark(): void {
    const { frame: { entries }, answer } = this.#parts
    for (let waiting = this.#parked.get(this.#next); waiting !== undefined; waiting = this.#parked.get(this.#next)) {
      this.#parked.delete(this.#next)
      waiting()
    }
    if (this.#next === entries.length && this.#fully === undefined) answer(this.#writer.finish())
  }

  /** Seals, records and writes the next entry. Gives whether it is what was asked for: `false` where that did not fit. */
  #write(passage: Passage | undefined, id: Uint8Array, asked: Reply): boolean {
    this.#repetitions.flush()
    const { door, frame: { receipt }, startUs } = this.#parts
    const { sealing } = door
    const fully = this.#fully
    const limit = this.#limit(this.#next)
    let reply = saying(passage?.trace, asked)
    let sealed = sealing.seal(passage, id, receipt, reply, startUs)
    const own = entryBytes(reply, sealed, fully === undefined ? 0 : fully.sharedBytes + (passage?.route.write === true ? sealing.evidenceBytes : 0))
    const bytes = (fully?.bytes ?? this.#writer.length) + own
    const fits = bytes <= limit
    if (!fits) {
      reply = errorReply(new CMeshError('CMESH_FRAME_TOO_LARGE', { part: 'batch reply', bytes, limit }))
      // The router's layer says what is sent; it was the last.
      passage?.layers.pop()
      sealed = sealing.seal(passage, id, receipt, reply, startUs)
    }
    door.counted(reply)
    if (fully === undefined) {
      sealing.record(id, sealed)
      this.#writer.add(reply.status, sealed.finalHash, reply.headers, undefined, reply.body)
    } else {
      fully.bytes += fits ? own : REFUSED_ENTRY_BYTES
      const evidence = sealing.evidence(sealed)
      fully.add(reply, sealed.finalHash, fits ? sealed.head : undefined, sealing.record(id, sealed), evidence)
    }
    this.#next++
    return fits
  }

  /** The most that the reply may come to with entry `index`, in bytes. */
  #limit(index: number): number {
    return LIMITS.frameBytes - (this.#parts.frame.entries.length - index - 1) * REFUSED_ENTRY_BYTES
  }
}

/** What an entry takes; at `full` reckoned high. */
function entryBytes({ headers, body }: Reply, { head }: SealedReply, shared: number): number {
  return REPLY_ENTRY_BYTES + headers.length + body.length + (head === undefined ? 0 : head.length + FULL_ENTRY_BYTES + shared)
}
