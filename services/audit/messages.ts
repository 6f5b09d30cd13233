/**
 * A note: what is kept of a request besides its leaf, or the texts that a digest in it stands for.
 *
 *   note   kind (1) · batch (6) · index (4) · length (4) · key (16) · payload
 *
 * Integers are in network byte order. The key of a request is its message id, that of a text the first half of its digest. A request that was
 * answered as another of its batch, and differs from it in its id alone, has that one's id as its payload.
 */

export const NOTE_OF_REQUEST = 1
export const NOTE_OF_TEXT = 2
export const NOTE_OF_REPEAT = 3
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
  if (kind < NOTE_OF_REQUEST || kind > NOTE_OF_REPEAT || end > bytes.length) return undefined
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
    if (kind < NOTE_OF_REQUEST || kind > NOTE_OF_REPEAT || end > bytes.length) return
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
