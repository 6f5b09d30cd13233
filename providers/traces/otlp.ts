/**
 * Spans to a collector by OTLP over HTTP, as JSON, through OpenTelemetry's own exporter, which tries again what may pass (429, 502, 503, 504, a
 * lost connection; `Retry-After` is heeded) within `timeoutMs`. The packages are loaded by `open`, so that who traces nothing has none of them.
 */
import type { SpanContext } from '@opentelemetry/api'
import type { OTLPTraceExporter } from '@opentelemetry/exporter-trace-otlp-http'
import { CMeshError } from '../../cmtp/errors.ts'
import type { TraceExporter, TraceSpan } from '../../services/traces/provider.ts'
import { parseEndpoint, parseHeaders, type OtlpSettings } from './otlp-settings.ts'

type ReadableSpan = Parameters<OTLPTraceExporter['export']>[0][number]
type Resource = ReadableSpan['resource']

/** What stands for one export, its attempts and pauses together. */
const TIMEOUT_MS = 10_000
const SERVICE = 'cmesh'
/** `ExportResultCode.SUCCESS`. */
const SUCCESS = 0
const NOTHING: [] = []

interface Loaded {
  readonly api: typeof import('@opentelemetry/api')
  readonly exporter: OTLPTraceExporter
  readonly resourceOf: (node: string) => Resource
}

export interface OtlpOptions extends OtlpSettings {
  /** Default 10,000. */
  readonly timeoutMs?: number
}

export class OtlpTraces implements TraceExporter {
  readonly #options: OtlpOptions
  #loaded: Promise<Loaded> | undefined
  #closed = false

  constructor(options: OtlpOptions) {
    this.#options = options
  }

  async open(): Promise<void> {
    await (this.#loaded ??= this.#load())
  }

  async export(spans: readonly TraceSpan[]): Promise<string | undefined> {
    if (this.#closed || this.#loaded === undefined) return 'the exporter is closed'
    const loaded = await this.#loaded
    const scope = { name: SERVICE, version: this.#options.version ?? '' }
    const readable = spans.map(span => readableOf(span, loaded, scope))
    return new Promise(resolve => {
      loaded.exporter.export(readable, ({ code, error }) => {
        resolve((code as number) === SUCCESS ? undefined : reasonOf(error))
      })
    })
  }

  async close(): Promise<void> {
    this.#closed = true
  }

  async #load(): Promise<Loaded> {
    const { endpoint, headers = '', version = '', timeoutMs = TIMEOUT_MS } = this.#options
    if (endpoint === undefined) throw new CMeshError('CMESH_CONFIG_INVALID', { key: 'traces.endpoint', reason: 'the exporter otlp needs it' })
    const [url, own] = [parseEndpoint(endpoint), parseHeaders(headers)]
    const [api, { OTLPTraceExporter }, { resourceFromAttributes }] = await Promise.all([
      import('@opentelemetry/api'), import('@opentelemetry/exporter-trace-otlp-http'), import('@opentelemetry/resources'),
    ])
    const resources = new Map<string, Resource>()
    return {
      api,
      exporter: new OTLPTraceExporter({ url, headers: own, timeoutMillis: timeoutMs }),
      // One object for each node: spans are put together by it.
      resourceOf: node => {
        let resource = resources.get(node)
        if (resource === undefined) {
          resource = resourceFromAttributes({ 'service.name': SERVICE, 'service.version': version, 'service.instance.id': node })
          resources.set(node, resource)
        }
        return resource
      },
    }
  }
}

function readableOf(span: TraceSpan, { api, resourceOf }: Loaded, instrumentationScope: ReadableSpan['instrumentationScope']): ReadableSpan {
  const { SpanKind, SpanStatusCode } = api
  const kinds = { server: SpanKind.SERVER, internal: SpanKind.INTERNAL, client: SpanKind.CLIENT }
  const context: SpanContext = {
    traceId: span.traceId, spanId: span.spanId, traceFlags: span.flags, ...(span.state !== undefined && { traceState: api.createTraceState(span.state) }),
  }
  return {
    name: span.name,
    kind: kinds[span.kind],
    spanContext: () => context,
    ...(span.parentId !== undefined && { parentSpanContext: { ...context, spanId: span.parentId, isRemote: span.remoteParent } }),
    startTime: timeOf(span.startUs),
    endTime: timeOf(span.endUs),
    duration: timeOf(span.endUs - span.startUs),
    ended: true,
    status: { code: span.failed ? SpanStatusCode.ERROR : SpanStatusCode.UNSET },
    attributes: span.attributes,
    resource: resourceOf(span.node),
    instrumentationScope,
    links: NOTHING, events: NOTHING, droppedAttributesCount: 0, droppedEventsCount: 0, droppedLinksCount: 0,
  }
}

/** Seconds and ns. */
function timeOf(us: number): [number, number] {
  return [Math.floor(us / 1e6), us % 1e6 * 1_000]
}

/** Without what the receiver wrote into its answer. */
function reasonOf(error: (Error & { readonly code?: string | number }) | undefined): string {
  const code = error?.code === undefined ? '' : ` (${error.code})`
  return `${error?.message ?? ''}${code}`.trim() || 'it was not taken'
}
