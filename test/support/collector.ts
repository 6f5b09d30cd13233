/**
 * A receiver of OTLP over HTTP on loopback, for spans as JSON. It keeps what it was sent and reads it back by the field names of the
 * protocol's own definition (opentelemetry/proto/trace/v1/trace.proto); anything else in its place throws.
 */
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import type { TraceSpan } from '../../services/traces/provider.ts'

export interface CollectedRequest {
  readonly method: string | undefined
  readonly path: string | undefined
  readonly headers: IncomingMessage['headers']
  readonly body: ExportRequest
}

interface Attribute { readonly key: string, readonly value: { readonly stringValue?: string, readonly intValue?: number | string } }
interface OtlpSpan {
  readonly traceId: string, readonly spanId: string, readonly parentSpanId?: string, readonly traceState?: string, readonly name: string
  readonly kind: number, readonly startTimeUnixNano: string, readonly endTimeUnixNano: string, readonly attributes: readonly Attribute[]
  readonly status: { readonly code: number }, readonly flags: number
}
interface ExportRequest {
  readonly resourceSpans: readonly {
    readonly resource: { readonly attributes: readonly Attribute[] }
    readonly scopeSpans: readonly { readonly scope: { readonly name: string, readonly version?: string }, readonly spans: readonly OtlpSpan[] }[]
  }[]
}

/** `SpanKind` and `StatusCode`. */
const KINDS = new Map([[1, 'internal'], [2, 'server'], [3, 'client']] as const)
const ERROR = 2
const HAS_IS_REMOTE = 0x100
const IS_REMOTE = 0x200

export class Collector {
  readonly requests: CollectedRequest[] = []
  /** What the next requests are answered with; 200 once there are none. */
  readonly answers: ((response: ServerResponse) => void)[] = []
  readonly #server: Server

  private constructor(server: Server) {
    this.#server = server
  }

  static async start(): Promise<Collector> {
    const server = createServer()
    const collector = new Collector(server)
    server.on('request', (request: IncomingMessage, response: ServerResponse) => { void collector.#take(request, response) })
    await new Promise<void>(resolve => { server.listen(0, '127.0.0.1', resolve) })
    return collector
  }

  get url(): string {
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}/v1/traces`
  }

  /** Of all requests that were answered with 200. */
  get spans(): readonly TraceSpan[] {
    return this.requests.flatMap(({ body }) => spansOf(body))
  }

  async stop(): Promise<void> {
    const closed = new Promise(resolve => { this.#server.close(resolve) })
    this.#server.closeAllConnections()
    await closed
  }

  async #take(request: IncomingMessage, response: ServerResponse): Promise<void> {
    let text = ''
    for await (const chunk of request.setEncoding('utf8')) text += String(chunk)
    const answer = this.answers.shift()
    if (answer !== undefined) {
      answer(response)
      return
    }
    this.requests.push({ method: request.method, path: request.url, headers: request.headers, body: JSON.parse(text) as ExportRequest })
    response.setHeader('content-type', 'application/json').end('{}')
  }
}

export function answering(status: number, headers: Readonly<Record<string, string>> = {}): (response: ServerResponse) => void {
  return response => { response.writeHead(status, headers).end() }
}

function spansOf({ resourceSpans }: ExportRequest): TraceSpan[] {
  return resourceSpans.flatMap(({ resource, scopeSpans }) => scopeSpans.flatMap(({ spans }) => spans.map(span => {
    const own = valuesOf(resource.attributes)
    const kind = KINDS.get(span.kind as 1)
    if (kind === undefined || (span.flags & HAS_IS_REMOTE) === 0) throw new Error(`not a span of ours: ${JSON.stringify(span)}`)
    return {
      traceId: span.traceId, spanId: span.spanId, parentId: span.parentSpanId, remoteParent: (span.flags & IS_REMOTE) !== 0, flags: span.flags & 0xff,
      state: span.traceState, name: span.name, kind, startUs: microseconds(span.startTimeUnixNano), endUs: microseconds(span.endTimeUnixNano),
      attributes: valuesOf(span.attributes), failed: span.status.code === ERROR, node: String(own['service.instance.id']),
    }
  })))
}

function valuesOf(attributes: readonly Attribute[]): Record<string, string | number> {
  return Object.fromEntries(attributes.map(({ key, value: { stringValue, intValue } }) => {
    if ((stringValue === undefined) === (intValue === undefined)) throw new Error(`${key} has no value of a known type`)
    return [key, stringValue ?? Number(intValue)]
  }))
}

function microseconds(nanoseconds: string): number {
  if (!/^\d+000$/.test(nanoseconds)) throw new Error(`${nanoseconds} is no time in ns of a clock that counts µs`)
  return Number(BigInt(nanoseconds) / 1_000n)
}
