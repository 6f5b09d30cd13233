/** The trace that one request belongs to: what its caller said of it by `traceparent`, or what begins with the request itself. */
import { encodeHeaders } from '../../cmtp/headers.ts'
import { formatTraceparent, layerSpanId, SAMPLED, traceOfHeaders } from '../../cmtp/trace-context.ts'
import type { Call, Reply } from '../call.ts'

interface TraceFields {
  readonly traceId: string
  /** The caller's span; `undefined` where the trace begins here. */
  readonly parentId: string | undefined
  readonly flags: number
  /** The caller's `tracestate`. */
  readonly state: string | undefined
}

export class Trace implements TraceFields {
  readonly traceId: string
  readonly parentId: string | undefined
  readonly flags: number
  readonly state: string | undefined
  readonly #id: Uint8Array
  readonly #startUs: number
  #traceparent: string | undefined

  /** Of the request with this id, whose answering layer begins at `startUs`. */
  constructor(id: Uint8Array, startUs: number, { traceId, parentId, flags, state }: TraceFields) {
    this.traceId = traceId
    this.parentId = parentId
    this.flags = flags
    this.state = state
    this.#id = id
    this.#startUs = startUs
  }

  get sampled(): boolean {
    return (this.flags & SAMPLED) !== 0
  }

  /** What this request says to whom it asks in turn, and to its caller: its own span is the parent. */
  get traceparent(): string {
    return this.#traceparent ??= formatTraceparent({ traceId: this.traceId, parentId: layerSpanId(this.#id, this.#startUs, 0), flags: this.flags })
  }
}

/** The caller's trace, where its headers name one. `recorded` false: nobody here keeps spans, and so it is passed on. */
export function callersTrace(id: Uint8Array, headers: Uint8Array, startUs: number, recorded: boolean): Trace | undefined {
  const said = headers.length === 0 ? undefined : traceOfHeaders(headers)
  if (said === undefined) return undefined
  return new Trace(id, startUs, recorded ? said : { ...said, flags: said.flags & ~SAMPLED })
}

/** The reply with the span that answered it, for a caller that named its own. */
export function saying(trace: Trace | undefined, reply: Reply): Reply {
  if (trace?.parentId === undefined) return reply
  return { ...reply, headers: Buffer.concat([reply.headers, encodeHeaders([['traceparent', trace.traceparent]])]) }
}

/** What a call says in turn: the span that answers it, also where another node's front door took it and said so by the header. */
export function traceparentOf({ trace, headers }: Pick<Call, 'trace' | 'headers'>): string | undefined {
  if (trace !== undefined) return trace.traceparent
  const said = headers.length === 0 ? undefined : traceOfHeaders(headers)
  return said && formatTraceparent(said)
}
