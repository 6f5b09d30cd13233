/**
 * W3C Trace Context (https://www.w3.org/TR/trace-context/): the headers `traceparent` and `tracestate`, and the ids under which the layers
 * of a message are the spans of a trace. Parsing is total: what is malformed is none, as the recommendation has it.
 *
 *     traceparent = "00-" trace-id "-" parent-id "-" flags          ; 32, 16 and 2 lower-case hex digits
 *     span n      = first 8 bytes of SHA-256( "CMesh/1 span\n" ‖ message id ‖ start of the last layer in µs, u64 ‖ n, u8 )
 *
 * Span 0 is the last layer, the one that answers; span n the layer in place n. So whoever has a receipt can name its spans.
 */
import { writeUint64 } from './frame.ts'
import { encodedValues } from './headers.ts'
import { sha256 } from './layer.ts'
import { MESSAGE_ID_BYTES } from './message-id.ts'

export interface TraceParent {
  /** 32 lower-case hex digits, not all zero. */
  readonly traceId: string
  /** The caller's span: 16 lower-case hex digits, not all zero. */
  readonly parentId: string
  readonly flags: number
}

/** The caller has recorded its own span. */
export const SAMPLED = 0x01
/** The trace id has random bits at its end (level 2). */
const RANDOM = 0x02

const TRACEPARENT = /^([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?$/s
const ZEROS = /^0+$/
/** What the recommendation wants carried at least, and the most members there are. */
const STATE_LENGTH = 512
const STATE_MEMBERS = 32
const TEXT = /^[\x20-\x7e\t]+$/

/** `undefined` for what is malformed, of version ff, or names no trace or no parent. Of a later version what this one knows is read. */
export function parseTraceparent(text: string): TraceParent | undefined {
  const [, version, traceId, parentId, flags, more] = TRACEPARENT.exec(text) ?? []
  if (version === undefined || traceId === undefined || parentId === undefined || flags === undefined) return undefined
  if (version === 'ff' || (version === '00' && more !== undefined) || ZEROS.test(traceId) || ZEROS.test(parentId)) return undefined
  return { traceId, parentId, flags: Number.parseInt(flags, 16) & (version === '00' ? SAMPLED | RANDOM : SAMPLED) }
}

export function formatTraceparent({ traceId, parentId, flags }: TraceParent): string {
  return `00-${traceId}-${parentId}-${flags.toString(16).padStart(2, '0')}`
}

/** What an encoded header block says: one `traceparent` and, where it holds, the `tracestate`. More than one is as good as none. */
export function traceOfHeaders(block: Uint8Array): TraceParent & { readonly state: string | undefined } | undefined {
  const values = encodedValues(block, 'traceparent')
  const parent = values.length === 1 ? parseTraceparent(values[0] as string) : undefined
  if (parent === undefined) return undefined
  const state = encodedValues(block, 'tracestate').join(',')
  const fits = state.length <= STATE_LENGTH && TEXT.test(state) && state.split(',').length <= STATE_MEMBERS
  return { ...parent, state: fits ? state : undefined }
}

const SPAN_DOMAIN = Buffer.from('CMesh/1 span\n', 'latin1')
const ID_AT = SPAN_DOMAIN.length
const START_AT = ID_AT + MESSAGE_ID_BYTES
const PLACE_AT = START_AT + 8
const HEX = 16

/** The span id of a layer: `place` is 0 for the last one, which began at `startUs`, and from 1 on for those before it, in their order. */
export function layerSpanId(id: Uint8Array, startUs: number, place: number): string {
  const bytes = Buffer.allocUnsafe(PLACE_AT + 1)
  bytes.set(SPAN_DOMAIN)
  bytes.set(id.subarray(0, MESSAGE_ID_BYTES), ID_AT)
  writeUint64(bytes, startUs, START_AT)
  bytes[PLACE_AT] = place
  return Buffer.from(sha256(bytes), 'latin1').toString('hex', 0, HEX / 2)
}
