/**
 * The dispatcher: which endpoint answers which address. Local first: a service of this node is called through its endpoint
 * directly; one that another node runs is called through the same endpoint over its NATS subject.
 */
import { CMeshError } from '../../cmtp/errors.ts'
import type { Route, ServiceLetter } from '../../cmtp/fqmn.ts'
import { errorReply, type Call, type CallHandler, type Reply } from '../call.ts'

export type ServiceName = 'iam' | 'registrar' | 'state' | 'events' | 'consensus'

const SERVICE_OF: Partial<Record<ServiceLetter, ServiceName>> = { I: 'iam', R: 'registrar', S: 'state', E: 'events', C: 'consensus' }

/** The service that answers an address; `undefined` for one of no service. */
export function serviceOf(route: Route): ServiceName | undefined {
  return SERVICE_OF[route.service]
}

export interface DispatcherParts {
  /** Calls a service that no endpoint of this node answers for. */
  readonly remote: (service: ServiceName, call: Call) => Promise<Reply>
}

export class Dispatcher {
  readonly #remote: DispatcherParts['remote']
  readonly #local = new Map<ServiceName, CallHandler>()

  constructor(parts: DispatcherParts) {
    this.#remote = parts.remote
  }

  /** From now on calls of the service go to `handler`. */
  attach(service: ServiceName, handler: CallHandler): void {
    this.#local.set(service, handler)
  }

  detach(service: ServiceName): void {
    this.#local.delete(service)
  }

  /** Never throws, never rejects. */
  dispatch(call: Call): Reply | Promise<Reply> {
    const service = serviceOf(call.route)
    if (service === undefined) return errorReply(unreachable(call.route))
    const handler = this.#local.get(service)
    if (handler !== undefined) return handler(call)
    return this.#remote(service, call).catch((error: unknown) => errorReply(CMeshError.from(error, 'the dispatcher')))
  }
}

/** Why an address of no service cannot be called: `0xA` is for State alone, `0xP` needs a peer. */
function unreachable(route: Route): CMeshError {
  if (route.service === 'P') return new CMeshError('CMESH_ROUTER_PEER', { peer: route.segments[0] ?? '' })
  return new CMeshError('CMESH_ROUTER_INTERNAL_ONLY', { fqmn: route.bare })
}
