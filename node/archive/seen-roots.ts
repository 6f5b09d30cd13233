/**
 * Roots of a log that somebody else holds: records as they stand in a file, one behind the other, in any order and of any log. What the log
 * says now is held to them, batch by batch. In memory is only where each one is.
 *
 * Invariants: nothing counts that the node of the log did not sign, so that nobody else can say that it lied; two records that it signed for
 * one batch of one log, or one that does not follow on what the log has before it, are a fork.
 */
import { closeSync, fstatSync, openSync, readSync } from 'node:fs'
import { CMeshError } from '../../cmtp/errors.ts'
import { readUint64 } from '../../cmtp/frame.ts'
import { isSigned, ROOT_RECORD_BYTES } from '../../cmtp/receipt/root.ts'

export interface SeenFacts {
  /** Roots of this log. */
  readonly roots: number
  /** First and last batch among them; both −1 without any. */
  readonly from: number
  readonly to: number
  /** Records that say nothing, since the node of the log did not sign them. */
  readonly unsigned: number
  /** Other logs that the node has signed roots of: hex of the key, and the last batch seen. */
  readonly otherLogs: readonly { readonly log: string, readonly batch: number }[]
}

const CHUNK_RECORDS = 4_096
/** Where things stand in a root record. */
const NODE_AT = 33
const LOG_AT = 65
const BATCH_AT = 97
const PREVIOUS_AT = 149
const HASH_BYTES = 32

export class SeenRoots {
  readonly #file: number
  readonly #from: string
  /** Of this log, by batch: which record of the file, and of which batch. */
  readonly #order: Uint32Array
  readonly #batches: Float64Array
  /** The last record of each other log, by hex of node and log. */
  readonly #others = new Map<string, Buffer>()
  #next = 0
  #unsigned = 0

  /** `from` says whose word it is, for errors; `log` is the key of the log. */
  constructor(file: string, from: string, log: Uint8Array) {
    this.#from = from
    this.#file = openSync(file, 'r')
    const count = Math.floor(fstatSync(this.#file).size / ROOT_RECORD_BYTES)
    this.#batches = new Float64Array(count)
    const own: number[] = []
    for (let at = 0; at < count; at += CHUNK_RECORDS) {
      const some = this.#read(at, Math.min(CHUNK_RECORDS, count - at))
      for (let i = 0; i * ROOT_RECORD_BYTES < some.length; i++) {
        const record = some.subarray(i * ROOT_RECORD_BYTES, (i + 1) * ROOT_RECORD_BYTES)
        const batch = readUint64(record, BATCH_AT)
        this.#batches[at + i] = batch
        if (Buffer.compare(record.subarray(LOG_AT, LOG_AT + HASH_BYTES), log) === 0) own.push(at + i)
        else this.#noteOther(record, batch)
      }
    }
    this.#order = Uint32Array.from(own).sort((a, b) => this.#batchOf(a) - this.#batchOf(b))
  }

  /** Holds the next batch to what was seen of it, and of the one behind it. `head`: hash of its root record. Throws `CMESH_AUDIT_FORKED`. */
  check(path: string, batch: number, own: Uint8Array, head: Uint8Array): void {
    const node = own.subarray(NODE_AT, NODE_AT + HASH_BYTES)
    const forked = (): CMeshError => new CMeshError('CMESH_AUDIT_FORKED', { path, other: this.#from, batch })
    for (; this.#next < this.#order.length; this.#next++) {
      const at = this.#order[this.#next] as number
      if (this.#batchOf(at) > batch) break
      const record = this.#read(at, 1)
      if (Buffer.compare(record, own) !== 0 && this.#counts(record, node)) throw forked()
    }
    for (let next = this.#next; next < this.#order.length; next++) {
      const at = this.#order[next] as number
      if (this.#batchOf(at) !== batch + 1) break
      const record = this.#read(at, 1)
      if (Buffer.compare(record.subarray(PREVIOUS_AT, PREVIOUS_AT + HASH_BYTES), head) !== 0 && this.#counts(record, node)) throw forked()
    }
  }

  /** What was seen behind the end of the log is lost. `own`: its last root record, if it has one. Throws `CMESH_AUDIT_LOST`. */
  end(path: string, length: number, own: Uint8Array | undefined): SeenFacts {
    const node = own?.subarray(NODE_AT, NODE_AT + HASH_BYTES)
    for (; this.#next < this.#order.length; this.#next++) {
      const at = this.#order[this.#next] as number
      if (this.#counts(this.#read(at, 1), node)) throw new CMeshError('CMESH_AUDIT_LOST', { path, length, other: this.#from, batch: this.#batchOf(at) })
    }
    const otherLogs = [...this.#others.values()].filter(record => node !== undefined && this.#counts(record, node))
    const [first, last] = [this.#order[0], this.#order.at(-1)]
    return {
      roots: this.#order.length, from: first === undefined ? -1 : this.#batchOf(first), to: last === undefined ? -1 : this.#batchOf(last),
      unsigned: this.#unsigned,
      otherLogs: otherLogs.map(record => ({ log: record.toString('hex', LOG_AT, LOG_AT + HASH_BYTES), batch: readUint64(record, BATCH_AT) })),
    }
  }

  close(): void {
    closeSync(this.#file)
  }

  #noteOther(record: Buffer, batch: number): void {
    const key = record.toString('hex', NODE_AT, LOG_AT + HASH_BYTES)
    const before = this.#others.get(key)
    if (before === undefined || readUint64(before, BATCH_AT) <= batch) this.#others.set(key, Buffer.from(record))
  }

  /** Whether the node signed it. */
  #counts(record: Buffer, node: Uint8Array | undefined): boolean {
    if (node === undefined || Buffer.compare(record.subarray(NODE_AT, NODE_AT + HASH_BYTES), node) === 0) {
      try {
        if (isSigned(record)) return true
      } catch (error) {
        if (!(error instanceof CMeshError)) throw error
      }
    }
    this.#unsigned++
    return false
  }

  #batchOf(at: number): number {
    return this.#batches[at] as number
  }

  #read(at: number, count: number): Buffer {
    const bytes = Buffer.allocUnsafe(count * ROOT_RECORD_BYTES)
    readSync(this.#file, bytes, 0, bytes.length, at * ROOT_RECORD_BYTES)
    return bytes
  }
}
