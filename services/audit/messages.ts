/**
 * A note: what is kept of a request besides its leaf, or the texts that a digest in it stands for.
 *
 *   note   kind (1) · batch (6) · index (4) · length (4) · key (16) · payload
 *
 * Integers are in network byte order. The key of a request is its message id, that of a text the first half of its digest. A request that was
 * answered as another of its batch, and differs from it in its id alone, has that one's id as its payload; many of them are a run.
 */
import { counterOf, COUNTER_AT, MESSAGE_ID_BYTES, putCounter } from '../../cmtp/message-id.ts'

export const NOTE_OF_REQUEST = 1
export const NOTE_OF_TEXT = 2
export const NOTE_OF_REPEAT = 3
export const NOTE_OF_RUN = 4
const LAST_KIND = NOTE_OF_RUN
export const NOTE_KEY_BYTES = 16
export const NOTE_HEADER_BYTES = 31
const KEY_AT = 15
/** Where the id stands in the payload of a request's note (`LayerSealer.recordTo`). */
const ID_AT = 17

export interface Note {
  readonly kind: number
  readonly batch: number
  readonly index: number
  readonly key: Buffer
  readonly payload: Buffer
  /** Where the next one begins. */
  readonly end: number
}

/** Writes the header of a note and gives where its payload begins. */
export function putNoteHeader(b: Buffer, at: number, kind: number, batch: number, index: number, length: number, key: Uint8Array): number {
  const high = Math.floor(batch / 0x1_0000_0000)
  b[at] = kind
  b[at + 1] = high >>> 8
  b[at + 2] = high
  b[at + 3] = batch >>> 24
  b[at + 4] = batch >>> 16
  b[at + 5] = batch >>> 8
  b[at + 6] = batch
  b[at + 7] = index >>> 24
  b[at + 8] = index >>> 16
  b[at + 9] = index >>> 8
  b[at + 10] = index
  b[at + 11] = length >>> 24
  b[at + 12] = length >>> 16
  b[at + 13] = length >>> 8
  b[at + 14] = length
  for (let i = 0; i < NOTE_KEY_BYTES; i++) b[at + KEY_AT + i] = key[i] as number
  return at + NOTE_HEADER_BYTES
}

/** The note at an offset; `undefined` where there is no whole one. Total. Views into `bytes`. */
export function readNote(bytes: Buffer, at: number): Note | undefined {
  if (at + NOTE_HEADER_BYTES > bytes.length) return undefined
  const kind = bytes[at] as number
  const end = at + NOTE_HEADER_BYTES + bytes.readUInt32BE(at + 11)
  if (kind < NOTE_OF_REQUEST || kind > LAST_KIND || end > bytes.length) return undefined
  return {
    kind, end,
    batch: bytes.readUIntBE(at + 1, 6),
    index: bytes.readUInt32BE(at + 7),
    key: bytes.subarray(at + KEY_AT, at + NOTE_HEADER_BYTES),
    payload: bytes.subarray(at + NOTE_HEADER_BYTES, end),
  }
}

/** Calls `each` with where the key of each whole note stands, and where that note begins. */
export function eachKey(bytes: Buffer, each: (keyAt: number, at: number) => void): void {
  for (let at = 0; at + NOTE_HEADER_BYTES <= bytes.length;) {
    const kind = bytes[at] as number
    const end = at + NOTE_HEADER_BYTES + bytes.readUInt32BE(at + 11)
    if (kind < NOTE_OF_REQUEST || kind > LAST_KIND || end > bytes.length) return
    each(at + KEY_AT, at)
    at = end
  }
}

/** The payload of the note of a request that repeats another, whose payload is `of`. */
export function repeated(of: Uint8Array, id: Uint8Array): Buffer {
  const payload = Buffer.from(of)
  payload.set(id, ID_AT)
  return payload
}

/*
 * A run: the note of entries that follow on each other in a batch frame, each of which was answered as another entry of that frame. It stands for as many notes
 * of repetitions, takes a byte for each instead of 47, and one place in an index. Its entries have ids that differ in their last six bits alone.
 *
 *   run   place of its first entry among those 64 ids (1) · number of entries that were repeated (1) · their counters (4 each)
 *         · for each entry of the run the number of the one that it repeats (1)
 *
 * The index in its header is that of its first entry; the others follow. Its key stands for the 64 ids, and is no id that a clock of our days makes.
 */

/** Ids that share a key. */
const WINDOW = 64
/** Fewer entries have a note each: of one key an index keeps few runs, and so many go into the ids that share it. */
export const LEAST_RUN = 16
const HEAD_BYTES = 2
const COUNTER_BYTES = MESSAGE_ID_BYTES - COUNTER_AT

/** The key of the runs that may have this id. */
export function runKey(id: Uint8Array): Buffer {
  const key = Buffer.from(id)
  key[0] = (key[0] as number) ^ 0xff
  key[MESSAGE_ID_BYTES - 1] = (key[MESSAGE_ID_BYTES - 1] as number) & -WINDOW
  return key
}

/** How many of `count` entries from this id on may be in one run. */
export function runLength(id: Uint8Array, count: number): number {
  return Math.min(count, WINDOW - placeOf(id))
}

/** The payload of a run of entries from `id` on: `repeated` are the ids of those that they repeat. */
export function runOf(id: Uint8Array, repeated: readonly Uint8Array[]): Buffer {
  const kinds = [...new Set(repeated)]
  const payload = Buffer.allocUnsafe(HEAD_BYTES + kinds.length * COUNTER_BYTES + repeated.length)
  payload[0] = placeOf(id)
  payload[1] = kinds.length
  kinds.forEach((kind, i) => payload.writeUInt32BE(counterOf(kind), HEAD_BYTES + i * COUNTER_BYTES))
  const at = HEAD_BYTES + kinds.length * COUNTER_BYTES
  for (let i = 0; i < repeated.length; i++) payload[at + i] = kinds.indexOf(repeated[i] as Uint8Array)
  return payload
}

/** The notes of repetitions that a run stands for; none of one that cannot be read. */
export function notesOfRun({ batch, index, key, payload, end }: Note): Note[] {
  const kinds = payload[1] ?? 0
  const at = HEAD_BYTES + kinds * COUNTER_BYTES
  const first = Buffer.from(key)
  first[0] = (first[0] as number) ^ 0xff
  const place = payload[0] ?? WINDOW
  const notes: Note[] = []
  for (let i = 0; at + i < payload.length && place + i < WINDOW; i++) {
    const kind = payload[at + i] as number
    if (kind >= kinds) return []
    notes.push({
      kind: NOTE_OF_REPEAT, batch, index: index + i, end,
      key: numbered(first, counterOf(first) + place + i), payload: numbered(first, payload.readUInt32BE(HEAD_BYTES + kind * COUNTER_BYTES)),
    })
  }
  return notes
}

function placeOf(id: Uint8Array): number {
  return (id[MESSAGE_ID_BYTES - 1] as number) & (WINDOW - 1)
}

function numbered(id: Uint8Array, counter: number): Buffer {
  const other = Buffer.from(id)
  putCounter(other, counter)
  return other
}
