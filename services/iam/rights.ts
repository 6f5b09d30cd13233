/**
 * What a DID may do, as it follows from the records: the one place where that is worked out, for the guard and for the log. A function of
 * records, time and session alone; what it remembers makes it fast and never other. Equal rights are the same array each time, so that
 * whatever was compiled from it is shared.
 *
 *   rights  = nothing where the DID is banned or another took its place, else its base and grants, and what its capabilities still give
 *   base    = the operator's set, the node's for a member, else the newcomer's
 *   capability = its permissions ∩ what its root may do itself, while no link of it is taken back or made by somebody banned
 */
import { intersectPermissions, NEWCOMER_READ_SET, normalPermissions, OPERATOR_SET, parsePermission, parsePermissions, type Permission } from '../../cmtp/permission.ts'
import { TwoGenerations } from '../../cmtp/two-generations.ts'
import { GENESIS_KEY, type GenesisRecord } from '../contracts/genesis.ts'
import { isMember } from '../contracts/members.ts'
import { CapabilityLook } from './capability-look.ts'
import { isMet, isUnconditional, nextChange, type Session } from './conditions.ts'
import { NODE_SET } from './grants.ts'
import {
  bannedKey, capabilitiesKey, grantsKey, type CapabilitiesRecord, type Grant, type GrantsRecord, type HeldCapability, type Records,
} from './records.ts'
import { heirOf, isRotated } from './rotations.ts'

/** Who runs the mesh where genesis does not say so yet, and the DID of this node, whose rights no other node's order changes. */
export interface Configured {
  readonly operator: string
  readonly node: string
}

/** Nothing at all. */
export const NO_PERMISSIONS: readonly Permission[] = Object.freeze([])

/** Parsed records, permissions and sets that are kept, each. */
const KEPT = 8_192
/** Characters kept of parsed records, and of sets, each: whoever hands itself on many rights in many ways fills no memory. */
const KEPT_CHARACTERS = 1_048_576
/** Different capabilities kept for one array of a root's rights. */
const NARROWED = 256

interface Held {
  readonly bytes: Uint8Array
  readonly value: unknown
}

export class Rights {
  readonly #parsed = new TwoGenerations<string, Held>({ entries: KEPT, weight: KEPT_CHARACTERS })
  readonly #permissions = new TwoGenerations<string, readonly Permission[]>({ entries: KEPT })
  /** Sets by the numbers of the arrays they were put together from: what the same parts make is the same. */
  readonly #unions = new TwoGenerations<string, readonly Permission[]>({ entries: KEPT, weight: KEPT_CHARACTERS })
  readonly #numbers = new WeakMap<readonly Permission[], number>()
  #numbered = 0
  readonly #narrowed = new WeakMap<readonly Permission[], Map<string, readonly Permission[]>>()
  readonly #configured: Configured | undefined

  /** On the side of the log nothing is `configured`: what is not in the records does not count there. */
  constructor(configured?: Configured) {
    this.#configured = configured
  }

