/**
 * The Registrar: names ending in `.mcom`. It resolves addresses for the router, answers `0xR:resolve`, and hands the writes
 * of names to State, since names are state and live in the same ordered log as contracts.
 */
import { CMeshError } from '../../cmtp/errors.ts'
import { formatFqmn, parseFqmn, type Route } from '../../cmtp/fqmn.ts'
import { didFromSegment } from '../../cmtp/identity/did.ts'
import { normaliseName } from '../../cmtp/name.ts'
import { jsonReply, type Call, type Reply } from '../call.ts'
import type { HopNotes } from '../endpoint.ts'
import type { AuthContext, Guard } from '../iam/guard.ts'
import { heirOf, isRotated } from '../iam/rotations.ts'
import type { StateService } from '../state/service.ts'
import { readName, type RegisteredName } from './records.ts'
import { Resolver } from './resolver.ts'
import { targetOf } from './transactions.ts'

const WRITES: ReadonlySet<string> = new Set(['register', 'update', 'transfer', 'renew', 'release'])

export interface RegistrarParts {
  readonly state: Pick<StateService, 'write' | 'system' | 'head' | 'fresh'>
  readonly guard: Pick<Guard, 'authorise' | 'confirm'>
}

export class RegistrarService {
  readonly #parts: RegistrarParts
  readonly #resolver: Resolver

  constructor(parts: RegistrarParts) {
    this.#parts = parts
    this.#resolver = new Resolver(parts.state.system)
  }

  /** Whether an address goes through a name before it can be dispatched. */
  static isByName(route: Route): boolean {
    if (route.service === 'R') return (route.segments[0] ?? '').includes('.')
    return route.service === 'E' && route.inner !== undefined
  }

  /** The address that one by name stands for. See `Resolver.resolve` for what it throws. */
  resolve(route: Route): Route {
    return this.#resolver.resolve(route, this.#parts.state.head.timeMs)
  }

  /** Resolves once names here are as fresh as a read asks for; see `StateService.fresh`. */
  fresh(call: Call, auth: AuthContext): Promise<void> | undefined {
    return this.#parts.state.fresh(call, auth)
  }

  /** `0xR:resolve:<name>`, and `0xRW:register | update | transfer | renew | release`. */
  readonly handle = (call: Call, auth: AuthContext, notes: HopNotes): Reply | Promise<Reply> => {
    const { route } = call
    const [action = ''] = route.segments
    this.#parts.guard.confirm(auth)
    if (!route.write && action === 'resolve') {
      return this.fresh(call, auth)?.then(() => {
        this.#parts.guard.confirm(auth)
        return jsonReply(this.#record(route))
      }) ?? jsonReply(this.#record(route))
    }
    if (!route.write || !WRITES.has(action)) {
      throw new CMeshError('CMESH_ROUTER_ACTION', { service: 'registrar', action, access: route.write ? 'writing' : 'reading' })
    }
    return this.#parts.state.write(call, auth, notes, this.#checked(route, auth))
  }

  #record(route: Route): RegisteredName {
    const [, typed, ...more] = route.segments
    refuseMore(route, more, route.inner)
    if (typed === undefined) throw new CMeshError('CMESH_NAME_INVALID', { name: '(none)', reason: 'a name must stand behind resolve' })
    const { system } = this.#parts.state
    const record = readName(system, normaliseName(typed))
    if (record === undefined || this.#parts.state.head.timeMs >= record.expiresAtMs) throw new CMeshError('CMESH_REGISTRAR_NOT_FOUND', { name: typed })
    return isRotated(system, record.owner) ? { ...record, holder: heirOf(system, record.owner) } : record
  }

  /** The address as it goes into the log: the name in normal form, everything checked that needs no order. */
  #checked(route: Route, auth: AuthContext): Route {
    const [action = '', typed = '', ...more] = route.segments
    const name = normaliseName(typed)
    if (action === 'register' || action === 'update') {
      refuseMore(route, more)
      targetOf(route)
      // Who may not call an address may not put a name on it either: nobody advertises what is not theirs to use.
      if (route.inner !== undefined) this.#parts.guard.authorise(auth, route.inner)
    } else if (action === 'transfer') {
      refuseMore(route, more.slice(1), route.inner)
      didFromSegment(more[0] ?? '')
    } else {
      refuseMore(route, more, route.inner)
    }
    return parseFqmn(formatFqmn({ ...route, segments: [action, name, ...more] }))
  }
}

/** Refuses what stands behind the parts of an address that count. */
function refuseMore(route: Route, segments: readonly string[], inner?: Route): void {
  if (segments.length === 0 && inner === undefined && route.args === undefined) return
  throw new CMeshError('CMESH_FQMN_SYNTAX', { offset: route.bare.length, expected: 'the end of the address' })
}
