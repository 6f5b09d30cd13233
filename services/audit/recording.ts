/**
 * What one batch of requests leaves: their leaves, as they stand on the log, and their notes. Two pieces of memory that are written from the
 * front and used again, so that a request costs two copies and no object.
 */
import { putHash, placeOf, type Layer } from '../../cmtp/layer.ts'
import { MESSAGE_ID_BYTES } from '../../cmtp/message-id.ts'
import { LEAF_BYTES } from '../../cmtp/receipt/merkle.ts'
import { NOTE_HEADER_BYTES, NOTE_KEY_BYTES, NOTE_OF_REPEAT, NOTE_OF_REQUEST, NOTE_OF_TEXT, putNoteHeader } from './messages.ts'

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
    this.count = 0
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

  /** Adds a request that was answered as one of this batch with the id `of`, and differs from it in nothing else. */
  repeat(id: Uint8Array, final: string, of: Uint8Array): number {
    const index = this.#leaf(id, final)
    const at = this.#begin(NOTE_OF_REPEAT, index, of.length, id)
    this.#notes.set(of, at)
    return index
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
