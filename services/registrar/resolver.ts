/**
 * The resolver: from an address by name to the address it stands for. It only reads; what it found is remembered together
 * with the very records it came from, so a remembered answer is used only while those records stand and none has expired.
 */
import { CMeshError } from '../../cmtp/errors.ts'
import { parseFqmn, type Route, type ServiceLetter } from '../../cmtp/fqmn.ts'
import { LIMITS } from '../../cmtp/limits.ts'
import { normaliseName } from '../../cmtp/name.ts'
import { TwoGenerations } from '../../cmtp/two-generations.ts'
import { contractEventChannel } from '../events/channel.ts'
import { decodeName, nameKey } from './records.ts'

type Records = { get(key: string): Uint8Array | undefined }

interface Source {
  readonly key: string
  readonly bytes: Uint8Array
}

interface Resolution {
  readonly route: Route
  readonly sources: readonly Source[]
  readonly validUntilMs: number
}

/** Resolutions remembered at least, while addresses are no longer than 256 bytes on average. */
const REMEMBERED = { entries: 16_384, weight: 4_194_304 }

export class Resolver {
  readonly #records: Records
  readonly #remembered = new TwoGenerations<Route, Resolution>(REMEMBERED)

  /** `records` is the live system space. */
  constructor(records: Records) {
    this.#records = records
  }

  /**
   * The address that a route by name stands for, at log time `timeMs`. Throws `CMESH_REGISTRAR_NOT_FOUND` (404), `_LOOP` and
   * `_DEPTH` (508), `_WRITE_TARGET` and `_READ_TARGET` (405), `CMESH_NAME_INVALID` or `CMESH_FQMN_*` (400).
   */
  resolve(route: Route, timeMs: number): Route {
    const known = this.#remembered.get(route, route.text.length)
    if (known !== undefined && timeMs < known.validUntilMs && this.#stands(known.sources)) return known.route
    const resolution = route.service === 'E' ? this.#eventStream(route, timeMs) : this.#target(route, timeMs)
    this.#remembered.set(route, resolution, route.text.length)
    return resolution.route
  }

  #stands(sources: readonly Source[]): boolean {
    for (const source of sources) if (this.#records.get(source.key) !== source.bytes) return false
    return true
  }

  /** `0xR:<name>[:<rest>]` and `0xRW:<name>[:<rest>]`. */
  #target(route: Route, timeMs: number): Resolution {
    if (route.inner !== undefined) {
      throw new CMeshError('CMESH_FQMN_SYNTAX', { offset: route.bare.length - route.inner.bare.length, expected: 'a function or arguments behind the name' })
    }
    const { target, rest, sources, validUntilMs } = this.#follow(route, timeMs)
    let { text } = target
    for (const segment of rest) text += `:${segment}`
    // A bare contract or channel has no mode of its own: the caller's opcode decides between view and transaction.
    const bare = target.segments.length === 1 && (target.service === 'S' || target.service === 'E')
    if (bare && route.write !== target.write) text = text.replace(/^0x[SE]W?/, `0x${target.service}${route.write ? 'W' : ''}`)
    const final = parseFqmn(route.args === undefined ? text : `${text}:${route.args}`)
    const name = route.segments[0] ?? ''
    if (final.write && !route.write) throw new CMeshError('CMESH_REGISTRAR_WRITE_TARGET', { name, fqmn: final.bare })
    if (!final.write && route.write) throw new CMeshError('CMESH_REGISTRAR_READ_TARGET', { name, fqmn: final.bare })
    return { route: final, sources, validUntilMs }
  }

  /** `0xE:0xR:<name>:<event>[:<action>[:<args>]]`: the events of the contract, or the channel, that the name maps to. */
  #eventStream(route: Route, timeMs: number): Resolution {
    const { inner } = route
    if (inner === undefined || inner.service !== 'R' || inner.inner !== undefined || route.segments.length > 0) {
      throw new CMeshError('CMESH_FQMN_SYNTAX', { offset: 4, expected: 'a channel or 0xR:<name>:<event>' })
    }
    const { target, rest, sources, validUntilMs } = this.#follow(inner, timeMs)
    let channel: string | undefined
    let behind = rest
    if (target.service === 'E') {
      channel = target.segments[0]
    } else if (target.service === 'S' && rest[0] !== undefined) {
      channel = contractEventChannel(target.segments[0] ?? '', rest[0])
      behind = rest.slice(1)
    }
    if (channel === undefined) throw new CMeshError('CMESH_FQMN_SYNTAX', { offset: route.bare.length, expected: 'an event behind the name' })
    let text = `0xE${route.write ? 'W' : ''}:${channel}`
    for (const segment of behind) text += `:${segment}`
    return { route: parseFqmn(inner.args === undefined ? text : `${text}:${inner.args}`), sources, validUntilMs }
  }

  /** Walks from name to name to the first address that is none. `rest` is what stands behind the names, outermost last. */
  #follow(route: Route, timeMs: number): { target: Route, rest: readonly string[], sources: Source[], validUntilMs: number } {
    const sources: Source[] = []
    const visited: string[] = []
    let validUntilMs = Infinity
    let rest = route.segments.slice(1)
    let typed = route.segments[0] ?? ''
    for (;;) {
      const name = this.#normal(typed)
      if (visited.includes(name)) throw new CMeshError('CMESH_REGISTRAR_LOOP', { name: visited[0] ?? name, again: name })
      visited.push(name)
      if (visited.length > LIMITS.resolveDepth) throw new CMeshError('CMESH_REGISTRAR_DEPTH', { name: visited[0] ?? name, limit: LIMITS.resolveDepth })
      const key = nameKey(name)
      const bytes = this.#records.get(key)
      if (bytes === undefined) throw new CMeshError('CMESH_REGISTRAR_NOT_FOUND', { name: typed })
      const record = decodeName(bytes)
      if (timeMs >= record.expiresAtMs) throw new CMeshError('CMESH_REGISTRAR_NOT_FOUND', { name: typed })
      sources.push({ key, bytes })
      validUntilMs = Math.min(validUntilMs, record.expiresAtMs)
      const target = parseFqmn(record.target)
      if (target.service !== 'R') return { target, rest, sources, validUntilMs }
      typed = target.segments[0] ?? ''
      rest = [...target.segments.slice(1), ...rest]
    }
  }

  /** What is no name of this mesh is not registered in it: 404, as for any other name nobody has claimed. */
  #normal(typed: string): string {
    try {
      return normaliseName(typed)
    } catch (error) {
      if (error instanceof CMeshError && !typed.toLowerCase().endsWith('.mcom')) throw new CMeshError('CMESH_REGISTRAR_NOT_FOUND', { name: typed }, { cause: error })
      throw error
    }
  }
}

/** Services that a name may map to. */
export const TARGET_SERVICES: ReadonlySet<ServiceLetter> = new Set(['S', 'R', 'E'])
