/**
 * Dead letters and what was put back for one group, in one JetStream stream: a subject per letter, and one per group. The stream
 * is bounded; past it the oldest go.
 */
import { CMeshError } from '../../cmtp/errors.ts'
import { LIMITS } from '../../cmtp/limits.ts'
import { AGAIN_WILDCARD, LETTER_WILDCARD, letterOfSubject, letterSubject } from '../../cmtp/subject.ts'
import type { DeadLetters, MeshEvent, StoredLetter } from '../../services/events/provider.ts'
import type { StreamApi } from '../jetstream/stream-api.ts'
import type { WantedStream } from '../jetstream/stream.ts'

/** Room for the headers of a letter beside its data. */
const HEADER_ROOM_BYTES = 1_024

export interface JetStreamLettersParts {
  readonly againStream: Pick<StreamApi, 'message' | 'direct' | 'remove'>
  /** Stores a message under a subject of the stream. */
  readonly store: (subject: string, data: Uint8Array) => Promise<unknown>
}

export class JetStreamLetters implements DeadLetters {
  readonly #parts: () => JetStreamLettersParts

  /** `parts` throws where the provider does not run. */
  constructor(parts: () => JetStreamLettersParts) {
    this.#parts = parts
  }

  async put(id: string, data: Uint8Array): Promise<void> {
    checkLetter(data)
    if (await this.get(id) === undefined) await this.#parts().store(letterSubject(id), data)
  }

  async get(id: string): Promise<StoredLetter | undefined> {
    const message = await this.#parts().againStream.message({ last_by_subj: letterSubject(id) })
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

/** Throws `CMESH_FRAME_TOO_LARGE`. */
export function checkLetter(data: Uint8Array): void {
  if (data.length > LIMITS.letterBytes) throw new CMeshError('CMESH_FRAME_TOO_LARGE', { part: 'dead letter', bytes: data.length, limit: LIMITS.letterBytes })
}

export function encodeAgain({ channel, seq, timeMs, data }: MeshEvent): Uint8Array {
  return Buffer.from(JSON.stringify({ channel, seq, timeMs, data: Buffer.from(data).toString('base64') }))
}

export function decodeAgain(bytes: Uint8Array): MeshEvent | undefined {
  try {
    const { channel, seq, timeMs, data } = JSON.parse(Buffer.from(bytes).toString('utf8')) as Omit<MeshEvent, 'data'> & { readonly data: string }
    return { channel, seq, timeMs, data: Buffer.from(data, 'base64') }
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
