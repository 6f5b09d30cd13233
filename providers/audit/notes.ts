/**
 * The notes of a node's requests, in segments: files that are written one after another and go, the oldest first, when they are too old or
 * there are too many bytes of them. The newest always stays. Which batch begins a segment is for the caller to say.
 */
import { mkdir, readdir } from 'node:fs/promises'
import { join } from 'node:path'
import type { AuditBatch, AuditEntry } from '../../services/audit/provider.ts'
import { NOTE_OF_REPEAT, NOTE_OF_REQUEST, NOTE_OF_TEXT, repeated, type Note } from '../../services/audit/messages.ts'
import { SAME } from './note-index.ts'
import { Segment } from './segment.ts'

export interface NotesOptions {
  /** Made with mode 0700 when missing. */
  readonly dir: string
  readonly sync: boolean
  /** Most bytes of notes; the newest segment stays whatever it has. */
  readonly maxBytes: number
  /** How long after its last note a segment is kept, ms. */
  readonly maxAgeMs: number
  /** ms since 1970. */
  readonly now: () => number
}

/** Name of a segment. */
export const SEGMENT_FILE = /^(\d{8})\.seg$/

export class Notes {
  readonly #options: NotesOptions
  /** The oldest first. */
  readonly #segments: Segment[] = []
  #next = 0
  #newest: Segment | undefined

  constructor(options: NotesOptions) {
    this.#options = options
  }

  get bytes(): number {
    return this.#segments.reduce((bytes, segment) => bytes + segment.bytes, 0)
  }

  /** Takes up what is there. `length`: batches on the log. Gives the newest batch that there were notes of, −1 for none. */
  async open(length: number): Promise<number> {
    const { dir } = this.#options
    await mkdir(dir, { recursive: true, mode: 0o700 })
    const numbers = (await readdir(dir)).flatMap(name => SEGMENT_FILE.exec(name)?.[1] ?? []).map(Number).sort((a, b) => a - b)
    let newest = -1
    for (const number of numbers) {
      const { segment, last } = await Segment.found(this.#pathOf(number), length)
      newest = Math.max(newest, last)
      if (segment.bytes === 0) await segment.remove()
      else this.#segments.push(segment)
      this.#next = number + 1
    }
    await this.#prune()
    return newest
  }

  /** Writes what batches brought, which follow on each other. */
  async write(batches: readonly AuditBatch[]): Promise<void> {
    const { now, sync } = this.#options
    for (let from = 0, to = 1; from < batches.length; from = to, to++) {
      // One that needs none before it may begin a segment.
      while (to < batches.length && batches[to]?.apart === false) to++
      if (batches[from]?.apart === true || this.#newest === undefined) {
        await this.#newest?.seal()
        this.#newest = await Segment.make(this.#pathOf(this.#next++), now(), this.#newest)
        this.#segments.push(this.#newest)
      }
      await this.#newest.write(batches.slice(from, to), now(), sync)
      await this.#prune()
    }
  }

  async find(id: Uint8Array): Promise<AuditEntry[]> {
    const found: AuditEntry[] = []
    for (const segment of [...this.#segments].reverse()) {
      for (const { kind, batch, index, payload } of await segment.find(id)) {
        if (kind !== NOTE_OF_REQUEST && kind !== NOTE_OF_REPEAT) continue
        const isFirst = (note: Note): boolean => note.kind === NOTE_OF_REQUEST && note.batch === batch
        const of = kind === NOTE_OF_REQUEST ? payload : (await segment.find(payload)).find(isFirst)?.payload
        if (of === undefined) continue
        const textOf = async (key: Uint8Array): Promise<Uint8Array | undefined> => (await segment.find(key)).find(note => note.kind === NOTE_OF_TEXT)?.payload
        found.push({ batch, index, sealed: kind === NOTE_OF_REQUEST ? of : repeated(of, id), textOf })
        if (found.length === SAME) return found
      }
    }
    return found
  }

  async close(): Promise<void> {
    await this.#newest?.seal()
    this.#newest = undefined
  }

  async #prune(): Promise<void> {
    const { maxBytes, maxAgeMs, now } = this.#options
    let bytes = this.bytes
    while (this.#segments.length > 1) {
      const oldest = this.#segments[0] as Segment
      if (bytes <= maxBytes && now() - oldest.newestMs <= maxAgeMs) return
      this.#segments.shift()
      bytes -= oldest.bytes
      await oldest.remove()
    }
  }

  #pathOf(number: number): string {
    return join(this.#options.dir, String(number).padStart(8, '0'))
  }
}
