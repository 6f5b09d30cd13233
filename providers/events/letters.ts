/**
 * Dead letters and what was put back for one group, in one JetStream stream: a subject per letter, and one per group. The stream
 * is bounded; past it the oldest go. Of one owner there are so many bytes: the subjects say whose a letter is and how large.
 */
import { hash } from 'node:crypto'
import { CMeshError } from '../../cmtp/errors.ts'
import { LIMITS } from '../../cmtp/limits.ts'
import {
  AGAIN_WILDCARD, LETTER_WILDCARD, letterOfId, letterOfSubject, letterSize, letterSubject, lettersOf, oldLetterSubject,
} from '../../cmtp/subject.ts'
import type { DeadLetters, MeshEvent, StoredLetter } from '../../services/events/provider.ts'
import type { StreamApi } from '../jetstream/stream-api.ts'
import type { WantedStream } from '../jetstream/stream.ts'

/** Room for the headers of a letter beside its data. */
const HEADER_ROOM_BYTES = 1_024
/** What is counted for a letter beside its data, so that small ones are not without number. */
const LETTER_COST_BYTES = 512
/** Of the room of all letters one owner has this part. */
const SHARE = 8
/** After so much of its share, in parts, an owner's letters are counted again: other nodes write some, too. */
const LOOK = 8
/** Owners of whom a node remembers how much they may write before that. */
const OWNERS = 1_024

export interface JetStreamLettersParts {
  readonly againStream: Pick<StreamApi, 'message' | 'direct' | 'remove' | 'report' | 'purgeOldest'>
  /** Stores a message under a subject of the stream. */
  readonly store: (subject: string, data: Uint8Array) => Promise<unknown>
}

export class JetStreamLetters implements DeadLetters {
  readonly #parts: () => JetStreamLettersParts
  readonly #shareBytes: number
  /** What an owner may write before its letters are counted, in bytes; of those that wrote last. */
  readonly #room = new Map<string, number>()

  /** `parts` throws where the provider does not run; `maxBytes`: of all letters. */
  constructor(parts: () => JetStreamLettersParts, maxBytes: number) {
    this.#parts = parts
    this.#shareBytes = shareOf(maxBytes)
  }

  async put(id: string, data: Uint8Array, owner: string): Promise<void> {
    checkLetter(data)
    if (await this.get(id) !== undefined) return
    const bytes = costOf(data)
    const name = hash('sha256', owner, 'hex').slice(0, 32)
    await this.#parts().store(letterSubject(id, { owner: name, timeMs: Date.now(), bytes }), data)
    const left = (this.#room.get(name) ?? 0) - bytes
    this.#room.delete(name)
    this.#room.set(name, left >= 0 ? left : await this.#bound(name))
    for (const oldest of this.#room.keys()) {
      if (this.#room.size <= OWNERS) break
      this.#room.delete(oldest)
    }
  }

  /** Takes away the owner's oldest letters past its share; gives what it may write before it is looked again. */
  async #bound(owner: string): Promise<number> {
    const { againStream } = this.#parts()
    const subjects = Object.keys((await againStream.report(lettersOf(owner)))?.state.subjects ?? {})
    const newest = subjects.flatMap(subject => letterSize(subject) ?? []).sort((a, b) => b.timeMs - a.timeMs)
    let bytes = 0
    const most = newest.findIndex(letter => (bytes += letter.bytes) > this.#shareBytes)
    if (most < 0) return Math.min(this.#shareBytes - bytes, this.#shareBytes / LOOK)
    await againStream.purgeOldest(lettersOf(owner), most)
    return 0
  }

  async get(id: string): Promise<StoredLetter | undefined> {
    const { againStream } = this.#parts()
    const message = await againStream.message({ last_by_subj: letterOfId(id) }) ?? await againStream.message({ last_by_subj: oldLetterSubject(id) })
    return message === undefined ? undefined : { id, place: message.seq, data: Buffer.from(message.data ?? '', 'base64') }
  }

  async list(from: number, limit: number): Promise<readonly StoredLetter[]> {
    const { againStream } = this.#parts()
    const found: StoredLetter[] = []
    for (let seq = from; found.length < limit;) {
      const message = await againStream.direct({ seq, next_by_subj: LETTER_WILDCARD })
      if (message?.headers === undefined) break
      const place = Number(message.headers.get('Nats-Sequence'))
      const id = letterOfSubject(message.headers.get('Nats-Subject'))
      if (id !== undefined) found.push({ id, place, data: new Uint8Array(message.data) })
      seq = place + 1
    }
    return found
  }

  async remove(id: string): Promise<boolean> {
    const letter = await this.get(id)
    return letter !== undefined && await this.#parts().againStream.remove(letter.place)
  }
}

/** The most bytes of one owner's letters. */
export function shareOf(maxBytes: number): number {
  return Math.floor(maxBytes / SHARE)
}

/** What a letter takes of its owner's share, in bytes. */
export function costOf(data: Uint8Array): number {
  return data.length + LETTER_COST_BYTES
}

/** Throws `CMESH_FRAME_TOO_LARGE`. */
export function checkLetter(data: Uint8Array): void {
  if (data.length > LIMITS.letterBytes) throw new CMeshError('CMESH_FRAME_TOO_LARGE', { part: 'dead letter', bytes: data.length, limit: LIMITS.letterBytes })
}

export function encodeAgain({ data, ...event }: MeshEvent): Uint8Array {
  return Buffer.from(JSON.stringify({ ...event, data: Buffer.from(data).toString('base64') }))
}

export function decodeAgain(bytes: Uint8Array): MeshEvent | undefined {
  try {
    const { data, ...event } = JSON.parse(Buffer.from(bytes).toString('utf8')) as Omit<MeshEvent, 'data'> & { readonly data: string }
    return { ...event, data: Buffer.from(data, 'base64') }
  } catch {
    // Nobody but the mesh writes there; what it did not write is none of its events.
    return undefined
  }
}

export function lettersConfig({ name, replicas, maxBytes, maxAgeMs, windowMs }: {
  readonly name: string, readonly replicas: number, readonly maxBytes: number, readonly maxAgeMs: number, readonly windowMs: number,
}): WantedStream {
  return {
    name,
    subjects: [LETTER_WILDCARD, AGAIN_WILDCARD],
    storage: 'file',
    retention: 'limits',
    discard: 'old',
    num_replicas: replicas,
    max_bytes: maxBytes,
    max_age: maxAgeMs * 1e6,
    max_msg_size: LIMITS.letterBytes + HEADER_ROOM_BYTES,
    duplicate_window: windowMs * 1e6,
    allow_direct: true,
  }
}
