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
  const last = layers.length - 1
  const root = layers[last]
  if (root === undefined) return []
  const id = Buffer.from(request.id, 'hex')
  const rootId = layerSpanId(id, root.startUs, 0)
  return layers.map((layer, i) => {
    const ids = i === last
      ? { spanId: rootId, parentId: request.parentId, remoteParent: request.parentId !== undefined }
      : { spanId: layerSpanId(id, root.startUs, i + 1), parentId: rootId, remoteParent: layer.site.node !== root.site.node }
    const { site, startUs, durationUs, status } = layer
    return {
      ...ids,
      traceId: request.traceId,
      flags: request.flags,
      state: request.state,
      name: `${site.hop} ${shown(site.fqmn)}`.trimEnd(),
      kind: kindOf(layer, root),
      startUs,
      endUs: startUs + durationUs,
      attributes: {
        ...(i === last && { 'cmesh.message.id': request.id, 'cmesh.receipt.final': Buffer.from(request.final, 'latin1').toString('hex') }),
        ...attributesOf(layer),
      },
      failed: status >= 500,
      node: site.node,
    }
  })
}

/** By OpenTelemetry's conventions: who answers a request is a server, whoever asks another a client. */
function kindOf(layer: Layer, root: Layer): TraceSpan['kind'] {
  if (layer === root || layer.site.node !== root.site.node) return 'server'
  return layer.site.hop === 'peer' ? 'client' : 'internal'
}

function attributesOf({ site, decision, grant, status, gas, before, after }: Layer): Record<string, string | number> {
  const state = after ?? before
  return {
    'cmesh.hop': site.hop,
    'cmesh.fqmn': shown(site.fqmn),
    ...(site.target !== undefined && { 'cmesh.fqmn.out': shown(site.target) }),
    'cmesh.decision': decision,
    ...(grant !== '' && { 'cmesh.grant': grant }),
    'cmesh.status': status,
    ...(status >= 500 && { 'error.type': String(status) }),
    ...(gas > 0n && { 'cmesh.gas': Number(gas) }),
    ...(state !== undefined && {
      'cmesh.state.epoch': state.epoch, 'cmesh.state.seq': state.seq, 'cmesh.state.chain': Buffer.from(state.chain).toString('hex'),
    }),
    ...(after !== undefined && before !== undefined && { 'cmesh.state.seq.before': before.seq }),
  }
}

/** An address without the payload that may stand in one that publishes: `0xEW:<channel>:<payload>`. */
function shown(fqmn: string): string {
  const payload = /^(0xEW:[^:]+):[^:]+$/.exec(fqmn)
  return payload?.[1] ?? fqmn
}
