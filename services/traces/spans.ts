/**
 * A request's layers as spans: the last layer is the root, the others are its children, with the ids of `cmtp/trace-context.ts`.
 *
 * Invariant: nothing of arguments, bodies, sessions or callers is in a span. Who asked is in the receipt, which the attributes of the root name.
 */
import type { Layer } from '../../cmtp/layer.ts'
import { layerSpanId } from '../../cmtp/trace-context.ts'
import type { TraceSpan } from './provider.ts'

/** A request that is closed. */
export interface TracedRequest {
  /** Message id, 32 hex digits. */
  readonly id: string
  /** Final hash, 32 latin1 characters. */
  readonly final: string
  readonly layers: readonly Layer[]
  readonly traceId: string
  /** The caller's span. */
  readonly parentId: string | undefined
  readonly flags: number
  readonly state: string | undefined
}

/** In the order of the layers. */
export function spansOf(request: TracedRequest): TraceSpan[] {
  const { layers } = request
  const root = layers.at(-1)
  if (root === undefined) return []
  const id = Buffer.from(request.id, 'hex')
  const rootId = layerSpanId(id, root.startUs, 0)
  return layers.map((layer, i) => (layer === root
    ? spanOf(request, layer, root, rootId, request.parentId)
    : spanOf(request, layer, root, layerSpanId(id, root.startUs, i + 1), rootId)))
}

function spanOf(request: TracedRequest, layer: Layer, root: Layer, spanId: string, parentId: string | undefined): TraceSpan {
  const { site, startUs, durationUs, status } = layer
  const attributes = attributesOf(layer)
  if (layer === root) {
    attributes['cmesh.message.id'] = request.id
    attributes['cmesh.receipt.final'] = Buffer.from(request.final, 'latin1').toString('hex')
  }
  return {
    traceId: request.traceId,
    spanId,
    parentId,
    remoteParent: layer === root ? parentId !== undefined : site.node !== root.site.node,
    flags: request.flags,
    state: request.state,
    name: `${site.hop} ${shown(site.fqmn)}`.trimEnd(),
    kind: kindOf(layer, root),
    startUs,
    endUs: startUs + durationUs,
    attributes,
    failed: status >= 500,
    node: site.node,
  }
}

/** By OpenTelemetry's conventions: who answers a request is a server, whoever asks another a client. */
function kindOf(layer: Layer, root: Layer): TraceSpan['kind'] {
  if (layer === root || layer.site.node !== root.site.node) return 'server'
  return layer.site.hop === 'peer' ? 'client' : 'internal'
}

function attributesOf({ site, decision, grant, status, gas, before, after }: Layer): Record<string, string | number> {
  // One assignment after another: objects spread into each other cost several times as much.
  const attributes: Record<string, string | number> = {
    'cmesh.hop': site.hop, 'cmesh.fqmn': shown(site.fqmn), 'cmesh.decision': decision, 'cmesh.status': status,
  }
  if (site.target !== undefined) attributes['cmesh.fqmn.out'] = shown(site.target)
  if (grant !== '') attributes['cmesh.grant'] = grant
  if (status >= 500) attributes['error.type'] = String(status)
  if (gas > 0n) attributes['cmesh.gas'] = Number(gas)
  const state = after ?? before
  if (state === undefined) return attributes
  attributes['cmesh.state.epoch'] = state.epoch
  attributes['cmesh.state.seq'] = state.seq
  attributes['cmesh.state.chain'] = Buffer.from(state.chain).toString('hex')
  if (after !== undefined && before !== undefined) attributes['cmesh.state.seq.before'] = before.seq
  return attributes
}

/** An address without the payload that may stand in one that publishes: `0xEW:<channel>:<payload>`. */
function shown(fqmn: string): string {
  const payload = /^(0xEW:[^:]+):[^:]+$/.exec(fqmn)
  return payload?.[1] ?? fqmn
}
