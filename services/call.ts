/**
 * One request inside the mesh, and its reply: what the router hands to a service and gets back. A call is made by the
 * front door alone; hops add layers to it and change nothing else.
 */
import { CMeshError, type WireError } from '../cmtp/errors.ts'
import type { Route } from '../cmtp/fqmn.ts'
import { encodeHeaders, type HeaderList } from '../cmtp/headers.ts'
import type { Layer } from '../cmtp/layer.ts'
import type { AuthContext } from './iam/guard.ts'
import type { Trace } from './traces/trace.ts'

export interface Call {
  /** 16 bytes. Valid until the call is answered. */
  readonly id: Uint8Array
  /** The final address: names are resolved. */
  readonly route: Route
  readonly body: Uint8Array
  /** Encoded header block of the request. */
  readonly headers: Uint8Array
  /** Absolute, ms since 1970. */
  readonly deadlineMs: number
  /** The session JWT as it came, and the session of the subject it came on. */
  readonly token: Uint8Array
  readonly sid: string
  /** The subject the answer goes to; empty in process. */
  readonly replySubject: string
  readonly hops: number
  /** Who asks, where the front door of this node found out; its guard confirms it wherever it is used. */
  readonly auth: AuthContext | undefined
  /** Layers of the hops that finished, in that order. */
  readonly layers: Layer[]
  /** When the last hop finished, µs since 1970: where the next one starts. */
  markUs: number
  /** Salt of the arguments' hashes in the layers; made when first needed. */
  salt: Buffer | undefined
  /** The salted hash of the arguments, once a layer needed it: every hop's is the same. */
  argumentsHash?: string | undefined
  /** Set by State once a transaction left for consensus: from then on a passed deadline means an unknown outcome. */
  proposed: boolean
  /** Set once this node's state is as fresh as the headers ask for, where that was waited for. */
  fresh?: boolean
  /** The trace it belongs to, where there is one. */
  readonly trace?: Trace | undefined
}

export interface Reply {
  readonly status: number
  /** Encoded header block. */
  readonly headers: Uint8Array
  readonly body: Uint8Array
  /** SHA-256 of the body as 32 latin1 characters, where whoever made the reply knows it. */
  readonly bodyHash?: string
}

/** Answers a call at once or later. Never throws and never rejects: a failure is a reply. */
export type CallHandler = (call: Call) => Reply | Promise<Reply>

export const JSON_HEADERS = encodeHeaders([['content-type', 'application/json']])
const ERROR_HEADERS = encodeHeaders([['content-type', 'application/cmesh-error+json']])
const EMPTY = Buffer.alloc(0)

export function jsonReply(value: unknown, status = 200): Reply {
  return { status, headers: JSON_HEADERS, body: Buffer.from(JSON.stringify(value)) }
}

/** A reply whose body is JSON text already. */
export function jsonTextReply(body: Uint8Array): Reply {
  return { status: 200, headers: JSON_HEADERS, body }
}

export function errorReply(error: CMeshError): Reply {
  return wireErrorReply(error.status, error.toWire())
}

export function wireErrorReply(status: number, error: WireError, extra: HeaderList = []): Reply {
  const retryAfterMs = error.detail['retryAfterMs']
  const more: HeaderList = typeof retryAfterMs === 'number'
    ? [['retry-after', String(Math.ceil(retryAfterMs / 1000))], ...extra]
    : extra
  const headers = more.length === 0 ? ERROR_HEADERS : encodeHeaders([['content-type', 'application/cmesh-error+json'], ...more])
  return { status, headers, body: Buffer.from(JSON.stringify(error)) }
}

/** The arguments of a call: from its address or from its body. Throws `CMESH_FQMN_ARGUMENTS_TWICE` when both have some. */
export function argumentsOf(call: Pick<Call, 'route' | 'body'>): Uint8Array {
  const { args } = call.route
  if (args === undefined) return call.body
  if (call.body.length > 0) throw new CMeshError('CMESH_FQMN_ARGUMENTS_TWICE')
  return Buffer.from(args, 'utf8')
}

/** The body as a JSON object. Throws `CMESH_FRAME_MALFORMED`. */
export function jsonBody(body: Uint8Array, expected: string): Readonly<Record<string, unknown>> {
  let value: unknown
  try {
    value = body.length === 0 ? undefined : JSON.parse(Buffer.from(body).toString('utf8'))
  } catch {
    value = undefined
  }
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    throw new CMeshError('CMESH_FRAME_MALFORMED', { offset: 0, expected: `a JSON object as body: ${expected}` })
  }
  return value as Record<string, unknown>
}

export const NO_BODY: Uint8Array = EMPTY
