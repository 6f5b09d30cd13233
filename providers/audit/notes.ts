/**
 * The notes of a node's requests, in segments: files that are written one after another and go, the oldest first, when they are too old or
 * there are too many bytes of them. The newest always stays. Which batch begins a segment is for the caller to say.
 */
import { mkdir, readdir } from 'node:fs/promises'
import { join } from 'node:path'
import type { AuditBatch, AuditEntry } from '../../services/audit/provider.ts'
import { NOTE_OF_REPEAT, NOTE_OF_REQUEST, NOTE_OF_RUN, NOTE_OF_TEXT, notesOfRun, repeated, runKey, type Note } from '../../services/audit/messages.ts'
import { syncDirectory } from '../sync-directory.ts'
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

  /** The newest batch that there are notes of, −1 for none. Nothing is changed. */
  async last(): Promise<number> {
    for (const number of (await this.#numbers()).reverse()) {
      const last = await Segment.lastIn(this.#pathOf(number))
      if (last >= 0) return last
    }
    return -1
  }

  async #numbers(): Promise<number[]> {
    const { dir } = this.#options
    await mkdir(dir, { recursive: true, mode: 0o700 })
    return (await readdir(dir)).flatMap(name => SEGMENT_FILE.exec(name)?.[1] ?? []).map(Number).sort((a, b) => a - b)
  }

  /** Takes up what is there. `length`: batches on the log; what there is of others goes. */
  async open(length: number): Promise<void> {
    for (const number of await this.#numbers()) {
      const segment = await Segment.found(this.#pathOf(number), length)
      if (segment.bytes === 0) await segment.remove()
      else this.#segments.push(segment)
      this.#next = number + 1
    }
    await this.#prune()
  }

  /** Writes what those batches brought that were on their way onto the log: they go on in the newest segment, whose texts they need. */
  async recover(batches: readonly AuditBatch[]): Promise<void> {
    if (batches.length === 0) return
    this.#newest = this.#segments.at(-1)
    await this.#newest?.resume()
    // What came back of its index after a power cut would not know what follows.
    if (this.#options.sync) await syncDirectory(this.#options.dir)
    await this.write(batches)
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
        // Its name, too: what stands ahead of the log may go once its notes are on the disk.
        if (sync) await syncDirectory(this.#options.dir)
      }
      await this.#newest.write(batches.slice(from, to), now(), sync)
      await this.#prune()
    }
  }

  async find(id: Uint8Array): Promise<AuditEntry[]> {
    const found: AuditEntry[] = []
    for (const segment of [...this.#segments].reverse()) {
      for (const { kind, batch, index, payload } of await notesOf(segment, id)) {
        // Its id may have been asked again since: the nearest before it.
        const isRepeated = (note: Note): boolean => note.kind === NOTE_OF_REQUEST && note.batch === batch && note.index < index
        const of = kind === NOTE_OF_REQUEST ? payload : (await segment.find(payload)).find(isRepeated)?.payload
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

/** The notes of requests with this id, those that stand in runs among them, the newest first. */
async function notesOf(segment: Segment, id: Uint8Array): Promise<Note[]> {
  const alone = (await segment.find(id)).filter(({ kind }) => kind === NOTE_OF_REQUEST || kind === NOTE_OF_REPEAT)
  const runs = (await segment.find(runKey(id), true)).filter(({ kind }) => kind === NOTE_OF_RUN)
  const inRuns = runs.flatMap(run => notesOfRun(run).filter(({ key }) => Buffer.compare(key, id) === 0))
  return [...alone, ...inRuns].sort((a, b) => b.batch - a.batch || b.index - a.index)
}
