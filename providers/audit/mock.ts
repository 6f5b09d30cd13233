/** An audit log in memory, for tests and for nodes that keep nothing: whatever the process ends with is gone. */
import { randomBytes } from 'node:crypto'
import type { AuditBatch, AuditEntry, AuditHead, AuditLog } from '../../services/audit/provider.ts'
import { CMeshError } from '../../cmtp/errors.ts'
import { NOTE_OF_REPEAT, NOTE_OF_REQUEST, NOTE_OF_RUN, NOTE_OF_TEXT, notesOfRun, readNote, repeated, type Note } from '../../services/audit/messages.ts'

/** Notes kept of one id. */
const SAME = 4

export interface MockAuditOptions {
  readonly maxBytes: number
  readonly maxAgeMs: number
  readonly now?: () => number
}

interface Segment {
  readonly notes: Note[]
  bytes: number
  newestMs: number
}

export class MockAuditLog implements AuditLog {
  readonly durability = 'memory'
  readonly path = 'memory'
  readonly id = randomBytes(32)
  readonly failure: CMeshError | undefined = undefined
  readonly #options: Required<MockAuditOptions>
  readonly #blocks: Uint8Array[] = []
  readonly #segments: Segment[] = []
  #closed = false

  constructor(options: MockAuditOptions) {
    this.#options = { now: Date.now, ...options }
  }

  get noteBytes(): number {
    return this.#segments.reduce((bytes, segment) => bytes + segment.bytes, 0)
  }

  open(): Promise<AuditHead> {
    return Promise.resolve({ length: this.#blocks.length, last: this.#blocks.at(-1) })
  }

  append({ number, block, notes, apart }: AuditBatch): Promise<void> {
    if (this.#closed) return Promise.reject(new CMeshError('CMESH_AUDIT_FULL', { reason: 'the log is closed' }))
    if (number !== this.#blocks.length) return Promise.reject(new RangeError(`batch ${this.#blocks.length} comes next, not ${number}`))
    const own = Buffer.from(notes)
    const { now } = this.#options
    let segment = this.#segments.at(-1)
    if (apart || segment === undefined) this.#segments.push(segment = { notes: [], bytes: 0, newestMs: 0 })
    for (let note = readNote(own, 0); note !== undefined; note = readNote(own, note.end)) {
      segment.notes.push(...(note.kind === NOTE_OF_RUN ? notesOfRun(note) : [note]))
    }
    segment.bytes += own.length
    segment.newestMs = now()
    this.#blocks.push(block)
    this.#prune()
    return Promise.resolve()
  }

  read(number: number): Promise<Uint8Array> {
    const block = this.#blocks[number]
    return block === undefined ? Promise.reject(new RangeError(`there is no batch ${number}`)) : Promise.resolve(block)
  }

  find(id: Uint8Array): Promise<readonly AuditEntry[]> {
    const found = [...this.#segments].reverse().flatMap(({ notes }) => {
      const textOf = (key: Uint8Array): Promise<Uint8Array | undefined> =>
        Promise.resolve(notes.find(note => note.kind === NOTE_OF_TEXT && note.key.equals(key))?.payload)
      return notes.filter(note => note.key.equals(id)).reverse().flatMap(({ kind, batch, index, payload }) => {
        if (kind === NOTE_OF_REQUEST) return { batch, index, sealed: payload, textOf }
        const isRepeated = (note: Note): boolean => note.kind === NOTE_OF_REQUEST && note.batch === batch && note.index < index && note.key.equals(payload)
        const of = kind === NOTE_OF_REPEAT ? notes.findLast(isRepeated) : undefined
        return of === undefined ? [] : { batch, index, sealed: repeated(of.payload, id), textOf }
      })
    })
    return Promise.resolve(found.slice(0, SAME))
  }

  close(): Promise<void> {
    this.#closed = true
    return Promise.resolve()
  }

  #prune(): void {
    const { maxBytes, maxAgeMs, now } = this.#options
    while (this.#segments.length > 1 && (this.noteBytes > maxBytes || now() - (this.#segments[0] as Segment).newestMs > maxAgeMs)) this.#segments.shift()
  }
}
