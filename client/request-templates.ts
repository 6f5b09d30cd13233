/**
 * Ready-made request frames by address, so that asking one address again costs one copy. It owns the frames of one token: a
 * new token has a new one of these. A template holds everything but the message id and the deadline.
 *
 * Invariants: (1) a frame handed out is the caller's and shares no memory with a template; (2) memory is bounded: two
 * generations of `size` frames, none larger than `TEMPLATE_BYTES`; (3) a frame from a template equals what `encodeRequest` makes.
 */
import { encodeRequest, REQUEST_DEADLINE_AT, REQUEST_ID_AT, writeUint64 } from '../cmtp/frame.ts'
import { MESSAGE_ID_BYTES, type MessageIds } from '../cmtp/message-id.ts'
import { TwoGenerations } from '../cmtp/two-generations.ts'
import type { ReceiptLevel } from '../cmtp/wire.ts'

/** Largest frame kept, in bytes: a token and a short address. Longer addresses are seldom asked twice. */
export const TEMPLATE_BYTES = 2_048
/** Most templates of one receipt level in one generation; ten thousand addresses take about 8 MB. */
export const TEMPLATES = 8_192

const ZERO_ID = Buffer.alloc(MESSAGE_ID_BYTES)

export class RequestTemplates {
  readonly #token: Uint8Array
  readonly #ids: MessageIds
  readonly #levels: Record<ReceiptLevel, TwoGenerations<string, Buffer>>

  /** `token` is the compact session JWT in ASCII; `size` the most templates of one level in one generation. */
  constructor(token: Uint8Array, ids: MessageIds, size = TEMPLATES) {
    this.#token = token
    this.#ids = ids
    const limits = { entries: size }
    this.#levels = { hash: new TwoGenerations(limits), none: new TwoGenerations(limits), full: new TwoGenerations(limits) }
  }

  /** A request without headers and body, under a fresh id. Throws `CMESH_FQMN_TOO_LONG`. */
  frame(fqmn: string, receipt: ReceiptLevel, deadlineMs: number): Buffer {
    const template = this.#levels[receipt].get(fqmn) ?? this.#make(fqmn, receipt)
    const frame = Buffer.allocUnsafe(template.length)
    frame.set(template)
    writeUint64(frame, deadlineMs, REQUEST_DEADLINE_AT)
    this.#ids.write(frame, REQUEST_ID_AT)
    return frame
  }

  #make(fqmn: string, receipt: ReceiptLevel): Buffer {
    const template = encodeRequest({ id: ZERO_ID, fqmn, token: this.#token, deadlineMs: 0, receipt, bundle: true })
    if (template.length <= TEMPLATE_BYTES) this.#levels[receipt].set(fqmn, template)
    return template
  }
}
