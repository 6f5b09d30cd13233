/**
 * The notation of a log file of requests: one `<id>;<FQMN>` a line, in UTF-8, ended by LF or CRLF; empty lines and lines
 * that begin with `#` are passed over. Chunks of any size go in, lines with their byte offsets come out, the same for
 * every way to cut the file up. A line over the limit is never held: its bytes are counted and let go.
 *
 *     line = id ";" fqmn
 *     id   = 1*63( %x21-3A / %x3C-7E )     ; printable ASCII without space and ";"
 */
import { CMeshError } from '../../cmtp/errors.ts'
import { parseFqmn } from '../../cmtp/fqmn.ts'
import { LIMITS } from '../../cmtp/limits.ts'

/** Longest line in bytes, its end not counted. */
export const LINE_BYTES = LIMITS.fqmnBytes + 64

const LF = 0x0a
const CR = 0x0d
const HASH = 0x23
const ID = /^[\x21-\x3a\x3c-\x7e]{1,63}$/

export interface Line {
  /** Offset of its first byte in the file. */
  readonly start: number
  /** Offset behind its LF. */
  readonly end: number
  /** Without its end; `undefined` for a line over the limit. Valid until the next line is asked for. */
  readonly bytes: Uint8Array | undefined
}

export type ParsedLine =
  | { readonly kind: 'entry', readonly id: string, readonly fqmn: string }
  | { readonly kind: 'blank' }
  | { readonly kind: 'garbage', readonly reason: string }

export class LineSplitter {
  /** The beginning of a line whose end has not come, with room for the CR of one of the greatest length. */
  readonly #held = Buffer.allocUnsafe(LINE_BYTES + 1)
  #heldBytes = 0
  #tooLong = false
  #start = 0
  #position = 0

  /** Whether a line has begun and not ended. */
  get unfinished(): boolean {
    return this.#position > this.#start
  }

  /** Offset where the line that has not ended began. */
  get start(): number {
    return this.#start
  }

  /** Forgets what is unfinished; the next chunk is the file's from `offset` on. */
  reset(offset: number): void {
    this.#heldBytes = 0
    this.#tooLong = false
    this.#start = offset
    this.#position = offset
  }

  /** The lines that end in this chunk. It must be asked for all of them before the next chunk goes in. */
  * push(chunk: Uint8Array): Generator<Line, void, void> {
    const base = this.#position
    let from = 0
    for (let at = chunk.indexOf(LF); at !== -1; at = chunk.indexOf(LF, from)) {
      const bytes = this.#finish(chunk.subarray(from, at))
      const start = this.#start
      from = at + 1
      this.#start = base + from
      this.#position = base + from
      this.#heldBytes = 0
      this.#tooLong = false
      yield { start, end: this.#start, bytes }
    }
    this.#hold(chunk.subarray(from))
    this.#position = base + chunk.length
  }

  #finish(rest: Uint8Array): Uint8Array | undefined {
    if (this.#tooLong || this.#heldBytes + rest.length > this.#held.length) return undefined
    let whole = rest
    if (this.#heldBytes > 0) {
      this.#held.set(rest, this.#heldBytes)
      whole = this.#held.subarray(0, this.#heldBytes + rest.length)
    }
    if (whole.at(-1) === CR) whole = whole.subarray(0, -1)
    return whole.length > LINE_BYTES ? undefined : whole
  }

  #hold(rest: Uint8Array): void {
    if (this.#tooLong || this.#heldBytes + rest.length > this.#held.length) {
      this.#tooLong = true
      this.#heldBytes = 0
    } else {
      this.#held.set(rest, this.#heldBytes)
      this.#heldBytes += rest.length
    }
  }
}

const utf8 = new TextDecoder('utf-8', { fatal: true })

/** Total: every line is an entry, blank or garbage. */
export function parseLine({ bytes }: Line): ParsedLine {
  if (bytes === undefined) return garbage(`the line is longer than ${LINE_BYTES} bytes`)
  if (bytes.length === 0 || bytes[0] === HASH) return { kind: 'blank' }
  let text: string
  try {
    text = utf8.decode(bytes)
  } catch {
    // The decoder says no more than that; anything else it could throw would say the same of this line.
    return garbage('the line is not UTF-8')
  }
  const semicolon = text.indexOf(';')
  if (semicolon === -1) return garbage('there is no semicolon between an id and an FQMN')
  const id = text.slice(0, semicolon)
  if (!ID.test(id)) return garbage('the id is not 1 to 63 printable characters without spaces')
  const fqmn = text.slice(semicolon + 1)
  try {
    parseFqmn(fqmn)
  } catch (thrown) {
    if (thrown instanceof CMeshError) return garbage(thrown.message)
    throw thrown
  }
  return { kind: 'entry', id, fqmn }
}

function garbage(reason: string): ParsedLine {
  return { kind: 'garbage', reason }
}