  /** All that the DID may do. */
  of(records: Records, did: string, timeMs: number, session: Session): readonly Permission[] {
    const own = this.direct(records, did, timeMs, session)
    if (own === NO_PERMISSIONS || own === OPERATOR_SET) return own
    const caps = this.capabilities(records, did)
    if (caps.length === 0) return own
    const look = this.look(records, timeMs)
    const roots = new Map<string, readonly Permission[]>()
    return this.#union(own, caps.filter(cap => look.isLive(cap)).map(cap => {
      let root = roots.get(cap.root)
      if (root === undefined) roots.set(cap.root, root = this.rootOf(records, cap, timeMs))
      return this.#narrow(cap, root)
    }))
  }

  /** What it may do by itself, without capabilities. */
  direct(records: Records, did: string, timeMs: number, session: Session): readonly Permission[] {
    return this.#direct(records, did, grant => isMet(grant, timeMs, session))
  }

  /** What whoever a capability began with may do itself: the most that it can give. */
  rootOf(records: Records, { root }: HeldCapability, timeMs: number): readonly Permission[] {
    return this.direct(records, heirOf(records, root), timeMs, 'none')
  }

  /** What it may grant to others: what it holds by itself and under no condition. */
  grantable(records: Records, did: string): readonly Permission[] {
    return this.#direct(records, did, isUnconditional)
  }

  /** When time alone changes the rights of a DID the next time, ms since 1970; `Infinity` for never. */
  changesAt(records: Records, did: string, nowMs: number): number {
    let at = Infinity
    const whose = new Set([did])
    for (const { root, exp } of this.capabilities(records, did)) {
      if (exp * 1_000 > nowMs) at = Math.min(at, exp * 1_000)
      whose.add(root)
    }
    for (const each of whose) {
      for (const grant of this.grants(records, each === did ? did : heirOf(records, each))) at = Math.min(at, nextChange(grant, nowMs))
    }
    return at
  }

  base(records: Records, did: string): readonly Permission[] {
    if (this.isOperator(records, did)) return OPERATOR_SET
    return this.isMember(records, did) || did === this.#configured?.node ? NODE_SET : NEWCOMER_READ_SET
  }

  isOperator(records: Records, did: string): boolean {
    return this.operator(records) === did
  }

  /** Its DID today; `undefined` where neither genesis nor the configuration names one. */
  operator(records: Records): string | undefined {
    const first = this.#firstOperator(records)
    return first === undefined ? undefined : heirOf(records, first)
  }

  #firstOperator(records: Records): string | undefined {
    return this.#read<GenesisRecord>(records, GENESIS_KEY)?.operator ?? this.#configured?.operator
  }

  isMember(records: Records, did: string): boolean {
    return isMember(records, did)
  }

  isBanned(records: Records, did: string): boolean {
    return records.get(bannedKey(did)) !== undefined
  }

  grants(records: Records, did: string): readonly Grant[] {
    return this.#read<GrantsRecord>(records, grantsKey(did))?.grants ?? []
  }

  capabilities(records: Records, did: string): readonly HeldCapability[] {
    return this.#read<CapabilitiesRecord>(records, capabilitiesKey(did))?.caps ?? []
  }

  /** One look at which capabilities count: for all those of one check, and no longer than it. */
  look(records: Records, timeMs: number): CapabilityLook {
    return new CapabilityLook(records, timeMs, this.#firstOperator(records))
  }

  #direct(records: Records, did: string, counts: (grant: Grant) => boolean): readonly Permission[] {
    if (this.isBanned(records, did) || isRotated(records, did)) return NO_PERMISSIONS
    const base = this.base(records, did)
    if (base === OPERATOR_SET) return base
    const grants = this.grants(records, did)
    return grants.length === 0 ? base : this.#union(base, grants.filter(counts).map(grant => this.#permission(grant.perm)))
  }

  #permission(text: string): readonly Permission[] {
    let permission = this.#permissions.get(text)
    if (permission === undefined) this.#permissions.set(text, permission = [parsePermission(text)])
    return permission
  }

  #union(base: readonly Permission[], parts: readonly (readonly Permission[])[]): readonly Permission[] {
    if (parts.every(part => part.length === 0)) return base
    const key = [base, ...parts].map(part => this.#numberOf(part)).join()
    let whole = this.#unions.get(key, charactersOf)
    if (whole === undefined) {
      whole = normalPermissions([...base, ...parts.flat()])
      this.#unions.set(key, whole, charactersOf(whole))
    }
    return whole
  }

  #numberOf(part: readonly Permission[]): number {
    let number = this.#numbers.get(part)
    if (number === undefined) this.#numbers.set(part, number = this.#numbered++)
    return number
  }

  /** What is left of a capability within the rights of its root. */
  #narrow({ perms }: HeldCapability, root: readonly Permission[]): readonly Permission[] {
    let known = this.#narrowed.get(root)
    if (known === undefined || known.size >= NARROWED) this.#narrowed.set(root, known = new Map<string, readonly Permission[]>())
    const text = JSON.stringify(perms)
    let narrowed = known.get(text)
    if (narrowed === undefined) known.set(text, narrowed = intersectPermissions(parsePermissions(perms), root))
    return narrowed
  }

  /** A record, parsed once as long as it stays as it is. */
  #read<T>(records: Records, key: string): T | undefined {
    const bytes = records.get(key)
    if (bytes === undefined) return undefined
    const held = this.#parsed.get(key, ({ bytes: { length } }) => length)
    if (held !== undefined && (held.bytes === bytes || Buffer.compare(held.bytes, bytes) === 0)) return held.value as T
    const value: unknown = JSON.parse(Buffer.from(bytes).toString('utf8'))
    this.#parsed.set(key, { bytes, value }, bytes.length)
    return value as T
  }
}

function charactersOf(list: readonly Permission[]): number {
  return list.reduce((sum, { pattern }) => sum + pattern.length, 0)
}
