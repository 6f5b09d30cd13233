/**
 * What one batch of requests leaves: their leaves, as they stand on the log, and their notes. Two pieces of memory that are written from the
 * front and used again, so that a request costs two copies and no object.
 */
import { HASH_BYTES } from '../../cmtp/frame.ts'
import { putHash, placeOf, type Layer } from '../../cmtp/layer.ts'
import { COUNTER_AT, counterOf, entryId, MESSAGE_ID_BYTES, putCounter, putEntryId } from '../../cmtp/message-id.ts'
import { LEAF_BYTES } from '../../cmtp/receipt/merkle.ts'
import {
  LEAST_RUN, NOTE_HEADER_BYTES, NOTE_KEY_BYTES, NOTE_OF_REPEAT, NOTE_OF_REQUEST, NOTE_OF_RUN, NOTE_OF_TEXT, putNoteHeader, runKey, runLength, runOf,
} from './messages.ts'

/** What a request leaves in its note. A sealer is one, for what it sealed last. */
export interface Noted {
  readonly recordBytes: number
  /** Writes so many bytes, and gives where they end. */
  recordTo(target: Uint8Array, at: number): number
}

/** What many requests have in common, once the texts of their places were noted in a volume. */
export interface Marked {
  noted: object | undefined
}

const FIRST_LEAVES = 1_024
const FIRST_NOTES = 512 * 1_024

export class Recording {
  /** Which batch it becomes. */
  batch = 0
  /** It needs no notes of another batch. */
  apart = false
  count = 0
  /** Notes so far: a run of many requests is one. */
  noteCount = 0
  #leaves: Buffer = Buffer.allocUnsafeSlow(FIRST_LEAVES * LEAF_BYTES)
  #notes: Buffer = Buffer.allocUnsafeSlow(FIRST_NOTES)
  #noted = 0

  /** Leaves so far, 48 bytes each: a view. */
  get leaves(): Buffer {
    return this.#leaves.subarray(0, this.count * LEAF_BYTES)
  }

  /** Notes so far: a view. */
  get notes(): Buffer {
    return this.#notes.subarray(0, this.#noted)
  }

  get noteBytes(): number {
    return this.#noted
  }

  /** Begins anew. */
  clear(batch: number, apart: boolean): void {
    this.batch = batch
    this.apart = apart
    this.count = this.noteCount = 0
    this.#noted = 0
  }

  /**
   * Adds a request and gives its index. `source`: what is kept of it besides. `volume` stands for where notes go
   * together: the texts of a place are noted once in each, and `marked` says that all of these layers' were.
   */
  add(id: Uint8Array, final: string, source: Noted, layers: readonly Layer[], volume: object, texts: Set<string>, marked: Marked | undefined): number {
    const index = this.#leaf(id, final)
    if (marked === undefined || marked.noted !== volume) {
      for (const layer of layers) this.#place(layer, texts)
      if (marked !== undefined) marked.noted = volume
    }
    const at = this.#begin(NOTE_OF_REQUEST, index, source.recordBytes, id)
    source.recordTo(this.#notes, at)
    return index
  }

  /**
   * Adds requests that were each answered as one of this batch: entries `first` and those behind it of the batch frame with the id `frame`. `finals`: their
   * final hashes, one behind the other; `repeated`: the ids of those they repeat, all of that frame. Gives the index of the first; the others follow.
   */
  repeat(frame: Uint8Array, first: number, finals: Uint8Array, repeated: readonly Uint8Array[]): number {
    const index = this.count
    this.#leavesOf(frame, first, finals, repeated.length)
    for (let done = 0; done < repeated.length;) {
      const id = entryId(frame, first + done)
      const length = runLength(id, repeated.length - done)
      if (length >= LEAST_RUN) {
        const payload = runOf(id, repeated.slice(done, done + length))
        this.#notes.set(payload, this.#begin(NOTE_OF_RUN, index + done, payload.length, runKey(id)))
      } else {
        for (let i = done; i < done + length; i++) {
          putEntryId(id, frame, first + i)
          const of = repeated[i] as Uint8Array
          this.#notes.set(of, this.#begin(NOTE_OF_REPEAT, index + i, of.length, id))
        }
      }
      done += length
    }
    return index
  }

  /** The leaves of entries that follow on each other. */
  #leavesOf(frame: Uint8Array, first: number, finals: Uint8Array, count: number): void {
    let at = this.count * LEAF_BYTES
    this.count += count
    const end = this.count * LEAF_BYTES
    if (end > this.#leaves.length) this.#leaves = grown(this.#leaves, end)
    const leaves = this.#leaves
    const counter = counterOf(frame) + first
    for (let from = 0, nth = 0; at < end; at += LEAF_BYTES, nth++) {
      for (let i = 0; i < COUNTER_AT; i++) leaves[at + i] = frame[i] as number
      putCounter(leaves, counter + nth, at)
      for (const to = from + HASH_BYTES, ahead = at + MESSAGE_ID_BYTES - from; from < to; from++) leaves[ahead + from] = finals[from] as number
    }
  }

  #leaf(id: Uint8Array, final: string): number {
    const index = this.count++
    const at = index * LEAF_BYTES
    if (at + LEAF_BYTES > this.#leaves.length) this.#leaves = grown(this.#leaves, at + LEAF_BYTES)
    const leaves = this.#leaves
    for (let i = 0; i < MESSAGE_ID_BYTES; i++) leaves[at + i] = id[i] as number
    putHash(leaves, final, at + MESSAGE_ID_BYTES)
    return index
  }

  #place({ site, grant }: Layer, texts: Set<string>): void {
    const { digest, texts: bytes } = placeOf(site, grant)
    const key = digest.toString('latin1', 0, NOTE_KEY_BYTES)
    if (texts.has(key)) return
    texts.add(key)
    const at = this.#begin(NOTE_OF_TEXT, 0, bytes.length, digest)
    this.#notes.set(bytes, at)
  }

  /** Makes room for a note, in other memory perhaps, and gives where its payload goes. */
  #begin(kind: number, index: number, length: number, key: Uint8Array): number {
    const at = this.#noted
    this.noteCount++
    this.#noted += NOTE_HEADER_BYTES + length
    if (this.#noted > this.#notes.length) this.#notes = grown(this.#notes, this.#noted)
    return putNoteHeader(this.#notes, at, kind, this.batch, index, length, key)
  }
}

function grown(before: Buffer, atLeast: number): Buffer {
  const bytes = Buffer.allocUnsafeSlow(Math.max(atLeast, before.length * 2))
  bytes.set(before)
  return bytes
}
